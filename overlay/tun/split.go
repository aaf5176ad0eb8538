package tun

import (
	"encoding/binary"
	"fmt"
)

// Sizes and offsets inside IP, TCP and UDP headers, and the TCP flags that
// differ between the segments of one superpacket.
const (
	ipv4HeaderLen = 20
	ipv6HeaderLen = 40
	tcpHeaderLen  = 20
	udpHeaderLen  = 8

	tcpChecksum = 16
	udpChecksum = 6

	tcpFIN = 0x01
	tcpSYN = 0x02
	tcpRST = 0x04
	tcpPSH = 0x08
	tcpACK = 0x10
	tcpURG = 0x20
	tcpECE = 0x40
	tcpCWR = 0x80
)

// Splitter cuts a packet read from a Device into the IP packets that go on the
// wire, in place: the header of each segment is written just before its own
// payload, over the end of the segment before, so no payload is ever copied.
//
//	for err := s.Reset(b); s.Next(); {
//		seal(s.Packet())
//	}
//
// The zero Splitter is ready for Reset.
type Splitter struct {
	packet  []byte // all of the superpacket, without virtio-net header
	current []byte
	index   int // of the next packet
	count   int

	header   []byte // copy of the packet headers: IP, extensions, transport
	size     int    // payload bytes of each segment but the last
	start    int    // where the transport header begins
	tcp      bool
	sequence uint32 // of the first segment
	flags    byte   // TCP flags of the superpacket
	id       uint16 // IPv4 identification of the first segment
	sum      uint16 // over pseudo-header and header, without what differs per segment
}

// Reset begins with a Header and the packet it describes. The packet is taken
// over until the last Next. A header that does not fit the packet is an error,
// after which Next returns false.
func (s *Splitter) Reset(b []byte) error {
	s.packet, s.current, s.index, s.count, s.size = nil, nil, 0, 0, 0
	var h Header
	if err := h.Decode(b); err != nil {
		return err
	}
	packet := b[HeaderLen:]
	if len(packet) == 0 || len(packet) > MaxPacket {
		return fmt.Errorf("tun: packet of %d bytes, want 1 to %d", len(packet), MaxPacket)
	}
	if h.GSO == GSONone {
		if h.Flags&FlagNeedsChecksum != 0 {
			if err := complete(packet, h); err != nil {
				return err
			}
		}
		s.packet, s.count = packet, 1
		return nil
	}
	if err := s.prepare(packet, h); err != nil {
		return err
	}
	s.packet = packet
	return nil
}

