package underlay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Options of a socket. A zero size leaves the kernel's default.
type Options struct {
	RecvBuffer int // bytes, capped by net.core.rmem_max
	SendBuffer int // bytes, capped by net.core.wmem_max
}

// UDP is a Socket of the kernel.
type UDP struct {
	conn   *net.UDPConn
	raw    syscall.RawConn
	ipv6   bool
	port   uint16
	reader reader
	writer writer
}

var _ Socket = (*UDP)(nil)

// Listen opens a socket of network "udp4" or "udp6" on all addresses of the
// host; port 0 takes any free one. A "udp6" socket carries no IPv4. A taken
// port is syscall.EADDRINUSE, a host without the address family
// syscall.EAFNOSUPPORT or EADDRNOTAVAIL.
func Listen(network string, port uint16, opt Options) (*UDP, error) {
	var address string
	switch network {
	case "udp4":
		address = "0.0.0.0:"
	case "udp6":
		address = "[::]:"
	default:
		return nil, fmt.Errorf("underlay: network %q, want udp4 or udp6", network)
	}
	ipv6 := network == "udp6"
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if cerr := c.Control(func(fd uintptr) { err = prepare(int(fd), ipv6) }); cerr != nil {
			return cerr
		}
		return err
	}}
	pc, err := lc.ListenPacket(context.Background(), network, address+strconv.Itoa(int(port)))
	if err != nil {
		return nil, fmt.Errorf("underlay: %w", err)
	}
	conn := pc.(*net.UDPConn)
	if opt.RecvBuffer > 0 {
		err = conn.SetReadBuffer(opt.RecvBuffer)
	}
	if opt.SendBuffer > 0 {
		err = errors.Join(err, conn.SetWriteBuffer(opt.SendBuffer))
	}
	raw, rawErr := conn.SyscallConn()
	if err = errors.Join(err, rawErr); err != nil {
		conn.Close()
		return nil, fmt.Errorf("underlay: %s: %w", network, err)
	}
	u := &UDP{conn: conn, raw: raw, ipv6: ipv6, port: conn.LocalAddr().(*net.UDPAddr).AddrPort().Port()}
	u.reader.init(u)
	u.writer.init(u)
	return u, nil
}

// prepare sets the options that must be there before the first datagram is.
func prepare(fd int, ipv6 bool) error {
	type option struct {
		name               string
		level, key, value  int
		kernelMayNotHaveIt bool
	}
	options := []option{
		{"IP_PKTINFO", unix.IPPROTO_IP, unix.IP_PKTINFO, 1, false},
		{"IP_RECVTOS", unix.IPPROTO_IP, unix.IP_RECVTOS, 1, false},
		// Peers behind a smaller link must get fragments, not nothing.
		{"IP_MTU_DISCOVER", unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT, false},
		{"UDP_GRO", unix.IPPROTO_UDP, unix.UDP_GRO, 1, true},
	}
	if ipv6 {
		options = []option{
			{"IPV6_V6ONLY", unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1, false},
			{"IPV6_RECVPKTINFO", unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1, false},
			{"IPV6_RECVTCLASS", unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS, 1, false},
			{"UDP_GRO", unix.IPPROTO_UDP, unix.UDP_GRO, 1, true},
		}
	}
	for _, o := range options {
		if err := unix.SetsockoptInt(fd, o.level, o.key, o.value); err != nil && !o.kernelMayNotHaveIt {
			return fmt.Errorf("set %s: %w", o.name, err)
		}
	}
	return nil
}

// LocalPort is the UDP port the socket is bound to.
func (u *UDP) LocalPort() uint16 { return u.port }

// SyscallConn gives access to the file descriptor, for socket options.
func (u *UDP) SyscallConn() (syscall.RawConn, error) { return u.conn.SyscallConn() }

// Close closes the socket and unblocks ReadBatch and WriteBatch.
func (u *UDP) Close() error { return u.conn.Close() }
