package tun

import (
	"encoding/binary"
	"fmt"
)

// Flags of a Header.
const (
	FlagNeedsChecksum = 1 // the checksum field holds the pseudo-header sum only
	FlagDataValid     = 2 // the checksum has been verified
)

// GSO is the kind of a superpacket.
type GSO uint8

// Kinds of superpackets. GSOECN is a bit added to a TCP kind whose first
// segment alone carries CWR.
const (
	GSONone  GSO = 0
	GSOTCPv4 GSO = 1
	GSOTCPv6 GSO = 4
	GSOUDP   GSO = 5 // a train of UDP datagrams (UDP_L4), not UDP fragmentation
	GSOECN   GSO = 0x80
)

// Header is struct virtio_net_hdr, in the byte order of the machine, which is
// little endian everywhere this runs.
type Header struct {
	Flags          uint8
	GSO            GSO
	HeaderLen      uint16 // a hint from the kernel; bytes of all packet headers
	GSOSize        uint16 // payload bytes of each segment but the last
	ChecksumStart  uint16 // from the start of the IP packet
	ChecksumOffset uint16 // from ChecksumStart
}

// Decode reads the header at the start of b.
func (h *Header) Decode(b []byte) error {
	if len(b) < HeaderLen {
		return fmt.Errorf("tun: %d bytes are too short for a virtio-net header", len(b))
	}
	*h = Header{
		Flags:          b[0],
		GSO:            GSO(b[1]),
		HeaderLen:      binary.LittleEndian.Uint16(b[2:]),
		GSOSize:        binary.LittleEndian.Uint16(b[4:]),
		ChecksumStart:  binary.LittleEndian.Uint16(b[6:]),
		ChecksumOffset: binary.LittleEndian.Uint16(b[8:]),
	}
	return nil
}

// Encode writes the header to the first HeaderLen bytes of b, which must have
// that room.
func (h *Header) Encode(b []byte) {
	_ = b[HeaderLen-1]
	b[0] = h.Flags
	b[1] = uint8(h.GSO)
	binary.LittleEndian.PutUint16(b[2:], h.HeaderLen)
	binary.LittleEndian.PutUint16(b[4:], h.GSOSize)
	binary.LittleEndian.PutUint16(b[6:], h.ChecksumStart)
	binary.LittleEndian.PutUint16(b[8:], h.ChecksumOffset)
}
