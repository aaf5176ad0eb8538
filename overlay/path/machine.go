package path

import (
	"math/rand/v2"
	"slices"
	"time"
)

const (
	// maxTracks bounds the paths of one peer. When another one appears the least valuable goes: see value.
	maxTracks = 32
	// probeAfter is how long paths are probed after the last traffic; then there is silence.
	probeAfter = 30 * time.Second
	// settleFor is how long a handshake that changed the path has candidates probed, without traffic.
	settleFor = 4 * time.Second

	// Grains of the calls that come with every train.
	trafficGrain = 100 * time.Millisecond
	arrivalGrain = 20 * time.Millisecond
)

// Machine selects the path to one peer. See the package comment. It belongs to its owner's lock.
type Machine struct {
	random rand.Source
	epoch  time.Time
	tracks []*track
	best   *track // carries traffic; nil if nothing can
	last   *track // data came by it last
	choice *track // the peer's selected path, as its probes said
	second *track // carries copies; nil if nothing can, or there are none
	// contested is the peer's choice while it is not known whether ours still works.
	contested *track
	work      *work // nil while idle

	active instant // last traffic, coarsely
	taken  instant // best was selected
	until  instant // probing goes on until then
	moved  instant // our probes say FlagMoved until then
	obeyed instant // the peer's FlagMoved was heeded last
	// sprayed is when SignalSpray was given or taken last; spray says that one is owed for this constellation of candidates.
	sprayed instant
	copying instant // copies are sent until then, and FlagCopies with our probes
	copied  instant // the peer sends copies until then
	stick   instant // second is no spare one any more: it gives way to nothing until then
	linger  instant // best became a spare one: it gives way to no relay until then
	next    instant // cached by Next
	// queueing is how long datagrams wait behind our own traffic on best; sample is the RTT that the last Reply told, 0 if none.
	queueing, sample time.Duration
	tokens           limit
	quotas           []quota

	enabled bool
	spray   bool
	dirty   bool // next must be computed anew
	ttl     byte
}

// work is what only an active machine has.
type work struct {
	flights []flight
	round   round
	search  search
}

// New returns a Machine without candidates. Random numbers the probes, so it must be unguessable to the peer: ChaCha8, or nil for the runtime's own,
// which takes no memory; never PCG but in tests.
func New(random rand.Source) *Machine { return &Machine{random: unguessable(random)} }

type runtimeSource struct{}

func (runtimeSource) Uint64() uint64 { return rand.Uint64() }

func unguessable(random rand.Source) rand.Source {
	if random == nil {
		return runtimeSource{}
	}
	return random
}

// at turns a time into an instant.
func (m *Machine) at(now time.Time) instant {
	if m.epoch.IsZero() {
		m.epoch = now.Add(-1)
	}
	return max(1, instant(now.Sub(m.epoch)))
}

// duration returns a random duration below a bound.
func (m *Machine) duration(bound time.Duration) time.Duration {
	return time.Duration(m.random.Uint64() % uint64(bound))
}

// Awake reports whether probing goes on: traffic passes, or did within 30 s.
func (m *Machine) Awake() bool { return m.awake() }

func (m *Machine) awake() bool { return m.work != nil }

// Enable says whether probes can be sent and are answered: there is a session, and the peer is a daemon of ours. It begins false. While it is
// false nothing is sent nor judged, Next is zero, and the path that authentic data came by last is selected, as WireGuard has it.
func (m *Machine) Enable(now time.Time, on bool) {
	if on == m.enabled {
		return
	}
	t := m.at(now)
	m.enabled = on
	m.dirty = true
	if !on {
		m.sleep(t)
		return
	}
	if m.until > t {
		m.begin(t)
	} else {
		m.choose(t)
	}
}

// SetTTL tells the hop limit of openers: enough to pass the NATs in front of this host, too few to reach the one in front of the peer. 0 = as
// full probes.
func (m *Machine) SetTTL(ttl byte) { m.ttl = ttl }

// SetCandidates replaces the set of offered candidates, best relay first; of more than 32 the relays and then the first count. Paths of this host that are no longer
// offered stay while they live, relays go at once. New candidates are probed at once if there is traffic. The same set again costs little.
func (m *Machine) SetCandidates(now time.Time, candidates []Candidate) {
	t := m.at(now)
	m.dirty = true
	for _, tr := range m.tracks {
		tr.flags &^= offered
	}
	candidates = cut(candidates)
	// Known ones first, so that new ones do not push them out.
	fresh := false
	for _, known := range [...]bool{true, false} {
		for i, c := range candidates {
			if !c.Kind.Relayed() && (!c.Remote.IsValid() || c.Remote.Port() == 0) {
				continue
			}
			tr := m.find(c.Key)
			if known != (tr != nil) {
				continue
			}
			if tr == nil {
				if tr = m.add(c.Key, c.Kind); tr == nil {
					continue
				}
				fresh = fresh || tr.direct()
				m.burst(t, tr)
			}
			tr.flags |= offered
			tr.order = uint8(i)
			tr.kind = c.Kind
			if was := tr.spared(); tr.is(spare) != c.Spare {
				tr.flags ^= spare
				m.spareNow(t, tr, was)
			}
			if c.Uplink != 0 {
				tr.uplink = c.Uplink
			}
			if bound := uint16(min(max(c.Bound, 0), maxMTU)); bound != tr.bound {
				tr.bound = bound
				m.rebound(t, tr)
			}
		}
	}
	m.drop(func(tr *track) bool {
		return !tr.is(offered) && (tr.kind.Relayed() || tr.state == Untried && tr.heard == 0 && tr.arrived == 0)
	})
	m.choose(t)
	m.unaided(t)
	if fresh {
		m.spray = true
		m.startRound(t)
	}
}

