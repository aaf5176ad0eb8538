package api

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Listener is the API's socket. Closing it removes the socket file.
type Listener struct {
	*net.UnixListener
	lock  *os.File
	close func() error
}

// Listen creates the socket, which anyone may connect to, and its folder if need be. A socket file that a
// killed daemon left is replaced; a daemon that is alive is an error.
func Listen(path string) (*Listener, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("cannot create the folder for the API's socket: %w: run hnetd as root, or choose another with --run", err)
	}
	if len(path) >= len(unix.RawSockaddrUnix{}.Path) {
		return nil, fmt.Errorf("the path of the API's socket is too long (%d bytes, at most %d): choose a shorter --run", len(path), len(unix.RawSockaddrUnix{}.Path)-1)
	}
	// The lock makes two daemons that start at once agree on who replaces a stale socket. It is a file of its own
	// that only its owner can open, so that no stranger can hold it.
	lock, err := os.OpenFile(filepath.Join(dir, "hnetd.lock"), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot write in the folder of the API's socket: %w: run hnetd as root, or choose another with --run", err)
	}
	l, err := listen(path, lock)
	if err != nil {
		lock.Close()
		return nil, err
	}
	return l, nil
}

func listen(path string, lock *os.File) (*Listener, error) {
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, alive(path)
	}
	switch info, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case info.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("%s is in the way of the API's socket and is none: move it away", path)
	default:
		if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
			c.Close()
			return nil, alive(path)
		} else if !errors.Is(err, unix.ECONNREFUSED) {
			return nil, fmt.Errorf("cannot tell whether a daemon still uses %s: %w: stop it, or remove the file", path, err)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("cannot remove the socket that a killed daemon left: %w: remove it as root", err)
		}
	}
	ul, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("cannot create the API's socket: %w", err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		ul.Close()
		return nil, fmt.Errorf("cannot open the API's socket to all users: %w", err)
	}
	l := &Listener{UnixListener: ul, lock: lock}
	l.close = sync.OnceValue(func() error { return errors.Join(ul.Close(), lock.Close()) })
	return l, nil
}

func alive(path string) error {
	return fmt.Errorf("another hnetd already answers at %s: stop it first, or choose another folder with --run", path)
}

// Close removes the socket file and gives the folder up.
func (l *Listener) Close() error { return l.close() }
