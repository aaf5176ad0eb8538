package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// TB is the part of testing.TB that the lab uses, so that a plain program can have a lab too (see [Program]).
type TB interface {
	Helper()
	Name() string
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
	Failed() bool
	Cleanup(func())
}

// Lab is one network of hosts. It ends with its test. Its methods fail the test when something cannot be had;
// like those of testing.T that end a test, they belong to the test's goroutine.
type Lab struct {
	t     TB
	dir   string
	wires *space // where bridges and the far ends of veths are: a network without hosts and without IPv6

	mu    sync.Mutex
	hosts []*Host
	lans  []*LAN
}

var labs atomic.Int64

// New returns an empty network that lives until the end of the test. Where there can be no lab, the test is
// skipped, or fails if HNET_LAB=required.
func New(t TB) *Lab {
	t.Helper()
	if !world.entered {
		t.Fatalf("lab: the package's TestMain must call lab.Main (a program's main: lab.Enter)")
	}
	if world.missing != "" {
		if os.Getenv(envRequired) == "required" {
			t.Fatalf("lab: %s", world.missing)
		}
		t.Skipf("no lab: %s", world.missing)
	}
	l := &Lab{t: t, dir: filepath.Join(runDir, strconv.FormatInt(labs.Add(1), 10))}
	if err := os.Mkdir(l.dir, 0o755); err != nil {
		t.Fatalf("lab: %v", err)
	}
	wires, err := newSpace(unix.CLONE_NEWNET, func() error {
		return sysctl("net/ipv6/conf/all/disable_ipv6=1", "net/ipv6/conf/default/disable_ipv6=1")
	})
	if err != nil {
		os.RemoveAll(l.dir)
		t.Fatalf("lab: %v", err)
	}
	l.wires = wires
	t.Cleanup(l.close)
	return l
}

// close ends what the lab runs itself, in the order links, hosts, wires. Processes that were started with
// Host.Start have been stopped by then: their cleanups were registered later.
func (l *Lab) close() {
	for _, lan := range l.lans {
		lan.close()
	}
	if err := l.killStrays(); err != nil {
		l.t.Errorf("lab: cannot kill what still runs: %v", err)
	}
	for _, h := range l.hosts {
		h.close()
	}
	l.wires.close()
	if err := os.RemoveAll(l.dir); err != nil {
		l.t.Errorf("lab: cannot clean up: %v", err)
	}
}

func (l *Lab) add(h *Host) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, other := range l.hosts {
		if other.name == h.name {
			return fmt.Errorf("there is a host %q already", h.name)
		}
	}
	l.hosts = append(l.hosts, h)
	return nil
}

// killStrays kills what still runs in the network namespaces of the lab's hosts: programs that left the process
// group of the one that was stopped.
func (l *Lab) killStrays() error {
	ours := map[string]bool{}
	for _, h := range l.hosts {
		if h.space == nil {
			continue
		}
		name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", h.files[0].Fd()))
		if err != nil {
			return err
		}
		ours[name] = true
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		// A process that cannot be read has ended, or has more rights than this one and is not of the lab.
		if name, err := os.Readlink(filepath.Join("/proc", e.Name(), "ns/net")); err == nil && ours[name] {
			unix.Kill(pid, unix.SIGKILL)
		}
	}
	return nil
}
