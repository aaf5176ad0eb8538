package lan

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// The groups that announcements are sent to: link-local and transient for IPv6, administratively scoped for IPv4.
var (
	GroupIPv6 = netip.MustParseAddr("ff12::fc94:5583")
	GroupIPv4 = netip.MustParseAddr("239.255.55.83")
)

// arrival is one received datagram and where it came in.
type arrival struct {
	index   int
	src     netip.AddrPort
	payload []byte
}

// socket is a UDP socket of one address family on Port that speaks to the group of that family.
type socket struct {
	conn     *net.UDPConn
	six      bool
	group    netip.AddrPort
	join     func(index int) error
	leave    func(index int) error
	buf, oob []byte
}

// listen opens the socket of one family. Other programs of this host that set SO_REUSEADDR can share the port; multicast
// is delivered to all of them.
func listen(ctx context.Context, six bool) (*socket, error) {
	network, name := "udp4", "IPv4"
	if six {
		network, name = "udp6", "IPv6"
	}
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if e := c.Control(func(fd uintptr) { err = prepare(int(fd), six) }); e != nil {
			return e
		}
		return err
	}}
	pc, err := lc.ListenPacket(ctx, network, ":"+strconv.Itoa(Port))
	if err != nil {
		return nil, err
	}
	s := &socket{conn: pc.(*net.UDPConn), six: six, buf: make([]byte, Size+1), oob: make([]byte, 128)}
	if six {
		err = s.useIPv6()
	} else {
		err = s.useIPv4()
	}
	if err != nil {
		s.conn.Close()
		return nil, fmt.Errorf("%s multicast options: %w", name, err)
	}
	return s, nil
}

// prepare sets what has to be set before binding: the port is shared, and only groups joined by this very socket count
// (which old kernels cannot do for IPv6; the machine ignores interfaces it does not use anyway).
func prepare(fd int, six bool) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return err
	}
	if !six {
		return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_ALL, 0)
	}
	err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_ALL, 0)
	if errors.Is(err, unix.ENOPROTOOPT) {
		return nil
	}
	return err
}

func (s *socket) useIPv4() error {
	p := ipv4.NewPacketConn(s.conn)
	group := &net.UDPAddr{IP: GroupIPv4.AsSlice()}
	s.group = netip.AddrPortFrom(GroupIPv4, Port)
	s.join = func(index int) error { return p.JoinGroup(&net.Interface{Index: index}, group) }
	s.leave = func(index int) error { return p.LeaveGroup(&net.Interface{Index: index}, group) }
	return firstError(
		p.SetMulticastTTL(1),
		p.SetMulticastLoopback(true),
		p.SetControlMessage(ipv4.FlagInterface|ipv4.FlagDst, true),
	)
}

func (s *socket) useIPv6() error {
	p := ipv6.NewPacketConn(s.conn)
	group := &net.UDPAddr{IP: GroupIPv6.AsSlice()}
	s.group = netip.AddrPortFrom(GroupIPv6, Port)
	s.join = func(index int) error { return p.JoinGroup(&net.Interface{Index: index}, group) }
	s.leave = func(index int) error { return p.LeaveGroup(&net.Interface{Index: index}, group) }
	return firstError(
		p.SetMulticastHopLimit(1),
		p.SetMulticastLoopback(true),
		p.SetControlMessage(ipv6.FlagInterface|ipv6.FlagDst, true),
	)
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// read waits for the next datagram that was sent to the group. Its payload is valid until the next call.
func (s *socket) read() (arrival, error) {
	for {
		n, oobn, flags, src, err := s.conn.ReadMsgUDPAddrPort(s.buf, s.oob)
		if err != nil {
			return arrival{}, err
		}
		index, dst := s.control(s.oob[:oobn])
		if flags&unix.MSG_TRUNC == 0 && index > 0 && dst == s.group.Addr() {
			return arrival{index, src, s.buf[:n]}, nil
		}
	}
}

// control takes the arriving interface and the destination out of the control messages; zero values if they are missing.
func (s *socket) control(oob []byte) (index int, dst netip.Addr) {
	if s.six {
		var cm ipv6.ControlMessage
		if cm.Parse(oob) == nil {
			dst, _ = netip.AddrFromSlice(cm.Dst)
			return cm.IfIndex, dst
		}
		return 0, dst
	}
	var cm ipv4.ControlMessage
	if cm.Parse(oob) == nil {
		dst, _ = netip.AddrFromSlice(cm.Dst)
		return cm.IfIndex, dst.Unmap()
	}
	return 0, dst
}

// send multicasts one announcement from its source address on its interface.
func (s *socket) send(d Datagram) error {
	var oob []byte
	to := s.group
	if s.six {
		oob = (&ipv6.ControlMessage{IfIndex: d.Interface, Src: d.Source.AsSlice()}).Marshal()
		to = netip.AddrPortFrom(to.Addr().WithZone(strconv.Itoa(d.Interface)), Port)
	} else {
		oob = (&ipv4.ControlMessage{IfIndex: d.Interface, Src: d.Source.AsSlice()}).Marshal()
	}
	_, _, err := s.conn.WriteMsgUDPAddrPort(d.Payload, oob, to)
	return err
}
