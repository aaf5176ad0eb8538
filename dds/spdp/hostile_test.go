package spdp

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// attack is a victim with a participant, an honest peer with one, and a peer that says what it likes.
type attack struct {
	*world
	victim, honest *simHost
	list           []*program // the victim's and the honest one's
	enemy          netip.Addr
	counter        uint32
}

func newAttack(t *testing.T) *attack {
	w := newWorld(t, 2)
	a := &attack{world: w, victim: w.hosts[0], honest: w.hosts[1], enemy: overlayAddr(666)}
	w.whitelist()
	a.victim.peers = append(a.victim.peers, Peer{Address: a.enemy, Connected: true})
	for _, h := range w.hosts {
		h.start()
		a.list = append(a.list, h.program(0))
	}
	w.run(4 * time.Second)
	w.must(a.list, all, "before the attack")
	return a
}

// mine is the victim's session with the enemy.
func (a *attack) mine() session { return a.victim.m.peers[a.enemy].mine }

// send delivers a message of the enemy's.
func (a *attack) send(m message) {
	a.counter++
	m.session, m.heard, m.counter = 1<<32, a.mine(), a.counter
	a.raw(m.append(nil))
}

func (a *attack) raw(b []byte) {
	a.victim.m.Remote(a.now, netip.AddrPortFrom(a.enemy, PeerPort), b)
	a.victim.flush()
}

// data is a participant at an address.
func data(prefix wire.GuidPrefix, addr netip.Addr) wire.ParticipantData {
	here := wire.LocatorFrom(netip.AddrPortFrom(addr, 7410))
	return wire.ParticipantData{
		GUID: wire.GUID{Prefix: prefix, Entity: wire.EntityParticipant}, Version: wire.Version, Vendor: wire.VendorCyclone, Builtin: wire.HasAll,
		Lease: 10 * time.Second, MetatrafficUnicast: []wire.Locator{here}, DefaultUnicast: []wire.Locator{here}, HasDomainID: true,
	}
}

func announce(d wire.ParticipantData) message {
	return message{kind: kindAnnounce, announce: announcement{
		prefix: d.GUID.Prefix, revision: 1, sn: 1, version: wire.Version, vendor: d.Vendor, domain: uint16(d.DomainID), payload: d.Append(nil),
	}}
}

func enemyPrefix(i int) wire.GuidPrefix { return wire.GuidPrefix{6, 6, 6, byte(i >> 8), byte(i)} }

// unharmed checks that the attack changed nothing for the others.
func (a *attack) unharmed() {
	a.t.Helper()
	a.run(4 * time.Second)
	a.must(a.list, all, "after the attack")
	for _, p := range a.list {
		for prefix, d := range p.known {
			if prefix[3] == p.prefix[3] {
				continue // of the same host
			}
			for _, l := range append(d.MetatrafficUnicast, d.DefaultUnicast...) {
				want := a.enemy
				for _, other := range a.list {
					if other.prefix == prefix {
						want = other.host.addr
					}
				}
				if addr, ok := l.AddrPort(); !ok || addr.Addr() != want {
					a.t.Errorf("%v is told that %v is at %v", p.prefix, prefix, l)
				}
			}
		}
	}
}

