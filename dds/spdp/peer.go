package spdp

import (
	"net/netip"
	"slices"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// peer is a whitelisted host.
type peer struct {
	addr      netip.Addr
	four      netip.Addr // its IPv4 address as it is seen here; may not be valid
	connected bool
	listed    bool

	refused      map[wire.GuidPrefix]uint32 // revisions of what cannot be had here
	mine, theirs session                    // ours with it, its with us; 0: nothing heard
	counter      uint32                     // of its last digest
	digested     time.Time
	participants map[wire.GuidPrefix]*remote

	leaving time.Time // it was bid farewell, and nothing is exchanged with it until then
	left    bool      // it has heard so

	idle      bool      // there is no session with it
	due       time.Time // of the next digest to it
	haste     int
	sent      time.Time
	reads     bool     // it reads a digest in short
	toldSum   uint64   // of the last whole digest to it
	list      list     // of its last one to us
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
			if l.Address == m.own.six || !l.Address.Is6() || len(m.peers) >= MaxPeers {
				continue
			}
			p = &peer{
				addr: l.Address, mine: m.begin(), participants: map[wire.GuidPrefix]*remote{}, refused: map[wire.GuidPrefix]uint32{}, isWaiting: map[*local]bool{},
			}
			m.peers[l.Address] = p
		}
		p.listed = true
		m.moved(now, p, l.IPv4)
		told := m.tells(p)
		if p.connected, p.idle = l.Connected, l.Idle; !told && m.tells(p) {
			p.due, p.haste = now, 0
		}
		if !p.connected {
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

// tells says whether digests go to a peer. An idle one is not woken to be told that there is nobody: what wakes it are handshakes, by which
// whoever listens would learn that it is on the whitelist.
func (m *Machine) tells(p *peer) bool {
	return p.connected && (!p.idle || len(m.locals) > 0 || !p.leaving.IsZero())
}

// moved takes over a peer's IPv4 address. Who knows participants at another is told that they ended; what was left out
// of their announcements for want of an address is asked for again.
func (m *Machine) moved(now time.Time, p *peer, four netip.Addr) {
	if p.four == four {
		return
	}
	before := p.four
	p.four, p.list = four, list{}
	clear(p.refused)
	if before.IsValid() && m.forgetAll(p, viaFour) {
		p.due, p.haste = now, 0
		return
	}
	again := message{kind: kindWant}
	for prefix, r := range p.participants {
		r.revision = 0
		if len(again.wanted) < maxWanted*prefixLen {
			again.wanted = append(again.wanted, prefix[:]...)
		}
	}
	if len(again.wanted) > 0 && p.connected {
		m.stats.Wants++
		m.sendPeer(p, &again)
	}
}

// forgetAll ends all of a peer's participants if any is reached by a family, and lets the peer know by a new session.
func (m *Machine) forgetAll(p *peer, via families) bool {
	found := false
	for _, r := range p.participants {
		found = found || r.via&via != 0
	}
	if found {
		for prefix := range p.participants {
			m.endRemote(p, prefix)
		}
		m.renew(p)
	}
	return found
}

// announceTo puts a local participant in line to be announced to a peer.
func (m *Machine) announceTo(p *peer, l *local) {
	if !p.connected || p.theirs == 0 || l.outside == nil || p.isWaiting[l] || !p.leaving.IsZero() {
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

// Remote takes a datagram that came to [PeerPort] through the tunnel. What does not come from a peer's own daemon is passed over.
func (m *Machine) Remote(now time.Time, from netip.AddrPort, b []byte) {
	p := m.peers[from.Addr()]
	if p == nil || from.Port() != PeerPort {
		return
	}
	p.idle = false // it came by a session
	if !p.messages.take(now, messageRate, messageBurst) {
		m.stats.Limited++
		return
	}
	msg, err := parseMessage(b)
	if err != nil {
		m.stats.Refused++
		return
	}
	if !p.leaving.IsZero() {
		p.takeLeave(&msg)
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
	case kindSame:
		m.same(now, p, &msg)
	case kindWant:
		if len(msg.wanted) == 0 && p.wants.take(now, wantRate, wantBurst) {
			p.toldSum = 0
			if at := p.sent.Add(digestLeast); p.due.IsZero() || p.due.After(at) {
				p.due = at
			}
		}
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
		p.theirs, p.counter, p.haste, p.list, p.toldSum = msg.session, 0, 0, list{}, 0
		clear(p.refused)
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

// renew begins a session with a peer all of whose participants have ended here.
func (m *Machine) renew(p *peer) {
	p.mine, p.list = m.begin(), list{}
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
	there := place{p.addr, p.four}
	payload, err := rewriteBy(a.payload, there, there.translate)
	var d described
	if err == nil {
		if d, err = describe(payload, there); err == nil && (d.GUID.Prefix != a.prefix || d.HasDomainID && d.DomainID != uint32(a.domain)) {
			err = errMessage
		}
		if err == nil && r == nil {
			r = &remote{lease: d.Lease}
			p.participants[a.prefix], m.owners[a.prefix], m.others = r, p, true
			m.remotes++
		}
	}
	if err != nil {
		m.stats.Refused++
		if len(p.refused) < 2*MaxPerPeer {
			p.refused[a.prefix] = a.revision
		}
		return
	}
	delete(p.refused, a.prefix)
	if r.message != nil && (r.domain != a.domain || r.release != a.release) { // it is not there any more, for those who know it
		m.endRemote(p, a.prefix)
		m.announced(now, p, msg)
		return
	}
	r.source = source{header: wire.Header{Version: a.version, Vendor: a.vendor, Prefix: a.prefix}, sn: a.sn, domain: a.domain, release: a.release, via: d.via}
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
	m.others = true
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
			case !now.Before(r.refresh.at) && now.Sub(r.heard) < resumed:
				r.refresh.next(now, refreshHaste, m.again(prefix))
				m.spread(&r.source)
			}
		}
		if silent {
			for prefix := range p.participants { // all or none: the peer is told so by a new session
				m.endRemote(p, prefix)
			}
			m.renew(p)
		}
	}
}
