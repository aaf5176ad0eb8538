package spdp

import (
	"bytes"
	"net/netip"
	"slices"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// peer is a whitelisted host.
type peer struct {
	addr      netip.Addr
	connected bool
	listed    bool

	mine, theirs session // ours with it, its with us; 0: nothing heard
	counter      uint32  // of its last digest
	digested     time.Time
	participants map[wire.GuidPrefix]*remote

	quiet     bool      // idle, and there was nobody to tell it of
	due       time.Time // of the next digest to it
	haste     int
	sent      time.Time
	waiting   []*local // to be announced to it
	isWaiting map[*local]bool

	messages, changes, wants bucket
}

// remote is a participant of a peer's.
type remote struct {
	source
	revision uint32
	lease    time.Duration
	heard    time.Time // of it or of a digest that lists it
	refresh  timetable
}

// Rates of what a peer may send, and of participants that come or change: per second and at once. An honest one sends a
// digest every 5 s and its participants once.
const (
	messageRate, messageBurst = 200, 600
	changeRate, changeBurst   = 16, 2 * MaxPerPeer
	wantRate, wantBurst       = 64, 4 * MaxLocal
)

type bucket struct {
	left float64
	at   time.Time
}

func (b *bucket) take(now time.Time, rate, burst float64) bool {
	if b.at.IsZero() {
		b.left = burst
	} else {
		b.left = min(burst, b.left+rate*now.Sub(b.at).Seconds())
	}
	b.at = now
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}

// SetPeers takes the whole list of whitelisted peers. The participants of one that is not in it end at once.
func (m *Machine) SetPeers(now time.Time, list []Peer) {
	for _, p := range m.peers {
		p.listed = false
	}
	for _, l := range list {
		p := m.peers[l.Address]
		if p == nil {
			if l.Address == m.own || !l.Address.Is6() || len(m.peers) >= MaxPeers {
				continue
			}
			p = &peer{addr: l.Address, mine: m.begin(), participants: map[wire.GuidPrefix]*remote{}, isWaiting: map[*local]bool{}}
			m.peers[l.Address] = p
		}
		p.listed = true
		// An idle peer is not woken to be told that there is nobody: whoever listens would learn that it is on the whitelist.
		quiet := l.Idle && len(m.locals) == 0
		if l.Connected && !quiet && (!p.connected || p.quiet) {
			p.due, p.haste = now, 0
		}
		p.quiet = quiet
		if p.connected = l.Connected; !p.connected {
			m.forgetWaiting(p)
		}
	}
	for addr, p := range m.peers {
		if !p.listed {
			for prefix := range p.participants {
				m.endRemote(p, prefix)
			}
			m.forgetWaiting(p)
			delete(m.peers, addr)
		}
	}
	m.wake(now)
}

// announceTo puts a local participant in line to be announced to a peer.
func (m *Machine) announceTo(p *peer, l *local) {
	if !p.connected || p.theirs == 0 || l.outside == nil || p.isWaiting[l] {
		return
	}
	if len(p.waiting) == 0 {
		m.turn = append(m.turn, p)
	}
	p.isWaiting[l] = true
	p.waiting = append(p.waiting, l)
	m.outgoing++
}

func (m *Machine) forgetWaiting(p *peer) {
	if len(p.waiting) == 0 {
		return
	}
	m.turn = slices.DeleteFunc(m.turn, func(other *peer) bool { return other == p })
	m.outgoing -= len(p.waiting)
	p.waiting = nil
	clear(p.isWaiting)
}

// announceSome sends some of what waits, one for each peer in turn.
func (m *Machine) announceSome() {
	for range perTickOut {
		if len(m.turn) == 0 {
			return
		}
		p := m.turn[0]
		m.turn = m.turn[1:]
		if len(p.waiting) == 0 {
			continue
		}
		l := p.waiting[0]
		p.waiting = p.waiting[1:]
		delete(p.isWaiting, l)
		m.outgoing--
		if len(p.waiting) > 0 {
			m.turn = append(m.turn, p)
		}
		if l.gone || !p.connected {
			continue
		}
		m.stats.Announces++
		m.sendPeer(p, &message{kind: kindAnnounce, announce: announcement{
			prefix: l.header.Prefix, revision: l.revision, sn: l.sn, version: l.header.Version, vendor: l.header.Vendor,
			domain: l.domain, release: l.release, payload: l.outside,
		}})
	}
}

// hurry has all peers told soon what there is, and a few times again.
func (m *Machine) hurry(now time.Time) {
	for _, p := range m.peers {
		if soon := now.Add(digestSoon); p.due.IsZero() || p.due.After(soon) {
			p.due = soon
		}
		p.haste = 0
	}
}

// sendDigest sends a peer the list of this host's participants, in as many datagrams as it takes.
func (m *Machine) sendDigest(now time.Time, p *peer) {
	p.sent = now
	switch {
	case p.haste < len(digestHaste):
		p.due = now.Add(digestHaste[p.haste])
		p.haste++
	case len(m.locals) > 0:
		p.due = now.Add(digestEvery)
	default:
		p.due = time.Time{}
	}
	d := message{kind: kindDigest, complete: m.settled}
	first := wire.GuidPrefix{}
	for i, n := 0, 0; ; i++ {
		if i < len(m.order) && n < maxEntries {
			if l := m.order[i]; l.outside != nil {
				n++
				d.entries = append(d.entries, l.header.Prefix[:]...)
				d.entries = append(d.entries, byte(l.revision>>24), byte(l.revision>>16), byte(l.revision>>8), byte(l.revision))
			}
			continue
		}
		d.first = first
		if i >= len(m.order) {
			for k := range d.last {
				d.last[k] = 0xff
			}
		} else {
			d.last = m.order[i-1].header.Prefix
		}
		m.stats.Digests++
		m.sendPeer(p, &d)
		if i >= len(m.order) {
			return
		}
		first = after(d.last)
		d.entries, n = d.entries[:0], 0
		i-- // this one begins the next
	}
}

// after is the next prefix in order.
func after(p wire.GuidPrefix) wire.GuidPrefix {
	for i := len(p) - 1; i >= 0; i-- {
		if p[i]++; p[i] != 0 {
			break
		}
	}
	return p
}

// Remote takes a datagram that came to [PeerPort] through the tunnel. What does not come from a peer's own daemon is passed over.
func (m *Machine) Remote(now time.Time, from netip.AddrPort, b []byte) {
	p := m.peers[from.Addr()]
	if p == nil || from.Port() != PeerPort {
		return
	}
	if !p.messages.take(now, messageRate, messageBurst) {
		m.stats.Limited++
		return
	}
	msg, err := parseMessage(b)
	if err != nil {
		m.stats.Refused++
		return
	}
	if !m.greet(now, p, &msg) {
		return
	}
	switch msg.kind {
	case kindDigest:
		m.digest(now, p, &msg)
	case kindAnnounce:
		m.announced(now, p, &msg)
	case kindWant:
		for i := 0; i < len(msg.wanted); i += prefixLen {
			if l := m.locals[wire.GuidPrefix(msg.wanted[i:i+prefixLen])]; l != nil {
				if !p.wants.take(now, wantRate, wantBurst) {
					m.stats.Limited++
					return
				}
				m.announceTo(p, l)
			}
		}
	}
}

// greet keeps up with the peer's sessions. It is false for what is not of both sides' current ones.
func (m *Machine) greet(now time.Time, p *peer, msg *message) bool {
	answer := func() {
		if at := p.sent.Add(digestLeast); p.connected && (p.due.IsZero() || p.due.After(at)) {
			p.due = at
		}
	}
	if msg.session != p.theirs {
		if p.theirs.sameRun(msg.session) {
			if msg.session < p.theirs {
				return false // late
			}
			// It has ended all of ours, and so do we with all of its.
			for prefix := range p.participants {
				m.endRemote(p, prefix)
			}
		} // Else it runs anew; what runs there may run on.
		p.theirs, p.counter, p.haste = msg.session, 0, 0
		answer()
		for _, l := range m.order {
			if !p.wants.take(now, wantRate, wantBurst) {
				break
			}
			m.announceTo(p, l)
		}
	}
	if msg.heard != p.mine {
		answer()
		return false
	}
	return true
}

func (m *Machine) digest(now time.Time, p *peer, d *message) {
	if d.counter <= p.counter {
		return
	}
	p.counter = d.counter
	gap := !p.digested.IsZero() && now.Sub(p.digested) > resumed
	p.digested = now
	var want message
	listed := make(map[wire.GuidPrefix]bool, len(d.entries)/entryLen)
	for i := range len(d.entries) / entryLen {
		prefix, revision := d.entry(i)
		listed[prefix] = true
		r := p.participants[prefix]
		if r != nil {
			r.heard = now
			if gap {
				m.spread(&r.source)
			}
		}
		if (r == nil || r.revision != revision) && len(want.wanted) < maxWanted*prefixLen && m.acceptable(p, prefix) {
			want.wanted = append(want.wanted, prefix[:]...)
		}
	}
	if d.complete {
		for prefix := range p.participants {
			if !listed[prefix] && bytes.Compare(prefix[:], d.first[:]) >= 0 && bytes.Compare(prefix[:], d.last[:]) <= 0 {
				m.endRemote(p, prefix)
			}
		}
	}
	if len(want.wanted) > 0 && p.connected {
		want.kind = kindWant
		m.stats.Wants++
		m.sendPeer(p, &want)
	}
	m.wake(now)
}

// acceptable says whether a prefix can be this peer's, and there is room.
func (m *Machine) acceptable(p *peer, prefix wire.GuidPrefix) bool {
	if owner := m.owners[prefix]; owner != nil {
		return owner == p
	}
	return m.locals[prefix] == nil && prefix != m.probe && len(p.participants) < MaxPerPeer && m.remotes < MaxParticipants
}

func (m *Machine) announced(now time.Time, p *peer, msg *message) {
	a := &msg.announce
	r := p.participants[a.prefix]
	if r != nil && r.revision == a.revision {
		r.heard = now
		return
	}
	if r == nil && msg.counter < p.counter {
		return // late: a digest that followed it may have ended it, or will ask for it
	}
	if !m.acceptable(p, a.prefix) {
		m.stats.Refused++
		return
	}
	if !p.changes.take(now, changeRate, changeBurst) {
		m.stats.Limited++
		return
	}
	payload, err := rewrite(a.payload, p.addr)
	if err == nil {
		var d described
		if d, err = describe(payload, p.addr); err == nil && (d.GUID.Prefix != a.prefix || d.HasDomainID && d.DomainID != uint32(a.domain)) {
			err = errMessage
		}
		if err == nil && r == nil {
			r = &remote{lease: d.Lease}
			p.participants[a.prefix], m.owners[a.prefix] = r, p
			m.remotes++
		}
	}
	if err != nil {
		m.stats.Refused++
		return
	}
	if r.domain != a.domain && r.message != nil { // it is not there any more, for those who know it
		m.endRemote(p, a.prefix)
		m.announced(now, p, msg)
		return
	}
	r.source = source{header: wire.Header{Version: a.version, Vendor: a.vendor, Prefix: a.prefix}, sn: a.sn, domain: a.domain, release: a.release}
	r.say(payload)
	r.revision, r.heard = a.revision, now
	m.spread(&r.source)
	r.refresh.start(now, refreshHaste)
	m.wake(now)
}

// endRemote forgets a peer's participant, and tells the local ones.
func (m *Machine) endRemote(p *peer, prefix wire.GuidPrefix) {
	r := p.participants[prefix]
	if r == nil {
		return
	}
	delete(p.participants, prefix)
	delete(m.owners, prefix)
	m.remotes--
	r.end()
	m.spread(&r.source)
}

// carePeers ends what was not heard of for too long, and repeats what may have been lost.
func (m *Machine) carePeers(now time.Time) {
	for _, p := range m.peers {
		silent := false
		for prefix, r := range p.participants {
			switch {
			case now.Sub(r.heard) > max(peerSilence, min(r.lease, maxLease)):
				m.endRemote(p, prefix)
				silent = true
			case !now.Before(r.refresh.at):
				r.refresh.next(now, refreshHaste, refreshEvery+jitter(prefix))
				if now.Sub(r.heard) < resumed {
					m.spread(&r.source)
				}
			}
		}
		if silent {
			for prefix := range p.participants { // all or none: the peer is told so by a new session
				m.endRemote(p, prefix)
			}
			p.mine = m.begin()
		}
	}
}
