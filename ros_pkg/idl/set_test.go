package idl

import (
	"slices"
	"testing"
	"testing/fstest"
)

// TestAddShare: ROS's share/ has folders without messages and services, too.
func TestAddShare(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	set := new(Set)
	packages, err := set.AddShare(fstest.MapFS{
		"ament_index/resource_index/packages/one": file(""),
		"one/package.xml":                         file("<package/>"),
		"one/msg/A.msg":                           file("int32 a\n"),
		"one/msg/A.idl":                           file("module one {};"),
		"only_actions/action/Go.action":           file("---\n---\n"),
		"only_launch/launch/a.launch.py":          file(""),
		"two/srv/B.srv":                           file("one/A a\n---\n"),
		"file":                                    file(""),
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"one", "two"}; !slices.Equal(packages, want) {
		t.Errorf("packages %v, want %v", packages, want)
	}
	for _, n := range []Name{{"one", "msg", "A"}, {"two", "srv", "B"}} {
		if _, err := set.Lookup(n); err != nil {
			t.Error(err)
		}
	}
}
