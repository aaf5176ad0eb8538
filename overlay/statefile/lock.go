package statefile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"unicode"
)

const lockName = "lock"

// ErrLocked says that another process uses a state folder.
var ErrLocked = errors.New("already in use")

// Lock is the right of this process to a state folder. It ends with Close or with the process, however that ends.
type Lock struct{ f *os.File }

// LockDir takes the state folder dir for this process: it creates dir (mode 0700) if need be, fails with ErrLocked if
// another process has it, and removes what a crash left of unfinished writes.
func LockDir(dir string) (*Lock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, explain("create the state folder", dir, err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, explain("use the state folder", dir, err)
	}
	if info.Mode().Perm()&0o002 != 0 {
		return nil, fmt.Errorf("cannot use the state folder %s: every user may write to it (mode %04o); chmod 700 it", dir, info.Mode().Perm())
	}
	path := filepath.Join(dir, lockName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, explain("write", path, err)
	}
	if err := lockFile(f); err != nil {
		defer f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("state folder %s is %w by another %s: stop that one, or give this one a folder of its own", dir, ErrLocked, holder(f))
		}
		return nil, explain("lock", path, err)
	}
	if err := enter(f, dir); err != nil {
		f.Close()
		return nil, explain("use the state folder", dir, err)
	}
	return &Lock{f: f}, nil
}

// Close gives the folder up. The file stays: to remove it would let two processes lock two files of one name.
func (l *Lock) Close() error { return l.f.Close() }

func lockFile(f *os.File) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var flock error
	err = c.Control(func(fd uintptr) {
		for {
			if flock = syscall.Flock(int(fd), syscall.LOCK_EX|syscall.LOCK_NB); flock != syscall.EINTR {
				return
			}
		}
	})
	return errors.Join(err, flock)
}

// enter leaves a note for whom the lock shuts out, and cleans up. On a full disk the note is missing, which must not
// stop the start.
func enter(f *os.File, dir string) error {
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt(fmt.Appendf(nil, "%d %s\n", os.Getpid(), filepath.Base(os.Args[0])), 0)
	}
	return Sweep(dir)
}

// holder reads that note: "hnetd (pid 4711)".
func holder(f *os.File) string {
	b, _ := io.ReadAll(io.LimitReader(f, 256))
	pid, name, ok := strings.Cut(strings.TrimSpace(string(b)), " ")
	if _, err := strconv.Atoi(pid); !ok || err != nil {
		return "process" // which has not written its note
	}
	printable := strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, name)
	return fmt.Sprintf("%s (pid %s)", printable, pid)
}
