package tun

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
)

// uncoalesce cuts all that was written.
func uncoalesce(t testing.TB, writes [][]byte) [][]byte {
	t.Helper()
	var packets [][]byte
	for _, w := range writes {
		packets = append(packets, split(t, w)...)
	}
	return packets
}

// randomFlows returns packets of a few flows with all that may break one.
func randomFlows(r *rand.Rand) [][]byte {
	flows := make([]shape, 1+r.IntN(3))
	for i := range flows {
		protocol := byte(protocolTCP)
		if r.IntN(3) == 0 {
			protocol = protocolUDP
		}
		flows[i] = randomShape(r, protocol)
		flows[i].version = []int{6, 6, 4}[r.IntN(3)]
		if r.IntN(2) == 0 {
			flows[i].options = randomBytes(r, 12)
		}
	}
	var packets [][]byte
	size, f := 1+r.IntN(1400), 0
	for range 1 + r.IntN(200) {
		s := &flows[f]
		s.payload = randomBytes(r, size)
		s.flags = tcpACK
		switch r.IntN(40) {
		case 0:
			f = r.IntN(len(flows))
		case 1:
			s.payload = s.payload[:r.IntN(size+1)]
		case 2:
			s.flags |= tcpPSH
		case 3:
			s.flags = byte(r.Uint32())
		case 4:
			s.sequence += r.Uint32N(3)
		case 5:
			s.window++
		case 6:
			s.ack += r.Uint32N(2)
		case 7:
			size = 1 + r.IntN(1400)
		case 8:
			s.class = byte(r.IntN(4))
		case 9:
			s.hopLimit--
		case 10:
			s.label = r.Uint32N(1 << 20)
		case 11:
			s.options = randomBytes(r, 4*r.IntN(11))
		case 12:
			s.version = 10 - s.version
		case 13:
			s.payload = nil
		case 14:
			s.id += uint16(r.IntN(3))
		case 15:
			s.mayFragment = !s.mayFragment
		}
		p, _ := s.build()
		s.id++
		s.sequence += uint32(len(s.payload))
		if r.IntN(60) == 0 {
			p = p[:r.IntN(len(p)+1)]
		}
		if len(p) > 0 {
			packets = append(packets, p)
		}
	}
	return packets
}

func TestSplitUndoesCoalesce(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 17))
		packets := randomFlows(r)
		writes := coalesce(t, seed%2 == 0, packets)
		got := uncoalesce(t, writes)
		for i := range min(len(got), len(packets)) {
			clearID(got[i])
			clearID(packets[i])
		}
		if diff := difference(packets, got); diff != "" {
			t.Fatalf("seed %d: %s", seed, diff)
		}
		for _, w := range writes {
			if len(w) > HeaderLen+MaxPacket {
				t.Fatalf("seed %d: a write of %d bytes", seed, len(w))
			}
			if seed%2 == 1 && GSO(w[1]) == GSOUDP {
				t.Fatalf("seed %d: a UDP superpacket for a device that takes none", seed)
			}
		}
	}
}

func TestCoalesceUndoesSplit(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 18))
		s := randomShape(r, protocolTCP)
		if seed%2 == 0 {
			s.protocol = protocolUDP
		} else {
			s.options = randomBytes(r, 12)
			s.flags |= []byte{0, tcpPSH, tcpFIN, tcpFIN | tcpPSH, tcpECE}[r.IntN(5)]
		}
		s.version = []int{6, 4}[seed/2%2]
		size := 1 + r.IntN(1400)
		s.payload = randomBytes(r, size+1+r.IntN(min(64*size, 65000)-size))
		super := s.super(size)
		if diff := difference([][]byte{super}, coalesce(t, true, split(t, super))); diff != "" {
			t.Fatalf("seed %d: %s", seed, diff)
		}
	}
}

