package lan

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
)

// forger makes announcements at will with the key of seed number n.
type forger struct {
	t        *testing.T
	id       *identity.Identity
	instance [8]byte
	number   uint32
	nonce    nonce
	record   []byte
	notice   bool
}

func newForger(t *testing.T, n int) *forger {
	id := identity.FromSeed(seed(n))
	return &forger{
		t: t, id: id, instance: [8]byte{1, byte(n >> 16), byte(n >> 8), byte(n)},
		nonce: nonce{2, byte(n >> 16), byte(n >> 8), byte(n)}, record: signed(t, id, 1, endpointsOf(n)...),
	}
}

func (f *forger) announce(echoes ...echo) []byte {
	f.number++
	a := announcement{number: f.number, instance: f.instance, nonce: f.nonce, key: f.id.SigningKey(), record: f.record, notice: f.notice}
	a.count = copy(a.echoes[:], echoes)
	return a.marshal(f.id.Sign)
}

func from4(n int) netip.AddrPort { return netip.AddrPortFrom(host4(n), Port) }
func from6(n int) netip.AddrPort { return netip.AddrPortFrom(host6(n), Port) }

// challengeOf is the nonce that h announces on its interface 1.
func challengeOf(h *simHost) echo { return echo{h.machine.links[1].current.nonce, true} }

func TestOnlyTheRecordsEndpointsAreHandedUp(t *testing.T) {
	for _, c := range []struct {
		name string
		src  netip.AddrPort
		want bool
	}{
		{"IPv4 address in the record", from4(2), true},
		{"IPv4-mapped form of it", netip.AddrPortFrom(netip.AddrFrom16(host4(2).As16()), Port), true},
		{"link-local address in the record", from6(2), true},
		{"link-local address with a zone", netip.AddrPortFrom(host6(2).WithZone("eth0"), Port), true},
		{"IPv4 address of somebody else", from4(3), false},
		{"link-local address of somebody else", from6(3), false},
		{"another port", netip.AddrPortFrom(host4(2), 5582), false},
		{"an address in the record that is not of this subnet", netip.MustParseAddrPort("203.0.113.5:5583"), false},
		{"a global IPv6 address in the record", netip.MustParseAddrPort("[2001:db8::2]:5583"), false},
		{"no address", netip.AddrPort{}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSimulation(t)
			h := s.start(1, 1, 1, map[int]string{1: "lan"})
			f := newForger(t, 2)
			f.record = signed(t, f.id, 1, append(endpointsOf(2),
				netip.MustParseAddrPort("203.0.113.5:5582"), netip.MustParseAddrPort("[2001:db8::2]:5582"))...)
			sighting, _ := h.machine.HandleDatagram(s.now, 1, c.src, f.announce(challengeOf(h)))
			if (sighting != nil) != c.want {
				t.Fatalf("sighting %+v", sighting)
			}
			if !c.want && len(h.machine.links[1].voices)+len(h.machine.peers) != 0 {
				t.Error("it left a trace")
			}
			if c.want && sighting.Endpoint.Port() != 5582 {
				t.Errorf("endpoint %v, want the port of the record", sighting.Endpoint)
			}
		})
	}
}

func TestUnknownInterfaceIsIgnored(t *testing.T) {
	s := newSimulation(t)
	h := s.start(1, 1, 1, map[int]string{1: "lan"})
	if sighting, clone := h.machine.HandleDatagram(s.now, 2, from4(2), newForger(t, 2).announce(challengeOf(h))); sighting != nil || clone != nil {
		t.Error(sighting, clone)
	}
}

