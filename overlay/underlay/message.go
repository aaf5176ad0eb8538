// Package underlay sends and receives UDP datagrams in bulk: many datagrams
// per system call by recvmmsg and sendmmsg, many datagrams per message by the
// kernel's segmentation offload (UDP_SEGMENT, UDP_GRO).
package underlay

import (
	"net/netip"
	"time"
)

// Source is the local end of a datagram: the address and interface it arrived
// on, or should leave from. The zero Source leaves the choice to the kernel.
type Source struct {
	Addr      netip.Addr // without zone; invalid = any
	Interface uint32     // interface index; 0 = any
}

// Message is one datagram, or a train of datagrams of equal size to or from
// one remote endpoint.
type Message struct {
	// Buf is the room to read into, at least MaxRead bytes (LightRead for a light
	// socket), or the bytes to send.
	Buf []byte
	// N is the number of bytes ReadBatch put into Buf. An empty datagram, and
	// one that was cut because Buf was too small, has N = 0. Not used in sending.
	N int
	// Segment is the size of each datagram on the wire; the last one may be
	// shorter. 0 = Buf holds one datagram.
	Segment int
	// Headroom is the number of bytes in front of each datagram in Buf that are
	// not sent: datagram i begins at i*(Headroom+Segment)+Headroom. Not used in
	// reading.
	Headroom int
	// Remote is the endpoint at the other side, never IPv4-mapped. A link-local
	// IPv6 address has the decimal interface index as its zone.
	Remote netip.AddrPort
	// Local is where the datagram arrived, or should leave from. WriteBatch
	// sets it to the zero Source when it found it dead and sent without it.
	Local Source
	// Bound has WriteBatch fail rather than send without Local, for a datagram that must leave by that interface or not at all. Not used in reading.
	Bound bool
	// TOS is the outer traffic class octet: DSCP in the upper six bits, ECN in
	// the lower two.
	TOS byte
	// Age is how long the datagram, or a train's first, waited in the kernel to be
	// read, 0 if unknown; light sockets do not know. Not used in sending.
	Age time.Duration
	// TTL is how many routers may pass the datagram on, plus one (the hop limit
	// of IPv6). In sending, 0 = the system's default; in reading, what was left
	// of it, or 0 without Options.RecvTTL.
	TTL byte
	// DF forbids to fragment the datagram, here and on its way, whatever the
	// kernel believes the path can carry: for probes of a path's MTU. What is
	// larger than the MTU of the interface is refused with syscall.EMSGSIZE.
	// Other messages never carry it. It costs two more system calls, so it is
	// not for data. Not used in reading.
	DF bool
}

const (
	// MaxRead is the room in bytes that a Message needs for reading: a train
	// joined by the kernel is at most this long.
	MaxRead = 1 << 16
	// LightRead is the room in bytes that a Message needs for reading from a
	// light socket: the largest datagram of an Ethernet link fits.
	LightRead = 1 << 11
)

// Socket is a UDP socket of one address family. Its methods may be called from
// several goroutines at once.
type Socket interface {
	// ReadBatch blocks for at least one message and fills the first n of ms.
	// ICMP errors never end it. The error is net.ErrClosed after Close.
	ReadBatch(ms []Message) (n int, err error)
	// WriteBatch sends ms in order. The first n were sent; err concerns ms[n],
	// whose datagrams may have been sent in part, and the caller may go on
	// with ms[n+1:]. A full socket buffer is waited for; ErrFull after 100 ms
	// without room. Trains are cut to what the kernel takes, sent datagram by
	// datagram where it refuses segmentation, and without Local where that is
	// no address or interface of this host any more.
	WriteBatch(ms []Message) (n int, err error)
	// LocalPort is the UDP port the socket is bound to.
	LocalPort() uint16
	// Close closes the socket and unblocks ReadBatch and WriteBatch.
	Close() error
}