// One difference each keeps two packets apart.
func TestCoalesceConditions(t *testing.T) {
	r := rand.New(rand.NewPCG(19, 20))
	payload := randomBytes(r, 1000)
	options := []byte{1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8}
	type change = func(first, second *shape)
	for name, test := range map[string]struct {
		protocol byte
		want     int // writes
		change   change
	}{
		"TCP alike":            {protocolTCP, 1, func(_, _ *shape) {}},
		"UDP alike":            {protocolUDP, 1, func(_, _ *shape) {}},
		"second shorter":       {protocolTCP, 1, func(_, b *shape) { b.payload = b.payload[:999] }},
		"second longer":        {protocolTCP, 2, func(a, b *shape) { a.payload = a.payload[:999]; b.sequence-- }},
		"UDP second longer":    {protocolUDP, 2, func(a, _ *shape) { a.payload = a.payload[:999] }},
		"UDP second empty":     {protocolUDP, 2, func(_, b *shape) { b.payload = nil }},
		"second without":       {protocolTCP, 2, func(_, b *shape) { b.payload = nil }},
		"first without":        {protocolTCP, 2, func(a, b *shape) { a.payload = nil; b.sequence -= 1000 }},
		"gap":                  {protocolTCP, 2, func(_, b *shape) { b.sequence++ }},
		"again":                {protocolTCP, 2, func(_, b *shape) { b.sequence -= 1000 }},
		"acknowledgement":      {protocolTCP, 2, func(_, b *shape) { b.ack++ }},
		"window":               {protocolTCP, 2, func(_, b *shape) { b.window++ }},
		"urgent pointer":       {protocolTCP, 2, func(_, b *shape) { b.urgent++ }},
		"options":              {protocolTCP, 2, func(a, b *shape) { a.options = options; b.options = slices.Clone(options); b.options[11]++ }},
		"same options":         {protocolTCP, 1, func(a, b *shape) { a.options, b.options = options, options }},
		"options missing":      {protocolTCP, 2, func(a, _ *shape) { a.options = options }},
		"PSH last":             {protocolTCP, 1, func(_, b *shape) { b.flags |= tcpPSH }},
		"PSH first":            {protocolTCP, 2, func(a, _ *shape) { a.flags |= tcpPSH }},
		"FIN last":             {protocolTCP, 1, func(_, b *shape) { b.flags |= tcpFIN }},
		"SYN":                  {protocolTCP, 2, func(_, b *shape) { b.flags |= tcpSYN }},
		"RST":                  {protocolTCP, 2, func(_, b *shape) { b.flags |= tcpRST }},
		"URG":                  {protocolTCP, 2, func(_, b *shape) { b.flags |= tcpURG }},
		"CWR":                  {protocolTCP, 2, func(_, b *shape) { b.flags |= tcpCWR }},
		"CWR first":            {protocolTCP, 2, func(a, _ *shape) { a.flags |= tcpCWR }},
		"ECE":                  {protocolTCP, 2, func(_, b *shape) { b.flags |= tcpECE }},
		"ECE both":             {protocolTCP, 1, func(a, b *shape) { a.flags |= tcpECE; b.flags |= tcpECE }},
		"no ACK":               {protocolTCP, 2, func(a, b *shape) { a.flags, b.flags = 0, 0 }},
		"source port":          {protocolTCP, 2, func(_, b *shape) { b.ports[0]++ }},
		"UDP destination port": {protocolUDP, 2, func(_, b *shape) { b.ports[1]++ }},
		"congestion mark":      {protocolTCP, 2, func(_, b *shape) { b.class ^= 3 }},
		"traffic class":        {protocolUDP, 2, func(_, b *shape) { b.class ^= 0x80 }},
		"hop limit":            {protocolUDP, 2, func(_, b *shape) { b.hopLimit-- }},
		"flow label":           {protocolTCP, 2, func(_, b *shape) { b.label ^= 1 }},
		"protocol":             {protocolTCP, 2, func(_, b *shape) { b.protocol = protocolUDP }},
		"IP version":           {protocolTCP, 2, func(_, b *shape) { b.version = 4 }},
		"extension header": {protocolUDP, 2, func(a, b *shape) {
			a.extension, a.nextHeader = []byte{protocolUDP, 0, 1, 4, 0, 0, 0, 0}, 60
			b.extension, b.nextHeader = a.extension, 60
		}},
	} {
		t.Run(name, func(t *testing.T) {
			first := randomShape(r, test.protocol)
			first.payload = payload
			second := first
			second.sequence += 1000
			test.change(&first, &second)
			a, _ := first.build()
			b, _ := second.build()
			writes := coalesce(t, true, [][]byte{a, b})
			if len(writes) != test.want {
				t.Errorf("%d writes, want %d", len(writes), test.want)
			}
			if diff := difference([][]byte{a, b}, uncoalesce(t, writes)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// The same for what only IPv4 has.
func TestCoalesceConditionsIPv4(t *testing.T) {
	payload := randomBytes(rand.New(rand.NewPCG(19, 21)), 1000)
	for _, protocol := range []byte{protocolTCP, protocolUDP} {
		for name, test := range map[string]struct {
			want   int // writes
			change func(a, b, c *shape)
		}{
			"alike":                 {1, func(_, _, _ *shape) {}},
			"may be fragmented":     {1, func(a, b, c *shape) { a.mayFragment, b.mayFragment, c.mayFragment = true, true, true }},
			"one may be fragmented": {3, func(_, b, _ *shape) { b.mayFragment = true }},
			"a gap":                 {2, func(_, _, c *shape) { c.id++ }},
			"identification 0":      {1, func(a, b, c *shape) { a.id, b.id, c.id = 0, 0, 0 }},
			"one identification": {3, func(a, b, c *shape) {
				a.id, b.id, c.id = 7, 7, 7
				a.mayFragment, b.mayFragment, c.mayFragment = true, true, true
			}},
			"first the same, then another": {2, func(a, b, c *shape) { a.id, b.id, c.id = 7, 7, 8 }},
			"back to the first":            {2, func(a, b, c *shape) { a.id, b.id, c.id = 7, 8, 7 }},
			"over the end":                 {1, func(a, b, c *shape) { a.id, b.id, c.id = 0xffff, 0, 1 }},
			"type of service":              {2, func(_, _, c *shape) { c.class ^= 4 }},
			"congestion mark":              {3, func(_, b, _ *shape) { b.class ^= 1 }},
			"time to live":                 {2, func(_, _, c *shape) { c.hopLimit-- }},
		} {
			t.Run(fmt.Sprint(protocol, " ", name), func(t *testing.T) {
				a := randomShape(rand.New(rand.NewPCG(20, 22)), protocol)
				a.version, a.payload, a.id = 4, payload, 100
				b, c := a, a
				b.sequence, c.sequence = a.sequence+1000, a.sequence+2000
				b.id, c.id = 101, 102
				test.change(&a, &b, &c)
				var packets [][]byte
				for _, s := range []shape{a, b, c} {
					p, _ := s.build()
					packets = append(packets, p)
				}
				writes := coalesce(t, true, packets)
				if len(writes) != test.want {
					t.Errorf("%d writes, want %d", len(writes), test.want)
				}
				got := uncoalesce(t, writes)
				for i := range min(len(got), len(packets)) {
					clearID(got[i])
					clearID(packets[i])
				}
				if diff := difference(packets, got); diff != "" {
					t.Error(diff)
				}
			})
		}
	}
}

// clearID takes the identification out of an IPv4 packet that must not be fragmented, where it has no meaning, and out of its checksum.
func clearID(p []byte) {
	if len(p) >= ipv4HeaderLen && p[0] == 0x45 && p[6]&dontFragment != 0 && Checksum(0, p[:ipv4HeaderLen]) == 0xffff {
		clear(p[4:6])
		clear(p[10:12])
		binary.BigEndian.PutUint16(p[10:], ^Checksum(0, p[:ipv4HeaderLen]))
	}
}

// Each source and destination byte belongs to the flow.
func TestCoalesceAddresses(t *testing.T) {
	s := randomShape(rand.New(rand.NewPCG(21, 22)), protocolUDP)
	s.payload = make([]byte, 100)
	a, _ := s.build()
	for i := 8; i < ipv6HeaderLen; i++ {
		b := slices.Clone(a)
		b[i] ^= 1
		binary.BigEndian.PutUint16(b[ipv6HeaderLen+udpChecksum:], naiveChecksum(b, ipv6HeaderLen, protocolUDP, b[24:40]))
		if n := len(coalesce(t, true, [][]byte{a, b})); n != 2 {
			t.Errorf("byte %d: %d writes, want 2", i, n)
		}
	}
}

// Packets whose lengths contradict each other, and UDP without checksum, pass
// untouched and unmarked.
func TestCoalescePassesUnknown(t *testing.T) {
	s := randomShape(rand.New(rand.NewPCG(23, 24)), protocolUDP)
	s.payload = make([]byte, 100)
	udp, _ := s.build()
	s.version = 4
	udp4, _ := s.build()
	s.version, s.protocol = 6, protocolTCP
	tcp, _ := s.build()
	edit := func(p []byte, change func(p []byte)) []byte {
		p = slices.Clone(p)
		change(p)
		return p
	}
	for name, p := range map[string][]byte{
		"one byte":               {0x60},
		"trailing byte":          append(slices.Clone(tcp), 0),
		"cut":                    tcp[:len(tcp)-1],
		"IPv6 length":            edit(tcp, func(p []byte) { p[5]++ }),
		"UDP length":             edit(udp, func(p []byte) { p[ipv6HeaderLen+5]++ }),
		"UDP without checksum":   edit(udp, func(p []byte) { clear(p[ipv6HeaderLen+6 : ipv6HeaderLen+8]) }),
		"TCP header too short":   edit(tcp, func(p []byte) { p[ipv6HeaderLen+12] = 0x40 }),
		"TCP header beyond":      edit(tcp[:60], func(p []byte) { p[5] = 20; p[ipv6HeaderLen+12] = 0x60 }),
		"shorter than any TCP":   edit(tcp[:59], func(p []byte) { p[5] = 19 }),
		"ICMPv6":                 edit(udp, func(p []byte) { p[6] = 58 }),
		"fragment":               edit(udp, func(p []byte) { p[6] = 44 }),
		"IP version":             edit(udp, func(p []byte) { p[0] = 0x40 }),
		"IPv4 length":            edit(udp4, func(p []byte) { p[3]++ }),
		"IPv4 checksum":          edit(udp4, func(p []byte) { p[10]++ }),
		"IPv4 fragment":          edit(udp4, func(p []byte) { p[6] |= 0x20; p[10] -= 0x20 }),
		"IPv4 options":           edit(udp4, func(p []byte) { p[0] = 0x46 }),
		"IPv4 without checksum":  edit(udp4, func(p []byte) { clear(p[ipv4HeaderLen+6 : ipv4HeaderLen+8]) }),
		"beyond the largest":     make([]byte, MaxPacket+1),
		"IPv6 header, no more":   edit(tcp[:40], func(p []byte) { p[5] = 0 }),
		"seven bytes of payload": edit(udp[:47], func(p []byte) { p[5] = 7 }),
	} {
		t.Run(name, func(t *testing.T) {
			want := append(make([]byte, HeaderLen), p...)
			if diff := difference([][]byte{want, want}, coalesce(t, true, [][]byte{p, p})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestCoalesceLimits(t *testing.T) {
	s := randomShape(rand.New(rand.NewPCG(25, 26)), protocolTCP)
	for _, test := range []struct{ size, packets, want int }{
		{1, 64, 1}, {1, 65, 2}, {1, 128, 2}, {1300, 50, 1}, {1300, 51, 2}, {13095, 5, 1}, {13096, 5, 2}, {65475, 2, 2},
	} {
		var packets [][]byte
		for range test.packets {
			s.payload = make([]byte, test.size)
			p, _ := s.build()
			packets = append(packets, p)
			s.sequence += uint32(test.size)
		}
		if n := len(coalesce(t, true, packets)); n != test.want {
			t.Errorf("%d packets with %d bytes: %d writes, want %d", test.packets, test.size, n, test.want)
		}
	}
}

// A failed write loses what it carried and nothing else.
func TestCoalesceAfterError(t *testing.T) {
	s := randomShape(rand.New(rand.NewPCG(27, 28)), protocolTCP)
	s.payload = make([]byte, 100)
	p, _ := s.build()
	d := &recorder{err: io.ErrShortWrite}
	c := NewCoalescer(d)
	if err := c.Add(p); err != nil {
		t.Fatalf("nothing was to be written yet: %v", err)
	}
	if err := c.Add([]byte{0x60}); !errors.Is(err, io.ErrShortWrite) {
		t.Fatalf("error %v", err)
	}
	if err := c.Add(p); err != nil {
		t.Fatal(err)
	}
	if err := c.Add(p); !errors.Is(err, io.ErrShortWrite) { // not the continuation
		t.Fatalf("error %v", err)
	}
	d.err = nil
	for range 2 {
		if err := c.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	var got [][]byte
	for _, w := range d.writes {
		got = append(got, split(t, w)...)
	}
	if diff := difference([][]byte{p, {0x60}, p, p}, got); diff != "" {
		t.Error(diff)
	}
}

// nowhere is a Device that takes everything.
type nowhere struct{ recorder }

func (*nowhere) Write([][]byte) error { return nil }

func TestCoalesceAllocatesNothing(t *testing.T) {
	s := randomShape(rand.New(rand.NewPCG(29, 30)), protocolTCP)
	s.payload = make([]byte, 60000)
	packets := append(cut(s, 1380), []byte{0x60})
	c := NewCoalescer(&nowhere{})
	if allocs := testing.AllocsPerRun(100, func() {
		for _, p := range packets {
			if err := c.Add(p); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Flush(); err != nil {
			t.Fatal(err)
		}
	}); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

// FuzzCoalesce takes packets with a length of two bytes in front of each.
func FuzzCoalesce(f *testing.F) {
	s := randomShape(rand.New(rand.NewPCG(31, 32)), protocolUDP)
	s.version, s.payload = 4, make([]byte, 20)
	var train []byte
	for range 3 {
		p, _ := s.build()
		train = append(binary.BigEndian.AppendUint16(train, uint16(len(p))), p...)
		s.id++
	}
	f.Add(train)
	f.Fuzz(func(t *testing.T, b []byte) {
		var packets [][]byte
		for len(b) > 2 {
			n := min(int(binary.BigEndian.Uint16(b)), len(b)-2)
			p := b[2 : 2+n : 2+n]
			b = b[2+n:]
			if n > 0 {
				repair(p)
				packets = append(packets, p)
			}
		}
		writes := coalesce(t, true, packets)
		got := uncoalesce(t, writes)
		for i := range min(len(got), len(packets)) {
			clearID(got[i])
			clearID(packets[i])
		}
		if diff := difference(packets, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

// repair gives TCP and UDP packets the right checksum, since the Coalescer has
// it made anew without looking.
func repair(p []byte) {
	ipLen, protocol := network(p)
	if ipLen == 0 {
		return
	}
	dst := p[ipLen-4 : ipLen]
	if ipLen == ipv6HeaderLen {
		dst = p[24:40]
	}
	switch transport := p[ipLen:]; {
	case protocol == protocolTCP && len(transport) >= tcpHeaderLen:
		binary.BigEndian.PutUint16(transport[tcpChecksum:], naiveChecksum(p, ipLen, protocolTCP, dst))
	case protocol == protocolUDP && !(transport[6] == 0 && transport[7] == 0):
		binary.BigEndian.PutUint16(transport[udpChecksum:], naiveChecksum(p, ipLen, protocolUDP, dst))
	}
}

func BenchmarkCoalesce(b *testing.B) {
	r := rand.New(rand.NewPCG(31, 32))
	for name, protocol := range map[string]byte{"TCP": protocolTCP, "UDP": protocolUDP} {
		b.Run(name, func(b *testing.B) {
			s := randomShape(r, protocol)
			s.payload = randomBytes(r, 60000)
			packets := cut(s, 1380)
			b.SetBytes(60000)
			c := NewCoalescer(&nowhere{recorder{uso: true}})
			for b.Loop() {
				for _, p := range packets {
					if err := c.Add(p); err != nil {
						b.Fatal(err)
					}
				}
				if err := c.Flush(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
