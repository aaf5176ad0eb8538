package path

import "time"

const (
	// Of two paths of a kind the other is taken when it costs at least a fifth and betterBy less, and has been measured so often.
	betterBy      = 2000 // microseconds
	enoughSamples = 3

	// A direct path is left for the next best, a relay perhaps, when over a full window it lost this share more, and taken again when it loses at most
	// retakeLoss more. With 3 % of datagrams lost, which is a common radio link, a window has as many as seven probes lost once in an hour or less.
	leaveLoss  = 0.2
	retakeLoss = 0.05
	// leaveFor is how long it is left, doubling each time up to leaveMost.
	leaveFor  = 30 * time.Second
	leaveMost = 16 * time.Minute
	// flapping is how soon after it was taken a path must die, for the second time, to be left as well.
	flapping = time.Minute
	// lossySamples is how many probes of the other side of the comparison suffice.
	lossySamples = 16

	// movedFor is how long our probes tell that we lost our path.
	movedFor = 3 * time.Second
)

// Ranks of paths, best first. Below rankDoubtful are those believed in.
const (
	rankRelay     = int(RelayTCP) + 1 + iota // relays whose proof is old, by kind: 4, 5
	_                                        //
	rankSpare                                // alive, but by an uplink kept for copies and for need
	rankLossy                                // alive, but left for its loss
	rankDoubtful                             // answered before
	rankDeadRelay                            // silent, but its Base says that it is there
	rankDead
	rankNever // never answered: carries nothing
)

// rank orders paths, best first.
func (m *Machine) rank(tr *track) int {
	switch {
	case !tr.usable():
		return rankNever
	case tr.state == Dead && tr.kind.Relayed():
		return rankDeadRelay
	case tr.state == Dead:
		return rankDead
	case tr.kind.Relayed() && (tr.state != Alive || !tr.is(offered)):
		// Also one that was withdrawn and still brings what was on its way: its Base is about to end.
		return rankRelay + int(tr.kind-RelayUDP)
	case tr.state != Alive:
		return rankDoubtful
	case tr.avoid != 0:
		return rankLossy
	case tr.spared():
		return rankSpare
	}
	return int(tr.kind)
}

// preferred reports whether a is preferred to b, hysteresis aside.
func (m *Machine) preferred(a, b *track) bool {
	if ra, rb := m.rank(a), m.rank(b); ra != rb {
		return ra < rb
	}
	if a.samples > 0 && b.samples > 0 {
		return a.cost() < b.cost()
	}
	if (a.samples > 0) != (b.samples > 0) {
		return a.samples > 0
	}
	return a.order < b.order
}

// pick returns the most preferred usable path but one.
func (m *Machine) pick(but *track) (best *track) {
	for _, tr := range m.tracks {
		if tr != but && tr.usable() && (best == nil || m.preferred(tr, best)) {
			best = tr
		}
	}
	return best
}

// choose selects the path anew.
func (m *Machine) choose(t instant) {
	if !m.enabled && m.best != nil {
		return
	}
	if m.best != nil && !m.best.usable() {
		m.best = nil
	}
	other := m.pick(m.best)
	if other == nil {
		return
	}
	if m.best != nil {
		ro, rb := m.rank(other), m.rank(m.best)
		if ro > rb || ro == rb && !clearlyBetter(other, m.best) || rb == rankSpare && other.kind.Relayed() && m.linger > t {
			return
		}
	}
	m.take(t, other)
}

// clearlyBetter compares two paths of a rank.
func clearlyBetter(a, b *track) bool {
	if a.state != Alive || a.samples < enoughSamples || b.samples == 0 {
		return false
	}
	ca, cb := a.cost(), b.cost()
	return ca <= 0.8*cb && cb-ca >= betterBy
}

// take makes a path the one that carries traffic.
func (m *Machine) take(t instant, tr *track) {
	old := m.best
	m.best = tr
	m.taken = t
	m.contested = nil
	m.dirty = true
	if !m.awake() {
		return
	}
	if tr.heard == 0 || tr.heard.add(time.Second) < t {
		m.hasten(t, tr)
	} else {
		m.settle(tr)
	}
	if old != nil && old.state == Alive {
		m.settle(old)
	}
	if tr.kind.Relayed() {
		if old == nil || old.direct() {
			m.spray = m.spray || old != nil
			m.startRound(t)
		}
	} else {
		m.work.round = round{}
		for _, o := range m.tracks {
			o.flags &^= opening
		}
	}
	m.seek(t)
}

