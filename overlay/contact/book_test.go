package contact

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/hnet-robotics/hnet_bridge/overlay/statefile"
)

var (
	robot  = netip.MustParseAddr("fc94::1")
	start  = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	equate = cmp.Options{cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}), cmpopts.EquateEmpty()}
)

func at(n int) netip.AddrPort { return netip.MustParseAddrPort(fmt.Sprintf("192.0.2.%d:5582", n)) }

func endpoints(numbers ...int) (list []netip.AddrPort) {
	for _, n := range numbers {
		list = append(list, at(n))
	}
	return list
}

func open(t *testing.T, path string) *Book {
	t.Helper()
	b, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func newBook(t *testing.T) *Book { return open(t, filepath.Join(t.TempDir(), "contacts.json")) }

func checkCandidates(t *testing.T, b *Book, now time.Time, want ...int) {
	t.Helper()
	if diff := cmp.Diff(endpoints(want...), b.Candidates(now, robot), equate); diff != "" {
		t.Errorf("candidates (-want +got):\n%s", diff)
	}
}

func TestCandidates(t *testing.T) {
	b := newBook(t)
	checkCandidates(t, b, start)
	b.Resolved(robot, endpoints(7, 8))
	b.Connected(robot, at(5))
	b.Heard(start, robot, at(1), time.Minute)
	b.Heard(start, robot, at(2), time.Hour)
	// The freshest hearsay first, then what worked, then the hint.
	checkCandidates(t, b, start, 2, 1, 5, 7, 8)
	// Heard again: it is the freshest now, and lives anew. One place each, however many say so.
	b.Heard(start.Add(30*time.Second), robot, at(1), time.Minute)
	b.Resolved(robot, endpoints(2, 7))
	checkCandidates(t, b, start.Add(30*time.Second), 1, 2, 5, 7)
	checkCandidates(t, b, start.Add(90*time.Second-1), 1, 2, 5, 7)
	checkCandidates(t, b, start.Add(90*time.Second), 2, 5, 7)
	checkCandidates(t, b, start.Add(time.Hour), 5, 2, 7)
	b.Disconnected(robot)
	checkCandidates(t, b, start.Add(time.Hour), 5, 2, 7)
	b.Resolved(robot, nil)
	checkCandidates(t, b, start.Add(time.Hour), 5)
	b.Forget(robot)
	checkCandidates(t, b, start)
}

func TestNews(t *testing.T) {
	b := newBook(t)
	for i, test := range []struct {
		now      time.Duration
		endpoint int
		want     bool
	}{{0, 1, true}, {0, 1, false}, {30 * time.Second, 2, true}, {59 * time.Second, 1, false}, {120 * time.Second, 1, true}} {
		if got := b.Heard(start.Add(test.now), robot, at(test.endpoint), time.Minute); got != test.want {
			t.Errorf("hearsay %d is news: %v", i, got)
		}
	}
	for i, test := range []struct {
		list []netip.AddrPort
		want bool
	}{{endpoints(1), true}, {endpoints(1), false}, {endpoints(1, 2), true}, {nil, true}, {nil, false}} {
		if got := b.Resolved(robot, test.list); got != test.want {
			t.Errorf("hint %d is news: %v", i, got)
		}
	}
}

func TestBounds(t *testing.T) {
	b := newBook(t)
	for i := range 100 {
		b.Heard(start, robot, at(i), time.Hour)
		b.Resolved(robot, endpoints(100, 101, 102, 103, 104, 105, 106, 107, 108, 109))
	}
	b.Connected(robot, at(120))
	checkCandidates(t, b, start, 99, 98, 97, 96, 95, 94, 93, 92, 120, 100, 101, 102, 103, 104, 105, 106, 107)

	next := robot
	for range 2 * maxPeers {
		next = next.Next()
		b.Connected(next, at(1))
		b.Heard(start, next, at(1), time.Hour)
		b.Resolved(next, endpoints(1))
	}
	if len(b.peers) != maxPeers {
		t.Errorf("%d peers, %d at most", len(b.peers), maxPeers)
	}
	if b.Resolved(next, endpoints(1)) || b.Heard(start, next, at(1), time.Hour) {
		t.Error("what is not kept is told as news")
	}
	checkCandidates(t, b, start, 99, 98, 97, 96, 95, 94, 93, 92, 120, 100, 101, 102, 103, 104, 105, 106, 107)
}

func TestPersistence(t *testing.T) {
	path := filepath.Join(t.TempDir(), "contacts.json")
	b := open(t, path)
	gone, idle, heard := robot.Next(), robot.Next().Next(), robot.Next().Next().Next()
	linkLocal := netip.MustParseAddrPort("[fe80::1%3]:5582")
	b.Connected(robot, linkLocal)
	b.Connected(gone, at(2))
	b.Connected(idle, at(3))
	b.Disconnected(idle)
	b.Heard(start, heard, at(4), time.Hour)
	b.Resolved(heard, endpoints(5))
	if err := b.Flush(); err != nil {
		t.Fatal(err)
	}
	b = open(t, path)
	if diff := cmp.Diff([]netip.Addr{robot, gone}, b.LastConnected(), equate); diff != "" {
		t.Errorf("connected when the last run ended (-want +got):\n%s", diff)
	}
	b.Keep(func(a netip.Addr) bool { return a != gone })
	for a, want := range map[netip.Addr][]netip.AddrPort{robot: {linkLocal}, idle: endpoints(3), gone: nil, heard: nil} {
		if diff := cmp.Diff(want, b.Candidates(start, a), equate); diff != "" {
			t.Errorf("candidates of %s (-want +got):\n%s", a, diff)
		}
	}
	if err := b.Flush(); err != nil {
		t.Fatal(err)
	}
	if got := open(t, path).LastConnected(); len(got) != 1 {
		t.Errorf("who was not kept came back: %v", got)
	}
}

func TestDamagedFile(t *testing.T) {
	whole := `{"contacts":[{"address":"fc94::1","endpoint":"192.0.2.1:5582","connected":true}]}`
	for name, content := range map[string]string{
		"empty": "", "truncated": whole[:40], "zeros": strings.Repeat("\x00", 100), "not JSON": "yesterday", "unknown field": `{"contact":[]}`,
		"no address": strings.ReplaceAll(whole, "fc94::1", "robot"), "no endpoint": strings.ReplaceAll(whole, "192.0.2.1:5582", "there"),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "contacts.json")
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			b, err := Open(path)
			if !errors.Is(err, statefile.ErrDamaged) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "\n") {
				t.Errorf("the error is %v", err)
			}
			if len(b.LastConnected()) != 0 {
				t.Error("something was read from it")
			}
			b.Connected(robot, at(1))
			if err := b.Flush(); err != nil {
				t.Fatal(err)
			}
			if got := open(t, path).LastConnected(); len(got) != 1 {
				t.Errorf("afterwards it holds %v", got)
			}
		})
	}
	t.Run("addresses of no peer", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "contacts.json")
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(whole, "fc94::1", "fd00::1")), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := open(t, path).LastConnected(); len(got) != 0 {
			t.Errorf("taken over: %v", got)
		}
	})
}

