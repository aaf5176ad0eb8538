package multicast

import (
	"encoding/binary"
	"net/netip"
)

const (
	ipv6HeaderLen = 40
	ipv4HeaderLen = 20
	fragmentLen   = 8
	udpHeaderLen  = 8

	protocolICMPv6   = 58
	protocolIGMP     = 2
	protocolUDP      = 17
	protocolHops     = 0
	protocolFragment = 44
)

// header is what matters of a multicast packet's.
type header struct {
	source, group netip.Addr
	hops          uint8
	protocol      uint8 // of what is inside; of a packet in fragments, too
	udp           int   // where its UDP header begins; 0 in fragments but the first
}

// parse reads a packet. It is false for what is cut off, not to a group, or has extension headers other than that of fragments.
func parse(b []byte) (h header, ok bool) {
	if len(b) < ipv4HeaderLen {
		return h, false
	}
	at := 0
	switch b[0] >> 4 {
	case 6:
		if len(b) < ipv6HeaderLen {
			return h, false
		}
		h.source, h.group = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
		h.hops, h.protocol, at = b[7], b[6], ipv6HeaderLen
		if h.protocol == protocolFragment {
			if len(b) < at+fragmentLen {
				return h, false
			}
			h.protocol = b[at]
			if binary.BigEndian.Uint16(b[at+2:])>>3 != 0 {
				return h, h.group.IsMulticast()
			}
			at += fragmentLen
		}
	case 4:
		at = int(b[0]&15) * 4
		h.source, h.group = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
		h.hops, h.protocol = b[8], b[9]
		if at < ipv4HeaderLen || at > len(b) {
			return h, false
		}
		if binary.BigEndian.Uint16(b[6:])&0x1fff != 0 {
			return h, h.group.IsMulticast()
		}
	default:
		return h, false
	}
	if h.protocol == protocolUDP {
		if len(b) < at+udpHeaderLen {
			return h, false
		}
		h.udp = at
	}
	return h, h.group.IsMulticast()
}

// report says that a packet tells routers of a change of the groups joined: MLD, behind its hop-by-hop header, or IGMP.
func report(b []byte) bool {
	switch {
	case len(b) >= ipv6HeaderLen && b[0]>>4 == 6:
		return b[6] == protocolICMPv6 || b[6] == protocolHops && len(b) > ipv6HeaderLen && b[ipv6HeaderLen] == protocolICMPv6
	case len(b) >= ipv4HeaderLen && b[0]>>4 == 4:
		return b[9] == protocolIGMP
	}
	return false
}

var (
	solicited = netip.MustParsePrefix("ff02::1:ff00:0/104")
	control4  = netip.MustParsePrefix("224.0.0.0/24")
	// The groups of a link about itself (IANA, IPv6 Multicast Address Space Registry): all nodes, all routers and the
	// routing protocols up to ff02::1f, MLD snoopers, all routers of another kind.
	control6 = netip.MustParsePrefix("ff02::/123")
	snoopers = netip.MustParseAddr("ff02::6a")
	mdns4    = netip.MustParseAddr("224.0.0.251")
)

// carried says that packets to a group may pass between hosts.
func carried(group netip.Addr) bool {
	if !group.IsMulticast() {
		return false
	}
	if group.Is4() {
		return !control4.Contains(group) || group == mdns4
	}
	b := group.As16()
	switch scope := b[1] & 15; {
	case scope < 2 || scope == 15: // within one host, or reserved
		return false
	}
	return !control6.Contains(group) && group != snoopers && !solicited.Contains(group)
}

// The groups to which participants announce themselves over IPv6: those of Cyclone DDS and of Fast DDS.
var (
	cycloneSPDP = netip.MustParseAddr("ff02::ffff:239.255.0.1")
	fastSPDP    = netip.MustParseAddr("ff1e::ffff:efff:1")
)

// alias is the group that counts as this one, too; not valid if there is none.
func alias(group netip.Addr) netip.Addr {
	switch group {
	case cycloneSPDP:
		return fastSPDP
	case fastSPDP:
		return cycloneSPDP
	}
	return netip.Addr{}
}

// redirect is a copy of an IPv6 packet that goes to another group, with its UDP checksum corrected (RFC 1624). nil if it has none.
func redirect(b []byte, h header, group netip.Addr) []byte {
	c := append([]byte(nil), b...)
	to := group.As16()
	if h.udp != 0 {
		sum := c[h.udp+6 : h.udp+8]
		if sum[0] == 0 && sum[1] == 0 {
			return nil
		}
		corrected := uint32(^binary.BigEndian.Uint16(sum))
		for i := 0; i < 16; i += 2 {
			corrected += uint32(^binary.BigEndian.Uint16(c[24+i:])) + uint32(binary.BigEndian.Uint16(to[i:]))
		}
		for corrected>>16 != 0 {
			corrected = corrected>>16 + corrected&0xffff
		}
		if corrected = ^corrected & 0xffff; corrected == 0 {
			corrected = 0xffff
		}
		binary.BigEndian.PutUint16(sum, uint16(corrected))
	}
	copy(c[24:40], to[:])
	return c
}
