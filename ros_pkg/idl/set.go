package idl

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// ErrUnknown says that a type is in no file that was read.
var ErrUnknown = errors.New("unknown type")

// Set holds interface files by the names of the messages and services they define. Its zero value is empty and ready.
type Set struct {
	files map[Name]*File
}

// Add adds a file; it replaces an older one of the same name.
func (s *Set) Add(f *File) {
	if s.files == nil {
		s.files = map[Name]*File{}
	}
	s.files[f.Name] = f
}

// AddPackage reads msg/*.msg and srv/*.srv of the package whose files are in fsys.
func (s *Set) AddPackage(pkg string, fsys fs.FS) error {
	for _, kind := range []string{"msg", "srv"} {
		names, err := fs.Glob(fsys, kind+"/*."+kind)
		if err != nil {
			return err
		}
		for _, n := range names {
			text, err := fs.ReadFile(fsys, n)
			if err != nil {
				return err
			}
			f, err := Parse(Name{pkg, kind, strings.TrimSuffix(path.Base(n), "."+kind)}, string(text))
			if err != nil {
				return err
			}
			s.Add(f)
		}
	}
	return nil
}

// AddShare reads every package in fsys, a directory like ROS's share/, and returns the names of those that have messages or services.
func (s *Set) AddShare(fsys fs.FS) ([]string, error) {
	entries, err := fs.ReadDir(fsys, ".")
	if err != nil {
		return nil, err
	}
	var packages []string
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		sub, err := fs.Sub(fsys, e.Name())
		if err != nil {
			return nil, err
		}
		if err := s.AddPackage(e.Name(), sub); err != nil {
			return nil, err
		}
		if len(s.Package(e.Name())) > 0 {
			packages = append(packages, e.Name())
		}
	}
	return packages, nil
}

// Lookup returns the file that defines a message or service.
func (s *Set) Lookup(n Name) (*File, error) {
	if f := s.files[n]; f != nil {
		return f, nil
	}
	return nil, fmt.Errorf("idl: %s: %w", n, ErrUnknown)
}

// Package returns the files of a package: messages, then services, each sorted by name.
func (s *Set) Package(pkg string) []*File {
	var files []*File
	for n, f := range s.files {
		if n.Package == pkg {
			files = append(files, f)
		}
	}
	slices.SortFunc(files, func(a, b *File) int {
		return cmp.Or(strings.Compare(a.Name.Kind, b.Name.Kind), strings.Compare(a.Name.Base, b.Name.Base))
	})
	return files
}

// Describe returns the description of a type: see [Describe].
func (s *Set) Describe(n Name) (*Description, error) { return Describe(n, s.Lookup) }

// Hash returns the RIHS01 hash of a type.
func (s *Set) Hash(n Name) (string, error) {
	d, err := s.Describe(n)
	if err != nil {
		return "", err
	}
	return d.Hash(), nil
}