// TestWriteBehind: first contact is on the disk at once, and what flaps is written less and less often.
func TestWriteBehind(t *testing.T) {
	path := filepath.Join(t.TempDir(), "contacts.json")
	synctest.Test(t, func(t *testing.T) {
		b := open(t, path)
		ctx, cancel := context.WithCancel(t.Context())
		var count atomic.Int32
		// writes returns how many there were since the last call.
		writes := func() int { return int(count.Swap(0)) }
		done := make(chan struct{})
		go func() {
			defer close(done)
			b.Run(ctx, func(err error) {
				if err != nil {
					t.Error(err)
				}
				count.Add(1)
			})
		}()
		b.Connected(robot, at(1))
		synctest.Wait()
		if got, n := open(t, path).Candidates(start, robot), writes(); n != 1 || len(got) != 1 || got[0] != at(1) {
			t.Fatalf("at once, after %d writes: %v", n, got)
		}
		b.Connected(robot, at(2))
		synctest.Wait()
		if writes() != 0 {
			t.Fatal("no pause between two writes")
		}
		time.Sleep(writePause)
		synctest.Wait()
		if got, n := open(t, path).Candidates(start, robot), writes(); n != 1 || got[0] != at(2) {
			t.Fatalf("after the pause and %d writes: %v", n, got)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := writes(); n != 0 {
			t.Errorf("%d writes of nothing new", n)
		}
		for i := range 36_000 {
			b.Connected(robot, at(i%2))
			time.Sleep(100 * time.Millisecond)
		}
		if n := writes(); n < 60 || n > 70 {
			t.Errorf("a path that flaps for an hour: %d writes, want about one a minute", n)
		}
		time.Sleep(time.Hour)
		writes()
		b.Connected(robot, at(3))
		synctest.Wait()
		if writes() != 1 {
			t.Error("after a quiet time, a change is not written at once")
		}
		// The end does not wait for a pause, and Flush has what Run did not write.
		b.Connected(robot, at(4))
		cancel()
		<-done
		if err := b.Flush(); err != nil {
			t.Fatal(err)
		}
		if got := open(t, path).Candidates(start, robot); got[0] != at(4) {
			t.Errorf("the last change is lost: %v", got)
		}
		os.Remove(path)
		if err := b.Flush(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(path); err == nil {
			t.Error("Flush wrote without a change")
		}
	})
}

func TestWriteFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	synctest.Test(t, func(t *testing.T) {
		b := open(t, filepath.Join(dir, "contacts.json"))
		b.Connected(robot, at(1))
		outcomes := make(chan error, 10)
		go b.Run(t.Context(), func(err error) { outcomes <- err })
		if err := <-outcomes; err == nil || !strings.Contains(err.Error(), dir) {
			t.Fatalf("without its folder: %v", err)
		}
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := <-outcomes; err != nil {
			t.Fatalf("once the folder is there: %v", err)
		}
		if got := open(t, b.path).LastConnected(); len(got) != 1 {
			t.Errorf("stored: %v", got)
		}
	})
}
