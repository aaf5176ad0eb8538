package lan

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/netwatch"
	"github.com/hnet-robotics/hnet_bridge/overlay/record"
)

// Port is the UDP port that announcements are sent from and to.
const Port = 5583

// Datagram is an announcement to multicast on one interface, to the group of its source's address family.
type Datagram struct {
	Interface int
	Source    netip.Addr // IPv4, or IPv6 link-local without zone
	Payload   []byte     // at most Size bytes
}

// Machine is the LAN discovery protocol. It is not safe for concurrent use and keeps no references to what it is given,
// but for the identity and the source of randomness. All times it is given must come from one steady clock.
type Machine struct {
	id       *identity.Identity
	key      identity.SigningKey
	excluded string
	lowData  bool
	random   rand.Source
	instance [8]byte
	number   uint32
	signed   []byte
	own      record.Record
	links    map[int]*link
	peers    map[identity.SigningKey]*peer
	admit    admission
	cloned   time.Time // last alarm for the own key
}

// NewMachine returns a machine for one run of the daemon of id, which says nothing until it has interfaces and a record.
// Random must be unpredictable; excluded names the overlay device. With lowData it sends no notices of its own accord.
func NewMachine(id *identity.Identity, excluded string, lowData bool, random rand.Source) *Machine {
	return &Machine{
		id: id, key: id.SigningKey(), excluded: excluded, lowData: lowData, random: random, instance: newNonce(random),
		links: make(map[int]*link), peers: make(map[identity.SigningKey]*peer), admit: newAdmission(),
	}
}

// SetRecord sets the signed contact record to announce, which must be this identity's own and at most MaxRecord bytes long.
// Announcements leave only from addresses that it names. On a link where it names other endpoints than before it is announced
// at once, with other Bases or relaying everywhere by a notice. Other changes, of an endpoint on the Internet say, wait for the
// next announcement.
func (m *Machine) SetRecord(now time.Time, signed []byte) error {
	if len(signed) > MaxRecord {
		return fmt.Errorf("contact record of %d bytes does not fit into a LAN announcement (at most %d): name fewer endpoints", len(signed), MaxRecord)
	}
	r, err := record.Parse(signed)
	if err != nil {
		return fmt.Errorf("own contact record: %w", err)
	}
	if r.Key != m.key {
		return fmt.Errorf("own contact record is signed by another key, that of %v", r.Address())
	}
	before := m.own
	m.signed, m.own = bytes.Clone(signed), r
	for _, l := range m.links {
		l.choose(&m.own)
		switch {
		case !slices.Equal(l.named(&before), l.named(&m.own)):
			l.burst(now, m.random)
		case before.Relay != r.Relay || !slices.Equal(before.Bases, r.Bases):
			l.notice = now
		}
	}
	return nil
}

// SetInterfaces tells which interfaces exist. What is new or has other addresses than before is announced on at once.
func (m *Machine) SetInterfaces(now time.Time, interfaces []netwatch.Interface) {
	present := make(map[int]bool)
	for _, i := range interfaces {
		prefixes := onLink(i.Addrs)
		if !usable(i, m.excluded) || len(prefixes) == 0 {
			continue
		}
		present[i.Index] = true
		l := m.links[i.Index]
		if l == nil || l.name != i.Name {
			m.leave(i.Index)
			l = newLink(now, i, m.random)
			m.links[i.Index] = l
		}
		if !slices.Equal(l.prefixes, prefixes) {
			l.prefixes = prefixes
			l.choose(&m.own)
			l.burst(now, m.random)
		}
	}
	for index := range m.links {
		if !present[index] {
			m.leave(index)
		}
	}
}

// leave forgets a link and what was seen there.
func (m *Machine) leave(index int) {
	delete(m.links, index)
	m.admit.forget(index)
	for _, p := range m.peers {
		p.sightings = slices.DeleteFunc(p.sightings, func(s seenAt) bool { return s.Interface == index })
	}
}