// die notes that a path is silent.
func (m *Machine) die(t instant, tr *track) {
	tr.state = Dead
	tr.step = 0
	tr.samples = min(tr.samples, 1) // what it was says little of what it will be
	m.retry(t, tr)
	if tr == m.best {
		if m.taken.add(flapping) < t {
			tr.deaths = 0
		}
		if tr.deaths = min(tr.deaths+1, 8); tr.deaths > 1 && tr.direct() {
			m.leave(t, tr)
		}
		m.moved = t.add(movedFor)
		m.choose(t)
	}
	m.rouse(t)
}

// weigh leaves or retakes a direct path for its loss.
func (m *Machine) weigh(t instant) {
	if b := m.best; b != nil && b.direct() && b.avoid == 0 && b.count == window {
		o := m.pick(b)
		if o == nil || o.state != Alive || o.count < lossySamples || b.loss() < o.loss()+leaveLoss {
			return
		}
		m.leave(t, b)
		b.history, b.count = 0, 0
		m.settle(b)
		m.choose(t)
	}
}

// leave keeps a path from use for a while that grows each time.
func (m *Machine) leave(t instant, tr *track) {
	tr.avoid = t.add(min(leaveFor<<tr.avoids, leaveMost))
	tr.avoids = min(tr.avoids+1, 8)
	m.dirty = true
}

// reconsider looks at a path whose time of being left is over.
func (m *Machine) reconsider(t instant, tr *track) {
	relayed := 0.0
	if m.best != nil {
		relayed = m.best.loss()
	}
	if tr.count < lossySamples/2 || tr.loss() > relayed+retakeLoss {
		m.leave(t, tr)
		return
	}
	tr.avoid = 0
	tr.history, tr.count = 0, 0
	m.choose(t)
}

// relay returns the best relay but those of one path's carrier; nil if there is none.
func (m *Machine) relay(but *track) (best *track) {
	for _, tr := range m.tracks {
		if tr.kind.Relayed() && (but == nil || tr.key.Carrier != but.key.Carrier) && (best == nil || m.preferred(tr, best)) {
			best = tr
		}
	}
	return best
}

// lossy reports whether the selected path loses so much that the next best must be measured as often, to compare.
func (m *Machine) lossy() bool {
	return m.best != nil && m.best.direct() && m.best.count >= 8 && m.best.loss() >= leaveLoss/2
}

// Asked notes the peer's probe, which came by key, and what it says of the peer's own choice.
func (m *Machine) Asked(now time.Time, key Key, kind Kind, flags byte) {
	t := m.at(now)
	tr := m.came(t, key, kind)
	if tr == nil || !m.enabled || !m.awake() {
		return
	}
	m.dirty = true
	m.told(t, tr, flags)
	if tr.state != Alive {
		m.hasten(t, tr)
	}
	if flags&FlagMoved != 0 && (m.obeyed == 0 || m.obeyed.add(movedFor) <= t) {
		m.obeyed = t
		m.doubt(t, tr)
	}
	if flags&FlagSelected == 0 {
		return
	}
	if tr == m.best {
		m.choice, m.contested = tr, nil
	} else if tr != m.choice {
		// The peer went elsewhere. It may have a reason that we shall not learn.
		m.choice, m.contested = tr, tr
		m.hasten(t, tr)
		if m.best != nil {
			m.hasten(t, m.best)
		}
	}
}

// doubt takes the peer's word that it lost its path: direct ones are believed in again when they answer. The one its probe came by is used
// meanwhile, if it may be.
func (m *Machine) doubt(t instant, by *track) {
	for _, tr := range m.tracks {
		if tr != by && tr.direct() && tr.state == Alive {
			tr.state = Doubtful
			m.hasten(t, tr)
		}
	}
	if by != m.best && m.best != nil && m.rank(by) < rankDoubtful && m.rank(m.best) >= rankDoubtful {
		m.take(t, by)
		return
	}
	m.choose(t)
}
