package host

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/hnet-robotics/hnet_bridge/overlay/inet4"
)

// IPv4Spec is the wanted state of the device's IPv4. The zero IPv4Spec is none at all.
type IPv4Spec struct {
	// Address is the own address with the length of the range that it was taken from; invalid = none, and then nothing else counts.
	Address netip.Prefix
	// RouteRange leads all of the range to the device, so that what has no peer is refused there and does not leave by another. Nothing on this host
	// may have a part of it.
	RouteRange bool
	// Peers have a route each.
	Peers []IPv4Peer
}

// IPv4Peer is the route of one peer.
type IPv4Peer struct {
	Address netip.Addr
	MTU     int // 0 = MinMTU, else MinMTU up to the device's
}

func (s IPv4Spec) check(device netlink.Link) error {
	own, name := s.Address.Addr(), device.Attrs().Name
	if !own.IsValid() {
		return nil
	}
	if err := inet4.CheckRange(s.Address.Masked()); err != nil {
		return fmt.Errorf("%v cannot be the IPv4 address of %s: %w", s.Address, name, err)
	}
	for _, p := range s.Peers {
		switch {
		case !inet4.Possible(p.Address) || p.Address == own:
			return fmt.Errorf("no route to %v on %s: no peer can have that address", p.Address, name)
		case p.MTU != 0 && (p.MTU < MinMTU || p.MTU > device.Attrs().MTU):
			return fmt.Errorf("no route to %v on %s: mtu %d is not within %d to %d", p.Address, name, p.MTU, MinMTU, device.Attrs().MTU)
		}
	}
	return nil
}

func (h *host) SetIPv4(name string, spec IPv4Spec) error {
	if err := checkName(name); err != nil {
		return err
	}
	link, err := linkOfOurs(name)
	if err != nil {
		return err
	}
	if link == nil {
		if !spec.Address.IsValid() {
			return nil
		}
		return fmt.Errorf("no IPv4 address %v: there is no device %s", spec.Address, name)
	}
	if err := spec.check(link); err != nil {
		return err
	}
	present, err := routes4(link)
	if err != nil {
		return err
	}
	wanted := wantedRoutes4(link, spec)
	for dst, r := range present {
		if w := wanted[dst]; w == nil || !sameRoute4(w, r) {
			if err := netlink.RouteDel(r); err != nil && !errors.Is(err, unix.ESRCH) {
				return explainRights(fmt.Sprintf("remove the route %v from %s", dst, name), err)
			}
			continue
		}
		delete(wanted, dst)
	}
	if err := setAddress4(link, spec.Address); err != nil {
		return err
	}
	for dst, r := range wanted {
		if err := netlink.RouteReplace(r); err != nil {
			return explainRights(fmt.Sprintf("route %v to %s", dst, name), err)
		}
	}
	return nil
}

// setAddress4 leaves exactly one IPv4 address of ours on the link, invalid = none. Ours are those that make no route of their own, which nobody sets
// by hand; others are the administrator's. The old one goes first: a second one of the same network would go with it.
func setAddress4(link netlink.Link, want netip.Prefix) error {
	present, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(link, netlink.FAMILY_V4) })
	if err != nil {
		return explainRights("list the IPv4 addresses of "+link.Attrs().Name, err)
	}
	for _, a := range present {
		ip, _ := netip.AddrFromSlice(a.IP.To4())
		bits, _ := a.Mask.Size()
		switch {
		case netip.PrefixFrom(ip, bits) == want && a.Flags&unix.IFA_F_NOPREFIXROUTE != 0:
			return nil
		case ip != want.Addr() && a.Flags&unix.IFA_F_NOPREFIXROUTE == 0:
			continue
		}
		if err := netlink.AddrDel(link, &a); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return explainRights(fmt.Sprintf("remove %v from %s", a.IPNet, link.Attrs().Name), err)
		}
	}
	if !want.IsValid() {
		return nil
	}
	a := &netlink.Addr{IPNet: ipNet(want), Flags: unix.IFA_F_NOPREFIXROUTE}
	if err := netlink.AddrReplace(link, a); err != nil {
		return explainRights(fmt.Sprintf("give %s the address %v", link.Attrs().Name, want), err)
	}
	return nil
}

func wantedRoutes4(link netlink.Link, spec IPv4Spec) map[netip.Prefix]*netlink.Route {
	wanted := make(map[netip.Prefix]*netlink.Route, len(spec.Peers)+1)
	if !spec.Address.IsValid() {
		return wanted
	}
	add := func(dst netip.Prefix, mtu int) {
		r := route(link, dst, mtu)
		r.Scope, r.Src = unix.RT_SCOPE_LINK, spec.Address.Addr().AsSlice()
		wanted[dst] = r
	}
	if spec.RouteRange {
		add(spec.Address.Masked(), MinMTU)
	}
	for _, p := range spec.Peers {
		add(netip.PrefixFrom(p.Address, p.Address.BitLen()), max(p.MTU, MinMTU))
	}
	return wanted
}

// routes4 lists the IPv4 routes of ours on the link, by destination.
func routes4(link netlink.Link) (map[netip.Prefix]*netlink.Route, error) {
	filter := &netlink.Route{LinkIndex: link.Attrs().Index, Protocol: RouteProtocol}
	all, err := dump(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(netlink.FAMILY_V4, filter, netlink.RT_FILTER_OIF|netlink.RT_FILTER_PROTOCOL)
	})
	if err != nil {
		return nil, explainRights("list the IPv4 routes of "+link.Attrs().Name, err)
	}
	present := make(map[netip.Prefix]*netlink.Route, len(all))
	for _, r := range slices.Clone(all) {
		present[prefixOf(r)] = &r
	}
	return present, nil
}

func sameRoute4(a, b *netlink.Route) bool {
	return a.MTU == b.MTU && a.Priority == b.Priority && a.Src.Equal(b.Src) && a.Scope == b.Scope
}
