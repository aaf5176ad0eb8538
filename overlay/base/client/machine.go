package client

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/base/wire"
	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/record"
	"github.com/hnet-robotics/hnet_bridge/overlay/underlay"
)

// Bounds of a machine.
const (
	maxServers   = 48
	maxInterests = 10_000
	maxWanted    = 1024
	warmBases    = 2
	linksMeasure = time.Minute
)

// machineConfig is what a machine needs; see Config.
type machineConfig struct {
	identity *identity.Identity
	random   io.Reader // never fails
	seed     rand.Source
	usable   func(netip.Addr) bool
	relay    func([]underlay.Message) (int, error) // given to the Relays
	wake     func()                                // given to the Relays
	lowData  bool
}

// actionKind is what a machine wants done.
type actionKind uint8

const (
	actSend    actionKind = iota + 1 // a UDP datagram: to, payload
	actFrame                         // a message over TCP: stream, payload
	actResolve                       // a name: base, host
	actDial                          // a TLS connection: dial, base, host, port, addrs
	actHangUp                        // dial, stream (nil while it is being dialled)
	actEvent                         // event
	actLog                           // a warning: base, text
)

// action is one thing that a machine wants done. The actions are to be done in order.
type action struct {
	kind    actionKind
	to      netip.AddrPort
	payload []byte // not to be changed
	base    netip.Addr
	host    string
	port    uint16
	addrs   []netip.Addr
	dial    uint64
	stream  conduit
	event   Event
	text    string
}

// machine is the client side of all Bases: what to send to whom, which Bases to register with, and which peers are reached through them. It has no
// sockets, goroutines or clock and is not safe for concurrent use; only what it shares with the Relays (ways, known) is. All times it is given must
// come from one steady clock. After each input tick is to be called, then the actions done.
type machine struct {
	cfg   machineConfig
	rand  *rand.Rand
	never time.Time
	out   []action
	ticks int // ever

	batches uint64 // of actions, ever

	bases         []*base // in order of the configuration
	conns         map[uint64]*base
	registrations map[uint32]*registration // by our index
	dials         uint64
	short         bool      // fewer Bases are registered than shall be
	linksAt       time.Time // links changed

	signed     []byte // own record; nil = none yet
	interests  []netip.Addr
	interested map[netip.Addr]struct{}
	wanted     map[netip.Addr]time.Time // until
	sweepAt    time.Time                // of wanted
	generation uint64                   // of interests and wanted
	peers      map[netip.Addr]*known

	ways  ways
	known endpoints // that Bases may answer from
}

// known is the newest contact record of a peer.
type known struct {
	signed []byte
	record record.Record
}

func newMachine(c machineConfig) *machine {
	return &machine{
		cfg: c, rand: rand.New(c.seed), never: time.Unix(1<<40, 0),
		conns: make(map[uint64]*base), registrations: make(map[uint32]*registration),
		interested: make(map[netip.Addr]struct{}), wanted: make(map[netip.Addr]time.Time), peers: make(map[netip.Addr]*known),
	}
}

func (m *machine) do(a action) { m.out = append(m.out, a) }

// actions returns what is to be done since the last call.
func (m *machine) actions() []action {
	out := m.out
	m.out = nil
	m.batches++
	return out
}

// jitter is d, 10 % more or less.
func (m *machine) jitter(d time.Duration) time.Duration {
	return d + time.Duration((m.rand.Float64()-0.5)*0.2*float64(d))
}

func (m *machine) newIndex() uint32 {
	for {
		var b [4]byte
		_, _ = io.ReadFull(m.cfg.random, b[:])
		n := binary.BigEndian.Uint32(b[:])
		if n != 0 && m.registrations[n] == nil && !slices.ContainsFunc(m.bases, func(b *base) bool {
			return b.udp != nil && b.udp.index == n || b.tcp != nil && b.tcp.index == n
		}) {
			return n
		}
	}
}

// reachable tells whether an endpoint may be one of a Base.
func (m *machine) reachable(e netip.AddrPort) bool {
	a := e.Addr()
	return a.IsValid() && e.Port() != 0 && !a.IsUnspecified() && !a.IsMulticast() && !identity.Prefix.Contains(a.WithZone("")) &&
		(m.cfg.usable == nil || m.cfg.usable(a))
}

// sane returns an endpoint that a Base names of a peer, none if no peer can be there.
func (m *machine) sane(e netip.AddrPort) netip.AddrPort {
	if record.CheckEndpoint(e) != nil || !m.reachable(e) {
		return netip.AddrPort{}
	}
	return e
}

