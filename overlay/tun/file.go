package tun

import (
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxParts is IOV_MAX, the largest number of parts of one gathered write.
const maxParts = 1024

// file is a Device on a /dev/net/tun file. The functions given to the runtime
// poller and their arguments live here, so that no call allocates.
type file struct {
	f      *os.File
	raw    syscall.RawConn
	uso    bool
	closed atomic.Bool
	read   reader
	write  writer
}

type reader struct {
	sync.Mutex
	poll  func(fd uintptr) bool
	b     []byte
	ends  []int
	n     int
	errno syscall.Errno
}

type writer struct {
	sync.Mutex
	poll  func(fd uintptr) bool
	iov   []unix.Iovec
	size  int
	n     int
	errno syscall.Errno
}

// NewFile makes a Device of an open /dev/net/tun file that is attached to an
// interface with IFF_TUN, IFF_NO_PI and IFF_VNET_HDR, and takes the file over.
// uso tells that the kernel accepted TUN_F_USO4 and TUN_F_USO6. The file is set
// to non-blocking.
func NewFile(f *os.File, uso bool) (Device, error) {
	f, err := pollable(f)
	if err != nil {
		return nil, fmt.Errorf("tun: %s cannot be read without blocking: %w", f.Name(), err)
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("tun: %s: %w", f.Name(), err)
	}
	d := &file{f: f, raw: raw, uso: uso}
	d.read.poll = d.read.drain
	d.write.poll = d.write.gather
	return d, nil
}

// pollable returns f, or a new file in its place, such that the runtime poller
// waits for it: a file that was in blocking mode when Go first saw it is not.
func pollable(f *os.File) (*os.File, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return f, err
	}
	fd := -1
	if cerr := raw.Control(func(old uintptr) {
		if err = unix.SetNonblock(int(old), true); err != nil || f.SetReadDeadline(time.Time{}) == nil {
			return
		}
		fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0)
	}); cerr != nil {
		return f, cerr
	}
	if err != nil || fd < 0 {
		return f, err
	}
	g := os.NewFile(uintptr(fd), f.Name())
	if err := g.SetReadDeadline(time.Time{}); err != nil {
		g.Close()
		return f, err
	}
	f.Close()
	return g, nil
}

func (d *file) USO() bool { return d.uso }

func (d *file) Close() error {
	d.closed.Store(true)
	return d.f.Close()
}

func (d *file) ReadBatch(b []byte, ends []int) (int, error) {
	if len(b) < HeaderLen+MaxPacket || len(ends) == 0 {
		return 0, io.ErrShortBuffer
	}
	r := &d.read
	r.Lock()
	defer r.Unlock()
	r.b, r.ends, r.n, r.errno = b, ends, 0, 0
	err := d.raw.Read(r.poll)
	n, errno := r.n, r.errno
	r.b, r.ends = nil, nil
	switch {
	case n > 0:
		return n, nil // an error met after that shows again in the next call
	case err != nil || errno != 0:
		return 0, d.fail("read", err, errno)
	}
	return 0, io.EOF
}

// drain reads until nothing waits or the room is used up; false = nothing was
// there to read. The scheduler is not told of calls that never wait: it would
// take the processor away from those that copy a superpacket.
func (r *reader) drain(fd uintptr) bool {
	used := 0
	for r.n < len(r.ends) && len(r.b)-used >= HeaderLen+MaxPacket {
		n, _, errno := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(&r.b[used])), HeaderLen+MaxPacket)
		switch {
		case errno == syscall.EINTR:
			continue
		case errno == syscall.EAGAIN:
			return r.n > 0
		case errno != 0:
			r.errno = errno
			return true
		case n == 0:
			return true
		}
		used += int(n)
		r.ends[r.n] = used
		r.n++
	}
	return true
}

func (d *file) Write(parts [][]byte) error {
	if len(parts) == 0 || len(parts) > maxParts || len(parts[0]) < HeaderLen {
		return fmt.Errorf("tun: a write of %d parts, want 1 to %d beginning with a virtio-net header", len(parts), maxParts)
	}
	w := &d.write
	w.Lock()
	defer w.Unlock()
	w.size = 0
	w.iov = w.iov[:0]
	for _, p := range parts {
		if len(p) == 0 {
			continue
		}
		v := unix.Iovec{Base: unsafe.SliceData(p)}
		v.SetLen(len(p))
		w.iov = append(w.iov, v)
		w.size += len(p)
	}
	w.n, w.errno = 0, 0
	err := d.raw.Write(w.poll)
	clear(w.iov)
	if err != nil || w.errno != 0 {
		return d.fail("write", err, w.errno)
	}
	if w.n != w.size {
		return fmt.Errorf("tun: write to %s: %w", d.f.Name(), io.ErrShortWrite)
	}
	return nil
}

// gather hands the parts to the kernel as one packet; false = no room yet.
func (w *writer) gather(fd uintptr) bool {
	for {
		n, _, errno := syscall.RawSyscall(syscall.SYS_WRITEV, fd, uintptr(unsafe.Pointer(&w.iov[0])), uintptr(len(w.iov)))
		switch errno {
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			return false
		}
		w.n, w.errno = int(n), errno
		return true
	}
}

// fail makes one error of what the poller and the kernel said.
func (d *file) fail(what string, err error, errno syscall.Errno) error {
	switch {
	case d.closed.Load():
		return os.ErrClosed
	case err != nil || errno == syscall.EBADFD:
		// A file without interface cannot be waited for: the poller then says
		// so before the kernel does.
		return fmt.Errorf("tun: %s %s: the interface was removed: %w", what, d.f.Name(), syscall.EBADFD)
	case errno == syscall.EIO:
		return fmt.Errorf("tun: %s %s: the interface is down: %w", what, d.f.Name(), errno)
	}
	return fmt.Errorf("tun: %s %s: %w", what, d.f.Name(), errno)
}