// cut returns at most as many candidates as there may be tracks: of a crowd the relays first, which must not be lost.
func cut(candidates []Candidate) []Candidate {
	if len(candidates) <= maxTracks {
		return candidates
	}
	crowd := slices.Clone(candidates)
	slices.SortStableFunc(crowd, func(a, b Candidate) int {
		switch {
		case a.Kind.Relayed() == b.Kind.Relayed():
			return 0
		case a.Kind.Relayed():
			return -1
		}
		return 1
	})
	return crowd[:maxTracks]
}

// Withdraw forgets all paths of a carrier that is gone.
func (m *Machine) Withdraw(now time.Time, carrier any) {
	t := m.at(now)
	m.dirty = true
	m.drop(func(tr *track) bool { return tr.key.Carrier == carrier })
	m.choose(t)
	m.unaided(t)
}

// Traffic notes that packets pass, either way. It keeps the paths probed.
func (m *Machine) Traffic(now time.Time) {
	t := m.at(now)
	if m.active != 0 && t < m.active.add(trafficGrain) && (m.work != nil || !m.enabled) {
		return
	}
	m.active = t
	m.until = t.add(probeAfter)
	if m.enabled && m.work == nil {
		m.begin(t)
	}
}

// Arrived notes authentic new data by a path. A path that nobody offered is probed at once: the peer's NAT gave it an endpoint nobody knew.
func (m *Machine) Arrived(now time.Time, key Key, kind Kind) {
	t := m.at(now)
	if tr := m.last; tr != nil && t < tr.arrived.add(arrivalGrain) && tr.key == key {
		return
	}
	tr := m.came(t, key, kind)
	if tr == nil || !m.enabled || tr.state == Alive && !tr.is(spare) {
		return
	}
	if tr.state == Alive {
		// The peer may not know that we would have it send elsewhere: our probe says so.
		if !m.useful(t, tr) && tr.probed.add(time.Second) <= t {
			m.hasten(t, tr)
		}
		return
	}
	// A dead path by which data arrives may be alive again, or dead in our direction only.
	if tr.state != Dead || tr.probed.add(time.Second) <= t {
		m.hasten(t, tr)
	}
}

// came notes that something authentic came by a path.
func (m *Machine) came(t instant, key Key, kind Kind) *track {
	tr := m.last
	if tr == nil || tr.key != key {
		if tr = m.find(key); tr == nil {
			if tr = m.add(key, kind); tr == nil {
				return nil
			}
			m.burst(t, tr)
		}
		m.last = tr
	}
	tr.arrived = t
	if !m.enabled && m.best != tr {
		tr.state = Alive
		tr.flags |= answered
		m.best = tr
	}
	return tr
}

// Proved notes that a handshake completed over a path, both ways; rtt is 0 if not measured. If it changed the path, candidates are probed for
// a moment, traffic or not.
func (m *Machine) Proved(now time.Time, key Key, kind Kind, rtt time.Duration) {
	t := m.at(now)
	m.dirty = true
	tr := m.find(key)
	if tr == nil {
		if tr = m.add(key, kind); tr == nil {
			return
		}
		m.burst(t, tr)
	}
	settle := m.best != tr || tr.state != Alive
	if rtt > 0 {
		tr.measure(rtt, 0)
	}
	tr.arrived = t
	m.prove(t, tr)
	if !m.enabled {
		m.best = tr
	}
	if settle && m.until < t.add(settleFor) {
		m.until = t.add(settleFor)
		if m.enabled && m.work == nil {
			m.begin(t)
		}
	}
	m.choose(t)
}

// LinksChanged notes that this host's interfaces, addresses or routes changed; lost reports whether a path's local end is gone. Such paths are
// dead at once, all others are probed now if there is traffic.
func (m *Machine) LinksChanged(now time.Time, lost func(Key) bool) {
	t := m.at(now)
	m.dirty = true
	fell := false
	for _, tr := range m.tracks {
		gone := lost(tr.key)
		if gone {
			fell = fell || tr == m.best
			m.unlearn(tr)
		}
		if gone || tr.state != Dead {
			m.burst(t, tr)
		} else {
			m.hasten(t, tr)
		}
	}
	if fell {
		m.moved = t.add(movedFor)
	}
	m.choose(t)
	m.spray = true
	m.startRound(t)
}

