package watch

import (
	"encoding/binary"

	"github.com/hnet-robotics/hnet_bridge/overlay/tun"
)

// IP protocols.
const (
	protocolICMP     = 1
	protocolTCP      = 6
	protocolUDP      = 17
	protocolFragment = 44
	protocolICMPv6   = 58

	ipv4Len = 20
	ipv6Len = 40
	udpLen  = 8
)

// packet is what is read of an IP packet before its transport's content.
type packet struct {
	protocol byte
	start    int // of the transport header, or of what a later fragment carries
	length   int // of the packet as its header says
	fragment bool
	later    bool   // a fragment that is not the first
	id       uint32 // of the fragmented packet
}

// dissect reads the IP header, and IPv6's fragment header where it comes first, as it does in what this host and Linux peers send.
func dissect(b []byte) (p packet, ok bool) {
	if len(b) < ipv4Len {
		return p, false
	}
	switch b[0] >> 4 {
	case 6:
		if len(b) < ipv6Len {
			return p, false
		}
		p.protocol, p.start, p.length = b[6], ipv6Len, ipv6Len+int(binary.BigEndian.Uint16(b[4:]))
		if p.protocol == protocolFragment {
			if len(b) < ipv6Len+8 {
				return p, false
			}
			field := binary.BigEndian.Uint16(b[ipv6Len+2:])
			p.protocol, p.start = b[ipv6Len], ipv6Len+8
			p.later, p.id = field&^7 != 0, binary.BigEndian.Uint32(b[ipv6Len+4:])
			p.fragment = field&^6 != 0 // more to come, or not the first
		}
	case 4:
		p.protocol, p.start, p.length = b[9], int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
		field := binary.BigEndian.Uint16(b[6:])
		p.later, p.id = field&0x1fff != 0, uint32(binary.BigEndian.Uint16(b[4:]))
		p.fragment = field&0x3fff != 0
		if p.start < ipv4Len || p.start > len(b) {
			return p, false
		}
	default:
		return p, false
	}
	return p, true
}

// train is what the virtio-net header says of a superpacket.
type train struct {
	size    int // payload of each segment but the last; 0: one packet
	headers int // IP and transport headers, which each packet has
	count   int // packets
}

// trainOf reads the virtio-net header (of a packet from a peer there is none) in front of the IP packet b.
func trainOf(header, b []byte, p packet) train {
	if len(header) < tun.HeaderLen || tun.GSO(header[1]) == tun.GSONone {
		return train{count: 1}
	}
	var h tun.Header
	if h.Decode(header) != nil || h.GSOSize == 0 {
		return train{count: 1}
	}
	headers := p.start + udpLen
	if p.protocol == protocolTCP {
		if len(b) < p.start+13 {
			return train{count: 1}
		}
		headers = p.start + int(b[p.start+12]>>4)*4
	}
	if headers >= len(b) {
		return train{count: 1}
	}
	size := int(h.GSOSize)
	return train{size: size, headers: headers, count: (len(b) - headers + size - 1) / size}
}

// wire is how many bytes of IP packets the superpacket of length n stands for.
func (t train) wire(n int) int { return n + (t.count-1)*t.headers }
