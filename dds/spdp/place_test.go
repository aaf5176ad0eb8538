package spdp

import (
	"net/netip"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

func fourOf(i int) netip.Addr { return netip.AddrFrom4([4]byte{198, 19, 0, byte(i)}) }

// TestIPv4: participants that have IPv4 alone meet each other at the addresses that their hosts have here, and nobody is
// told of whom it cannot reach.
func TestIPv4(t *testing.T) {
	w := newWorld(t, 3)
	for i, h := range w.hosts {
		h.four = fourOf(i + 1)
	}
	w.hosts[2].four = netip.Addr{}
	w.whitelist()
	var list []*program
	for _, h := range w.hosts {
		h.start()
		list = append(list, h.program(0))
		if h.four.IsValid() {
			asked, announced := h.newProgram(0), h.newProgram(0)
			asked.only4, announced.only4 = true, true
			announced.announceAlways()
			list = append(list, asked, announced)
		}
	}
	reachable := func(p, q *program) bool { return p.only4 == q.only4 }
	w.run(2 * time.Second)
	w.must(list, reachable, "in their families")
	at := func(p *program, want netip.Addr) {
		t.Helper()
		for prefix, d := range p.known {
			if prefix[3] == p.prefix[3] {
				continue
			}
			for _, l := range append(d.MetatrafficUnicast, d.DefaultUnicast...) {
				if a, _ := l.AddrPort(); a.Addr() != want {
					t.Errorf("%v is told of %v at %v, want %v", p.prefix, prefix, l, want)
				}
			}
		}
	}
	at(list[1], fourOf(2))

	// The first host sees the second at another address from now on.
	a := w.hosts[0]
	a.peers[0].IPv4 = fourOf(9)
	a.setPeers()
	w.run(time.Second)
	w.must(list, reachable, "at another address")
	at(list[1], fourOf(9))

	// Its own address changes, and its programs start anew.
	for _, p := range list {
		if p.host == a && p.only4 {
			p.kill()
		}
	}
	a.four = fourOf(7)
	a.m.SetIPv4(w.now, a.four)
	w.whitelist()
	anew := a.newProgram(0)
	anew.only4 = true
	list = append(list, anew)
	w.run(3 * time.Second)
	w.must(list, reachable, "with another address of its own")
	at(list[4], fourOf(7))

	// None any more.
	a.four = netip.Addr{}
	a.m.SetIPv4(w.now, a.four)
	w.run(time.Second)
	for _, p := range list {
		if _, knows := p.known[anew.prefix]; knows && !p.ended {
			t.Errorf("%v knows one that cannot be reached any more", p.prefix)
		}
	}
}

// TestIPv4Late: a peer's IPv4 address becomes known after its participants.
func TestIPv4Late(t *testing.T) {
	w := newWorld(t, 2)
	for i, h := range w.hosts {
		h.four = fourOf(i + 1)
	}
	w.whitelist()
	for _, h := range w.hosts {
		for i := range h.peers {
			h.peers[i].IPv4 = netip.Addr{}
		}
	}
	var list []*program
	for _, h := range w.hosts {
		h.start()
		p := h.newProgram(0)
		p.only4 = true
		p.announceAlways()
		list = append(list, p)
	}
	w.run(3 * time.Second)
	w.must(list, func(p, q *program) bool { return p.host == q.host }, "unknown")
	w.whitelist()
	w.run(digestEvery + time.Second)
	w.must(list, all, "known")
}

// TestTranslate: no IPv4 locator of a peer's but at the address it has here.
func TestTranslate(t *testing.T) {
	there := place{overlayAddr(2), fourOf(2)}
	d := data(enemyPrefix(1), there.six)
	for _, a := range []string{"192.0.2.1:7410", "239.255.0.1:7400", "127.0.0.1:7410", "198.19.0.1:53"} {
		d.MetatrafficUnicast = append(d.MetatrafficUnicast, wire.LocatorFrom(netip.MustParseAddrPort(a)))
		d.DefaultUnicast = append(d.DefaultUnicast, wire.LocatorFrom(netip.MustParseAddrPort(a)))
	}
	b, err := rewriteBy(d.Append(nil), there, there.translate)
	if err != nil {
		t.Fatal(err)
	}
	got, err := describe(b, there)
	if err != nil || got.via != viaSix|viaFour || got.meta.Addr() != there.six || len(got.MetatrafficUnicast) != 3 {
		t.Errorf("%+v, %v", got, err)
	}
	for _, l := range append(got.MetatrafficUnicast, got.DefaultUnicast...) {
		if a, _ := l.AddrPort(); !there.has(a.Addr()) || a.Port() < leastPort {
			t.Errorf("%v is left", l)
		}
	}
}
