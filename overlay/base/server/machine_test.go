package server

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/base/wire"
	"github.com/hnet-robotics/hnet_bridge/overlay/stun"
)

// pair registers two clients that ask for each other, on channels 3 and 9.
func pair(t testing.TB, x *sim) (a, b *simClient) {
	t.Helper()
	a, b = x.client(1).register(), x.client(2).register()
	if a.session == nil || b.session == nil {
		t.Fatal("not registered")
	}
	a.interest(3, b)
	if len(a.peers)+len(b.peers) != 0 {
		t.Fatal("one interest makes no link")
	}
	b.interest(9, a)
	return a, b
}

func TestLink(t *testing.T) {
	x := newSim(t, Limits{}, nil)
	a, b := pair(t, x)
	if g := x.s.Gauges(); g.UDP != 2 || g.Links != 1 || g.Interests != 2 || g.Provisional != 0 {
		t.Errorf("gauges %+v", g)
	}
	if a.welcome.Observed != a.at || a.welcome.Hops != 4 || a.welcome.AlternatePort != 3478 || a.welcome.Keep != 150*time.Second ||
		a.welcome.RelayRate != 200_000 || a.welcome.MaxInterests != 10_000 {
		t.Errorf("welcome %+v", a.welcome)
	}
	for c, want := range map[*simClient]wire.Peer{
		a: {Channel: 3, Here: true, Observed: b.at, Signed: b.signed}, b: {Channel: 9, Here: true, Observed: a.at, Signed: a.signed},
	} {
		if len(c.peers) != 1 || c.peers[0].Channel != want.Channel || !c.peers[0].Here || c.peers[0].Observed != want.Observed ||
			!slices.Equal(c.peers[0].Signed, want.Signed) {
			t.Errorf("told %+v, want %+v", c.peers, want)
		}
	}

	a.relay(3, "one", "two", "tre")
	b.relay(9, "back")
	if len(b.relayed) != 3 || string(b.relayed[1]) != "\x09two" || len(a.relayed) != 1 || string(a.relayed[0]) != "\x03back" {
		t.Errorf("relayed %q and %q", b.relayed, a.relayed)
	}
	if st := x.s.Stats(); st.RelayedPackets.Load() != 4 || st.RelayedBytes.Load() != 13 {
		t.Errorf("counted %d datagrams, %d bytes", st.RelayedPackets.Load(), st.RelayedBytes.Load())
	}

	// Nothing is relayed on channels without link, and no answer comes.
	a.relay(4, "nowhere")
	if len(b.relayed) != 3 || a.unknown != 0 || x.s.Stats().DroppedNoLink.Load() != 1 {
		t.Errorf("a channel without link: %q, %d unknown", b.relayed, a.unknown)
	}

	b.queue(wire.KindUninterest, wire.Uninterest{Channels: []uint32{9}}.Append(nil))
	if last := a.peers[len(a.peers)-1]; last.Here || last.Channel != 3 || len(last.Signed) != 0 {
		t.Errorf("after the end of the interest: %+v", last)
	}
	if g := x.s.Gauges(); g.Links != 0 || g.Interests != 1 {
		t.Errorf("gauges %+v", g)
	}
	a.relay(3, "late")
	if len(b.relayed) != 3 {
		t.Error("relayed without a link")
	}
}

// TestTrainStaysWhole: what came as one train leaves as one, but for datagrams of another channel within.
func TestTrainStaysWhole(t *testing.T) {
	x := newSim(t, Limits{}, nil)
	a, b := pair(t, x)
	c := x.client(3).register()
	c.interest(1, a)
	a.interest(4, c)
	train := func(channels ...uint32) {
		var all []byte
		for i, channel := range channels {
			d := make([]byte, 100)
			if i == len(channels)-1 {
				d = d[:40]
			}
			wire.PutRelay(d, a.welcome.Session, a.welcome.Token, channel)
			all = append(all, d...)
		}
		x.train(a.at, all, 100)
		x.pumpAll()
	}
	train(3, 3, 3, 4, 4, 3)
	var got []int
	for _, m := range x.sock.take() {
		if m.Segment != 0 && m.Segment != 100 {
			t.Errorf("segment %d", m.Segment)
		}
		if m.Remote == b.at {
			got = append(got, len(m.Buf))
		} else if m.Remote == c.at {
			got = append(got, -len(m.Buf))
		}
	}
	if !slices.Equal(got, []int{300, -200, 40}) {
		t.Errorf("trains of %d bytes", got)
	}
}

