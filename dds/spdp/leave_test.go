package spdp

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestLeave: with a farewell, both sides forget each other at once, and meet again at once.
func TestLeave(t *testing.T) {
	for _, loss := range []float64{0, 0.2} {
		w := newWorld(t, 3)
		list := w.populate(2)
		w.run(5 * time.Second)
		w.must(list, all, "at first")
		w.loss = loss
		a, b := w.hosts[0], w.hosts[1]
		apart := func(p, q *program) bool {
			return p.host == q.host || p.host != a && q.host != a || p.host != b && q.host != b
		}
		a.m.Leave(w.now, b.addr)
		a.flush()
		for n := 0; !a.m.Left(b.addr); n++ {
			if n > 300 {
				t.Fatal("it does not hear that it leaves")
			}
			w.run(time.Millisecond)
		}
		a.peers = a.peers[1:]
		a.setPeers()
		w.run(100 * time.Millisecond)
		w.must(list, apart, "after the farewell")
		w.run(30 * time.Second)
		w.must(list, apart, "later")
		w.loss = 0
		w.whitelist()
		w.run(500 * time.Millisecond)
		w.must(list, all, "on the whitelist again")
	}
}

// TestStay: who was bid farewell and then was not taken off the list is back a second later.
func TestStay(t *testing.T) {
	w := newWorld(t, 2)
	list := w.populate(1)
	w.run(5 * time.Second)
	w.must(list, all, "at first")
	a, b := w.hosts[0], w.hosts[1]
	a.m.Leave(w.now, b.addr)
	a.flush()
	list = append(list, a.program(0), b.program(0))
	w.run(500 * time.Millisecond)
	w.must(list, func(p, q *program) bool { return p.host == q.host }, "after the farewell")
	w.run(leaveFor + 500*time.Millisecond)
	w.must(list, all, "since nothing came of it")
	if a.m.Leave(w.now, overlayAddr(77)); !a.m.Left(overlayAddr(77)) {
		t.Error("a stranger does not leave")
	}
}

// TestLeaveWithoutPort: a peer need not wait for a relay that waits for its port.
func TestLeaveWithoutPort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		leaving, changed, asked := make(chan Leaving), make(chan struct{}), 0
		r := &runner{Config: Config{Leaving: leaving, Changed: changed, Guard: &Guard{}, Peers: func() []Peer { asked++; return nil }}}
		began, done := time.Now(), make(chan struct{})
		go func() {
			leaving <- Leaving{Peer: overlayAddr(2), Done: done}
			<-done
			if took := time.Since(began); took > 0 {
				t.Errorf("it takes %v", took)
			}
			changed <- struct{}{}
		}()
		if !r.idle(t.Context(), bindAgain) || time.Since(began) != bindAgain || asked != 2 || r.Guard.places.Load() == nil {
			t.Errorf("it ends after %v, asked for peers %d times", time.Since(began), asked)
		}
	})
}
