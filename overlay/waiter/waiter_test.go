package waiter

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// patience is how long something may take on a machine that is busy with other tests.
const patience = 30 * time.Second

// reserved has the process behave as after Reserve.
func reserved(t testing.TB, n int32) {
	t.Helper()
	before := runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + places)
	free.Store(n)
	t.Cleanup(func() {
		if got := free.Load(); got != n {
			t.Errorf("%d places are free in the end, of %d", got, n)
		}
		free.Store(0)
		runtime.GOMAXPROCS(before)
	})
}

// pair is two ends of a connection that keeps messages apart.
func pair(t testing.TB) (a, b *Descriptor) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ends := [2]*Descriptor{}
	for i, fd := range fds {
		if ends[i], err = New(fd); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ends[i].Close() })
	}
	return ends[0], ends[1]
}

// port reads and writes numbers, without allocating.
type port struct {
	d     *Descriptor
	out   [8]byte
	in    [8]byte
	n     int
	err   error
	read  func(uintptr) bool
	write func(uintptr) bool
}

func newPort(d *Descriptor) *port {
	p := &port{d: d}
	call := func(nr uintptr, b *[8]byte) func(uintptr) bool {
		return func(fd uintptr) bool {
			n, _, errno := syscall.RawSyscall(nr, fd, uintptr(unsafe.Pointer(b)), 8)
			if errno == syscall.EAGAIN {
				return false
			}
			p.n, p.err = int(n), nil
			if errno != 0 {
				p.err = errno
			}
			return true
		}
	}
	p.read, p.write = call(unix.SYS_READ, &p.in), call(unix.SYS_WRITE, &p.out)
	return p
}

func (p *port) send(n uint64) error {
	binary.BigEndian.PutUint64(p.out[:], n)
	return errors.Join(p.d.Write(p.write), p.err)
}

func (p *port) receive() (uint64, error) {
	if err := p.d.Read(p.read); err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(p.in[:]), p.err
}

// echo sends back whatever comes, until its end is closed.
func echo(d *Descriptor) {
	p := newPort(d)
	for {
		n, err := p.receive()
		if err != nil || p.n == 0 || p.send(n) != nil {
			return
		}
	}
}

// No wake-up is lost, whatever state the reader is in when a message comes: looking, asleep on its thread, or left to the runtime's poller.
func TestEveryMessageWakes(t *testing.T) {
	for _, test := range []struct {
		name   string
		places int32
		pauses []time.Duration // between two messages, one of them at random
		count  int
	}{
		{"not reserved", 0, []time.Duration{0, 50 * time.Microsecond}, 2000},
		{"close together", places, []time.Duration{0}, 20000},
		{"at the end of looking", places, []time.Duration{0, 20 * time.Microsecond, 40 * time.Microsecond, 60 * time.Microsecond}, 5000},
		{"at the end of staying", places, []time.Duration{near - 50*time.Microsecond, near, near + 20*time.Microsecond, near + 50*time.Microsecond}, 300},
		{"one place for two", 1, []time.Duration{0, 30 * time.Microsecond, near}, 1000},
	} {
		t.Run(test.name, func(t *testing.T) {
			reserved(t, test.places)
			a, b := pair(t)
			done := make(chan struct{})
			go func() { echo(b); close(done) }()
			p, random := newPort(a), rand.New(rand.NewPCG(1, 2))
			watch := time.AfterFunc(patience, func() { a.Close() })
			for i := range uint64(test.count) {
				for until := time.Now().Add(test.pauses[random.IntN(len(test.pauses))]); time.Now().Before(until); {
				}
				if err := p.send(i); err != nil {
					t.Fatal(err)
				}
				if got, err := p.receive(); err != nil || got != i {
					t.Fatalf("message %d: %d, %v", i, got, err)
				}
			}
			watch.Stop()
			a.Close()
			<-done
		})
	}
}

// ticker is a descriptor that can be read every period.
func ticker(t *testing.T, period time.Duration) (fd int) {
	t.Helper()
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	every := unix.NsecToTimespec(period.Nanoseconds())
	if err := unix.TimerfdSettime(fd, 0, &unix.ItimerSpec{Interval: every, Value: every}, nil); err != nil {
		t.Fatal(err)
	}
	return fd
}

// Those who stay with their descriptors must not keep the rest of the program from what comes for it. The thread that looked after all the others was the
// one that stayed with the second descriptor; without a successor they waited until it left.
func TestOthersAreLookedAfter(t *testing.T) {
	crowded := lateForOthers(t, 0) // how it is when nobody stays, on this machine
	if late := lateForOthers(t, places); late > crowded+10 {
		t.Errorf("of 100 messages for others %d came late, and %d where nobody stays", late, crowded)
	}
}

// lateForOthers counts what came more than a millisecond late.
func lateForOthers(t *testing.T, n int32) (late int) {
	const period = near / 4
	free.Store(n)
	before := runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + places)
	defer runtime.GOMAXPROCS(before)
	defer free.Store(0)
	stopped := make(chan struct{})
	stay := func(every time.Duration) *Descriptor {
		d, err := New(ticker(t, every))
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for p := newPort(d); ; {
				if _, err := p.receive(); err != nil {
					stopped <- struct{}{}
					return
				}
			}
		}()
		return d
	}
	other := os.NewFile(uintptr(ticker(t, period)), "timer") // the runtime's poller waits for it
	defer other.Close()
	for _, d := range []*Descriptor{stay(near / 2), stay(near + period/4)} {
		defer func() { d.Close(); <-stopped }()
	}
	for range 100 {
		var ticks [8]byte
		if _, err := other.Read(ticks[:]); err != nil {
			t.Fatal(err)
		}
		if binary.NativeEndian.Uint64(ticks[:]) > 2 {
			late++
		}
	}
	return late
}