// A client that gives a stranger's endpoint as its own has nothing sent there but a challenge no longer than what it sent.
func TestForgedSource(t *testing.T) {
	x := newSim(t, Limits{}, nil)
	a, b := pair(t, x)
	old := a.at
	victim := netip.MustParseAddrPort("203.0.113.66:80")
	a.mute = true
	for i := range 20 {
		forged := a.session.Unsequenced(x.now, wire.KindPing, make([]byte, 8))
		sent := x.strayTo(victim)
		x.arrive(victim, forged)
		x.deliver()
		if got := x.strayTo(victim) - sent; got > len(forged) {
			t.Fatalf("%d bytes to the victim for %d, the %dth time", got, len(forged), i)
		}
		b.relay(9, "camera")
	}
	if a.at != old || len(a.relayed) != 20 || x.s.Stats().Moved.Load() != 0 {
		t.Errorf("%d of 20 datagrams reach the client, moved %d times", len(a.relayed), x.s.Stats().Moved.Load())
	}
	if last := b.peers[len(b.peers)-1]; last.Observed == victim {
		t.Error("the peer is told of the victim's endpoint")
	}
}

// strayTo counts the bytes that were sent to an endpoint where no client is.
func (x *sim) strayTo(at netip.AddrPort) (n int) {
	for _, m := range x.stray {
		if m.Remote == at {
			n += len(m.Buf)
		}
	}
	return n
}

func TestRebinding(t *testing.T) {
	x := newSim(t, Limits{}, nil)
	a, b := pair(t, x)
	old := a.at
	late := a.session.Unsequenced(x.now, wire.KindPing, make([]byte, 8))
	a.move(netip.MustParseAddrPort("203.0.113.9:1234"))

	// Relayed datagrams from elsewhere move nothing; they are answered so that the client proves itself.
	a.relay(3, "from elsewhere")
	if len(b.relayed) != 0 || a.unknown != 1 {
		t.Fatalf("relayed %q, %d unknown", b.relayed, a.unknown)
	}
	a.ping()
	x.deliver()
	if last := a.pongs[len(a.pongs)-1]; last.Observed != a.at || last.Hops != 4 {
		t.Errorf("pong %+v", last)
	}
	if last := b.peers[len(b.peers)-1]; last.Observed != a.at || !last.Here {
		t.Errorf("the peer is told %+v", last)
	}
	// An old datagram that arrives late, or is repeated from elsewhere, does not move it back.
	x.arrive(old, late)
	x.deliver()
	a.relay(3, "again")
	if len(b.relayed) != 1 || x.s.Stats().Moved.Load() != 1 {
		t.Errorf("relayed %q, moved %d times", b.relayed, x.s.Stats().Moved.Load())
	}
}

// TestReplays: repeated registers end nobody's registration.
func TestReplays(t *testing.T) {
	x := newSim(t, Limits{}, nil)
	a, b := pair(t, x)
	first := a.registered
	x.arrive(a.at, first)
	x.deliver()
	if x.s.Stats().Repeated.Load() != 1 || x.s.Gauges().Provisional != 0 {
		t.Error("the register of the session that is there was taken again")
	}
	a.register()
	a.interest(3, b)
	a.relay(3, "new session")
	if len(b.relayed) != 1 || x.s.Gauges().UDP != 2 {
		t.Fatalf("relayed %q, %+v", b.relayed, x.s.Gauges())
	}
	// The first session's register makes a provisional registration that nobody can use.
	x.arrive(a.at, first)
	x.deliver()
	if x.s.Gauges().Provisional != 1 {
		t.Errorf("%+v", x.s.Gauges())
	}
	a.relay(3, "still")
	if len(b.relayed) != 2 {
		t.Errorf("relayed %q", b.relayed)
	}
	x.sleep(provisionalTime + time.Second)
	if g := x.s.Gauges(); g.Provisional != 0 || g.UDP != 2 {
		t.Errorf("%+v", g)
	}
	for _, p := range b.peers {
		if !p.Here {
			t.Error("its peer was told that it went, though it registered again at once")
		}
	}
}

