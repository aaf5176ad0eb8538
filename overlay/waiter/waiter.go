// Package waiter waits for descriptors that bring packets all the time, outside the runtime's poller, which is made for many that do so now and then: what
// it reports goes through the scheduler, and while one goroutine carries what its descriptor brought, often nobody looks at the others. A ping beside a TCP
// stream took 1.05 ms at the median with it and 0.7 ms without (docs/adr/0036).
//
// A Descriptor that is in use is waited for by its own thread, in ppoll(2), which takes one system call and no hand-over. Where packets follow each other
// closely it first looks a few times, so that no thread sleeps and has to be woken, which on a virtual machine is the half of a round trip. One that has been
// idle for a while is left to the runtime's poller and costs nothing.
package waiter

import (
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// near is how long a thread waits for the next packet before it goes, and how soon the last one must have come for it to wait at all: longer than
	// between two samples of a topic at 1 kHz. Go's scheduler has one processor less meanwhile and its watchdog is awake, so nobody waits who would wait in
	// vain: a ping a hundred times a second costs no more CPU than with the runtime's poller.
	near = 2 * time.Millisecond
	// places is how many threads may wait so: a daemon's hnet0 and the socket that is in use.
	places = 2
	// glance is how long a blocking wait for room to write is, after which Close is looked for.
	glance = 20 * time.Millisecond
	// pause is how long a descriptor rests that reports an error, and has none when it is read.
	pause = time.Millisecond
)

// free is how many threads may still wait in ppoll. It is 0 until Reserve, and then at most places.
var free atomic.Int32

// Reserve gives the runtime a processor for each thread that may wait outside it, since such a one keeps its own. Programs call it once, when they start; in
// one that does not, or whose environment sets GOMAXPROCS, every Descriptor is left to the runtime's poller.
func Reserve() {
	if os.Getenv("GOMAXPROCS") != "" {
		return
	}
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + places)
	free.Store(places)
}

// take takes a place to wait, if there is one.
func take() bool {
	for {
		n := free.Load()
		if n <= 0 {
			return false
		}
		if free.CompareAndSwap(n, n-1) {
			return true
		}
	}
}

// Descriptor is a descriptor in non-blocking mode. It is a syscall.RawConn. One goroutine reads and one writes at a time; the others wait.
type Descriptor struct {
	fd     int
	use    sync.RWMutex // held for reading by whoever uses fd, for writing to close it
	closed atomic.Bool
	until  atomic.Int64 // the deadline of Write, in ns since began; 0 = none

	reading sync.Mutex
	soon    bool // the last wait was not longer than near
	wait    unix.PollFd
	timeout unix.Timespec
	spin    spin

	// What the runtime's poller waits for: an epoll that has fd as its only member.
	epoll *os.File
	raw   syscall.RawConn
	arm   func(fd uintptr) bool
	armed bool
	err   error
	event unix.EpollEvent

	writing sync.Mutex
	room    [1]unix.PollFd
}

var _ syscall.RawConn = (*Descriptor)(nil)

// New takes fd over, which no other poller may wait for, and makes it non-blocking. It fails for what epoll(7) does not take, such as a regular file, and
// leaves fd open then.
func New(fd int) (*Descriptor, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	e, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	// The runtime's poller takes only files that are non-blocking when it first sees them.
	err = unix.SetNonblock(e, true)
	if err == nil {
		err = unix.EpollCtl(e, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLONESHOT, Fd: int32(fd)})
	}
	if err != nil {
		unix.Close(e)
		return nil, os.NewSyscallError("epoll_ctl", err)
	}
	d := &Descriptor{fd: fd, epoll: os.NewFile(uintptr(e), "epoll")}
	if d.raw, err = d.epoll.SyscallConn(); err != nil {
		d.epoll.Close()
		return nil, err
	}
	d.arm = d.notify
	return d, nil
}

// Control calls f with the descriptor. The error is os.ErrClosed after Close.
func (d *Descriptor) Control(f func(fd uintptr)) error {
	d.use.RLock()
	defer d.use.RUnlock()
	if d.closed.Load() {
		return os.ErrClosed
	}
	f(uintptr(d.fd))
	return nil
}