func TestReplays(t *testing.T) {
	// capture runs two hosts on a network and returns what the second one sent, by IPv4.
	capture := func(s *simulation, segments map[int]string) (h *simHost, sent [][]byte) {
		h = s.start(1, 1, 1, segments)
		b := s.start(2, 2, 1, map[int]string{1: "lan"})
		s.tap = func(from *simHost, d Datagram) {
			if from == b && d.Source.Is4() {
				sent = append(sent, d.Payload)
			}
		}
		s.run(40 * time.Second)
		b.dead = true
		h.sightings, h.clones = nil, nil
		return h, sent
	}
	replay := func(s *simulation, h *simHost, index int, sent [][]byte) {
		before := h.sent
		for range 20 {
			for _, b := range sent {
				h.receive(index, from4(2), b)
			}
			s.run(100 * time.Millisecond)
		}
		if n := h.sent - before; n > answersBurst+2*answersPerSecond+1 {
			s.t.Errorf("%d replayed datagrams drew %d announcements", 20*len(sent), n)
		}
	}

	t.Run("to another interface", func(t *testing.T) {
		s := newSimulation(t)
		h, sent := capture(s, map[int]string{1: "lan", 2: "other"})
		replay(s, h, 2, sent)
		if len(h.sightings) != 0 {
			t.Errorf("sightings %+v", h.sightings)
		}
	})
	t.Run("to a later run of the receiver", func(t *testing.T) {
		s := newSimulation(t)
		h, sent := capture(s, map[int]string{1: "lan"})
		h.dead = true
		h = s.start(1, 1, 2, map[int]string{1: "lan"})
		replay(s, h, 1, sent)
		if len(h.sightings) != 0 {
			t.Errorf("sightings %+v", h.sightings)
		}
	})
	t.Run("in another network", func(t *testing.T) {
		s := newSimulation(t)
		_, sent := capture(s, map[int]string{1: "lan"})
		h := s.start(3, 3, 2, map[int]string{1: "far"})
		replay(s, h, 1, sent)
		if len(h.sightings) != 0 {
			t.Errorf("sightings %+v", h.sightings)
		}
	})
	t.Run("after the nonces have changed", func(t *testing.T) {
		s := newSimulation(t)
		h, sent := capture(s, map[int]string{1: "lan"})
		s.run(nonceMax + time.Minute)
		replay(s, h, 1, sent)
		if len(h.sightings) != 0 {
			t.Errorf("sightings %+v", h.sightings)
		}
	})
	t.Run("of the run before a restart", func(t *testing.T) {
		s := newSimulation(t)
		h, sent := capture(s, map[int]string{1: "lan"})
		b := s.start(2, 2, 2, map[int]string{1: "lan"})
		s.run(time.Second)
		h.sightings = nil
		for range 20 {
			replay(s, h, 1, sent)
			s.run(15 * time.Second)
		}
		for _, x := range h.sightings {
			if x.Restarted || x.Instance != b.machine.instance {
				t.Errorf("sighting %+v", x)
			}
		}
		if len(h.clones) != 0 {
			t.Errorf("clone alarms %v", h.clones)
		}
	})
	t.Run("cannot bring back an old nonce", func(t *testing.T) {
		s := newSimulation(t)
		h := s.start(1, 1, 1, map[int]string{1: "lan"})
		f := newForger(t, 2)
		old := f.announce()
		f.nonce = nonce{9}
		h.receive(1, from4(2), f.announce())
		h.receive(1, from4(2), old)
		if got := h.machine.links[1].voices[voiceID{f.id.SigningKey(), f.instance}].nonce; got != f.nonce {
			t.Errorf("nonce %x", got)
		}
	})
}

