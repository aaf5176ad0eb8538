package server

import (
	"errors"
	"net"
	"net/netip"
	"sync"

	"github.com/hnet-robotics/hnet_bridge/overlay/underlay"
)

// A route is where a client is: at the other end of a UDP socket, or of a TLS connection. It is never changed once a client has it.
type route struct {
	sock   underlay.Socket // nil over TCP
	conn   *conn           // nil over UDP
	remote netip.AddrPort  // not IPv4-mapped
	local  underlay.Source // what the client sent to, zero over TCP
}

// same tells whether what came from one came from the other.
func (r *route) same(other *route) bool {
	return r.remote == other.remote && r.conn == other.conn && r.sock == other.sock
}

// observed is the endpoint that peers may try, zero over TCP: nothing but this server is reached through that mapping.
func (r *route) observed() netip.AddrPort {
	if r.conn != nil {
		return netip.AddrPort{}
	}
	return r.remote
}

// from is the route that a message came by.
func from(m *underlay.Message, via underlay.Socket) route {
	return route{sock: via, remote: m.Remote, local: m.Local}
}

// A buffer holds a train that waits to be sent.
type buffer struct {
	b    []byte
	pool *sync.Pool
}

// The sizes of buffers: one datagram of an Ethernet link, and a whole train.
var (
	smallBuffers = sync.Pool{New: func() any { return new([2048]byte) }}
	largeBuffers = sync.Pool{New: func() any { return new([underlay.MaxRead]byte) }}
)

// copied returns a buffer with the bytes b, at most underlay.MaxRead.
func copied(b []byte) buffer {
	if len(b) <= 2048 {
		room := smallBuffers.Get().(*[2048]byte)
		return buffer{room[:copy(room[:], b)], &smallBuffers}
	}
	room := largeBuffers.Get().(*[underlay.MaxRead]byte)
	return buffer{room[:copy(room[:], b)], &largeBuffers}
}

// largeBuffer is an empty one of underlay.MaxRead bytes.
func largeBuffer() buffer {
	return buffer{largeBuffers.Get().(*[underlay.MaxRead]byte)[:0], &largeBuffers}
}

// free gives the buffer back; its bytes may not be used after that.
func (b buffer) free() {
	switch b.pool {
	case &smallBuffers:
		b.pool.Put((*[2048]byte)(b.b[:2048]))
	case &largeBuffers:
		b.pool.Put((*[underlay.MaxRead]byte)(b.b[:underlay.MaxRead]))
	}
}

// write sends messages by one socket, and passes over those that the kernel refuses. What is left when the socket has no room is dropped.
func write(sock underlay.Socket, ms []underlay.Message) (failed int, full bool) {
	for len(ms) > 0 {
		n, err := sock.WriteBatch(ms)
		switch {
		case err == nil:
			return failed, full
		case errors.Is(err, underlay.ErrFull):
			return failed + len(ms) - n, true
		case errors.Is(err, net.ErrClosed):
			return failed + len(ms) - n, full
		}
		failed++
		ms = ms[min(n+1, len(ms)):]
	}
	return failed, full
}