// Announce asks for an announcement on every link as soon as the rate limit allows, which everybody answers who is not known
// here.
func (m *Machine) Announce(now time.Time) {
	for _, l := range m.links {
		l.want(now)
	}
}

// Retry tells that a datagram could not be sent on an interface, because its address is not usable yet, say. It asks for
// another announcement soon.
func (m *Machine) Retry(now time.Time, index int) {
	l := m.links[index]
	switch at := now.Add(retryDelay); {
	case l == nil:
	case l.noticed:
		l.notice = earlier(l.notice, at)
	case !slices.ContainsFunc(l.wanted, func(t time.Time) bool { return !t.After(at) }):
		l.want(at)
	}
}

// Next returns when Tick is to be called next; the zero time if there is nothing to do.
func (m *Machine) Next() time.Time {
	var next time.Time
	for _, l := range m.links {
		next = earlier(next, l.due())
	}
	return next
}

// Tick returns the announcements that are due. All datagrams of one interface that carry one announcement are equal.
func (m *Machine) Tick(now time.Time) []Datagram {
	var out []Datagram
	for _, index := range m.interfaces() {
		l := m.links[index]
		for at := l.due(); !at.IsZero() && !at.After(now); at = l.due() {
			a := l.announce(now, m.idle(now), m.random)
			m.number++
			a.number, a.instance, a.key, a.record = m.number, m.instance, m.key, m.signed
			b := a.marshal(m.id.Sign)
			for _, addr := range l.sources {
				out = append(out, Datagram{index, addr, b})
			}
		}
	}
	return out
}

// idle reports whether notices are to be spared. While there is a clone, each of the two must hear of the other.
func (m *Machine) idle(now time.Time) bool {
	return m.lowData && (m.cloned.IsZero() || now.Sub(m.cloned) > CloneMemory)
}

// interfaces returns the indexes of all links in order.
func (m *Machine) interfaces() []int {
	var all []int
	for index := range m.links {
		all = append(all, index)
	}
	slices.Sort(all)
	return all
}

// HandleDatagram takes a datagram that was sent to the group and arrived from src on an interface. It returns a sighting
// or a clone alarm or nil for each. Anything that is not a genuine announcement is dropped without a trace.
func (m *Machine) HandleDatagram(now time.Time, index int, src netip.AddrPort, b []byte) (*Sighting, *Clone) {
	from := src.Addr().Unmap().WithZone("")
	src = netip.AddrPortFrom(from, src.Port())
	l := m.links[index]
	if l == nil || src.Port() != Port || !l.accepts(from) {
		return nil, nil
	}
	a, ok := parse(b)
	if !ok || a.key == m.key && a.instance == m.instance {
		return nil, nil
	}
	p := l.proof(now, &a)
	v := l.voices[voiceID{a.key, a.instance}]
	if v != nil && m.stale(now, l, v, &a, p, from) {
		return nil, nil
	}
	r, ok := m.verify(now, origin{index, from}, v, &a)
	if !ok {
		return nil, nil
	}
	endpoint, named := endpointOf(&r, from)
	if !named {
		return nil, nil
	}

	// Who has other endpoints than before, a second address family say, may not have heard us there.
	moved := v != nil && a.number > v.number && !slices.Equal(r.Endpoints, v.record.Endpoints)
	v = l.hear(now, v, &a, r, from)
	if p.fresh && !v.proven {
		v.proven = true
		l.trim(v)
	}
	if p.mutual {
		v.tries = 0
	}
	if !a.notice && moved || l.demands(now, v, &a, p) {
		v.wanted = true
		if l.answer.IsZero() {
			l.answer = now.Add(duration(m.random, answerJitter))
		}
	}
	if !p.fresh {
		if v.proven && a.number == v.number {
			m.present(now, index, v)
		}
		return nil, nil
	}
	m.admit.vouch(now, origin{index, from})
	if a.key == m.key {
		if !m.cloned.IsZero() && now.Sub(m.cloned) < cloneRepeat {
			return nil, nil
		}
		m.cloned = now
		l.notice = earlier(l.notice, now.Add(l.interval(m.random)))
		return nil, &Clone{Address: m.id.Address(), Own: true, Source: src, Interface: index}
	}
	if from.Is6() {
		endpoint = netip.AddrPortFrom(from.WithZone(strconv.Itoa(index)), endpoint.Port())
	}
	return m.see(now, p.born, src, Sighting{Record: r, Endpoint: endpoint, Interface: index, Instance: a.instance})
}

