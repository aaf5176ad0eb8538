package gen

import (
	"bytes"
	"fmt"
	"os"
	"path"
	"path/filepath"
)

// Write brings the directories of packages in dir up to date with files: it writes what differs and removes generated files that are not among them.
func Write(dir string, packages []string, files map[string][]byte) error {
	stale, err := Stale(dir, packages, files)
	if err != nil {
		return err
	}
	for _, name := range stale {
		to := filepath.Join(dir, filepath.FromSlash(name))
		src, ok := files[name]
		if !ok {
			if err := os.Remove(to); err != nil {
				return err
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(to, src, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Stale returns the names of the files that differ from files, are missing, or are generated and not among them.
func Stale(dir string, packages []string, files map[string][]byte) ([]string, error) {
	var stale []string
	for name, src := range files {
		have, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil && !os.IsNotExist(err) {
			return nil, err
		}
		if err != nil || !bytes.Equal(have, src) {
			stale = append(stale, name)
		}
	}
	for _, p := range packages {
		found, err := filepath.Glob(filepath.Join(dir, p, "*"+Suffix))
		if err != nil {
			return nil, fmt.Errorf("package %s: %w", p, err)
		}
		for _, f := range found {
			name := path.Join(p, filepath.Base(f))
			if files[name] == nil {
				stale = append(stale, name)
			}
		}
	}
	return stale, nil
}
