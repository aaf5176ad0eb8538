package lane

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/hnet-robotics/hnet_bridge/overlay/tun"
)

// datagram is a packet for tests.
type datagram struct {
	version  int
	protocol byte
	class    byte
	label    uint32
	port     uint16
	payload  int
	fragment bool
}

func (d datagram) packet() []byte {
	transport := make([]byte, 8+d.payload)
	if d.protocol == protocolTCP {
		transport = make([]byte, 20+d.payload)
		transport[12] = 5 << 4
	}
	binary.BigEndian.PutUint16(transport, 40000)
	binary.BigEndian.PutUint16(transport[2:], d.port)
	if d.version == 4 {
		b := make([]byte, ipv4HeaderLen, ipv4HeaderLen+len(transport))
		b[0], b[1], b[9] = 0x45, d.class, d.protocol
		binary.BigEndian.PutUint16(b[2:], uint16(cap(b)))
		if d.fragment {
			binary.BigEndian.PutUint16(b[6:], 100)
		}
		binary.BigEndian.PutUint16(b[10:], ^tun.Checksum(0, b))
		return append(b, transport...)
	}
	b := make([]byte, ipv6HeaderLen)
	binary.BigEndian.PutUint32(b, 6<<28|uint32(d.class)<<20|d.label)
	b[6] = d.protocol
	from, to := netip.MustParseAddr("fc94::1").As16(), netip.MustParseAddr("fc94::2").As16()
	copy(b[8:], from[:])
	copy(b[24:], to[:])
	if d.fragment {
		b[6] = protocolFragment
		transport = append([]byte{d.protocol, 0, 0, 8, 1, 2, 3, 4}, transport...)
	}
	binary.BigEndian.PutUint16(b[4:], uint16(len(transport)))
	return append(b, transport...)
}

func (d datagram) superpacket() []byte { return append(make([]byte, tun.HeaderLen), d.packet()...) }

func TestByClass(t *testing.T) {
	for class, want := range map[byte]Lane{0: Normal, 46 << 2: Urgent, 44 << 2: Urgent, 40 << 2: Urgent, 48 << 2: Urgent, 8 << 2: Bulk, 1 << 2: Bulk, 34 << 2: Normal, 46<<2 | 3: Urgent} {
		if got := ByClass(class); got != want {
			t.Errorf("class %#x: %v, want %v", class, got, want)
		}
	}
}

func TestParse(t *testing.T) {
	flow := func(d datagram) uint32 { return parse(d.packet()).flow }
	same := func(name string, want bool, a, b datagram) {
		t.Helper()
		if (flow(a) == flow(b)) != want {
			t.Errorf("%s: the same flow is %v, want %v", name, !want, want)
		}
	}
	for _, version := range []int{4, 6} {
		base := datagram{version: version, protocol: protocolUDP, port: 1}
		same("same ports", true, base, base)
		other := base
		other.port = 2
		same("other port", false, base, other)
		other = base
		other.protocol = protocolTCP
		same("other protocol", false, base, other)
		other = base
		other.class = 46 << 2
		same("other class", true, base, other)
		for _, k := range []struct {
			protocol, class byte
			want            bool
		}{{protocolUDP, 0, false}, {protocolUDP, 1, true}, {protocolUDP, 2, true}, {protocolTCP, 0, true}, {protocolSCTP, 0, true}, {protocolDCCP, 0, true}, {58, 0, false}} {
			if got := parse(datagram{version: version, protocol: k.protocol, class: k.class}.packet()).responsive; got != k.want {
				t.Errorf("version %d, protocol %d, class %d: responsive is %v", version, k.protocol, k.class, got)
			}
		}
	}
	a := datagram{version: 6, protocol: protocolUDP, port: 1, label: 77}
	b := a
	b.fragment = true
	same("a fragment with the flow label", true, a, b)
	b.label = 78
	same("another label", false, a, b)
}

func TestMark(t *testing.T) {
	for _, version := range []int{4, 6} {
		for class := range 256 {
			b := datagram{version: version, protocol: protocolUDP, class: byte(class), payload: 10}.packet()
			want := byte(class)
			if class&ecnMask != 0 {
				want |= ecnCE
			}
			if got := Mark(b); got != (class&ecnMask != 0) {
				t.Fatalf("version %d: class %#x was marked: %v", version, class, got)
			}
			fold := uint16(0xffff)
			if version == 4 {
				fold = tun.Checksum(0, b[:ipv4HeaderLen])
			}
			if lane := parse(b); (^fold != 0) || tosOf(b) != want || lane.flow == 0 {
				t.Fatalf("version %d: class %#x became %#x, checksum %#x", version, class, tosOf(b), fold)
			}
		}
	}
}

func tosOf(b []byte) byte { return class(b) }

func FuzzParse(f *testing.F) {
	for _, version := range []int{4, 6} {
		f.Add(datagram{version: version, protocol: protocolTCP, class: 2, payload: 3}.packet())
		f.Add(datagram{version: version, protocol: protocolUDP, fragment: true}.packet())
	}
	f.Add([]byte{0x60})
	f.Fuzz(func(t *testing.T, b []byte) {
		before := class(b)
		parse(b)
		if Mark(b) && class(b) != before|ecnCE {
			t.Fatal("marking changed more than the mark")
		}
	})
}
