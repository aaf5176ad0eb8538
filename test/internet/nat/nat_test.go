package nat

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"
)

var (
	external = netip.MustParseAddr("25.0.1.2")
	inside   = netip.MustParsePrefix("192.168.1.0/24")
	inA      = netip.MustParseAddrPort("192.168.1.2:5582")
	inB      = netip.MustParseAddrPort("192.168.1.3:5582")
	out11    = netip.MustParseAddrPort("25.0.9.1:1000")
	out12    = netip.MustParseAddrPort("25.0.9.1:1001")
	out21    = netip.MustParseAddrPort("25.0.9.2:1000")
	start    = time.Unix(1000, 0)
)

func table(t testing.TB, c Config) *Table {
	t.Helper()
	c.External, c.Inside = external, inside
	n, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func sum(b []byte, s uint32) uint16 {
	for i := 0; i+1 < len(b); i += 2 {
		s += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)%2 == 1 {
		s += uint32(b[len(b)-1]) << 8
	}
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	return uint16(s)
}

func checksummed(b []byte) []byte {
	header := b[:20]
	copy(header[10:], []byte{0, 0})
	binary.BigEndian.PutUint16(header[10:], ^sum(header, 0))
	at := 26
	if b[9] == protocolTCP {
		at = 36
	}
	copy(b[at:], []byte{0, 0})
	binary.BigEndian.PutUint16(b[at:], ^transportSum(b))
	if b[at] == 0 && b[at+1] == 0 && b[9] == protocolUDP {
		b[at], b[at+1] = 0xff, 0xff // 0 is no checksum
	}
	return b
}

func transportSum(b []byte) uint16 {
	return sum(b[20:], uint32(sum(b[12:20], uint32(b[9])+uint32(len(b)-20))))
}

// intact reports whether both checksums are right.
func intact(b []byte) bool { return sum(b[:20], 0) == 0xffff && transportSum(b) == 0xffff }

func build(protocol byte, src, dst netip.AddrPort, flags byte, payload string) []byte {
	b := make([]byte, 28, 100)
	if protocol == protocolTCP {
		b = b[:40]
		b[32], b[33] = 5<<4, flags
	}
	b = append(b, payload...)
	b[0], b[8], b[9] = 0x45, 64, protocol
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	copy(b[12:], src.Addr().AsSlice())
	copy(b[16:], dst.Addr().AsSlice())
	binary.BigEndian.PutUint16(b[20:], src.Port())
	binary.BigEndian.PutUint16(b[22:], dst.Port())
	if protocol == protocolUDP {
		binary.BigEndian.PutUint16(b[24:], uint16(len(b)-20))
	}
	return checksummed(b)
}

// pass sends a packet through and returns its endpoints behind, or false.
func pass(t *testing.T, n *Table, at time.Time, b []byte) (src, dst netip.AddrPort, ok bool) {
	t.Helper()
	if !n.Translate(at, b) {
		return src, dst, false
	}
	if !intact(b) {
		t.Errorf("checksums are wrong: % x", b)
	}
	p, ok := parse(b)
	if !ok {
		t.Fatalf("no packet came out: % x", b)
	}
	return p.source(), p.destination(), true
}

func udp(src, dst netip.AddrPort) []byte { return build(protocolUDP, src, dst, 0, "odd") }

func TestMappingAndFiltering(t *testing.T) {
	for _, mapping := range []Dependence{Independent, Address, AddressAndPort} {
		for _, filtering := range []Dependence{Independent, Address, AddressAndPort} {
			for _, ports := range []Allocation{Preserve, Sequential, Random} {
				n := table(t, Config{Mapping: mapping, Filtering: filtering, Ports: ports})
				e11, to, ok := pass(t, n, start, udp(inA, out11))
				if !ok || to != out11 || e11.Addr() != external || (e11.Port() == 5582) != (ports == Preserve) {
					t.Fatalf("%v, %v, %d: %v became %v > %v, %v", mapping, filtering, ports, inA, e11, to, ok)
				}
				for _, from := range []struct {
					who  netip.AddrPort
					want bool
				}{{out11, true}, {out12, filtering != AddressAndPort}, {out21, filtering == Independent}} {
					src, dst, ok := pass(t, n, start, udp(from.who, e11))
					if ok != from.want || ok && (src != from.who || dst != inA) {
						t.Errorf("%v, %v: from %v: %v > %v, %v", mapping, filtering, from.who, src, dst, ok)
					}
				}
				e12, _, _ := pass(t, n, start, udp(inA, out12))
				e21, _, _ := pass(t, n, start, udp(inA, out21))
				again, _, _ := pass(t, n, start, udp(inA, out11))
				if again != e11 || (e12 == e11) != (mapping != AddressAndPort) || (e21 == e11) != (mapping == Independent) {
					t.Errorf("%v: %v, %v, %v, and again %v", mapping, e11, e12, e21, again)
				}
				if got, ok := n.External(protocolUDP, inA, out12); !ok || got != e12 {
					t.Errorf("External: %v, %v", got, ok)
				}
				other, _, _ := pass(t, n, start, udp(inB, out11))
				if other == e11 || other == e12 || other == e21 {
					t.Errorf("two hosts share %v", other)
				}
				if ports == Sequential && other.Port() != e21.Port()+1 && mapping == AddressAndPort {
					t.Errorf("%v follows %v", other, e21)
				}
			}
		}
	}
}

func TestTCPDependsOnTheWholeFlow(t *testing.T) {
	n := table(t, Config{})
	syn := func(src, dst netip.AddrPort) []byte { return build(protocolTCP, src, dst, 2, "") }
	e1, _, _ := pass(t, n, start, syn(inA, out11))
	e2, _, _ := pass(t, n, start, syn(inA, out21))
	if e1 == e2 {
		t.Errorf("both are %v", e1)
	}
	if _, _, ok := pass(t, n, start, syn(out21, e1)); ok {
		t.Error("another side was let in")
	}
	if _, to, ok := pass(t, n, start, syn(out11, e1)); !ok || to != inA {
		t.Errorf("the answer went to %v, %v", to, ok)
	}
	if _, _, ok := pass(t, n, start.Add(time.Hour), syn(out11, e1)); !ok {
		t.Error("an idle connection was forgotten after an hour")
	}
	pass(t, n, start.Add(time.Hour), build(protocolTCP, inA, out11, 1|16, ""))
	if _, _, ok := pass(t, n, start.Add(time.Hour+tcpClosing), syn(out11, e1)); ok {
		t.Error("a closed connection is still there")
	}
}

func TestTimeout(t *testing.T) {
	n := table(t, Config{Timeout: time.Second, Filtering: Address})
	e, _, _ := pass(t, n, start, udp(inA, out11))
	pass(t, n, start.Add(900*time.Millisecond), udp(inA, out21))
	at := start.Add(1500 * time.Millisecond)
	if _, _, ok := pass(t, n, at, udp(out11, e)); ok {
		t.Error("a permission was not forgotten")
	}
	if _, _, ok := pass(t, n, at, udp(out21, e)); !ok {
		t.Error("what is in use was forgotten")
	}
	// What comes in renews nothing.
	if _, _, ok := pass(t, n, start.Add(1900*time.Millisecond), udp(out21, e)); ok {
		t.Error("a mapping was not forgotten")
	}
	pass(t, n, start.Add(time.Minute), udp(inB, out11))
	if s := n.Stats(); s.Mappings != 1 {
		t.Errorf("%+v", s)
	}
}

func TestRebindGivesOtherPorts(t *testing.T) {
	for _, ports := range []Allocation{Preserve, Sequential, Random} {
		n := table(t, Config{Ports: ports})
		seen := map[netip.AddrPort]bool{}
		for range 3 {
			e, _, _ := pass(t, n, start, udp(inA, out11))
			seen[e] = true
			n.Rebind()
			if _, _, ok := pass(t, n, start, udp(out11, e)); ok {
				t.Errorf("%v still leads inside", e)
			}
		}
		if len(seen) < 2 {
			t.Errorf("ports %d: %v", ports, seen)
		}
	}
}

func TestHairpin(t *testing.T) {
	for _, hairpin := range []bool{false, true} {
		n := table(t, Config{Hairpin: hairpin, Filtering: AddressAndPort})
		a, _, _ := pass(t, n, start, udp(inA, out11))
		b, _, _ := pass(t, n, start, udp(inB, out11))
		if _, _, ok := pass(t, n, start, udp(inA, b)); ok {
			t.Error("filtering does not apply to a hairpin")
		}
		src, dst, ok := pass(t, n, start, udp(inB, a))
		if ok != hairpin || ok && (src != b || dst != inA) {
			t.Errorf("hairpin %v: %v > %v, %v", hairpin, src, dst, ok)
		}
		if _, _, ok := pass(t, n, start, udp(inA, inB)); ok {
			t.Error("one inside reached another by its inside address")
		}
	}
}

func TestBounds(t *testing.T) {
	n := table(t, Config{Mapping: AddressAndPort, Filtering: AddressAndPort, Ports: Random})
	for i := range maxMappings + 10 {
		dst := netip.AddrPortFrom(netip.AddrFrom4([4]byte{30, byte(i >> 16), byte(i >> 8), byte(i)}), 9)
		if _, _, ok := pass(t, n, start, udp(inA, dst)); ok != (i < maxMappings) {
			t.Fatalf("mapping %d: %v", i, ok)
		}
	}
	n = table(t, Config{Filtering: AddressAndPort})
	for i := range maxPermissions + 10 {
		pass(t, n, start, udp(inA, netip.AddrPortFrom(out11.Addr(), uint16(1+i))))
	}
	if got := len(n.byPort[portKey{protocolUDP, 5582}].permitted); got != maxPermissions {
		t.Errorf("%d permissions", got)
	}
}

func TestChecksums(t *testing.T) {
	n := table(t, Config{})
	b := udp(inA, out11)
	b[26], b[27] = 0, 0
	if !n.Translate(start, b) || b[26] != 0 || b[27] != 0 {
		t.Errorf("a datagram without checksum got %x", b[26:28])
	}
	b = udp(inA, out11)
	for range 300 {
		RaiseTTL(b)
	}
	if b[8] != 255 || !intact(b) {
		t.Errorf("TTL %d, intact %v", b[8], intact(b))
	}
}

func TestBadConfigurations(t *testing.T) {
	for _, c := range []Config{
		{}, {External: external}, {External: inA.Addr(), Inside: inside}, {External: external, Inside: inside, Mapping: 3},
		{External: external, Inside: inside, Filtering: 3}, {External: external, Inside: inside, Ports: 3},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%+v was accepted", c)
		}
	}
}

func FuzzTranslate(f *testing.F) {
	f.Add(udp(inA, out11))
	f.Add(udp(out11, netip.AddrPortFrom(external, 5582)))
	f.Add(build(protocolTCP, inA, out11, 2, ""))
	f.Add([]byte{0x4f, 0, 0, 60})
	f.Fuzz(func(t *testing.T, b []byte) {
		n := table(t, Config{Hairpin: true})
		n.Translate(start, udp(inA, out11))
		right := len(b) >= 28 && len(b) < 1<<16 && b[0] == 0x45 && int(binary.BigEndian.Uint16(b[2:])) == len(b) && intact(b) &&
			(b[9] == protocolTCP || b[26] != 0 || b[27] != 0)
		if n.Translate(start, b) {
			RaiseTTL(b)
			if right && !intact(b) {
				t.Errorf("checksums were right and are wrong: % x", b)
			}
		}
	})
}