func TestIdleLeavesItsPlace(t *testing.T) {
	reserved(t, places)
	a, b := pair(t)
	done := make(chan struct{})
	go func() { echo(b); close(done) }()
	p := newPort(a)
	for i := range uint64(3) {
		if err := p.send(i); err != nil {
			t.Fatal(err)
		}
		if _, err := p.receive(); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(patience); free.Load() != places; time.Sleep(near / 4) {
			if time.Now().After(end) {
				t.Fatalf("%d places are free of %d", free.Load(), places)
			}
		}
	}
	a.Close()
	<-done
}

func TestCloseEndsRead(t *testing.T) {
	for name, state := range map[string]struct {
		places int32
		after  time.Duration
	}{
		"staying": {places, near / 2}, "left": {places, 3 * near}, "not reserved": {0, near},
	} {
		t.Run(name, func(t *testing.T) {
			reserved(t, state.places)
			a, b := pair(t)
			ended := make(chan error)
			go func() {
				_, err := newPort(a).receive()
				ended <- err
			}()
			time.Sleep(state.after) // which state it is in does not matter for the outcome
			if err := a.Close(); err != nil {
				t.Fatal(err)
			}
			if err := <-ended; !errors.Is(err, os.ErrClosed) {
				t.Errorf("Read: %v", err)
			}
			if err := a.Close(); !errors.Is(err, os.ErrClosed) {
				t.Errorf("closed again: %v", err)
			}
			if err := a.Control(func(uintptr) { t.Error("called") }); !errors.Is(err, os.ErrClosed) {
				t.Errorf("Control: %v", err)
			}
			// The other end sees it at once: nothing holds the descriptor any more.
			p := newPort(b)
			if _, err := p.receive(); err != nil || p.n != 0 {
				t.Errorf("%d bytes, %v", p.n, err)
			}
		})
	}
}

func TestWriteWaitsForRoom(t *testing.T) {
	a, b := pair(t)
	p, q := newPort(a), newPort(b)
	n := uint64(0)
	fill := func() error {
		if err := a.SetWriteDeadline(time.Now().Add(near)); err != nil {
			t.Fatal(err)
		}
		for {
			if err := p.send(n); err != nil {
				return err
			}
			n++
		}
	}
	if err := fill(); !errors.Is(err, os.ErrDeadlineExceeded) || n == 0 {
		t.Fatalf("%d sent, %v", n, err)
	}
	if err := a.SetWriteDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	sent := make(chan error)
	go func() { sent <- p.send(n) }()
	for i := range n + 1 {
		if got, err := q.receive(); err != nil || got != i {
			t.Fatalf("message %d: %d, %v", i, got, err)
		}
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
	if err := fill(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	_ = a.SetWriteDeadline(time.Time{})
	go func() { sent <- p.send(n) }()
	a.Close()
	if err := <-sent; !errors.Is(err, os.ErrClosed) {
		t.Errorf("Write: %v", err)
	}
}

// Who stays with a descriptor keeps its processor, but not from the collector.
func TestGarbageIsCollected(t *testing.T) {
	reserved(t, places)
	a, b := pair(t)
	go echo(b)
	stop := make(chan struct{})
	go func() {
		defer close(stop)
		p := newPort(a)
		for i := range uint64(2000) {
			if p.send(i) != nil {
				return
			}
			if _, err := p.receive(); err != nil {
				return
			}
		}
	}()
	for {
		select {
		case <-stop:
			return
		default:
			runtime.GC()
		}
	}
}

func TestNewRefuses(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := New(int(f.Fd())); !errors.Is(err, syscall.EPERM) {
		t.Errorf("a regular file: %v", err)
	}
	if _, err := f.Stat(); err != nil {
		t.Errorf("it was closed: %v", err)
	}
	if _, err := New(-1); !errors.Is(err, syscall.EBADF) {
		t.Errorf("no file: %v", err)
	}
}

func TestAllocatesNothing(t *testing.T) {
	for name, n := range map[string]int32{"staying": places, "left": 0} {
		t.Run(name, func(t *testing.T) {
			reserved(t, n)
			a, b := pair(t)
			done := make(chan struct{})
			go func() { echo(b); close(done) }()
			p := newPort(a)
			if got := testing.AllocsPerRun(200, func() {
				if p.send(1) != nil {
					t.Error("send")
				}
				if _, err := p.receive(); err != nil {
					t.Error(err)
				}
			}); got > 0 {
				t.Errorf("%v allocations", got)
			}
			a.Close()
			<-done
		})
	}
}

// A round trip over a connection of this host: with the runtime's poller, and without.
func BenchmarkRoundTrip(b *testing.B) {
	for _, test := range []struct {
		name   string
		places int32
	}{{"left", 0}, {"staying", places}} {
		b.Run(test.name, func(b *testing.B) {
			reserved(b, test.places)
			near, far := pair(b)
			done := make(chan struct{})
			go func() { echo(far); close(done) }()
			p := newPort(near)
			for b.Loop() {
				if err := p.send(1); err != nil {
					b.Fatal(err)
				}
				if _, err := p.receive(); err != nil {
					b.Fatal(err)
				}
			}
			near.Close()
			<-done
		})
	}
}
