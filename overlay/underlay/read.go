package underlay

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hnet-robotics/hnet_bridge/overlay/waiter"
)

const (
	// maxBatch is the largest number of messages of one system call.
	maxBatch = 64
	// maxNoise is the number of errors in a row after which reading pauses.
	maxNoise = 64
	// pause is how long reading or sending rests when the kernel is out of
	// memory and says nothing about when it will have some.
	pause = time.Millisecond
)

// mmsghdr is struct mmsghdr of recvmmsg(2) and sendmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
}

// slot is the memory behind one mmsghdr.
type slot struct {
	control control
	name    sockaddr
	iov     unix.Iovec
}

// reader holds what a call of recvmmsg needs, so that no call allocates.
type reader struct {
	sync.Mutex
	poll  func(fd uintptr) bool
	hdrs  []mmsghdr
	slots []slot
	zones zones
	n     int
	errno syscall.Errno
}

func (r *reader) init(*UDP) {
	r.poll = r.receive
	r.zones = zones{}
}

// ReadBatch blocks for at least one message and fills the first n of ms.
func (u *UDP) ReadBatch(ms []Message) (int, error) {
	if len(ms) == 0 {
		return 0, errors.New("underlay: no room to read into")
	}
	ms = ms[:min(len(ms), maxBatch)]
	r := &u.reader
	r.Lock()
	defer r.Unlock()
	for noise := 1; ; noise++ {
		r.prepare(ms)
		if err := u.conn.Read(r.poll); err != nil {
			return 0, u.failed("receive", err)
		}
		switch {
		case r.errno == 0:
			r.finish(ms[:r.n])
			return r.n, nil
		case r.errno == syscall.ENOBUFS || r.errno == syscall.ENOMEM:
			time.Sleep(pause)
		case !fromNetwork(r.errno):
			return 0, u.failed("receive", r.errno)
		case noise >= maxNoise:
			time.Sleep(pause)
		}
	}
}

// receive calls recvmmsg; false = nothing was there. Calls that never wait are made without telling the scheduler, here and where datagrams are sent: it
// would take a processor away from a call that lasts longer than 20 µs, as one with a train does, and give it back; that and its looking out for such
// calls was a fifth of all CPU time of a TCP stream.
func (r *reader) receive(fd uintptr) bool {
	for {
		n, _, errno := syscall.RawSyscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(unsafe.SliceData(r.hdrs))),
			uintptr(len(r.hdrs)), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			return false
		}
		r.n, r.errno = int(n), errno
		return true
	}
}

// prepare points the headers at the buffers of ms.
func (r *reader) prepare(ms []Message) {
	if len(ms) > cap(r.hdrs) {
		r.hdrs = make([]mmsghdr, len(ms))
		r.slots = make([]slot, len(ms))
	}
	r.hdrs = r.hdrs[:len(ms)]
	for i := range ms {
		h, s := &r.hdrs[i].hdr, &r.slots[i]
		s.iov.Base = unsafe.SliceData(ms[i].Buf)
		s.iov.SetLen(len(ms[i].Buf))
		h.Name, h.Namelen = (*byte)(unsafe.Pointer(&s.name)), unix.SizeofSockaddrInet6
		h.Iov = &s.iov
		h.SetIovlen(1)
		h.Control = &s.control.bytes()[0]
		h.SetControllen(controlLen)
		h.Flags = 0
	}
}

// finish moves what the kernel wrote into ms.
func (r *reader) finish(ms []Message) {
	now, bytes := time.Now().UnixNano(), 0
	for i := range ms {
		m, h, s := &ms[i], &r.hdrs[i], &r.slots[i]
		m.N = int(h.n)
		m.Headroom, m.DF = 0, false
		m.Remote = endpoint(&s.name, r.zones)
		s.control.decode(m, int(h.hdr.Controllen), now)
		bytes += m.N
		if h.hdr.Flags&unix.MSG_TRUNC != 0 {
			m.N = 0
		}
		if m.Segment < 0 || m.Segment >= m.N {
			m.Segment = 0
		}
	}
	waiter.Brought(bytes)
}

// fromNetwork reports whether an error of a system call tells of something
// that was heard from the network about an earlier datagram, by ICMP, and
// nothing about the socket.
func fromNetwork(errno syscall.Errno) bool {
	switch errno {
	case syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EHOSTDOWN,
		syscall.ENETDOWN, syscall.ENONET, syscall.EPROTO, syscall.ENOPROTOOPT, syscall.EOPNOTSUPP, syscall.EMSGSIZE,
		syscall.EACCES, syscall.EPERM, syscall.ETIMEDOUT:
		return true
	}
	return false
}

// failed makes one error of what the poller or the kernel said.
func (u *UDP) failed(what string, err error) error {
	if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrClosed) {
		return net.ErrClosed
	}
	return fmt.Errorf("underlay: %s on UDP port %d: %w", what, u.port, err)
}
