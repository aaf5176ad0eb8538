package waiter

import (
	"runtime"
	"sync/atomic"
	"time"
)

const (
	// spinMost is for how long a descriptor is looked at before its thread sleeps: about what it costs to put a processor of a virtual machine to sleep and
	// wake it. What comes meanwhile need not be for this thread: it yields to all others, and the processor is awake. With it a round trip took 119 µs at
	// the median, without 178 µs; 120 µs of looking took no more off, 400 µs made it longer.
	spinMost = 40 * time.Microsecond
	// spinLeast is what it begins with, and ends below.
	spinLeast = 10 * time.Microsecond
	// dense is how long a wait is, at most, that makes it worth to look: a round trip between two machines side by side is shorter. Topics of up to some
	// kHz are not worth it, so that all this costs them nothing.
	dense = 250 * time.Microsecond
	// bulkLeast is how much a batch brings, in bytes, that comes of a stream which keeps the processors busy: whoever looks then takes from those who work.
	// TCP took a fifth more CPU for a byte.
	bulkLeast = 16 << 10
	// bulkFor is how long nobody looks after that.
	bulkFor = time.Millisecond
)

var (
	began = time.Now()
	// bulk is when a batch of bulkLeast came last, on any descriptor.
	bulk atomic.Int64
	// alone tells that there is one processor, on which nobody can work while another looks.
	alone = runtime.NumCPU() == 1
)

// now is the time since began.
func now() time.Duration { return time.Since(began) }

// Brought is told how many bytes a batch brought that was read from a Descriptor.
func Brought(bytes int) {
	if bytes >= bulkLeast {
		bulk.Store(int64(now()))
	}
}

// spin is for how long to look: it grows while packets follow each other closely, and shrinks when they do not.
type spin struct{ length time.Duration }

// limit is for how long to look now.
func (s *spin) limit(at time.Duration) time.Duration {
	if alone || at-time.Duration(bulk.Load()) < bulkFor {
		return 0
	}
	return s.length
}

// learn is told how long it took until something came, after looking for it in vain.
func (s *spin) learn(waited time.Duration) {
	if waited <= dense {
		s.length = min(max(2*s.length, spinLeast), spinMost)
		return
	}
	if s.length /= 2; s.length < spinLeast {
		s.length = 0
	}
}
