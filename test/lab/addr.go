package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// route is one that the lab gave a host, so that it comes back when its device does.
type route struct {
	dst    netip.Prefix
	via    netip.Addr
	dev    string
	metric int // 0 is the kernel's default
}

func (h *Host) newDevice() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.nextIf++
	return fmt.Sprintf("lan%d", h.nextIf-1)
}

// Addr4 returns the IPv4 address of a device.
func (h *Host) Addr4(dev string) netip.Addr {
	h.lab.t.Helper()
	return h.mustAddr(dev, "IPv4 address", netip.Addr.Is4)
}

// Addr6 returns the IPv6 address of a device that is not link-local.
func (h *Host) Addr6(dev string) netip.Addr {
	h.lab.t.Helper()
	return h.mustAddr(dev, "IPv6 address", func(a netip.Addr) bool { return a.Is6() && !a.IsLinkLocalUnicast() })
}

// LinkLocal returns the link-local IPv6 address of a device, without a zone: who uses it names a device of his own.
func (h *Host) LinkLocal(dev string) netip.Addr {
	h.lab.t.Helper()
	return h.mustAddr(dev, "link-local address", func(a netip.Addr) bool { return a.Is6() && a.IsLinkLocalUnicast() })
}

func (h *Host) mustAddr(dev, what string, want func(netip.Addr) bool) netip.Addr {
	h.lab.t.Helper()
	addrs, err := h.addrs(dev)
	if err != nil {
		h.lab.t.Fatalf("lab: %s of %s on %s: %v", what, dev, h.name, err)
	}
	for _, a := range addrs {
		if p := prefixOf(a); want(p.Addr()) {
			return p.Addr()
		}
	}
	h.lab.t.Fatalf("lab: %s on %s has no %s", dev, h.name, what)
	return netip.Addr{}
}

func (h *Host) addrs(dev string) ([]netlink.Addr, error) {
	link, err := h.nl.LinkByName(dev)
	if err != nil {
		return nil, err
	}
	return h.nl.AddrList(link, netlink.FAMILY_ALL)
}

func prefixOf(a netlink.Addr) netip.Prefix {
	addr, _ := netip.AddrFromSlice(a.IP)
	bits, _ := a.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), bits)
}

// SetAddr gives a device this address in place of those of the same family that it had, link-local ones apart.
// Routes that still lead somewhere are kept.
func (h *Host) SetAddr(dev string, addr netip.Prefix) {
	h.lab.t.Helper()
	err := h.setAddr(dev, addr)
	if err == nil {
		err = h.restoreRoutes(dev)
	}
	if err != nil {
		h.lab.t.Fatalf("lab: address %v of %s on %s: %v", addr, dev, h.name, err)
	}
}

