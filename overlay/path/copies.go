package path

import "time"

const (
	// copyingFor is how long two paths are kept alive after the last packet that was sent on both.
	copyingFor = 30 * time.Second
	// copiedFor is how long the peer's word that it sends copies holds; it comes with each of its probes, one a second.
	copiedFor = 10 * time.Second
	// provedFor is how long ago the path for copies must have answered; it is probed each second.
	provedFor = 5 * time.Second
	// lingerFor is how long traffic stays on a path that became a spare one, for another direct one to be proved: by a relay it would make a detour.
	lingerFor = 3 * time.Second
	// stickFor is how long copies stay on the path that the peer's routing has just turned to. The peer's other uplink is about to die then, and the way by
	// a relay, which now looks more disjoint, leads to that one until the peer has told the Base: copies on it were lost for 40 ms.
	stickFor = 3 * time.Second
)

// Copying notes that a packet passes that is to be sent on two paths. It keeps a second path probed, one by another uplink if there is any.
func (m *Machine) Copying(now time.Time) {
	t := m.at(now)
	began := m.copying <= t
	if !began && m.copying.add(-copyingFor+trafficGrain) > t {
		return
	}
	m.copying = t.add(copyingFor)
	if began {
		m.rouse(t)
	}
}

// Copied reports whether the peer sends copies now, so that a second arrival is wanted and no attack.
func (m *Machine) Copied(now time.Time) bool { return m.copied != 0 && m.copied > m.at(now) }

// Backup returns the path for copies: alive, and as disjoint from the selected one as there is. It is none unless Copying was called lately.
func (m *Machine) Backup() (key Key, kind Kind, mtu int, ok bool) {
	tr := m.second
	if tr == nil || tr == m.best || tr.state != Alive {
		return Key{}, 0, 0, false
	}
	return tr.key, tr.kind, int(tr.mtu), true
}

// Leaves tells which interface of this host a path leaves by, and whether it is a Spare one, where that was learned otherwise than by an offer.
func (m *Machine) Leaves(now time.Time, key Key, uplink uint32, isSpare bool) {
	tr := m.find(key)
	if tr == nil {
		return
	}
	tr.uplink = uplink
	if tr.is(spare) != isSpare {
		t := m.at(now)
		was := tr.spared()
		tr.flags ^= spare
		m.spareNow(t, tr, was)
		m.dirty = true
		m.choose(t)
	}
}

// Rename gives a path another key, as when the uplink it runs by is chosen by the host's routing from now on, or not any more. What is known of the
// path stays known. A path that has that key already goes, and if it carried the traffic the renamed one does. SetCandidates is to follow.
func (m *Machine) Rename(now time.Time, from, to Key) {
	t := m.at(now)
	tr, other := m.find(from), m.find(to)
	if tr == nil || tr == other {
		return
	}
	m.dirty = true
	carries := other != nil && other == m.best
	m.drop(func(x *track) bool { return x == other })
	tr.key = to
	if carries && tr.usable() {
		m.take(t, tr)
	}
}

// Remove forgets a path.
func (m *Machine) Remove(now time.Time, key Key) {
	t := m.at(now)
	m.dirty = true
	m.drop(func(tr *track) bool { return tr.key == key })
	m.choose(t)
	m.unaided(t)
}

// Twofold reports whether two paths are kept alive now, for our copies or the peer's.
func (m *Machine) Twofold(now time.Time) bool {
	return m.copying != 0 && m.twofold(m.at(now)) || m.Copied(now)
}

// twofold reports whether two paths are to be kept alive, for our copies or the peer's.
func (m *Machine) twofold(t instant) bool { return m.copying > t || m.copied > t }

// useful reports whether there is a use for probing a path: not for a spare one while something else is alive and there are no copies.
func (m *Machine) useful(t instant, tr *track) bool {
	return !tr.spared() || tr == m.best || m.twofold(t) || m.best == nil || m.rank(m.best) >= rankDoubtful
}

// rouse has the spare paths probed that have been left alone, if there is a use for them by now.
func (m *Machine) rouse(t instant) {
	if !m.awake() {
		return
	}
	punch := false
	for _, tr := range m.tracks {
		switch {
		case !tr.spared() || tr.due != 0 || !m.useful(t, tr):
		case tr.state == Alive:
			m.hasten(t, tr)
		default:
			m.burst(t, tr)
			punch = punch || tr.due == 0
		}
	}
	if punch {
		m.startRound(t)
	}
	m.pair(t)
}

// told takes what a probe of the peer says of the path that it came by, and of copies.
func (m *Machine) told(t instant, tr *track, flags byte) {
	if was := tr.spared(); tr.is(peerSpare) != (flags&FlagSpare != 0) {
		tr.flags ^= peerSpare
		if tr == m.second {
			m.stick = t.add(stickFor)
		}
		m.spareNow(t, tr, was)
		if !was && tr.state == Alive {
			m.settle(tr)
		}
		m.choose(t)
	}
	if flags&FlagCopies != 0 {
		began := !m.twofold(t)
		m.copied = t.add(copiedFor)
		if began {
			m.rouse(t)
		}
	}
}

// spareNow takes note that a path became a spare one, unless it was before, or is none any more.
func (m *Machine) spareNow(t instant, tr *track, was bool) {
	if tr == m.best && tr.spared() && !was {
		m.linger = t.add(lingerFor)
	}
}

// pair selects the path for copies.
func (m *Machine) pair(t instant) {
	if s := m.second; s != nil && m.stick > t && m.twofold(t) && m.best != nil && s != m.best && s.state == Alive && disjoint(m.best, s) > 0 {
		return
	}
	var second *track
	if m.twofold(t) && m.best != nil {
		most := 0
		for _, tr := range m.tracks {
			if tr == m.best || tr.state != Alive || tr.heard.add(provedFor) <= t {
				continue
			}
			if d := disjoint(m.best, tr); d > most || d == most && d > 0 && m.preferred(tr, second) {
				second, most = tr, d
			}
		}
	}
	if second != m.second {
		m.second = second
		if second != nil {
			m.settle(second)
		}
	}
}

// disjoint says how little two paths have in common, 0 if they are as good as one.
func disjoint(a, b *track) int {
	switch {
	case a.is(spare) != b.is(spare), a.is(peerSpare) != b.is(peerSpare), a.uplink != 0 && b.uplink != 0 && a.uplink != b.uplink:
		return 3 // another uplink, here or there
	case a.direct() != b.direct(), !a.direct() && a.key.Carrier != b.key.Carrier:
		return 2 // by a Base, or by another one
	case a.direct() && a.key.Remote.Addr() != b.key.Remote.Addr() && (a.kind != LAN || b.kind != LAN):
		return 1
	}
	return 0
}
