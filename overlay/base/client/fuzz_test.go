package client

import (
	"bytes"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/base/wire"
)

// fuzzed returns a node that is registered with one Base over UDP, is about to register with another, and has a peer.
func fuzzed(t testing.TB) (s *simulation, x, y *simBase, d *simNode) {
	s = newSimulation(t)
	x, y = s.base(1, time.Millisecond), s.base(2, time.Millisecond)
	d = s.node(1, false)
	peer := s.node(2, false)
	d.interests(peer)
	peer.interests(d)
	d.servers(x)
	peer.servers(x)
	s.run(100 * time.Millisecond)
	y.dead = true
	d.servers(x, y)
	return s, x, y, d
}

// FuzzControl: whatever a Base or somebody in its place sends, nothing panics, the registration stays, and little is sent.
func FuzzControl(f *testing.F) {
	_, x, _, d := fuzzed(f)
	r := d.m.base(x.id.Address()).cur
	f.Add(wire.Cookie{Key: x.id.SigningKey(), Observed: d.addr}.Append(nil))
	f.Add(append(wire.WelcomeHeader{Index: r.way.index}.Append(nil), make([]byte, wire.WelcomeLen-wire.WelcomeHeaderLen)...))
	f.Add(append(wire.ControlHeader{FromBase: true, Index: r.way.index, Counter: 5}.Append(nil), make([]byte, 40)...))
	f.Add(wire.Unknown{Session: r.welcome.Session, Echo: [8]byte{7: 1}}.Append(nil))
	f.Add(wire.FilterProbe{Nonce: [12]byte{1}}.Append(nil))
	// One world serves many inputs: making it takes handshakes.
	s, x, y, d := fuzzed(f)
	r = d.m.base(x.id.Address()).cur
	f.Fuzz(func(t *testing.T, b []byte) {
		s.t = t
		// So that fuzzing gets behind the first check, the numbers are put right.
		right := slices.Clone(b)
		switch wire.TypeOf(right) {
		case wire.TypeBaseControl, wire.TypeWelcome:
			copy(right[4:], []byte{byte(r.way.index >> 24), byte(r.way.index >> 16), byte(r.way.index >> 8), byte(r.way.index)})
		case wire.TypeUnknown:
			copy(right[4:], []byte{byte(r.welcome.Session >> 24), byte(r.welcome.Session >> 16), byte(r.welcome.Session >> 8), byte(r.welcome.Session)})
		case wire.TypeCookie:
			if a := d.m.base(y.id.Address()).udp; a != nil {
				copy(right[4:20], a.message[4:])
			}
		}
		s.run(10 * time.Millisecond)
		before := d.count
		for _, datagram := range [][]byte{b, right} {
			for _, from := range []netip.AddrPort{x.addr, y.addr, {}} {
				d.m.datagram(s.now, datagram, from)
				d.m.frame(s.now, 1, datagram)
				d.turn()
			}
		}
		if d.m.base(x.id.Address()).cur != r {
			t.Error("the registration was lost")
		}
		if d.count-before > 20 {
			t.Errorf("sent %d datagrams", d.count-before)
		}
	})
}

// FuzzMessage: a Base that is a rogue can seal whatever it likes.
func FuzzMessage(f *testing.F) {
	_, _, _, seed := fuzzed(f)
	f.Add(byte(wire.KindPing), wire.Ping{}.Append(nil))
	f.Add(byte(wire.KindPong), wire.Pong{}.Append(nil))
	f.Add(byte(wire.KindPeer), wire.Peer{Channel: 1, Here: true, Signed: seed.s.nodes[1].signed(7)}.Append(nil))
	f.Add(byte(wire.KindPeer), wire.Peer{Channel: 1}.Append(nil))
	f.Add(byte(wire.KindDrain), wire.Drain{Seconds: 3}.Append(nil))
	f.Add(byte(wire.KindClose), []byte(nil))
	s, x, _, d := fuzzed(f)
	f.Fuzz(func(t *testing.T, kind byte, body []byte) {
		if b := d.m.base(x.id.Address()); b.cur == nil || b.old != nil || !b.leaveAt.IsZero() {
			s, x, _, d = fuzzed(t)
		}
		s.t = t
		d.events = nil
		r := d.m.base(x.id.Address()).cur
		for range 3 {
			r.message(s.now, wire.Kind(kind), body)
			d.turn()
		}
		s.run(time.Second)
		for _, e := range d.events {
			if e.Type == PeerHere && e.Record.Address() != e.Peer {
				t.Errorf("a record of %v for %v", e.Record.Address(), e.Peer)
			}
		}
	})
}

// FuzzStream: whatever comes over a connection, reading ends and nothing panics.
func FuzzStream(f *testing.F) {
	f.Add([]byte{0, 1, 2})
	f.Add(append([]byte{0, 86}, wire.Cookie{}.Append(nil)...))
	f.Add(append([]byte{0, 17, 0x49, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0, 7}, 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		ours, theirs := net.Pipe()
		s := newStream(ours)
		_, table := testRelay(s, nil)
		go func() { _, _ = theirs.Write(b); theirs.Close() }()
		err := s.read(func(b []byte) {
			if r, inner := table.relayed(b, netip.AddrPort{}, s); r != nil && !bytes.HasSuffix(b, inner) {
				t.Error("not a part of it")
			}
		}, func([]byte) { s.handled() })
		if err == nil {
			t.Error("ended without an error")
		}
	})
}
