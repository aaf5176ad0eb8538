package rtps

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/machine"
)

const (
	// receiveBuffer holds a large sample's fragments while the process is not scheduled, in bytes.
	receiveBuffer = 4 << 20
	sendBuffer    = 1 << 20

	controlLen = 48 // of the larger, IPv6's
)

// socket is a UDP socket of one family for discovery: of one participant, or of a group.
type socket struct {
	conn *net.UDPConn
	port uint16
	six  bool
}

// listen binds to a port. One for groups shares it with all other participants of the host.
func listen(six bool, port uint16, localhost, shared bool) (*socket, error) {
	network, address := "udp4", "0.0.0.0"
	if six {
		network, address = "udp6", "::"
	}
	if localhost {
		address = "127.0.0.1"
	}
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if e := c.Control(func(fd uintptr) { err = prepare(int(fd), six, shared) }); e != nil {
			return e
		}
		return err
	}}
	c, err := config.ListenPacket(context.Background(), network, net.JoinHostPort(address, strconv.Itoa(int(port))))
	if err != nil {
		return nil, err
	}
	return &socket{conn: c.(*net.UDPConn), port: port, six: six}, nil
}

func prepare(fd int, six, shared bool) error {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil {
		// Without privilege the kernel's limit must do.
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer)
	if shared {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return err
		}
	}
	if six {
		// Else datagrams for groups that only others joined would come in too.
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_ALL, 0)
		return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_ALL, 0)
	return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
}

func (s *socket) join(index int) error  { return s.member(index, true) }
func (s *socket) leave(index int) error { return s.member(index, false) }

func (s *socket) member(index int, join bool) error {
	raw, err := s.conn.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		for _, g := range machine.Groups(s.six) {
			var err error
			if s.six {
				option := unix.IPV6_JOIN_GROUP
				if !join {
					option = unix.IPV6_LEAVE_GROUP
				}
				err = unix.SetsockoptIPv6Mreq(int(fd), unix.IPPROTO_IPV6, option, &unix.IPv6Mreq{Multiaddr: g.As16(), Interface: uint32(index)})
			} else {
				option := unix.IP_ADD_MEMBERSHIP
				if !join {
					option = unix.IP_DROP_MEMBERSHIP
				}
				err = unix.SetsockoptIPMreqn(int(fd), unix.IPPROTO_IP, option, &unix.IPMreqn{Multiaddr: g.As4(), Ifindex: int32(index)})
			}
			if err != nil && !(join && err == unix.EADDRINUSE) {
				failed = err
			}
		}
	})
	if err != nil {
		return err
	}
	return failed
}

// read reads a datagram.
func (s *socket) read(buf, oob []byte) (int, machine.Arrival, error) {
	size, n, _, from, err := s.conn.ReadMsgUDPAddrPort(buf, oob)
	if err != nil {
		return 0, machine.Arrival{}, err
	}
	var a machine.Arrival
	local, index := destination(oob[:n], s.six)
	a.Interface = index
	a.Local = netip.AddrPortFrom(local, s.port)
	ip := from.Addr().Unmap()
	if ip.Is6() && ip.IsLinkLocalUnicast() {
		ip = ip.WithZone(strconv.Itoa(index))
	}
	a.From = netip.AddrPortFrom(ip, from.Port())
	return size, a, nil
}

// destination finds the address that a datagram was sent to, and the interface it came in by, among the control messages.
func destination(oob []byte, six bool) (netip.Addr, int) {
	for len(oob) >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&oob[0]))
		if h.Len < unix.SizeofCmsghdr || uint64(h.Len) > uint64(len(oob)) {
			break
		}
		data := oob[unix.CmsgLen(0):h.Len]
		switch {
		case six && h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			return netip.AddrFrom16([16]byte(data)), int(binary.NativeEndian.Uint32(data[16:]))
		case !six && h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			return netip.AddrFrom4([4]byte(data[8:])), int(binary.NativeEndian.Uint32(data))
		}
		next := unix.CmsgSpace(len(data))
		if next > len(oob) {
			break
		}
		oob = oob[next:]
	}
	return netip.Addr{}, 0
}

// by writes the control message that names the interface to send by.
func by(control []byte, six bool, index int, loopback bool) []byte {
	clear(control)
	size := unix.SizeofInet4Pktinfo
	if six {
		size = unix.SizeofInet6Pktinfo
	}
	h := (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
	h.SetLen(unix.CmsgLen(size))
	data := control[unix.CmsgLen(0):]
	if six {
		h.Level, h.Type = unix.IPPROTO_IPV6, unix.IPV6_PKTINFO
		binary.NativeEndian.PutUint32(data[16:], uint32(index))
	} else {
		h.Level, h.Type = unix.IPPROTO_IP, unix.IP_PKTINFO
		binary.NativeEndian.PutUint32(data, uint32(index))
		if loopback {
			copy(data[4:8], []byte{127, 0, 0, 1}) // an address of this host alone is not taken by itself
		}
	}
	return control[:unix.CmsgSpace(size)]
}