// What is signed cannot be taken apart and put together otherwise.
func TestTampering(t *testing.T) {
	s := newSimulation(t)
	h := s.start(1, 1, 1, map[int]string{1: "lan"})
	f := newForger(t, 2)
	good := f.announce(challengeOf(h))
	other := signed(t, f.id, 2, endpointsOf(2)...)
	stranger := newForger(t, 3)

	tampered := map[string][]byte{
		"record of the same key": bytes.Replace(bytes.Clone(good), f.record, other, 1),
		"truncated":              good[:Size-1],
		"extended":               append(bytes.Clone(good), 0),
		"empty":                  {},
	}
	// The stranger's announcement with the peer's record, signed by the stranger under either key.
	stranger.record = f.record
	tampered["record of another key"] = stranger.announce(challengeOf(h))
	claim := bytes.Clone(tampered["record of another key"])
	key := f.id.SigningKey()
	copy(claim[keyOffset:], key[:])
	copy(claim[Size-signatureLength:], stranger.id.Sign(signedMessage(claim)))
	tampered["key of another"] = claim
	for i := range good {
		flipped := bytes.Clone(good)
		flipped[i] ^= 1 << (i % 8)
		tampered[fmt.Sprint("bit flip at ", i)] = flipped
	}
	for name, b := range tampered {
		s.now = s.now.Add(time.Second / 2) // so that no ration is exhausted
		h.machine.links[1].current.born = s.now
		if sighting, clone := h.machine.HandleDatagram(s.now, 1, from4(2), b); sighting != nil || clone != nil {
			t.Errorf("%s: %+v %+v", name, sighting, clone)
		}
	}
	if n := len(h.machine.links[1].voices) + len(h.machine.peers); n != 0 {
		t.Errorf("they left %d traces", n)
	}
	if sighting, _ := h.machine.HandleDatagram(s.now, 1, from4(2), good); sighting == nil {
		t.Error("the genuine announcement was not accepted in the end")
	}
}

// A flood of announcements, each with a key, an instance and a spoofed source of its own, costs a bounded number of checks
// and answers, fills no table beyond its bound and does not silence a peer that was known before.
func TestFloodOfStrangers(t *testing.T) {
	s := newSimulation(t)
	h := s.start(1, 1, 1, map[int]string{1: "lan"})
	b := s.start(2, 2, 1, map[int]string{1: "lan"})
	s.until(time.Second, s.complete(true))
	s.run(10 * time.Second)

	const seconds, perSecond = 10, 400
	var flood [][]byte
	for i := range seconds * perSecond {
		flood = append(flood, newForger(t, 1000+i).announce())
	}
	before, checked := h.sent, 0
	for i, d := range flood {
		s.after(time.Duration(i)*time.Second/perSecond, func() {
			known := len(h.machine.links[1].voices)
			h.receive(1, from4(1000+i), d)
			if len(h.machine.links[1].voices) > known || h.machine.links[1].voices[voiceID{identity.SigningKey(d[keyOffset:][:32]), [8]byte(d[instanceOffset:])}] != nil {
				checked++
			}
		})
	}
	s.run(5 * time.Second)
	h.sightings = nil
	b.dead = true
	b = s.start(2, 2, 2, map[int]string{1: "lan"})
	s.until(500*time.Millisecond, func() bool { return len(h.sightings) > 0 })
	if got := h.sightings[0]; got.Instance != b.machine.instance || !got.Restarted {
		t.Errorf("in the flood: %+v", got)
	}
	s.run(5 * time.Second)
	if most := checksBurst + (seconds+1)*checksPerSecond; checked > most {
		t.Errorf("%d announcements of strangers were checked, want at most %d", checked, most)
	}
	if n := h.sent - before; n > answersBurst+(seconds+1)*answersPerSecond {
		t.Errorf("%d answers", n)
	}
	s.check()
}

func TestGarbageIsDroppedBeforeAnyCheck(t *testing.T) {
	s := newSimulation(t)
	h := s.start(1, 1, 1, map[int]string{1: "lan"})
	b := make([]byte, Size)
	for range 100_000 {
		for i := range 8 {
			b[s.random.IntN(Size)] = byte(i)
		}
		b[0] = byte(s.random.IntN(256))
		if sighting, clone := h.machine.HandleDatagram(s.now, 1, from4(s.random.IntN(1000)), b[:s.random.IntN(Size+1)]); sighting != nil || clone != nil {
			t.Fatal("garbage was accepted")
		}
	}
	if n := len(h.machine.admit.sources); n != 0 {
		t.Errorf("garbage cost checks for %d sources", n)
	}
}

