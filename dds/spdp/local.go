package spdp

import (
	"bytes"
	"hash/fnv"
	"net/netip"
	"slices"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// local is a participant of this host.
type local struct {
	source   // as others on this host hear it: unchanged
	payload  []byte
	meta     netip.AddrPort
	revision uint32
	outside  []byte // as peers hear it; nil: not at all
	lease    time.Duration
	heard    time.Time
	asked    time.Time
	changed  time.Time // last announced to peers
	inodes   []uint64  // of its socket; nil until seen
	seen     bool      // inodes are of a list that is younger than the participant
	missed   bool      // it was not in the last list of sockets

	queue   []*source
	queued  map[*source]bool
	refill  timetable // of everything to it
	refresh timetable // of it to the others
}

// asked is a bound discovery port that may be a participant's.
type asked struct {
	timetable
	seen bool
}

// Local takes a datagram that came to [LocalPort]. What is not from this host is passed over.
func (m *Machine) Local(now time.Time, from netip.AddrPort, b []byte) {
	if !m.own.has(from.Addr()) && !from.Addr().IsLoopback() || m.reader.Reset(b) != nil {
		return
	}
	for s, ok := m.reader.Next(); ok; s, ok = m.reader.Next() {
		d, ok := s.(*wire.Data)
		if !ok || d.Writer != wire.EntitySPDPWriter {
			continue
		}
		header := m.reader.Source()
		if header.Prefix == m.probe || header.Prefix == wire.PrefixUnknown {
			return
		}
		q, err := wire.ParseInlineQoS(d.InlineQoS)
		if err != nil {
			continue
		}
		if d.Content != wire.DataContent || q.Status&(wire.StatusDisposed|wire.StatusUnregistered) != 0 {
			if g, ok := wire.EndedGUID(d, &q, wire.PIDParticipantGUID); ok && g.Prefix == header.Prefix {
				m.endLocal(now, header.Prefix)
			}
			continue
		}
		m.hear(now, header, d.SN, d.Payload)
	}
}

// changeLeast is between two changes of a participant that are passed on; it repeats itself anyway.
const changeLeast = 200 * time.Millisecond

// maxLocalPayload bounds what is kept of a local participant, in bytes.
const maxLocalPayload = 8192

func (m *Machine) hear(now time.Time, header wire.Header, sn wire.SequenceNumber, payload []byte) {
	d, err := describe(payload, m.own)
	if err != nil || d.GUID.Prefix != header.Prefix || !d.ok || len(payload) > maxLocalPayload {
		m.stats.Unreachable++
		return
	}
	if l := m.locals[header.Prefix]; l != nil {
		l.heard = now
		l.sn = max(l.sn, sn)
		if !bytes.Equal(l.payload, payload) && now.Sub(l.changed) >= changeLeast {
			m.update(now, l, &d, payload)
		}
		return
	}
	for _, l := range m.order {
		if l.meta == d.meta { // one socket, one participant: that one has ended
			m.endLocal(now, l.header.Prefix)
			break
		}
	}
	if p := m.owners[header.Prefix]; p != nil { // a peer claimed a prefix that turns out to be ours
		m.stats.Refused++
		m.endRemote(p, header.Prefix)
	}
	if len(m.locals) >= MaxLocal {
		return
	}
	l := &local{queued: map[*source]bool{}, heard: now}
	l.header, l.sn = header, sn
	m.locals[header.Prefix], m.others, m.summed = l, true, false
	i, _ := slices.BinarySearchFunc(m.order, header.Prefix, func(l *local, p wire.GuidPrefix) int { return bytes.Compare(l.header.Prefix[:], p[:]) })
	m.order = slices.Insert(m.order, i, l)
	m.update(now, l, &d, payload)
	for s := range m.sockets {
		if m.own.of(s) == l.meta {
			l.inodes = append(l.inodes, s.Inode)
		}
	}
	m.unseen = true // the list is older, and may have another program's socket that was at this port before
	m.fill(l)
	l.refill.start(now, refreshHaste)
	m.wake(now)
}

// update takes over what a participant says of itself, and tells everybody.
func (m *Machine) update(now time.Time, l *local, d *described, payload []byte) {
	l.payload = bytes.Clone(payload)
	l.meta, l.via, l.domain, l.lease, l.changed = d.meta, d.via, d.domain, d.Lease, now
	l.release = m.releaseOf(l, &d.ParticipantData)
	l.outside, _ = rewrite(payload, m.own)
	h := fnv.New32a()
	h.Write(l.outside)
	h.Write([]byte{byte(l.domain), byte(l.domain >> 8), byte(l.release)})
	l.revision = h.Sum32()
	m.summed = false
	l.say(l.payload)
	m.spread(&l.source)
	l.refresh.start(now, refreshHaste)
	if l.outside == nil {
		m.stats.Unreachable++
		return
	}
	for _, p := range m.peers {
		m.announceTo(p, l)
	}
	m.hurry(now)
}

// SetIPv4 tells the machine this host's IPv4 address on hnet0; the zero Addr is none.
func (m *Machine) SetIPv4(now time.Time, a netip.Addr) {
	if a == m.own.four {
		return
	}
	m.own.four = a
	for _, l := range slices.Clone(m.order) { // they listen where they did, and are reached there or not
		d, err := describe(l.payload, m.own)
		if err != nil {
			m.endLocal(now, l.header.Prefix)
			continue
		}
		m.update(now, l, &d, l.payload)
	}
	for _, a := range m.sockets {
		a.start(now, probeHaste)
	}
	m.wake(now)
}

// releaseOf is the release of a local participant; once found out it stays.
func (m *Machine) releaseOf(l *local, d *wire.ParticipantData) Release {
	r, sure := releaseOf(d)
	switch {
	case sure:
		return r
	case l.message != nil:
		return l.release
	case m.detect != nil:
		if r = m.detect(l.meta.Port()); r != Unknown {
			return r
		}
	}
	return m.release
}

// endLocal forgets a participant of this host, and tells everybody.
func (m *Machine) endLocal(now time.Time, prefix wire.GuidPrefix) {
	l := m.locals[prefix]
	if l == nil {
		return
	}
	delete(m.locals, prefix)
	m.others, m.summed = true, false
	m.order = slices.DeleteFunc(m.order, func(other *local) bool { return other == l })
	l.end()
	m.spread(&l.source)
	m.hurry(now)
}

// careLocals ends the silent ones and repeats what may have been lost.
func (m *Machine) careLocals(now time.Time) {
	for _, l := range slices.Clone(m.order) {
		silent := now.Sub(l.heard)
		switch {
		case silent > max(localSilence, min(l.lease, maxLease)):
			m.endLocal(now, l.header.Prefix)
			continue
		case silent > probeSilent && now.Sub(l.asked) > probeSilent:
			l.asked = now
			m.sendProbe(l.meta, l.domain)
		}
		if !l.refill.at.IsZero() && !now.Before(l.refill.at) {
			m.fill(l)
			if l.refill.done == len(refreshHaste) {
				l.refill.at = time.Time{}
			} else {
				l.refill.next(now, refreshHaste, 0)
			}
		}
		if !now.Before(l.refresh.at) {
			m.spread(&l.source)
			l.refresh.next(now, refreshHaste, m.again(l.header.Prefix))
		}
	}
}

// jitter spreads what is regular, by up to a second.
func jitter(p wire.GuidPrefix) time.Duration {
	h := fnv.New32a()
	h.Write(p[:])
	return time.Duration(h.Sum32()%1000) * time.Millisecond
}

// Sockets takes the list of this host's sockets: who has none any more has ended, and at discovery ports that nobody
// known listens on, somebody may.
func (m *Machine) Sockets(now time.Time, list []Socket) {
	at := make(map[netip.AddrPort][]uint64, len(list))
	for _, s := range list {
		at[m.own.of(s)] = append(at[m.own.of(s)], s.Inode)
	}
	m.unseen = false
	for _, l := range slices.Clone(m.order) {
		open := at[l.meta]
		switch {
		case !l.seen && len(open) > 0:
			l.inodes, l.seen, l.missed = open, true, false
		case len(l.inodes) == 0: // not seen yet; if never, its silence must tell
		case slices.ContainsFunc(open, func(i uint64) bool { return slices.Contains(l.inodes, i) }):
			l.missed = false
		case !l.missed: // the kernel's list may lack one when another goes while it is read
			l.missed, m.unseen = true, true
		default:
			m.endLocal(now, l.header.Prefix)
		}
	}
	for _, a := range m.sockets {
		a.seen = false
	}
	for _, s := range list {
		if _, ok := discoveryPort(s.Port); !ok || !m.own.of(s).IsValid() {
			continue
		}
		a := m.sockets[s]
		if a == nil {
			if len(m.sockets) >= maxSockets {
				continue
			}
			a = &asked{}
			a.start(now, probeHaste)
			m.sockets[s] = a
		}
		a.seen = true
	}
	for s, a := range m.sockets {
		if !a.seen {
			delete(m.sockets, s)
		}
	}
	m.ask(now)
	m.wake(now)
}

// Unseen says that a participant has come whose socket is not known yet, or that one was missing in the last list: the
// sooner there is another, the sooner the participant's end is noticed.
func (m *Machine) Unseen() bool { return m.unseen }

// maxAsked is the end of the ports asked at: from 32768 on they are handed out to any program.
const maxAsked = 32768

// discoveryPort is the domain of a participant's well-known discovery port.
func discoveryPort(port uint16) (uint16, bool) {
	domain, offset := portRule(uint32(port))
	return domain, port < maxAsked && offset >= 10 && offset%2 == 0
}

// ask probes the ports at which nobody known listens.
func (m *Machine) ask(now time.Time) {
	known := make(map[netip.AddrPort]bool, len(m.order))
	for _, l := range m.order {
		known[l.meta] = true
	}
	m.asking = false
	for s, a := range m.sockets {
		if a.at.IsZero() || now.Before(a.at) {
			m.asking = m.asking || !a.at.IsZero()
			continue
		}
		if a.done == len(probeHaste) {
			a.at = time.Time{}
		} else {
			a.next(now, probeHaste, 0)
			m.asking = true
		}
		if domain, ok := discoveryPort(s.Port); ok && !known[m.own.of(s)] {
			m.sendProbe(m.own.of(s), domain)
		}
	}
}

func (m *Machine) sendProbe(to netip.AddrPort, domain uint16) {
	m.stats.Probes++
	m.sendLocal(to, probe(m.probe, to.Addr(), domain))
}

// wake lets care run soon, where nothing was to be cared for.
func (m *Machine) wake(now time.Time) {
	if next := now.Add(maintenance); m.nextCare.Before(now) || m.nextCare.After(next) {
		m.nextCare = next
	}
}

// fill puts everything that a local participant may know in its queue.
func (m *Machine) fill(l *local) {
	for _, other := range m.order {
		m.enqueue(l, &other.source)
	}
	for _, p := range m.peers {
		for _, r := range p.participants {
			m.enqueue(l, &r.source)
		}
	}
}

// spread puts a participant in the queue of everybody on this host whom it may concern.
func (m *Machine) spread(s *source) {
	for _, l := range m.order {
		m.enqueue(l, s)
	}
}

func (m *Machine) enqueue(l *local, s *source) {
	if s == &l.source || s.domain != l.domain || s.via&l.via == 0 || len(l.queue) >= maxQueue {
		return
	}
	if !meet(s.release, l.release) && !m.mixed {
		return
	}
	switch {
	case s.gone: // first, before anybody is told of what follows
		if l.queued[s] {
			l.queue = slices.DeleteFunc(l.queue, func(other *source) bool { return other == s })
		}
		l.queue = slices.Insert(l.queue, 0, s)
	case l.queued[s]:
		return
	default:
		l.queue = append(l.queue, s)
	}
	l.queued[s] = true
}

// injectSome sends the beginning of a local participant's queue, and all ends in it.
func (m *Machine) injectSome(l *local) {
	n := 0
	for n < len(l.queue) && (n < perTick || l.queue[n].gone) {
		n++
	}
	for _, s := range l.queue[:n] {
		delete(l.queued, s)
		b := s.to(l.header.Vendor)
		m.stats.Injected++
		m.stats.InjectedBytes += uint64(len(b))
		m.sendLocal(l.meta, b)
	}
	l.queue = append(l.queue[:0], l.queue[n:]...)
	clear(l.queue[len(l.queue):cap(l.queue)])
}
