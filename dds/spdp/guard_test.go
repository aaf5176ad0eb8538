package spdp

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

var (
	guardOwn, guardPeer, guardOther             = overlayAddr(1), overlayAddr(2), overlayAddr(3)
	prefixOwn, prefixPeer, prefixOther, prefixX = wire.GuidPrefix{1, 1}, wire.GuidPrefix{2, 2}, wire.GuidPrefix{3, 3}, wire.GuidPrefix{9, 9}
)

func newGuard() *Guard {
	g := &Guard{}
	g.set(map[wire.GuidPrefix]netip.Addr{prefixOwn: guardOwn, prefixPeer: guardPeer, prefixOther: guardOther})
	return g
}

// six and four wrap a UDP payload into a packet; what comes before UDP may be given.
func six(payload []byte, extensions ...byte) []byte {
	udp := binary.BigEndian.AppendUint16(nil, 7410)
	udp = binary.BigEndian.AppendUint16(udp, 7411)
	udp = append(udp, byte((len(payload)+8)>>8), byte(len(payload)+8), 0, 0)
	b := make([]byte, 40)
	b[0], b[6] = 0x60, protocolUDP
	src, dst := guardPeer.As16(), guardOwn.As16()
	copy(b[8:], src[:])
	copy(b[24:], dst[:])
	if len(extensions) > 0 {
		b[6] = extensions[0]
		b = append(b, extensions[1:]...)
	}
	b = append(append(b, udp...), payload...)
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
	return b
}

func four(payload []byte, fragment uint16) []byte {
	b := make([]byte, 24)
	b[0], b[9] = 0x46, protocolUDP // with an option
	binary.BigEndian.PutUint16(b[6:], fragment)
	return append(append(b, 0x1c, 0xf2, 0x1c, 0xf3, 0, 0, 0, 0), payload...)
}

// message writes a message of a prefix's.
func guardMessage(prefix wire.GuidPrefix, add ...func(*wire.Builder)) []byte {
	b := wire.NewBuilder(nil, wire.Header{Version: wire.Version, Vendor: wire.VendorCyclone, Prefix: prefix})
	b.InfoTS(wire.TimestampFrom(time.Unix(1e9, 0)))
	for _, f := range add {
		f(b)
	}
	return b.Bytes()
}

func userData(b *wire.Builder) {
	b.Data(&wire.Data{Writer: wire.MakeEntityID(5, 3), SN: 1, Content: wire.DataContent, Payload: []byte{0, 1, 0, 0, 1, 2, 3, 4}})
}

func ended(writer wire.EntityID, prefix wire.GuidPrefix, payload, hash bool) func(*wire.Builder) {
	return func(b *wire.Builder) {
		entity, pid := wire.EntityParticipant, wire.PIDParticipantGUID
		if writer != wire.EntitySPDPWriter {
			entity, pid = wire.MakeEntityID(5, 3), wire.PIDEndpointGUID
		}
		guid := wire.GUID{Prefix: prefix, Entity: entity}
		q := wire.InlineQoS{Status: wire.StatusDisposed | wire.StatusUnregistered}
		if hash {
			q.KeyHash, q.HasKeyHash = guid.Bytes(), true
		}
		d := wire.Data{Writer: writer, SN: 2, InlineQoS: wire.ParameterList{Bytes: wire.AppendInlineQoS(nil, q)}}
		if payload {
			d.Content, d.Payload = wire.KeyContent, wire.AppendKey(nil, pid, guid)
		}
		b.Data(&d)
	}
}

func alive(prefix wire.GuidPrefix) func(*wire.Builder) {
	return func(b *wire.Builder) {
		d := data(prefix, guardPeer)
		b.Data(&wire.Data{Writer: wire.EntitySPDPWriter, SN: 1, Content: wire.DataContent, Payload: d.Append(nil)})
	}
}

func endpointOf(writer wire.EntityID, prefix wire.GuidPrefix, fragment bool) func(*wire.Builder) {
	return func(b *wire.Builder) {
		d := wire.EndpointData{GUID: wire.GUID{Prefix: prefix, Entity: wire.MakeEntityID(7, 3)}, Topic: "rt/chatter", Type: "T"}
		payload := d.Append(nil)
		if !fragment {
			b.Data(&wire.Data{Writer: writer, SN: 1, Content: wire.DataContent, Payload: payload})
			return
		}
		payload = append(payload, make([]byte, 2000)...)
		b.DataFrag(&wire.DataFrag{Writer: writer, SN: 1, FirstFragment: 1, Fragments: 1, FragmentSize: 1000, SampleSize: uint32(len(payload)), Payload: payload[:1000]})
	}
}

func assertion(prefix wire.GuidPrefix) func(*wire.Builder) {
	return func(b *wire.Builder) {
		m := wire.ParticipantMessage{Prefix: prefix}
		b.Data(&wire.Data{Writer: wire.EntityParticipantMessageWriter, SN: 1, Content: wire.DataContent, Payload: m.Append(nil)})
	}
}