func (m *machine) base(a netip.Addr) *base {
	for _, b := range m.bases {
		if b.server.Address == a {
			return b
		}
	}
	return nil
}

// setServers sets the known Bases. What stays keeps its registration.
func (m *machine) setServers(now time.Time, servers []Server) {
	var bases []*base
	for _, s := range servers {
		if identity.CheckAddress(s.Address) != nil || s.Address == m.cfg.identity.Address() ||
			slices.ContainsFunc(bases, func(b *base) bool { return b.server.Address == s.Address }) {
			continue
		}
		if len(bases) == maxServers {
			m.do(action{kind: actLog, base: s.Address, text: fmt.Sprintf("is not used: %d Bases are the most; remove some", maxServers)})
			break
		}
		b := m.base(s.Address)
		if b == nil {
			b = &base{m: m, complains: make(map[string]time.Time)}
		}
		b.order = len(bases)
		if moved := b.server.Host != s.Host || b.server.UDP != s.UDP || b.server.TCP != s.TCP; moved || !slices.Equal(b.server.Endpoints, s.Endpoints) {
			b.server = s
			b.server.Endpoints = slices.Clone(s.Endpoints[:min(len(s.Endpoints), maxEndpoints)])
			b.forgive()
			if moved {
				b.resolved, b.literal, b.stale, b.resolvable = nil, false, false, time.Time{}
				if a, err := netip.ParseAddr(s.Host); err == nil {
					b.literal, b.resolved = true, []netip.Addr{a.Unmap()}
				}
			}
		}
		bases = append(bases, b)
	}
	for _, b := range m.bases {
		if !slices.Contains(bases, b) {
			if b.cur != nil {
				b.release(now)
			}
			b.cancel()
		}
	}
	m.bases = bases
}

// setRecord sets the own record.
func (m *machine) setRecord(signed []byte) error {
	r, err := record.Parse(signed)
	if err != nil {
		return fmt.Errorf("own contact record: %w", err)
	}
	if r.Key != m.cfg.identity.SigningKey() {
		return fmt.Errorf("own contact record is signed by another key, that of %v", r.Address())
	}
	if !bytes.Equal(signed, m.signed) {
		m.signed = bytes.Clone(signed)
	}
	return nil
}

// setInterests sets all peers that are looked for.
func (m *machine) setInterests(peers []netip.Addr) {
	clear(m.interested)
	m.interests = m.interests[:0]
	for _, p := range peers {
		if _, twice := m.interested[p]; twice || !m.isPeer(p) || len(m.interests) == maxInterests {
			continue
		}
		m.interested[p] = struct{}{}
		m.interests = append(m.interests, p)
	}
	m.generation++
	m.forget()
}

func (m *machine) isPeer(p netip.Addr) bool {
	return identity.CheckAddress(p) == nil && p != m.cfg.identity.Address()
}

// forget drops the records of those who are looked for no more.
func (m *machine) forget() {
	for p := range m.peers {
		if _, ok := m.interested[p]; ok {
			continue
		}
		if _, ok := m.wanted[p]; !ok {
			delete(m.peers, p)
		}
	}
}

// want looks for a peer with all known Bases for a while, unless it is here already.
func (m *machine) want(now time.Time, p netip.Addr) {
	if !m.isPeer(p) {
		return
	}
	_, already := m.wanted[p]
	if !already {
		if len(m.wanted) == maxWanted {
			return
		}
		m.generation++
	}
	m.wanted[p] = now.Add(wantedFor)
	if m.sweepAt.IsZero() {
		m.sweepAt = now.Add(wantedFor)
	}
	here := false
	for _, b := range m.bases {
		if b.links(p) && !b.cur.doubtful(now) {
			here = true
		}
	}
	for _, b := range m.bases {
		if b.cur != nil {
			b.cur.channels.urge(p)
		}
		if !here {
			b.until = now.Add(wantedFor)
		}
	}
}

// sweep forgets who is not wanted any more.
func (m *machine) sweep(now time.Time) {
	if m.sweepAt.IsZero() || now.Before(m.sweepAt) {
		return
	}
	m.sweepAt = time.Time{}
	for p, until := range m.wanted {
		if !until.After(now) {
			delete(m.wanted, p)
			m.generation++
			continue
		}
		m.sweepAt = earliest(m.sweepAt, until)
	}
	m.forget()
}

