package spdp

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// maskGuard knows the addresses of this host and of the peer.
func maskGuard() *Guard {
	g := newGuard()
	g.settle(place{guardOwn, fourOf(1)}, []Peer{{Address: guardPeer, IPv4: fourOf(2)}, {Address: guardOther}})
	return g
}

func locator(s string) wire.Locator { return wire.LocatorFrom(netip.MustParseAddrPort(s)) }

// atPeer are locators that may stay, elsewhere those that may not.
func atPeer() []wire.Locator {
	tcp := wire.LocatorFrom(netip.AddrPortFrom(fourOf(2), 7411))
	tcp.Kind = wire.LocatorTCPv4
	return []wire.Locator{wire.LocatorFrom(netip.AddrPortFrom(guardPeer, 7411)), wire.LocatorFrom(netip.AddrPortFrom(fourOf(2), 7411)), tcp}
}

func elsewhere() []wire.Locator {
	shm, wan, mapped, mc := locator("10.0.1.2:7413"), wire.LocatorFrom(netip.AddrPortFrom(fourOf(2), 7411)), locator("10.0.1.2:7413"), locator("10.0.1.2:7413")
	shm.Kind, mapped.Kind, mc.Kind = wire.LocatorSHM, wire.LocatorUDPv6, 0x4fff0000
	wan.Kind, wan.Addr[8] = wire.LocatorTCPv4, 192 // by way of another address
	return []wire.Locator{
		locator("10.0.1.2:7413"), locator("127.0.0.1:7411"), locator("239.255.0.1:7400"), locator("[::1]:7411"), locator("[fd00::1]:7411"),
		locator("[ff02::ffff:239.255.0.1]:7400"), wire.LocatorFrom(netip.AddrPortFrom(guardOwn, 7411)), wire.LocatorFrom(netip.AddrPortFrom(guardOther, 7411)),
		wire.LocatorFrom(netip.AddrPortFrom(fourOf(1), 7411)), shm, wan, mapped, mc, {Kind: wire.LocatorInvalid}, {},
	}
}

var locatorPIDs = []wire.PID{wire.PIDUnicastLocator, wire.PIDMulticastLocator, wire.PIDDefaultUnicastLocator, wire.PIDMetatrafficUnicastLocator,
	wire.PIDMetatrafficMulticastLocator, wire.PIDDefaultMulticastLocator}

var oldPIDs = []wire.PID{pidMetatrafficMulticastIP, pidDefaultUnicastIP, pidMetatrafficUnicastPort, pidDefaultUnicastPort, pidMulticastIP,
	pidMetatrafficUnicastIP, pidMetatrafficMulticastPort}

// told is a parameter list with every locator there is, and what else there may be.
func told(big bool, prefix wire.GuidPrefix, locators ...wire.Locator) []byte {
	w := wire.NewParameterWriter(nil, big)
	w.Encapsulation()
	w.GUID(wire.PIDEndpointGUID, wire.GUID{Prefix: prefix, Entity: wire.MakeEntityID(7, 3)})
	for _, l := range locators {
		for _, id := range locatorPIDs {
			w.Locator(id, l)
		}
		w.Locator(wire.PIDUnicastLocator|wire.PIDMustUnderstand, l)
	}
	for _, id := range oldPIDs {
		w.Uint32(id, 0x0a000102)
	}
	w.Text(wire.PIDTopicName, "rt/chatter")
	w.Locator(wire.PIDUserData, locator("10.0.1.2:7413")) // is none
	w.Locator(wire.PIDUnicastLocator|wire.PIDVendorSpecific, locator("10.0.1.2:7413"))
	w.Raw(wire.PIDPad, []byte{1, 2, 3, 4})
	w.Sentinel()
	return w.Bytes()
}

func tells(writer wire.EntityID, payload []byte) func(*wire.Builder) {
	return func(b *wire.Builder) {
		b.Data(&wire.Data{Writer: writer, SN: 1, Content: wire.DataContent, Payload: payload})
	}
}

// checked completes the UDP checksum of a packet.
func checked(packet []byte) []byte {
	header, pseudo := 40, packet[8:40]
	if packet[0]>>4 == 4 {
		header, pseudo = 24, packet[12:20]
	}
	packet[header+6], packet[header+7] = 0, 0
	c := ^sumOver(append(append(bytes.Clone(pseudo), 0, protocolUDP), binary.BigEndian.AppendUint16(bytes.Clone(packet[header:]), uint16(len(packet)-header))...))
	binary.BigEndian.PutUint16(packet[header+6:], c)
	return packet
}

