package machine

import (
	"bytes"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

const (
	announcePeriod = 3 * time.Second
	// staticSlow is every how many announcements hosts are tried that were tried often enough.
	staticSlow  = 4
	staticTries = 20
	leaseLeast  = time.Second

	// greetFirst is when to announce us again to a newcomer that does not answer, then longer and longer; greetings how
	// often, so that a forged announcement costs its victim no more than that.
	greetFirst = 60 * time.Millisecond
	greetings  = 6

	// challengeTime is how long a participant has to answer at its old addresses before it is believed to have moved, and
	// challengeAgain how often it is asked.
	challengeTime  = 400 * time.Millisecond
	challengeAgain = 2 * time.Second
	leaseMost      = time.Hour
	// leaseUnproven is how long a participant is believed in that never answered to us.
	leaseUnproven = time.Minute
	// maxSourceAddrs is how many addresses are remembered of which participants were announced.
	maxSourceAddrs = 4096
)

// The groups. IPv6 has none in the standard, and each library its own.
var (
	group4    = netip.AddrFrom4([4]byte{239, 255, 0, 1})
	group6    = netip.MustParseAddr("ff02::ffff:efff:1") // Cyclone DDS
	group6Far = netip.MustParseAddr("ff1e::ffff:efff:1") // Fast DDS
)

// Groups returns the multicast groups to join for a family.
func Groups(six bool) []netip.Addr {
	if six {
		return []netip.Addr{group6, group6Far}
	}
	return []netip.Addr{group4}
}

// first announcements follow each other quickly: a datagram may be lost, and somebody may be starting at this moment.
var firstAnnouncements = []time.Duration{
	100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond, 800 * time.Millisecond,
}

type spdp struct {
	started bool
	made    bool
	payload []byte
	seq     wire.SequenceNumber
	timer   timer
	sent    int // since the last haste
	tries   int
	message timer // of liveliness
	house   timer
}

// Start begins to announce.
func (m *Machine) Start(now time.Time) {
	a := &m.announce
	a.started = true
	a.timer.fire = m.announceAll
	a.message.fire = m.assert
	a.house.fire = m.keepHouse
	if !a.made {
		m.makeAnnouncement()
	}
	m.set(&a.timer, now)
	m.set(&a.message, now.Add(m.assertEvery()))
	m.set(&a.house, now.Add(time.Second))
}

func (m *Machine) keepHouse(now time.Time) {
	for _, list := range m.writerProxies {
		for _, p := range list {
			if len(p.parts) > 0 {
				p.expire(now)
			}
		}
	}
	for a, s := range m.sources {
		if s.participants <= 0 && s.refill(now, &m.config.Limits) {
			delete(m.sources, a)
		}
	}
	m.set(&m.announce.house, now.Add(time.Second))
}

// makeAnnouncement writes what others are told of the participant.
func (m *Machine) makeAnnouncement() {
	d := wire.ParticipantData{
		GUID: wire.GUID{Prefix: m.config.Prefix, Entity: wire.EntityParticipant}, Version: wire.Version, Vendor: Vendor,
		Builtin: wire.HasAll, Lease: m.config.Lease, HasDomainID: true, DomainID: uint32(m.config.Domain),
		MetatrafficUnicast: locators(m.metaTo), DefaultUnicast: locators(m.userTo), Name: m.config.Name,
		UserData: m.config.UserData,
	}
	m.announce.payload = d.Append(nil)
	m.announce.seq++
	m.announce.made = true
}

// hurry announces at once, and quickly some times more.
func (m *Machine) hurry(now time.Time) {
	a := &m.announce
	if a.started {
		a.sent, a.tries = 0, 0
		m.set(&a.timer, now)
	}
}

func (m *Machine) announceAll(now time.Time) {
	a := &m.announce
	m.announcement()
	for _, l := range m.links {
		m.announceOn(l)
	}
	if a.tries < staticTries || a.tries%staticSlow == 0 {
		m.probe()
	}
	a.tries++
	// Those whom the groups do not reach.
	for _, r := range m.participants {
		// One that never answered gets no more than it sends.
		if now.Sub(r.group) > 2*r.info.Lease && (r.proven || r.heard.After(r.told)) {
			r.told = now
			m.post(r.metaBest)
			m.announcement()
		}
	}
	wait := min(announcePeriod, m.config.Lease/4)
	if a.sent < len(firstAnnouncements) {
		wait = min(wait, firstAnnouncements[a.sent])
	}
	a.sent++
	if m.config.Random != nil {
		wait += time.Duration(m.config.Random.Int64N(int64(wait)/8 + 1))
	}
	m.set(&a.timer, now.Add(wait))
}

// announcement writes the message to everybody: Cyclone DDS answers only what has no INFO_DST.
func (m *Machine) announcement() {
	b := m.message(wire.PrefixUnknown)
	b.Data(&wire.Data{
		Writer: wire.EntitySPDPWriter, SN: m.announce.seq, Content: wire.DataContent, Payload: m.announce.payload,
	})
}

func (m *Machine) announceOn(l Interface) {
	if !m.config.Multicast || !l.Multicast {
		return
	}
	var four, six bool
	for _, p := range l.Addrs {
		four = four || p.Addr().Is4()
		six = six || p.Addr().Is6() && (!l.Loopback || !four)
	}
	if four {
		m.group(netip.AddrPortFrom(group4, m.config.Ports.Multicast), &l)
	}
	if six {
		m.group(netip.AddrPortFrom(group6, m.config.Ports.Multicast), &l)
		m.group(netip.AddrPortFrom(group6Far, m.config.Ports.Multicast), &l)
	}
}

// probe announces to the hosts that are known by address, where participants usually listen.
func (m *Machine) probe() {
	peers := m.config.StaticPeers
	if m.config.Localhost {
		peers = append(slices.Clone(peers), netip.AddrFrom4([4]byte{127, 0, 0, 1}))
	}
	var to []netip.AddrPort
	for _, a := range peers {
		for i := range m.config.PeerIndices {
			if m.mine(a) && i == m.config.Index {
				continue
			}
			to = append(to, netip.AddrPortFrom(a, WellKnown(m.config.Domain, i).Meta))
		}
	}
	m.post(to)
	m.announcement()
}

// Farewell tells everybody that the participant is going.
func (m *Machine) Farewell(now time.Time) {
	if !m.announce.started {
		return
	}
	m.farewell()
	for _, l := range m.links {
		m.announceOn(l)
	}
	for _, r := range m.participants {
		m.post(r.metaWide)
		m.farewell()
	}
	m.b.Truncate(m.blank)
}

// farewell writes the message.
func (m *Machine) farewell() {
	guid := wire.GUID{Prefix: m.config.Prefix, Entity: wire.EntityParticipant}
	m.announce.seq++
	m.inline = wire.AppendInlineQoS(m.inline[:0], wire.InlineQoS{
		Status: wire.StatusDisposed | wire.StatusUnregistered, KeyHash: guid.Bytes(), HasKeyHash: true,
	})
	m.message(wire.PrefixUnknown).Data(&wire.Data{
		Writer: wire.EntitySPDPWriter, SN: m.announce.seq, Content: wire.KeyContent,
		InlineQoS: wire.ParameterList{Bytes: m.inline}, Payload: wire.AppendKey(nil, wire.PIDParticipantGUID, guid),
	})
	m.announce.seq++ // of what is announced after it
}

// source is an address that participants were announced from.
type source struct {
	participants int
	tokens       float64
	at           time.Time
}

// onSPDP takes an announcement or a farewell.
func (m *Machine) onSPDP(now time.Time, d *wire.Data, a *Arrival) {
	q, err := wire.ParseInlineQoS(d.InlineQoS)
	if err != nil {
		m.counters.Malformed++
		return
	}
	prefix := m.in.Source().Prefix
	if q.Status&(wire.StatusDisposed|wire.StatusUnregistered) != 0 {
		m.onFarewell(now, d, &q, prefix, a)
		return
	}
	if r := m.participants[prefix]; r != nil && bytes.Equal(r.raw, d.Payload) {
		if r.owns(a.From.Addr()) {
			r.touch(now, a.From)
			if a.Local.Addr().IsMulticast() {
				r.group = now
			}
		}
		return
	}
	data, err := wire.ParseParticipant(d.Payload)
	if err != nil || data.GUID.Prefix != prefix {
		m.counters.Malformed++
		m.complain("spdp", "a participant's announcement is not valid", "from", a.From, "error", err)
		return
	}
	if data.HasDomainID && data.DomainID != uint32(m.config.Domain) || data.DomainTag != "" {
		return
	}
	if r := m.participants[prefix]; r != nil {
		m.updateParticipant(now, r, &data, d.Payload, a)
		return
	}
	m.addParticipant(now, &data, d.Payload, a)
}

func (m *Machine) onFarewell(now time.Time, d *wire.Data, q *wire.InlineQoS, prefix wire.GuidPrefix, a *Arrival) {
	guid := wire.GUIDFrom(q.KeyHash)
	if d.Content != wire.NoContent {
		if g, err := wire.ParseKey(d.Payload, wire.PIDParticipantGUID); err == nil {
			guid = g
		}
	}
	if guid.Entity == wire.EntityUnknown && !q.HasKeyHash && d.Content == wire.NoContent {
		guid = wire.GUID{Prefix: prefix, Entity: wire.EntityParticipant}
	}
	r := m.participants[guid.Prefix]
	if r == nil {
		return
	}
	// A relay injects another's farewell in its own name only from this host.
	if guid.Prefix != prefix && !m.mine(a.From.Addr()) || !r.sent(a.From.Addr()) {
		m.counters.Forged++
		m.complain("forged", "the farewell of a participant comes from an address that is not its own: ignored", "participant", guid.Prefix, "from", a.From)
		return
	}
	m.removeParticipant(now, r, false)
}

func lease(d time.Duration) time.Duration { return min(max(d, leaseLeast), leaseMost) }

// fill takes over what an announcement says.
func (r *remote) fill(now time.Time, d *wire.ParticipantData, raw []byte, a *Arrival) {
	m := r.m
	r.builtin = d.Builtin
	r.meta = m.unicast(d.MetatrafficUnicast, a.Interface)
	r.user = m.unicast(d.DefaultUnicast, a.Interface)
	if len(r.user) == 0 {
		r.user = r.meta
	}
	r.raw = append(r.raw[:0], raw...)
	r.info = &ParticipantInfo{
		Prefix: d.GUID.Prefix, Vendor: m.in.Source().Vendor, Name: d.Name, UserData: d.UserData, Lease: lease(d.Lease),
	}
	r.local = m.mine(r.origin)
	r.heard = now
	if a.Local.Addr().IsMulticast() {
		r.group = now
	}
}

func (m *Machine) addParticipant(now time.Time, d *wire.ParticipantData, raw []byte, a *Arrival) {
	if !m.admit(now, a.From.Addr()) {
		m.counters.RefusedParticipants++
		m.complain("participants", "too many participants: the new ones are refused", "from", a.From)
		return
	}
	r := &remote{m: m, origin: a.From.Addr(), endpoints: make(map[wire.EntityID]*remoteEndpoint)}
	r.fill(now, d, raw, a)
	m.participants[d.GUID.Prefix] = r
	r.touch(now, a.From)
	r.route(now)
	r.describe()
	r.lease.fire = r.expire
	m.set(&r.lease, now.Add(min(r.info.Lease, leaseUnproven)))
	m.event(GraphEvent{Kind: ParticipantFound, Participant: r.info})
	// It learns of us at once, and so does what follows on the same way.
	r.greeting.fire = r.greet
	r.greet(now)
	m.matchProtocol(now, r)
}

// greet announces us to a newcomer, and again until it shows that it knows us: what it asks before that is lost.
func (r *remote) greet(now time.Time) {
	if r.proven || r.greeted >= greetings {
		return
	}
	r.m.announcement()
	r.m.post(r.metaWide)
	r.m.set(&r.greeting, now.Add(greetFirst<<r.greeted))
	r.greeted++
}

// refill adds what time has brought, and reports whether there is no more to add.
func (s *source) refill(now time.Time, l *Limits) bool {
	most := float64(8 * l.NewParticipants)
	s.tokens = min(most, s.tokens+now.Sub(s.at).Seconds()*float64(l.NewParticipants))
	s.at = now
	return s.tokens == most
}

// admit reports whether one more participant may be announced from an address.
func (m *Machine) admit(now time.Time, from netip.Addr) bool {
	l := &m.config.Limits
	s := m.sources[from]
	if s == nil {
		s = &source{tokens: float64(8 * l.NewParticipants), at: now}
	}
	s.refill(now, l)
	if s.tokens < 1 || s.participants >= l.PerSource || len(m.sources) >= max(maxSourceAddrs, 2*l.Participants) && m.sources[from] == nil {
		return false
	}
	if len(m.participants) >= l.Participants && !m.evict(now) {
		return false
	}
	s.tokens--
	s.participants++
	m.sources[from] = s
	return true
}

// evict makes room by the participant that never answered to us and has been silent for longest, if there is one.
func (m *Machine) evict(now time.Time) bool {
	var victim *remote
	for _, r := range m.participants {
		if !r.proven && now.Sub(r.heard) > time.Second && (victim == nil || r.heard.Before(victim.heard)) {
			victim = r
		}
	}
	if victim != nil {
		m.removeParticipant(now, victim, true)
	}
	return victim != nil
}

func (m *Machine) updateParticipant(now time.Time, r *remote, d *wire.ParticipantData, raw []byte, a *Arrival) {
	if !r.owns(a.From.Addr()) {
		// It may have moved, or somebody else wants its samples: who answers at its old place has not moved.
		switch {
		case r.challenged.IsZero() || r.heard.After(r.challenged) && now.Sub(r.challenged) > challengeAgain:
			r.challenged = now
			m.challenge(now, r)
			return
		case r.heard.After(r.challenged):
			m.counters.Forged++
			m.complain("moved", "the announcement of a participant changes and comes from an address that is not its own: ignored", "participant", r.info.Prefix, "from", a.From)
			return
		case now.Sub(r.challenged) < challengeTime:
			return
		}
		r.challenged = time.Time{}
		m.leaveSource(r)
		r.origin = a.From.Addr()
		m.joinSource(now, r)
	}
	before := r.builtin
	r.fill(now, d, raw, a)
	r.sources = nil
	r.touch(now, a.From)
	r.route(now)
	r.describe()
	for _, e := range r.endpoints {
		e.endpoint = e.endpoint.of(r.info)
		for _, p := range m.writerProxies[e.endpoint.GUID] {
			p.endpoint = e.endpoint
		}
		for _, w := range m.writers {
			if p := w.byGUID[e.endpoint.GUID]; p != nil {
				p.endpoint = e.endpoint
			}
		}
	}
	m.event(GraphEvent{Kind: ParticipantChanged, Participant: r.info})
	m.announcement()
	m.post(r.metaWide)
	if before != r.builtin {
		m.unmatchProtocol(r)
		m.matchProtocol(now, r)
	}
}

// challenge asks a participant for a sign of life, where it was so far.
func (m *Machine) challenge(now time.Time, r *remote) {
	if p := m.builtin.publications.byGUID[wire.GUID{Prefix: r.info.Prefix, Entity: wire.EntitySEDPPublicationsReader}]; p != nil {
		p.tell(now, false)
	}
}

func (m *Machine) leaveSource(r *remote) {
	if s := m.sources[r.origin]; s != nil {
		s.participants--
	}
}

func (m *Machine) joinSource(now time.Time, r *remote) {
	s := m.sources[r.origin]
	if s == nil {
		s = &source{tokens: float64(8 * m.config.Limits.NewParticipants), at: now}
		m.sources[r.origin] = s
	}
	s.participants++
}

// expire ends a participant that has not been heard for its lease.
func (r *remote) expire(now time.Time) {
	lease := r.info.Lease
	if !r.proven {
		lease = min(lease, leaseUnproven)
	}
	if end := r.heard.Add(lease); now.Before(end) {
		r.m.set(&r.lease, end)
		return
	}
	r.m.counters.Expired++
	r.m.removeParticipant(now, r, true)
}

func (m *Machine) removeParticipant(now time.Time, r *remote, expired bool) {
	m.stop(&r.lease)
	m.stop(&r.greeting)
	m.leaveSource(r)
	for _, e := range r.endpoints {
		m.removeEndpoint(e, expired)
	}
	m.unmatchProtocol(r)
	delete(m.participants, r.info.Prefix)
	m.event(GraphEvent{Kind: ParticipantLost, Participant: r.info, Expired: expired})
}

// assertEvery is how often liveliness is asserted.
func (m *Machine) assertEvery() time.Duration {
	every := min(m.config.Lease*2/5, 10*time.Second)
	for _, w := range m.writers {
		if d := w.config.QoS.LivelinessLease; d > 0 {
			every = min(every, max(d/3, 10*time.Millisecond))
		}
	}
	return every
}

// assert says that the participant and its writers are alive.
func (m *Machine) assert(now time.Time) {
	m.builtin.messages.assert(now)
	next := m.assertEvery()
	m.set(&m.announce.message, now.Add(min(next, math.MaxInt64)))
}
