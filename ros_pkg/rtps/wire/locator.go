package wire

import (
	"fmt"
	"net/netip"
)

// LocatorKind is the transport of a locator (9.3.2).
type LocatorKind int32

// Kinds of locators. SHM is Fast DDS's shared memory; a locator of it means nothing outside its host.
const (
	LocatorInvalid  LocatorKind = -1
	LocatorReserved LocatorKind = 0
	LocatorUDPv4    LocatorKind = 1
	LocatorUDPv6    LocatorKind = 2
	LocatorTCPv4    LocatorKind = 4
	LocatorTCPv6    LocatorKind = 8
	LocatorSHM      LocatorKind = 16
)

// LocatorLen is the length of a locator on the wire, in bytes.
const LocatorLen = 24

// Locator is a place where an entity receives (8.3.5.11). It can be a map's key.
type Locator struct {
	Kind LocatorKind
	Port uint32
	Addr [16]byte // an IPv4 address in the last four
}

// LocatorFrom makes the UDP locator of an address and port. An IPv4-mapped IPv6 address becomes UDPv4, a zone is left
// out; the zero AddrPort gives a locator of LocatorInvalid.
func LocatorFrom(a netip.AddrPort) Locator {
	ip := a.Addr().Unmap()
	l := Locator{Kind: LocatorUDPv6, Port: uint32(a.Port())}
	switch {
	case !ip.IsValid():
		return Locator{Kind: LocatorInvalid}
	case ip.Is4():
		l.Kind = LocatorUDPv4
		v4 := ip.As4()
		copy(l.Addr[12:], v4[:])
	default:
		l.Addr = ip.As16()
	}
	return l
}

// AddrPort is where to send by UDP. It is false for every other transport, for port 0 and for what is no address to
// send to (unspecified).
func (l Locator) AddrPort() (netip.AddrPort, bool) {
	if l.Port == 0 || l.Port > 0xffff {
		return netip.AddrPort{}, false
	}
	var ip netip.Addr
	switch l.Kind {
	case LocatorUDPv4:
		ip = netip.AddrFrom4([4]byte(l.Addr[12:]))
	case LocatorUDPv6:
		ip = netip.AddrFrom16(l.Addr)
		if ip.Is4In6() {
			return netip.AddrPort{}, false
		}
	default:
		return netip.AddrPort{}, false
	}
	if ip.IsUnspecified() {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(ip, uint16(l.Port)), true
}

// String is for people.
func (l Locator) String() string {
	switch l.Kind {
	case LocatorUDPv4, LocatorTCPv4:
		return fmt.Sprintf("%s/%v:%d", l.Kind, netip.AddrFrom4([4]byte(l.Addr[12:])), l.Port)
	case LocatorUDPv6, LocatorTCPv6:
		return fmt.Sprintf("%s/[%v]:%d", l.Kind, netip.AddrFrom16(l.Addr), l.Port)
	case LocatorInvalid:
		return "invalid"
	}
	return fmt.Sprintf("%s/%x:%d", l.Kind, l.Addr, l.Port)
}

// String is the transport's name, or its number.
func (k LocatorKind) String() string {
	switch k {
	case LocatorInvalid:
		return "invalid"
	case LocatorUDPv4:
		return "udpv4"
	case LocatorUDPv6:
		return "udpv6"
	case LocatorTCPv4:
		return "tcpv4"
	case LocatorTCPv6:
		return "tcpv6"
	case LocatorSHM:
		return "shm"
	}
	return fmt.Sprintf("kind%d", int32(k))
}
