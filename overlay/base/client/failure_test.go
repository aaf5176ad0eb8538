package client

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/base/wire"
)

// pair returns two Bases and a third, and a node at the two nearest with a peer.
func pair(t *testing.T, low bool) (s *simulation, x, y, z *simBase, d, peer *simNode) {
	t.Helper()
	s = newSimulation(t)
	x, y, z = s.base(1, 5*time.Millisecond), s.base(2, 10*time.Millisecond), s.base(3, 15*time.Millisecond)
	d, peer = s.node(1, low), s.node(2, low)
	d.interests(peer)
	peer.interests(d)
	d.servers(x, y, z)
	peer.servers(x, y, z)
	s.until(time.Second, "met", func() bool { return len(d.relays(peer)) > 0 && len(peer.relays(d)) > 0 })
	s.run(time.Second)
	return s, x, y, z, d, peer
}

func TestBaseDies(t *testing.T) {
	s, x, y, z, d, peer := pair(t, false)
	x.dead = true
	steps := 0
	// While a relay is used, silence is noticed at once; an idle node notices at its next ping.
	took := s.until(10*time.Second, "the next nearest", func() bool {
		if steps++; steps%100 == 0 {
			if r := d.relays(peer); len(r) > 0 {
				_ = d.say(r[0], "are you there")
			}
		}
		return d.at(x, y, z) || d.at(y, z)
	})
	t.Logf("in use: the next nearest after %v", took)
	if took > 3*time.Second {
		t.Errorf("in use: the next nearest after %v", took)
	}
	s.until(10*time.Second, "lost", func() bool { return d.at(y, z) })
	if d.told(Lost, x, nil) != 1 || d.told(PeerGone, x, peer) != 1 || len(d.relays(peer)) == 0 || d.relays(peer)[0].Base() == x.id.Address() {
		t.Errorf("lost %d, gone %d", d.told(Lost, x, nil), d.told(PeerGone, x, peer))
	}
	s.run(5 * time.Minute)
	if !d.at(y, z) {
		t.Error("y and z are left")
	}
	x.restart()
	took = s.until(2*time.Hour, "back at the nearest", func() bool { return d.at(x, y) })
	t.Logf("back at the nearest %v after it came back", took)
}

func TestIdleBaseDies(t *testing.T) {
	s, x, y, z, d, _ := pair(t, false)
	x.dead = true
	if took := s.until(time.Minute, "the next nearest", func() bool { return d.at(y, z) }); took > 32*time.Second {
		t.Errorf("after %v", took)
	}
}

func TestSuspectedBaseDies(t *testing.T) {
	s, x, y, z, d, _ := pair(t, false)
	x.dead = true
	d.m.suspect(s.now, x.id.Address())
	d.turn()
	took := s.until(time.Minute, "the next nearest", func() bool { return d.at(x, y, z) })
	if took > 2*time.Second {
		t.Errorf("after %v", took)
	}
	s.until(time.Minute, "lost", func() bool { return d.at(y, z) })
	t.Logf("suspected: the next nearest after %v", took)
}

func TestOnlyBaseDiesAndComesBack(t *testing.T) {
	s := newSimulation(t)
	x := s.base(1, 5*time.Millisecond)
	x.server.TCP = 0
	d := s.node(1, false)
	d.servers(x)
	s.run(time.Second)
	x.dead = true
	s.until(time.Minute, "lost", func() bool { return d.at() })
	s.run(time.Hour)
	before := d.bytes
	s.run(time.Hour)
	t.Logf("%d bytes an hour to a Base that is dead", d.bytes-before)
	d.calm(0, 2000)
	if d.bytes-before > 60*1000 {
		t.Errorf("%d bytes an hour to a Base that is dead", d.bytes-before)
	}
	if st := d.m.status()[0]; st.State != StateUnreachable || st.Err == "" {
		t.Errorf("%+v", st)
	}
	x.restart()
	if took := s.until(2*time.Minute, "back", func() bool { return d.at(x) }); took > 70*time.Second {
		t.Errorf("back after %v", took)
	}
	x.dead = true
	s.run(time.Hour)
	x.restart()
	d.m.linksChanged(s.now)
	d.turn()
	if took := s.until(2*time.Minute, "back", func() bool { return d.at(x) }); took > 100*time.Millisecond {
		t.Errorf("other links: back after %v", took)
	}
}