func infoSrc(prefix wire.GuidPrefix) func(*wire.Builder) {
	return func(b *wire.Builder) { b.InfoSrc(wire.Header{Version: wire.Version, Prefix: prefix}) }
}

func heartbeat(b *wire.Builder) {
	b.Heartbeat(wire.Heartbeat{Writer: wire.MakeEntityID(5, 3), First: 1, Last: 1, Count: 1})
}

// TestGuard: a peer says what is its own, and nothing in the name of others.
func TestGuard(t *testing.T) {
	spdp, pubs, subs := wire.EntitySPDPWriter, wire.EntitySEDPPublicationsWriter, wire.EntitySEDPSubscriptionsWriter
	forOthers := map[string]func(p wire.GuidPrefix) []byte{
		"header":         func(p wire.GuidPrefix) []byte { return guardMessage(p, userData) },
		"heartbeat":      func(p wire.GuidPrefix) []byte { return guardMessage(p, heartbeat) },
		"source changed": func(p wire.GuidPrefix) []byte { return guardMessage(prefixPeer, userData, infoSrc(p), userData) },
		"source changed and back": func(p wire.GuidPrefix) []byte {
			return guardMessage(prefixPeer, infoSrc(p), heartbeat, infoSrc(prefixPeer))
		},
		"participant":             func(p wire.GuidPrefix) []byte { return guardMessage(prefixPeer, alive(p)) },
		"participant's end, key":  func(p wire.GuidPrefix) []byte { return guardMessage(prefixPeer, ended(spdp, p, true, false)) },
		"participant's end, hash": func(p wire.GuidPrefix) []byte { return guardMessage(prefixPeer, ended(spdp, p, false, true)) },
		"end, after other data": func(p wire.GuidPrefix) []byte {
			return guardMessage(prefixPeer, userData, heartbeat, ended(spdp, p, true, true))
		},
		"end, after its own": func(p wire.GuidPrefix) []byte {
			return guardMessage(prefixPeer, alive(prefixPeer), ended(spdp, p, true, true))
		},
		"writer":                      func(p wire.GuidPrefix) []byte { return guardMessage(prefixPeer, endpointOf(pubs, p, false)) },
		"reader":                      func(p wire.GuidPrefix) []byte { return guardMessage(prefixPeer, endpointOf(subs, p, false)) },
		"writer, in fragments of DDS": func(p wire.GuidPrefix) []byte { return guardMessage(prefixPeer, endpointOf(pubs, p, true)) },
		"writer's end, key":           func(p wire.GuidPrefix) []byte { return guardMessage(prefixPeer, ended(pubs, p, true, false)) },
		"reader's end, hash":          func(p wire.GuidPrefix) []byte { return guardMessage(prefixPeer, ended(subs, p, false, true)) },
		"liveliness":                  func(p wire.GuidPrefix) []byte { return guardMessage(prefixPeer, assertion(p)) },
	}
	hop := append([]byte{protocolHopByHop, protocolUDP, 0}, make([]byte, 6)...)
	for name, make := range forOthers {
		for whose, c := range map[string]struct {
			prefix wire.GuidPrefix
			admit  bool
		}{"this host's": {prefixOwn, false}, "another's": {prefixOther, false}, "its own": {prefixPeer, true}, "nobody's": {prefixX, true}} {
			g, m := newGuard(), make(c.prefix)
			for kind, packet := range map[string][]byte{"IPv6": six(m), "IPv4": four(m, 0), "hop by hop": six(m, hop...)} {
				if got := g.Admit(guardPeer, packet); got != c.admit {
					t.Errorf("%s of %s by %s: %v", name, whose, kind, got)
				}
			}
			if c.admit != (g.Barred() == 0) {
				t.Errorf("%s of %s: %d barred", name, whose, g.Barred())
			}
			if !(&Guard{}).Admit(guardPeer, six(m)) {
				t.Error("a guard that knows nothing bars")
			}
		}
	}
}

