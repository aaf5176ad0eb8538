package integrity

import (
	"fmt"
	"math"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// beside runs streams and a flow of datagrams, both ways, while f does something to the network. f is given a function that waits until traffic has
// flowed in all of them since, and reports whether it has.
func (w *world) beside(f func(flows func() bool)) {
	w.t.Helper()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var all []*progress
	for i, way := range [][2]end{{w.a, w.b}, {w.b, w.a}} {
		p := newProgress()
		all = append(all, p)
		wg.Go(func() {
			defer p.end()
			s := stream{from: way[0], to: way[1], bytes: math.MaxInt64, seed: byte(i), progress: p, stop: stop}
			if err := s.run(); err != nil {
				w.t.Errorf("TCP from %s to %s: %v", way[0].Name(), way[1].Name(), err)
			}
		})
		wg.Go(func() {
			x, err := flow{from: way[0], to: way[1], count: mostBeside, segments: i == 0, stop: stop}.run()
			if err != nil {
				w.t.Errorf("UDP from %s to %s: %v", way[0].Name(), way[1].Name(), err)
			}
			if x.twice != 0 || x.corrupted != 0 || x.received == 0 {
				w.t.Errorf("UDP from %s to %s: %d arrived, %d twice, %d corrupted", way[0].Name(), way[1].Name(), x.received, x.twice, x.corrupted)
			}
			w.t.Logf("UDP from %s to %s: %d datagrams, %d lost, %d late", way[0].Name(), way[1].Name(), x.sent, x.lost(), x.late)
		})
	}
	flows := func() bool {
		for _, p := range all {
			if !p.more(someBytes) {
				return false
			}
		}
		return true
	}
	if flows() {
		f(flows)
	}
	close(stop)
	wg.Wait()
	for _, p := range all {
		w.t.Logf("TCP: %.0f MB", float64(p.bytes)/1e6)
	}
}

const (
	mostBeside = 1 << 25 // datagrams; a test ends before
	someBytes  = 4 << 20 // are enough to say that traffic flows
)

// renewedSince waits until there has been a handshake since.
func (w *world) renewedSince(before time.Time) {
	w.t.Helper()
	lab.Eventually(w.t, patience, "a new session", func() error {
		if at := w.lastHandshake(); !at.After(before) {
			return fmt.Errorf("the last handshake was at %v", at)
		}
		return nil
	})
}

func (w *world) lastHandshake() time.Time {
	w.t.Helper()
	p, _ := w.a.Peer(w.b.Address)
	if p.LastHandshake == nil {
		return time.Time{}
	}
	return *p.LastHandshake
}

// TestRoaming gives one end a new address again and again while everything flows, and the other follows.
func TestRoaming(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the real programs")
	}
	w := onLAN(t, "", lab.Link{}, lab.IPv4Only)
	before := w.thrown()
	four := w.b.Addr4("lan0").As4()
	w.beside(func(flows func() bool) {
		for i := range byte(3) {
			start := time.Now()
			four[3] = 100 + i
			w.b.SetAddr("lan0", netip.PrefixFrom(netip.AddrFrom4(four), 24))
			lab.Eventually(t, patience, "robot1 follows", func() error {
				if p, _ := w.a.Peer(w.b.Address); p.Endpoint.Addr() != netip.AddrFrom4(four) {
					return fmt.Errorf("it sends to %v", p.Endpoint)
				}
				return nil
			})
			followed := time.Since(start)
			if !flows() {
				return
			}
			t.Logf("followed after %v, everything flows after %v", followed.Round(time.Millisecond), time.Since(start).Round(time.Millisecond))
		}
	})
	w.clean(before, disturbed)
}

// restart ends a daemon without a word and starts it again; the two have a new session then.
func (w *world) restart(e end) {
	w.t.Helper()
	last := time.Now()
	e.Daemon.Kill9()
	e.Restart()
	w.renewedSince(last)
}

// TestRestart ends one daemon without a word and starts it again, twice: hnet0 and the connections on it live on.
func TestRestart(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the real programs")
	}
	w := onLAN(t, "", lab.Link{}, lab.Dual)
	before := w.thrown()
	before[w.b.Name()] = nil // counts anew
	w.beside(func(flows func() bool) {
		for range 2 {
			w.restart(w.b)
			if !flows() {
				return
			}
		}
	})
	w.clean(before, disturbed)
}

// TestPathMTUChanges makes the underlay narrower and wider again: packets are split in pieces, and are whole again.
func TestPathMTUChanges(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the real programs")
	}
	w := onLAN(t, "", lab.Link{}, lab.Dual)
	before := w.thrown()
	w.beside(func(flows func() bool) {
		for _, mtu := range []int{1400, 1280, 1500, 1280, 1420} {
			w.lan.Set(lab.Link{MTU: mtu})
			if !flows() {
				return
			}
		}
	})
	w.clean(before, disturbed)
}

// TestRekeyByTime carries data for two minutes, until the session is renewed because of its age. It takes that long, and runs with -gb 1 only.
func TestRekeyByTime(t *testing.T) {
	if testing.Short() || *gigabytes < 1 {
		t.Skip("takes two minutes: run with -gb 1")
	}
	w := onLAN(t, "", lab.Link{}, lab.Dual)
	before := w.thrown()
	w.beside(func(flows func() bool) {
		last := w.lastHandshake()
		for time.Since(last) < 150*time.Second {
			if !flows() {
				return
			}
			if w.lastHandshake().After(last) {
				flows()
				return
			}
		}
		t.Errorf("no handshake for %v", time.Since(last))
	})
	w.clean(before, undisturbed)
}