func TestBaseRestarts(t *testing.T) {
	s, x, y, _, d, peer := pair(t, false)
	s.run(3 * time.Second)
	x.restart()
	x.number += 1000 // its new sessions have other numbers
	r := d.relays(peer)[0]
	if r.Base() != x.id.Address() {
		t.Fatal("another Base is the best")
	}
	if err := d.say(r, "x"); err != nil {
		t.Fatal(err)
	}
	took := s.until(time.Second, "registered anew", func() bool { return d.told(Registered, x, nil) == 2 })
	t.Logf("registered anew after %v", took)
	if took > 60*time.Millisecond || d.told(Lost, nil, nil) > 0 || !d.at(x, y) {
		t.Errorf("after %v, lost %d", took, d.told(Lost, nil, nil))
	}
	// The peer does not know yet, so there is no link, and none is made up.
	s.run(5 * time.Second)
	if n := len(d.relays(peer)); n != 1 {
		t.Errorf("%d relays", n)
	}
	s.until(time.Minute, "met again", func() bool { return len(d.relays(peer)) == 2 })
}

// Words of a Base that do not know what was sent cost a ping, and no more.
func TestForgedUnknown(t *testing.T) {
	s, x, _, _, d, _ := pair(t, false)
	r := d.m.base(x.id.Address()).cur
	hellos, pings := x.seen[wire.TypeHello], x.seen[wire.TypeControl]
	for range 1000 {
		s.receive(wire.Unknown{Session: r.welcome.Session, Echo: [8]byte{1, 2, 3, 4, 5, 6, 7, 8}}.Append(nil), x.addr, d.addr)
		s.receive(wire.Unknown{Session: r.welcome.Session + 1}.Append(nil), x.addr, d.addr)
		s.run(10 * time.Millisecond)
	}
	if h, p := x.seen[wire.TypeHello]-hellos, x.seen[wire.TypeControl]-pings; h > 0 || p > 3 {
		t.Errorf("%d hellos and %d control datagrams", h, p)
	}
	if d.m.base(x.id.Address()).cur != r {
		t.Error("it registered anew")
	}
}

func TestAddressChanges(t *testing.T) {
	for _, told := range []bool{true, false} {
		s, x, y, _, d, peer := pair(t, false)
		r := d.relays(peer)[0]
		moved := netip.MustParseAddrPort("192.0.2.99:1234")
		d.addr = moved
		if told {
			d.m.linksChanged(s.now)
			d.turn()
		} else if err := d.say(r, "x"); err != nil { // the Base does not know it from there
			t.Fatal(err)
		}
		took := s.until(time.Second, "moved", func() bool { return d.told(ObservedChanged, x, nil) == 1 })
		if took > 50*time.Millisecond {
			t.Errorf("moved after %v", took)
		}
		s.run(time.Second)
		if d.told(Registered, nil, nil) != 2 || d.told(Lost, nil, nil) != 0 || !r.Live() || !d.at(x, y) {
			t.Errorf("told %v: registered %d, lost %d", told, d.told(Registered, nil, nil), d.told(Lost, nil, nil))
		}
		if d.m.status()[0].Observed != moved {
			t.Errorf("%+v", d.m.status()[0])
		}
	}
}

// Where the Base swallows what comes from another endpoint, the registration is made anew.
func TestAddressChangesAndThePingIsLost(t *testing.T) {
	s, x, _, _, d, peer := pair(t, false)
	x.clients[d.id.Address()].session += 1 << 30 // it forgot the number
	d.addr = netip.MustParseAddrPort("192.0.2.99:1234")
	x.clients[d.id.Address()].from = netip.AddrPort{}
	r := d.relays(peer)[0]
	d.m.linksChanged(s.now)
	d.turn()
	took := s.until(2*time.Second, "registered", func() bool { return d.told(Registered, x, nil) == 2 })
	if took > 400*time.Millisecond {
		t.Errorf("registered anew after %v", took)
	}
	s.run(4 * time.Second)
	if r.Live() || d.told(Lost, nil, nil) != 0 || len(d.relays(peer)) != 2 {
		t.Errorf("%d relays", len(d.relays(peer)))
	}
}

