package server

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hnet-robotics/hnet_bridge/overlay/stun"
	"github.com/hnet-robotics/hnet_bridge/overlay/underlay"
)

const (
	socketMessages    = 32
	alternateMessages = 4
	// fullBatches is after how many full batches in a row the reader counts as too slow for what comes: then what several sources send is
	// shared fairly, since what the kernel drops is not.
	fullBatches = 16
)

// ListenConfig is what a Server listens on. All of it belongs to the server then, which closes it.
type ListenConfig struct {
	// UDP are the main sockets.
	UDP Sockets
	// Alternate are sockets on another port, which answer STUN alone.
	Alternate Sockets
	// Prober are sockets on any third port, from which filter probes are sent and which nobody ever sends to: a NAT that takes an unasked datagram
	// for the router's own would give the client's STUN requests to that port another mapping. Missing ones are replaced by the Alternate ones.
	Prober Sockets
	// TLS are listeners for TCP; the server does TLS on them.
	TLS []net.Listener
	// Only is the address of this host that the sockets serve; invalid = all. What came to another is dropped.
	Only netip.Addr
}

// Sockets are a UDP port in both address families, of which one may be missing (nil).
type Sockets struct{ IPv4, IPv6 underlay.Socket }

// of is the socket by which an address is reached, nil if there is none.
func (s *Sockets) of(remote netip.Addr) underlay.Socket {
	switch {
	case s == nil:
		return nil
	case remote.Is4():
		return s.IPv4
	}
	return s.IPv6
}

// all are those that are there.
func (s *Sockets) all() (all []underlay.Socket) {
	for _, sock := range []underlay.Socket{s.IPv4, s.IPv6} {
		if sock != nil {
			all = append(all, sock)
		}
	}
	return all
}

// alternatePort is the alternate port for a client, 0 if there is none.
func (s *Server) alternatePort(at *route) uint16 {
	if sock := s.alternate.Load().of(at.remote.Addr()); sock != nil {
		return sock.LocalPort()
	}
	return 0
}

// proberTo is the route to the same client from the port of filter probes.
func (s *Server) proberTo(at *route) (route, bool) {
	sock := s.prober.Load().of(at.remote.Addr())
	if sock == nil {
		sock = s.alternate.Load().of(at.remote.Addr())
	}
	return route{sock: sock, remote: at.remote, local: at.local}, sock != nil
}

// Serve serves all of l until ctx ends, then closes it, and returns nil; or until a socket fails for good.
func (s *Server) Serve(ctx context.Context, l ListenConfig) error {
	config, err := tlsConfig(s.cfg.Identity)
	if err != nil {
		closeAll(&l)
		return err
	}
	s.alternate.Store(&l.Alternate)
	s.prober.Store(&l.Prober)
	l.Only = l.Only.WithZone("")
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.Run(ctx) })
	for _, sock := range l.UDP.all() {
		g.Go(func() error { return s.socketLoop(ctx, sock, l.Only) })
	}
	for _, sock := range l.Alternate.all() {
		g.Go(func() error { return s.alternateLoop(ctx, sock, l.Only) })
	}
	for _, listener := range l.TLS {
		g.Go(func() error { return s.accept(ctx, listener, config) })
	}
	g.Go(func() error {
		<-ctx.Done()
		closeAll(&l)
		s.conns.kill()
		return nil
	})
	err = g.Wait()
	s.conns.kill() // those that were accepted meanwhile
	s.serving.Wait()
	return err
}

// closeAll closes everything that a server listens on.
func closeAll(l *ListenConfig) {
	for _, sock := range slices.Concat(l.UDP.all(), l.Alternate.all(), l.Prober.all()) {
		sock.Close()
	}
	for _, listener := range l.TLS {
		listener.Close()
	}
}

// buffers are what a loop reads into.
func buffers(n int) []underlay.Message {
	ms := make([]underlay.Message, n)
	for i := range ms {
		ms[i].Buf = make([]byte, underlay.MaxRead)
	}
	return ms
}

// socketLoop carries what a main socket brings, run to completion.
func (s *Server) socketLoop(ctx context.Context, sock underlay.Socket, only netip.Addr) error {
	messages := buffers(socketMessages)
	out := &forwarder{s: s}
	for full := 0; ; {
		n, err := sock.ReadBatch(messages)
		if err != nil {
			return ended(ctx, sock, err)
		}
		now := time.Now()
		out.from(messages[:n])
		if n < len(messages) {
			full = 0
		} else if full++; full >= fullBatches && out.mixed > 0 {
			s.egress.congest(s.nano(now))
		}
		for i := range messages[:n] {
			m := &messages[i]
			if !wanted(m, only) {
				continue
			}
			at := from(m, sock)
			s.take(now, &at, m, m.Buf[:m.N], m.Segment, out)
		}
		out.flush()
	}
}

// alternateLoop answers STUN on a socket of the alternate port.
func (s *Server) alternateLoop(ctx context.Context, sock underlay.Socket, only netip.Addr) error {
	messages := buffers(alternateMessages)
	for {
		n, err := sock.ReadBatch(messages)
		if err != nil {
			return ended(ctx, sock, err)
		}
		now := time.Now()
		for i := range messages[:n] {
			m := &messages[i]
			if !wanted(m, only) {
				continue
			}
			at := from(m, sock)
			for b := m.Buf[:m.N]; len(b) > 0; {
				size := len(b)
				if m.Segment > 0 {
					size = min(size, m.Segment)
				}
				if stun.IsMessage(b[:size]) {
					s.binding(now, &at, b[:size])
				} else {
					s.stats.Malformed.Add(1)
				}
				b = b[size:]
			}
		}
	}
}

// wanted tells whether a message came from where an answer can go, and to where it should.
func wanted(m *underlay.Message, only netip.Addr) bool {
	return m.N > 0 && m.Remote.Port() != 0 && !m.Remote.Addr().IsUnspecified() && !m.Remote.Addr().IsMulticast() &&
		(!only.IsValid() || m.Local.Addr == only)
}

// ended is what a loop returns when its socket brings nothing more.
func ended(ctx context.Context, sock underlay.Socket, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("the UDP socket on port %d can no longer be read: %w", sock.LocalPort(), err)
}
