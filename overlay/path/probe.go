package path

import (
	"slices"
	"time"
)

// Timing of probes.
const (
	// The path in use is probed every second (a little less, so that peers do not fall into step); after a late reply at once and retryGap later, so that
	// it is found dead at most 1 s + 2 timeouts + retryGap after it went silent: 1.5 s with an RTT below 130 ms, 2.5 s at the timeout's upper clamp.
	pathInterval = 950 * time.Millisecond
	pathJitter   = 50 * time.Millisecond
	retryGap     = 100 * time.Millisecond
	// deadAfter replies late in a row make a path dead; twice as many while data still arrives by it, which shows half of it to work.
	deadAfter = 3

	earlyInterval = 300 * time.Millisecond // of a path just proved, until its RTT is known by a few samples
	warmInterval  = 10 * time.Second       // of the relay that would be fallen back to
	lossyInterval = time.Second            // of the next best, when the selected path loses much
	leftInterval  = 2 * time.Second        // of a path left for its loss
	otherDirect   = 15 * time.Second
	otherRelay    = 30 * time.Second
	rareInterval  = 20 * time.Second // of a candidate that never answered
	// hasteGap is the least time between two probes of a path that events demand.
	hasteGap = 100 * time.Millisecond

	maxFlights = 256
)

// gaps are the pauses after each probe of a candidate that has not answered yet: 0, 100, 300, 700, 1500, 3000 ms.
var gaps = [...]time.Duration{100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond, 800 * time.Millisecond, 1500 * time.Millisecond}

// backoff are the pauses between probes of a dead path. A direct one is left to punching after the third if there is a relay: Linux remembers a
// flow that brought no answer for 30 s, and as long as both sides refresh what stands in their way, they do not meet.
var backoff = [...]time.Duration{time.Second, 2 * time.Second, 5 * time.Second, 15 * time.Second, 30 * time.Second}

// A flight is a probe that may yet be answered.
type flight struct {
	track    *track
	at       instant
	late     instant // when its reply is late; 0 = was, or does not matter
	sequence uint32
	size     uint16 // of a padded one
	// uncounted ones have no part in the loss: openers, which should not arrive, and what was sent by a path that did not work.
	uncounted bool
}

// burst begins the schedule of a candidate. Endpoints behind a NAT are left to punching if there is a relay to arrange it by: a probe that comes
// too early would spoil it.
func (m *Machine) burst(t instant, tr *track) {
	if !m.awake() {
		return
	}
	m.dirty = true
	tr.step, tr.late, tr.sent = 0, 0, 0
	if tr.state == Dead {
		tr.state = Untried
		if tr.is(answered) {
			tr.state = Doubtful
		}
	}
	if !m.useful(t, tr) || tr.kind == Direct && !tr.is(answered) && tr.arrived == 0 && m.relayed() && !m.meets(t) {
		tr.due = 0
		return
	}
	tr.due = t
}

// meets reports whether the two meet without a relay at the moment, so that there is nothing to spoil.
func (m *Machine) meets(t instant) bool {
	return m.best != nil && m.best.direct() && m.best.state == Alive && m.best.heard.add(5*time.Second) > t
}

// relayed reports whether there is a relay that is not silent.
func (m *Machine) relayed() bool {
	for _, tr := range m.tracks {
		if tr.kind.Relayed() && tr.state != Dead {
			return true
		}
	}
	return false
}

// unaided has direct candidates probed that were left to punching, when the last relay is gone.
func (m *Machine) unaided(t instant) {
	if !m.awake() || m.relayed() {
		return
	}
	for _, tr := range m.tracks {
		if tr.state != Alive && tr.due == 0 {
			m.burst(t, tr)
		}
	}
}

// hasten has a path probed now.
func (m *Machine) hasten(t instant, tr *track) {
	if !m.awake() {
		return
	}
	at := t
	if tr.probed != 0 {
		at = max(t, tr.probed.add(hasteGap))
	}
	if tr.due == 0 || at < tr.due {
		tr.due = at
		m.dirty = true
	}
}