// TestWelcomeLost: the register comes again, and so does the welcome.
func TestWelcomeLost(t *testing.T) {
	x := newSim(t, Limits{}, nil)
	a := x.client(1)
	a.hold = true
	a.register()
	if x.s.Gauges().UDP != 0 || x.s.Gauges().Provisional != 1 {
		t.Fatalf("%+v", x.s.Gauges())
	}
	x.arrive(a.at, a.registered)
	x.pumpAll()
	if sent := x.sock.take(); len(sent) != 1 || wire.TypeOf(sent[0].Buf) != wire.TypeWelcome {
		t.Fatalf("sent %v", sent)
	}
	a.ping()
	x.deliver()
	if x.s.Gauges().UDP != 1 || x.s.Stats().Handshakes.Load() != 1 {
		t.Errorf("%+v, %d handshakes", x.s.Gauges(), x.s.Stats().Handshakes.Load())
	}
}

// TestReunion: peers of a client that registers again and names them no more are told after a moment.
func TestReunion(t *testing.T) {
	x := newSim(t, Limits{}, nil)
	a, b := pair(t, x)
	a.register()
	if last := b.peers[len(b.peers)-1]; !last.Here {
		t.Fatal("told too early")
	}
	x.sleep(reunion + time.Second)
	if last := b.peers[len(b.peers)-1]; last.Here {
		t.Fatal("not told")
	}
	a.interest(5, b)
	if last := b.peers[len(b.peers)-1]; !last.Here || a.peers[len(a.peers)-1].Channel != 5 {
		t.Fatal("not told")
	}
}

func TestExpiry(t *testing.T) {
	x := newSim(t, Limits{}, nil)
	a, b := pair(t, x)
	x.sleep(time.Second)
	delete(x.clients, a.at) // it falls silent, and owes nothing
	for range 6 {
		x.sleep(24 * time.Second)
		b.ping()
		x.deliver()
	}
	if x.s.Gauges().UDP != 2 {
		t.Fatal("expired too early")
	}
	x.sleep(8 * time.Second)
	if g := x.s.Gauges(); g.UDP != 1 || g.Links != 0 || x.s.Stats().Expired.Load() != 1 {
		t.Errorf("%+v", g)
	}
	if last := b.peers[len(b.peers)-1]; last.Here {
		t.Error("its peer was not told")
	}
	x.clients[a.at] = a
	a.ping()
	x.deliver()
	if a.unknown != 1 {
		t.Error("it was not told that it is unknown")
	}
	if len(x.s.registry.known) != 1 || len(x.s.registry.prefixes) != 1 || len(x.s.registry.ephemerals) != 1 || len(x.s.registry.timers) != 1 ||
		len(x.s.registry.slots)-len(x.s.registry.free) != 1 {
		t.Error("something stays of it")
	}
}

func TestClose(t *testing.T) {
	x := newSim(t, Limits{}, nil)
	a, b := pair(t, x)
	a.say(wire.KindClose, nil)
	x.deliver()
	if last := b.peers[len(b.peers)-1]; last.Here || x.s.Gauges().UDP != 1 {
		t.Error("it did not go")
	}
}

