package multicast

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

var (
	own   = netip.MustParseAddr("fc94::1")
	peerA = netip.MustParseAddr("fc94::2")
	peerB = netip.MustParseAddr("fc94::3")
	own4  = netip.MustParseAddr("198.19.0.1")
	four  = netip.MustParseAddr("198.19.0.2")
	group = netip.MustParseAddr("ff05::1234")
)

// udp6 is an IPv6 packet with a UDP datagram to a group, checksum complete.
func udp6(from, to netip.Addr, payload string) []byte {
	b := make([]byte, ipv6HeaderLen+udpHeaderLen, 200)
	b[0], b[6], b[7] = 0x60, protocolUDP, 1
	src, dst := from.As16(), to.As16()
	copy(b[8:], src[:])
	copy(b[24:], dst[:])
	b = append(b, payload...)
	n := len(b) - ipv6HeaderLen
	binary.BigEndian.PutUint16(b[4:], uint16(n))
	u := b[ipv6HeaderLen:]
	binary.BigEndian.PutUint16(u, 7400)
	binary.BigEndian.PutUint16(u[2:], 7400)
	binary.BigEndian.PutUint16(u[4:], uint16(n))
	sum := ^checksum(b)
	if sum == 0 {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(u[6:], sum)
	return b
}

// checksum is the sum over the pseudo-header and the UDP datagram (RFC 8200 §8.1), 0xffff if the datagram has the right one.
func checksum(b []byte) uint16 {
	u := b[ipv6HeaderLen:]
	sum := uint32(len(u)) + protocolUDP
	for _, part := range [][]byte{b[8:40], u} {
		for i := 0; i < len(part); i += 2 {
			if i+1 < len(part) {
				sum += uint32(part[i])<<8 | uint32(part[i+1])
			} else {
				sum += uint32(part[i]) << 8
			}
		}
	}
	for sum>>16 != 0 {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

func udp4(from, to netip.Addr) []byte {
	b := make([]byte, ipv4HeaderLen+udpHeaderLen)
	b[0], b[8], b[9] = 0x45, 1, protocolUDP
	src, dst := from.As4(), to.As4()
	copy(b[12:], src[:])
	copy(b[16:], dst[:])
	return b
}

func TestCarried(t *testing.T) {
	for addr, want := range map[string]bool{
		"ff02::ffff:239.255.0.1": true, "ff1e::ffff:efff:1": true, "ff02::fb": true, "ff05::2": true, "ff32::8000:1": true,
		"ff01::1": false, "ff02::1": false, "ff02::2": false, "ff02::16": false, "ff02::1:ff12:3456": false, "ff02::6a": false, "ff0f::1": false, "ff00::1": false,
		"239.255.0.1": true, "224.0.0.251": true, "224.0.1.1": true, "224.0.0.1": false, "224.0.0.22": false,
		"fc94::1": false, "10.0.0.1": false, "255.255.255.255": false,
	} {
		if got := carried(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %v", addr, got)
		}
	}
}

// TestRedirect: copies have the right checksum, whatever the payload.
func TestRedirect(t *testing.T) {
	for i := range 70000 {
		payload := string([]byte{byte(i >> 16), byte(i >> 8), byte(i), 'x', 'y'}[:3+i%3])
		b := udp6(own, cycloneSPDP, payload)
		before := bytes.Clone(b)
		h, ok := parse(b)
		if !ok || checksum(b) != 0xffff {
			t.Fatalf("%x, %v", b, ok)
		}
		c := redirect(b, h, fastSPDP)
		if !bytes.Equal(b, before) {
			t.Fatal("the original was changed")
		}
		if h2, ok := parse(c); !ok || h2.group != fastSPDP || checksum(c) != 0xffff || binary.BigEndian.Uint16(c[46:]) == 0 {
			t.Fatalf("%d: %x, %04x", i, c, checksum(c))
		}
		if back := redirect(c, h, cycloneSPDP); !bytes.Equal(back, b) && binary.BigEndian.Uint16(b[46:]) != 0xffff {
			t.Fatalf("there and back: %x, want %x", back, b)
		}
	}
	b := udp6(own, cycloneSPDP, "x")
	b[46], b[47] = 0, 0
	h, _ := parse(b)
	if redirect(b, h, fastSPDP) != nil {
		t.Error("one without a checksum was copied")
	}
}

func TestGroups(t *testing.T) {
	const six = "1    lo              ff020000000000000000000000000001     1 0000000C 0\n" +
		"7    hnet0           ff0200000000000000000000000000fb     1 00000004 0\n" +
		"7    hnet0           ff02000000000000000000000000fffa     1 00000004 0\n" +
		"7    hnet0           ff0200000000000000000001ff000001     1 00000004 0\n" +
		"8    hnet01          ff0500000000000000000000000000aa     1 00000004 0\n"
	list, err := parseIGMP6(nil, strings.NewReader(six), "hnet0")
	if err != nil || !slices.Equal(list, []netip.Addr{netip.MustParseAddr("ff02::fb"), netip.MustParseAddr("ff02::fffa")}) {
		t.Errorf("%v, %v", list, err)
	}
	const igmp = "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n" +
		"1\tlo        :     1      V3\n\t\t\t\t010000E0     1 0:00000000\t\t0\n" +
		"7\thnet0     :     2      V3\n\t\t\t\t0100FFEF     1 0:00000000\t\t0\n\t\t\t\t010000E0     1 0:00000000\t\t0\n" +
		"8\teth0      :     2      V3\n\t\t\t\t0200FFEF     1 0:00000000\t\t0\n"
	list, err = parseIGMP(list[:1], strings.NewReader(igmp), "hnet0")
	want := netip.MustParseAddr("239.255.0.1")
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		want = netip.MustParseAddr("1.0.255.239")
	}
	if err != nil || len(list) != 2 || list[1] != want {
		t.Errorf("%v, %v", list, err)
	}
	for _, bad := range []string{"x\n", "7 hnet0 ff02\n", "7 hnet0 zz020000000000000000000000000001 1\n"} {
		if _, err := parseIGMP6(nil, strings.NewReader(bad), "hnet0"); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
	for _, bad := range []string{"h\nx\n", "h\n7\thnet0 : 1\n\tx 1\n"} {
		if _, err := parseIGMP(nil, strings.NewReader(bad), "hnet0"); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
	list = nil
	for i := range 100 {
		list = add(list, netip.AddrFrom16([16]byte{0: 0xff, 1: 5, 15: byte(i)}))
	}
	if len(list) != MaxGroups {
		t.Errorf("%d groups", len(list))
	}
}

func FuzzParse(f *testing.F) {
	f.Add(udp6(own, cycloneSPDP, "x"))
	f.Add(udp4(own4, netip.MustParseAddr("239.255.0.1")))
	f.Fuzz(func(t *testing.T, b []byte) {
		report(b)
		h, ok := parse(b)
		if !ok {
			return
		}
		if !h.group.IsMulticast() || h.udp != 0 && h.udp+udpHeaderLen > len(b) {
			t.Errorf("%+v", h)
		}
		if alias(h.group).IsValid() {
			if c := redirect(b, h, alias(h.group)); c != nil && len(c) != len(b) {
				t.Errorf("%d bytes of %d", len(c), len(b))
			}
		}
	})
}

func FuzzMessage(f *testing.F) {
	f.Add((&message{ask: true, run: 1, counter: 2, groups: []netip.Addr{group, netip.MustParseAddr("239.255.0.1")}}).append(nil))
	f.Add((&message{run: 1, counter: 2}).append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseMessage(b)
		if err != nil {
			return
		}
		again, err := parseMessage(m.append(nil))
		if err != nil || !slices.Equal(again.groups, m.groups) || again.run != m.run || again.counter != m.counter || again.ask != m.ask {
			t.Errorf("%+v, then %+v, %v", m, again, err)
		}
	})
}

func FuzzGroups(f *testing.F) {
	f.Add("7 hnet0 ff0200000000000000000000000000fb 1\n")
	f.Add("h\n7\thnet0 : 1 V3\n\t\t0100FFEF 1 0 0\n")
	f.Fuzz(func(_ *testing.T, s string) {
		_, _ = parseIGMP6(nil, strings.NewReader(s), "hnet0")
		_, _ = parseIGMP(nil, strings.NewReader(s), "hnet0")
	})
}
