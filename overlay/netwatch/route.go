package netwatch

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
)

// Route is the kernel's present choice of a way to an address.
type Route struct {
	Interface int        // interface index
	MTU       int        // bytes: the path MTU if the kernel knows it, else the route's, else the interface's
	Source    netip.Addr // the local address packets will have, without zone; invalid if the kernel does not say
}

// RouteTo asks the kernel how packets to remote leave this host. A link-local IPv6 address needs its interface index, in
// decimal, as zone. Where there is no way, the error is a syscall.Errno such as ENETUNREACH inside.
func RouteTo(remote netip.Addr) (Route, error) {
	remote = remote.Unmap()
	if !remote.IsValid() || remote.IsUnspecified() {
		return Route{}, fmt.Errorf("no route to %v: it is not an address of a host", remote)
	}
	options := &netlink.RouteGetOptions{}
	switch zone := remote.Zone(); {
	case zone != "":
		index, err := strconv.ParseUint(zone, 10, 31)
		if err != nil || index == 0 {
			return Route{}, fmt.Errorf("no route to %v: the zone must be the index of an interface", remote)
		}
		options.OifIndex = int(index)
	case remote.Is6() && (remote.IsLinkLocalUnicast() || remote.IsLinkLocalMulticast()):
		return Route{}, fmt.Errorf("no route to %v: a link-local address needs the index of an interface as zone", remote)
	}
	routes, err := netlink.RouteGetWithOptions(remote.AsSlice(), options)
	if err == nil && len(routes) == 0 {
		err = unix.ENETUNREACH
	}
	if err != nil {
		return Route{}, fmt.Errorf("no route to %v: %w", remote, err)
	}
	found := routes[0]
	source, _ := netip.AddrFromSlice(found.Src)
	route := Route{Interface: found.LinkIndex, MTU: found.MTU, Source: source.Unmap()}
	if route.Interface == 0 {
		return Route{}, fmt.Errorf("no route to %v: it leaves through no interface", remote)
	}
	if route.MTU == 0 {
		link, err := netlink.LinkByIndex(route.Interface)
		if err != nil {
			return Route{}, fmt.Errorf("no route to %v: cannot look up interface %d: %w", remote, route.Interface, err)
		}
		route.MTU = link.Attrs().MTU
	}
	return route, nil
}

// overlayProtocol marks the overlay's own routes: host.RouteProtocol.
const overlayProtocol = 0x94

// matters tells whether a route event may change the way to a peer on the underlay. The overlay's own routes do not, nor
// those that come with each address, nor what the kernel learned about a single path.
func matters(message []byte) bool {
	if len(message) < unix.SizeofRtMsg {
		return false
	}
	m := nl.DeserializeRtMsg(message)
	if m.Flags&unix.RTM_F_CLONED != 0 || m.Table == unix.RT_TABLE_LOCAL || m.Protocol == overlayProtocol {
		return false
	}
	// Not by nl.ParseRouteAttr, which panics on a length that is not so.
	for rest := message[unix.SizeofRtMsg:]; len(rest) >= unix.SizeofRtAttr; {
		size, kind := int(binary.NativeEndian.Uint16(rest)), binary.NativeEndian.Uint16(rest[2:])
		if size < unix.SizeofRtAttr || size > len(rest) {
			return false
		}
		if kind == unix.RTA_DST {
			dst, ok := netip.AddrFromSlice(rest[unix.SizeofRtAttr:size])
			return ok && !identity.Prefix.Contains(dst) && !dst.IsMulticast()
		}
		rest = rest[min((size+unix.NLMSG_ALIGNTO-1)&^(unix.NLMSG_ALIGNTO-1), len(rest)):]
	}
	// A default route has no destination.
	return true
}
