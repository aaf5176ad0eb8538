package client

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/base/wire"
	"github.com/hnet-robotics/hnet_bridge/overlay/record"
)

// The peer is at home at other Bases: contact is found there, and kept while it is used.
func TestWantFindsThePeerElsewhere(t *testing.T) {
	s := newSimulation(t)
	w, x, y, z := s.base(1, 5*time.Millisecond), s.base(2, 10*time.Millisecond), s.base(3, 50*time.Millisecond), s.base(4, 60*time.Millisecond)
	d, peer, third := s.node(1, false), s.node(2, false), s.node(3, false)
	d.interests(peer, third)
	peer.interests(d)
	d.servers(w, x, y, z)
	peer.servers(y, z)
	s.run(time.Minute)
	if !d.at(w, x) || !peer.at(y, z) || len(d.relays(peer)) != 0 {
		t.Fatal("they met without wanting")
	}
	d.want(peer)
	took := s.until(time.Second, "met", func() bool { return len(d.relays(peer)) == 2 && len(peer.relays(d)) == 2 })
	t.Logf("met after %v", took)
	if took > 500*time.Millisecond || !d.at(w, x, y, z) {
		t.Errorf("after %v", took)
	}
	if n := len(y.clients[d.id.Address()].interests); n != 1 {
		t.Errorf("%d peers are asked for where one is wanted", n)
	}
	if home := d.m.home(); len(home) != 2 || slices.Contains(home, y.id.Address()) {
		t.Errorf("home is %v", home)
	}
	// In use by one, for longer than contact is wanted; the other is left.
	r := d.relays(peer)[0]
	for range 300 {
		if err := d.say(r, "x"); err != nil {
			t.Fatal(err)
		}
		s.run(time.Second)
	}
	if !d.at(w, x, y) || !r.Live() || r.Base() != y.id.Address() {
		t.Error("a relay in use is given up, or one that is not is kept")
	}
	s.run(130 * time.Second)
	if !d.at(w, x) || r.Live() || len(peer.relays(d)) != 0 {
		t.Error("a relay is kept that is not used")
	}

	// One who is nowhere.
	d.want(third)
	s.run(time.Second)
	if !d.at(w, x, y, z) {
		t.Error("not looked for everywhere")
	}
	s.run(wantedFor + time.Second)
	if !d.at(w, x) || len(d.m.wanted) != 0 {
		t.Error("looked for too long")
	}
	// One who is here already.
	peer.servers(w)
	s.until(time.Second, "met", func() bool { return len(d.relays(peer)) == 1 })
	d.want(peer)
	s.run(time.Second)
	if !d.at(w, x) {
		t.Error("looked for who is here")
	}
}

// A peer that is no interest may be wanted.
func TestWantOfStrangers(t *testing.T) {
	s, _, _, _, d, _ := pair(t, false)
	stranger := s.node(3, false)
	stranger.interests(d)
	stranger.servers(s.bases...)
	d.want(stranger)
	s.until(time.Second, "met", func() bool { return len(d.relays(stranger)) == 2 })
	s.until(2*time.Minute, "forgotten", func() bool { return len(d.relays(stranger)) == 0 && len(d.m.peers) == 1 })
	for i := range 5000 {
		d.m.want(s.now, testIdentity(1_000_000+i).Address())
		if i > maxWanted {
			break
		}
	}
	if len(d.m.wanted) > maxWanted {
		t.Errorf("%d are wanted", len(d.m.wanted))
	}
}

