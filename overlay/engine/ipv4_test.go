package engine

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/tun"
)

var (
	ipv4A = netip.MustParseAddr("198.19.1.1")
	ipv4B = netip.MustParseAddr("198.19.2.2")
)

// udp4 builds an IPv4 UDP packet of total bytes with complete checksums.
func udp4(from, to netip.Addr, total int) []byte {
	b := make([]byte, total)
	b[0], b[8], b[9] = 0x45, 64, 17
	binary.BigEndian.PutUint16(b[2:], uint16(total))
	b[6] = 0x40
	copy(b[12:], from.AsSlice())
	copy(b[16:], to.AsSlice())
	binary.BigEndian.PutUint16(b[10:], ^tun.Checksum(0, b[:20]))
	u := b[20:]
	binary.BigEndian.PutUint16(u, 5000)
	binary.BigEndian.PutUint16(u[2:], 7)
	binary.BigEndian.PutUint16(u[4:], uint16(len(u)))
	for i := 8; i < len(u); i++ {
		u[i] = byte(i)
	}
	binary.BigEndian.PutUint16(u[6:], ^tun.Checksum(tun.PseudoHeader(17, b[12:16], b[16:20], len(u)), u))
	return b
}

// reseal corrects the checksum of an IPv4 header after an edit.
func reseal(b []byte) []byte {
	clear(b[10:12])
	binary.BigEndian.PutUint16(b[10:], ^tun.Checksum(0, b[:int(b[0]&15)*4]))
	return b
}

// withIPv4 gives two engines addresses that they use.
func withIPv4(a, b *Engine) {
	a.SetIPv4(ipv4A, map[netip.Addr]netip.Addr{b.address: ipv4B})
	b.SetIPv4(ipv4B, map[netip.Addr]netip.Addr{a.address: ipv4A})
}

// headerIsRight reports whether an IPv4 packet's header has the right checksum.
func headerIsRight(b []byte) bool { return tun.Checksum(0, b[:20]) == 0xffff }

func TestIPv4BothWays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t)
		withIPv4(a.Engine, b.Engine)
		for size := 28; size <= 1500; size += 7 {
			p := udp4(ipv4A, ipv4B, size)
			a.send(superpacket(p))
			mustReceive(t, b, p)
			q := udp4(ipv4B, ipv4A, size)
			b.send(superpacket(q))
			mustReceive(t, a, q)
		}
		// The first packet began contact like one of IPv6, which goes on beside.
		flowsWithin(t, a, b, time.Second)
	})
}

func TestIPv4PacketsOfOthersAreDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t)
		withIPv4(a.Engine, b.Engine)
		third := testIdentity(3).Address()
		b.SetIPv4(ipv4B, map[netip.Addr]netip.Addr{a.id.Address(): ipv4A, third: netip.MustParseAddr("198.19.3.3")})
		flowsWithin(t, a, b, time.Second)
		good := udp4(ipv4A, ipv4B, 100)
		edit := func(f func(p []byte)) []byte {
			p := slices.Clone(good)
			f(p)
			return p
		}
		for name, c := range map[string]struct {
			packet             []byte
			spoofed, malformed uint64
		}{
			"source of a third peer":   {udp4(netip.MustParseAddr("198.19.3.3"), ipv4B, 100), 1, 0},
			"source of the receiver":   {udp4(ipv4B, ipv4B, 100), 1, 0},
			"source of nobody":         {udp4(netip.MustParseAddr("198.19.9.9"), ipv4B, 100), 1, 0},
			"source in the LAN":        {udp4(netip.MustParseAddr("192.168.1.1"), ipv4B, 100), 1, 0},
			"source 0.0.0.0":           {udp4(netip.IPv4Unspecified(), ipv4B, 100), 1, 0},
			"to a third peer":          {udp4(ipv4A, netip.MustParseAddr("198.19.3.3"), 100), 1, 0},
			"to the LAN":               {udp4(ipv4A, netip.MustParseAddr("192.168.1.1"), 100), 1, 0},
			"to loopback":              {udp4(ipv4A, netip.MustParseAddr("127.0.0.1"), 100), 1, 0},
			"to all":                   {udp4(ipv4A, netip.MustParseAddr("255.255.255.255"), 100), 1, 0},
			"to multicast":             {udp4(ipv4A, netip.MustParseAddr("239.255.0.1"), 100), 1, 0},
			"cut":                      {edit(func(p []byte) { binary.BigEndian.PutUint16(p[2:], 200) }), 0, 1},
			"length below the header":  {edit(func(p []byte) { binary.BigEndian.PutUint16(p[2:], 19) }), 0, 1},
			"header below the least":   {edit(func(p []byte) { p[0] = 0x44 }), 0, 1},
			"header beyond the packet": {edit(func(p []byte) { p[0] = 0x4f; binary.BigEndian.PutUint16(p[2:], 59) }), 0, 1},
			"options":                  {edit(func(p []byte) { p[0] = 0x46 }), 0, 1},
		} {
			spoofed, malformed := b.Stats().Spoofed.Load(), b.Stats().Malformed.Load()
			say(a, b, c.packet)
			mustReceive(t, b)
			if x, y := b.Stats().Spoofed.Load()-spoofed, b.Stats().Malformed.Load()-malformed; x != c.spoofed || y != c.malformed {
				t.Errorf("%s: %d spoofed, %d malformed, want %d and %d", name, x, y, c.spoofed, c.malformed)
			}
		}
		say(a, b, append(slices.Clone(good), make([]byte, 12)...)) // padding comes off
		mustReceive(t, b, good)
		// A peer whose address is not used any more, and a node that has none.
		b.SetIPv4(ipv4B, nil)
		say(a, b, good)
		mustReceive(t, b)
		b.SetIPv4(netip.Addr{}, map[netip.Addr]netip.Addr{a.id.Address(): ipv4A})
		say(a, b, good)
		mustReceive(t, b)
		flowsWithin(t, a, b, time.Second)
	})
}

