package underlay

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/hnet-robotics/hnet_bridge/test/netns"
)

// routed connects two hosts by a router. The link of a has an MTU of 1500, that
// of b the one given; narrow changes it.
func routed(t *testing.T, network string, mtu int) (a, b *host, narrow func(mtu int)) {
	t.Helper()
	a, b = &host{Namespace: netns.New(t)}, &host{Namespace: netns.New(t)}
	router := netns.New(t)
	router.Do(t, func() error {
		return errors.Join(noDAD(), os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0),
			os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte("1"), 0))
	})
	// at is host n of link i; the router is host 1.
	at := func(i, n int) netip.Prefix {
		if network == "udp6" {
			return netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 7: byte(i), 15: byte(n)}), 64)
		}
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i), byte(n)}), 24)
	}
	for i, h := range []*host{a, b} {
		var other *os.File
		h.Do(t, func() (err error) {
			other, err = os.Open("/proc/thread-self/ns/net")
			return errors.Join(err, noDAD())
		})
		name := fmt.Sprint("to", i)
		router.Do(t, func() error {
			err := netlink.LinkAdd(&netlink.Veth{
				LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: "wire", PeerNamespace: netlink.NsFd(other.Fd()),
			})
			if err != nil {
				return err
			}
			return furnish(name, at(i, 1))
		})
		other.Close()
		h.Do(t, func() error {
			if err := furnish("wire", at(i, 2)); err != nil {
				return err
			}
			everywhere := netip.PrefixFrom(netip.IPv6Unspecified(), 0)
			if network == "udp4" {
				everywhere = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
			}
			if err := netlink.RouteAdd(&netlink.Route{Dst: ipNet(everywhere), Gw: at(i, 1).Addr().AsSlice()}); err != nil {
				return err
			}
			h.u = listen(t, network)
			h.global = netip.AddrPortFrom(at(i, 2).Addr(), h.u.port)
			return h.awaitAddresses()
		})
	}
	narrow = func(mtu int) {
		t.Helper()
		for ns, name := range map[*netns.Namespace]string{router: "to1", b.Namespace: "wire"} {
			ns.Do(t, func() error {
				link, err := netlink.LinkByName(name)
				if err != nil {
					return err
				}
				return netlink.LinkSetMTU(link, mtu)
			})
		}
	}
	narrow(mtu)
	return a, b, narrow
}

// furnish gives a device an address and switches it on.
func furnish(name string, addr netip.Prefix) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return errors.Join(netlink.LinkSetUp(link), netlink.AddrAdd(link, &netlink.Addr{IPNet: ipNet(addr)}))
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// pathMTU is what the kernel of h believes of the path to a remote.
func (h *host) pathMTU(t *testing.T, network string, remote netip.AddrPort) (mtu int) {
	t.Helper()
	h.Do(t, func() error {
		c, err := net.DialUDP(network, nil, net.UDPAddrFromAddrPort(remote))
		if err != nil {
			return err
		}
		defer c.Close()
		raw, err := c.SyscallConn()
		if err != nil {
			return err
		}
		level, key := unix.IPPROTO_IP, unix.IP_MTU
		if network == "udp6" {
			level, key = unix.IPPROTO_IPV6, unix.IPV6_MTU
		}
		cerr := raw.Control(func(fd uintptr) { mtu, err = unix.GetsockoptInt(int(fd), level, key) })
		return errors.Join(cerr, err)
	})
	return mtu
}

// overhead is the bytes of IP and UDP headers.
func overhead(network string) int {
	if network == "udp6" {
		return 40 + 8
	}
	return 20 + 8
}

// send sends what must not fail.
func send(t *testing.T, u *UDP, ms ...Message) {
	t.Helper()
	if n, err := u.WriteBatch(ms); n != len(ms) || err != nil {
		t.Fatalf("%d of %d sent: %v", n, len(ms), err)
	}
}