func TestManyInterests(t *testing.T) {
	s := newSimulation(t)
	x := s.base(1, 20*time.Millisecond)
	d, peer, urgent := s.node(1, false), s.node(2, false), s.node(3, false)
	peer.interests(d)
	peer.servers(x)
	urgent.interests(d)
	urgent.servers(x)
	s.run(time.Second)
	var all []netip.Addr
	raw := testIdentity(5).Address().As16()
	for i := range maxInterests + 100 {
		raw[14], raw[15] = byte(i>>8), byte(i)
		all = append(all, netip.AddrFrom16(raw))
	}
	all[maxInterests-2], all[maxInterests-3] = peer.id.Address(), urgent.id.Address()
	d.m.setInterests(append(all, all...))
	d.m.want(s.now, urgent.id.Address())
	d.servers(x)
	if took := s.until(time.Second, "who is wanted", func() bool { return len(d.relays(urgent)) == 1 }); took > 250*time.Millisecond {
		t.Errorf("who is wanted comes after %v", took)
	}
	took := s.until(time.Minute, "told", func() bool { return len(x.clients[d.id.Address()].interests) == maxInterests })
	s.run(time.Second)
	t.Logf("10,000 interests are told in %v", took)
	if took > 3*time.Second || len(d.relays(peer)) != 1 {
		t.Errorf("after %v", took)
	}
	// Deltas: what stays keeps its channel, and costs nothing.
	c := x.clients[d.id.Address()]
	channel, before := c.of[peer.id.Address()], x.seen[wire.TypeControl]
	d.m.setInterests(all[100:maxInterests])
	d.turn()
	s.run(time.Second)
	if len(c.interests) != maxInterests-100 || c.of[peer.id.Address()] != channel || x.seen[wire.TypeControl]-before > 3 {
		t.Errorf("%d interests, %d control datagrams", len(c.interests), x.seen[wire.TypeControl]-before)
	}
	d.m.setInterests(all[50:maxInterests])
	d.turn()
	s.run(time.Second)
	if len(c.interests) != maxInterests-50 || len(d.relays(peer)) != 1 {
		t.Errorf("%d interests", len(c.interests))
	}
	d.m.setInterests(nil)
	d.turn()
	s.run(wantedFor + 3*time.Second)
	if len(c.interests) != 0 || len(d.m.peers) != 0 || len(d.relays(peer)) != 0 {
		t.Errorf("%d interests and %d records are left", len(c.interests), len(d.m.peers))
	}
}

// A Base that takes few: the wanted are told, and channels are used again.
func TestFewInterests(t *testing.T) {
	s := newSimulation(t)
	x := s.base(1, 20*time.Millisecond)
	x.max = 3
	d, peer := s.node(1, false), s.node(2, false)
	peer.interests(d)
	peer.servers(x)
	var all []netip.Addr
	for i := range 10 {
		all = append(all, testIdentity(50+i).Address())
	}
	d.m.setInterests(append(all, peer.id.Address()))
	d.servers(x)
	s.run(time.Second)
	for i := range 4 {
		d.want(peer)
		s.until(time.Second, "met", func() bool { return len(d.relays(peer)) == 1 })
		s.run(wantedFor + 2*time.Second)
		if len(d.relays(peer)) != 0 || len(x.clients[d.id.Address()].interests) != 3 {
			t.Errorf("round %d: %d interests", i, len(x.clients[d.id.Address()].interests))
		}
	}
	if len(d.logs) == 0 {
		t.Error("nobody is told")
	}
}

