package lab

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// Kind classifies a frame by the innermost protocol that [Frame.Decode] knows.
type Kind string

const (
	ARP     Kind = "arp"
	IGMP    Kind = "igmp"
	ICMP    Kind = "icmp"
	NDP     Kind = "ndp" // neighbours and routers: ICMPv6 types 133 to 137
	MLD     Kind = "mld" // multicast listeners: ICMPv6 types 130 to 132 and 143
	ICMPv6  Kind = "icmpv6"
	UDP     Kind = "udp"
	TCP     Kind = "tcp"
	IPv4    Kind = "ipv4" // another protocol over IPv4, a later fragment or a damaged header
	IPv6    Kind = "ipv6" // the same over IPv6
	Unknown Kind = "unknown"
)

// Packet is what a frame carries. Fields that the kind has not got are zero.
type Packet struct {
	Kind             Kind
	EtherType        uint16
	Src, Dst         netip.Addr
	Protocol         uint8 // of IPv4, or the last next header of IPv6
	Fragment         bool  // not a whole packet; only a first fragment has ports
	SrcPort, DstPort uint16
	ICMPType         uint8
	Payload          []byte // of UDP, as far as captured
	PayloadLen       int    // of UDP, by its header
}

// String describes the packet in a few words.
func (p Packet) String() string {
	switch p.Kind {
	case UDP, TCP:
		return fmt.Sprintf("%s %v > %v", p.Kind, netip.AddrPortFrom(p.Src, p.SrcPort), netip.AddrPortFrom(p.Dst, p.DstPort))
	case ICMP, ICMPv6, NDP, MLD:
		return fmt.Sprintf("%s type %d %v > %v", p.Kind, p.ICMPType, p.Src, p.Dst)
	case IPv4, IPv6, IGMP:
		return fmt.Sprintf("%s protocol %d %v > %v", p.Kind, p.Protocol, p.Src, p.Dst)
	}
	return fmt.Sprintf("%s ethertype %#04x", p.Kind, p.EtherType)
}

// WireGuard reports whether the packet is UDP with a payload that has the type and a possible length of a
// WireGuard message, or is a superpacket of such messages.
func (p Packet) WireGuard() bool {
	if p.Kind != UDP || len(p.Payload) < 4 {
		return false
	}
	switch binary.LittleEndian.Uint32(p.Payload) {
	case 1:
		return p.PayloadLen == 148
	case 2:
		return p.PayloadLen == 92
	case 3:
		return p.PayloadLen == 64
	case 4:
		return p.PayloadLen >= 32 // padded to 16 bytes, except at the limit of a path
	}
	return false
}

// Decode reads the frame's headers. It never fails: what it cannot read stays zero.
func (f Frame) Decode() Packet {
	if len(f.Data) < etherHeader {
		return Packet{Kind: Unknown}
	}
	p := Packet{Kind: Unknown, EtherType: binary.BigEndian.Uint16(f.Data[12:])}
	body := f.Data[etherHeader:]
	switch p.EtherType {
	case 0x0806:
		p.Kind = ARP
	case 0x0800:
		p.Kind = IPv4
		p.decodeIPv4(body)
	case 0x86dd:
		p.Kind = IPv6
		p.decodeIPv6(body)
	}
	return p
}

func (p *Packet) decodeIPv4(b []byte) {
	if len(b) < 20 || b[0]>>4 != 4 {
		return
	}
	header := int(b[0]&15) * 4
	p.Protocol = b[9]
	p.Src, p.Dst = netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
	offset := binary.BigEndian.Uint16(b[6:])
	p.Fragment = offset&0x3fff != 0
	if header < 20 || header > len(b) || offset&0x1fff != 0 {
		return
	}
	p.decodeTransport(b[header:])
}

func (p *Packet) decodeIPv6(b []byte) {
	if len(b) < 40 || b[0]>>4 != 6 {
		return
	}
	p.Protocol = b[6]
	p.Src, p.Dst = netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
	b = b[40:]
	for len(b) >= 8 {
		size := 8 + int(b[1])*8
		switch p.Protocol {
		case 0, 43, 60: // hop-by-hop options, routing, destination options
		case 44: // fragment
			size = 8
			offset := binary.BigEndian.Uint16(b[2:])
			p.Fragment = offset&0xfff9 != 0
			if offset&0xfff8 != 0 {
				p.Protocol = b[0]
				return
			}
		default:
			p.decodeTransport(b)
			return
		}
		if size > len(b) {
			return
		}
		p.Protocol, b = b[0], b[size:]
	}
}

func (p *Packet) decodeTransport(b []byte) {
	ipv4 := p.Src.Is4()
	switch {
	case p.Protocol == 17 && len(b) >= 8:
		p.Kind = UDP
		p.SrcPort, p.DstPort = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
		p.PayloadLen = max(int(binary.BigEndian.Uint16(b[4:]))-8, 0)
		p.Payload = b[8:min(8+p.PayloadLen, len(b))]
	case p.Protocol == 6 && len(b) >= 4:
		p.Kind = TCP
		p.SrcPort, p.DstPort = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	case p.Protocol == 2 && ipv4:
		p.Kind = IGMP
	case p.Protocol == 1 && ipv4 && len(b) >= 1:
		p.Kind, p.ICMPType = ICMP, b[0]
	case p.Protocol == 58 && !ipv4 && len(b) >= 1:
		p.Kind, p.ICMPType = ICMPv6, b[0]
		switch t := b[0]; {
		case t >= 133 && t <= 137:
			p.Kind = NDP
		case t >= 130 && t <= 132 || t == 143:
			p.Kind = MLD
		}
	}
}
