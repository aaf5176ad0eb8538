package underlay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hnet-robotics/hnet_bridge/overlay/waiter"
)

// Options of a socket. A zero size leaves the kernel's default.
type Options struct {
	RecvBuffer int // bytes, capped by net.core.rmem_max
	SendBuffer int // bytes, capped by net.core.wmem_max
	// RecvTTL fills Message.TTL in reading.
	RecvTTL bool
	// Light makes a socket that costs little, to have hundreds of: trains are
	// not joined in reading, and the kernel holds few datagrams. The sizes above
	// count after Promote.
	Light bool
}

// lightBuffer is the buffer size in bytes of a light socket for either
// direction, of which the kernel takes the double: a handful of datagrams.
const lightBuffer = 8 << 10

// UDP is a Socket of the kernel.
type UDP struct {
	conn   descriptor
	opt    Options
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
		if cerr := c.Control(func(fd uintptr) { err = prepare(int(fd), ipv6, opt) }); cerr != nil {
			return cerr
		}
		return err
	}}
	pc, err := lc.ListenPacket(context.Background(), network, address+strconv.Itoa(int(port)))
	if err != nil {
		return nil, fmt.Errorf("underlay: %w", err)
	}
	u := &UDP{opt: opt, ipv6: ipv6, port: pc.LocalAddr().(*net.UDPAddr).AddrPort().Port()}
	if err := u.own(pc.(*net.UDPConn)); err != nil {
		pc.Close()
		return nil, fmt.Errorf("underlay: %s: %w", network, err)
	}
	u.reader.init(u)
	u.writer.init(u)
	return u, nil
}

// own takes a socket over and sets its buffers. A light one stays with the runtime's poller, for which hundreds are a light matter.
func (u *UDP) own(conn *net.UDPConn) (err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	if u.opt.Light {
		if err = u.opt.fill(raw); err == nil {
			err = setBuffers(raw, lightBuffer, lightBuffer)
		}
		u.conn = polled{raw, conn}
		return err
	}
	if err := setBuffers(raw, u.opt.RecvBuffer, u.opt.SendBuffer); err != nil {
		return err
	}
	fd := -1
	if cerr := raw.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); cerr != nil || err != nil {
		return errors.Join(cerr, err)
	}
	d, err := waiter.New(fd)
	if err != nil {
		unix.Close(fd)
		return err
	}
	u.conn = d
	return conn.Close() // of the runtime's poller; the socket has another descriptor
}

// fill replaces sizes that are zero by the kernel's defaults, for Promote.
func (o *Options) fill(raw syscall.RawConn) error {
	var err error
	size := func(fd uintptr, key int, size *int) {
		if *size == 0 && err == nil {
			*size, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, key)
			*size /= 2 // the kernel says the double of what is set
		}
	}
	cerr := raw.Control(func(fd uintptr) {
		size(fd, unix.SO_RCVBUF, &o.RecvBuffer)
		size(fd, unix.SO_SNDBUF, &o.SendBuffer)
	})
	return errors.Join(cerr, err)
}

// setBuffers sets the sizes of the kernel's buffers; 0 leaves one as it is.
func setBuffers(raw syscall.RawConn, recv, send int) (err error) {
	set := func(fd uintptr, key, size int) {
		if size > 0 && err == nil {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, key, size)
		}
	}
	cerr := raw.Control(func(fd uintptr) {
		set(fd, unix.SO_RCVBUF, recv)
		set(fd, unix.SO_SNDBUF, send)
	})
	return errors.Join(cerr, err)
}

// prepare sets the options that must be there before the first datagram is.
func prepare(fd int, ipv6 bool, opt Options) error {
	type option struct {
		name              string
		level, key, value int
	}
	options := []option{
		{"IP_PKTINFO", unix.IPPROTO_IP, unix.IP_PKTINFO, 1},
		{"IP_RECVTOS", unix.IPPROTO_IP, unix.IP_RECVTOS, 1},
		// Peers behind a smaller link must get fragments, not nothing.
		{"IP_MTU_DISCOVER", unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT},
	}
	ttl := option{"IP_RECVTTL", unix.IPPROTO_IP, unix.IP_RECVTTL, 1}
	if ipv6 {
		options = []option{
			{"IPV6_V6ONLY", unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1},
			{"IPV6_RECVPKTINFO", unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1},
			{"IPV6_RECVTCLASS", unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS, 1},
		}
		ttl = option{"IPV6_RECVHOPLIMIT", unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1}
	}
	if opt.RecvTTL {
		options = append(options, ttl)
	}
	for _, o := range options {
		if err := unix.SetsockoptInt(fd, o.level, o.key, o.value); err != nil {
			return fmt.Errorf("set %s: %w", o.name, err)
		}
	}
	if !opt.Light {
		joinTrains(fd)
	}
	return nil
}

// joinTrains has the kernel join what it receives, and say when it came, if it can.
func joinTrains(fd int) {
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS_NEW, 1)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_GRO, 1)
}

// Promote makes a full socket of a light one: with buffers of the sizes that
// Options said (0 = the kernel's default), and trains joined in reading. From
// then on messages to read into need MaxRead bytes; a train that comes into
// less, in a ReadBatch that waits already, is lost. It does nothing to a full
// socket. The error is net.ErrClosed after Close.
func (u *UDP) Promote() error {
	w := &u.writer
	w.Lock()
	defer w.Unlock()
	if !u.opt.Light {
		return nil
	}
	if err := setBuffers(u.conn, u.opt.RecvBuffer, u.opt.SendBuffer); err != nil {
		return u.failed("enlarge the buffers", err)
	}
	if err := u.conn.Control(func(fd uintptr) { joinTrains(int(fd)) }); err != nil {
		return u.failed("join trains", err)
	}
	u.opt.Light, w.light = false, false
	return nil
}

// LocalPort is the UDP port the socket is bound to.
func (u *UDP) LocalPort() uint16 { return u.port }

// SyscallConn gives access to the file descriptor, for socket options.
func (u *UDP) SyscallConn() (syscall.RawConn, error) { return u.conn, nil }

// Close closes the socket and unblocks ReadBatch and WriteBatch.
func (u *UDP) Close() error { return u.conn.Close() }

// descriptor is the descriptor of a socket, and how it is waited for.
type descriptor interface {
	syscall.RawConn
	SetWriteDeadline(time.Time) error
	Close() error
}

// polled is a descriptor that the runtime's poller waits for.
type polled struct {
	syscall.RawConn
	conn *net.UDPConn
}

func (p polled) SetWriteDeadline(t time.Time) error { return p.conn.SetWriteDeadline(t) }
func (p polled) Close() error                       { return p.conn.Close() }
