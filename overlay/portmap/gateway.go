package portmap

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/netwatch"
)

// maxLocal is how many of our IPv6 addresses on a link are opened.
const maxLocal = 4

// globalUnicast is what IPv6 addresses of the Internet are in.
var globalUnicast = netip.MustParsePrefix("2000::/3")

// DefaultGateways reads the routers of the default routes from the kernel's main table, the preferred one first, without
// those behind the device excluded and those whose link is down. A router comes once for every global IPv6 address on its
// link, four at most.
func DefaultGateways(excluded string) ([]Gateway, error) {
	var all []Gateway
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		found, err := defaultGateways(family, excluded)
		if err != nil {
			return nil, fmt.Errorf("cannot read the default routes: %w", err)
		}
		all = append(all, found...)
	}
	return all, nil
}

func defaultGateways(family int, excluded string) ([]Gateway, error) {
	filter := &netlink.Route{Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST}
	routes, err := netlink.RouteListFiltered(family, filter, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_TYPE)
	// A dump that a change interrupted is taken as it is: the change announces itself.
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, err
	}
	slices.SortStableFunc(routes, func(a, b netlink.Route) int { return cmp.Compare(a.Priority, b.Priority) })
	var all []Gateway
	for _, r := range routes {
		if r.Dst != nil {
			if bits, _ := r.Dst.Mask.Size(); bits != 0 {
				continue
			}
		}
		hops := []netlink.NexthopInfo{{LinkIndex: r.LinkIndex, Gw: r.Gw, Flags: r.Flags}}
		if len(r.MultiPath) > 0 {
			hops = hops[:0]
			for _, h := range r.MultiPath {
				hops = append(hops, *h)
			}
		}
		for _, h := range hops {
			via, ok := netip.AddrFromSlice(h.Gw)
			if !ok || h.Flags&(unix.RTNH_F_DEAD|unix.RTNH_F_LINKDOWN) != 0 {
				continue
			}
			source, _ := netip.AddrFromSlice(r.Src)
			for _, g := range gatewaysOf(via.Unmap(), source.Unmap(), h.LinkIndex, excluded) {
				if !slices.Contains(all, g) {
					all = append(all, g)
				}
			}
		}
	}
	return all, nil
}

// gatewaysOf returns a router with each of our addresses that it should map to.
func gatewaysOf(via, source netip.Addr, index int, excluded string) []Gateway {
	link, err := netlink.LinkByIndex(index)
	if err != nil || link.Attrs().Name == excluded || link.Attrs().RawFlags&unix.IFF_UP == 0 {
		return nil // gone meanwhile, or not ours to use
	}
	name := link.Attrs().Name
	if via.Is4() {
		if !source.IsValid() {
			route, err := netwatch.RouteTo(via)
			if err != nil || route.Interface != index {
				return nil
			}
			source = route.Source
		}
		return []Gateway{{Addr: via, Local: source, Interface: name}}
	}
	if via.IsLinkLocalUnicast() {
		via = via.WithZone(name)
	} else if route, err := netwatch.RouteTo(via.WithZone(strconv.Itoa(index))); err != nil || route.Interface != index {
		return nil
	}
	addresses, err := netlink.AddrList(link, netlink.FAMILY_V6)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil
	}
	var all []Gateway
	for _, a := range addresses {
		local, ok := netip.AddrFromSlice(a.IP)
		if !ok || !globalUnicast.Contains(local) || identity.Prefix.Contains(local) || len(all) == maxLocal ||
			a.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED|unix.IFA_F_DEPRECATED) != 0 {
			continue
		}
		all = append(all, Gateway{Addr: via, Local: local, Interface: name})
	}
	slices.SortFunc(all, func(a, b Gateway) int { return a.Local.Compare(b.Local) })
	return all
}
