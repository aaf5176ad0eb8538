package path

import "time"

// Sizes are those of IP packets, in bytes.
const (
	// minMTU is what is taken to pass everywhere.
	minMTU = 1100
	// usualMTU is as far as is searched where the kernel does not say more.
	usualMTU = 1500
	maxMTU   = 9000
	// closeEnough ends the search.
	closeEnough = 16
	searchSteps = 8

	sizeTimeout    = 250 * time.Millisecond
	sizeTries      = 2                // so many losses, while small probes are answered, make a size too large
	verifyInterval = 10 * time.Second // between trials that the size found still passes
	raiseInterval  = 10 * time.Minute // between searches for more
)

// sizes are tried in this order.
var sizes = [...]uint16{1280, 1400, 1440, 1492, 1500}

// search is the search for the MTU of the selected path.
type search struct {
	track  *track  // nil: none
	at     instant // next padded probe, 0 = one is under way, or none is due
	sent   instant // of the one under way
	raise  instant // search for more
	size   uint16
	lo, hi uint16 // the greatest size known to pass, the least known not to
	misses uint8
	steps  uint8 // halvings
	small  bool  // a small probe sent after the padded one was answered
	verify bool  // the size found is tried again
}

// floor is the size of a path to begin with.
func floor(tr *track) uint16 { return min(minMTU, ceiling(tr)) }

// ceiling is as far as is searched.
func ceiling(tr *track) uint16 {
	if tr.bound == 0 {
		return usualMTU
	}
	return tr.bound
}

// seek begins the search on the selected path once it answers.
func (m *Machine) seek(t instant) {
	tr := m.best
	if !m.awake() || tr == nil || tr.state != Alive || tr.mtu == 0 || m.work.search.track == tr {
		return
	}
	m.dirty = true
	m.work.search = search{track: tr, at: t, lo: tr.mtu, hi: ceiling(tr) + 1, raise: t.add(raiseInterval), verify: tr.is(searched) || tr.mtu == tr.bound}
	if tr.mtu == floor(tr) {
		m.work.search.verify = false
	}
}

// rebound takes a new Bound of a path.
func (m *Machine) rebound(t instant, tr *track) {
	tr.flags &^= searched
	if tr.bound > 0 {
		tr.mtu = min(tr.mtu, tr.bound)
	}
	if m.awake() && m.work.search.track == tr {
		m.work.search = search{}
		m.seek(t)
	}
}

// size returns the size to try next, 0 if the search is over.
func (s *search) next() uint16 {
	top := ceiling(s.track)
	for _, size := range sizes {
		if size = min(size, top); size > s.lo && size < s.hi {
			return size
		}
	}
	switch {
	case top > s.lo && top < s.hi:
		return top
	case s.hi-s.lo <= closeEnough || s.steps >= searchSteps || s.lo >= top:
		return 0
	}
	s.steps++
	return s.lo + (s.hi-s.lo)/2
}

// tickSearch finds out whether a size is to be tried.
func (m *Machine) tickSearch(t instant) {
	s := &m.work.search
	if s.track == nil || s.track != m.best || !s.at.passed(t) {
		if s.track != nil && s.track != m.best {
			*s = search{}
		}
		return
	}
	if s.raise.passed(t) {
		s.raise = t.add(raiseInterval)
		s.verify, s.hi, s.steps, s.misses, s.size = false, ceiling(s.track)+1, 0, 0, 0
	}
	if s.misses > 0 {
		return // the same again
	}
	if !s.verify {
		if s.size = s.next(); s.size != 0 {
			return
		}
		s.track.flags |= searched
		s.verify = true
		s.at = t.add(verifyInterval)
		return
	}
	if s.size = s.track.mtu; s.size <= floor(s.track) {
		s.at = t.add(verifyInterval) // nothing to fall back to
	}
}

// pad says that a padded probe goes out, with its size. A small one goes along to tell loss from a size too large.
func (m *Machine) pad(t instant) int {
	s := &m.work.search
	s.at = 0
	s.sent = t
	s.small = false
	m.hasten(t, s.track)
	return int(s.size)
}

// measured takes an answered probe.
func (m *Machine) measured(t instant, f flight) {
	s := &m.work.search
	if f.size == 0 {
		if f.track == s.track && f.at >= s.sent {
			s.small = true
		}
		return
	}
	f.track.mtu = max(f.track.mtu, f.size)
	if f.track != s.track {
		return
	}
	s.lo = max(s.lo, f.size)
	if s.hi <= s.lo {
		s.hi = ceiling(s.track) + 1
	}
	if f.size == s.size {
		s.misses = 0
		s.at = t
		if s.verify {
			s.at = t.add(verifyInterval)
		}
	}
}

// missedSize takes a padded probe that was not answered.
func (m *Machine) missedSize(t instant, f flight) {
	s := &m.work.search
	if f.track != s.track || f.size != s.size || f.at != s.sent {
		return
	}
	if !s.small {
		s.at = t.add(2 * sizeTimeout) // the path may be silent altogether
		return
	}
	s.at = t
	if s.misses++; s.misses < sizeTries {
		return
	}
	s.misses = 0
	s.hi = s.size
	if s.verify {
		// What passed does not any more.
		s.verify = false
		s.steps = 0
		s.track.mtu = floor(s.track)
		s.track.flags &^= searched
		s.lo = s.track.mtu
	}
}

// Suspect tells that packets of size bytes (IP packets of the underlay) seem not to arrive by the selected path; 0 = of any size. The path, or its
// MTU, is tried now.
func (m *Machine) Suspect(now time.Time, size int) {
	t := m.at(now)
	if !m.awake() || m.best == nil {
		return
	}
	m.dirty = true
	m.hasten(t, m.best)
	if s := &m.work.search; size > int(floor(m.best)) && s.track == m.best && s.verify && s.at > t {
		s.at = t
	}
}
