package server

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hnet-robotics/hnet_bridge/overlay/base/wire"
)

const (
	// handshakeTimeout bounds TLS, registrationTimeout the time until a client is registered.
	handshakeTimeout    = 10 * time.Second
	registrationTimeout = 15 * time.Second
	// readBytes is the room for reading of a quiet connection, and what it becomes when there is much to read.
	readBytes     = 2 << 10
	readBytesBusy = 36 << 10
	// unsent is what the kernel may hold that it has not sent yet, in bytes: what waits is to wait where control goes first.
	unsent = 128 << 10
	// acceptPause is how long accepting rests when the system is out of files or memory.
	acceptPause = 50 * time.Millisecond
)

// accept serves the connections of a listener until it is closed.
func (s *Server) accept(ctx context.Context, l net.Listener, config *tls.Config) error {
	for {
		raw, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil && ctx.Err() == nil:
			s.log.Debug("a connection could not be accepted", "err", err)
			select {
			case <-ctx.Done():
			case <-time.After(acceptPause):
			}
			continue
		case err != nil:
			return nil
		}
		remote, err := netip.ParseAddrPort(raw.RemoteAddr().String())
		remote = netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port())
		c := &conn{raw: raw, remote: remote, waiting: &s.conns.waiting}
		if err != nil || s.draining.Load() || !s.accepts.take(s.nano(time.Now()), remote.Addr()) || !s.conns.add(c) {
			s.stats.RefusedConnections.Add(1)
			raw.Close()
			continue
		}
		s.serving.Go(func() {
			s.serve(ctx, c, config)
			c.kill()
			s.mu.Lock()
			s.registry.leave(time.Now(), c)
			s.unlock()
			s.conns.remove(c)
		})
	}
}

// serve reads what comes on a connection until it ends.
func (s *Server) serve(ctx context.Context, c *conn, config *tls.Config) {
	tune(c.raw)
	deadline := time.Now().Add(registrationTimeout)
	if c.raw.SetDeadline(time.Now().Add(handshakeTimeout)) != nil {
		return
	}
	secure := tls.Server(c.raw, config)
	c.writer = secure
	if err := secure.HandshakeContext(ctx); err != nil {
		s.stats.RefusedTLS.Add(1)
		return
	}
	if c.raw.SetDeadline(time.Time{}) != nil || c.raw.SetReadDeadline(deadline) != nil {
		return
	}
	reader := frames{buf: make([]byte, readBytes)}
	at := route{conn: c, remote: c.remote}
	out := &forwarder{s: s}
	registered := false
	for {
		n, err := secure.Read(reader.room())
		if err != nil {
			return
		}
		now := time.Now()
		if !reader.take(n, registered, func(b []byte, segment int) {
			if segment > 0 {
				s.relay(s.nano(now), &at, b, segment, 0, out)
			} else {
				s.arrived(now, &at, wire.HopsUnknown, b)
			}
		}) {
			s.stats.Malformed.Add(1)
			return
		}
		out.flush()
		if !registered {
			s.mu.RLock()
			client := s.registry.find(c.session)
			registered = client != nil && client.confirmed && client.route.conn == c
			s.mu.RUnlock()
			if registered {
				s.conns.registered(c)
				if c.raw.SetReadDeadline(time.Time{}) != nil {
					return
				}
			}
		}
	}
}

// frames takes apart what a connection brings.
type frames struct {
	buf   []byte
	start int // of what is not taken yet
	end   int
}

// room is where the next bytes are to be read to; it is never empty.
func (f *frames) room() []byte {
	if f.start > 0 {
		f.end = copy(f.buf, f.buf[f.start:f.end])
		f.start = 0
	}
	want := readBytes
	if f.end >= frameLen {
		want = frameLen + int(binary.BigEndian.Uint16(f.buf))
	}
	switch {
	case f.end == 0 && len(f.buf) > readBytesBusy:
		f.buf = make([]byte, readBytesBusy)
	case len(f.buf) < want || f.end == len(f.buf):
		f.buf = append(make([]byte, 0, max(want, readBytesBusy)), f.buf[:f.end]...)
		f.buf = f.buf[:cap(f.buf)]
	}
	return f.buf[f.end:]
}

// take hands over the messages in n more bytes: relay datagrams of one header and size as a train, in whose memory they are moved together, all
// others with segment 0. False = no client of ours sends this. Before its registration a client has no long messages to send.
func (f *frames) take(n int, registered bool, deliver func(b []byte, segment int)) bool {
	if f.end == 0 && n < readBytes && len(f.buf) > readBytes && n < len(f.buf)/16 {
		// It has become quiet: the next room is small again.
		f.buf = append(make([]byte, 0, readBytes), f.buf[:n]...)[:readBytes]
	}
	f.end += n
	for f.end-f.start >= frameLen {
		b := f.buf[f.start:f.end]
		size := int(binary.BigEndian.Uint16(b))
		if size == 0 || !registered && size > wire.MaxMessage {
			return false
		}
		if len(b) < frameLen+size {
			return true
		}
		first := b[frameLen : frameLen+size]
		f.start += frameLen + size
		if run(first, 0) == 0 {
			deliver(first, 0)
			continue
		}
		// Each frame that belongs to the train moves to the end of it.
		head, length, count := [wire.RelayHeaderLen]byte(first), size, 1
		for b = b[frameLen:]; f.end-f.start >= frameLen && count < maxTrainFrames; count++ {
			next := f.buf[f.start:f.end]
			n := int(binary.BigEndian.Uint16(next))
			if n > size || n <= wire.RelayHeaderLen || len(next) < frameLen+n || length+n > maxTrainBytes || [wire.RelayHeaderLen]byte(next[frameLen:]) != head {
				break
			}
			copy(b[length:], next[frameLen:frameLen+n])
			length += n
			f.start += frameLen + n
			if n < size {
				break // the last of a train may be shorter
			}
		}
		deliver(b[:length], size)
	}
	return true
}

// What a train of frames may be: more than the kernel takes at once would be cut there.
const (
	maxTrainFrames = 64
	maxTrainBytes  = 60 << 10
)

// tune sets the options of a connection; where that fails, it works without.
func tune(raw net.Conn) {
	c, ok := raw.(*net.TCPConn)
	if !ok {
		return
	}
	_ = c.SetNoDelay(true)
	_ = c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 4})
	if control, err := c.SyscallConn(); err == nil {
		_ = control.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsent)
		})
	}
}
