package rtps

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/machine"
)

const (
	// inboxSize is how many datagrams are read at once. Only the pages that were ever written to cost memory.
	inboxSize = 16
	// outboxSize is how many datagrams are written at once.
	outboxSize = 64
)

// direct is the UDP socket of one family for samples. Reads wait in the kernel, in a thread of their own, and not in the runtime's poller: a sample
// then costs one system call and wakes one thread. That halves its time. But a thread that waits there may keep the processor from Go's other work for up to
// 10 ms: where there is but one, the poller is used.
type direct struct {
	file   *os.File        // closes the descriptor, if nobody else does
	poll   syscall.RawConn // nil: reads wait in the kernel
	fd     uintptr
	port   uint16
	six    bool
	closed atomic.Bool
}

// openDirect binds to a port, in the network namespace of the calling thread.
func openDirect(six bool, port uint16, localhost, poll bool) (*direct, error) {
	domain, kind := unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC
	if six {
		domain = unix.AF_INET6
	}
	if poll {
		kind |= unix.SOCK_NONBLOCK
	}
	fd, err := unix.Socket(domain, kind, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	d := &direct{file: os.NewFile(uintptr(fd), "udp:"+strconv.Itoa(int(port))), fd: uintptr(fd), port: port, six: six}
	if err = prepare(fd, six, false); err == nil {
		if six {
			if err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err == nil {
				err = unix.Bind(fd, &unix.SockaddrInet6{Port: int(port)})
			}
		} else {
			a := &unix.SockaddrInet4{Port: int(port)}
			if localhost {
				a.Addr = [4]byte{127, 0, 0, 1}
			}
			err = unix.Bind(fd, a)
		}
	}
	if err == nil && poll {
		d.poll, err = d.file.SyscallConn()
	}
	if err != nil {
		d.file.Close()
		return nil, os.NewSyscallError("bind", err)
	}
	return d, nil
}

// stop ends a read that waits, and all later ones. Whoever reads must be done before close.
func (d *direct) stop() {
	d.closed.Store(true)
	if d.poll != nil {
		_ = d.file.SetDeadline(time.Unix(1, 0))
		return
	}
	_ = unix.Shutdown(int(d.fd), unix.SHUT_RDWR) // says that there is no connection, and wakes all the same
}

func (d *direct) close() {
	d.stop()
	d.file.Close()
}

// message is struct mmsghdr.
type message struct {
	header unix.Msghdr
	length uint32
}

type arrived struct {
	name    [unix.SizeofSockaddrInet6]byte
	control [64]byte
	vector  unix.Iovec
}

// inbox is room for what is read.
type inbox struct {
	messages [inboxSize]message
	arrived  [inboxSize]arrived
	buffer   []byte
}

const longest = 1 << 16 // no datagram is longer

func newInbox() *inbox {
	in := &inbox{buffer: make([]byte, inboxSize*longest)}
	for i := range in.messages {
		h, a := &in.messages[i].header, &in.arrived[i]
		a.vector.Base = &in.buffer[i*longest]
		a.vector.SetLen(longest)
		h.Iov = &a.vector
		h.SetIovlen(1)
		h.Name = &a.name[0]
		h.Control = &a.control[0]
	}
	return in
}

// read waits for datagrams and returns how many came.
func (d *direct) read(in *inbox) (int, error) {
	for i := range in.messages {
		h := &in.messages[i].header
		h.Namelen = uint32(len(in.arrived[i].name))
		h.SetControllen(len(in.arrived[i].control))
	}
	var n uintptr
	var errno unix.Errno
	if d.poll != nil {
		_ = d.poll.Read(func(uintptr) bool {
			n, _, errno = unix.Syscall6(unix.SYS_RECVMMSG, d.fd, uintptr(unsafe.Pointer(&in.messages[0])), inboxSize, unix.MSG_DONTWAIT, 0, 0)
			return errno != unix.EAGAIN
		})
	} else {
		n, _, errno = unix.Syscall6(unix.SYS_RECVMMSG, d.fd, uintptr(unsafe.Pointer(&in.messages[0])), inboxSize, unix.MSG_WAITFORONE, 0, 0)
	}
	if d.closed.Load() {
		return 0, os.ErrClosed
	}
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// at returns a datagram that was read, and where it came from.
func (d *direct) at(in *inbox, i int) ([]byte, machine.Arrival) {
	m, a := &in.messages[i], &in.arrived[i]
	local, index := destination(a.control[:min(int(m.header.Controllen), len(a.control))], d.six)
	arrival := machine.Arrival{Interface: index, Local: netip.AddrPortFrom(local, d.port)}
	if port := binary.BigEndian.Uint16(a.name[2:]); d.six {
		ip := netip.AddrFrom16([16]byte(a.name[8:24]))
		if ip.IsLinkLocalUnicast() {
			ip = ip.WithZone(strconv.Itoa(index))
		}
		arrival.From = netip.AddrPortFrom(ip, port)
	} else {
		arrival.From = netip.AddrPortFrom(netip.AddrFrom4([4]byte(a.name[4:8])), port)
	}
	start := i * longest
	return in.buffer[start : start+min(int(m.length), longest)], arrival
}

type leaving struct {
	name    [unix.SizeofSockaddrInet6]byte
	control [controlLen]byte
	vector  unix.Iovec
}

// outbox is room for what is written. It is used by one at a time.
type outbox struct {
	messages [outboxSize]message
	leaving  [outboxSize]leaving
}

// write sends datagrams of the socket's family, in order, and returns how many could not be sent and why the first of those.
func (d *direct) write(out *outbox, ds []machine.Datagram) (failed int, why error) {
	for len(ds) > 0 {
		n := min(len(ds), outboxSize)
		for i := range n {
			d.fill(&out.messages[i], &out.leaving[i], &ds[i])
		}
		for at := 0; at < n; {
			sent, errno := d.put(out.messages[at:n])
			switch {
			case errno == unix.EINTR:
			case errno != 0:
				// That of the first; the others may do better.
				if failed++; why == nil {
					why = errno
				}
				at++
			default:
				at += sent
			}
		}
		clear(out.messages[:n]) // the payloads are another's
		for i := range n {
			out.leaving[i].vector = unix.Iovec{}
		}
		ds = ds[n:]
	}
	return failed, why
}

// put sends the first of some messages, at least.
func (d *direct) put(list []message) (sent int, errno unix.Errno) {
	send := func(uintptr) bool {
		var n uintptr
		n, _, errno = unix.Syscall6(unix.SYS_SENDMMSG, d.fd, uintptr(unsafe.Pointer(&list[0])), uintptr(len(list)), 0, 0, 0)
		sent = int(n)
		return errno != unix.EAGAIN
	}
	if d.poll != nil {
		if d.poll.Write(send) != nil && errno == 0 {
			errno = unix.EBADF
		}
	} else {
		send(0)
	}
	return sent, errno
}

func (d *direct) fill(m *message, l *leaving, g *machine.Datagram) {
	binary.NativeEndian.PutUint16(l.name[:], unix.AF_INET)
	binary.BigEndian.PutUint16(l.name[2:], g.To.Port())
	m.header.Namelen = unix.SizeofSockaddrInet4
	if d.six {
		binary.NativeEndian.PutUint16(l.name[:], unix.AF_INET6)
		binary.BigEndian.PutUint32(l.name[4:], 0)
		a := g.To.Addr().As16()
		copy(l.name[8:], a[:])
		scope := 0
		if zone := g.To.Addr().Zone(); zone != "" {
			scope, _ = strconv.Atoi(zone)
		}
		binary.NativeEndian.PutUint32(l.name[24:], uint32(scope))
		m.header.Namelen = unix.SizeofSockaddrInet6
	} else {
		a := g.To.Addr().As4()
		copy(l.name[4:], a[:])
		clear(l.name[8:16])
	}
	m.header.Name = &l.name[0]
	l.vector.Base = unsafe.SliceData(g.Payload)
	l.vector.SetLen(len(g.Payload))
	m.header.Iov = &l.vector
	m.header.SetIovlen(1)
	if g.Interface != 0 {
		control := by(l.control[:], d.six, g.Interface, g.Loopback)
		m.header.Control = &control[0]
		m.header.SetControllen(len(control))
	}
}

// gone reports whether an error says that there is no way to somewhere, which is no news.
func gone(err error) bool {
	return errors.Is(err, os.ErrClosed) || errors.Is(err, syscall.EBADF) || errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.EHOSTUNREACH)
}
