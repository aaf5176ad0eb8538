package tun

import (
	"bytes"
	"encoding/binary"
	"errors"
)

// maxJoined is the largest number of packets the Coalescer puts into one
// superpacket. A gathered write takes one part more, far below IOV_MAX.
const maxJoined = 64

// Coalescer writes IP packets to a Device and joins adjacent ones of one flow
// to superpackets: consecutive TCP segments, and consecutive UDP datagrams
// where the device takes those. What is joined is what the kernel's own receive
// offload would join, so that Splitter gives back the same packets bit by bit,
// but for the identification of IPv4 packets that must not be fragmented, which
// has no meaning (RFC 6864 §4.1). Order is kept, and payload is never copied.
//
// Transport checksums of TCP and UDP packets are not verified: the kernel is
// told to take them as good, since an authenticated tunnel carried them.
type Coalescer struct {
	dev   Device
	parts [][]byte // parts[0] = headers of the waiting superpacket, then payloads; empty = none waits
	alone [2][]byte

	headers [HeaderLen + ipv6HeaderLen + 60]byte // virtio-net, IP without options, at most 60 bytes of TCP
	flow    flow                                 // of the waiting superpacket
	size    int                                  // payload bytes of the first packet
	total   int                                  // IP packet bytes so far
	next    uint32                               // sequence number that continues the flow
	open    bool                                 // more may be joined
	id      uint16                               // IPv4 identification that continues the flow
	fixed   bool                                 // all have the identification of the first
}

// flow says what a packet is to the Coalescer.
type flow struct {
	protocol  uint8 // TCP, UDP; 0 = passed on as it is
	ipLen     int   // bytes of the IP header
	headerLen int   // bytes of IP and transport header
	joinable  bool  // may begin a superpacket, or join one
	last      bool  // nothing may follow it in a superpacket
}

// NewCoalescer returns a Coalescer that writes to dev.
func NewCoalescer(dev Device) *Coalescer {
	return &Coalescer{dev: dev, parts: make([][]byte, 0, maxJoined+1)}
}

// Add takes the next IP packet, which must stay untouched until Flush. An error
// is one of writing this or an earlier packet, which is lost; Add may go on.
func (c *Coalescer) Add(packet []byte) error {
	f := classify(packet)
	if c.continues(f, packet) {
		c.parts = append(c.parts, packet[f.headerLen:])
		c.total += len(packet) - f.headerLen
		c.next += uint32(len(packet) - f.headerLen)
		c.open = !f.last && len(packet)-f.headerLen == c.size
		if f.protocol == protocolTCP {
			c.headers[HeaderLen+f.ipLen+13] |= packet[f.ipLen+13]
		}
		if f.ipLen == ipv4HeaderLen {
			c.continueID(packet)
		}
		return nil
	}
	err := c.Flush()
	if f.protocol != 0 {
		c.begin(f, packet)
		return err
	}
	clear(c.headers[:HeaderLen])
	c.alone[0], c.alone[1] = c.headers[:HeaderLen], packet
	return errors.Join(err, c.dev.Write(c.alone[:]))
}

// Flush writes what waits. It must be called at the end of every train.
func (c *Coalescer) Flush() error {
	if len(c.parts) == 0 {
		return nil
	}
	c.finish()
	err := c.dev.Write(c.parts)
	c.parts = c.parts[:0]
	return err
}

// network finds an IPv6 header, or an IPv4 header without options in front of a
// whole packet, whose length and checksum are as they should be.
func network(packet []byte) (headerLen int, protocol uint8) {
	if len(packet) >= ipv6HeaderLen+udpHeaderLen && packet[0]>>4 == 6 {
		if len(packet) <= MaxPacket && int(binary.BigEndian.Uint16(packet[4:])) == len(packet)-ipv6HeaderLen {
			return ipv6HeaderLen, packet[6]
		}
		return 0, 0
	}
	return networkIPv4(packet)
}

func networkIPv4(packet []byte) (headerLen int, protocol uint8) {
	const fragment = 0x3fff // more fragments, offset
	if len(packet) < ipv4HeaderLen+udpHeaderLen || len(packet) > MaxPacket || packet[0] != 4<<4|ipv4HeaderLen/4 ||
		int(binary.BigEndian.Uint16(packet[2:])) != len(packet) || binary.BigEndian.Uint16(packet[6:])&fragment != 0 ||
		Checksum(0, packet[:ipv4HeaderLen]) != 0xffff {
		return 0, 0
	}
	return ipv4HeaderLen, packet[9]
}

// classify finds TCP and UDP packets directly behind an IP header whose
// lengths are all as they should be.
func classify(packet []byte) flow {
	ipLen, protocol := network(packet)
	if ipLen == 0 {
		return flow{}
	}
	transport := packet[ipLen:]
	switch protocol {
	case protocolUDP:
		if int(binary.BigEndian.Uint16(transport[4:])) != len(transport) ||
			binary.BigEndian.Uint16(transport[udpChecksum:]) == 0 {
			return flow{}
		}
		return flow{
			protocol:  protocolUDP,
			ipLen:     ipLen,
			headerLen: ipLen + udpHeaderLen,
			joinable:  len(transport) > udpHeaderLen,
		}
	case protocolTCP:
		if len(transport) < tcpHeaderLen {
			return flow{}
		}
		headerLen := int(transport[12]>>4) * 4
		if headerLen < tcpHeaderLen || headerLen > len(transport) {
			return flow{}
		}
		flags := transport[13]
		return flow{
			protocol:  protocolTCP,
			ipLen:     ipLen,
			headerLen: ipLen + headerLen,
			joinable:  len(transport) > headerLen && flags&(tcpSYN|tcpRST|tcpURG|tcpCWR) == 0 && flags&tcpACK != 0,
			last:      flags&(tcpFIN|tcpPSH) != 0,
		}
	}
	return flow{}
}