// peersFor returns whom a registration shall ask for, the most urgent first and each once.
func (m *machine) peersFor(r *registration) []netip.Addr {
	out := make([]netip.Addr, 0, len(m.wanted)+len(m.interests))
	for p := range m.wanted {
		out = append(out, p)
	}
	slices.SortFunc(out, netip.Addr.Compare)
	if r.everybody {
		for _, p := range m.interests {
			if _, ok := m.wanted[p]; !ok {
				out = append(out, p)
			}
		}
		return out
	}
	// Who was asked for there once stays as long as the registration does: a relay may be in use.
	for i := range r.channels.slots {
		p := r.channels.slots[i].peer
		if _, ok := m.wanted[p]; ok {
			continue
		}
		if _, ok := m.interested[p]; ok {
			out = append(out, p)
		}
	}
	return out
}

// linksChanged tells that this host's addresses or routes are others.
func (m *machine) linksChanged(now time.Time) {
	for _, b := range m.bases {
		b.linksChanged(now)
	}
	m.linksAt = now
}

// suspect asks a Base whether it is there.
func (m *machine) suspect(now time.Time, a netip.Addr) {
	if b := m.base(a); b != nil && b.cur != nil && b.cur.ping.since.IsZero() && now.Sub(b.cur.ping.sent[0]) >= firstRetry {
		b.cur.askAgain(now)
	}
}

// filterTest asks a Base for a filter probe.
func (m *machine) filterTest(now time.Time, a netip.Addr, nonce [12]byte) error {
	b := m.base(a)
	if b == nil || b.cur == nil || b.cur.dial != 0 {
		return fmt.Errorf("no filter test by Base %v: it is not registered with over UDP", a)
	}
	b.cur.transmit(b.cur.s.Unsequenced(now, wire.KindFilterTest, wire.FilterTest{Nonce: nonce}.Append(nil)))
	return nil
}

// learn checks a signed record that a Base gave for a peer. It returns the sequence number of the newest one known, which may be another.
func (m *machine) learn(p netip.Addr, signed []byte) (sequence uint64, ok bool) {
	k := m.peers[p]
	if k != nil && bytes.Equal(signed, k.signed) {
		return k.record.Sequence, true
	}
	r, err := record.Parse(signed)
	if err != nil || r.Address() != p {
		return 0, false
	}
	if k != nil && r.Sequence <= k.record.Sequence {
		return k.record.Sequence, true
	}
	m.peers[p] = &known{signed: bytes.Clone(signed), record: r}
	return r.Sequence, true
}

// peerHere tells that there is a Relay to a peer.
func (m *machine) peerHere(r *registration, s *slot) {
	e := Event{Type: PeerHere, Base: r.b.server.Address, Peer: s.peer, Observed: s.observed, Relay: s.relay}
	if k := m.peers[s.peer]; k != nil {
		e.Signed, e.Record = k.signed, k.record
	}
	m.do(action{kind: actEvent, event: e})
}

// used tells that the Relays of a way sent or received since the last time.
func (m *machine) used(now time.Time, w *way, sent, heard bool) {
	if r := m.registrations[w.index]; r != nil && (sent || heard) {
		r.inUse(now, sent, heard)
	}
}

// datagram takes a datagram that came by UDP.
func (m *machine) datagram(now time.Time, b []byte, from netip.AddrPort) {
	switch wire.TypeOf(b) {
	case wire.TypeCookie:
		for _, base := range m.bases {
			if base.udp != nil && base.udp.cookie(now, b, from) {
				return
			}
		}
	case wire.TypeWelcome:
		if h, _, err := wire.ParseWelcome(b); err == nil {
			for _, base := range m.bases {
				if base.udp != nil && base.udp.index == h.Index {
					base.udp.welcome(now, b, from)
					return
				}
			}
		}
	case wire.TypeBaseControl:
		if h, _, err := wire.ParseControl(b); err == nil {
			if r := m.registrations[h.Index]; r != nil && r.dial == 0 {
				r.control(now, b, from)
			}
		}
	case wire.TypeUnknown:
		if u, err := wire.ParseUnknown(b); err == nil {
			for _, base := range m.bases {
				if r := base.cur; r != nil && r.dial == 0 && r.endpoint == from && r.welcome.Session == u.Session {
					base.unknown(now, u)
					return
				}
			}
		}
	case wire.TypeFilterProbe:
		if p, err := wire.ParseFilterProbe(b); err == nil {
			m.do(action{kind: actEvent, event: Event{Type: FilterProbe, Base: m.behind(from), Nonce: p.Nonce, From: from}})
		}
	}
}

// behind returns the registered Base at the address of an endpoint, none if there is none.
func (m *machine) behind(e netip.AddrPort) netip.Addr {
	for _, b := range m.bases {
		if b.cur != nil && b.cur.endpoint.Addr() == e.Addr() {
			return b.server.Address
		}
	}
	return netip.Addr{}
}