func TestUDPBlocked(t *testing.T) {
	s := newSimulation(t)
	x, y := s.base(1, 10*time.Millisecond), s.base(2, 20*time.Millisecond)
	d, peer := s.node(1, false), s.node(2, false)
	d.noUDP = true
	d.interests(peer)
	peer.interests(d)
	d.servers(x, y)
	peer.servers(x, y)
	took := s.until(5*time.Second, "TCP", func() bool { return d.over(x) == TCP && d.over(y) == TCP })
	t.Logf("registered over TCP after %v", took)
	if took > 2*time.Second {
		t.Errorf("TCP after %v", took)
	}
	s.until(time.Second, "met", func() bool { return len(d.relays(peer)) == 2 && len(peer.relays(d)) == 2 })
	r := d.relays(peer)[0]
	if !r.TCP() || peer.relays(d)[0].TCP() {
		t.Error("wrong transports")
	}
	for _, e := range peer.events {
		if e.Type == PeerHere && e.Observed.IsValid() {
			t.Errorf("the peer is on TCP, and seen at %v", e.Observed)
		}
	}
	s.run(10 * time.Minute)
	if d.told(Lost, nil, nil) != 0 || !r.Live() {
		t.Error("lost")
	}

	// UDP works again: it takes over, and what is sent meanwhile arrives.
	d.noUDP = false
	peer.relayd = nil
	sent := 0
	steps := 0
	took = s.until(40*time.Second, "UDP", func() bool {
		if steps++; steps%5 == 0 {
			if err := d.say(d.relays(peer)[0], "x"); err != nil {
				t.Error(err)
			}
			sent++
		}
		return d.over(x) == UDP && d.over(y) == UDP
	})
	for range 200 {
		if err := d.say(d.relays(peer)[0], "x"); err != nil {
			t.Error(err)
		}
		sent++
		s.run(10 * time.Millisecond)
	}
	s.run(time.Second)
	if lost := sent - len(peer.relayd); lost > 8 {
		t.Errorf("%d of %d lost while UDP took over", lost, sent)
	}
	t.Logf("UDP after %v; %d of %d lost", took, sent-len(peer.relayd), sent)
	s.run(5 * time.Second)
	if r.Live() || d.told(Lost, nil, nil) != 0 || d.told(PeerGone, nil, nil) != 0 || len(d.relays(peer)) != 2 || d.relays(peer)[0].TCP() {
		t.Errorf("the old relay lives: %v; lost %d; gone %d; %d relays", r.Live(), d.told(Lost, nil, nil), d.told(PeerGone, nil, nil), len(d.relays(peer)))
	}
	if len(d.m.conns) != 0 || len(d.m.registrations) != 2 || len(d.m.ways.list()) != 2 {
		t.Errorf("left over: %d connections, %d registrations", len(d.m.conns), len(d.m.registrations))
	}
}

// The connection must not end before the Base knows the registration that takes its place: the peers would be told that we are gone, and lose their
// Relays for nothing.
func TestUDPTakesOverUnnoticed(t *testing.T) {
	s := newSimulation(t)
	x := s.base(1, 10*time.Millisecond)
	d, peer := s.node(1, false), s.node(2, false)
	d.noUDP = true
	d.interests(peer)
	peer.interests(d)
	d.servers(x)
	peer.servers(x)
	s.until(5*time.Second, "met over TCP", func() bool { return d.over(x) == TCP && len(d.relays(peer)) == 1 && len(peer.relays(d)) == 1 })
	r := peer.relays(d)[0]
	d.noUDP, d.mute = false, wire.TypeControl
	s.until(40*time.Second, "UDP", func() bool { return d.over(x) == UDP })
	s.run(500 * time.Millisecond)
	if len(d.m.conns) != 1 {
		t.Error("the connection ended before the Base could know what takes its place")
	}
	d.mute = 0
	s.until(5*time.Second, "the connection ends", func() bool { return len(d.m.conns) == 0 })
	s.run(2 * reunion)
	if !r.Live() || peer.told(PeerGone, nil, nil) != 0 || peer.told(PeerHere, nil, nil) == 0 {
		t.Errorf("the peer was told gone %d times; its Relay lives: %v", peer.told(PeerGone, nil, nil), r.Live())
	}
}

