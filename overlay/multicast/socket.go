package multicast

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

// socket is a UDP socket at the overlay address.
type socket struct {
	conn *net.UDPConn
	raw  syscall.RawConn
	// The interface's index, which changes when it is made anew; looked up again after a datagram came by another.
	index  int
	looked time.Time
}

// listen opens a socket at an address that may come and go with the interface.
func listen(ctx context.Context, at netip.AddrPort) (*socket, error) {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		e := c.Control(func(fd uintptr) {
			if err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_FREEBIND, 1); err == nil {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
			}
		})
		return errors.Join(e, err)
	}}
	c, err := config.ListenPacket(ctx, "udp6", at.String())
	if err != nil {
		return nil, err
	}
	conn := c.(*net.UDPConn)
	raw, err := conn.SyscallConn()
	if err != nil {
		conn.Close()
		return nil, err
	}
	return &socket{conn: conn, raw: raw}, nil
}

// cameBy says whether a datagram came by an interface: another would let a neighbour on a LAN send in the name of a peer.
func (s *socket) cameBy(oob []byte, name string) bool {
	index := arrivedBy(oob)
	if index == 0 || index == s.index {
		return index != 0
	}
	if now := time.Now(); s.index == 0 || now.Sub(s.looked) > time.Second {
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

func arrivedBy(oob []byte) int {
	list, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return 0
	}
	for _, m := range list {
		if m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= unix.SizeofInet6Pktinfo {
			return int((*unix.Inet6Pktinfo)(unsafe.Pointer(&m.Data[0])).Ifindex)
		}
	}
	return 0
}
