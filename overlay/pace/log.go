package pace

import "time"

// The log of what was sent. One entry per millisecond and 2,048 of them tell of at least two seconds, which no round trip outlasts; they are made as a
// busy path needs them.
const (
	logResolution = time.Millisecond
	logFirst      = 64
	logMost       = 2048
	// A session's counter that goes back by this much began anew; less is two goroutines that sent at once. A new session begins with 0.
	sentResetBy = 1024
	sentNew     = 64
)

// entry says that the datagrams up to counter, which follow those of the entry before, were sent from at on.
type entry struct {
	counter uint64
	at      time.Duration
	bytes   uint64 // sent on the path up to counter, in all sessions
}

// sentLog remembers when each datagram was sent. Counters grow within it.
type sentLog struct {
	ring  []entry // its length is a power of two
	first uint64  // index of the oldest entry, modulo the length
	count int
	bytes uint64
	began time.Duration // of the session
}

// add notes datagrams up to counter; it reports whether the counter began anew and all before is forgotten.
func (l *sentLog) add(at time.Duration, counter uint64, bytes int) (anew bool) {
	l.bytes += uint64(bytes)
	if l.count > 0 {
		last := &l.ring[(l.first+uint64(l.count)-1)&uint64(len(l.ring)-1)]
		switch {
		case counter+sentResetBy < last.counter || counter < sentNew && 2*counter < last.counter:
			l.count, l.began, anew = 0, at, true
		case counter <= last.counter || at-last.at < logResolution && l.count > 1:
			last.counter, last.bytes = max(last.counter, counter), l.bytes
			return false
		}
	}
	if l.count == len(l.ring) {
		l.grow()
	}
	if l.count == len(l.ring) {
		l.first++
		l.count--
	}
	l.ring[(l.first+uint64(l.count))&uint64(len(l.ring)-1)] = entry{counter, at, l.bytes}
	l.count++
	return anew
}

func (l *sentLog) grow() {
	if len(l.ring) == logMost {
		return
	}
	ring := make([]entry, max(logFirst, 2*len(l.ring)))
	for i := range l.count {
		ring[i] = l.at(i)
	}
	l.ring, l.first = ring, 0
}

func (l *sentLog) at(i int) entry { return l.ring[(l.first+uint64(i))&uint64(len(l.ring)-1)] }

// gap is the longest time in which nothing was sent, of that from one time to another, which are at most two seconds apart.
func (l *sentLog) gap(from, to time.Duration) (longest time.Duration) {
	for i := l.count - 1; i > 0; i-- {
		e, before := l.at(i), l.at(i-1)
		if e.at > to {
			continue
		}
		if e.at <= from {
			break
		}
		longest = max(longest, e.at-max(before.at, from))
	}
	return longest
}

// find returns when the datagram with this counter was sent and how many bytes up to it; ok is false if that is not known any more, or never was.
func (l *sentLog) find(counter uint64) (at time.Duration, bytes uint64, ok bool) {
	low, high := 0, l.count
	for low < high {
		if mid := (low + high) / 2; l.at(mid).counter < counter {
			low = mid + 1
		} else {
			high = mid
		}
	}
	// Of the oldest entry it is not known where it begins.
	if low == l.count || low == 0 && l.at(0).counter != counter {
		return 0, 0, false
	}
	e := l.at(low)
	if low == 0 {
		return e.at, e.bytes, true
	}
	before := l.at(low - 1)
	share := float64(counter-before.counter) / float64(e.counter-before.counter)
	return e.at, before.bytes + uint64(share*float64(e.bytes-before.bytes)), true
}

// The window of the smallest delay: two minutes, by parts of ten seconds.
const (
	windowPart  = 10 * time.Second
	windowParts = 12
)

// smallest is the smallest value of the last two minutes in which there were any.
type smallest struct {
	parts [windowParts]time.Duration
	part  time.Duration // number of the current part
	known bool
	value time.Duration
}

func (s *smallest) add(at, value time.Duration) {
	part := at / windowPart
	switch {
	case !s.known || part-s.part >= windowParts:
		s.set(at, value)
		return
	case part != s.part:
		for s.part < part {
			s.part++
			s.parts[s.part%windowParts] = value
		}
	}
	p := &s.parts[part%windowParts]
	*p = min(*p, value)
	s.value = s.parts[0]
	for _, v := range s.parts[1:] {
		s.value = min(s.value, v)
	}
}

// set forgets all but one value.
func (s *smallest) set(at, value time.Duration) {
	for i := range s.parts {
		s.parts[i] = value
	}
	s.part, s.value, s.known = at/windowPart, value, true
}

// meter measures what is delivered.
type meter struct {
	from  Report
	known bool
	rate  float64 // bytes per second
	most  float64 // the same, but it falls slowly
}

func (m *meter) add(r Report) {
	if !m.known {
		m.from, m.known = r, true
		return
	}
	if span := r.At - m.from.At; span >= 100*time.Millisecond {
		m.rate = float64(r.Bytes-m.from.Bytes) / span.Seconds()
		m.most = max(m.rate, m.most*0.98)
		m.from = r
	}
}
