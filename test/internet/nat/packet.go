package nat

import (
	"encoding/binary"
	"net/netip"
)

const (
	protocolTCP = 6
	protocolUDP = 17
)

// packet is a whole IPv4 packet with UDP or TCP inside, of which the headers are there.
type packet struct {
	ip        []byte
	transport []byte
	protocol  byte
}

func parse(b []byte) (p packet, ok bool) {
	if len(b) < 20 || b[0]>>4 != 4 {
		return p, false
	}
	header := int(b[0]&15) * 4
	total := int(binary.BigEndian.Uint16(b[2:]))
	if header < 20 || total < header || total > len(b) || binary.BigEndian.Uint16(b[6:])&0x3fff != 0 {
		return p, false
	}
	p = packet{ip: b[:total], transport: b[header:total], protocol: b[9]}
	switch p.protocol {
	case protocolUDP:
		return p, len(p.transport) >= 8
	case protocolTCP:
		return p, len(p.transport) >= 20
	}
	return p, false
}

func (p packet) source() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(p.ip[12:])), binary.BigEndian.Uint16(p.transport))
}

func (p packet) destination() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(p.ip[16:])), binary.BigEndian.Uint16(p.transport[2:]))
}

// closes reports whether a TCP segment has FIN or RST.
func (p packet) closes() bool { return p.transport[13]&5 != 0 }

func (p packet) setSource(to netip.AddrPort)      { p.rewrite(12, 0, to) }
func (p packet) setDestination(to netip.AddrPort) { p.rewrite(16, 2, to) }

// rewrite changes an address and a port and keeps the checksums as right or wrong as they were.
func (p packet) rewrite(addrAt, portAt int, to netip.AddrPort) {
	at := 16
	if p.protocol == protocolUDP {
		at = 6
	}
	sum := p.transport[at : at+2]
	none := p.protocol == protocolUDP && sum[0] == 0 && sum[1] == 0
	addr := to.Addr().As4()
	var port [2]byte
	binary.BigEndian.PutUint16(port[:], to.Port())
	if !none {
		update(sum, p.ip[addrAt:addrAt+4], addr[:])
		update(sum, p.transport[portAt:portAt+2], port[:])
		if p.protocol == protocolUDP && sum[0] == 0 && sum[1] == 0 {
			sum[0], sum[1] = 0xff, 0xff
		}
	}
	update(p.ip[10:12], p.ip[addrAt:addrAt+4], addr[:])
	copy(p.ip[addrAt:], addr[:])
	copy(p.transport[portAt:], port[:])
}

// RaiseTTL adds one hop to what an IPv4 packet has left; 255 stays. It is for a packet that passes the kernel's forwarding twice in one router.
func RaiseTTL(b []byte) {
	if len(b) < 20 || b[8] == 255 {
		return
	}
	was, is := [2]byte{b[8], b[9]}, [2]byte{b[8] + 1, b[9]}
	update(b[10:12], was[:], is[:])
	b[8]++
}

// update changes a checksum for 16-bit words that are replaced (RFC 1624, equation 3).
func update(sum, was, is []byte) {
	s := uint32(^binary.BigEndian.Uint16(sum))
	for i := 0; i < len(was); i += 2 {
		s += uint32(^binary.BigEndian.Uint16(was[i:])) + uint32(binary.BigEndian.Uint16(is[i:]))
	}
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	binary.BigEndian.PutUint16(sum, ^uint16(s))
}
