package spdp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// read passes on what comes to a socket in a way that it can be believed to come from where it says.
func (r *runner) read(ctx context.Context, s *socket, local bool) {
	oob := make([]byte, 64)
	for ctx.Err() == nil {
		var b []byte
		select {
		case b = <-r.free:
		default:
			b = make([]byte, maxDatagram)
		}
		n, on, flags, from, err := s.conn.ReadMsgUDPAddrPort(b, oob)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			select { // an error of an earlier send, at the most
			case <-ctx.Done():
			case <-time.After(10 * time.Millisecond):
			}
			continue
		}
		if flags&unix.MSG_TRUNC != 0 || !s.believed(oob[:on], r.Interface) {
			continue
		}
		select {
		case r.arrivals <- arrival{local, netip.AddrPortFrom(from.Addr().Unmap().WithZone(""), from.Port()), b[:n]}:
		case <-ctx.Done():
			return
		}
	}
}

// socket is a UDP socket at the overlay address.
type socket struct {
	conn *net.UDPConn
	raw  syscall.RawConn
	four bool
	// within: at a loopback address, which nothing from outside reaches.
	within bool
	// The interface's index, which changes when it is made anew; looked up again after a datagram came by another.
	index  int
	looked time.Time
}

// listen opens a socket at one of the host's overlay addresses, which may come and go with the interface.
func listen(ctx context.Context, at netip.AddrPort) (*socket, error) {
	network, level, freebind, pktinfo := "udp6", unix.IPPROTO_IPV6, unix.IPV6_FREEBIND, unix.IPV6_RECVPKTINFO
	if at.Addr().Is4() {
		network, level, freebind, pktinfo = "udp4", unix.IPPROTO_IP, unix.IP_FREEBIND, unix.IP_PKTINFO
	}
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		e := c.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
			if err = unix.SetsockoptInt(int(fd), level, freebind, 1); err == nil {
				err = unix.SetsockoptInt(int(fd), level, pktinfo, 1)
			}
		})
		return errors.Join(e, err)
	}}
	c, err := config.ListenPacket(ctx, network, at.String())
	if err != nil {
		return nil, err
	}
	conn := c.(*net.UDPConn)
	raw, err := conn.SyscallConn()
	if err != nil {
		conn.Close()
		return nil, err
	}
	return &socket{conn: conn, raw: raw, four: at.Addr().Is4(), within: at.Addr().IsLoopback()}, nil
}

// listenLoopback opens sockets where Fast DDS sends what is for an address of this host, unless a whitelist of interfaces
// keeps it from that. A host without one of the loopback addresses has no use for it.
func (r *runner) listenLoopback(ctx context.Context) (list []*socket) {
	for _, a := range []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()} {
		s, err := listen(ctx, netip.AddrPortFrom(a, LocalPort))
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
		r.local4.conn.Close()
		r.local4 = nil
	}
	r.four = a
	if a.IsValid() {
		s, err := listen(ctx, netip.AddrPortFrom(a, LocalPort))
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
func (r *runner) bind(ctx context.Context, port uint16) (*socket, error) {
	told := false
	for {
		s, err := listen(ctx, netip.AddrPortFrom(r.Address, port))
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

// believed says whether a datagram came by the overlay's interface, which the kernel also names for what this host sends
// to its own address there. Any other would let a neighbour on a LAN send in the name of a peer.
func (s *socket) believed(oob []byte, name string) bool {
	if s.within {
		return true
	}
	index := arrivedBy(oob)
	if index == 0 {
		return false
	}
	if s.four && index == loopback { // only what this host sends to itself comes by it, under its own addresses at least
		return true
	}
	if index == s.index {
		return true
	}
	if now := time.Now(); now.Sub(s.looked) > time.Second || s.index == 0 {
		s.looked = now
		_ = s.raw.Control(func(fd uintptr) {
			request, err := unix.NewIfreq(name)
			if err == nil && unix.IoctlIfreq(int(fd), unix.SIOCGIFINDEX, request) == nil {
				s.index = int(request.Uint32())
			}
		})
	}
	return index == s.index
}

// loopback is the index of lo, in every network namespace; the kernel names it for what a host sends itself by IPv4.
const loopback = 1

// arrivedBy is the index of the interface in a datagram's control messages, 0 without.
func arrivedBy(oob []byte) int {
	list, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return 0
	}
	for _, m := range list {
		if m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= unix.SizeofInet4Pktinfo {
			return int((*unix.Inet4Pktinfo)(unsafe.Pointer(&m.Data[0])).Ifindex)
		}
		if m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= unix.SizeofInet6Pktinfo {
			return int((*unix.Inet6Pktinfo)(unsafe.Pointer(&m.Data[0])).Ifindex)
		}
	}
	return 0
}