func TestIPv4ToNobodyIsRefusedWithAReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		a := newNode(t, n, 1, "192.0.2.1:5582")
		stranger := netip.MustParseAddr("198.19.77.7")
		a.send(superpacket(udp4(ipv4A, stranger, 100)))
		mustReceive(t, a) // no address, no IPv4
		a.SetIPv4(ipv4A, nil)
		for _, size := range []int{28, 100, 548, 1280} {
			sent := udp4(ipv4A, stranger, size)
			a.send(superpacket(sent))
			got := a.received()
			if len(got) != 1 {
				t.Fatalf("%d answers to a packet of %d bytes", len(got), size)
			}
			answer := got[0]
			if len(answer) > 576 || answer[0] != 0x45 || int(binary.BigEndian.Uint16(answer[2:])) != len(answer) || answer[9] != 1 ||
				netip.AddrFrom4([4]byte(answer[12:16])) != stranger || netip.AddrFrom4([4]byte(answer[16:20])) != ipv4A || !headerIsRight(answer) {
				t.Fatalf("answer %x", answer)
			}
			if answer[20] != 3 || answer[21] != 13 || tun.Checksum(0, answer[20:]) != 0xffff {
				t.Errorf("type %d, code %d, want 3 and 13: administratively prohibited; checksum %#x", answer[20], answer[21], tun.Checksum(0, answer[20:]))
			}
			if want := sent[:min(len(sent), 576-28)]; !bytes.Equal(answer[28:], want) {
				t.Errorf("%d bytes quoted of %d", len(answer)-28, size)
			}
		}
		// None for what is not ours, for errors, for fragments but the first, for broadcast and multicast.
		later := udp4(ipv4A, stranger, 100)
		later[7] = 10
		isError := udp4(ipv4A, stranger, 100)
		isError[9], isError[20] = 1, 11
		for _, p := range [][]byte{
			udp4(netip.MustParseAddr("198.19.3.3"), stranger, 100), reseal(later), reseal(isError),
			udp4(ipv4A, netip.MustParseAddr("255.255.255.255"), 100), udp4(ipv4A, netip.MustParseAddr("239.255.0.1"), 100),
		} {
			a.send(superpacket(p))
			mustReceive(t, a)
		}
		if len(n.sightings()) != 0 {
			t.Error("somebody was contacted")
		}
	})
}

