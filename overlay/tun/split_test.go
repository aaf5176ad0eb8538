package tun

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"
)

// cut is what Splitter should make of a superpacket, each packet built by itself.
func cut(s shape, size int) [][]byte {
	var packets [][]byte
	rest := s
	for i := 0; ; i++ {
		segment := rest
		last := len(rest.payload) <= size
		segment.payload = rest.payload[:min(size, len(rest.payload))]
		if i > 0 {
			segment.flags &^= tcpCWR
		}
		if !last {
			segment.flags &^= tcpFIN | tcpPSH
		}
		segment.id += uint16(i)
		p, _ := segment.build()
		packets = append(packets, p)
		if last {
			return packets
		}
		rest.payload = rest.payload[size:]
		rest.sequence += uint32(size)
	}
}

func randomShape(r *rand.Rand, protocol byte) shape {
	return shape{
		protocol: protocol, flags: tcpACK, sequence: r.Uint32(), ack: r.Uint32(), window: uint16(r.Uint32()),
		id: uint16(r.Uint32()), class: byte(r.Uint32()), hopLimit: 64, label: r.Uint32N(1 << 20),
		ports: [2]uint16{uint16(r.Uint32()), uint16(r.Uint32())},
	}
}

func TestSplit(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	timestamps := []byte{1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8}
	destination := []byte{protocolTCP, 0, 1, 4, 0, 0, 0, 0}
	for _, version := range []int{4, 6} {
		for _, protocol := range []byte{protocolTCP, protocolUDP} {
			for _, flags := range []byte{tcpACK, tcpACK | tcpPSH, tcpACK | tcpFIN | tcpPSH | tcpCWR, tcpACK | tcpECE} {
				for _, size := range []int{1, 7, 8, 39, 40, 512, 1228, 1348} {
					for _, n := range []int{1, size, size + 1, 3 * size, 40*size + size/2 + 1} {
						s := randomShape(r, protocol)
						s.version, s.flags = version, flags
						if size%2 == 0 {
							s.options = timestamps
						}
						if size%3 == 0 && version == 6 {
							s.extension, s.nextHeader = slices.Clone(destination), 60
							s.extension[0] = protocol
						}
						s.payload = randomBytes(r, n)
						s.sequence = -uint32(r.IntN(5000)) // wraps within
						name := fmt.Sprintf("IPv%d protocol %d flags %#x size %d payload %d", version, protocol, flags, size, n)
						if diff := difference(cut(s, size), split(t, s.super(size))); diff != "" {
							t.Fatalf("%s: %s", name, diff)
						}
					}
				}
			}
		}
	}
}

// A superpacket from a socket with a routing header names the first hop as its
// destination, but the pseudo-header has the last one.
func TestSplitRoutingHeader(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	s := randomShape(r, protocolTCP)
	s.extension = append([]byte{protocolTCP, 2, 2, 1, 0, 0, 0, 0}, addressA[:]...)
	s.nextHeader = 43
	s.payload = randomBytes(r, 5000)
	b := s.super(1000)
	start := HeaderLen + ipv6HeaderLen + len(s.extension)
	length := len(b) - start
	binary.BigEndian.PutUint16(b[start+tcpChecksum:], PseudoHeader(protocolTCP, addressA[:], addressA[:], length))
	for i, p := range split(t, b) {
		at := start - HeaderLen
		want := naiveChecksum(p, at, protocolTCP, addressA[:])
		if got := binary.BigEndian.Uint16(p[at+tcpChecksum:]); got != want {
			t.Errorf("segment %d: checksum %#04x, want %#04x", i, got, want)
		}
	}
}

func TestSplitPlain(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for _, version := range []int{4, 6} {
		for _, protocol := range []byte{protocolTCP, protocolUDP} {
			s := randomShape(r, protocol)
			s.version, s.flags = version, tcpSYN
			for n := range 100 {
				s.payload = randomBytes(r, n)
				want, _ := s.build()
				if diff := difference([][]byte{want}, split(t, s.super(0))); diff != "" {
					t.Fatalf("to be completed: %s", diff)
				}
				complete := append(make([]byte, HeaderLen), want...)
				if diff := difference([][]byte{want}, split(t, complete)); diff != "" {
					t.Fatalf("complete: %s", diff)
				}
			}
		}
	}
	// What is no IP packet at all passes: others judge it.
	if diff := difference([][]byte{{0}}, split(t, append(make([]byte, HeaderLen), 0))); diff != "" {
		t.Error(diff)
	}
}