func TestUDPIsBlockedLater(t *testing.T) {
	s, x, y, _, d, peer := pair(t, false)
	d.noUDP = true
	d.m.linksChanged(s.now)
	d.turn()
	took := s.until(10*time.Second, "TCP", func() bool { return d.over(x) == TCP && d.over(y) == TCP })
	t.Logf("TCP %v after another network that has no UDP", took)
	if took > 2500*time.Millisecond || d.told(Lost, nil, nil) > 0 {
		t.Errorf("after %v, lost %d", took, d.told(Lost, nil, nil))
	}
	s.run(5 * time.Second)
	if len(d.relays(peer)) != 2 {
		t.Errorf("%d relays", len(d.relays(peer)))
	}
}

func TestNothingWorks(t *testing.T) {
	s := newSimulation(t)
	x, y := s.base(1, 10*time.Millisecond), s.base(2, 20*time.Millisecond)
	d := s.node(1, false)
	d.noUDP, d.noTCP = true, true
	d.servers(x, y)
	s.run(10 * time.Minute)
	d.calm(0, 500)
	d.noUDP = false
	if took := s.until(2*time.Minute, "back", func() bool { return d.at(x, y) }); took > 80*time.Second {
		t.Errorf("back after %v", took)
	}
}

// What goes wrong with one Base must not delay the others.
func TestBadBasesHarmNobodyElse(t *testing.T) {
	for _, test := range []struct {
		name string
		bad  func(b *simBase, d *simNode)
		log  string
	}{
		{"dead", func(b *simBase, _ *simNode) { b.dead = true }, ""},
		{"garbage", func(b *simBase, _ *simNode) { b.garbage = true }, ""},
		{"wrong key", func(b *simBase, _ *simNode) { b.server.Address = testIdentity(99).Address() }, "correct the Base's host or address"},
		{"no such name", func(b *simBase, _ *simNode) { b.server.Host = "base.example" }, ""},
		{"DNS hangs", func(b *simBase, d *simNode) { b.server.Host = "base.example"; d.dnsIn = -1 }, ""},
		{"no ports", func(b *simBase, _ *simNode) { b.server.UDP, b.server.TCP = 0, 0 }, ""},
		{"no host", func(b *simBase, _ *simNode) { b.server.Host = "" }, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSimulation(t)
			bad1, bad2 := s.base(1, time.Millisecond), s.base(2, time.Millisecond)
			x, y := s.base(3, 10*time.Millisecond), s.base(4, 20*time.Millisecond)
			d := s.node(1, false)
			test.bad(bad1, d)
			test.bad(bad2, d)
			bad2.server.Address = testIdentity(98).Address()
			d.servers(bad1, bad2, x, y)
			took := s.until(time.Second, "the good ones", func() bool { return d.at(x, y) })
			if took > 100*time.Millisecond {
				t.Errorf("after %v", took)
			}
			before, ticks := d.count, d.m.ticks
			s.run(time.Hour)
			d.calm(ticks, 3000)
			if !d.at(x, y) || d.told(Lost, nil, nil) > 0 {
				t.Error("lost")
			}
			if n := d.count - before; n > 1200 {
				t.Errorf("%d datagrams in an hour", n)
			}
			if test.log != "" && (len(d.logs) == 0 || len(d.logs) > 20 || !strings.Contains(d.logs[0], test.log)) {
				t.Errorf("logged %q", d.logs)
			}
			if len(d.m.conns) > 0 {
				t.Errorf("%d connections are left over", len(d.m.conns))
			}
		})
	}
}

func TestFrozenBaseComesBack(t *testing.T) {
	s, x, y, _, d, peer := pair(t, false)
	for _, frozen := range []time.Duration{time.Second, 3 * time.Second, 20 * time.Second, 3 * time.Minute} {
		x.dead = true
		s.run(frozen)
		x.dead = false
		took := s.until(2*time.Hour, "back", func() bool { return d.at(x, y) && len(d.relays(peer)) == 2 })
		t.Logf("frozen for %v: at the nearest two after %v", frozen, took)
		s.run(3 * time.Minute)
	}
}

