package watch

import (
	"math/bits"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

const (
	windowBits  = 2048
	windowWords = windowBits / 64
	// maxJump is how far sequence numbers may jump before it is taken for another series.
	maxJump = 1 << 20
	// settleAfter is how many seconds a gap has to be filled before it counts as lost.
	settleAfter = 3
)

// fate is what a sequence number or a fragment is.
type fate uint8

const (
	fresh fate = iota // never seen
	late              // never seen, and later ones were: it fills a gap
	again             // seen before
)

// window remembers which of a writer's latest sequence numbers were seen on their way to one port.
type window struct {
	port    uint16
	started bool
	sec     int64 // of the last turn
	first   wire.SequenceNumber
	high    wire.SequenceNumber
	settled wire.SequenceNumber              // up to here it is known what is lost
	highs   [settleAfter]wire.SequenceNumber // high at the beginning of each of the last seconds
	seen    [windowWords]uint64              // of (high-windowBits, high], number n in bit n%windowBits
	frags   *fragments                       // nil unless the writer sends fragments
	run     *run                             // nil unless one goes on
}

func (w *window) bit(n wire.SequenceNumber) (*uint64, uint64) {
	i := uint64(n) % windowBits
	return &w.seen[i/64], 1 << (i % 64)
}

// has says whether a number within the window was seen.
func (w *window) has(n wire.SequenceNumber) bool {
	word, bit := w.bit(n)
	return *word&bit != 0
}

// turn lets the seconds pass: what was missing when the last of them began and still is, is lost.
func (w *window) turn(sec int64) (lost uint64) {
	if sec <= w.sec {
		return 0
	}
	return w.turned(sec)
}

func (w *window) turned(sec int64) (lost uint64) {
	for n := min(sec-w.sec, settleAfter+1); n > 0 && w.started; n-- {
		lost += w.settle(w.highs[0])
		copy(w.highs[:], w.highs[1:])
		w.highs[settleAfter-1] = w.high
	}
	w.sec = sec
	return lost
}

// span gives each word of seen that holds numbers from..to, which lie within the window, with the mask of their bits.
func (w *window) span(from, to wire.SequenceNumber, each func(word *uint64, mask uint64)) {
	for from <= to {
		i := uint64(from) % windowBits
		n := min(64-i%64, uint64(to-from)+1)
		each(&w.seen[i/64], (^uint64(0)>>(64-n))<<(i%64))
		from += wire.SequenceNumber(n)
	}
}

// settle decides about all numbers up to n.
func (w *window) settle(n wire.SequenceNumber) (lost uint64) {
	if n <= w.settled {
		return 0
	}
	from := w.settled + 1
	w.settled = n
	if n > w.high { // what is above was never seen
		lost = uint64(n - max(w.high, from-1))
		n = w.high
	}
	w.span(max(from, w.high-windowBits+1), n, func(word *uint64, mask uint64) { lost += uint64(bits.OnesCount64(^*word & mask)) })
	return lost
}

// begin starts a series at n.
func (w *window) begin(n wire.SequenceNumber) {
	w.started, w.first, w.high, w.settled = true, n, n, n-1
	w.seen = [windowWords]uint64{}
	for i := range w.highs {
		w.highs[i] = n - 1
	}
}

// reach moves the window so that it ends at n, which is above high. What falls out of it unseen is lost.
func (w *window) reach(n wire.SequenceNumber) (lost uint64) {
	lost = w.settle(n - windowBits)
	if n-w.high >= windowBits {
		w.seen = [windowWords]uint64{}
	} else {
		w.span(w.high+1, n, func(word *uint64, mask uint64) { *word &^= mask })
	}
	w.high = n
	return lost
}

// see notes a number.
func (w *window) see(n wire.SequenceNumber) (f fate, lost uint64) {
	if n == w.high+1 && w.started { // nearly always; the bit is that of the number that falls out
		word, bit := w.bit(n)
		if out := n - windowBits; out == w.settled+1 {
			if *word&bit == 0 {
				lost = 1
			}
			w.settled = out
		} else if out > w.settled {
			lost = w.settle(out)
		}
		*word |= bit
		w.high = n
		return fresh, lost
	}
	switch {
	case !w.started || n-w.high > maxJump:
		w.begin(n)
	case n > w.high:
		lost = w.reach(n)
	case n < w.first: // the history that a new reader asked for
		if n > w.high-windowBits && w.has(n) {
			return again, 0
		}
		if n <= w.high-windowBits {
			return fresh, 0
		}
	case n <= w.high-windowBits:
		return again, 0
	default:
		if w.has(n) {
			return again, 0
		}
		f = late
	}
	word, bit := w.bit(n)
	*word |= bit
	return f, lost
}

// advance is see of the next count numbers above high.
func (w *window) advance(count uint64) (lost uint64) {
	for count > 0 {
		n := min(count, windowBits)
		from := w.high + 1
		lost += w.reach(w.high + wire.SequenceNumber(n))
		w.span(from, w.high, func(word *uint64, mask uint64) { *word |= mask })
		count -= n
	}
	return lost
}

// state says what see would, and notes nothing.
func (w *window) state(n wire.SequenceNumber) fate {
	switch {
	case !w.started || n > w.high:
		return fresh
	case n <= w.high-windowBits:
		if n < w.first {
			return fresh
		}
		return again
	case w.has(n):
		return again
	case n < w.first:
		return fresh
	}
	return late
}

// skip notes that from..to-1 will never come, and that nothing is lost by that.
func (w *window) skip(from, to wire.SequenceNumber) (lost uint64) {
	last := to - 1
	if !w.started || last < from || last-w.high > maxJump {
		return 0
	}
	if from-1 > w.high {
		lost = w.reach(from - 1)
	}
	if last-w.high >= windowBits {
		lost += w.settle(w.high)
		w.high, w.settled = last, last
		for i := range w.seen {
			w.seen[i] = ^uint64(0)
		}
		return lost
	}
	if last > w.high {
		lost += w.reach(last)
	}
	w.span(max(from, w.high-windowBits+1), last, func(word *uint64, mask uint64) { *word |= mask })
	return lost
}

const (
	fragSamples = 4
	fragBits    = 8192
)

// fragments remembers which fragments of a writer's latest samples were seen.
type fragments struct {
	samples [fragSamples]fragSample
	next    int // to be overwritten
}

type fragSample struct {
	n     wire.SequenceNumber // 0: none
	total uint32
	count uint32 // seen
	high  uint32 // highest seen
	seen  [fragBits / 64]uint64
}

// see notes fragments first..first+count-1 of a sample of total ones, numbered from 1. known is how many of them were seen before, filled how many fill a
// gap; whole says that now all were seen.
func (f *fragments) see(n wire.SequenceNumber, first, count, total uint32) (known, filled uint32, whole bool) {
	s := f.sample(n, total)
	last := first + count - 1
	if last > fragBits { // too long a sample: what is beyond is only counted
		beyond := last - max(first-1, fragBits)
		s.count += beyond
		count -= beyond
	}
	if count > 0 {
		known = s.mark(first-1, count)
		s.count += count - known
		if last <= s.high {
			filled = count - known
		}
	}
	s.high = max(s.high, last)
	return known, filled, s.count >= total && s.total == total
}

func (f *fragments) sample(n wire.SequenceNumber, total uint32) *fragSample {
	for i := range f.samples {
		if f.samples[i].n == n {
			return &f.samples[i]
		}
	}
	s := &f.samples[f.next]
	f.next = (f.next + 1) % fragSamples
	*s = fragSample{n: n, total: total}
	return s
}

// highest is the highest fragment of a sample that was seen, 0 if none was.
func (w *window) highest(n wire.SequenceNumber) uint32 {
	if w.frags != nil {
		for i := range w.frags.samples {
			if s := &w.frags.samples[i]; s.n == n {
				return s.high
			}
		}
	}
	return 0
}

// mark sets count bits from at and returns how many were set before. They lie within fragBits.
func (s *fragSample) mark(at, count uint32) (before uint32) {
	for count > 0 {
		low := at % 64
		n := min(64-low, count)
		mask := (^uint64(0) >> (64 - n)) << low
		word := &s.seen[at/64]
		before += uint32(bits.OnesCount64(*word & mask))
		*word |= mask
		at += n
		count -= n
	}
	return before
}