func sumOver(b []byte) uint16 {
	sum := uint32(0)
	for i, x := range b {
		sum += uint32(x) << (8 * (1 - i&1))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// parameters are those of all discovery data in a message but locators, which are apart; what is neither is left in rest.
func parameters(message []byte) (locators, others []string, at []wire.Locator, rest []byte) {
	message = bytes.Clone(message)
	r, err := wire.NewReader(message)
	if err != nil {
		return nil, nil, nil, message
	}
	take := func(l wire.ParameterList) {
		c := l.Parameters()
		for p, ok := c.Next(); ok; p, ok = c.Next() {
			id := p.ID &^ wire.PIDMustUnderstand
			if line := string(binary.BigEndian.AppendUint16(nil, uint16(p.ID))) + string(p.Value); slices.Contains(oldPIDs, id) {
				locators, at = append(locators, line), append(at, wire.Locator{})
			} else if slices.Contains(locatorPIDs, id) {
				l, ok := p.Locator()
				if !ok || len(p.Value) != wire.LocatorLen {
					l = wire.Locator{}
				}
				locators, at = append(locators, line), append(at, l)
			} else {
				others = append(others, line)
			}
		}
		clear(l.Bytes)
	}
	for s, ok := r.Next(); ok; s, ok = r.Next() {
		switch d := s.(type) {
		case *wire.Data:
			if discovers(d.Writer) {
				take(d.InlineQoS)
				if l, err := wire.ParseParameterPayload(d.Payload); err == nil {
					take(l)
				}
			}
		case *wire.DataFrag:
			if discovers(d.Writer) && d.FirstFragment == 1 {
				take(d.InlineQoS)
				if l, err := wire.ParseParameterPayload(d.Payload); err == nil {
					take(l)
				}
			}
		}
	}
	return locators, others, at, message
}

// onlyMasked says what is wrong with a packet after a place's mask, beside the one before.
func onlyMasked(t *testing.T, at place, before, after []byte) {
	t.Helper()
	if len(before) != len(after) || sumOver(before) != sumOver(after) {
		t.Fatalf("%d bytes with sum %x, and %d with %x", len(before), sumOver(before), len(after), sumOver(after))
	}
	locators, others, were, rest := parameters(rtps(before))
	stay, same, are, restAfter := parameters(rtps(after))
	if !slices.Equal(others, same) || !bytes.Equal(rest, restAfter) {
		t.Errorf("more than locators is changed: %x is %x", before, after)
	}
	var want []string
	for i, l := range were {
		if at.holds(l) {
			want = append(want, locators[i])
		}
	}
	if !slices.Equal(stay, want) {
		t.Errorf("%d locators stay, want %d: %v", len(stay), len(want), are)
	}
	if n := len(before) - len(rtps(before)) - 2; !bytes.Equal(before[:n], after[:n]) {
		t.Error("more of the headers than the checksum is changed")
	}
}

func rtps(packet []byte) []byte {
	m, _, _ := rtpsIn(packet)
	return m
}

// TestMask: of what a peer tells of locators only its own are left, and everything else is as it was.
func TestMask(t *testing.T) {
	all := append(atPeer(), elsewhere()...)
	for _, big := range []bool{false, true} {
		for _, writer := range []wire.EntityID{wire.EntitySPDPWriter, wire.EntitySEDPPublicationsWriter, wire.EntitySEDPSubscriptionsWriter, wire.EntitySEDPTopicsWriter} {
			payload := told(big, prefixPeer, all...)
			qos := told(false, prefixPeer, all...)[4:] // the submessage's byte order
			for name, m := range map[string][]byte{
				"alone": guardMessage(prefixPeer, tells(writer, payload)),
				"among others": guardMessage(prefixPeer, userData, tells(writer, payload), heartbeat, tells(wire.EntitySEDPSubscriptionsWriter, payload),
					infoSrc(prefixPeer), tells(writer, payload)),
				"inline": guardMessage(prefixPeer, func(b *wire.Builder) {
					b.Data(&wire.Data{Writer: writer, SN: 1, InlineQoS: wire.ParameterList{Bytes: qos}, Content: wire.DataContent, Payload: payload})
				}),
				"in fragments": guardMessage(prefixPeer, func(b *wire.Builder) {
					b.DataFrag(&wire.DataFrag{Writer: writer, SN: 1, FirstFragment: 1, Fragments: 1, FragmentSize: uint16(len(payload)), SampleSize: 9000,
						InlineQoS: wire.ParameterList{Bytes: qos}, Payload: payload})
				}),
			} {
				for version, packet := range map[string][]byte{"IPv6": checked(six(m)), "IPv4": checked(four(m, 0))} {
					g, before := maskGuard(), bytes.Clone(packet)
					if !g.Admit(guardPeer, packet) || g.Masked() == 0 {
						t.Fatalf("%s of %v by %s: %d masked, %d barred", name, writer, version, g.Masked(), g.Barred())
					}
					onlyMasked(t, place{guardPeer, fourOf(2)}, before, packet)
					if bytes.Contains(packet, append(append([]byte{}, make([]byte, 12)...), 127, 0, 0, 1)) {
						t.Errorf("%s by %s: an address is left", name, version)
					}
					masked := g.Masked()
					if again := bytes.Clone(packet); !g.Admit(guardPeer, again) || !bytes.Equal(again, packet) || g.Masked() != masked {
						t.Errorf("%s by %s: twice is not as once", name, version)
					}
					copy(packet, before)
					g.Depart(guardOther, packet)
					onlyMasked(t, place{guardOwn, fourOf(1)}, before, packet)
				}
			}
		}
	}
}

// TestMaskLeaves what is not discovery data, or not to be judged.
func TestMaskLeaves(t *testing.T) {
	payload := told(false, prefixPeer, elsewhere()...)
	for name, m := range map[string][]byte{
		"user data":  guardMessage(prefixPeer, tells(wire.MakeEntityID(7, 3), payload)),
		"liveliness": guardMessage(prefixPeer, assertion(prefixPeer)),
		"no RTPS":    append([]byte("RTPX"), guardMessage(prefixPeer, tells(wire.EntitySPDPWriter, payload))[4:]...),
		"its own":    guardMessage(prefixPeer, tells(wire.EntitySPDPWriter, told(false, prefixPeer, atPeer()...)[:4+20+3*7*28]), heartbeat)[:20],
	} {
		packet := six(m)
		before, g := bytes.Clone(packet), maskGuard()
		if !g.Admit(guardPeer, packet) || !bytes.Equal(packet, before) || g.Masked() != 0 {
			t.Errorf("%s: %d masked, %d barred", name, g.Masked(), g.Barred())
		}
	}
	packet := six(guardMessage(prefixPeer, tells(wire.EntitySPDPWriter, payload)))
	before := bytes.Clone(packet)
	(&Guard{}).Admit(guardPeer, packet)
	(&Guard{}).Depart(guardPeer, packet)
	if !bytes.Equal(packet, before) {
		t.Error("a guard that knows nothing masks")
	}
	// A peer without an IPv4 address has none of another's.
	g := maskGuard()
	packet = six(guardMessage(prefixOther, tells(wire.EntitySPDPWriter, told(false, prefixOther, atPeer()...))))
	if !g.Admit(guardOther, packet) || g.Masked() != 3*7+uint64(len(oldPIDs)) {
		t.Errorf("%d masked", g.Masked())
	}
}

// TestMaskHostile: what could be read in two ways is not let in.
func TestMaskHostile(t *testing.T) {
	list := func(b ...byte) []byte {
		return guardMessage(prefixPeer, tells(wire.EntitySEDPPublicationsWriter, append([]byte{0, 3, 0, 0}, b...)))
	}
	end := []byte{1, 0, 0, 0}
	reply := func(l ...wire.Locator) []byte {
		return guardMessage(prefixPeer, func(b *wire.Builder) { b.InfoReply(&wire.InfoReply{Unicast: wire.NewLocatorList(l...)}) }, userData)
	}
	for name, c := range map[string]struct {
		message []byte
		admit   bool
	}{
		"empty":                     {list(end...), true},
		"locator without a value":   {list(append([]byte{0x2f, 0, 0, 0}, end...)...), true},
		"of half a length":          {list(append([]byte{0x2f, 0, 8, 0, 1, 0, 0, 0, 1, 0, 0, 0}, end...)...), true},
		"of an odd length":          {list(append([]byte{0x2f, 0, 7, 0, 1, 0, 0, 0, 1, 0, 0, 0}, end...)...), false},
		"longer than the list":      {list(append([]byte{0x2f, 0, 24, 0, 1, 0, 0, 0, 1, 0, 0, 0}, end...)...), false},
		"without an end":            {list(0x15, 0, 4, 0, 2, 1, 0, 0), false},
		"answers to the peer":       {reply(atPeer()[0]), true},
		"answers to somebody else":  {reply(atPeer()[0], locator("10.0.1.2:7413")), false},
		"answers to us":             {reply(wire.LocatorFrom(netip.AddrPortFrom(guardOwn, 53))), false},
		"a list in another version": {guardMessage(prefixPeer, tells(wire.EntitySPDPWriter, append([]byte{0, 0x0b}, told(false, prefixPeer, elsewhere()...)[2:]...))), false},
	} {
		packet := checked(six(c.message))
		before, g := bytes.Clone(packet), maskGuard()
		if got := g.Admit(guardPeer, packet); got != c.admit {
			t.Errorf("%s: %v", name, got)
		} else if got {
			onlyMasked(t, place{guardPeer, fourOf(2)}, before, packet)
		}
	}
}

// TestMaskCut: what is there of a datagram's first fragment is masked as it would be of the whole, wherever it is cut.
func TestMaskCut(t *testing.T) {
	payload := told(false, prefixPeer, append(elsewhere(), atPeer()...)...)
	message := guardMessage(prefixPeer, heartbeat, tells(wire.EntitySEDPPublicationsWriter, payload))
	whole := bytes.Clone(message)
	if !maskGuard().Admit(guardPeer, six(message)) {
		t.Fatal("not admitted")
	}
	masked := six(bytes.Clone(whole))
	maskGuard().Admit(guardPeer, masked)
	fragment := []byte{protocolFragment, protocolUDP, 0, 0, 1, 0, 0, 0, 1}
	header := len(six(nil, fragment...))
	for n := leastFragment; n < len(whole); n += 4 {
		packet := six(bytes.Clone(whole[:n]), fragment...)
		packet[header-2] = 1 // a checksum
		sum := sumOver(packet)
		if !maskGuard().Admit(guardPeer, packet) || sumOver(packet) != sum {
			t.Fatalf("cut at %d, it is refused or has another sum: %x", n, packet)
		}
		// All but the last parameter, of which not all is there.
		if full := rtps(masked)[:n-28]; !bytes.Equal(packet[header:][:n-28], full) {
			t.Fatalf("cut at %d: %x is not as in the whole", n, packet[header:][:n-28])
		}
	}
}

func TestMaskAllocations(t *testing.T) {
	g := maskGuard()
	packet := six(guardMessage(prefixPeer, tells(wire.EntitySPDPWriter, told(false, prefixPeer, elsewhere()...))))
	work := bytes.Clone(packet)
	if n := testing.AllocsPerRun(100, func() { copy(work, packet); g.Admit(guardPeer, work); copy(work, packet); g.Depart(guardPeer, work) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzMask: of what is let in no locator is left but the peer's, and everything else is as it was.
func FuzzMask(f *testing.F) {
	some := []wire.Locator{atPeer()[0], elsewhere()[0]}
	f.Add(six(guardMessage(prefixPeer, tells(wire.EntitySPDPWriter, told(true, prefixPeer, some...)))), true)
	f.Add(six(guardMessage(prefixPeer, userData, tells(wire.EntitySEDPPublicationsWriter, told(false, prefixPeer, some...)), heartbeat)), false)
	for _, p := range pieces(told(false, prefixPeer, some...), 1, 256) {
		f.Add(p, true)
	}
	f.Add(four(guardMessage(prefixPeer, endpointOf(wire.EntitySEDPSubscriptionsWriter, prefixPeer, true)), 0x2000), true)
	f.Fuzz(func(t *testing.T, before []byte, in bool) {
		if m := rtps(before); len(m) > 0 { // a checksum of zero is none
			before = bytes.Clone(before)
			before[len(before)-len(m)-1] |= 1
		}
		packet, g := bytes.Clone(before), maskGuard()
		at := place{guardPeer, fourOf(2)}
		if !in {
			at = place{guardOwn, fourOf(1)}
			g.Depart(guardPeer, packet)
		} else if !g.Admit(guardPeer, packet) {
			return
		}
		if sumOver(before) != sumOver(packet) || len(before) != len(packet) {
			t.Fatalf("%x is %x", before, packet)
		}
		if _, cut, ok := rtpsIn(before); !ok || len(rtps(before)) == 0 {
			if !bytes.Equal(before, packet) {
				t.Fatalf("%x is %x", before, packet)
			}
		} else if in && !cut {
			onlyMasked(t, at, before, packet)
		}
	})
}

// TestMaskNewIPv4: a packet comes from an IPv4 address of the peer that the engine knows and the relay does not yet. What it says of that address stays:
// endpoints are told of once.
func TestMaskNewIPv4(t *testing.T) {
	g := newGuard()
	g.settle(place{guardOwn, fourOf(1)}, []Peer{{Address: guardPeer}})
	m := guardMessage(prefixPeer, tells(wire.EntitySEDPPublicationsWriter, told(false, prefixPeer, append(atPeer(), elsewhere()...)...)))
	packet := four(m, 0)
	source := fourOf(2).As4()
	copy(packet[12:], source[:])
	packet = checked(packet)
	before := bytes.Clone(packet)
	if !g.Admit(guardPeer, packet) || g.Masked() == 0 {
		t.Fatalf("%d masked, %d barred", g.Masked(), g.Barred())
	}
	onlyMasked(t, place{guardPeer, fourOf(2)}, before, packet)
}