// complete finishes the checksum of a single packet whose checksum field holds
// the sum of the pseudo-header.
func complete(packet []byte, h Header) error {
	start, field := int(h.ChecksumStart), int(h.ChecksumStart)+int(h.ChecksumOffset)
	if start < ipv4HeaderLen || field+2 > len(packet) {
		return fmt.Errorf("tun: checksum of bytes from %d at %d does not fit a packet of %d bytes", start, field, len(packet))
	}
	sum := ^Checksum(0, packet[start:])
	if sum == 0 && h.ChecksumOffset == udpChecksum {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(packet[field:], sum)
	return nil
}

// prepare checks a superpacket against its header and computes what all its
// segments share.
func (s *Splitter) prepare(packet []byte, h Header) error {
	kind := h.GSO &^ GSOECN
	s.tcp = kind == GSOTCPv4 || kind == GSOTCPv6
	version := packet[0] >> 4
	switch {
	case !s.tcp && h.GSO != GSOUDP:
		return fmt.Errorf("tun: unknown kind of superpacket %#x", uint8(h.GSO))
	case version != 4 && version != 6, kind == GSOTCPv4 && version != 4, kind == GSOTCPv6 && version != 6:
		return fmt.Errorf("tun: superpacket of kind %#x in an IP packet of version %d", uint8(h.GSO), version)
	case h.Flags&FlagNeedsChecksum == 0:
		return fmt.Errorf("tun: superpacket of kind %#x without a checksum to complete", uint8(h.GSO))
	case h.GSOSize == 0:
		return fmt.Errorf("tun: superpacket with segments of 0 bytes")
	case int(h.HeaderLen) > len(packet):
		return fmt.Errorf("tun: headers of %d bytes in a superpacket of %d bytes", h.HeaderLen, len(packet))
	}

	start, transportLen, field := int(h.ChecksumStart), udpHeaderLen, udpChecksum
	if s.tcp {
		transportLen, field = tcpHeaderLen, tcpChecksum
	}
	shortest := ipv6HeaderLen
	if version == 4 {
		shortest = ipv4HeaderLen
	}
	if start < shortest || start+transportLen > len(packet) || int(h.ChecksumOffset) != field {
		return fmt.Errorf("tun: checksum start %d and offset %d do not fit a superpacket of kind %#x and %d bytes",
			start, h.ChecksumOffset, uint8(h.GSO), len(packet))
	}
	if version == 4 && int(packet[0]&15)*4 != start {
		return fmt.Errorf("tun: checksum start %d is not the end of an IPv4 header of %d bytes", start, int(packet[0]&15)*4)
	}
	if s.tcp {
		transportLen = int(packet[start+12]>>4) * 4
		if transportLen < tcpHeaderLen || start+transportLen > len(packet) {
			return fmt.Errorf("tun: TCP header of %d bytes at %d in a superpacket of %d bytes", transportLen, start, len(packet))
		}
	}

	headerLen := start + transportLen
	s.size = int(h.GSOSize)
	s.count = max(1, (len(packet)-headerLen+s.size-1)/s.size)
	if s.count > MaxSegments {
		count := s.count
		s.count = 0
		return fmt.Errorf("tun: superpacket of %d segments, at most %d are taken", count, MaxSegments)
	}
	s.start = start
	s.header = append(s.header[:0], packet[:headerLen]...)
	s.share(version, len(packet)-start)
	return nil
}

// share takes out of the header copy what differs per segment and sums up the
// rest. length is the transport length that the checksum field accounts for.
func (s *Splitter) share(version byte, length int) {
	transport := s.header[s.start:]
	var partial []byte
	if s.tcp {
		s.sequence, s.flags = binary.BigEndian.Uint32(transport[4:]), transport[13]
		clear(transport[4:8])
		transport[13] = 0
		partial = transport[tcpChecksum : tcpChecksum+2]
	} else {
		clear(transport[4:6])
		partial = transport[udpChecksum : udpChecksum+2]
	}
	// The field holds the sum of a pseudo-header with the length of the whole
	// superpacket; taking that from the field and not from the addresses is
	// right with routing headers too, where the destination is another.
	pseudo := fold(uint64(binary.BigEndian.Uint16(partial)) + uint64(^uint16(length)))
	clear(partial)
	s.sum = Checksum(pseudo, transport)
	if version == 4 {
		s.id = binary.BigEndian.Uint16(s.header[4:])
		clear(s.header[2:6])
		clear(s.header[10:12])
	}
}

// Segments returns the number of packets that Reset found.
func (s *Splitter) Segments() int { return s.count }

// Packet returns the packet of the last Next, valid until the next Next: its
// last bytes are where the header of the following packet is written.
func (s *Splitter) Packet() []byte { return s.current }

// Next goes to the next packet and reports whether there is one.
func (s *Splitter) Next() bool {
	if s.index == s.count {
		s.packet, s.current = nil, nil
		return false
	}
	if s.size == 0 {
		s.current = s.packet
		s.index++
		return true
	}
	begin := s.index * s.size
	end := min(begin+s.size+len(s.header), len(s.packet))
	packet := s.packet[begin:end:end]
	copy(packet, s.header)
	s.finishNetwork(packet)
	s.finishTransport(packet[s.start:])
	s.current = packet
	s.index++
	return true
}

// finishNetwork sets the fields of the IP header that differ per segment.
func (s *Splitter) finishNetwork(packet []byte) {
	if packet[0]>>4 == 6 {
		binary.BigEndian.PutUint16(packet[4:], uint16(len(packet)-ipv6HeaderLen))
		return
	}
	binary.BigEndian.PutUint16(packet[2:], uint16(len(packet)))
	binary.BigEndian.PutUint16(packet[4:], s.id+uint16(s.index))
	binary.BigEndian.PutUint16(packet[10:], ^Checksum(0, packet[:s.start]))
}

// finishTransport sets the fields of the transport header that differ per
// segment, and the checksum.
func (s *Splitter) finishTransport(b []byte) {
	headerLen := len(s.header) - s.start
	sum := uint64(s.sum) + uint64(len(b))
	if !s.tcp {
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)))
		check := ^Checksum(fold(sum+uint64(len(b))), b[headerLen:])
		if check == 0 {
			check = 0xffff // zero would mean: no checksum
		}
		binary.BigEndian.PutUint16(b[udpChecksum:], check)
		return
	}
	sequence, flags := s.sequence+uint32(s.index*s.size), s.flags
	if s.index > 0 {
		flags &^= tcpCWR
	}
	if s.index < s.count-1 {
		flags &^= tcpFIN | tcpPSH
	}
	binary.BigEndian.PutUint32(b[4:], sequence)
	b[13] = flags
	check := ^Checksum(fold(sum+uint64(sequence)+uint64(flags)), b[headerLen:])
	binary.BigEndian.PutUint16(b[tcpChecksum:], check)
}
