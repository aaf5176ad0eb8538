package netwatch

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// maxUplinks bounds what Uplinks returns.
const maxUplinks = 8

// Uplink is an interface with a default route of its own.
type Uplink struct {
	Interface int // interface index
	// IPv4 and IPv6 are the local addresses of packets to the Internet that take this way, without zone; one is invalid where there is no default
	// route of that family.
	IPv4, IPv6 netip.Addr
}

// anywhere are addresses on the Internet, of hosts that need not be, to ask for a source by.
var anywhere = map[int]netip.Addr{
	netlink.FAMILY_V4: netip.AddrFrom4([4]byte{192, 0, 2, 1}),
	netlink.FAMILY_V6: netip.AddrFrom16([16]byte{0x20, 15: 1}),
}

// Uplinks returns the interfaces that have a default route in the main table and may be used now, the preferred ones first; 8 at the most. Unlike
// Gateways it counts those without a gateway, as LTE modems have them. Interfaces of other tunnels are no uplinks, for what they carry leaves
// by one of the others; nor is the device excluded. It asks the kernel for all routes, so it is for now and then: after a change was told.
func Uplinks(excluded string) ([]Uplink, error) {
	found, err := dump(defaultUplinks)
	if err != nil {
		return nil, fmt.Errorf("cannot list the default routes: %w", err)
	}
	slices.SortStableFunc(found, func(a, b defaultUplink) int { return cmp.Compare(a.metric, b.metric) })
	var all []Uplink
	skip := make(map[int]bool)
	for _, d := range found {
		if _, known := skip[d.index]; !known {
			skip[d.index] = tunnel(d.index, excluded)
		}
		source := d.source
		if !source.IsValid() {
			source = sourceBy(d.index, d.family)
		}
		if skip[d.index] || !source.IsValid() {
			continue
		}
		i := slices.IndexFunc(all, func(u Uplink) bool { return u.Interface == d.index })
		if i < 0 {
			if len(all) == maxUplinks {
				continue
			}
			all = append(all, Uplink{Interface: d.index})
			i = len(all) - 1
		}
		if a := &all[i].IPv4; d.family == netlink.FAMILY_V4 && !a.IsValid() {
			*a = source
		}
		if a := &all[i].IPv6; d.family == netlink.FAMILY_V6 && !a.IsValid() {
			*a = source
		}
	}
	return all, nil
}

// defaultUplink is one next hop of a default route.
type defaultUplink struct {
	index, family, metric int
	source                netip.Addr // that the route names
}

func defaultUplinks() (found []defaultUplink, err error) {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		e := eachDefaultRoute(family, func(r *netlink.Route, _ net.IP, index, flags int) {
			if index == 0 || flags&(unix.RTNH_F_DEAD|unix.RTNH_F_LINKDOWN) != 0 {
				return
			}
			source, _ := netip.AddrFromSlice(r.Src)
			found = append(found, defaultUplink{index, family, r.Priority, source.Unmap()})
		})
		err = errors.Join(err, e)
	}
	return found, err
}

// tunnel reports whether an interface is another tunnel, or the device of a name, or gone.
func tunnel(index int, excluded string) bool {
	link, err := netlink.LinkByIndex(index)
	if err != nil {
		return true
	}
	switch link.Type() {
	case "tun", "tuntap", "wireguard", "ipip", "sit", "ip6tnl", "gre", "gretap", "ip6gre", "vti", "vti6", "xfrm", "vxlan":
		return true
	}
	return link.Attrs().Name == excluded
}

// sourceBy asks the kernel for the local address of packets to the Internet by an interface.
func sourceBy(index, family int) netip.Addr {
	routes, err := netlink.RouteGetWithOptions(anywhere[family].AsSlice(), &netlink.RouteGetOptions{OifIndex: index})
	if err != nil || len(routes) == 0 || routes[0].LinkIndex != index {
		return netip.Addr{}
	}
	source, _ := netip.AddrFromSlice(routes[0].Src)
	return source.Unmap()
}
