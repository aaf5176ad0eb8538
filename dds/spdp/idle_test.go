package spdp

import (
	"net/netip"
	"testing"
	"time"
)

// TestIdlePeers: a peer without a session is not woken as long as there is nobody to tell it of, and nobody wakes the daemon for it; it is told of
// those that come, and hears no more of it when they have ended.
func TestIdlePeers(t *testing.T) {
	w := newWorld(t, 2)
	h, idle := w.hosts[0], w.hosts[1].addr
	h.peers = []Peer{{Address: idle, Connected: true, Idle: true}}
	sent := func(d time.Duration) int {
		t.Helper()
		before := w.datagrams
		for range 10 {
			h.setPeers()
			w.run(d / 10)
		}
		return w.datagrams - before
	}
	silent := func(when string) {
		t.Helper()
		if n := sent(time.Hour); n > 0 {
			t.Errorf("%s: %d datagrams to a peer without a session", when, n)
		}
		if next := h.m.Next(w.now); !next.IsZero() {
			t.Errorf("%s: wants to be called in %v", when, next.Sub(w.now))
		}
	}
	h.start()
	silent("from the start")
	p := h.program(0)
	if n := sent(10 * time.Second); n == 0 {
		t.Error("a participant is kept from a peer without a session")
	}
	p.leave()
	silent("after the end of the only participant")
	h.program(0).kill()
	w.run(2 * localSilence)
	silent("after its silence")

	h.peers[0].Idle = false
	if n := sent(time.Minute); n == 0 {
		t.Error("a peer that has a session by now is told nothing")
	}
	h.peers[0].Idle = true
	silent("after the session")
	// What comes by a session is answered before anybody tells that there is one.
	other := New(w.now, Options{Address: idle, Run: 7})
	other.SetPeers(w.now, []Peer{{Address: h.addr, Connected: true}})
	other.Tick(w.now)
	before := w.datagrams
	for _, d := range other.Out() {
		h.m.Remote(w.now, netip.AddrPortFrom(idle, PeerPort), d.Payload)
		h.flush()
	}
	w.run(time.Second)
	if w.datagrams == before {
		t.Error("a datagram of a peer is not answered")
	}
}
