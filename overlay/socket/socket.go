// Package socket is the UDP sockets on which daemons speak with each other through the tunnels: at an address of this host on the overlay, which may
// come and go with its interface, and deaf to what comes any other way. What comes out of a tunnel is from the address that it says; of what a
// neighbour on a LAN sends to an overlay address nobody has checked that.
package socket

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// lookAgain bounds how often the interface is looked up.
	lookAgain = time.Second
	// failedRead is how long to wait after a read that failed, which is an error of an earlier send at the most.
	failedRead = 10 * time.Millisecond
	// loopback is the index of lo, in every network namespace. The kernel names it for what a host sends to itself by IPv4; by IPv6 it names the
	// interface that has the address.
	loopback = 1
	// controlLen is room for the control messages asked for, of either family.
	controlLen = 64
)

// UDP is one such socket. One goroutine may read while others write.
type UDP struct {
	conn *net.UDPConn
	raw  syscall.RawConn
	name string // of the interface
	four bool
	// within: at a loopback address, which nothing from outside reaches.
	within bool
	oob    [controlLen]byte
	// The interface's index, which changes when it is made anew; looked up again after a datagram came by another.
	index  int
	looked time.Time
}

// Listen opens a socket at an address that this host has, or will have, on the interface of that name, or at a loopback address. The kernel keeps
// buffer bytes for its reader; 0 = as many as it does by itself. An error is the system call's; EADDRINUSE passes when another program ends.
func Listen(ctx context.Context, at netip.AddrPort, name string, buffer int) (*UDP, error) {
	network, level, freebind, pktinfo := "udp6", unix.IPPROTO_IPV6, unix.IPV6_FREEBIND, unix.IPV6_RECVPKTINFO
	if at.Addr().Is4() {
		network, level, freebind, pktinfo = "udp4", unix.IPPROTO_IP, unix.IP_FREEBIND, unix.IP_PKTINFO
	}
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		e := c.Control(func(fd uintptr) {
			if buffer > 0 {
				_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, buffer)
			}
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
	return &UDP{conn: conn, raw: raw, name: name, four: at.Addr().Is4(), within: at.Addr().IsLoopback()}, nil
}

// Read waits for a datagram that is from where it says, and returns its length. Longer ones than b are dropped. The only error is net.ErrClosed.
func (s *UDP) Read(b []byte) (n int, from netip.AddrPort, err error) {
	for {
		n, on, flags, from, err := s.conn.ReadMsgUDPAddrPort(b, s.oob[:])
		switch {
		case errors.Is(err, net.ErrClosed):
			return 0, netip.AddrPort{}, net.ErrClosed
		case err != nil:
			time.Sleep(failedRead)
		case flags&unix.MSG_TRUNC == 0 && s.believed(s.oob[:on]):
			return n, netip.AddrPortFrom(from.Addr().Unmap().WithZone(""), from.Port()), nil
		}
	}
}

// Write sends a datagram.
func (s *UDP) Write(b []byte, to netip.AddrPort) error {
	_, err := s.conn.WriteToUDPAddrPort(b, to)
	return err
}

// Close closes the socket, which ends a Read.
func (s *UDP) Close() error { return s.conn.Close() }

// believed tells whether a datagram came by the overlay's interface or from this host itself.
func (s *UDP) believed(oob []byte) bool {
	if s.within {
		return true
	}
	index := arrivedBy(oob)
	if index == 0 {
		return false
	}
	if s.four && index == loopback || index == s.index {
		return true
	}
	if now := time.Now(); s.index == 0 || now.Sub(s.looked) > lookAgain {
		s.looked = now
		_ = s.raw.Control(func(fd uintptr) {
			request, err := unix.NewIfreq(s.name)
			if err == nil && unix.IoctlIfreq(int(fd), unix.SIOCGIFINDEX, request) == nil {
				s.index = int(request.Uint32())
			}
		})
	}
	return index == s.index
}

// arrivedBy is the index of the interface in a datagram's control messages, 0 without.
func arrivedBy(oob []byte) int {
	for len(oob) > 0 {
		h, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		switch {
		case err != nil:
			return 0
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			return int((*unix.Inet4Pktinfo)(unsafe.Pointer(&data[0])).Ifindex)
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			return int((*unix.Inet6Pktinfo)(unsafe.Pointer(&data[0])).Ifindex)
		}
		oob = rest
	}
	return 0
}
