package netwatch

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// maxGateways bounds what Gateways returns.
const maxGateways = 16

// Gateway is a router that this host sends to the Internet by.
type Gateway struct {
	Address   netip.Addr // a link-local one has the interface index, in decimal, as zone
	Interface int        // interface index
	// Source is the local address of packets to the Internet that take this way, without zone: what the route names, else what
	// the kernel chooses. It is invalid if there is none.
	Source netip.Addr
	Metric int // the least counts
}

// Gateways returns the gateways of the default routes in the main table that are usable now, those of IPv4 first, and in each
// family the preferred ones first; 16 at the most. Routes through the device of a name (the overlay's own, say) are left out, and
// so are routes without a gateway, as point-to-point devices have them. It asks the kernel for all routes, so it is for now and then:
// after a change was told.
func Gateways(excluded string) ([]Gateway, error) {
	skip := 0
	if link, err := net.InterfaceByName(excluded); err == nil {
		skip = link.Index
	}
	found, err := dump(defaultGateways)
	if err != nil {
		return nil, fmt.Errorf("cannot list the default routes: %w", err)
	}
	found = slices.DeleteFunc(found, func(g Gateway) bool { return g.Interface == skip })
	slices.SortStableFunc(found, func(a, b Gateway) int {
		return cmp.Or(cmp.Compare(a.Address.BitLen(), b.Address.BitLen()), cmp.Compare(a.Metric, b.Metric))
	})
	var all []Gateway
	for _, g := range found {
		known := slices.ContainsFunc(all, func(o Gateway) bool { return o.Address == g.Address && o.Interface == g.Interface })
		if known || len(all) == maxGateways {
			continue
		}
		if !g.Source.IsValid() {
			g.Source = g.source()
		}
		all = append(all, g)
	}
	return all, nil
}

// defaultGateways returns the next hops of all default routes, with the sources that the routes name.
func defaultGateways() (found []Gateway, err error) {
	add := func(r *netlink.Route, ip net.IP, index, flags int) {
		address, ok := netip.AddrFromSlice(ip)
		if !ok || index == 0 || flags&(unix.RTNH_F_DEAD|unix.RTNH_F_LINKDOWN) != 0 {
			return
		}
		if address = address.Unmap(); address.Is6() && address.IsLinkLocalUnicast() {
			address = address.WithZone(strconv.Itoa(index))
		}
		source, _ := netip.AddrFromSlice(r.Src)
		found = append(found, Gateway{Address: address, Interface: index, Source: source.Unmap(), Metric: r.Priority})
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		err = errors.Join(err, eachDefaultRoute(family, add))
	}
	return found, err
}

// eachDefaultRoute calls f for each next hop of each default route of a family in the main table.
func eachDefaultRoute(family int, f func(r *netlink.Route, gateway net.IP, index, flags int)) error {
	// One by one, for some hosts have a hundred thousand routes.
	err := netlink.RouteListFilteredIter(family, &netlink.Route{}, 0, func(r netlink.Route) bool {
		if r.Dst != nil {
			if bits, _ := r.Dst.Mask.Size(); bits > 0 {
				return true
			}
		}
		if r.Type != unix.RTN_UNICAST {
			return true
		}
		f(&r, r.Gw, r.LinkIndex, r.Flags)
		for _, hop := range r.MultiPath {
			f(&r, hop.Gw, hop.LinkIndex, r.Flags|hop.Flags)
		}
		return true
	})
	// A kernel without IPv6 has no routes of it.
	if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	return err
}

// source asks the kernel for the local address of packets through g.
func (g Gateway) source() netip.Addr {
	to := g.Address
	if to.Is6() {
		// To the gateway itself, mostly a link-local address, a link-local one would speak. Any on the Internet will do.
		to = netip.AddrFrom16([16]byte{0x20, 15: 1})
	}
	routes, err := netlink.RouteGetWithOptions(to.AsSlice(), &netlink.RouteGetOptions{OifIndex: g.Interface})
	if err != nil || len(routes) == 0 || routes[0].LinkIndex != g.Interface {
		return netip.Addr{}
	}
	source, _ := netip.AddrFromSlice(routes[0].Src)
	return source.Unmap()
}