func TestLossyNetwork(t *testing.T) {
	s := newSimulation(t)
	s.loss, s.double = 0.2, 0.2
	x, y := s.base(1, 30*time.Millisecond), s.base(2, 40*time.Millisecond)
	d, peer := s.node(1, false), s.node(2, false)
	d.interests(peer)
	peer.interests(d)
	d.servers(x, y)
	peer.servers(x, y)
	took := s.until(20*time.Second, "met", func() bool { return len(d.relays(peer)) == 2 && len(peer.relays(d)) == 2 })
	t.Logf("met after %v", took)
	s.run(24 * time.Hour)
	// Five pings of each 25 s, of which 36 % come to nothing: two Bases are lost 40 times a day.
	if n := d.told(Lost, nil, nil); n > 80 {
		t.Errorf("lost %d times in a day at 20 %% loss", n)
	}
	s.loss = 0
	s.until(3*time.Minute, "met", func() bool { return len(d.relays(peer)) == 2 && len(peer.relays(d)) == 2 })
}

func TestSatellite(t *testing.T) {
	s := newSimulation(t)
	x := s.base(1, 600*time.Millisecond)
	d := s.node(1, false)
	d.servers(x)
	s.until(10*time.Second, "registered", func() bool { return d.at(x) })
	s.run(time.Hour)
	if d.told(Lost, nil, nil) != 0 || d.over(x) != UDP {
		t.Error("lost")
	}
	d.m.linksChanged(s.now)
	d.turn()
	s.run(time.Minute)
	if n := d.told(Registered, nil, nil); n > 2 {
		t.Errorf("%d registrations", n)
	}
}

func TestDrain(t *testing.T) {
	s, x, y, z, d, peer := pair(t, false)
	x.drain(10)
	most := 0
	s.until(10*time.Second, "elsewhere", func() bool { most = max(most, len(d.registered())); return d.at(y, z) })
	s.run(time.Second)
	if most != 3 || x.clients[d.id.Address()] != nil || len(d.relays(peer)) != 2 {
		t.Errorf("%d registrations at once; %d relays", most, len(d.relays(peer)))
	}
	x.dead = true
	s.run(20 * time.Second)
	x.restart()
	d.calm(0, 500)
	s.until(2*time.Hour, "back", func() bool { return d.at(x, y) })

	// All drain: nobody is left before another is there.
	x.drain(5)
	y.drain(5)
	z.drain(5)
	s.run(3 * time.Second)
	if len(d.registered()) == 0 {
		t.Error("left all")
	}
}

func TestLowDataKeepsOne(t *testing.T) {
	s, x, y, _, d, _ := pair(t, true)
	if !d.at(x) {
		t.Fatalf("registered with %d", len(d.registered()))
	}
	x.dead = true
	d.m.suspect(s.now, x.id.Address())
	d.turn()
	if took := s.until(time.Minute, "the next nearest", func() bool { return d.at(x, y) }); took > 2*time.Second {
		t.Errorf("after %v", took)
	}
	s.until(5*time.Second, "the first is left", func() bool { return d.at(y) })
}

func TestNames(t *testing.T) {
	s := newSimulation(t)
	x := s.base(1, 10*time.Millisecond)
	x.server.Host = "base.example"
	d := s.node(1, false)
	d.dnsIn = 3 * time.Second
	d.servers(x)
	s.run(2 * time.Second)
	d.names["base.example"] = []netip.Addr{netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("203.0.113.200"), x.addr.Addr()}
	if took := s.until(5*time.Second, "registered", func() bool { return d.at(x) }); took > 1200*time.Millisecond {
		t.Errorf("after %v", took)
	}
	s.run(time.Hour)
	if d.looks != 1 {
		t.Errorf("%d lookups", d.looks)
	}
	// It moves.
	x.addr = netip.MustParseAddrPort("203.0.113.77:5582")
	d.names["base.example"] = []netip.Addr{x.addr.Addr()}
	d.dnsIn = 100 * time.Millisecond
	took := s.until(3*time.Minute, "found again", func() bool { return d.at(x) && d.m.status()[0].Endpoint == x.addr })
	t.Logf("found again after %v", took)
}

func TestServersChange(t *testing.T) {
	s, x, y, z, d, peer := pair(t, false)
	r := d.relays(peer)[0]
	d.servers(x, z)
	s.run(time.Second)
	if !d.at(x, z) || !r.Live() || y.clients[d.id.Address()] != nil {
		t.Error("wrong Bases")
	}
	d.servers()
	s.run(time.Second)
	if !d.at() || r.Live() || x.clients[d.id.Address()] != nil || len(d.m.registrations) != 0 {
		t.Error("something is left")
	}
	if !errors.Is(d.say(r, "x"), errWithdrawn) {
		t.Error("sent by a relay that is withdrawn")
	}
}
