package lab

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"time"
)

func TestCapture(t *testing.T) {
	for name, link := range map[string]Link{"bridge": {}, "wire": barelyDegraded} {
		t.Run(name, func(t *testing.T) {
			_, _, a, b := twoHosts(t, link)
			sent, received := a.Capture(t, "lan0"), b.Capture(t, "lan0")
			from, to := udp(t, a, a.Addr4("lan0")), udp(t, b, b.Addr4("lan0"))
			const n = 100
			start := time.Now()
			payload := func(i int) []byte { return fmt.Appendf(nil, "message %d", i) }
			for i := range n {
				if _, err := from.WriteToUDPAddrPort(payload(i), local(to)); err != nil {
					t.Fatal(err)
				}
			}
			to.SetReadDeadline(time.Now().Add(10 * time.Second))
			for range n {
				if _, err := to.Read(make([]byte, 100)); err != nil {
					t.Fatal(err)
				}
			}
			received.Wait(time.Second, "the last message", func(f Frame) bool {
				return bytes.Equal(f.Decode().Payload, payload(n-1))
			})
			for who, c := range map[string]*Capture{"sender": sent, "receiver": received} {
				seen := map[string]int{}
				for _, f := range c.Stop() {
					p := f.Decode()
					switch p.Kind {
					case ARP, NDP, MLD, IGMP:
						continue
					case UDP:
					default:
						t.Errorf("%s: unexpected %v", who, p)
						continue
					}
					if p.Src != a.Addr4("lan0") || p.Dst != b.Addr4("lan0") || p.SrcPort != local(from).Port() || p.DstPort != local(to).Port() {
						t.Errorf("%s: %v", who, p)
					}
					seen[string(p.Payload)]++
					if f.Out != (who == "sender") {
						t.Errorf("%s: %q: out %v", who, p.Payload, f.Out)
					}
					if f.Time.Before(start.Add(-time.Second)) || f.Time.After(time.Now().Add(time.Second)) {
						t.Errorf("%s: seen at %v", who, f.Time)
					}
				}
				for i := range n {
					if got := seen[string(payload(i))]; got != 1 {
						t.Errorf("%s: message %d was captured %d times", who, i, got)
					}
				}
				if len(seen) != n {
					t.Errorf("%s: %d different messages, want %d", who, len(seen), n)
				}
			}
		})
	}
}

func TestDecode(t *testing.T) {
	ether := func(kind uint16, body ...byte) Frame {
		return Frame{Data: append([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, byte(kind >> 8), byte(kind)}, body...)}
	}
	v4 := func(protocol byte, offset uint16, body ...byte) Frame {
		return ether(0x0800, append([]byte{0x45, 0, 0, 0, 0, 0, byte(offset >> 8), byte(offset), 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2}, body...)...)
	}
	v6 := func(next byte, body ...byte) Frame {
		src, dst := netip.MustParseAddr("fe80::1").As16(), netip.MustParseAddr("ff02::16").As16()
		b := append([]byte{0x60, 0, 0, 0, 0, 0, next, 255}, src[:]...)
		return ether(0x86dd, append(append(b, dst[:]...), body...)...)
	}
	udpHeader := func(payload ...byte) []byte {
		return append([]byte{0x15, 0xce, 0x15, 0xcf, 0, byte(8 + len(payload)), 0, 0}, payload...)
	}
	initiation := append([]byte{1, 0, 0, 0}, make([]byte, 144)...)
	for _, test := range []struct {
		frame     Frame
		want      string
		wireGuard bool
	}{
		{Frame{}, "unknown ethertype 0x0000", false},
		{ether(0x0806), "arp ethertype 0x0806", false},
		{ether(0x88cc), "unknown ethertype 0x88cc", false},
		{v4(2, 0), "igmp protocol 2 10.0.0.1 > 10.0.0.2", false},
		{v4(1, 0, 8, 0), "icmp type 8 10.0.0.1 > 10.0.0.2", false},
		{v4(6, 0, 0, 80, 0, 81), "tcp 10.0.0.1:80 > 10.0.0.2:81", false},
		{v4(17, 0, udpHeader('x')...), "udp 10.0.0.1:5582 > 10.0.0.2:5583", false},
		{v4(17, 0, udpHeader(initiation...)...), "udp 10.0.0.1:5582 > 10.0.0.2:5583", true},
		{v4(17, 0, udpHeader(initiation[1:]...)...), "udp 10.0.0.1:5582 > 10.0.0.2:5583", false},
		{v4(17, 0, udpHeader(append([]byte{4, 0, 0, 0}, make([]byte, 28)...)...)...), "udp 10.0.0.1:5582 > 10.0.0.2:5583", true},
		{v4(17, 0, udpHeader(append([]byte{4, 0, 0, 0}, make([]byte, 29)...)...)...), "udp 10.0.0.1:5582 > 10.0.0.2:5583", true}, // unpadded, at the limit of a path
		{v4(17, 0, udpHeader(append([]byte{4, 0, 0, 0}, make([]byte, 27)...)...)...), "udp 10.0.0.1:5582 > 10.0.0.2:5583", false},
		{v4(17, 3, udpHeader('x')...), "ipv4 protocol 17 10.0.0.1 > 10.0.0.2", false},
		{v4(132, 0, 1, 2, 3, 4), "ipv4 protocol 132 10.0.0.1 > 10.0.0.2", false},
		{v6(17, udpHeader('x')...), "udp [fe80::1]:5582 > [ff02::16]:5583", false},
		{v6(58, 135, 0, 0, 0, 0, 0, 0, 0), "ndp type 135 fe80::1 > ff02::16", false},
		{v6(58, 128, 0, 0, 0, 0, 0, 0, 0), "icmpv6 type 128 fe80::1 > ff02::16", false},
		{v6(0, 58, 0, 5, 2, 0, 0, 1, 0, 143, 0, 0, 0, 0, 0, 0, 0), "mld type 143 fe80::1 > ff02::16", false},
		{v6(44, 17, 0, 0, 8, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8), "ipv6 protocol 17 fe80::1 > ff02::16", false},
		{v6(0, 58, 200, 5, 2, 0, 0, 1, 0), "ipv6 protocol 0 fe80::1 > ff02::16", false},
		{Frame{Data: ether(0x0800).Data[:10]}, "unknown ethertype 0x0000", false},
	} {
		p := test.frame.Decode()
		if p.String() != test.want || p.WireGuard() != test.wireGuard {
			t.Errorf("%x: %v, WireGuard %v; want %s, %v", test.frame.Data, p, p.WireGuard(), test.want, test.wireGuard)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		p := Frame{Data: b, Len: len(b)}.Decode()
		if p.Kind == "" || p.String() == "" {
			t.Errorf("no kind: %+v", p)
		}
		if len(p.Payload) > p.PayloadLen || len(p.Payload) > len(b) {
			t.Errorf("payload of %d bytes, %d by its header, in a frame of %d", len(p.Payload), p.PayloadLen, len(b))
		}
		p.WireGuard()
	})
}