// A UDP checksum of zero means none, and is never sent.
func TestSplitZeroChecksum(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	s := randomShape(r, protocolUDP)
	s.payload = randomBytes(r, 200)
	for _, size := range []int{0, 100} {
		first := cut(s, max(size, 100))[0]
		if size == 0 {
			first, _ = s.build()
		}
		// Adding the checksum to the payload makes the sum of all ones.
		sum := naiveSum(uint32(binary.BigEndian.Uint16(first[ipv6HeaderLen+udpChecksum:])), s.payload[:2])
		binary.BigEndian.PutUint16(s.payload, sum)
		p := split(t, s.super(size))[0]
		if got := binary.BigEndian.Uint16(p[ipv6HeaderLen+udpChecksum:]); got != 0xffff {
			t.Errorf("segment size %d: checksum %#04x, want 0xffff", size, got)
		}
	}
}

// Payload stays where the kernel put it.
func TestSplitInPlace(t *testing.T) {
	s := randomShape(rand.New(rand.NewPCG(11, 12)), protocolTCP)
	s.payload = randomBytes(rand.New(rand.NewPCG(1, 1)), 5000)
	b := s.super(1000)
	var splitter Splitter
	if err := splitter.Reset(b); err != nil {
		t.Fatal(err)
	}
	if got := splitter.Segments(); got != 5 {
		t.Fatalf("%d segments, want 5", got)
	}
	for i := 0; splitter.Next(); i++ {
		p := splitter.Packet()
		if unsafe.SliceData(p) != &b[HeaderLen+1000*i] {
			t.Fatalf("segment %d is not in place", i)
		}
		if cap(p) != len(p) {
			t.Fatalf("segment %d can be extended over the next one", i)
		}
		clear(p) // what a caller does to it must not matter to the next
	}
	fresh := s.super(1000)
	if allocs := testing.AllocsPerRun(100, func() {
		copy(b, fresh)
		if err := splitter.Reset(b); err != nil {
			t.Fatal(err)
		}
		for splitter.Next() {
		}
	}); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func TestSplitRefuses(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 14))
	tcp := randomShape(r, protocolTCP)
	tcp.payload = randomBytes(r, 4000)
	udp := randomShape(r, protocolUDP)
	udp.payload = tcp.payload
	tcp4 := tcp
	tcp4.version = 4

	header := func(change func(h *Header)) func([]byte) []byte {
		return func(b []byte) []byte {
			var h Header
			if err := h.Decode(b); err != nil {
				t.Fatal(err)
			}
			change(&h)
			h.Encode(b)
			return b
		}
	}
	for name, test := range map[string]struct {
		of     shape
		size   int
		change func(b []byte) []byte
	}{
		"nothing":                  {tcp, 1000, func(b []byte) []byte { return nil }},
		"half a header":            {tcp, 1000, func(b []byte) []byte { return b[:HeaderLen-1] }},
		"no packet":                {tcp, 1000, func(b []byte) []byte { return b[:HeaderLen] }},
		"too long":                 {tcp, 0, func(b []byte) []byte { return make([]byte, HeaderLen+MaxPacket+1) }},
		"cut in the IP header":     {tcp, 1000, func(b []byte) []byte { return b[:HeaderLen+20] }},
		"cut in the TCP header":    {tcp, 1000, func(b []byte) []byte { return b[:HeaderLen+ipv6HeaderLen+19] }},
		"cut in the UDP header":    {udp, 1000, func(b []byte) []byte { return b[:HeaderLen+ipv6HeaderLen+7] }},
		"segments of nothing":      {tcp, 1000, header(func(h *Header) { h.GSOSize = 0 })},
		"129 segments":             {tcp, 32, header(func(h *Header) { h.GSOSize = 31 })},
		"headers beyond packet":    {tcp, 1000, header(func(h *Header) { h.HeaderLen = 5000 })},
		"checksum start beyond":    {tcp, 1000, header(func(h *Header) { h.ChecksumStart = 5000 })},
		"checksum start at end":    {tcp, 1000, header(func(h *Header) { h.ChecksumStart = 4060 })},
		"checksum start in IP":     {tcp, 1000, header(func(h *Header) { h.ChecksumStart = 39 })},
		"checksum offset of UDP":   {tcp, 1000, header(func(h *Header) { h.ChecksumOffset = udpChecksum })},
		"checksum offset of TCP":   {udp, 1000, header(func(h *Header) { h.ChecksumOffset = tcpChecksum })},
		"no checksum to complete":  {tcp, 1000, header(func(h *Header) { h.Flags = 0 })},
		"UDP fragmentation":        {udp, 1000, header(func(h *Header) { h.GSO = 3 })},
		"unknown kind":             {udp, 1000, header(func(h *Header) { h.GSO = 77 })},
		"UDP with the bit of ECN":  {udp, 1000, header(func(h *Header) { h.GSO |= GSOECN })},
		"nothing but ECN":          {tcp, 1000, header(func(h *Header) { h.GSO = GSOECN })},
		"IPv6 as IPv4":             {tcp, 1000, header(func(h *Header) { h.GSO = GSOTCPv4 })},
		"IPv4 as IPv6":             {tcp4, 1000, header(func(h *Header) { h.GSO = GSOTCPv6 })},
		"IP version 5":             {tcp, 1000, func(b []byte) []byte { b[HeaderLen] = 0x50; return b }},
		"UDP in IP version 0":      {udp, 1000, func(b []byte) []byte { b[HeaderLen] = 0; return b }},
		"IPv4 options not counted": {tcp4, 1000, func(b []byte) []byte { b[HeaderLen] = 0x46; return b }},
		"TCP header of 16 bytes":   {tcp, 1000, func(b []byte) []byte { b[HeaderLen+52] = 0x40; return b }},
		"TCP header beyond":        {tcp, 1000, func(b []byte) []byte { b[HeaderLen+52] = 0xf0; return b[:HeaderLen+99] }},
		"plain, sum beyond":        {tcp, 0, header(func(h *Header) { h.ChecksumStart = 4059 })},
		"plain, field beyond":      {tcp, 0, header(func(h *Header) { h.ChecksumOffset = 65535 })},
		"plain, sum of IP header":  {tcp, 0, header(func(h *Header) { h.ChecksumStart = 8 })},
	} {
		t.Run(name, func(t *testing.T) {
			var s Splitter
			if err := s.Reset(test.of.super(test.size)); err != nil {
				t.Fatalf("before the change: %v", err)
			}
			if err := s.Reset(test.change(test.of.super(test.size))); err == nil {
				t.Error("taken")
			}
			if s.Next() || s.Packet() != nil || s.Segments() != 0 {
				t.Error("a packet after an error")
			}
		})
	}
}