// Strangers who prove themselves fill the tables to their bounds; the oldest give way.
func TestTablesAreBounded(t *testing.T) {
	s := newSimulation(t)
	h := s.start(1, 1, 1, map[int]string{1: "lan"})
	const strangers = 400
	var all []*forger
	for i := range strangers {
		f := newForger(t, 1000+i)
		all = append(all, f)
		s.now = s.now.Add(50 * time.Millisecond)
		sighting, _ := h.machine.HandleDatagram(s.now, 1, from4(1000+i), f.announce(challengeOf(h)))
		if sighting == nil {
			t.Fatalf("stranger %d was not seen", i)
		}
	}
	s.check()
	if got := len(h.machine.peers); got != maxPeers {
		t.Errorf("%d peers are remembered, want %d", got, maxPeers)
	}
	for i, f := range all {
		if got := len(h.machine.Lookup(s.now, f.id.Address())) == 1; got != (i >= strangers-maxPeers) {
			t.Errorf("stranger %d: remembered %v", i, got)
		}
	}
}

// One source cannot take the room of others, however many keys it has.
func TestOneSourceIsBounded(t *testing.T) {
	s := newSimulation(t)
	h := s.start(1, 1, 1, map[int]string{1: "lan"})
	seen := 0
	for i := range 200 {
		f := newForger(t, 1000+i)
		f.record = signed(t, f.id, 1, endpointsOf(2)...)
		s.now = s.now.Add(time.Millisecond)
		if sighting, _ := h.machine.HandleDatagram(s.now, 1, from4(2), f.announce(challengeOf(h))); sighting != nil {
			seen++
		}
	}
	if seen > checksPerSourceBurst+2 {
		t.Errorf("%d announcements of one source were checked in 200 ms", seen)
	}
	if n := len(h.machine.links[1].voices); n > maxVoicesOfSource {
		t.Errorf("one source has %d voices", n)
	}
	if n := len(h.machine.peers); n > maxPeersOfSource {
		t.Errorf("one source has %d peers", n)
	}
}

// Nobody is answered more often than the rate allows, and never by more bytes than he sent.
func TestAnswersAreBounded(t *testing.T) {
	s := newSimulation(t)
	h := s.start(1, 1, 1, map[int]string{1: "lan"})
	s.run(5 * time.Second)
	before := h.sent
	h.receive(1, from4(2), newForger(t, 2).announce())
	s.run(5 * time.Second)
	if n := h.sent - before; n != 1 {
		t.Errorf("one datagram drew %d announcements, want 1", n)
	}
	before = h.sent
	f := newForger(t, 2)
	for range 1000 {
		f.instance[7]++
		h.receive(1, from4(2), f.announce())
		s.run(10 * time.Millisecond)
	}
	if n := h.sent - before; n > answersBurst+10*answersPerSecond {
		t.Errorf("%d announcements in 10 s", n)
	}
}

func TestAdmissionKeepsShareForKnownSources(t *testing.T) {
	a := newAdmission()
	now := time.Unix(1000, 0)
	for i := range 100 {
		a.vouch(now, origin{1, host4(i)})
	}
	strangers, known := 0, 0
	for ms := range 10_000 {
		at := now.Add(time.Duration(ms) * time.Millisecond)
		for i := range 10 {
			if a.admit(at, origin{1, host4(1000 + (10*ms+i)%50_000)}) {
				strangers++
			}
		}
		if ms%10 == 0 && a.admit(at, origin{1, host4(ms / 10 % 100)}) {
			known++
		}
	}
	if want := checksBurst + 10*checksPerSecond; strangers > want || strangers < want*9/10 {
		t.Errorf("%d checks for strangers, want about %d", strangers, want)
	}
	if known != 1000 {
		t.Errorf("%d checks for known sources, want all 1000", known)
	}
	if n := len(a.sources); n > 2*maxSources {
		t.Errorf("%d sources are remembered", n)
	}
}

