// Package netns gives the tests of single packages a bare network namespace; whole hosts and links are test/lab's.
package netns

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// Namespace is a network namespace of its own, with a thread that lives in it.
type Namespace struct{ calls chan func() }

// New makes a namespace that lives until the end of the test. Without the right to make one the test is skipped.
func New(t testing.TB) *Namespace {
	t.Helper()
	n := &Namespace{make(chan func())}
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		made <- err
		if err != nil {
			return
		}
		for f := range n.calls {
			f()
		}
	}()
	if err := <-made; err != nil {
		t.Skipf("no right to make a network namespace (run as root): %v", err)
	}
	t.Cleanup(func() { close(n.calls) })
	return n
}

// Do runs f on the namespace's thread; the test fails if it does.
func (n *Namespace) Do(t testing.TB, f func() error) {
	t.Helper()
	done := make(chan error)
	n.calls <- func() { done <- f() }
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