func FuzzSplit(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		var s Splitter
		original := slices.Clone(b)
		if err := s.Reset(b); err != nil {
			if s.Next() {
				t.Fatal("a packet after an error")
			}
			return
		}
		var h Header
		if err := h.Decode(original); err != nil {
			t.Fatal(err)
		}
		headerLen := 0
		if h.GSO != GSONone {
			headerLen = int(h.ChecksumStart) + udpHeaderLen
			if h.GSO != GSOUDP {
				headerLen = int(h.ChecksumStart) + int(original[HeaderLen+int(h.ChecksumStart)+12]>>4)*4
			}
		}
		var payload []byte
		n := 0
		for s.Next() {
			n++
			p := s.Packet()
			if h.GSO == GSONone {
				return
			}
			if len(p) > headerLen+int(h.GSOSize) {
				t.Fatalf("a segment of %d bytes", len(p))
			}
			payload = append(payload, p[headerLen:]...)
		}
		if n == 0 || n > MaxSegments {
			t.Fatalf("%d segments", n)
		}
		if !bytes.Equal(payload, original[HeaderLen+headerLen:]) {
			t.Fatal("the payload has changed")
		}
	})
}

func BenchmarkSplit(b *testing.B) {
	r := rand.New(rand.NewPCG(15, 16))
	for name, protocol := range map[string]byte{"TCP": protocolTCP, "UDP": protocolUDP} {
		b.Run(name, func(b *testing.B) {
			s := randomShape(r, protocol)
			s.payload = randomBytes(r, 60000)
			super := s.super(1380)
			b.SetBytes(int64(len(super)))
			var splitter Splitter
			work := make([]byte, len(super))
			for b.Loop() {
				copy(work, super) // the headers would do, but this is what a read costs at least
				if err := splitter.Reset(work); err != nil {
					b.Fatal(err)
				}
				for splitter.Next() {
				}
			}
		})
	}
}