// TestGuardPasses what is not RTPS, or another fragment than the first.
func TestGuardPasses(t *testing.T) {
	forged := guardMessage(prefixOwn, alive(prefixOwn))
	long := append(bytes.Clone(forged), make([]byte, 600)...)
	fragment := func(place uint16, udp bool) []byte {
		next := byte(protocolUDP)
		if !udp {
			next = 6
		}
		return []byte{protocolFragment, next, 0, byte(place >> 8), byte(place), 0, 0, 0, 1}
	}
	for name, c := range map[string]struct {
		packet []byte
		admit  bool
	}{
		"empty": {nil, true}, "short": {[]byte{0x60}, true}, "of no family": {make([]byte, 60), true},
		"text": {six([]byte("RTPX, and more than twenty bytes")), true}, "RTPS, short": {six([]byte("RTPS")), true},
		"another version": {six(append([]byte("RTPS\x09"), forged[5:]...)), false},
		"first fragment":  {six(long, fragment(1, true)...), false}, "a tiny one": {six(nil, fragment(1, true)...), false},
		"second fragment": {six(long, fragment(100<<3|1, true)...), true}, "a fragment of TCP": {six(nil, fragment(1, false)...), true},
		"whole in a fragment header": {six(forged, fragment(0, true)...), false},
		"IPv4, first fragment":       {four(long, 0x2000), false}, "IPv4, second fragment": {four(long, 0x2010), true},
		"IPv4, a tiny one":          {four(forged[:24], 0x2000), false},
		"extensions without an end": {six(nil, append([]byte{protocolDestination}, bytes.Repeat([]byte{protocolDestination, 0, 0, 0, 0, 0, 0, 0}, 12)...)...), false},
		"an extension cut off":      {six(nil, protocolDestination, protocolUDP, 200, 0, 0, 0, 0, 0, 0), false},
		"the peer's, cut off":       {six(guardMessage(prefixPeer, alive(prefixPeer))[:100]), false},
		"the peer's, first of two fragments": {six(guardMessage(prefixPeer, alive(prefixPeer), func(b *wire.Builder) {
			b.Data(&wire.Data{Writer: wire.MakeEntityID(5, 3), SN: 1, Content: wire.DataContent, Payload: make([]byte, 2000)})
		})[:1400], fragment(1, true)...), true},
	} {
		if got := newGuard().Admit(guardPeer, c.packet); got != c.admit {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestGuardTable: the machine tells whose prefixes are.
func TestGuardTable(t *testing.T) {
	a := newAttack(t)
	m := a.victim.m
	owners, changed := m.Owners()
	if !changed || len(owners) != 2 || owners[a.list[0].prefix] != a.victim.addr || owners[a.list[1].prefix] != a.honest.addr {
		t.Errorf("%v, %v", owners, changed)
	}
	if _, changed = m.Owners(); changed {
		t.Error("nothing has changed")
	}
	a.list[1].leave()
	a.run(time.Second)
	if owners, changed = m.Owners(); !changed || len(owners) != 1 {
		t.Errorf("%v, %v", owners, changed)
	}
}

func TestGuardAllocations(t *testing.T) {
	g := newGuard()
	user, discovery, other := six(guardMessage(prefixPeer, userData)), six(guardMessage(prefixPeer, alive(prefixPeer))), six([]byte("no RTPS, but as long as that"))
	if n := testing.AllocsPerRun(100, func() { g.Admit(guardPeer, user); g.Admit(guardPeer, discovery); g.Admit(guardPeer, other) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkGuard(b *testing.B) {
	g := newGuard()
	owners := map[wire.GuidPrefix]netip.Addr{}
	for i := range MaxParticipants {
		owners[enemyPrefix(i)] = guardPeer
	}
	g.set(owners)
	g.settle(place{guardOwn, fourOf(1)}, []Peer{{Address: guardPeer, IPv4: fourOf(2)}})
	for name, packet := range map[string][]byte{
		"user": six(guardMessage(enemyPrefix(5), userData)), "discovery": six(guardMessage(enemyPrefix(5), alive(enemyPrefix(5)))), "other": six(make([]byte, 1000)),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				g.Admit(guardPeer, packet)
			}
		})
		b.Run(name+" out", func(b *testing.B) {
			for b.Loop() {
				g.Depart(guardPeer, packet)
			}
		})
	}
}

// FuzzGuard: nothing crashes it, and no message that names another's prefix where it matters is let in.
func FuzzGuard(f *testing.F) {
	f.Add(six(guardMessage(prefixPeer, alive(prefixOwn))))
	f.Add(six(guardMessage(prefixPeer, userData, infoSrc(prefixOther))))
	f.Add(six(guardMessage(prefixPeer, endpointOf(wire.EntitySEDPPublicationsWriter, prefixOwn, true))))
	f.Add(four(guardMessage(prefixPeer, ended(wire.EntitySPDPWriter, prefixOther, true, true)), 0))
	f.Fuzz(func(t *testing.T, packet []byte) {
		g := newGuard()
		admitted := g.Admit(guardPeer, packet)
		message, cut, ok := rtpsIn(packet)
		if !ok || cut || !admitted {
			return
		}
		r, err := wire.NewReader(message)
		if err != nil {
			return
		}
		for s, ok := r.Next(); ok; s, ok = r.Next() {
			if p := r.Source().Prefix; p == prefixOwn || p == prefixOther {
				t.Fatalf("%v of %v was admitted", s, p)
			}
			d, ok := s.(*wire.Data)
			if !ok || d.Writer != wire.EntitySPDPWriter {
				continue
			}
			q, err := wire.ParseInlineQoS(d.InlineQoS)
			if err != nil {
				continue
			}
			if guid, ok := wire.EndedGUID(d, &q, wire.PIDParticipantGUID); ok && (guid.Prefix == prefixOwn || guid.Prefix == prefixOther) {
				t.Fatalf("the end of %v was admitted", guid)
			}
			if data, err := wire.ParseParticipant(d.Payload); err == nil && (data.GUID.Prefix == prefixOwn || data.GUID.Prefix == prefixOther) {
				t.Fatalf("%v was admitted", data.GUID)
			}
		}
	})
}
