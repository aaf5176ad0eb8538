package netwatch

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestRouteTo(t *testing.T) {
	inSandbox(t, func(t *testing.T) {
		ip(t, "link set v0 up")
		ip(t, "link set v1 up mtu 1400")
		ip(t, "address add 10.0.0.1/24 dev v0")
		ip(t, "-6 address add 2001:db8::1/64 dev v0 nodad")
		ip(t, "-6 address add fe80::5/64 dev v1 nodad")
		ip(t, "route add 10.8.0.0/16 via 10.0.0.9 mtu 1200")
		ip(t, "-6 route add 2001:db8:8::/48 via 2001:db8::9 mtu 1290")
		ip(t, "route add unreachable 10.9.0.0/16")
		ip(t, "-6 route add unreachable 2001:db8:9::/48")
		v0, v1 := index(t, "v0"), index(t, "v1")
		zone := "%" + strconv.Itoa(v1)
		own4, own6 := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("2001:db8::1")

		for to, want := range map[string]Route{
			"10.0.0.7":        {Interface: v0, MTU: 1500, Source: own4},
			"::ffff:10.0.0.7": {Interface: v0, MTU: 1500, Source: own4},
			"10.8.1.1":        {Interface: v0, MTU: 1200, Source: own4},
			"2001:db8::7":     {Interface: v0, MTU: 1500, Source: own6},
			"2001:db8:8::1":   {Interface: v0, MTU: 1290, Source: own6},
			"fe80::7" + zone:  {Interface: v1, MTU: 1400, Source: netip.MustParseAddr("fe80::5")},
			"127.0.0.1":       {Interface: 1, MTU: 65536, Source: netip.MustParseAddr("127.0.0.1")},
		} {
			if got, err := RouteTo(netip.MustParseAddr(to)); err != nil || got != want {
				t.Errorf("%s: %+v, %v; want %+v", to, got, err, want)
			}
		}
		for to, want := range map[string]error{
			"192.0.2.1":           unix.ENETUNREACH,
			"10.9.0.1":            unix.EHOSTUNREACH,
			"2001:db8:7::1":       unix.ENETUNREACH,
			"2001:db8:9::1":       unix.EHOSTUNREACH,
			"fe80::7":             nil,
			"fe80::7%v1":          nil,
			"fe80::7%0":           nil,
			"fe80::7%-1":          nil,
			"fe80::7%999":         nil,
			"ff02::1":             nil,
			"fe80::7%99999999999": nil,
			"0.0.0.0":             nil,
			"::":                  nil,
		} {
			_, err := RouteTo(netip.MustParseAddr(to))
			if err == nil || want != nil && !errors.Is(err, want) || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), to) {
				t.Errorf("%s: %v, want %v", to, err, want)
			}
		}
		if _, err := RouteTo(netip.Addr{}); err == nil {
			t.Error("a route to nowhere")
		}
	})
}

func index(t *testing.T, name string) int {
	t.Helper()
	i, err := net.InterfaceByName(name)
	must(t, err)
	return i.Index
}

// TestRouteToPathMTU: a router says that a packet was too big.
func TestRouteToPathMTU(t *testing.T) {
	inSandbox(t, func(t *testing.T) {
		device := openTUN(t, "t0")
		ip(t, "link set t0 up")
		ip(t, "address add 10.0.0.1/24 dev t0")
		ip(t, "-6 address add 2001:db8::1/64 dev t0 nodad")
		// The kernel takes packets to a new address in a moment later.
		deadline := time.Now().Add(5 * time.Second)
		for r, err := RouteTo(netip.MustParseAddr("2001:db8::1")); r.Interface != 1; r, err = RouteTo(netip.MustParseAddr("2001:db8::1")) {
			must(t, err)
			if time.Now().After(deadline) {
				t.Fatal("the address does not become local")
			}
		}
		for to, want := range map[string]int{"10.0.0.7": 1234, "2001:db8::7": 1300} {
			remote := netip.MustParseAddr(to)
			if got, err := RouteTo(remote); err != nil || got.MTU != 1500 {
				t.Errorf("%s at first: %+v, %v", to, got, err)
			}
			conn, err := net.Dial("udp", netip.AddrPortFrom(remote, 9).String())
			must(t, err)
			defer conn.Close()
			_, err = conn.Write(make([]byte, 1400))
			must(t, err)
			_, err = device.Write(tooBig(t, next(t, device, remote), want))
			must(t, err)
			got, err := RouteTo(remote)
			if err != nil || got.MTU != want {
				t.Errorf("%s after the router spoke: %+v, %v; want %d", to, got, err, want)
			}
		}
	})
}

func openTUN(t *testing.T, name string) *os.File {
	t.Helper()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skip("no usable /dev/net/tun here:", err)
	}
	ifr, err := unix.NewIfreq(name)
	must(t, err)
	ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	must(t, unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr))
	must(t, unix.SetNonblock(fd, true))
	file := os.NewFile(uintptr(fd), name)
	t.Cleanup(func() { file.Close() })
	must(t, file.SetReadDeadline(time.Now().Add(10*time.Second)))
	return file
}

// next reads packets until one goes to remote.
func next(t *testing.T, device *os.File, remote netip.Addr) []byte {
	t.Helper()
	b := make([]byte, 1<<16)
	for {
		n, err := device.Read(b)
		must(t, err)
		to := b[16:20]
		if b[0]>>4 == 6 {
			to = b[24:40]
		}
		if got, _ := netip.AddrFromSlice(to); got == remote {
			return b[:n]
		}
	}
}

// tooBig makes what a router on the way answers to a packet larger than mtu.
func tooBig(t *testing.T, packet []byte, mtu int) []byte {
	t.Helper()
	if packet[0]>>4 == 4 {
		icmp := append([]byte{3, 4, 0, 0, 0, 0, byte(mtu >> 8), byte(mtu)}, packet[:28]...)
		binary.BigEndian.PutUint16(icmp[2:], checksum(icmp))
		header := []byte{0x45, 0, 0, byte(20 + len(icmp)), 0, 0, 0, 0, 64, unix.IPPROTO_ICMP, 0, 0}
		header = append(append(header, 10, 0, 0, 254), packet[12:16]...)
		binary.BigEndian.PutUint16(header[10:], checksum(header))
		return append(header, icmp...)
	}
	router := netip.MustParseAddr("2001:db8::ff")
	icmp := append([]byte{2, 0, 0, 0, 0, 0, byte(mtu >> 8), byte(mtu)}, packet[:100]...)
	addresses := append(router.AsSlice(), packet[8:24]...)
	binary.BigEndian.PutUint16(icmp[2:], checksum(append(append(append([]byte{}, addresses...), 0, byte(len(icmp)), 0, unix.IPPROTO_ICMPV6), icmp...)))
	header := append([]byte{0x60, 0, 0, 0, 0, byte(len(icmp)), unix.IPPROTO_ICMPV6, 64}, addresses...)
	return append(header, icmp...)
}

func checksum(b []byte) uint16 {
	var sum uint32
	for i, v := range b {
		sum += uint32(v) << (8 * (1 - i%2))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