func TestNonceExpires(t *testing.T) {
	start := time.Unix(1000, 0)
	random := systemRandom{}
	l := newLink(start, testInterface(1, 1), random)
	first := l.current.nonce
	heard := announcement{echoes: [MaxEchoes]echo{{first, true}}, count: 1}
	retired := start.Add(nonceLife)
	if l.announce(retired.Add(-1), false, random); l.current.nonce != first {
		t.Fatal("the nonce changed early")
	}
	if l.announce(retired, false, random); l.current.nonce == first {
		t.Fatal("the nonce did not change")
	}
	for _, c := range []struct {
		at   time.Time
		want proof
	}{
		{retired, proof{true, start, true}},
		{retired.Add(nonceLife), proof{true, start, true}},
		{retired.Add(nonceLife + 1), proof{}},
	} {
		if got := l.proof(c.at, &heard); got != c.want {
			t.Errorf("%v after its end: %+v, want %+v", c.at.Sub(retired), got, c.want)
		}
	}
	ours := announcement{echoes: [MaxEchoes]echo{{l.current.nonce, true}}, count: 1}
	if got, want := l.proof(retired.Add(nonceMax), &ours), (proof{true, retired, true}); got != want {
		t.Errorf("the current nonce: %+v, want %+v", got, want)
	}
	if got := l.proof(retired.Add(nonceMax+1), &ours); got != (proof{}) {
		t.Errorf("the current nonce after its time: %+v", got)
	}
	both := announcement{echoes: [MaxEchoes]echo{{l.current.nonce, false}, {first, true}}, count: 2}
	if got, want := l.proof(retired, &both), (proof{true, retired, false}); got != want {
		t.Errorf("both nonces: %+v, want what the newer proves: %+v", got, want)
	}
}

// What was verified once is not verified again, but anything that resembles it is.
func TestTamperingAfterAcceptance(t *testing.T) {
	s := newSimulation(t)
	h := s.start(1, 1, 1, map[int]string{1: "lan"})
	f := newForger(t, 2)
	hearsay := f.announce()
	if sighting, _ := h.machine.HandleDatagram(s.now, 1, from4(2), hearsay); sighting != nil || len(h.machine.links[1].voices) != 1 {
		t.Fatalf("hearsay: %+v", sighting)
	}
	forged := bytes.Clone(hearsay)
	ours := challengeOf(h)
	forged[echoCountOffset] = 1
	copy(forged[echoesOffset:], ours.nonce[:])
	if sighting, _ := h.machine.HandleDatagram(s.now, 1, from4(2), forged); sighting != nil {
		t.Errorf("an echo was forged into a verified announcement: %+v", sighting)
	}

	if sighting, _ := h.machine.HandleDatagram(s.now, 1, from4(2), f.announce(ours)); sighting == nil {
		t.Error("the genuine echo was not accepted")
	}
	renewed := bytes.Clone(f.announce(ours))
	copy(renewed[echoesOffset+8:], signed(t, f.id, 2, endpointsOf(2)...))
	if sighting, _ := h.machine.HandleDatagram(s.now, 1, from4(2), renewed); sighting != nil {
		t.Errorf("a record was forged into an announcement: %+v", sighting)
	}
}

func TestNewRecordIsHandedUpAtOnce(t *testing.T) {
	s := newSimulation(t)
	h := s.start(1, 1, 1, map[int]string{1: "lan"})
	f := newForger(t, 2)
	for sequence := range uint64(3) {
		f.record = signed(t, f.id, sequence, endpointsOf(2)...)
		sighting, _ := h.machine.HandleDatagram(s.now, 1, from4(2), f.announce(challengeOf(h)))
		if sighting == nil || sighting.Record.Sequence != sequence {
			t.Errorf("record %d: %+v", sequence, sighting)
		}
		if again, _ := h.machine.HandleDatagram(s.now, 1, from4(2), f.announce(challengeOf(h))); again != nil {
			t.Errorf("record %d was handed up twice: %+v", sequence, again)
		}
	}
}