// settle sets when a living path is probed next.
func (m *Machine) settle(tr *track) {
	if !m.awake() {
		return
	}
	m.dirty = true
	if tr.due = 0; m.useful(tr.heard, tr) {
		tr.due = max(1, tr.probed).add(m.interval(tr))
	}
}

func (m *Machine) interval(tr *track) time.Duration {
	var interval time.Duration
	switch {
	case tr == m.best, tr == m.second:
		return pathInterval + m.duration(pathJitter)
	case tr.avoid != 0:
		interval = leftInterval
	case tr.samples < enoughSamples && tr.state == Alive:
		return earlyInterval
	case m.lossy() && tr == m.pick(m.best):
		interval = lossyInterval
	case tr.kind.Relayed() && tr == m.relay(m.relayInUse()):
		interval = warmInterval
	case tr.kind.Relayed():
		interval = otherRelay
	default:
		interval = otherDirect
	}
	return interval - m.duration(interval/10)
}

// relayInUse is the selected path if it is a relay, else nil.
func (m *Machine) relayInUse() *track {
	if m.best != nil && m.best.kind.Relayed() {
		return m.best
	}
	return nil
}

// retry sets when a dead path is probed next.
func (m *Machine) retry(t instant, tr *track) {
	step := min(int(tr.step), len(backoff)-1)
	if tr.kind.Relayed() {
		step = min(step, 3)
	}
	if !m.useful(t, tr) || tr.kind == Direct && step >= 3 && m.relayed() {
		tr.due = 0 // the next round's turn, if any's
		m.dirty = true
		return
	}
	tr.due = t.add(backoff[step] + m.duration(backoff[step]/20))
	tr.step = min(tr.step+1, uint8(len(backoff)-1))
	m.dirty = true
}

// patience is how many late replies in a row the path is granted.
func (tr *track) patience() uint8 {
	if tr.missed != 0 && tr.arrived > tr.missed.add(tr.timeout()) {
		return 2 * deadAfter
	}
	return deadAfter
}

// note sets a path's schedule forward after a probe that was sent, or could not be.
func (m *Machine) note(t instant, tr *track) {
	tr.probed = t
	tr.sent = min(tr.sent+1, 255-1)
	if tr.missed == 0 {
		tr.missed = t
	}
	switch {
	case tr.state == Dead:
		m.retry(t, tr)
	case tr.state == Untried && int(tr.step) < len(gaps):
		tr.due = t.add(gaps[tr.step])
		tr.step++
	case tr.state == Untried && tr.is(answered):
		tr.state = Dead
		tr.step = uint8(len(backoff) - 1)
		m.retry(t, tr)
	case tr.state == Untried && tr.kind == Direct && m.relayed():
		tr.due = 0 // the next round's turn
	case tr.state == Untried:
		tr.due = t.add(rareInterval - m.duration(rareInterval/4))
	case tr.sent < tr.patience() && (tr.late > 0 || tr.state == Doubtful):
		tr.due = t.add(retryGap)
	default:
		tr.due = t.add(m.interval(tr))
	}
	if !m.useful(t, tr) {
		tr.due = 0
	}
	m.dirty = true
}

// overdue notes a late reply.
func (m *Machine) overdue(t instant, tr *track) {
	tr.late = min(tr.late+1, 255-1)
	if c := m.contested; tr == m.best && c != nil && m.rank(c) < rankDoubtful {
		if tr.state == Alive {
			tr.state = Doubtful
		}
		m.take(t, c)
	}
	switch {
	case tr.state == Dead, tr.state == Untried && tr.direct():
	case tr.late >= tr.patience():
		m.die(t, tr)
		m.unaided(t)
	case tr.state == Untried:
	case tr.sent < tr.patience():
		tr.due = t
	}
}

