package path

import (
	"testing"
	"time"
)

// TestLossyLink: ordinary loss and jitter change no path.
func TestLossyLink(t *testing.T) {
	w, x, y, _ := settled(t, 1)
	w.jitter = 30 * time.Millisecond
	w.drop = func(*datagram) bool { return w.random.IntN(100) < 3 }
	away := 0
	for range 300 {
		w.run(time.Second, nil)
		if x.kindNow() != Direct || y.kindNow() != Direct {
			away++
		}
	}
	if away > 3 {
		t.Errorf("off the direct path for %d of 300 s", away)
	}
}

// TestBloat: a link whose queues fill, under all paths alike, stops nothing; when they are empty again all is as before.
func TestBloat(t *testing.T) {
	w, x, y, _ := settled(t, 2)
	slow := func(d time.Duration) {
		w.delay += d
		for _, r := range x.relays {
			r.delay += d
		}
	}
	slow(900 * time.Millisecond)
	w.run(30*time.Second, nil)
	if gap := max(x.gap, y.gap); gap > 1500*time.Millisecond {
		t.Errorf("traffic stopped for %v", gap)
	}
	slow(-900 * time.Millisecond)
	w.run(2*time.Minute, nil)
	if x.kindNow() != Direct || y.kindNow() != Direct || x.m.Silent() {
		t.Errorf("on %v and %v", x.kindNow(), y.kindNow())
	}
}

// TestAllDead: when nothing answers something is kept, Silent says so, and the first that answers is taken.
func TestAllDead(t *testing.T) {
	w, x, y, _ := settled(t, 2)
	block(w, x.relays...)
	w.run(10*time.Second, nil)
	if _, _, _, ok := x.m.Best(); !ok || !x.m.Silent() {
		t.Errorf("a path: %v, silent: %v", ok, x.m.Silent())
	}
	x.relays[1].down = false
	start := w.now
	if !w.run(20*time.Second, func() bool {
		a, _, _, _ := x.m.Best()
		b, _, _, _ := y.m.Best()
		return a.Carrier == x.relays[1] && b.Carrier == x.relays[1] && !x.m.Silent() && !y.m.Silent()
	}) {
		t.Fatal("a relay that works again was not found")
	}
	t.Log("found again after", w.now-start)
}

// TestNoBase: without any relay two hosts that know each other's endpoints find the way, and keep trying.
func TestNoBase(t *testing.T) {
	w := newWorld(t, 1)
	x, y := w.pair(&portRestricted, &linuxFilter, 0)
	on := true
	w.meet(x, y, &on)
	if !w.run(3*time.Second, func() bool { return x.kindNow() == Direct && y.kindNow() == Direct }) {
		t.Fatal("never met")
	}
	w.run(10*time.Second, nil)
	block(w)
	w.run(20*time.Second, nil)
	w.drop = nil
	if !w.run(35*time.Second, func() bool { return !x.m.Silent() && !y.m.Silent() }) {
		t.Error("a dead path was not tried again")
	}
}

// TestTwoBases: of two relays the faster is used, and the other kept warm.
func TestTwoBases(t *testing.T) {
	relay := relayBy("near")
	far := relayBy("far")
	l := newLab(t, far, relay)
	l.pass(30*time.Second, func(p Probe) time.Duration {
		if p.Key == relay.Key {
			return 20 * time.Millisecond
		}
		return 80 * time.Millisecond
	})
	if l.best() != relay.Key {
		t.Error("on the farther Base")
	}
	// The warm one is probed every 10 s, the one in use every second.
	n := len(l.out)
	l.pass(time.Minute, func(p Probe) time.Duration {
		if p.Key == relay.Key {
			return 20 * time.Millisecond
		}
		return 80 * time.Millisecond
	})
	used, warm := 0, 0
	for _, p := range l.out[n:] {
		switch {
		case p.Size > 0:
		case p.Key == relay.Key:
			used++
		default:
			warm++
		}
	}
	if used < 58 || used > 70 || warm < 6 || warm > 8 {
		t.Errorf("%d probes of the path in use, %d of the warm one in a minute", used, warm)
	}
}

// TestOwnQueue: a queue of our own traffic makes no other path of the kind look better, a path that became slower does.
func TestOwnQueue(t *testing.T) {
	a, b := direct("192.0.2.1:1"), direct("192.0.2.2:1")
	l := newLab(t, a, b)
	rtt := map[Key]time.Duration{a.Key: 50 * time.Millisecond, b.Key: 55 * time.Millisecond}
	reply := func(p Probe) time.Duration { return rtt[p.Key] }
	l.pass(40*time.Second, reply)
	best := func() Key { k, _, _, _ := l.m.Best(); return k }
	if best() != a.Key {
		t.Fatalf("on %v", best())
	}
	rtt[a.Key] += 300 * time.Millisecond
	l.m.SetQueueing(300 * time.Millisecond)
	l.pass(30*time.Second, reply)
	if best() != a.Key {
		t.Error("our own queue drove us away")
	}
	if s := l.m.Status()[0]; s.RTT < 200*time.Millisecond {
		t.Errorf("the RTT is told as %v", s.RTT)
	}
	l.m.SetQueueing(0)
	l.pass(60*time.Second, reply)
	if best() != b.Key {
		t.Error("a path that became slow was kept")
	}
}
