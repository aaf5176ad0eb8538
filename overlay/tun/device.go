// Package tun turns kernel superpackets into single IP packets and back, and
// moves both through a TUN device that carries virtio-net headers.
//
// A superpacket is one large TCP segment or UDP datagram train that the kernel
// hands over uncut, described by a Header. Splitter cuts one into complete IP
// packets in place; Coalescer joins adjacent packets of one flow again, so that
// the kernel is called once per superpacket and not once per packet.
package tun

// HeaderLen is the size in bytes of struct virtio_net_hdr, which stands in
// front of every packet read from or written to a Device.
const HeaderLen = 10

// MaxPacket is the largest IP packet, in bytes, that passes a Device.
const MaxPacket = 65535

// MaxSegments is the largest number of packets one superpacket may hold. The
// interface must have this as its gso_max_segs: the kernel makes superpackets
// of more segments from TCP with a small segment size otherwise, and such a
// connection stands still.
const MaxSegments = 128

// Device is a TUN device opened with virtio-net headers. Its methods may be
// called from several goroutines at once.
type Device interface {
	// ReadBatch blocks until one packet is there, then takes what is waiting
	// without blocking. Packet i is b[ends[i-1]:ends[i]] (ends[-1] = 0), each a
	// Header followed by an IP packet of at most MaxPacket bytes. It stops when
	// ends is full or less than MaxPacket+HeaderLen bytes of b are left; a b
	// shorter than that from the start is io.ErrShortBuffer. The error is
	// os.ErrClosed after Close.
	ReadBatch(b []byte, ends []int) (n int, err error)
	// Write writes one packet gathered from parts; parts[0] begins with a
	// Header. A refused packet is an error and leaves the device usable. The
	// error is os.ErrClosed after Close.
	Write(parts [][]byte) error
	// USO reports whether the kernel takes UDP superpackets.
	USO() bool
	// Close releases the device and unblocks ReadBatch and Write.
	Close() error
}