func TestRecordChange(t *testing.T) {
	x := newSim(t, Limits{}, nil)
	a, b := pair(t, x)
	newer := signedRecord(t, a.id, 2)
	a.queue(wire.KindRecord, newer)
	if last := b.peers[len(b.peers)-1]; !slices.Equal(last.Signed, newer) {
		t.Error("its peer did not get the record")
	}
	told := len(b.peers)
	a.queue(wire.KindRecord, a.signed)                  // older
	a.queue(wire.KindRecord, newer)                     // the same
	a.queue(wire.KindRecord, signedRecord(t, b.id, 99)) // another's
	if len(b.peers) != told {
		t.Error("its peer got a record that is none")
	}
	// Many changes are told, but not each of them.
	for n := range uint64(15) {
		a.queue(wire.KindRecord, signedRecord(t, a.id, 3+n))
	}
	if n := len(b.peers) - told; n > 9 {
		t.Errorf("told %d changes at once", n)
	}
	x.sleep(3 * time.Second)
	if last := b.peers[len(b.peers)-1]; !slices.Equal(last.Signed, signedRecord(t, a.id, 17)) {
		t.Error("its peer did not get the last record")
	}
	// A register with an older record is an old one.
	a.register()
	if x.s.Stats().RefusedStale.Load() != 1 {
		t.Error("an old register was taken")
	}
}

func TestFilterTest(t *testing.T) {
	x := newSim(t, Limits{}, nil)
	a := x.client(1).register()
	for range 10 {
		a.say(wire.KindFilterTest, make([]byte, 12))
	}
	x.pumpAll()
	for _, m := range x.other.take() {
		if m.Remote != a.at || wire.TypeOf(m.Buf) != wire.TypeFilterProbe {
			t.Errorf("the alternate port sends %x to %v", m.Buf, m.Remote)
		}
		a.probes++
	}
	if a.probes != 4 {
		t.Errorf("%d filter probes, want a burst of 4", a.probes)
	}
}

func TestSTUN(t *testing.T) {
	x := newSim(t, Limits{}, nil)
	for i, from := range []string{"192.0.2.1:4000", "[2001:db8::1]:4000"} {
		request := stun.AppendRequest(nil, [12]byte{byte(i)})
		x.arrive(netip.MustParseAddrPort(from), request)
		x.deliver()
		id, mapped, ok := stun.ParseSuccess(x.stray[len(x.stray)-1].Buf)
		if !ok || id[0] != byte(i) || mapped.String() != from {
			t.Errorf("answer %v %v", mapped, ok)
		}
	}
	answered := len(x.stray)
	for port := range uint16(1000) {
		x.arrive(netip.AddrPortFrom(netip.MustParseAddr("192.0.2.77"), port+1), stun.AppendRequest(nil, [12]byte{}))
	}
	x.deliver()
	if n := len(x.stray) - answered; n > 200 {
		t.Errorf("%d answers to one prefix at once", n)
	}
}

func TestAdmit(t *testing.T) {
	let := identityOf(1).Address()
	x := newSim(t, Limits{}, func(a netip.Addr) bool { return a == let })
	if x.client(1).register().session == nil || x.client(2).register().session != nil || x.s.Stats().RefusedAdmission.Load() != 1 {
		t.Error("let in who is not to be, or not who is")
	}
}

// TestReview: who is not let in any more is out at once, and the peers are told.
func TestReview(t *testing.T) {
	var banned netip.Addr
	x := newSim(t, Limits{}, func(a netip.Addr) bool { return a != banned })
	a, b := pair(t, x)
	banned = a.id.Address()
	x.s.Review()
	x.deliver()
	if last := b.peers[len(b.peers)-1]; last.Here || x.s.Gauges().UDP != 1 {
		t.Errorf("it is still there: %+v", x.s.Gauges())
	}
	a.ping()
	x.deliver()
	if a.unknown != 1 || a.register().session != nil {
		t.Error("it is not told, or let in again")
	}
}