func TestIPv4CongestionMarks(t *testing.T) {
	const notECT, ect1, ect0, ce = 0, 1, 2, 3
	a, b := sides(t)
	withIPv4(a.Engine, b.Engine)
	b.last = []byte{}
	for _, c := range []struct{ inner, outer, want byte }{
		{notECT, notECT, notECT}, {notECT, ce, notECT}, {ect0, ect0, ect0}, {ect0, ce, ce}, {ect1, ce, ce}, {ect1, ect1, ect1}, {ce, ce, ce}, {ce, ect0, ce},
	} {
		for dscp := range byte(64) {
			p := udp4(ipv4A, ipv4B, 200)
			p[1] = dscp<<2 | c.inner
			p[4] = dscp * 4
			a.out.packet(a.now, superpacket(reseal(p)))
			if got := a.out.trains[len(a.out.trains)-1].TOS & 3; got != c.inner {
				t.Errorf("outer mark %d of a packet with %d", got, c.inner)
			}
			a.out.flush()
			for i := range b.inboxed {
				b.inbox[i].TOS = c.outer
			}
			b.last = b.last[:0]
			b.settle()
			got := b.last[tun.HeaderLen:]
			if got[1] != dscp<<2|c.want || !headerIsRight(got) {
				t.Errorf("DSCP %d, inner mark %d, outer %d: arrived with %#x, want mark %d; header right: %v", dscp, c.inner, c.outer, got[1], c.want, headerIsRight(got))
			}
		}
	}
}

// TestIPv4Superpacket: what TCP hands over uncut arrives joined again, and as many packets of each kind are joined as of IPv6.
func TestIPv4Superpacket(t *testing.T) {
	a, b := sides(t)
	withIPv4(a.Engine, b.Engine)
	b.last = []byte{}
	const payload, size = 40000, 1200
	p := udp4(ipv4A, ipv4B, 20+8+payload)
	h := tun.Header{Flags: tun.FlagNeedsChecksum, GSO: tun.GSOUDP, HeaderLen: 28, GSOSize: size, ChecksumStart: 20, ChecksumOffset: 6}
	binary.BigEndian.PutUint16(p[26:], tun.PseudoHeader(17, p[12:16], p[16:20], len(p)-20))
	super := make([]byte, tun.HeaderLen)
	h.Encode(super)
	super = append(super, p...)
	packets := b.packets
	a.send(slices.Clone(super))
	if got := b.packets - packets; got != 1 {
		t.Fatalf("%d writes, want the one superpacket", got)
	}
	if !bytes.Equal(b.last, super) {
		t.Errorf("it arrived changed:\n%x\n%x", b.last[:50], super[:50])
	}
}

// TestIPv4BelowTheMTU: a path that does not carry a packet gets pieces, whatever the version.
func TestIPv4BelowTheMTU(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t)
		withIPv4(a.Engine, b.Engine)
		flowsWithin(t, a, b, time.Second)
		for _, x := range []*node{a, b} {
			y := map[*node]*node{a: b, b: a}[x]
			p := x.peers.get(y.id.Address())
			p.mu.Lock()
			p.path.MTU = 700
			p.mu.Unlock()
		}
		p := udp4(ipv4A, ipv4B, 1280)
		a.send(superpacket(p))
		mustReceive(t, b, p)
	})
}

func TestInnerMessageOfIPv4(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type said struct {
			peer netip.Addr
			b    []byte
		}
		var got []said
		_, a, b := pair(t, func(c *Config) {
			c.IPv4Message = func(_ time.Time, peer netip.Addr, b []byte) { got = append(got, said{peer, slices.Clone(b)}) }
		})
		message := append([]byte{innerIPv4}, make([]byte, 19)...)
		if a.SendInner(b.id.Address(), message) {
			t.Error("a message was sent without a session")
		}
		flowsWithin(t, a, b, time.Second)
		if !a.SendInner(b.id.Address(), message) {
			t.Error("not sent")
		}
		if a.SendInner(testIdentity(9).Address(), message) {
			t.Error("sent to nobody")
		}
		synctest.Wait()
		if len(got) != 1 || got[0].peer != a.id.Address() || !bytes.HasPrefix(got[0].b, message) {
			t.Errorf("got %+v", got)
		}
	})
}

// TestUnknownInnerMessageIsIgnored: what an older daemon makes of it.
func TestUnknownInnerMessageIsIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t)
		flowsWithin(t, a, b, time.Second)
		before := b.Stats().Unknown.Load()
		say(a, b, append([]byte{0x0e}, make([]byte, 19)...))
		mustReceive(t, b)
		if b.Stats().Unknown.Load() != before+1 {
			t.Error("it was not counted")
		}
		flowsWithin(t, a, b, time.Second)
	})
}

func TestIPv4AllocatesNothing(t *testing.T) {
	a, b := sides(t)
	withIPv4(a.Engine, b.Engine)
	p := superpacket(udp4(ipv4A, ipv4B, 1000))
	if n := testing.AllocsPerRun(200, func() {
		a.out.packet(a.now, p)
		a.out.flush()
		a.settle()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
