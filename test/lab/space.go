package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// nsFiles are the namespaces of a host, in the order in which enterHost joins them.
var nsFiles = [...]string{"net", "uts", "ipc", "mnt"}

// space is a set of namespaces, held by open files: they end when the files are closed and no process is left
// inside.
type space struct {
	files [len(nsFiles)]*os.File // nil where the lab's own is used
	nl    *netlink.Handle
}

// newSpace makes the namespaces in flags and runs furnish inside them.
func newSpace(flags int, furnish func() error) (*space, error) {
	s := &space{}
	done := make(chan error)
	go func() {
		// Never unlocked: the thread ends with the goroutine, and nothing else ever runs in these namespaces
		// by accident.
		runtime.LockOSThread()
		done <- s.make(flags, furnish)
	}()
	err := <-done
	if err == nil {
		s.nl, err = netlink.NewHandleAt(netns.NsHandle(s.files[0].Fd()), unix.NETLINK_ROUTE)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *space) make(flags int, furnish func() error) error {
	if err := unix.Unshare(flags); err != nil {
		return fmt.Errorf("cannot make namespaces: %w", err)
	}
	for i, name := range nsFiles {
		f, err := os.Open("/proc/thread-self/ns/" + name)
		if err != nil {
			return err
		}
		s.files[i] = f
	}
	return furnish()
}

// do runs f in the network namespace, on a thread of its own.
func (s *space) do(f func() error) error {
	runtime.LockOSThread()
	origin, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer origin.Close()
	if err := unix.Setns(int(s.files[0].Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("cannot enter a network namespace: %w", err)
	}
	defer func() {
		// A thread that cannot go back stays locked and ends with its goroutine.
		if unix.Setns(int(origin.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
	}()
	return f()
}

func (s *space) close() {
	if s.nl != nil {
		s.nl.Close()
	}
	for _, f := range s.files {
		if f != nil {
			f.Close()
		}
	}
}

// sysctl writes settings like "net/ipv4/ip_forward=1" of the calling thread's network namespace.
func sysctl(settings ...string) error {
	for _, s := range settings {
		key, value, _ := strings.Cut(s, "=")
		if err := os.WriteFile(filepath.Join("/proc/sys", key), []byte(value), 0); err != nil {
			return fmt.Errorf("cannot set sysctl %s: %w", s, err)
		}
	}
	return nil
}

// steadyTCP chooses cubic, so that figures do not depend on the machine's default. Without real root the
// kernel may refuse; the machine's default then stays.
func steadyTCP() error {
	err := sysctl("net/ipv4/tcp_congestion_control=cubic")
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// readSysctl returns a setting of the calling thread's network namespace.
func readSysctl(key string) (string, error) {
	b, err := os.ReadFile(filepath.Join("/proc/sys", key))
	if err != nil {
		return "", fmt.Errorf("cannot read sysctl %s: %w", key, err)
	}
	return strings.TrimSpace(string(b)), nil
}
