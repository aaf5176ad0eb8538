// Command rosgen writes Go types for the interfaces of ROS 2 packages.
//
//	rosgen -out DIR -import PATH [-share DIR]… [-ref PATH=DIR]… [PACKAGE=DIR]…
//
// It reads every package in each share directory (DIR/PACKAGE/msg, DIR/PACKAGE/srv) and each PACKAGE from its own DIR, and writes the Go package
// PATH/PACKAGE into DIR/PACKAGE, removing generated files that have no interface any more. Packages of a -ref directory are not written: their
// Go packages are PATH/PACKAGE already.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/idl"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/idl/gen"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "rosgen:", err)
		os.Exit(1)
	}
}

func run() error {
	var share, refs []string
	list := func(to *[]string) func(string) error {
		return func(s string) error { *to = append(*to, s); return nil }
	}
	out := flag.String("out", "", "directory of the generated packages")
	path := flag.String("import", "", "import path of -out")
	flag.Func("share", "directory of ROS packages to generate", list(&share))
	flag.Func("ref", "PATH=DIR: import path and directory of ROS packages that are generated already", list(&refs))
	flag.Parse()
	if *out == "" || *path == "" {
		return errors.New("-out and -import are needed")
	}
	set := new(idl.Set)
	imports := map[string]string{}
	for _, r := range refs {
		prefix, dir, ok := strings.Cut(r, "=")
		if !ok {
			return fmt.Errorf("-ref %s: want PATH=DIR", r)
		}
		pkgs, err := set.AddShare(os.DirFS(dir))
		if err != nil {
			return err
		}
		for _, p := range pkgs {
			imports[p] = prefix + "/" + p
		}
	}
	var packages []string
	for _, dir := range share {
		pkgs, err := set.AddShare(os.DirFS(dir))
		if err != nil {
			return err
		}
		packages = append(packages, pkgs...)
	}
	for _, a := range flag.Args() {
		pkg, dir, ok := strings.Cut(a, "=")
		if !ok {
			return fmt.Errorf("%s: want PACKAGE=DIR", a)
		}
		if err := set.AddPackage(pkg, os.DirFS(dir)); err != nil {
			return err
		}
		packages = append(packages, pkg)
	}
	for _, p := range packages {
		imports[p] = *path + "/" + p
	}
	files, err := gen.Generate(gen.Config{Set: set, Packages: packages, Import: func(p string) string { return imports[p] }})
	if err != nil {
		return err
	}
	return gen.Write(*out, packages, files)
}
