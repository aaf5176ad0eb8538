package path

import "time"

const (
	// answerAfter is how long an offer waits for its answer before it is made again, offers times in all; then probes are sent anyway.
	answerAfter = time.Second
	offers      = 3
	// offerGap is the least time between two offers of the peer that are heeded.
	offerGap = 500 * time.Millisecond
	// roundAgain is the least time from one change that begins a round to the next that does.
	roundAgain = 500 * time.Millisecond
	// A round is over, and port prediction may be tried, so long after its probes began; sprayGap is the least time between two trials.
	roundFor = 3200 * time.Millisecond
	sprayGap = time.Minute
	// laterStep is where the schedule of later rounds begins: with fewer probes, as the quota has it.
	laterStep = 2
)

// roundGaps are the pauses between punching rounds: they begin at 0, 5 s, 15 s, 50 s, 2 min, and then every 5 min. From the third on they are longer
// than the 30 s after which Linux forgets what a round that failed left behind.
var roundGaps = [...]time.Duration{5 * time.Second, 10 * time.Second, 35 * time.Second, 70 * time.Second, 5 * time.Minute}

type phase uint8

const (
	quiet     phase = iota
	offering        // openers go out, then the offer
	awaiting        // openers are out, the answer is waited for
	answering       // openers go out, then the answer, then probes
)

// round is the state of punching.
type round struct {
	phase    phase
	count    uint8   // rounds begun since something changed
	tries    uint8   // offers made
	next     instant // next round
	deadline instant // of the answer
	spray    instant // SignalSpray is due
	heeded   instant // last offer of the peer
	began    instant // last round, ours or the peer's
	offered  instant // last round that a change began
}

// pending reports whether openers and then a signal are to go out.
func (r *round) pending() bool { return r.phase == offering || r.phase == answering }

// punchable reports whether a path might be had by punching.
func (m *Machine) punchable(t instant, tr *track) bool {
	return tr.kind == Direct && tr.state != Alive && m.useful(t, tr)
}

// Punch begins a punching round now, as when this host's own endpoints changed; only while the traffic is relayed.
func (m *Machine) Punch(now time.Time) {
	t := m.at(now)
	m.dirty = true
	m.spray = true
	m.startRound(t)
}

// startRound begins the rounds anew: at once, or roundAgain after the last began. A Base that tells of another endpoint with every breath would have
// this host send thousands of offers a second.
func (m *Machine) startRound(t instant) {
	if !m.awake() {
		return
	}
	r := &m.work.round
	r.count = 0
	if r.offered != 0 && r.offered.add(roundAgain) > t {
		r.next = r.offered.add(roundAgain)
		m.dirty = true
		return
	}
	r.offered = t
	m.anotherRound(t)
}

// anotherRound begins a round, if there is something to punch, and a relay to arrange it by.
func (m *Machine) anotherRound(t instant) {
	r := &m.work.round
	r.next, r.deadline = 0, 0
	if m.best == nil || !m.best.kind.Relayed() || !m.open(t) {
		return
	}
	m.dirty = true
	r.phase = offering
	r.tries = 1
	m.counted(t)
}

// counted sets when the next round is due.
func (m *Machine) counted(t instant) {
	r := &m.work.round
	r.began = t
	gap := roundGaps[min(int(r.count), len(roundGaps)-1)]
	r.next = t.add(gap + m.duration(gap/20))
	r.count = min(r.count+1, uint8(len(roundGaps)))
}

// open marks the paths that openers go to, and reports whether there are any.
func (m *Machine) open(t instant) (any bool) {
	for _, tr := range m.tracks {
		if m.punchable(t, tr) {
			tr.flags |= opening
			any = true
		}
	}
	return any
}

// opener returns a path that an opener is due to; nil if there is none.
func (m *Machine) opener() *track {
	if !m.work.round.pending() {
		return nil
	}
	for _, tr := range m.tracks {
		if tr.is(opening) && tr.kind == Direct && tr.state != Alive {
			return tr
		}
	}
	return nil
}

// signal returns the signal that is due once the openers are out.
func (m *Machine) signal(t instant) Signal {
	r := &m.work.round
	switch {
	case m.best == nil:
		r.phase = quiet
		r.deadline, r.spray = 0, 0
	case r.phase == offering:
		r.phase = awaiting
		r.deadline = t.add(answerAfter)
		return SignalOffer
	case r.phase == answering:
		m.full(t)
		return SignalAnswer
	case r.spray.passed(t):
		r.spray = 0
		if m.spray && m.best.kind.Relayed() && (m.sprayed == 0 || m.sprayed.add(sprayGap) <= t) {
			m.spray = false
			m.sprayed = t
			return SignalSpray
		}
	}
	return NoSignal
}

// full has everything that can be punched probed: both sides' openers are out.
func (m *Machine) full(t instant) {
	r := &m.work.round
	for _, tr := range m.tracks {
		tr.flags &^= opening
		if !m.punchable(t, tr) {
			continue
		}
		if tr != m.best {
			tr.state = Untried
		}
		tr.late, tr.sent, tr.step = 0, 0, 0
		if r.count > 1 {
			tr.step = laterStep
		}
		tr.due = t
	}
	r.phase = quiet
	r.deadline = 0
	if m.spray && r.spray == 0 {
		r.spray = t.add(roundFor)
	}
	m.dirty = true
}

// Signaled notes a signal from the peer. The peer's endpoints that came with it must have been set as candidates before. SignalSpray is noted
// only: the owner begins a Spray, see the package comment.
func (m *Machine) Signaled(now time.Time, s Signal) {
	t := m.at(now)
	m.dirty = true
	if s == SignalOffer && m.enabled && m.until < t.add(settleFor) {
		m.until = t.add(settleFor)
		if !m.awake() {
			m.begin(t)
		}
	}
	if !m.awake() {
		return
	}
	r := &m.work.round
	switch s {
	case SignalOffer:
		if r.heeded != 0 && r.heeded.add(offerGap) > t {
			return
		}
		r.heeded = t
		if r.phase == quiet {
			m.open(t)
		}
		r.phase = answering
		r.deadline = 0
		if r.began == 0 || r.began.add(roundFor) <= t {
			m.counted(t) // else it is the same one
		}
	case SignalAnswer:
		if r.phase == awaiting {
			m.full(t)
		}
	case SignalSpray:
		m.spray = false
		m.sprayed = t
	}
}

// tickRound runs the timers of punching.
func (m *Machine) tickRound(t instant) {
	r := &m.work.round
	if r.deadline.passed(t) {
		r.deadline = 0
		if r.tries < offers && m.best != nil && m.best.kind.Relayed() && m.open(t) {
			r.tries++
			r.phase = offering
		} else {
			m.full(t)
		}
	}
	if r.next.passed(t) {
		m.anotherRound(t)
	}
}