// Read calls f until it reports true, and between two calls waits until there is something to read. The error is os.ErrClosed after Close.
func (d *Descriptor) Read(f func(fd uintptr) bool) error {
	d.reading.Lock()
	defer d.reading.Unlock()
	d.use.RLock()
	defer d.use.RUnlock()
	for !d.closed.Load() {
		if f(uintptr(d.fd)) {
			return nil
		}
		if d.soon && take() {
			done := d.stay(f)
			free.Add(1)
			if done {
				return nil
			}
		}
		begin := now()
		if err := d.leave(); err != nil {
			return err
		}
		if d.soon = now()-begin <= near; d.soon && free.Load() > 0 {
			// It was this thread that looked after all other descriptors, and it is about to stay with this one: without a successor they would have
			// to wait until it leaves, or for the runtime's watchdog, 10 ms. This call appoints one.
			runtime.Gosched()
		}
	}
	return os.ErrClosed
}

// stay waits on this thread until f reports true, or for so long that it is better to leave.
func (d *Descriptor) stay(f func(fd uintptr) bool) (done bool) {
	for !d.closed.Load() {
		begin := now()
		for limit := d.spin.limit(begin); limit > 0; {
			_, _, _ = syscall.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
			if f(uintptr(d.fd)) {
				return true
			}
			if now()-begin > limit {
				break
			}
		}
		ready := d.sleep()
		d.spin.learn(now() - begin)
		if !ready {
			return false
		}
		if f(uintptr(d.fd)) {
			return true
		}
	}
	return false
}

// sleep waits in ppoll; false = near is over, or there is an error that reading does not end.
func (d *Descriptor) sleep() (ready bool) {
	d.wait = unix.PollFd{Fd: int32(d.fd), Events: unix.POLLIN}
	d.timeout = unix.NsecToTimespec(near.Nanoseconds())
	n, _, errno := syscall.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&d.wait)), 1, uintptr(unsafe.Pointer(&d.timeout)), 0, 0, 0)
	// The runtime interrupts whom it wants to preempt; the call of f lets it.
	return errno == syscall.EINTR || n == 1 && d.wait.Revents&unix.POLLIN != 0
}

// leave waits by the runtime's poller.
func (d *Descriptor) leave() error {
	d.armed, d.err = false, nil
	if err := d.raw.Read(d.arm); err != nil {
		return os.ErrClosed
	}
	return d.err
}

// notify asks for one event, in its first call; in its second it takes it. The runtime has forgotten earlier ones before the first call, so that none after
// it is missed. Nor is the scheduler told of these calls: it would wake its watchdog, which then looks every 20 µs.
func (d *Descriptor) notify(epoll uintptr) bool {
	if !d.armed {
		d.armed = true
		d.event = unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT, Fd: int32(d.fd)}
		_, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_CTL, epoll, unix.EPOLL_CTL_MOD, uintptr(d.fd), uintptr(unsafe.Pointer(&d.event)), 0, 0)
		if errno != 0 {
			d.err = os.NewSyscallError("epoll_ctl", errno)
		}
		return errno != 0
	}
	n, _, _ := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, epoll, uintptr(unsafe.Pointer(&d.event)), 1, 0, 0, 0)
	if n == 1 && d.event.Events&unix.EPOLLIN == 0 {
		time.Sleep(pause) // an error, which would be there again at once
	}
	return true
}

// Write calls f until it reports true, and between two calls waits until there is room to write. The error is os.ErrClosed after Close and
// os.ErrDeadlineExceeded after the deadline, which is looked at only before waiting.
func (d *Descriptor) Write(f func(fd uintptr) bool) error {
	d.writing.Lock()
	defer d.writing.Unlock()
	d.use.RLock()
	defer d.use.RUnlock()
	for !d.closed.Load() {
		if f(uintptr(d.fd)) {
			return nil
		}
		wait := glance
		if until := d.until.Load(); until != 0 {
			if wait = min(wait, time.Duration(until)-now()); wait <= 0 {
				return os.ErrDeadlineExceeded
			}
		}
		d.room[0] = unix.PollFd{Fd: int32(d.fd), Events: unix.POLLOUT}
		timeout := unix.NsecToTimespec(wait.Nanoseconds())
		_, _ = unix.Ppoll(d.room[:], &timeout, nil)
	}
	return os.ErrClosed
}

// SetWriteDeadline sets when Write stops to wait; the zero time is never.
func (d *Descriptor) SetWriteDeadline(t time.Time) error {
	until := int64(0)
	if !t.IsZero() {
		until = max(1, int64(t.Sub(began)))
	}
	d.until.Store(until)
	return nil
}

// Close ends Read and Write, waits for them, which takes as long as near and glance, and closes the descriptor.
func (d *Descriptor) Close() error {
	if d.closed.Swap(true) {
		return os.ErrClosed
	}
	_ = d.epoll.Close()
	d.use.Lock()
	defer d.use.Unlock()
	return os.NewSyscallError("close", unix.Close(d.fd))
}
