package underlay

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// maxSegments is the largest number of datagrams in one train
	// (UDP_MAX_SEGMENTS of older kernels).
	maxSegments = 64
	// maxTrain is the largest train in bytes: with link, IP and UDP headers it
	// stays below the 64 KiB that devices take without cutting it in software.
	maxTrain = 65535 - 128
	// patience is how long sending waits for room in the socket buffer.
	patience = 100 * time.Millisecond
	// distrust is how long no trains are sent after a device without checksum
	// offload refused one.
	distrust = time.Minute
)

// ErrFull says that the socket buffer had no room for 100 ms: the link is
// slower than what is sent.
var ErrFull = errors.New("underlay: no room in the send buffer for 100 ms")

// writer holds what a call of sendmmsg needs, so that no call allocates.
type writer struct {
	sync.Mutex
	poll     func(fd uintptr) bool
	ipv6     bool
	hdrs     []mmsghdr
	slots    []slot
	steps    []step
	parts    []unix.Iovec
	n        int // slots to send
	sent     int // slots that were
	errno    syscall.Errno
	df       bool      // the slots must not be fragmented
	probing  bool      // the socket forbids fragments
	light    bool      // slots for one message are enough at first
	wait     bool      // for room
	noTrains time.Time // until then
}

// step is what sending one slot means for the batch.
type step struct {
	after  cursor // where the batch stands once it is sent
	first  int    // of its parts
	train  bool
	source bool // with a Local that may be left out
}

// cursor is where a batch stands, and what was learned about its message.
type cursor struct {
	message int
	offset  int  // of the next datagram in its Buf
	single  bool // no trains
	bare    bool // without Local
	again   bool // an error heard from the network has been passed over
}

func (w *writer) init(u *UDP) {
	w.poll = w.send
	w.ipv6 = u.ipv6
	w.light = u.opt.Light
}

// WriteBatch sends ms in order, as Socket says.
func (u *UDP) WriteBatch(ms []Message) (int, error) {
	w := &u.writer
	w.Lock()
	defer w.Unlock()
	defer func() { clear(w.parts) }()
	if !w.noTrains.IsZero() && time.Now().After(w.noTrains) {
		w.noTrains = time.Time{}
	}
	c := w.at(0)
	for c.message < len(ms) {
		if err := w.fill(ms, c); err != nil {
			return c.message, err
		}
		if err := u.flush(); err != nil {
			return c.message, err
		}
		if w.sent > 0 {
			after := w.steps[w.sent-1].after
			if c.bare && after.message > c.message {
				ms[c.message].Local = Source{}
			}
			c = after
			continue
		}
		if w.errno == syscall.EIO && w.steps[0].train {
			w.noTrains = time.Now().Add(distrust)
		}
		next, ok := c.retry(w.errno, w.steps[0].source, w.steps[0].train)
		if !ok {
			return c.message, fmt.Errorf("underlay: send to %v: %w", ms[c.message].Remote, w.errno)
		}
		c = next
	}
	return len(ms), nil
}

// at returns the cursor at the beginning of a message.
func (w *writer) at(message int) cursor {
	return cursor{message: message, single: !w.noTrains.IsZero()}
}

// retry returns another way to send what the kernel refused with errno, sent
// as a train or not, with a Local or without; ok = false when there is none.
// Every way is tried once.
func (c cursor) retry(errno syscall.Errno, source, train bool) (next cursor, ok bool) {
	switch {
	case train && (errno == syscall.EIO || errno == syscall.EMSGSIZE):
		c.single = true
	case !c.again && fromNetwork(errno):
		c.again = true
	case source && !c.bare && ofSource(errno):
		c.bare = true
	case train && errno == syscall.EINVAL:
		c.single, c.bare = true, false // it was not the source
	default:
		return c, false
	}
	return c, true
}

// ofSource reports whether a dead source address or interface can be the cause
// of an error.
func ofSource(errno syscall.Errno) bool {
	switch errno {
	case syscall.EINVAL, syscall.EADDRNOTAVAIL, syscall.ENODEV, syscall.ENXIO,
		syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.ENETDOWN:
		return true
	}
	return false
}

// fill prepares as much of ms from c on as one system call takes.
func (w *writer) fill(ms []Message, c cursor) error {
	w.grow(len(ms)-c.message, c.single)
	w.n, w.parts, w.df = 0, w.parts[:0], ms[c.message].DF
	for w.n < len(w.slots) && c.message < len(ms) {
		m := &ms[c.message]
		if m.DF != w.df {
			break // it takes another mode of the socket
		}
		stride, err := m.stride()
		s, h := &w.slots[w.n], &w.hdrs[w.n].hdr
		namelen := encodeEndpoint(&s.name, m.Remote, w.ipv6, m.Local.Interface)
		if err == nil && namelen == 0 {
			err = fmt.Errorf("underlay: cannot send to %v, which is no endpoint of this socket's address family", m.Remote)
		}
		if err != nil {
			if w.n > 0 {
				break // what stands before it is sent first
			}
			return err
		}

		count := m.count(stride, c)
		local, segment := m.Local, 0
		if c.bare {
			local = Source{}
		}
		if count > 1 {
			segment = m.Segment
		}
		h.Name, h.Namelen = (*byte)(unsafe.Pointer(&s.name)), namelen
		h.Control = &s.control.bytes()[0]
		h.SetControllen(s.control.encode(w.ipv6, local, m.TOS, m.TTL, segment))
		step := &w.steps[w.n]
		step.first, step.train, step.source = len(w.parts), count > 1, local != Source{} && !m.Bound
		c.offset = w.gather(m, c.offset, count, stride)
		h.SetIovlen(len(w.parts) - step.first)
		if c.offset == len(m.Buf) {
			c = w.at(c.message + 1)
		}
		c.again = false
		step.after = c
		w.n++
	}
	for i := range w.n {
		w.hdrs[i].hdr.Iov = &w.parts[w.steps[i].first]
	}
	return nil
}