func TestRecords(t *testing.T) {
	s, x, y, _, d, peer := pair(t, false)
	last := func() Event {
		for _, e := range slices.Backward(d.events) {
			if e.Type == PeerHere {
				return e
			}
		}
		return Event{}
	}
	update := func(sequence uint64) {
		if err := peer.m.setRecord(peer.signed(sequence)); err != nil {
			t.Fatal(err)
		}
		peer.turn()
		s.run(time.Second)
	}
	update(10)
	if last().Record.Sequence != 10 || d.told(PeerHere, x, peer) != 2 || d.told(PeerHere, y, peer) != 2 {
		t.Errorf("sequence %d, told %d times", last().Record.Sequence, d.told(PeerHere, x, peer))
	}
	r := d.relays(peer)[0]
	// A Base has an old one: nothing goes back.
	n := len(d.events)
	update(5)
	for _, e := range d.events[n:] {
		if e.Type == PeerHere && e.Record.Sequence != 10 {
			t.Errorf("went back to %d", e.Record.Sequence)
		}
	}
	// Another's record, a forged one, a channel nobody asked for.
	n = len(d.events)
	reg := d.m.base(x.id.Address()).cur
	channel := reg.channels.of[peer.id.Address()]
	forged := peer.signed(20)
	forged[len(forged)-1] ^= 1
	for _, p := range []wire.Peer{
		{Channel: channel, Here: true, Signed: d.signed(100)},
		{Channel: channel, Here: true, Signed: forged},
		{Channel: channel + 1, Here: true, Signed: peer.signed(20)},
		{Channel: 1 << 31, Here: true, Signed: peer.signed(20)},
		{Channel: channel + 1},
	} {
		reg.message(s.now, wire.KindPeer, p.Append(nil))
	}
	d.turn()
	if len(d.events) != n || !r.Live() {
		t.Errorf("believed: %+v", d.events[n:])
	}
	// Where a peer cannot be, it is not.
	reg.message(s.now, wire.KindPeer, wire.Peer{Channel: channel, Here: true, Signed: peer.signed(21), Observed: netip.MustParseAddrPort("[fc94::1]:1")}.Append(nil))
	d.turn()
	if e := last(); e.Record.Sequence != 21 || e.Observed.IsValid() {
		t.Errorf("%+v", e)
	}

	other := record.Record{Sequence: 1, Lifetime: time.Hour}
	b, err := other.Sign(peer.id)
	if err != nil {
		t.Fatal(err)
	}
	if d.m.setRecord(b) == nil || d.m.setRecord([]byte("x")) == nil {
		t.Error("took a record that is none of ours")
	}
}

func TestNoRecordNoRegistration(t *testing.T) {
	s := newSimulation(t)
	x := s.base(1, 10*time.Millisecond)
	d := s.node(1, false)
	d.m.signed = nil
	d.servers(x)
	s.run(10 * time.Second)
	if len(d.registered()) > 0 || x.seen[wire.TypeRegister] > 0 {
		t.Error("registered without a record")
	}
	if st := d.m.status()[0]; st.RTT == 0 {
		t.Error("not measured")
	}
	if err := d.m.setRecord(d.signed(1)); err != nil {
		t.Fatal(err)
	}
	d.turn()
	s.until(time.Second, "registered", func() bool { return d.at(x) })
}

func TestFilterTest(t *testing.T) {
	s, x, _, z, d, _ := pair(t, false)
	n := x.seen[wire.TypeControl]
	if err := d.m.filterTest(s.now, x.id.Address(), [12]byte{1}); err != nil {
		t.Fatal(err)
	}
	d.turn()
	s.run(time.Second)
	if x.seen[wire.TypeControl] == n {
		t.Error("not asked")
	}
	if d.m.filterTest(s.now, z.id.Address(), [12]byte{1}) == nil {
		t.Error("asked who is not registered with")
	}
	from := netip.AddrPortFrom(x.addr.Addr(), 3478)
	d.m.datagram(s.now, wire.FilterProbe{Nonce: [12]byte{1}}.Append(nil), from)
	d.turn()
	if e := d.events[len(d.events)-1]; e.Type != FilterProbe || e.Base != x.id.Address() || e.Nonce[0] != 1 || e.From != from {
		t.Errorf("%+v", e)
	}
}

// Two with one identity take the registration from each other, but not at full speed.
func TestCloneFight(t *testing.T) {
	s := newSimulation(t)
	x := s.base(1, 10*time.Millisecond)
	a, b := s.node(1, false), s.node(2, false)
	clone := s.node(1, false)
	clone.addr = netip.MustParseAddrPort("192.0.2.50:5582")
	a.servers(x)
	b.servers(x)
	s.run(time.Second)
	clone.servers(x)
	s.run(time.Hour)
	if n := x.seen[wire.TypeRegister]; n > 1500 {
		t.Errorf("%d registers in an hour", n)
	}
}