// prove notes that a path works.
func (m *Machine) prove(t instant, tr *track) {
	if tr.state == Dead || tr.state == Untried {
		// What was lost meanwhile says nothing about the path that works now.
		tr.history, tr.count = 0, 0
		if m.work != nil {
			for i := range m.work.flights {
				if f := &m.work.flights[i]; f.track == tr {
					f.uncounted = true
				}
			}
		}
	}
	tr.state = Alive
	tr.flags |= answered
	tr.heard = t
	tr.late, tr.sent, tr.step, tr.missed = 0, 0, 0, 0
	if tr.mtu == 0 && tr.kind == LAN {
		tr.mtu = tr.bound
	}
	m.settle(tr)
}

// Reply notes the peer's authentic reply to a probe. It proves the path that the probe went by, since nobody but who received it knows its
// number. The path it came by may be another: that one is probed, not believed, since who replies may forge his own address. answers says that it
// was the same.
func (m *Machine) Reply(now time.Time, key Key, kind Kind, sequence uint32) (answers bool) {
	t := m.at(now)
	by := m.came(t, key, kind)
	m.sample = 0
	if !m.enabled || m.work == nil {
		return false
	}
	m.dirty = true
	w := m.work
	i := slices.IndexFunc(w.flights, func(f flight) bool { return f.sequence == sequence })
	if by != nil && by.state != Alive && (i < 0 || w.flights[i].track != by) {
		m.hasten(t, by)
	}
	if i < 0 {
		return false
	}
	f := w.flights[i]
	w.flights = slices.Delete(w.flights, i, i+1)
	tr := f.track
	for i := range w.flights {
		if o := &w.flights[i]; o.track == tr && o.at <= f.at && o.size == 0 {
			o.late = 0 // what is older says nothing new, though it may be lost
		}
	}
	if f.size == 0 {
		queueing := time.Duration(0)
		if tr == m.best {
			queueing = m.queueing
		}
		tr.measure(time.Duration(t-f.at), queueing)
		m.sample = time.Duration(t - f.at)
		if !f.uncounted {
			tr.decide(true)
		}
	}
	m.prove(t, tr)
	if tr.mtu == 0 {
		tr.mtu = floor(tr)
	}
	if tr == m.best {
		m.contested = nil
	}
	m.choose(t)
	m.pair(t)
	m.seek(t)
	m.measured(t, f)
	m.weigh(t)
	return by != nil && tr == by
}

// Tick runs the timers.
func (m *Machine) Tick(now time.Time) { m.tick(m.at(now)) }

func (m *Machine) tick(t instant) {
	w := m.work
	if w == nil {
		return
	}
	if m.until <= t {
		m.dirty = true
		m.until = 0
		m.sleep(t)
		return
	}
	if !m.dirty && m.next > t {
		return
	}
	m.dirty = true
	// What dies below may change the flights.
	for {
		i := slices.IndexFunc(w.flights, func(f flight) bool { return f.late.passed(t) })
		if i < 0 {
			break
		}
		f := w.flights[i]
		w.flights[i].late = 0
		if f.size > 0 {
			m.missedSize(t, f)
		} else {
			m.overdue(t, f.track)
		}
	}
	w.flights = slices.DeleteFunc(w.flights, func(f flight) bool {
		if f.at.add(lossAfter) > t {
			return false
		}
		if f.size == 0 && !f.uncounted && f.track.is(answered) {
			f.track.decide(false)
		}
		return true
	})
	if len(w.flights) == 0 && cap(w.flights) > 16 {
		w.flights = nil
	}
	m.weigh(t)
	for _, tr := range m.tracks {
		if tr.avoid.passed(t) {
			m.reconsider(t, tr)
		}
	}
	m.pair(t)
	m.tickRound(t)
	m.seek(t)
	m.tickSearch(t)
}

