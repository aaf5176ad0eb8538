package underlay

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxZones bounds the cached names of interface indexes.
const maxZones = 256

// zones keeps the decimal names of interface indexes, and with them the memory
// behind netip's zones, so that a packet from a known link costs no allocation.
type zones map[uint32]netip.Addr

// scope returns addr with the zone of an interface.
func (z zones) scope(addr netip.Addr, index uint32) netip.Addr {
	known, ok := z[index]
	if !ok {
		if len(z) >= maxZones {
			clear(z)
		}
		known = netip.IPv6LinkLocalAllNodes().WithZone(strconv.FormatUint(uint64(index), 10))
		z[index] = known
	}
	return addr.WithZone(known.Zone())
}

// parseZone returns the interface index that a zone stands for; no zone is 0.
func parseZone(zone string) (index uint32, ok bool) {
	if len(zone) > 10 {
		return 0, false
	}
	var n uint64
	for i := range len(zone) {
		c := zone[i] - '0'
		if c > 9 {
			return 0, false
		}
		n = n*10 + uint64(c)
	}
	return uint32(n), n <= 1<<32-1
}

// A sockaddr has room for the socket addresses of both families.
type sockaddr = unix.RawSockaddrInet6

// endpoint reads the address of a received datagram.
func endpoint(sa *sockaddr, z zones) netip.AddrPort {
	if sa.Family == unix.AF_INET {
		sa4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom4(sa4.Addr), networkOrder(sa4.Port))
	}
	addr := netip.AddrFrom16(sa.Addr)
	if sa.Scope_id != 0 {
		addr = z.scope(addr, sa.Scope_id)
	}
	return netip.AddrPortFrom(addr, networkOrder(sa.Port))
}

// encodeEndpoint writes the address to send to and returns its length; 0 = the
// endpoint is none of this family. A link-local address without zone is looked
// for on the interface fallback.
func encodeEndpoint(sa *sockaddr, ep netip.AddrPort, ipv6 bool, fallback uint32) uint32 {
	addr := ep.Addr().Unmap()
	if !addr.IsValid() || addr.Is4() == ipv6 || ep.Port() == 0 {
		return 0
	}
	if !ipv6 {
		sa4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		*sa4 = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: networkOrder(ep.Port()), Addr: addr.As4()}
		return unix.SizeofSockaddrInet4
	}
	index, ok := parseZone(addr.Zone())
	if !ok {
		return 0
	}
	if index == 0 && (addr.IsLinkLocalUnicast() || addr.IsLinkLocalMulticast()) {
		index = fallback
	}
	*sa = sockaddr{Family: unix.AF_INET6, Port: networkOrder(ep.Port()), Addr: addr.As16(), Scope_id: index}
	return unix.SizeofSockaddrInet6
}

// networkOrder turns a port between the machine's byte order and the wire's.
func networkOrder(port uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], port)
	return binary.NativeEndian.Uint16(b[:])
}
