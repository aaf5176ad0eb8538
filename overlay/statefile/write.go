// Package statefile keeps small files so that a crash at any moment leaves the old content or the new, never another,
// and guards a state folder against a second process.
package statefile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Unfinished files are hidden and end in tempMark and a random number; LockDir sweeps those that a crash left.
const tempMark = ".unfinished-"

// Write replaces the content of path with data: either all of it is there afterwards, on the disk, or path is as before.
// A symbolic link at path is replaced, not followed. The error names the path and what to do.
func Write(path string, data []byte, perm fs.FileMode) error {
	return publish(path, data, perm, os.Rename)
}

// Create is Write for a file that must not exist yet: errors.Is(err, fs.ErrExist) tells that it does, and it is then
// untouched, also if another process creates it at the same moment.
func Create(path string, data []byte, perm fs.FileMode) error {
	return publish(path, data, perm, func(temp, path string) error {
		// Unlike a rename, a link never replaces what is there.
		if err := os.Link(temp, path); err != nil {
			return err
		}
		_ = os.Remove(temp) // or LockDir sweeps it
		return nil
	})
}

// publish writes a temporary file in the folder of path and has install put it in place.
func publish(path string, data []byte, perm fs.FileMode, install func(temp, path string) error) error {
	dir, base := filepath.Split(path)
	if dir == "" {
		dir = "."
	}
	temp, err := writeTemp(dir, base, data, perm)
	if err != nil {
		return explain("write", path, err)
	}
	if err := install(temp, path); err != nil {
		_ = os.Remove(temp)
		return explain("write", path, err)
	}
	if err := syncDir(dir); err != nil {
		return explain("write", path, err)
	}
	return nil
}

func writeTemp(dir, base string, data []byte, perm fs.FileMode) (name string, err error) {
	f, err := os.CreateTemp(dir, "."+base+tempMark+"*")
	if err != nil {
		return "", err
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	if _, err := f.Write(data); err != nil {
		return "", err
	}
	if err := f.Chmod(perm); err != nil {
		return "", err
	}
	return f.Name(), f.Sync()
}

// syncDir makes a rename or a link in dir survive a power loss.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	// Some network and FUSE file systems cannot sync a folder and say so; their server keeps the order.
	if err := d.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.ENOTSUP) {
		return err
	}
	return nil
}

// Sweep removes what a crash left of unfinished writes in dir, in which nobody else may be writing. A state folder is swept by [LockDir].
func Sweep(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") && strings.Contains(e.Name(), tempMark) && e.Type().IsRegular() {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// explain puts the path and a remedy to an error of the file system. The names of temporary files are left out: the
// user never sees them.
func explain(verb, path string, err error) error {
	cause := err
	if errno := syscall.Errno(0); errors.As(err, &errno) {
		cause = errno
	}
	return fmt.Errorf("cannot %s %s: %w; %s", verb, path, cause, remedy(filepath.Dir(path), cause))
}

func remedy(dir string, err error) string {
	switch {
	case errors.Is(err, syscall.EROFS):
		return "its file system is read-only: use another state folder, or remount it writable"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "free some space; what was stored before is kept"
	case errors.Is(err, fs.ErrPermission):
		return "run as the owner of " + dir + ", or correct its permissions"
	case errors.Is(err, fs.ErrNotExist):
		return "create " + dir + " first, or use another state folder"
	case errors.Is(err, fs.ErrExist):
		return "move away what is in its place"
	case errors.Is(err, syscall.ENOTDIR):
		return "part of the path is a file: use another state folder"
	default:
		return "check the file system of " + dir
	}
}