// connected takes the TLS connection that was dialled. ok is false if it is not wanted any more.
func (m *machine) connected(now time.Time, dial uint64, stream conduit, remote netip.AddrPort) (ok bool) {
	b := m.conns[dial]
	if b == nil || b.tcp == nil || b.tcp.dial != dial || b.tcp.stage != dialing {
		return false
	}
	b.tcp.stream, b.tcp.endpoint = stream, remote
	b.tcp.greet(now)
	return true
}

// frame takes a message that came over TCP.
func (m *machine) frame(now time.Time, dial uint64, payload []byte) {
	b := m.conns[dial]
	if b == nil {
		return
	}
	a := b.tcp
	switch t := wire.TypeOf(payload); {
	case t == wire.TypeCookie && a != nil && a.dial == dial:
		a.cookie(now, payload, a.endpoint)
	case t == wire.TypeWelcome && a != nil && a.dial == dial:
		a.welcome(now, payload, a.endpoint)
	case t == wire.TypeUnknown:
		if u, err := wire.ParseUnknown(payload); err == nil && b.cur != nil && b.cur.dial == dial && b.cur.welcome.Session == u.Session {
			b.unknown(now, u)
		}
	case t == wire.TypeBaseControl:
		for _, r := range []*registration{b.cur, b.old} {
			if r != nil && r.dial == dial {
				r.control(now, payload, r.endpoint)
			}
		}
	}
}

// complain tells of something about a connection that an operator should know.
func (m *machine) complain(now time.Time, dial uint64, text string) {
	if b := m.conns[dial]; b != nil {
		b.complain(now, text)
	}
}

// hungUp tells that a connection was not made, or ended.
func (m *machine) hungUp(now time.Time, dial uint64, why string) {
	b := m.conns[dial]
	if b == nil {
		return
	}
	switch {
	case b.tcp != nil && b.tcp.dial == dial:
		b.tcp.fail(now, why)
	case b.cur != nil && b.cur.dial == dial:
		b.lost(now, why, true)
	case b.old != nil && b.old.dial == dial:
		b.old.end(now, false)
		b.old = nil
	}
}

// resolved takes the addresses of a name.
func (m *machine) resolved(now time.Time, a netip.Addr, host string, addrs []netip.Addr, err error) {
	b := m.base(a)
	if b == nil {
		return
	}
	if b.server.Host != host {
		b.resolving = false
		return
	}
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	b.resolvedTo(now, addrs, err)
}

// tick does what is due.
func (m *machine) tick(now time.Time) {
	m.ticks++
	m.sweep(now)
	for _, b := range m.bases {
		b.tick(now)
	}
	m.plan(now)
	for _, b := range m.bases {
		b.start(now)
	}
}

// next is when tick is to be called again; the zero time if there is nothing to do.
func (m *machine) next(now time.Time) time.Time {
	t := m.sweepAt
	for _, b := range m.bases {
		t = earliest(t, b.next(now))
	}
	return t
}

// relays returns the live Relays to a peer, the best first.
func (m *machine) relays(now time.Time, p netip.Addr) []*Relay {
	type ranked struct {
		r    *Relay
		bad  int
		cost time.Duration

		leaving bool
	}
	var all []ranked
	for _, b := range m.bases {
		for _, reg := range []*registration{b.cur, b.old} {
			if reg == nil {
				continue
			}
			if r := reg.channels.relay(p); r != nil {
				x := ranked{r: r, cost: b.rtt, leaving: !b.leaveAt.IsZero()}
				if reg.doubtful(now) || x.leaving {
					x.bad += 2
				}
				if r.TCP() {
					x.bad++
				}
				all = append(all, x)
			}
		}
	}
	// A Base that is about to end carries nobody who can go elsewhere.
	staying := func(x ranked) bool { return !x.leaving && x.bad < 2 }
	if slices.ContainsFunc(all, staying) {
		all = slices.DeleteFunc(all, func(x ranked) bool { return x.leaving })
	}
	slices.SortStableFunc(all, func(x, y ranked) int { return cmp.Or(cmp.Compare(x.bad, y.bad), cmp.Compare(x.cost, y.cost)) })
	out := make([]*Relay, len(all))
	for i, x := range all {
		out[i] = x.r
	}
	return out
}

// earliest returns the first of some times; the zero time is none.
func earliest(times ...time.Time) (first time.Time) {
	for _, t := range times {
		if !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	return first
}

// later returns the later of two times.
func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
