package interfaces

import (
	"os"
	"testing"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/idl"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/idl/gen"
)

// TestGenerated: the Go code is what `go generate` makes of the interface files.
func TestGenerated(t *testing.T) {
	set := new(idl.Set)
	packages, err := set.AddShare(os.DirFS("share"))
	if err != nil {
		t.Fatal(err)
	}
	if err := set.AddPackage("hnet_bridge", os.DirFS("../..")); err != nil {
		t.Fatal(err)
	}
	packages = append(packages, "hnet_bridge")
	files, err := gen.Generate(gen.Config{Set: set, Packages: packages, Import: func(p string) string {
		return "github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/" + p
	}})
	if err != nil {
		t.Fatal(err)
	}
	stale, err := gen.Stale(".", packages, files)
	if err != nil {
		t.Fatal(err)
	}
	if len(stale) > 0 {
		t.Errorf("out of date: %v: run `go generate ./ros_pkg/interfaces`", stale)
	}
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{"share": true, "testdata": true}
	for _, p := range packages {
		known[p] = true
	}
	for _, e := range entries {
		if e.IsDir() && !known[e.Name()] {
			t.Errorf("%s is the directory of no package in share/", e.Name())
		}
	}
}