// grow makes slots for a number of messages. A socket that sends single
// datagrams now and then stays small.
func (w *writer) grow(messages int, single bool) {
	n := 8
	switch {
	case messages > n || single:
		n = maxBatch
	case messages == 1 && w.light:
		n = 1
	}
	if n > len(w.slots) {
		w.hdrs, w.slots, w.steps = make([]mmsghdr, n), make([]slot, n), make([]step, n)
	}
}

// stride is the distance of the datagrams of m in its Buf.
func (m *Message) stride() (int, error) {
	switch {
	case m.Headroom < 0 || m.Segment < 0 || len(m.Buf) < m.Headroom:
	case m.Segment == 0:
		return max(1, len(m.Buf)), nil
	default:
		stride := m.Headroom + m.Segment
		if rest := len(m.Buf) % stride; len(m.Buf) > 0 && (rest == 0 || rest > m.Headroom) {
			return stride, nil
		}
	}
	return 0, fmt.Errorf("underlay: %d bytes are no train of datagrams of %d bytes with headroom %d: %w",
		len(m.Buf), m.Segment, m.Headroom, syscall.EINVAL)
}

// count is the number of datagrams that one slot takes from c on.
func (m *Message) count(stride int, c cursor) int {
	if c.single || m.Segment == 0 {
		return 1
	}
	rest := (len(m.Buf) - c.offset + stride - 1) / stride
	return min(rest, maxSegments, max(1, maxTrain/m.Segment))
}

// gather adds the parts of count datagrams at offset and returns the offset
// behind them.
func (w *writer) gather(m *Message, offset, count, stride int) int {
	end := min(offset+count*stride, len(m.Buf))
	if m.Headroom == 0 {
		w.part(m.Buf[offset:end])
		return end
	}
	for ; offset < end; offset += stride {
		w.part(m.Buf[offset+m.Headroom : min(offset+stride, end)])
	}
	return end
}

func (w *writer) part(b []byte) {
	v := unix.Iovec{Base: unsafe.SliceData(b)}
	v.SetLen(len(b))
	w.parts = append(w.parts, v)
}

// send calls sendmmsg; false = no room, and it is to be waited for.
func (w *writer) send(fd uintptr) bool {
	if w.df || w.probing {
		return w.sendProbing(fd)
	}
	return w.sendSlots(fd)
}

// sendProbing sends in the mode that w.df asks for, and leaves the usual one
// behind. Whether a datagram may be fragmented is a matter of the socket, not of
// the datagram: IPv4 has no control message for it, and that of IPv6 heeds the
// path MTU that the kernel believes in. No other datagram leaves meanwhile, for
// the writer is locked.
func (w *writer) sendProbing(fd uintptr) bool {
	if w.errno = w.probe(fd, w.df); w.errno != 0 {
		w.sent = 0
		return true
	}
	done := w.sendSlots(fd)
	w.probe(fd, false) // where that fails, the next call tries again
	return done
}

// probe sets whether the socket forbids fragments.
func (w *writer) probe(fd uintptr, on bool) syscall.Errno {
	if on == w.probing {
		return 0
	}
	level, key, value := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT
	switch {
	case w.ipv6 && on:
		level, key, value = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE
	case w.ipv6:
		level, key, value = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_WANT
	case on:
		value = unix.IP_PMTUDISC_PROBE
	}
	if err := unix.SetsockoptInt(int(fd), level, key, value); err != nil {
		if errno, ok := err.(syscall.Errno); ok {
			return errno
		}
		return syscall.EIO
	}
	w.probing = on
	return 0
}

func (w *writer) sendSlots(fd uintptr) bool {
	for {
		n, _, errno := syscall.RawSyscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(unsafe.SliceData(w.hdrs))),
			uintptr(w.n), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case 0:
			w.sent, w.errno = int(n), 0
			return true
		case syscall.EINTR:
			continue
		}
		w.sent, w.errno = 0, errno
		return errno != syscall.EAGAIN || !w.wait
	}
}

// full reports whether sending failed for lack of room only.
func (w *writer) full() bool {
	return w.sent == 0 && (w.errno == syscall.EAGAIN || w.errno == syscall.ENOBUFS || w.errno == syscall.ENOMEM)
}

// flush sends the slots, or the first of them; an error is of the socket and
// not of what is sent.
func (u *UDP) flush() error {
	w := &u.writer
	w.wait = false
	if err := u.conn.Write(w.poll); err != nil {
		return u.failed("send", err)
	}
	if w.full() {
		return u.await()
	}
	return nil
}

// await sends like flush, but waits for room. The poller tells when a full
// buffer has room again; about ENOBUFS and ENOMEM nobody tells.
func (u *UDP) await() error {
	w := &u.writer
	w.wait = true
	if err := u.conn.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return u.failed("send", err)
	}
	defer u.conn.SetWriteDeadline(time.Time{})
	for {
		if w.errno != syscall.EAGAIN {
			time.Sleep(pause)
		}
		err := u.conn.Write(w.poll)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return ErrFull
		case err != nil:
			return u.failed("send", err)
		case !w.full():
			return nil
		}
	}
}