// stale reports whether an announcement of a voice heard a moment ago can tell nothing new, so that checking it would be a
// waste. Nothing may change on the strength of it.
func (m *Machine) stale(now time.Time, l *link, v *voice, a *announcement, p proof, from netip.Addr) bool {
	if now.Sub(v.heard) >= sightingRepeat || a.nonce != v.nonce || l.demands(now, v, a, p) || p.mutual && v.tries > 0 {
		return false
	}
	if p.fresh {
		peer := m.peers[a.key]
		if !v.proven || peer == nil {
			return false
		}
		last := peer.find(l.index, from)
		if last == nil || last.Instance != a.instance || now.Sub(last.at) >= sightingRepeat {
			return false
		}
	}
	return sha256.Sum256(a.record) == v.recordSum
}

// verify checks signature and record of a, within the ration of checks and skipping what was checked before: the same
// announcement comes once by IPv4 and once by IPv6, and the same record many times.
func (m *Machine) verify(now time.Time, from origin, v *voice, a *announcement) (record.Record, bool) {
	if v != nil && v.number == a.number && v.datagram == sha256.Sum256(a.raw) {
		return v.record, true
	}
	if !m.admit.admit(now, from) || !a.verify() {
		return record.Record{}, false
	}
	if v != nil && v.recordSum == sha256.Sum256(a.record) {
		return v.record, true
	}
	r, err := record.Parse(a.record)
	return r, err == nil && r.Key == a.key
}

// hear updates or makes the voice of a verified announcement. An older one than the last cannot bring back its nonce.
func (l *link) hear(now time.Time, v *voice, a *announcement, r record.Record, from netip.Addr) *voice {
	if v == nil {
		v = &voice{id: voiceID{a.key, a.instance}, source: from, heard: now}
		l.voices[v.id] = v
		l.trim(v)
	}
	if a.number > v.number {
		v.nonce, v.number, v.record = a.nonce, a.number, r
		v.datagram, v.recordSum = sha256.Sum256(a.raw), sha256.Sum256(a.record)
		v.heard, v.source = now, from
	}
	return v
}

// see takes a fresh announcement that was signed after a time.
func (m *Machine) see(now, signedAfter time.Time, src netip.AddrPort, s Sighting) (*Sighting, *Clone) {
	p := m.peer(now, &s.Record, src.Addr())
	r := p.note(now, s.Instance, signedAfter)
	var clone *Clone
	if p.cloned() && (p.alarmed.IsZero() || now.Sub(p.alarmed) >= cloneRepeat) {
		p.alarmed = now
		clone = &Clone{Address: p.address, Source: src, Interface: s.Interface}
	}
	if s.Record.Sequence < p.sequence {
		return nil, clone
	}
	p.sequence = s.Record.Sequence
	if r.order > p.current.order {
		s.Restarted = p.current.order > 0
		p.current = r
	}
	if !p.sight(now, s) {
		return nil, clone
	}
	return &s, clone
}

// newNonce returns eight random bytes that are not all zero.
func newNonce(random rand.Source) (n nonce) {
	binary.BigEndian.PutUint64(n[:], cmp.Or(random.Uint64(), 1))
	return n
}

// duration returns a random duration below a bound.
func duration(random rand.Source, bound time.Duration) time.Duration {
	return time.Duration(random.Uint64() % uint64(bound))
}
