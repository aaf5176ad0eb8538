package underlay

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/hnet-robotics/hnet_bridge/test/netns"
)

// indexA is the interface index of the first end of a wire: a number that takes
// an allocation to print.
const indexA = 43210

// host is a namespace at one end of a wire, with a socket in it.
type host struct {
	*netns.Namespace
	u         *UDP
	global    netip.AddrPort
	linkLocal netip.Addr
}

// wire connects two hosts by a pair of veth devices with an MTU.
func wire(t *testing.T, network string, mtu int) (a, b *host) {
	t.Helper()
	a, b = &host{Namespace: netns.New(t)}, &host{Namespace: netns.New(t)}
	var other *os.File
	b.Do(t, func() (err error) {
		other, err = os.Open("/proc/thread-self/ns/net")
		return errors.Join(err, noDAD())
	})
	defer other.Close()
	a.Do(t, func() error {
		if err := noDAD(); err != nil {
			return err
		}
		return netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: "wire", Index: indexA, MTU: mtu}, PeerName: "wire",
			PeerNamespace: netlink.NsFd(other.Fd()),
		})
	})
	for i, h := range []*host{a, b} {
		h.Do(t, func() error {
			link, err := netlink.LinkByName("wire")
			if err != nil {
				return err
			}
			if err := errors.Join(netlink.LinkSetMTU(link, mtu), netlink.LinkSetUp(link)); err != nil {
				return err
			}
			addr := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}), 24)
			if network == "udp6" {
				addr = netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 15: byte(i + 1)}), 64)
			}
			err = netlink.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{
				IP: addr.Addr().AsSlice(), Mask: net.CIDRMask(addr.Bits(), addr.Addr().BitLen()),
			}})
			if err != nil {
				return err
			}
			h.u = listen(t, network)
			h.global = netip.AddrPortFrom(addr.Addr(), h.u.port)
			return nil
		})
	}
	for _, h := range []*host{a, b} { // both ends are up now
		h.Do(t, h.awaitAddresses)
	}
	return a, b
}

// noDAD makes new addresses of this thread's namespace usable at once.
func noDAD() error {
	return os.WriteFile("/proc/sys/net/ipv6/conf/default/accept_dad", []byte("0"), 0)
}

// awaitAddresses waits until the kernel takes packets to the addresses of h.
func (h *host) awaitAddresses() error {
	link, err := netlink.LinkByName("wire")
	if err != nil {
		return err
	}
	for until := time.Now().Add(5 * time.Second); time.Now().Before(until); time.Sleep(time.Millisecond) {
		routes, err := netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{
			LinkIndex: link.Attrs().Index, Table: unix.RT_TABLE_LOCAL,
		}, netlink.RT_FILTER_OIF|netlink.RT_FILTER_TABLE)
		if err != nil {
			return err
		}
		global := false
		for _, r := range routes {
			if r.Type != unix.RTN_LOCAL || r.Dst == nil {
				continue
			}
			addr, _ := netip.AddrFromSlice(r.Dst.IP)
			addr = addr.Unmap()
			global = global || addr == h.global.Addr()
			if addr.IsLinkLocalUnicast() && addr.Is6() {
				h.linkLocal = addr
			}
		}
		if global && h.linkLocal.IsValid() {
			return nil
		}
	}
	return fmt.Errorf("%v or a link-local address did not become local", h.global)
}

// Datagrams larger than the link are refused as a train, and fragmented one by
// one.
func TestSmallMTU(t *testing.T) {
	for _, network := range []string{"udp4", "udp6"} {
		t.Run(network, func(t *testing.T) {
			a, b := wire(t, network, 1300)
			sent := []Message{
				{Buf: randomBytes(100), Remote: b.global},
				{Buf: randomBytes(1400 * 20), Segment: 1400, Remote: b.global},
				{Buf: randomBytes(1440 * 20), Segment: 1400, Headroom: 40, Remote: b.global,
					Local: Source{a.global.Addr(), indexA}},
				{Buf: randomBytes(1200 * 20), Segment: 1200, Remote: b.global},
			}
			if n, err := a.u.WriteBatch(sent); n != len(sent) || err != nil {
				t.Fatal(n, err)
			}
			check(t, b.u, sent)
			if want := (Source{a.global.Addr(), indexA}); sent[2].Local != want {
				t.Errorf("source %v became %v", want, sent[2].Local)
			}
		})
	}
}

