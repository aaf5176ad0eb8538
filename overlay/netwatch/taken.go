package netwatch

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Taken is a part of the IPv4 address space that this host has a way to.
type Taken struct {
	Prefix netip.Prefix
	By     string // the interface's name, "" if there is none
}

// TakenIPv4 lists the IPv4 networks and addresses that this host has a way to other than by the excluded interface: those of its addresses and of all
// routes, whatever their table, default routes included.
func TakenIPv4(exclude string) (list []Taken, err error) {
	names := make(map[int]string)
	links, err := dump(netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("cannot list the network interfaces: %w", err)
	}
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	addresses, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_V4) })
	if err != nil {
		return nil, fmt.Errorf("cannot list the IPv4 addresses: %w", err)
	}
	add := func(p netip.Prefix, by string) {
		if p.IsValid() && by != exclude {
			list = append(list, Taken{p, by})
		}
	}
	for _, a := range addresses {
		ip, ok := netip.AddrFromSlice(a.IP.To4())
		bits, _ := a.Mask.Size()
		if ok {
			add(netip.PrefixFrom(ip, bits).Masked(), names[a.LinkIndex])
		}
		if a.Peer != nil {
			if peer, ok := netip.AddrFromSlice(a.Peer.IP.To4()); ok {
				bits, _ := a.Peer.Mask.Size()
				add(netip.PrefixFrom(peer, bits).Masked(), names[a.LinkIndex])
			}
		}
	}
	routes, err := dump(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, fmt.Errorf("cannot list the IPv4 routes: %w", err)
	}
	for _, r := range routes {
		if r.Table == unix.RT_TABLE_LOCAL {
			continue // as the addresses
		}
		index := r.LinkIndex
		if index == 0 && len(r.MultiPath) > 0 {
			index = r.MultiPath[0].LinkIndex
		}
		dst := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if r.Dst != nil {
			ip, _ := netip.AddrFromSlice(r.Dst.IP.To4())
			bits, _ := r.Dst.Mask.Size()
			dst = netip.PrefixFrom(ip, bits).Masked()
		}
		by := names[index]
		if index == 0 {
			by = "" // unreachable, blackhole
		}
		if exclude == by && by != "" {
			continue
		}
		add(dst, by)
		if gw, ok := netip.AddrFromSlice(r.Gw.To4()); ok {
			add(netip.PrefixFrom(gw, gw.BitLen()), by)
		}
	}
	return list, nil
}
