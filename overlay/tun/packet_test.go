package tun

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// naiveSum is RFC 1071 as it is written, word by word.
func naiveSum(sum uint32, b []byte) uint16 {
	for i := 0; i < len(b); i += 2 {
		word := uint32(b[i]) << 8
		if i+1 < len(b) {
			word |= uint32(b[i+1])
		}
		sum += word
		if sum > 0xffff {
			sum -= 0xffff
		}
	}
	return uint16(sum)
}

// naiveChecksum is the checksum a packet should have, whose transport header
// begins at start; destination is that of the pseudo-header.
func naiveChecksum(packet []byte, start int, protocol byte, dst []byte) uint16 {
	segment := slices.Clone(packet[start:])
	field := tcpChecksum
	if protocol == protocolUDP {
		field = udpChecksum
	}
	segment[field], segment[field+1] = 0, 0
	src := packet[8:24]
	if packet[0]>>4 == 4 {
		src = packet[12:16]
	}
	pseudo := slices.Concat(src, dst, binary.BigEndian.AppendUint32(nil, uint32(len(segment))), []byte{0, 0, 0, protocol})
	sum := ^naiveSum(uint32(naiveSum(0, pseudo)), segment)
	if sum == 0 && protocol == protocolUDP {
		sum = 0xffff
	}
	return sum
}

// shape describes a packet or superpacket to build.
type shape struct {
	protocol   byte
	version    int // 0 = 6
	extension  []byte
	nextHeader byte // in the IPv6 header when there is an extension
	options    []byte
	flags      byte
	sequence   uint32
	ack        uint32
	window     uint16
	urgent     uint16
	id         uint16
	// mayFragment leaves the flag "don't fragment" of IPv4 out.
	mayFragment bool
	class       byte
	hopLimit    byte
	label       uint32
	ports       [2]uint16
	payload     []byte
}

var (
	addressA = netip.MustParseAddr("fc94::a:1").As16()
	addressB = netip.MustParseAddr("fc94::b:2").As16()
)

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// build returns the packet with complete checksums, and where its transport
// header begins.
func (s shape) build() (packet []byte, start int) {
	var transport []byte
	if s.protocol == protocolTCP {
		transport = make([]byte, tcpHeaderLen)
		binary.BigEndian.PutUint32(transport[4:], s.sequence)
		binary.BigEndian.PutUint32(transport[8:], s.ack)
		transport[12] = byte((tcpHeaderLen + len(s.options)) / 4 << 4)
		transport[13] = s.flags
		binary.BigEndian.PutUint16(transport[14:], s.window)
		binary.BigEndian.PutUint16(transport[18:], s.urgent)
		transport = append(transport, s.options...)
	} else {
		transport = make([]byte, udpHeaderLen)
		binary.BigEndian.PutUint16(transport[4:], uint16(udpHeaderLen+len(s.payload)))
	}
	binary.BigEndian.PutUint16(transport, s.ports[0])
	binary.BigEndian.PutUint16(transport[2:], s.ports[1])
	transport = append(transport, s.payload...)

	var ip []byte
	dst := addressB[:]
	if s.version == 4 {
		ip = make([]byte, ipv4HeaderLen)
		ip[0], ip[1] = 0x45, s.class
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)+len(transport)))
		binary.BigEndian.PutUint16(ip[4:], s.id)
		ip[6], ip[8], ip[9] = dontFragment, s.hopLimit, s.protocol
		if s.mayFragment {
			ip[6] = 0
		}
		copy(ip[12:], addressA[12:])
		copy(ip[16:], addressB[12:])
		binary.BigEndian.PutUint16(ip[10:], ^naiveSum(0, ip))
		dst = addressB[12:]
	} else {
		ip = make([]byte, ipv6HeaderLen)
		binary.BigEndian.PutUint32(ip, 6<<28|uint32(s.class)<<20|s.label)
		binary.BigEndian.PutUint16(ip[4:], uint16(len(s.extension)+len(transport)))
		ip[6], ip[7] = s.protocol, s.hopLimit
		if s.extension != nil {
			ip[6] = s.nextHeader
		}
		copy(ip[8:], addressA[:])
		copy(ip[24:], addressB[:])
		ip = append(ip, s.extension...)
	}
	start = len(ip)
	packet = append(ip, transport...)
	field := start + tcpChecksum
	if s.protocol == protocolUDP {
		field = start + udpChecksum
	}
	binary.BigEndian.PutUint16(packet[field:], naiveChecksum(packet, start, s.protocol, dst))
	return packet, start
}

// super returns the packet as the kernel hands over a superpacket with segments
// of size bytes; size 0 = a plain packet whose checksum is to be completed.
func (s shape) super(size int) []byte {
	packet, start := s.build()
	h := Header{Flags: FlagNeedsChecksum, GSOSize: uint16(size), ChecksumStart: uint16(start), ChecksumOffset: udpChecksum}
	h.HeaderLen = uint16(start + udpHeaderLen)
	if s.protocol == protocolTCP {
		h.ChecksumOffset = tcpChecksum
		h.HeaderLen = uint16(start + tcpHeaderLen + len(s.options))
	}
	src, dst := addressA[:], addressB[:]
	if s.version == 4 {
		src, dst = addressA[12:], addressB[12:]
	}
	switch {
	case size == 0:
	case s.protocol == protocolUDP:
		h.GSO = GSOUDP
	case s.version == 4:
		h.GSO = GSOTCPv4
	default:
		h.GSO = GSOTCPv6
	}
	pseudo := slices.Concat(src, dst, binary.BigEndian.AppendUint32(nil, uint32(len(packet)-start)), []byte{0, 0, 0, s.protocol})
	binary.BigEndian.PutUint16(packet[start+int(h.ChecksumOffset):], naiveSum(0, pseudo))
	b := make([]byte, HeaderLen, HeaderLen+len(packet))
	h.Encode(b)
	return append(b, packet...)
}

// recorder is a Device that keeps what is written.
type recorder struct {
	uso    bool
	writes [][]byte
	err    error
}

func (d *recorder) ReadBatch([]byte, []int) (int, error) { panic("not read in this test") }
func (d *recorder) USO() bool                            { return d.uso }
func (d *recorder) Close() error                         { return nil }
func (d *recorder) Write(parts [][]byte) error {
	d.writes = append(d.writes, slices.Concat(parts...))
	return d.err
}

// split cuts b and returns copies of the packets.
func split(t testing.TB, b []byte) [][]byte {
	t.Helper()
	var s Splitter
	if err := s.Reset(slices.Clone(b)); err != nil {
		t.Fatal(err)
	}
	var packets [][]byte
	for s.Next() {
		packets = append(packets, slices.Clone(s.Packet()))
	}
	if len(packets) == 0 {
		t.Fatal("a superpacket without packets")
	}
	return packets
}

// coalesce returns what a Coalescer writes for packets.
func coalesce(t testing.TB, uso bool, packets [][]byte) [][]byte {
	t.Helper()
	d := &recorder{uso: uso}
	c := NewCoalescer(d)
	for _, p := range packets {
		if err := c.Add(p); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	return d.writes
}

// difference is "" when the packets are the same; cmp is slow in finding that.
func difference(want, got [][]byte) string {
	if slices.EqualFunc(want, got, bytes.Equal) {
		return ""
	}
	return cmp.Diff(want, got)
}