// Link-local remotes carry their interface, and answers go back by it.
func TestLinkLocal(t *testing.T) {
	a, b := wire(t, "udp6", 1500)
	zoned := netip.AddrPortFrom(b.linkLocal.WithZone(fmt.Sprint(indexA)), b.u.port)
	plain := netip.AddrPortFrom(b.linkLocal, b.u.port)
	var indexB uint32
	for _, m := range []Message{
		{Remote: zoned},
		{Remote: zoned, Local: Source{a.linkLocal, indexA}},
		{Remote: zoned, Local: Source{netip.MustParseAddr("fe80::dead"), indexA}},
		{Remote: plain, Local: Source{Interface: indexA}},
		{Remote: plain, Local: Source{netip.MustParseAddr("fe80::dead"), indexA}},
	} {
		m.Buf, m.Segment = randomBytes(2500), 1000
		sent := []Message{m}
		if n, err := a.u.WriteBatch(sent); n != 1 || err != nil {
			t.Fatal(m.Remote, m.Local, n, err)
		}
		got, _ := check(t, b.u, sent)
		indexB = got[0].local.Interface
		if want := netip.AddrPortFrom(a.linkLocal.WithZone(fmt.Sprint(indexB)), a.u.port); got[0].remote != want {
			t.Errorf("from %v, want %v", got[0].remote, want)
		}
		if got[0].local.Addr != b.linkLocal || indexB == 0 {
			t.Errorf("arrived on %v, want %v", got[0].local, b.linkLocal)
		}
		answer := []Message{{Buf: []byte("answer"), Remote: got[0].remote, Local: got[0].local}}
		if n, err := b.u.WriteBatch(answer); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		back, _ := check(t, a.u, answer)
		if back[0].remote != zoned || back[0].local != (Source{a.linkLocal, indexA}) {
			t.Errorf("answer from %v on %v, want %v on %v", back[0].remote, back[0].local, zoned, a.linkLocal)
		}
	}

	group := netip.AddrPortFrom(netip.MustParseAddr("ff02::1"), b.u.port)
	sent := []Message{{Buf: []byte("all"), Remote: group, Local: Source{Interface: indexA}}}
	if n, err := a.u.WriteBatch(sent); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if got, _ := check(t, b.u, sent); got[0].local.Addr.IsValid() || got[0].local.Interface == 0 {
		t.Errorf("a datagram to a group arrived on %v: not an address to answer from", got[0].local)
	}

	ms := room(1)
	one := []Message{{Buf: make([]byte, 10), Remote: netip.AddrPortFrom(a.linkLocal, a.u.port), Local: Source{Interface: indexB}}}
	if allocs := testing.AllocsPerRun(100, func() {
		if n, err := b.u.WriteBatch(one); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		if _, err := a.u.ReadBatch(ms); err != nil {
			t.Fatal(err)
		}
	}); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

// An interface that went down is left out like one that is gone.
func TestSourceInterfaceDown(t *testing.T) {
	for _, network := range []string{"udp4", "udp6"} {
		t.Run(network, func(t *testing.T) {
			a, b := wire(t, network, 1500)
			var down uint32
			a.Do(t, func() error {
				err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "down"}, PeerName: "down2"})
				if err != nil {
					return err
				}
				link, err := netlink.LinkByName("down")
				if err == nil {
					down = uint32(link.Attrs().Index)
				}
				return err
			})
			sent := []Message{{Buf: randomBytes(3000), Segment: 1000, Remote: b.global, Local: Source{Interface: down}}}
			if n, err := a.u.WriteBatch(sent); n != 1 || err != nil {
				t.Fatal(n, err)
			}
			check(t, b.u, sent)
			if sent[0].Local != (Source{}) {
				t.Error("the source was kept")
			}
		})
	}
}

// What cannot be routed is an error for its message alone.
func TestUnreachable(t *testing.T) {
	a, b := wire(t, "udp4", 1500)
	good := Message{Buf: []byte("good"), Remote: b.global}
	bad := Message{Buf: randomBytes(3000), Segment: 1000, Remote: netip.MustParseAddrPort("192.0.2.1:9"), Local: Source{Addr: a.global.Addr()}}
	sent := []Message{good, bad, good}
	if n, err := a.u.WriteBatch(sent); n != 1 || !errors.Is(err, unix.ENETUNREACH) {
		t.Fatalf("%d sent, error %v", n, err)
	}
	if n, err := a.u.WriteBatch(sent[2:]); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	check(t, b.u, []Message{good, good})
}

// cpuTime is what this process has used.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// A full buffer is waited for, though not for ever. What is sent to a neighbour
// that never answers stays in the buffer.
func TestFullBuffer(t *testing.T) {
	a, b := wire(t, "udp4", 1500)
	setsockopt(t, a.u, unix.SOL_SOCKET, unix.SO_SNDBUF, 1) // the kernel's least
	silent := netip.MustParseAddrPort("10.0.0.99:9")
	var sent []Message
	for range 50 {
		sent = append(sent, Message{Buf: make([]byte, 1400), Remote: silent})
	}
	begin, busy := time.Now(), cpuTime(t)
	n, err := a.u.WriteBatch(sent)
	busy = cpuTime(t) - busy
	if !errors.Is(err, ErrFull) || n == 0 || n == len(sent) {
		t.Fatalf("%d sent, error %v", n, err)
	}
	if took := time.Since(begin); took < patience || took > 20*patience {
		t.Errorf("waited %v", took)
	}
	if busy > patience/2 {
		t.Errorf("waiting took %v of processor time", busy)
	}

	done := make(chan error)
	go func() {
		n, err := a.u.WriteBatch(sent)
		if err == nil && n != len(sent) {
			err = fmt.Errorf("%d of %d sent", n, len(sent))
		}
		done <- err
	}()
	var mac net.HardwareAddr
	b.Do(t, func() error {
		link, err := netlink.LinkByName("wire")
		mac = link.Attrs().HardwareAddr
		return err
	})
	a.Do(t, func() error { // the neighbour is found
		return netlink.NeighSet(&netlink.Neigh{
			LinkIndex: indexA, State: netlink.NUD_PERMANENT, IP: silent.Addr().AsSlice(), HardwareAddr: mac,
		})
	})
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
