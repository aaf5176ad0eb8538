package lane

import (
	"encoding/binary"

	"github.com/hnet-robotics/hnet_bridge/overlay/tun"
)

// Numbers of RFC 791, 8200 and of IANA's protocol registry.
const (
	ipv4HeaderLen = 20
	ipv6HeaderLen = 40

	protocolHopByHop = 0
	protocolTCP      = 6
	protocolUDP      = 17
	protocolDCCP     = 33
	protocolRouting  = 43
	protocolFragment = 44
	protocolOptions  = 60
	protocolSCTP     = 132

	ecnMask = 3
	ecnCE   = 3
)

// ByClass is the lane of a packet with this traffic class or TOS byte (RFC 4594): EF, VA and CS5 upwards are urgent, CS1 and LE (RFC 8622) are bulk.
func ByClass(class byte) Lane {
	switch dscp := class >> 2; {
	case dscp >= 40:
		return Urgent
	case dscp == 8 || dscp == 1:
		return Bulk
	}
	return Normal
}

// class returns the traffic class or TOS byte of an IP packet.
func class(packet []byte) byte {
	if len(packet) >= 2 {
		switch packet[0] >> 4 {
		case 6:
			return packet[0]<<4 | packet[1]>>4
		case 4:
			return packet[1]
		}
	}
	return 0
}

// header is what the queues want to know of a packet.
type header struct {
	flow uint32 // hash of what tells it from other flows of the same peer
	// responsive says that the sender slows down when packets are lost or marked.
	responsive bool
}

// parse reads an IP packet's header. Whatever it holds, it has a flow.
func parse(packet []byte) (h header) {
	protocol, transport := byte(0xff), []byte(nil)
	var key uint64
	switch {
	case len(packet) >= ipv6HeaderLen && packet[0]>>4 == 6:
		protocol, transport = packet[6], packet[ipv6HeaderLen:]
		// Pieces of a fragmented datagram have no ports but the flow label of the rest, which Linux makes of the ports.
		label := binary.BigEndian.Uint32(packet) & 0xfffff
		for range 4 {
			if protocol != protocolHopByHop && protocol != protocolRouting && protocol != protocolOptions || len(transport) < 8 {
				break
			}
			n := 8 + 8*int(transport[1])
			protocol, transport = transport[0], transport[min(n, len(transport)):]
		}
		if protocol == protocolFragment && len(transport) >= 8 {
			protocol, transport = transport[0], nil
		}
		key = uint64(label) << 40
		if label != 0 {
			transport = nil
		}
	case len(packet) >= ipv4HeaderLen && packet[0]>>4 == 4:
		protocol, transport = packet[9], packet[min(max(int(packet[0]&15)*4, ipv4HeaderLen), len(packet)):]
		if binary.BigEndian.Uint16(packet[6:])&0x3fff != 0 {
			transport = nil // a fragment
		}
	}
	switch protocol {
	case protocolTCP, protocolUDP, protocolDCCP, protocolSCTP:
		if len(transport) >= 4 {
			key |= uint64(binary.BigEndian.Uint32(transport)) << 8
		}
	}
	key |= uint64(protocol)
	h.flow = uint32(key * 0x9e3779b97f4a7c15 >> 32)
	h.responsive = protocol == protocolTCP || protocol == protocolSCTP || protocol == protocolDCCP || class(packet)&ecnMask != 0
	return h
}

// Flow returns a number that the IP packets of one flow have in common, and others as good as never.
func Flow(packet []byte) uint32 { return parse(packet).flow }

// Mark sets the congestion mark of a packet whose sender can do ECN (RFC 3168) and reports whether it did.
func Mark(packet []byte) bool {
	if class(packet)&ecnMask == 0 {
		return false
	}
	switch {
	case packet[0]>>4 == 6:
		packet[1] |= ecnCE << 4
	case len(packet) >= ipv4HeaderLen:
		header := packet[:min(max(int(packet[0]&15)*4, ipv4HeaderLen), len(packet))]
		header[1] |= ecnCE
		header[10], header[11] = 0, 0
		binary.BigEndian.PutUint16(header[10:], ^tun.Checksum(0, header))
	default:
		return false
	}
	return true
}
