package multicast

import (
	"net/netip"
	"testing"
	"time"
)

// TestIdlePeers: a peer without a session is woken to be told of groups, and of nothing else.
func TestIdlePeers(t *testing.T) {
	p := newPair()
	delete(p.m, peerA) // it does not answer
	m := p.m[own]
	sent := func(d time.Duration) int {
		before := p.sent
		p.run(d)
		return p.sent - before
	}
	set := func(idle bool) { m.setPeers(p.now, []Peer{{Address: peerA, Connected: true, Idle: idle}}) }
	for _, c := range []struct {
		when   string
		change func()
		told   bool
	}{
		{"without groups", func() { m = newMachine(own, 3); p.m[own] = m; set(true) }, false},
		{"with a group", func() { m.setGroups(p.now, []netip.Addr{group}) }, true},
		{"after it was left", func() { m.setGroups(p.now, nil) }, false},
		{"with a session", func() { set(false) }, true},
		{"after it", func() { set(true) }, false},
		{"after a datagram, which comes by a session", func() {
			b := (&message{ask: true, run: 9, counter: 1}).append(nil)
			m.message(p.now, netip.AddrPortFrom(peerA, Port), b)
		}, true},
	} {
		c.change()
		if n := sent(time.Minute); n > 0 != c.told {
			t.Errorf("%s: %d datagrams", c.when, n)
		}
	}
}