// TestRelayRate: a client gets its rate and burst and no more.
func TestRelayRate(t *testing.T) {
	x := newSim(t, Limits{RelayRate: 8_000_000, RelayBurst: 100_000}, nil)
	a, b := pair(t, x)
	payload := string(make([]byte, 984))
	send := func() (bytes int) {
		before := len(b.relayed)
		for range 500 {
			a.relay(3, payload)
		}
		return 1000 * (len(b.relayed) - before)
	}
	if n := send(); n < 99_000 || n > 101_000 {
		t.Errorf("%d bytes at once, want the burst of 100,000", n)
	}
	x.sleep(50 * time.Millisecond)
	if n := send(); n < 48_000 || n > 52_000 {
		t.Errorf("%d bytes after 50 ms, want 50,000", n)
	}
}

func TestInterestBounds(t *testing.T) {
	x := newSim(t, Limits{Interests: 40, AllInterests: 50}, nil)
	a, b := x.client(1).register(), x.client(2).register()
	for _, c := range []*simClient{a, b} {
		var links []wire.Link
		for i := range 45 {
			links = append(links, wire.Link{Channel: uint32(i + 1), Address: identityOf(100 + i).Address()})
		}
		c.queue(wire.KindInterest, wire.Interest{Links: links}.Append(nil))
	}
	if g := x.s.Gauges(); g.Interests != 50 {
		t.Errorf("%d interests, want 40 and then 10", g.Interests)
	}
	// A channel with another address, and an address with another channel.
	a.interest(3, b)
	b.interest(4, a)
	b.interest(7, a)
	if last := a.peers[len(a.peers)-1]; !last.Here || last.Channel != 3 {
		t.Errorf("%+v", last)
	}
	if last := b.peers[len(b.peers)-1]; !last.Here || last.Channel != 7 {
		t.Errorf("%+v", last)
	}
	a.relay(3, "x")
	if len(b.relayed) != 1 || b.relayed[0][0] != 7 {
		t.Errorf("relayed %q", b.relayed)
	}
	a.say(wire.KindClose, nil)
	b.say(wire.KindClose, nil)
	if g := x.s.Gauges(); g.Interests != 0 || g.Links != 0 {
		t.Errorf("%+v", g)
	}
}

// TestFull: nobody who is there makes room, but who did not show himself does.
func TestFull(t *testing.T) {
	x := newSim(t, Limits{Registrations: 3}, nil)
	x.client(1).register()
	held := x.client(2)
	held.hold = true
	held.register()
	x.client(3).register()
	if c := x.client(4).register(); c.session == nil || x.s.Gauges().UDP != 3 {
		t.Errorf("the provisional registration did not make room: %+v", x.s.Gauges())
	}
	if c := x.client(5).register(); c.session != nil || x.s.Stats().RefusedFull.Load() == 0 {
		t.Errorf("one too many: %+v", x.s.Gauges())
	}
}

// TestManyLinks: more peer messages than the session's queue holds arrive nevertheless.
func TestManyLinks(t *testing.T) {
	x := newSim(t, Limits{}, nil)
	hub := x.client(1).register()
	const n = 300
	for i := range n {
		c := x.client(2 + i).register()
		c.interest(1, hub)
	}
	for i := 0; i < n; i += 30 {
		var links []wire.Link
		for j := i; j < i+30; j++ {
			links = append(links, wire.Link{Channel: uint32(j + 1), Address: identityOf(2 + j).Address()})
		}
		hub.queue(wire.KindInterest, wire.Interest{Links: links}.Append(nil))
	}
	x.sleep(2 * time.Second)
	here := map[uint32]bool{}
	for _, p := range hub.peers {
		here[p.Channel] = p.Here
	}
	if len(here) != n || x.s.Gauges().Links != n {
		t.Errorf("told of %d peers, %+v", len(here), x.s.Gauges())
	}
	hub.move(netip.MustParseAddrPort("198.51.100.1:99"))
	hub.ping()
	x.sleep(2 * time.Second)
	for _, c := range x.clients {
		if c != hub && c.peers[len(c.peers)-1].Observed != hub.at {
			t.Fatal("a peer was not told of the new endpoint")
		}
	}
}
