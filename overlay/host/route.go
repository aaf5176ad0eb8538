package host

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
)

// RouteProtocol marks our routes (`ip -6 route show proto 148`); no routing daemon uses this number.
const RouteProtocol = 0x94

// routeMetric is what the kernel gives a route set by hand.
const routeMetric = 1024

// checkRoutes refuses to go on if a device other than ours gets the traffic for identity.Prefix, and warns if it gets
// the traffic for a part of it.
func (h *host) checkRoutes(ours string) error {
	routes, err := overlayRoutes()
	if err != nil {
		return err
	}
	for _, r := range routes {
		device := deviceOf(r)
		if device == ours {
			continue
		}
		dst := prefixOf(r)
		if dst != identity.Prefix {
			h.log.Warn("another route takes a part of the overlay's traffic",
				"route", dst, "interface", device, "fix", fmt.Sprintf("ip -6 route del %v dev %s", dst, device))
			continue
		}
		if r.Type != unix.RTN_UNICAST && r.Priority > routeMetric {
			// A route of last resort (unreachable, blackhole) behind ours keeps traffic from leaking; it is welcome.
			continue
		}
		return fmt.Errorf("%v is %w, to %s: stop the program that uses it (Husarnet and an hnetd with another `interface` use the same range), then `ip -6 route del %v dev %s metric %d`",
			dst, ErrRouteTaken, device, dst, device, r.Priority)
	}
	return nil
}

// setPrefixRoute leaves exactly one route of identity.Prefix on the link, ours. Peer routes of an earlier process go: the
// mtu it had found to work may hold no longer. So do those that the kernel made for an address set without noprefixroute.
func setPrefixRoute(link netlink.Link) error {
	routes, err := overlayRoutes()
	if err != nil {
		return err
	}
	wanted := route(link, identity.Prefix, MinMTU)
	have := false
	var stale []netlink.Route
	for _, r := range routes {
		switch dst := prefixOf(r); {
		case r.LinkIndex != wanted.LinkIndex:
		case dst == identity.Prefix && r.Priority == routeMetric:
			have = r.MTU == MinMTU && r.Protocol == RouteProtocol && r.Gw == nil && r.Type == unix.RTN_UNICAST
		case dst == identity.Prefix, r.Protocol == RouteProtocol, r.Protocol == unix.RTPROT_KERNEL:
			stale = append(stale, r)
		}
	}
	if !have {
		if err := netlink.RouteReplace(wanted); err != nil {
			return explainRights(fmt.Sprintf("route %v to %s", identity.Prefix, link.Attrs().Name), err)
		}
	}
	for _, r := range stale {
		if err := netlink.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
			return explainRights(fmt.Sprintf("remove the old route %v from %s", prefixOf(r), link.Attrs().Name), err)
		}
	}
	return nil
}

func (h *host) SetPeerRoute(name string, peer netip.Addr, mtu int) error {
	if err := checkName(name); err != nil {
		return err
	}
	if !identity.Prefix.Contains(peer) || peer.Zone() != "" {
		return fmt.Errorf("no route to %v on %s: it is not inside %v", peer, name, identity.Prefix)
	}
	link, err := linkOfOurs(name)
	if err != nil {
		return err
	}
	if link == nil {
		if mtu == 0 {
			return nil
		}
		return fmt.Errorf("no route to %v: there is no device %s", peer, name)
	}
	if mtu != 0 && (mtu < MinMTU || mtu > link.Attrs().MTU) {
		return fmt.Errorf("no route to %v on %s: mtu %d is not within %d to %d", peer, name, mtu, MinMTU, link.Attrs().MTU)
	}
	r := route(link, netip.PrefixFrom(peer, peer.BitLen()), mtu)
	if mtu == 0 {
		if err := netlink.RouteDel(r); err != nil && !errors.Is(err, unix.ESRCH) {
			return explainRights(fmt.Sprintf("remove the route to %v from %s", peer, name), err)
		}
		return nil
	}
	if err := netlink.RouteReplace(r); err != nil {
		return explainRights(fmt.Sprintf("set the route to %v on %s", peer, name), err)
	}
	return nil
}

func route(link netlink.Link, dst netip.Prefix, mtu int) *netlink.Route {
	return &netlink.Route{
		LinkIndex: link.Attrs().Index,
		Dst:       ipNet(dst),
		Protocol:  RouteProtocol,
		Priority:  routeMetric,
		MTU:       mtu,
	}
}

// overlayRoutes lists the routes of the main table that lie inside identity.Prefix.
func overlayRoutes() ([]netlink.Route, error) {
	routes, err := dump(func() (inside []netlink.Route, err error) {
		err = netlink.RouteListFilteredIter(netlink.FAMILY_V6, &netlink.Route{}, 0, func(r netlink.Route) bool {
			if dst := prefixOf(r); dst.Bits() >= identity.Prefix.Bits() && identity.Prefix.Contains(dst.Addr()) {
				inside = append(inside, r)
			}
			return true
		})
		return inside, err
	})
	if err != nil {
		return nil, explainRights("list the IPv6 routes", err)
	}
	return routes, nil
}

// prefixOf returns the destination of a route, the zero Prefix for a default route.
func prefixOf(r netlink.Route) netip.Prefix {
	if r.Dst == nil {
		return netip.Prefix{}
	}
	ip, _ := netip.AddrFromSlice(r.Dst.IP)
	bits, _ := r.Dst.Mask.Size()
	return netip.PrefixFrom(ip, bits)
}

// deviceOf names the device of a route, or of the first of its next hops.
func deviceOf(r netlink.Route) string {
	index := r.LinkIndex
	if index == 0 && len(r.MultiPath) > 0 {
		index = r.MultiPath[0].LinkIndex
	}
	link, err := netlink.LinkByIndex(index)
	if err != nil {
		return fmt.Sprintf("interface %d", index)
	}
	return link.Attrs().Name
}
