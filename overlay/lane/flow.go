package lane

import "time"

// waiting is a superpacket that waits.
type waiting struct {
	superpacket []byte
	since       time.Time
	redundant   bool
}

// keeping is what a waiting packet costs beyond its bytes, roughly.
const keeping = 64

func (w *waiting) cost() int { return len(w.superpacket) + keeping }

// flow is the queue of one flow, or of several whose hashes collide.
type flow struct {
	fifo  []waiting
	head  int
	bytes int // cost of all

	deficit    int  // what it may send in its turn, bytes
	listed     bool // in its lane's round
	responsive bool
	judged     bool // CoDel let the head pass
	codel      Codel

	refusing bool      // the rest of the present burst is not wanted
	arrived  time.Time // when a packet of it was last pushed
}

func (f *flow) len() int { return len(f.fifo) - f.head }

func (f *flow) front() *waiting { return &f.fifo[f.head] }

func (f *flow) push(w waiting) {
	if f.head > 32 && f.head > len(f.fifo)/2 {
		n := copy(f.fifo, f.fifo[f.head:])
		clear(f.fifo[n:])
		f.fifo, f.head = f.fifo[:n], 0
	}
	f.fifo = append(f.fifo, w)
	f.bytes += w.cost()
}

// pop removes the head, which there is.
func (f *flow) pop() waiting {
	w := f.fifo[f.head]
	f.fifo[f.head] = waiting{}
	f.bytes -= w.cost()
	f.judged = false
	if f.head++; f.head == len(f.fifo) {
		f.fifo, f.head = f.fifo[:0], 0
	}
	return w
}

// A burst is what comes without a pause of burstPause: the pieces of a sample leave their sender in a row.
const burstPause = 2 * time.Millisecond

// admits reports whether a packet of so many bytes of a flow that heeds no loss is taken: fresh is how many bytes may wait when a burst begins, most
// how many at all.
func (f *flow) admits(now time.Time, bytes, fresh, most int) bool {
	pause := f.arrived.IsZero() || now.Sub(f.arrived) >= burstPause
	f.arrived = now
	switch {
	case pause:
		f.refusing = f.bytes > fresh
	case f.refusing:
		// A stream without pauses.
		f.refusing = f.bytes > fresh/4
	}
	if f.bytes+bytes > most {
		f.refusing = true
	}
	return !f.refusing
}
