package spdp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hnet-robotics/hnet_bridge/overlay/socket"
)

// read passes on what comes to a socket.
func (r *runner) read(ctx context.Context, s *socket.UDP, local bool) {
	for {
		var b []byte
		select {
		case b = <-r.free:
		default:
			b = make([]byte, maxDatagram)
		}
		n, from, err := s.Read(b)
		if err != nil {
			return
		}
		select {
		case r.arrivals <- arrival{local, from, b[:n]}:
		case <-ctx.Done():
			return
		}
	}
}

// listen opens a socket at one of the host's addresses, which may come and go with the interface.
func (r *runner) listen(ctx context.Context, a netip.Addr, port uint16) (*socket.UDP, error) {
	return socket.Listen(ctx, netip.AddrPortFrom(a, port), r.Interface, receiveBuffer)
}

// listenLoopback opens sockets where Fast DDS sends what is for an address of this host, unless a whitelist of interfaces
// keeps it from that. A host without one of the loopback addresses has no use for it.
func (r *runner) listenLoopback(ctx context.Context) (list []*socket.UDP) {
	for _, a := range []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()} {
		s, err := r.listen(ctx, a, LocalPort)
		if err != nil {
			r.Log.Debug("DDS discovery relay: Fast DDS programs without a profile are not heard", "err", err)
			continue
		}
		list = append(list, s)
	}
	return list
}

// listenFour has local participants heard at another IPv4 address, or at none.
func (r *runner) listenFour(ctx context.Context, a netip.Addr) {
	now := time.Now()
	if a == r.four && (r.local4 != nil || !a.IsValid() || now.Before(r.four4)) {
		return
	}
	if r.local4 != nil {
		r.local4.Close()
		r.local4 = nil
	}
	r.four = a
	if a.IsValid() {
		s, err := r.listen(ctx, a, LocalPort)
		if err != nil {
			r.four4 = now.Add(bindAgain)
			r.Log.Warn("DDS discovery relay: programs that use IPv4 alone are not found at once, trying again", "err", err,
				"fix", fmt.Sprintf("end the program that uses the port: ss -ulpn 'sport = %d'", LocalPort))
		} else {
			r.local4 = s
			go r.read(ctx, s, true)
		}
	}
	r.machine.SetIPv4(now, a)
}

// bind opens a socket; nil if the context has ended.
func (r *runner) bind(ctx context.Context, port uint16) (*socket.UDP, error) {
	told := false
	for {
		s, err := r.listen(ctx, r.Address, port)
		switch {
		case err == nil:
			return s, nil
		case ctx.Err() != nil:
			return nil, nil
		case !errors.Is(err, unix.EADDRINUSE):
			return nil, fmt.Errorf("DDS discovery relay: %w", err)
		case !told:
			told = true
			r.Log.Warn("DDS discovery relay: its port is taken, trying again", "err", err, "fix", fmt.Sprintf("end the program that uses it: ss -ulpn 'sport = %d'", port))
		}
		if !r.idle(ctx, bindAgain) {
			return nil, nil
		}
	}
}

// idle does for a while what there is to do without a port. It is false when the context ends.
func (r *runner) idle(ctx context.Context, wait time.Duration) bool {
	end := time.NewTimer(wait)
	defer end.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-r.Changed:
			r.whereabouts()
		case l := <-r.Leaving:
			close(l.Done)
		case <-end.C:
			r.whereabouts()
			return true
		}
	}
}