// TestForged: announcements that are of others, or aim elsewhere, are refused.
func TestForged(t *testing.T) {
	for name, c := range map[string]struct {
		make func(a *attack) message
		ok   bool
	}{
		"honest":                  {func(a *attack) message { return announce(data(enemyPrefix(1), a.enemy)) }, true},
		"of the victim's":         {func(a *attack) message { return announce(data(a.list[0].prefix, a.enemy)) }, false},
		"of another peer's":       {func(a *attack) message { return announce(data(a.list[1].prefix, a.enemy)) }, false},
		"of the relay itself":     {func(a *attack) message { return announce(data(a.victim.m.probe, a.enemy)) }, false},
		"at another's address":    {func(a *attack) message { return announce(data(enemyPrefix(1), a.honest.addr)) }, false},
		"at the victim's address": {func(a *attack) message { return announce(data(enemyPrefix(1), a.victim.addr)) }, false},
		"at an address outside":   {func(a *attack) message { return announce(data(enemyPrefix(1), netip.MustParseAddr("2001:db8::1"))) }, false},
		"at an IPv4 address":      {func(a *attack) message { return announce(data(enemyPrefix(1), netip.MustParseAddr("192.0.2.1"))) }, false},
		"at a group":              {func(a *attack) message { return announce(data(enemyPrefix(1), netip.MustParseAddr("ff02::1"))) }, false},
		"of nobody":               {func(a *attack) message { return announce(data(wire.PrefixUnknown, a.enemy)) }, false},
		"another inside than outside": {func(a *attack) message {
			m := announce(data(enemyPrefix(1), a.enemy))
			m.announce.prefix = enemyPrefix(2)
			return m
		}, false},
		"another domain inside than outside": {func(a *attack) message {
			m := announce(data(enemyPrefix(1), a.enemy))
			m.announce.domain = 5
			return m
		}, false},
		"one locator of many elsewhere": {func(a *attack) message {
			d := data(enemyPrefix(1), a.enemy)
			d.MetatrafficUnicast = append([]wire.Locator{wire.LocatorFrom(netip.AddrPortFrom(a.honest.addr, 7410))}, d.MetatrafficUnicast...)
			d.DefaultUnicast = append(d.DefaultUnicast, wire.LocatorFrom(netip.MustParseAddrPort("192.0.2.1:7411")))
			d.DefaultMulticast = []wire.Locator{wire.LocatorFrom(netip.MustParseAddrPort("239.255.0.1:7401"))}
			return announce(d)
		}, true},
		"a system port": {func(a *attack) message {
			d := data(enemyPrefix(1), a.enemy)
			d.MetatrafficUnicast[0].Port = 53
			return announce(d)
		}, false},
		"cut off": {func(a *attack) message {
			m := announce(data(enemyPrefix(1), a.enemy))
			m.announce.payload = m.announce.payload[:40]
			return m
		}, false},
		"no list": {func(a *attack) message {
			m := announce(data(enemyPrefix(1), a.enemy))
			m.announce.payload = []byte("0123456789abcdef")
			return m
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAttack(t)
			m := c.make(a)
			a.send(m)
			a.run(200 * time.Millisecond)
			p := a.list[0]
			if _, known := p.known[m.announce.prefix]; known && !c.ok && m.announce.prefix != a.list[1].prefix {
				t.Errorf("the participant was told of it: %+v", p.known[m.announce.prefix])
			} else if !known && c.ok {
				t.Error("the participant was not told of it")
			}
			if n := a.victim.m.Remotes(); n > 2 || !c.ok && n > 1 {
				t.Errorf("%d remote participants", n)
			}
			a.unharmed()
		})
	}
}

// TestForgedEnds: a peer ends nobody's participants but its own.
func TestForgedEnds(t *testing.T) {
	a := newAttack(t)
	last := wire.GuidPrefix(bytes.Repeat([]byte{0xff}, prefixLen))
	a.send(announce(data(enemyPrefix(1), a.enemy)))
	a.run(100 * time.Millisecond)
	if len(a.list[0].known) != 2 {
		t.Fatalf("%d known", len(a.list[0].known))
	}
	a.send(message{kind: kindDigest, complete: true, last: last})
	a.run(100 * time.Millisecond)
	if len(a.list[0].known) != 1 {
		t.Fatalf("%d known, want the honest one alone", len(a.list[0].known))
	}
	// Under others' addresses, as strangers.
	for _, from := range []netip.AddrPort{
		netip.AddrPortFrom(overlayAddr(99), PeerPort), netip.AddrPortFrom(a.honest.addr, 40000), netip.AddrPortFrom(a.victim.addr, PeerPort),
	} {
		m := message{kind: kindDigest, session: 77, counter: 1 << 30, complete: true, last: last}
		a.victim.m.Remote(a.now, from, m.append(nil))
		a.victim.flush()
	}
	a.unharmed()
}

// TestSquatting: whoever claims a local participant's prefix first loses it to the participant.
func TestSquatting(t *testing.T) {
	a := newAttack(t)
	p := a.victim.newProgram(0)
	a.send(announce(data(p.prefix, a.enemy)))
	a.run(100 * time.Millisecond)
	p.announceAlways()
	a.list = append(a.list, p)
	a.unharmed()
}

// TestFlood: tables and traffic have their bounds, whatever a peer sends.
func TestFlood(t *testing.T) {
	a := newAttack(t)
	for i := range 5000 {
		a.send(announce(data(enemyPrefix(i), a.enemy)))
		if i%50 == 0 {
			a.run(20 * time.Millisecond)
		}
	}
	if n := a.victim.m.Remotes(); n > MaxPerPeer+1 {
		t.Errorf("%d remote participants", n)
	}
	before, heard := a.datagrams, a.list[0].heard
	all := message{kind: kindWant, wanted: bytes.Repeat(a.list[0].prefix[:], maxWanted)}
	for range 1000 {
		a.send(all)
		// Changing all the time.
		m := announce(data(enemyPrefix(0), a.enemy))
		m.announce.revision = a.counter
		a.send(m)
		a.run(time.Millisecond)
	}
	if n := a.datagrams - before; n > 1000 {
		t.Errorf("%d datagrams in return for 2,000", n)
	}
	if n := a.list[0].heard - heard; n > 1000 {
		t.Errorf("the participant heard %d messages for 2,000", n)
	}
	s := a.victim.m.Stats()
	if s.Limited == 0 || s.Refused == 0 {
		t.Errorf("%+v", s)
	}
	a.unharmed()
}