// continues reports whether packet belongs at the end of the superpacket that
// waits.
func (c *Coalescer) continues(f flow, packet []byte) bool {
	if len(c.parts) == 0 || !c.open || !f.joinable || f.protocol != c.flow.protocol || f.headerLen != c.flow.headerLen || f.ipLen != c.flow.ipLen {
		return false
	}
	payload := len(packet) - f.headerLen
	if payload > c.size || c.total+payload > MaxPacket || len(c.parts) > maxJoined {
		return false
	}
	head := c.headers[HeaderLen : HeaderLen+f.headerLen]
	var transport []byte
	if f.ipLen == ipv6HeaderLen {
		// All of the header but its length: traffic class and flow label, hop
		// limit, addresses.
		if !bytes.Equal(head[:4], packet[:4]) || !bytes.Equal(head[6:ipv6HeaderLen], packet[6:ipv6HeaderLen]) {
			return false
		}
		head, transport = head[ipv6HeaderLen:], packet[ipv6HeaderLen:f.headerLen]
	} else {
		if !c.continuesIPv4(head, packet) {
			return false
		}
		head, transport = head[ipv4HeaderLen:], packet[ipv4HeaderLen:f.headerLen]
	}
	if !bytes.Equal(head[:4], transport[:4]) { // ports
		return false
	}
	if f.protocol == protocolUDP {
		return true
	}
	return binary.BigEndian.Uint32(transport[4:]) == c.next &&
		bytes.Equal(head[8:13], transport[8:13]) && // acknowledgement, header length
		(head[13]^transport[13])&^(tcpFIN|tcpPSH) == 0 &&
		bytes.Equal(head[14:16], transport[14:16]) && // window
		bytes.Equal(head[18:], transport[18:]) // urgent pointer, options
}

// dontFragment is the flag of an IPv4 header, in its byte 6.
const dontFragment = 0x40

// continuesIPv4 compares all of the header but its length, identification and
// checksum; identifications must follow each other, or, where they have no
// meaning, be the same.
func (c *Coalescer) continuesIPv4(head, packet []byte) bool {
	id := binary.BigEndian.Uint16(packet[4:])
	first := binary.BigEndian.Uint16(head[4:])
	follows := id == c.id && !c.fixed
	same := id == first && packet[6]&dontFragment != 0 && (c.fixed || len(c.parts) == 2)
	return (follows || same) && bytes.Equal(head[:2], packet[:2]) && bytes.Equal(head[6:10], packet[6:10]) &&
		bytes.Equal(head[12:ipv4HeaderLen], packet[12:ipv4HeaderLen])
}

// continueID goes on to the identification expected after packet's.
func (c *Coalescer) continueID(packet []byte) {
	id := binary.BigEndian.Uint16(packet[4:])
	c.fixed = c.fixed || id != c.id
	c.id = id + 1
}

// begin makes packet the first of a new superpacket.
func (c *Coalescer) begin(f flow, packet []byte) {
	copy(c.headers[HeaderLen:], packet[:f.headerLen])
	c.flow = f
	c.size = len(packet) - f.headerLen
	c.total = len(packet)
	c.parts = append(c.parts[:0], c.headers[:HeaderLen+f.headerLen])
	if c.size > 0 {
		c.parts = append(c.parts, packet[f.headerLen:])
	}
	c.open = f.joinable && !f.last
	if f.protocol == protocolTCP {
		c.next = binary.BigEndian.Uint32(packet[f.ipLen+4:]) + uint32(c.size)
	} else {
		c.open = c.open && c.dev.USO()
	}
	if f.ipLen == ipv4HeaderLen {
		c.id, c.fixed = binary.BigEndian.Uint16(packet[4:])+1, false
	}
}

// finish writes the headers of what waits for its length and number of packets.
func (c *Coalescer) finish() {
	ipLen := c.flow.ipLen
	h := Header{
		Flags:         FlagNeedsChecksum,
		HeaderLen:     uint16(c.flow.headerLen),
		ChecksumStart: uint16(ipLen),
	}
	joined := len(c.parts) > 2
	length := c.total - ipLen
	packet := c.headers[HeaderLen:]
	transport := packet[ipLen:]
	var pseudo uint16
	if ipLen == ipv6HeaderLen {
		pseudo = PseudoHeader(c.flow.protocol, packet[8:24], packet[24:40], length)
		binary.BigEndian.PutUint16(packet[4:], uint16(length))
	} else {
		pseudo = PseudoHeader(c.flow.protocol, packet[12:16], packet[16:20], length)
		binary.BigEndian.PutUint16(packet[2:], uint16(c.total))
		clear(packet[10:12])
		binary.BigEndian.PutUint16(packet[10:], ^Checksum(0, packet[:ipv4HeaderLen]))
	}
	if c.flow.protocol == protocolTCP {
		h.ChecksumOffset = tcpChecksum
		if joined && ipLen == ipv6HeaderLen {
			h.GSO = GSOTCPv6
		} else if joined {
			h.GSO = GSOTCPv4
		}
	} else {
		h.ChecksumOffset = udpChecksum
		binary.BigEndian.PutUint16(transport[4:], uint16(length))
		if joined {
			h.GSO = GSOUDP
		}
	}
	if joined {
		h.GSOSize = uint16(c.size)
	}
	binary.BigEndian.PutUint16(transport[h.ChecksumOffset:], pseudo)
	h.Encode(c.headers[:])
}