func (h *Host) setAddr(dev string, addr netip.Prefix) error {
	link, err := h.nl.LinkByName(dev)
	if err != nil {
		return err
	}
	old, err := h.nl.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	for _, a := range old {
		p := prefixOf(a)
		if p.Addr().Is4() != addr.Addr().Is4() || p.Addr().IsLinkLocalUnicast() || p == addr {
			continue
		}
		if err := h.nl.AddrDel(link, &a); err != nil {
			return err
		}
	}
	a := &netlink.Addr{IPNet: ipNet(addr)}
	if addr.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	return h.nl.AddrReplace(link, a)
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// LinkDown switches a device of the host off.
func (h *Host) LinkDown(dev string) {
	h.lab.t.Helper()
	link, err := h.nl.LinkByName(dev)
	if err == nil {
		err = h.nl.LinkSetDown(link)
	}
	if err != nil {
		h.lab.t.Fatalf("lab: %s on %s down: %v", dev, h.name, err)
	}
}

// LinkUp switches a device of the host on; its addresses are usable and its routes are back when LinkUp returns.
func (h *Host) LinkUp(dev string) {
	h.lab.t.Helper()
	err := h.setUp(dev)
	if err == nil {
		err = h.farReady(dev)
	}
	if err == nil {
		err = h.restoreRoutes(dev)
	}
	if err != nil {
		h.lab.t.Fatalf("lab: %s on %s up: %v", dev, h.name, err)
	}
}

func (h *Host) setUp(dev string) error {
	link, err := h.nl.LinkByName(dev)
	if err != nil {
		return err
	}
	if err := h.nl.LinkSetUp(link); err != nil {
		return err
	}
	return h.ready(dev)
}

// ready waits until a device that is up can be used: a carrier, and a link-local address unless IPv6 is off.
// Usually it is ready at once.
func (h *Host) ready(dev string) error {
	return eventually(5*time.Second, func() error {
		link, err := h.nl.LinkByName(dev)
		if err != nil {
			return err
		}
		if link.Attrs().OperState != netlink.OperUp {
			return fmt.Errorf("%s is %v", dev, link.Attrs().OperState)
		}
		off, err := h.ipv6Off(dev)
		if off || err != nil {
			return err
		}
		addrs, err := h.nl.AddrList(link, netlink.FAMILY_V6)
		if err != nil {
			return err
		}
		found := false
		for _, a := range addrs {
			if a.Flags&unix.IFA_F_TENTATIVE != 0 {
				return fmt.Errorf("%v is tentative", a.IPNet)
			}
			found = found || a.IP.IsLinkLocalUnicast()
		}
		if !found {
			return fmt.Errorf("%s has no link-local address", dev)
		}
		return nil
	})
}

// noCarrier waits until the kernel has noticed that a device has lost its carrier.
func (h *Host) noCarrier(dev string) error {
	return eventually(5*time.Second, func() error {
		link, err := h.nl.LinkByName(dev)
		if err == nil && link.Attrs().OperState == netlink.OperUp {
			err = fmt.Errorf("%s still has a carrier", dev)
		}
		return err
	})
}

func (h *Host) ipv6Off(dev string) (off bool, err error) {
	err = h.do(func() error {
		b, err := readSysctl("net/ipv6/conf/" + dev + "/disable_ipv6")
		off = b == "1"
		return err
	})
	return off, err
}

func (h *Host) setMTU(dev string, mtu int) error {
	link, err := h.nl.LinkByName(dev)
	if err != nil {
		return err
	}
	return h.nl.LinkSetMTU(link, mtu)
}

// Route sends what goes to dst through via, on the device that reaches via now. The route comes back when its
// device was down and is up again.
func (h *Host) Route(dst netip.Prefix, via netip.Addr) {
	h.lab.t.Helper()
	found, err := h.nl.RouteGet(via.AsSlice())
	if err == nil && len(found) == 0 {
		err = unix.ENETUNREACH
	}
	var link netlink.Link
	if err == nil {
		link, err = h.nl.LinkByIndex(found[0].LinkIndex)
	}
	if err == nil {
		err = h.addRoute(route{dst: dst, via: via, dev: link.Attrs().Name})
	}
	if err != nil {
		h.lab.t.Fatalf("lab: route to %v via %v on %s: %v", dst, via, h.name, err)
	}
}

// RouteBy is Route through a device that is named, with a metric: of several routes to dst, the one with the
// lowest counts. The metric 0 is the kernel's default: 0 for IPv4, 1024 for IPv6.
func (h *Host) RouteBy(dst netip.Prefix, via netip.Addr, dev string, metric int) {
	h.lab.t.Helper()
	if err := h.addRoute(route{dst: dst, via: via, dev: dev, metric: metric}); err != nil {
		h.lab.t.Fatalf("lab: route to %v via %v by %s on %s: %v", dst, via, dev, h.name, err)
	}
}

func (h *Host) addRoute(r route) error {
	if err := h.install(r); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, old := range h.routes {
		if old.dst == r.dst && old.metric == r.metric {
			h.routes[i] = r
			return nil
		}
	}
	h.routes = append(h.routes, r)
	return nil
}

func (h *Host) install(r route) error {
	link, err := h.nl.LinkByName(r.dev)
	if err != nil {
		return err
	}
	return h.nl.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(r.dst), Gw: r.via.AsSlice(), Priority: r.metric})
}

// restoreRoutes installs the routes of a device again; those whose gateway its addresses no longer reach stay
// away.
func (h *Host) restoreRoutes(dev string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range h.routes {
		if r.dev != dev {
			continue
		}
		if err := h.install(r); err != nil && !errors.Is(err, unix.ENETUNREACH) && !errors.Is(err, unix.EHOSTUNREACH) {
			return fmt.Errorf("route to %v: %w", r.dst, err)
		}
	}
	return nil
}

func (h *Host) forgetRoutes(dev string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	kept := h.routes[:0]
	for _, r := range h.routes {
		if r.dev != dev {
			kept = append(kept, r)
		}
	}
	h.routes = kept
}

// defaultRoute gives the host default routes through a router, in the families both have and in which it has
// none.
func (h *Host) defaultRoute(dev string, gate *Host, gateDev string) error {
	addrs, err := gate.addrs(gateDev)
	if err != nil {
		return err
	}
	for _, a := range addrs {
		via := prefixOf(a).Addr()
		if via.IsLinkLocalUnicast() {
			continue
		}
		dst := netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		if via.Is4() {
			dst = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		}
		h.mu.Lock()
		has := false
		for _, r := range h.routes {
			has = has || r.dst == dst
		}
		h.mu.Unlock()
		if has {
			continue
		}
		if err := h.addRoute(route{dst: dst, via: via, dev: dev}); err != nil {
			return err
		}
	}
	return nil
}

// SetOffload switches one of ethtool's features (a command ETHTOOL_S…) of a device of the calling thread's network namespace.
func SetOffload(dev string, command uint32, on bool) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	value := struct{ command, data uint32 }{command, 0}
	if on {
		value.data = 1
	}
	var request struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}
	copy(request.name[:unix.IFNAMSIZ-1], dev)
	request.data = unsafe.Pointer(&value)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return fmt.Errorf("cannot switch offload %#x of %s: %w", command, dev, errno)
	}
	return nil
}

// offloadsOff makes the kernel hand over single packets with complete checksums on a device of the calling
// thread's network namespace.
func offloadsOff(dev string) error {
	for _, command := range []uint32{unix.ETHTOOL_STSO, unix.ETHTOOL_SGSO, unix.ETHTOOL_STXCSUM} {
		if err := SetOffload(dev, command, false); err != nil {
			return err
		}
	}
	return nil
}