// unlearn makes a path as if it had never been tried.
func (m *Machine) unlearn(tr *track) {
	tr.forget()
	if m.work != nil {
		m.work.drop(tr)
	}
}

// Best returns the path to send by, and the largest IP packet in bytes that it is known to carry: 0 if unknown, at least 1100 (or the candidate's
// Bound) once the peer answered a probe there.
func (m *Machine) Best() (key Key, kind Kind, mtu int, ok bool) {
	if m.best == nil {
		return Key{}, 0, 0, false
	}
	return m.best.key, m.best.kind, int(m.best.mtu), true
}

// SetQueueing tells how long datagrams wait behind our own traffic on the selected path, as far as that is known: they would on another one, too, so
// it is no reason to change.
func (m *Machine) SetQueueing(d time.Duration) { m.queueing = max(0, d) }

// Sample returns the RTT that the last Reply told, 0 if none.
func (m *Machine) Sample() time.Duration { return m.sample }

// RTT returns the smoothed RTT of a path, without our own traffic's queue; 0 if it was never measured.
func (m *Machine) RTT(key Key) time.Duration {
	if tr := m.find(key); tr != nil {
		return time.Duration(tr.base) * time.Microsecond
	}
	return 0
}

// Silent reports whether no path answers: another handshake, to everything known, is worth trying.
func (m *Machine) Silent() bool {
	return m.best == nil || m.best.state == Dead || m.best.state == Untried && m.best.late > 0
}

// Status returns all paths, the selected one first, then by preference.
func (m *Machine) Status() []Status {
	sorted := slices.Clone(m.tracks)
	slices.SortStableFunc(sorted, func(a, b *track) int {
		switch {
		case a == m.best:
			return -1
		case b == m.best:
			return 1
		case m.preferred(a, b):
			return -1
		case m.preferred(b, a):
			return 1
		}
		return 0
	})
	status := make([]Status, len(sorted))
	for i, tr := range sorted {
		status[i] = tr.status(tr == m.best)
		status[i].Copies = tr == m.second
	}
	return status
}

// find returns the track of a key, nil if there is none.
func (m *Machine) find(key Key) *track {
	for _, tr := range m.tracks {
		if tr.key == key {
			return tr
		}
	}
	return nil
}

// add makes a track, evicting another if there are too many; nil if all are worth more.
func (m *Machine) add(key Key, kind Kind) *track {
	if len(m.tracks) >= maxTracks {
		least := m.tracks[0]
		for _, tr := range m.tracks[1:] {
			if m.value(tr) < m.value(least) || m.value(tr) == m.value(least) && max(tr.arrived, tr.heard) < max(least.arrived, least.heard) {
				least = tr
			}
		}
		if least == m.best {
			return nil
		}
		m.drop(func(tr *track) bool { return tr == least })
	}
	tr := &track{key: key, kind: kind, order: 255}
	m.tracks = append(m.tracks, tr)
	m.dirty = true
	return tr
}

// value says which track to evict: the least, of equals the one heard of longest ago.
func (m *Machine) value(tr *track) int {
	switch {
	case tr == m.best:
		return 6
	case tr.kind.Relayed() && tr.is(offered):
		return 5
	case tr.state == Alive:
		return 4
	case tr.is(offered) && tr.is(answered):
		return 3
	case tr.is(offered):
		return 2
	case tr.is(answered):
		return 1
	}
	return 0
}

// drop removes tracks.
func (m *Machine) drop(gone func(*track) bool) {
	m.tracks = slices.DeleteFunc(m.tracks, func(tr *track) bool {
		if !gone(tr) {
			return false
		}
		for _, p := range [...]**track{&m.best, &m.last, &m.choice, &m.contested, &m.second} {
			if *p == tr {
				*p = nil
			}
		}
		if m.work != nil {
			m.work.drop(tr)
		}
		return true
	})
	if len(m.tracks) == 0 {
		m.tracks = nil
	}
}

// drop forgets what is under way on a track.
func (w *work) drop(tr *track) {
	w.flights = slices.DeleteFunc(w.flights, func(f flight) bool { return f.track == tr })
	if w.search.track == tr {
		w.search = search{}
	}
}

// begin is the begin of contact, or of traffic after silence.
func (m *Machine) begin(t instant) {
	m.work = &work{}
	m.dirty = true
	m.settleQuotas(t)
	for _, tr := range m.tracks {
		if tr != m.best && tr.state == Alive && tr.heard.add(probeAfter) < t {
			tr.state = Doubtful
		}
		tr.late, tr.sent = 0, 0
		m.burst(t, tr)
	}
	m.choose(t)
	m.startRound(t)
	m.seek(t)
}

// sleep ends all probing.
func (m *Machine) sleep(t instant) {
	m.work = nil
	m.contested, m.choice, m.second = nil, nil, nil
	m.copying, m.copied = 0, 0
	m.settleQuotas(t)
	for _, tr := range m.tracks {
		tr.due = 0
		tr.flags &^= opening
	}
	m.drop(func(tr *track) bool {
		return !tr.is(offered) && tr != m.best && (tr.state == Dead || tr.state == Untried)
	})
}