// A datagram with a small TTL dies at the router; what is left of the TTL is
// seen in reading.
func TestTTL(t *testing.T) {
	for _, network := range []string{"udp4", "udp6"} {
		t.Run(network, func(t *testing.T) {
			a, b, _ := routed(t, network, 1500)
			var seeing *UDP
			b.Do(t, func() (err error) {
				seeing, err = Listen(network, 0, Options{RecvTTL: true})
				return err
			})
			defer seeing.Close()
			to := netip.AddrPortFrom(b.global.Addr(), seeing.port)
			for _, test := range []struct{ sent, want byte }{{1, 0}, {2, 1}, {77, 76}, {255, 254}, {0, 63}} {
				m := Message{Buf: randomBytes(3000), Segment: 1000, Remote: to, TTL: test.sent, TOS: 4, Local: Source{Addr: a.global.Addr()}}
				end := Message{Buf: []byte("end"), Remote: to}
				send(t, a.u, m, end)
				arrived, ms := 0, room(1)
				for ms[0].N != len("end") {
					if _, err := seeing.ReadBatch(ms); err != nil {
						t.Fatal(err)
					}
					if got := ms[0]; got.N == len("end") && got.TTL != 63 {
						t.Errorf("the system's TTL arrived as %d", got.TTL)
					} else if got.N != len("end") {
						arrived += got.N
						if got.TTL != test.want || got.TOS != 4 {
							t.Errorf("TTL %d arrived as %d, traffic class %d", test.sent, got.TTL, got.TOS)
						}
					}
				}
				if want := map[bool]int{true: 3000}[test.want != 0]; arrived != want {
					t.Errorf("TTL %d: %d bytes arrived, want %d", test.sent, arrived, want)
				}
			}
			send(t, a.u, Message{Buf: []byte("unseen"), Remote: b.global})
			ms := room(1)
			ms[0].TTL, ms[0].DF = 9, true
			if _, err := b.u.ReadBatch(ms); err != nil || ms[0].TTL != 0 || ms[0].DF {
				t.Errorf("without RecvTTL: %d, %v, %v", ms[0].TTL, ms[0].DF, err)
			}
		})
	}
}

// A datagram that must not be fragmented is lost at a smaller link, while all
// others get through, also after the kernel has heard of it. It is sent whatever
// the kernel has heard.
func TestDF(t *testing.T) {
	for _, network := range []string{"udp4", "udp6"} {
		t.Run(network, func(t *testing.T) {
			a, b, narrow := routed(t, network, 1300)
			small, large := 1300-overhead(network), 1500-overhead(network)
			at := func(size int, df bool) Message {
				return Message{Buf: randomBytes(size), Remote: b.global, DF: df}
			}
			if network == "udp6" {
				// Nothing fragments on the way, so one is lost until the kernel knows.
				send(t, a.u, at(large, true))
				awaitMTU(t, a, network, b.global, 1300)
			}
			for range 3 {
				send(t, a.u, at(10, false), at(large, true), at(small, true), at(large, false), at(small+1, true), at(11, true), at(12, false))
				check(t, b.u, []Message{at(10, false), at(small, true), at(large, false), at(11, true), at(12, false)})
				awaitMTU(t, a, network, b.global, 1300)
			}
			train := Message{Buf: randomBytes(large * 20), Segment: large, Remote: b.global}
			send(t, a.u, train, at(10, false))
			check(t, b.u, []Message{train, at(10, false)})

			// Larger than the interface takes: an error for this message alone.
			ms := []Message{at(10, false), at(small, true), at(large+1, true), at(large+1, false), at(10, true)}
			if n, err := a.u.WriteBatch(ms); n != 2 || !errors.Is(err, syscall.EMSGSIZE) {
				t.Fatalf("%d sent, %v", n, err)
			}
			send(t, a.u, ms[3:]...)
			check(t, b.u, []Message{ms[0], ms[1], ms[3], ms[4]})

			// The link has grown, and the kernel has not heard of it.
			narrow(1500)
			if mtu := a.pathMTU(t, network, b.global); mtu != 1300 {
				t.Fatalf("the kernel has forgotten the path's MTU: %d", mtu)
			}
			send(t, a.u, at(large, true))
			check(t, b.u, []Message{at(large, true)})
		})
	}
}

func awaitMTU(t *testing.T, h *host, network string, remote netip.AddrPort, want int) {
	t.Helper()
	for until := time.Now().Add(5 * time.Second); h.pathMTU(t, network, remote) != want; time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("the kernel has not heard that the path's MTU is %d", want)
		}
	}
}

// The socket is left as it was.
func TestDFIsNotKept(t *testing.T) {
	each(t, func(t *testing.T, network string) {
		a, b := listen(t, network), listen(t, network)
		level, key, want := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT
		if network == "udp6" {
			level, key, want = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_WANT
		}
		if got := getsockopt(t, a, level, key); got != want {
			t.Errorf("before: %d, want %d", got, want)
		}
		probe := Message{Buf: randomBytes(100), Remote: b.at(network), DF: true}
		send(t, a, probe, Message{Buf: randomBytes(100), Remote: b.at(network)}, probe)
		receive(t, b, 3)
		if got := getsockopt(t, a, level, key); got != want {
			t.Errorf("after: %d, want %d", got, want)
		}
		ms := []Message{probe}
		if allocs := testing.AllocsPerRun(100, func() {
			if _, err := a.WriteBatch(ms); err != nil {
				t.Fatal(err)
			}
		}); allocs != 0 {
			t.Errorf("%v allocations", allocs)
		}
	})
}