// TestManyPeers fills the table of all participants.
func TestManyPeers(t *testing.T) {
	w := newWorld(t, 1)
	h := w.hosts[0]
	for i := range 30 {
		h.peers = append(h.peers, Peer{Address: overlayAddr(1000 + i), Connected: true})
	}
	h.start()
	h.program(0)
	for i := range 30 {
		for k := range MaxPerPeer + 5 {
			m := announce(data(enemyPrefix(i*200+k), overlayAddr(1000+i)))
			m.session, m.heard, m.counter = 1<<32, h.m.peers[overlayAddr(1000+i)].mine, uint32(k+1)
			h.m.Remote(w.now, netip.AddrPortFrom(overlayAddr(1000+i), PeerPort), m.append(nil))
		}
	}
	h.flush()
	if n := h.m.Remotes(); n != MaxParticipants {
		t.Errorf("%d remote participants, want %d", n, MaxParticipants)
	}
	w.run(20 * time.Second) // nobody sends digests
	if n := h.m.Remotes(); n != 0 {
		t.Errorf("%d remote participants after silence", n)
	}
}

// TestNoise: random bytes, and real messages with random changes.
func TestNoise(t *testing.T) {
	a := newAttack(t)
	rng := rand.New(rand.NewPCG(3, 4))
	m := announce(data(enemyPrefix(1), a.enemy))
	m.session, m.heard, m.counter = 1<<32, a.mine(), 1
	seed := m.append(nil)
	for range 20000 {
		b := bytes.Clone(seed)
		for range 1 + rng.IntN(4) {
			b[rng.IntN(len(b))] = byte(rng.Uint32())
		}
		a.raw(b[:rng.IntN(len(b)+1)])
		a.victim.m.Local(a.now, netip.AddrPortFrom(a.victim.addr, 9), b[announceLen:])
		a.run(5 * time.Millisecond)
	}
	a.unharmed()
}

// TestRewrite: nothing but overlay locators leaves, and all else stays as it was.
func TestRewrite(t *testing.T) {
	own := overlayAddr(1)
	d := data(enemyPrefix(1), own)
	d.MetatrafficUnicast = append([]wire.Locator{
		wire.LocatorFrom(netip.MustParseAddrPort("192.168.1.7:7410")), wire.LocatorFrom(netip.MustParseAddrPort("[::1]:7410")),
		{Kind: wire.LocatorSHM, Port: 7410}, wire.LocatorFrom(netip.MustParseAddrPort("127.0.0.1:7410")),
	}, d.MetatrafficUnicast...)
	d.DefaultUnicast = append(d.DefaultUnicast, wire.LocatorFrom(netip.MustParseAddrPort("[fe80::1]:7411")))
	d.MetatrafficMulticast = []wire.Locator{wire.LocatorFrom(netip.MustParseAddrPort("239.255.0.1:7400"))}
	d.UserData, d.Name = []byte("enclave=/;"), "n"
	d.Properties = []wire.Property{{Name: "PARTICIPANT_TYPE", Value: "SIMPLE"}}
	for _, big := range []bool{false, true} {
		w := wire.NewParameterWriter(nil, big)
		w.Participant(&d)
		b, err := rewrite(w.Bytes(), place{six: own})
		if err != nil {
			t.Fatal(err)
		}
		got, err := wire.ParseParticipant(b)
		if err != nil {
			t.Fatal(err)
		}
		if len(got.MetatrafficUnicast) != 1 || len(got.DefaultUnicast) != 1 || len(got.MetatrafficMulticast) != 0 ||
			got.Name != d.Name || string(got.UserData) != string(d.UserData) || len(got.Properties) != 1 || got.Lease != d.Lease || got.Builtin != d.Builtin {
			t.Errorf("big endian %v: %+v", big, got)
		}
		again, err := rewrite(b, place{six: own})
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("rewritten twice: %v", err)
		}
	}
	d.UserData = bytes.Repeat([]byte{'x'}, 1200)
	if _, err := rewrite(d.Append(nil), place{six: own}); err == nil {
		t.Error("one that is too long was accepted")
	}
}

func TestParseSockets(t *testing.T) {
	own := netip.MustParseAddr("fc94::1")
	const heading = "  sl  local_address remote_address st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n"
	line := func(addr string) string {
		return " 484: " + addr + " 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 3644426 2 000000006f5248f7 0\n"
	}
	list, err := parseSockets(strings.NewReader(heading+line("00000000000000000000000000000000:1CF2")+line("000094FC000000000000000001000000:1CF4")+
		line("000080FE000000000000000001000000:1CF6")), own)
	if err != nil || len(list) != 2 || list[0] != (Socket{Port: 7410, Inode: 3644426}) || list[1] != (Socket{Port: 7412, Inode: 3644426}) {
		t.Errorf("%v, %v", list, err)
	}
	for _, bad := range []string{"x\n", line("0000:1CF2"), line("00000000000000000000000000000000"), line("00000000000000000000000000000000:11CF2")} {
		if list, err := parseSockets(strings.NewReader(heading+bad), own); err == nil {
			t.Errorf("%q: %v", bad, list)
		}
	}
}