// Poll returns the next thing to do; it is called until it returns false, after everything that may have changed something.
func (m *Machine) Poll(now time.Time) (Output, bool) {
	t := m.at(now)
	m.tick(t)
	if m.work == nil || !m.dirty && m.next > t {
		return Output{}, false
	}
	m.dirty = true
	for m.work != nil {
		ready := m.tokens.ready(probeBurst, time.Second/probeRate) <= t
		// The path in use goes first.
		if !ready || m.best == nil || !m.best.due.passed(t) {
			if tr := m.opener(); tr != nil {
				if !ready {
					break
				}
				tr.flags &^= opening
				if m.permitted(t, tr) {
					return Output{Probe: m.launch(t, tr, 0, m.ttl, true)}, true
				}
				continue
			}
			if s := m.signal(t); s != NoSignal {
				return Output{Signal: s}, true
			}
		}
		tr, size := m.urgent(t)
		if tr == nil || !ready {
			break
		}
		if size == 0 {
			m.note(t, tr)
		}
		if m.permitted(t, tr) {
			return Output{Probe: m.launch(t, tr, size, 0, false)}, true
		}
	}
	return Output{}, false
}

// urgent returns the path to be probed now, and the size to pad the probe to; nil if none.
func (m *Machine) urgent(t instant) (due *track, size int) {
	for _, tr := range m.tracks {
		if !tr.due.passed(t) {
			continue
		}
		if tr == m.best {
			return tr, 0
		}
		if due == nil || m.rank(tr) < m.rank(due) {
			due = tr
		}
	}
	if s := &m.work.search; s.track != nil && s.at.passed(t) {
		return s.track, m.pad(t)
	}
	return due, 0
}

// permitted reports whether a probe may go to a path's address as far as its quota goes.
func (m *Machine) permitted(t instant, tr *track) bool {
	if tr.kind.Relayed() || tr.is(answered) {
		return true
	}
	addr := tr.key.Remote.Addr()
	for _, o := range m.tracks {
		if o.direct() && o.is(answered) && o.key.Remote.Addr() == addr {
			return true
		}
	}
	return m.admit(t, addr)
}

// launch makes a probe and remembers it.
func (m *Machine) launch(t instant, tr *track, size int, ttl byte, opener bool) Probe {
	m.tokens.take(t, probeBurst, time.Second/probeRate)
	w := m.work
	p := Probe{Key: tr.key, Kind: tr.kind, Sequence: uint32(m.random.Uint64() >> 16), Size: size, DF: size > 0, TTL: ttl}
	if tr == m.best {
		p.Flags |= FlagSelected
	}
	if m.moved > t {
		p.Flags |= FlagMoved
	}
	if tr.is(spare) {
		p.Flags |= FlagSpare
	}
	if m.copying > t {
		p.Flags |= FlagCopies
	}
	if len(w.flights) >= maxFlights {
		w.flights = slices.Delete(w.flights, 0, 1)
	}
	f := flight{track: tr, at: t, sequence: p.Sequence, size: uint16(size), uncounted: opener}
	switch {
	case size > 0:
		f.late = t.add(max(tr.timeout(), sizeTimeout) + hasteGap)
	case !opener:
		f.late = t.add(tr.timeout())
	}
	w.flights = append(w.flights, f)
	return p
}

// Next returns when Tick and Poll are due, zero if never.
func (m *Machine) Next() time.Time {
	if m.dirty {
		m.next = m.soonest()
		m.dirty = false
	}
	if m.next == 0 {
		return time.Time{}
	}
	return m.epoch.Add(time.Duration(m.next))
}

func (m *Machine) soonest() instant {
	w := m.work
	if w == nil {
		return 0
	}
	next := m.until
	earlier := func(t instant) {
		if t != 0 && t < next {
			next = t
		}
	}
	for i := range w.flights {
		f := &w.flights[i]
		earlier(f.late)
		earlier(f.at.add(lossAfter))
	}
	ready := m.tokens.ready(probeBurst, time.Second/probeRate)
	for _, tr := range m.tracks {
		if tr.due != 0 {
			earlier(max(tr.due, ready, 1))
		}
		earlier(tr.avoid)
	}
	if s := &w.search; s.at != 0 {
		earlier(max(s.at, ready, 1))
	}
	r := &w.round
	earlier(r.next)
	switch {
	case !r.pending():
		earlier(r.deadline)
		earlier(r.spray)
	case m.opener() != nil:
		earlier(max(ready, 1))
	default:
		earlier(1) // the signal
	}
	return next
}
