package statefile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// holdLock keeps the lock until it is killed or its input ends.
func holdLock(dir string) {
	l, err := LockDir(dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("locked")
	_, _ = io.Copy(io.Discard, os.Stdin)
	_ = l.Close()
}

func TestLockDir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "state")
	first, err := LockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("folder: %v, %v", info.Mode(), err)
	}
	_, err = LockDir(dir)
	if !errors.Is(err, ErrLocked) {
		t.Errorf("second: %v", err)
	}
	oneLine(t, err, dir, filepath.Base(os.Args[0]), fmt.Sprintf("pid %d", os.Getpid()), "stop that one")
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := LockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}

func TestLockOfAnotherProcess(t *testing.T) {
	dir := t.TempDir()
	c := child("lock", dir)
	in, errIn := c.StdinPipe()
	out, errOut := c.StdoutPipe()
	if err := errors.Join(errIn, errOut, c.Start()); err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if _, err := io.ReadFull(out, make([]byte, len("locked\n"))); err != nil {
		t.Fatal(err)
	}
	_, err := LockDir(dir)
	if !errors.Is(err, ErrLocked) {
		t.Errorf("%v", err)
	}
	oneLine(t, err, fmt.Sprintf("pid %d", c.Process.Pid))
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait()
	l, err := LockDir(dir)
	if err != nil {
		t.Fatalf("after the other was killed: %v", err)
	}
	l.Close()
}

func TestLockWithStrangeNote(t *testing.T) {
	dir := t.TempDir()
	l, err := LockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, note := range []string{"", "x", "12", "12 a\nb\x1b[31m", "12 \xff"} {
		if err := os.WriteFile(filepath.Join(dir, lockName), []byte(note), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := LockDir(dir)
		if !errors.Is(err, ErrLocked) {
			t.Errorf("note %q: %v", note, err)
		}
		oneLine(t, err, dir)
	}
}

func TestLockDirSweeps(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{".state" + tempMark + "1", ".identity" + tempMark + "999", "identity", ".profile", "a" + tempMark + "1"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l, err := LockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if diff := cmp.Diff([]string{".profile", "a" + tempMark + "1", "identity", lockName}, names(t, dir)); diff != "" {
		t.Error(diff)
	}
}

func TestLockDirRefusesAFolderOpenToAll(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	_, err := LockDir(dir)
	oneLine(t, err, dir, "every user may write", "chmod 700")
}

func TestLockIsNoSymbolicLink(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(t.TempDir(), "target")
	if err := errors.Join(os.WriteFile(target, []byte("theirs"), 0o600), os.Symlink(target, filepath.Join(dir, lockName))); err != nil {
		t.Fatal(err)
	}
	_, err := LockDir(dir)
	oneLine(t, err, filepath.Join(dir, lockName))
	if mustRead(t, target) != "theirs" {
		t.Error("the target of the link was changed")
	}
}
