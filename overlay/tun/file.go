package tun

import (
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hnet-robotics/hnet_bridge/overlay/waiter"
)

// maxParts is IOV_MAX, the largest number of parts of one gathered write.
const maxParts = 1024

// file is a Device on a /dev/net/tun file. The functions given to the Descriptor
// and their arguments live here, so that no call allocates.
type file struct {
	name   string
	fd     *waiter.Descriptor
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
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("tun: %s: %w", f.Name(), err)
	}
	// A second descriptor of the same file, of which the runtime's poller knows nothing.
	fd := -1
	if cerr := raw.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); cerr != nil {
		err = cerr
	}
	if err != nil {
		return nil, fmt.Errorf("tun: %s: %w", f.Name(), err)
	}
	wait, err := waiter.New(fd)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("tun: %s cannot be read without blocking: %w", f.Name(), err)
	}
	f.Close()
	d := &file{name: f.Name(), fd: wait, uso: uso}
	d.read.poll = d.read.drain
	d.write.poll = d.write.gather
	return d, nil
}

func (d *file) USO() bool { return d.uso }

func (d *file) Close() error {
	d.closed.Store(true)
	return d.fd.Close()
}

func (d *file) ReadBatch(b []byte, ends []int) (int, error) {
	if len(b) < HeaderLen+MaxPacket || len(ends) == 0 {
		return 0, io.ErrShortBuffer
	}
	r := &d.read
	r.Lock()
	defer r.Unlock()
	r.b, r.ends, r.n, r.errno = b, ends, 0, 0
	err := d.fd.Read(r.poll)
	n, errno := r.n, r.errno
	r.b, r.ends = nil, nil
	switch {
	case n > 0:
		waiter.Brought(ends[n-1])
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
	err := d.fd.Write(w.poll)
	clear(w.iov)
	if err != nil || w.errno != 0 {
		return d.fail("write", err, w.errno)
	}
	if w.n != w.size {
		return fmt.Errorf("tun: write to %s: %w", d.name, io.ErrShortWrite)
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
		return fmt.Errorf("tun: %s %s: the interface was removed: %w", what, d.name, syscall.EBADFD)
	case errno == syscall.EIO:
		return fmt.Errorf("tun: %s %s: the interface is down: %w", what, d.name, errno)
	}
	return fmt.Errorf("tun: %s %s: %w", what, d.name, errno)
}
