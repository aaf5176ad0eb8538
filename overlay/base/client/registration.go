package client

import (
	"bytes"
	"encoding/binary"
	"io"
	"net/netip"
	"slices"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/base/session"
	"github.com/hnet-robotics/hnet_bridge/overlay/base/wire"
)

// Times of a registration.
const (
	keepalive       = 25 * time.Second
	keepaliveLow    = 55 * time.Second
	lostAfter       = 4 * time.Second // without an answer to a ping
	doubtAfter      = 1500 * time.Millisecond
	pingTries       = 5 // at 0, 0.25, 0.75, 1.75 and 3.75 s
	maxDatagrams    = 64
	silentInUse     = time.Second // a relay that is used and brings nothing back for so long has its Base asked
	unknownWithin   = 250 * time.Millisecond
	linksWithin     = 300 * time.Millisecond
	unknownInterval = 5 * time.Second
	carryWithin     = 5 * time.Second // a Relay carried over from the last registration must be confirmed
	maxCarried      = 8 * wire.MaxLinks
)

// registration is what a Base keeps for us, by one session.
type registration struct {
	b        *base
	dial     uint64 // the TCP connection; 0 = UDP
	stream   conduit
	endpoint netip.AddrPort
	s        *session.Session
	welcome  wire.WelcomePayload
	way      *way
	since    time.Time
	observed netip.AddrPort
	hops     byte

	channels   channels
	everybody  bool      // all interests are told, not only the peers wanted now; stays so
	generation uint64    // of the machine's interests when last reconciled
	signed     []byte    // own record told
	carrying   bool      // the Relays of the last registration are to be carried over
	begun      uint64    // batch of actions that the interests are part of
	carried    time.Time // when those must be confirmed

	// The last ping and its answer.
	ping struct {
		due   time.Time // the next regular one
		since time.Time // the first one that is not answered; zero = none
		next  time.Time // ask again
		tries int
		id    uint32
		sent  [pingTries]time.Time
	}
	renewAt   time.Time // register anew if the ping is not answered by then; zero = no
	forgotten bool      // the Base says that it does not know the session
	denied    time.Time // it said so last
	sent      uint64    // control datagrams
	used      time.Time // a relay was used last
	heard     time.Time // anything came by a relay last
	ended     bool
}

func newRegistration(now time.Time, a *attempt, s *session.Session, w wire.WelcomePayload) *registration {
	b := a.b
	r := &registration{
		b: b, dial: a.dial, stream: a.stream, endpoint: a.endpoint, s: s, welcome: w, since: now, heard: now,
		observed: w.Observed, hops: w.Hops, signed: a.signed,
		channels: newChannels(min(int(w.MaxInterests), maxInterests)),
		way: &way{
			base: b.server.Address, index: a.index, session: w.Session, token: w.Token, endpoint: a.endpoint, stream: a.stream,
			send: b.m.cfg.relay, wake: b.m.cfg.wake,
		},
	}
	r.way.pace.init(now, w.RelayRate)
	r.way.rtt.Store(int64(b.rtt))
	r.schedulePing(now)
	return r
}

// begin tells the Base whom we look for, or at least that we got its welcome.
func (r *registration) begin(now time.Time, old *registration) {
	r.everybody = r.b.target
	r.reconcile(now)
	if old != nil && !old.forgotten {
		for i := range old.channels.slots {
			if s := &old.channels.slots[i]; s.relay != nil {
				r.channels.urge(s.peer)
			}
		}
	}
	r.refill(now)
	if r.s.Queued() == 0 {
		r.askAgain(now)
	}
	r.flush(now)
	// Once these actions are done: then what was told is on its way.
	r.begun = r.b.m.batches
	r.carrying = old != nil && !old.forgotten && old.linked()
}

// known tells whether the Base has answered what begin told it, and so has put this registration in force.
func (r *registration) known() bool { return r.s.Queued() == 0 && r.ping.since.IsZero() }

// carry puts a Relay of this registration in place of each of the old one: the Base reads our interests before what is relayed behind them, so that
// not a datagram need be lost until it confirms.
func (r *registration) carry(now time.Time, old *registration) {
	r.carried = now.Add(carryWithin)
	n := 0
	for i := range old.channels.slots {
		was := &old.channels.slots[i]
		if was.relay == nil || n == maxCarried {
			continue
		}
		if s := r.channels.slot(r.channels.of[was.peer]); s != nil && s.told {
			n++
			r.link(s, r.channels.of[was.peer])
			s.observed = was.observed
			r.b.m.peerHere(r, s)
		}
	}
}

// link makes the Relay of a slot.
func (r *registration) link(s *slot, channel uint32) {
	s.relay = &Relay{way: r.way, peer: s.peer, channel: channel}
	r.way.set(channel, s.relay)
	if old := r.b.old; old != nil && old != r {
		old.unlinkPeer(s.peer)
	}
}

// unlink withdraws the Relay of a slot.
func (r *registration) unlink(s *slot) {
	if s.relay == nil {
		return
	}
	s.relay.withdrawn.Store(true)
	r.way.set(s.relay.channel, nil)
	s.relay = nil
}

func (r *registration) unlinkPeer(p netip.Addr) {
	if n, ok := r.channels.of[p]; ok {
		r.unlink(&r.channels.slots[n])
	}
}

// end withdraws all Relays and forgets the registration. Unless it has a successor, the peers are told gone.
func (r *registration) end(now time.Time, bye bool) {
	if r.ended {
		return
	}
	r.ended = true
	m := r.b.m
	for i := range r.channels.slots {
		s := &r.channels.slots[i]
		if s.relay == nil {
			continue
		}
		peer := s.peer
		r.unlink(s)
		if !r.b.links(peer) {
			m.do(action{kind: actEvent, event: Event{Type: PeerGone, Base: r.b.server.Address, Peer: peer}})
		}
	}
	if bye {
		r.transmit(r.s.Unsequenced(now, wire.KindClose, wire.Close{}.Append(nil)))
	}
	if r.dial != 0 {
		delete(m.conns, r.dial)
		m.do(action{kind: actHangUp, dial: r.dial, stream: r.stream})
	}
	delete(m.registrations, r.way.index)
	m.ways.remove(r.way)
}

// transmit sends a message to the Base; nil is none.
func (r *registration) transmit(b []byte) {
	if b != nil {
		r.sent++
	}
	switch {
	case b == nil:
	case r.dial != 0:
		r.b.m.do(action{kind: actFrame, stream: r.stream, payload: b})
	default:
		r.b.m.do(action{kind: actSend, to: r.endpoint, payload: b})
	}
}

// said tells whether a datagram that this registration sent a moment ago began, behind the session's number, with these 8 bytes.
func (r *registration) said(echo [8]byte) bool {
	if binary.BigEndian.Uint32(echo[:]) == r.welcome.Token {
		return true
	}
	counter := binary.BigEndian.Uint64(echo[:])
	return counter < r.sent && r.sent-counter <= 64
}

// linked tells whether there is any Relay.
func (r *registration) linked() bool {
	return slices.ContainsFunc(r.channels.slots, func(s slot) bool { return s.relay != nil })
}

// flush sends what the session has to send.
func (r *registration) flush(now time.Time) {
	for range maxDatagrams {
		b := r.s.Poll(now)
		if b == nil {
			return
		}
		r.transmit(b)
	}
}

// refill queues what the Base does not know yet, as far as there is room.
func (r *registration) refill(now time.Time) {
	queue := func(kind wire.Kind, body []byte) bool { return r.s.Queue(kind, body) == nil }
	if m := r.b.m; !bytes.Equal(r.signed, m.signed) && queue(wire.KindRecord, wire.Record{Signed: m.signed}.Append(nil)) {
		r.signed = m.signed
	}
	r.channels.tell(queue)
}

// reconcile makes the interests of the machine those of the registration.
func (r *registration) reconcile(now time.Time) {
	m := r.b.m
	r.generation = m.generation
	for _, s := range r.channels.reconcile(m.peersFor(r)) {
		if s.relay != nil {
			peer := s.peer
			r.unlink(&s)
			m.do(action{kind: actEvent, event: Event{Type: PeerGone, Base: r.b.server.Address, Peer: peer}})
		}
	}
	if over := r.channels.over; over > 0 && r.everybody {
		r.b.complain(now, "takes fewer interests than there are peers: use a Base with a higher limit; the rest is looked for only when wanted")
	}
}

// control takes a control datagram for this session.
func (r *registration) control(now time.Time, b []byte, from netip.AddrPort) {
	if r.dial == 0 && from != r.endpoint {
		return
	}
	_, err := r.s.Receive(now, b, func(kind wire.Kind, body []byte) { r.message(now, kind, body) })
	if err != nil || r.ended {
		return
	}
	if r.dial != 0 {
		r.alive(now) // the connection itself is authentic
	}
	r.refill(now)
	r.flush(now)
}

// message takes one message of the Base. What is not well formed is dropped: it harms nobody but the Base's own service.
func (r *registration) message(now time.Time, kind wire.Kind, body []byte) {
	if r.ended {
		return
	}
	switch kind {
	case wire.KindPing:
		if p, err := wire.ParsePing(body); err == nil {
			r.transmit(r.s.Unsequenced(now, wire.KindPong, wire.Pong{Opaque: p.Opaque, Hops: wire.HopsUnknown}.Append(nil)))
		}
	case wire.KindPong:
		if p, err := wire.ParsePong(body); err == nil {
			r.pong(now, p)
		}
	case wire.KindPeer:
		if p, err := wire.ParsePeer(body); err == nil {
			r.peer(p)
		}
	case wire.KindDrain:
		if d, err := wire.ParseDrain(body); err == nil {
			r.b.drain(now, time.Duration(d.Seconds)*time.Second)
		}
	case wire.KindClose:
		if r.b.cur == r {
			r.b.lost(now, "the Base ended the session", false)
		} else {
			r.end(now, false)
		}
	}
}

// peer takes news of a peer.
func (r *registration) peer(p wire.Peer) {
	m := r.b.m
	s := r.channels.slot(p.Channel)
	if s == nil || !s.told {
		return
	}
	if !p.Here {
		if s.relay != nil {
			r.unlink(s)
			m.do(action{kind: actEvent, event: Event{Type: PeerGone, Base: r.b.server.Address, Peer: s.peer}})
		}
		return
	}
	sequence, ok := m.learn(s.peer, p.Signed)
	if !ok || sequence < s.sequence {
		return
	}
	observed := m.sane(p.Observed)
	confirmed := s.sequence == 0
	if s.relay != nil && !confirmed && s.observed == observed && s.sequence == sequence {
		return
	}
	s.observed, s.sequence = observed, sequence
	if s.relay == nil {
		r.link(s, p.Channel)
	}
	m.peerHere(r, s)
}

// pong takes the answer to a ping.
func (r *registration) pong(now time.Time, p wire.Pong) {
	id, try := binary.BigEndian.Uint32(p.Opaque[:]), binary.BigEndian.Uint32(p.Opaque[4:])
	if id != r.ping.id || r.ping.since.IsZero() || int64(try) >= int64(r.ping.tries) {
		return
	}
	rtt := now.Sub(r.ping.sent[try])
	r.b.measure(rtt)
	r.alive(now)
	m := r.b.m
	if observed := p.Observed; observed.IsValid() && (observed != r.observed || p.Hops != r.hops) {
		r.observed, r.hops = observed, p.Hops
		m.do(action{kind: actEvent, event: r.event(ObservedChanged)})
	}
}

func (r *registration) event(t EventType) Event {
	transport := UDP
	if r.dial != 0 {
		transport = TCP
	}
	return Event{
		Type: t, Base: r.b.server.Address, Transport: transport, Endpoint: r.endpoint, Observed: r.observed, Hops: r.hops,
		AlternatePort: r.welcome.AlternatePort, RTT: r.b.rtt,
	}
}

// alive notes that the Base has answered.
func (r *registration) alive(now time.Time) {
	if r.ping.since.IsZero() {
		return
	}
	r.ping.since, r.ping.next, r.renewAt = time.Time{}, time.Time{}, time.Time{}
	r.forgotten = false
	r.schedulePing(now)
	if r.b.cur == r {
		r.b.renewed()
	}
}

// schedulePing sets the next regular ping.
func (r *registration) schedulePing(now time.Time) {
	interval := keepalive
	if r.b.m.cfg.lowData {
		interval = keepaliveLow
	}
	// The Base forgets who is silent for Keep, and a ping may need its tries.
	if k := r.welcome.Keep; k > 0 {
		interval = min(interval, max(k/2-lostAfter, time.Second))
	}
	r.ping.due = now.Add(r.b.m.jitter(interval))
}

// verify asks at once whether the registration stands. If the answer does not come in time it is made anew beside it.
func (r *registration) verify(now time.Time, within time.Duration) {
	r.askAgain(now)
	if at := now.Add(max(within, r.b.rtt*3/2)); r.renewAt.IsZero() || at.Before(r.renewAt) {
		r.renewAt = at
	}
}

// askAgain sends a ping now, and begins the tries anew.
func (r *registration) askAgain(now time.Time) {
	if r.ping.since.IsZero() {
		r.ping.since = now
	}
	r.ping.tries = 0
	var id [4]byte
	_, _ = io.ReadFull(r.b.m.cfg.random, id[:])
	r.ping.id = binary.BigEndian.Uint32(id[:])
	r.sendPing(now)
}

func (r *registration) sendPing(now time.Time) {
	p := &r.ping
	var ping wire.Ping
	binary.BigEndian.PutUint32(ping.Opaque[:], p.id)
	binary.BigEndian.PutUint32(ping.Opaque[4:], uint32(p.tries))
	p.sent[p.tries] = now
	p.next = now.Add(max(firstRetry, r.b.rtt*3/2) << p.tries)
	p.tries++
	if r.dial != 0 {
		p.next = now.Add(lostAfter) // TCP itself sends again
	}
	r.transmit(r.s.Unsequenced(now, wire.KindPing, ping.Append(nil)))
}

// doubtful tells whether the Base leaves a ping unanswered for suspiciously long.
func (r *registration) doubtful(now time.Time) bool {
	return !r.ping.since.IsZero() && now.Sub(r.ping.since) >= doubtAfter
}

// inUse notes that relays were used: sent by us, or heard.
func (r *registration) inUse(now time.Time, sent, heard bool) {
	r.used = now
	if heard {
		r.heard = now
	}
	if sent && now.Sub(r.heard) >= silentInUse && r.ping.since.IsZero() && now.Sub(r.ping.sent[0]) >= silentInUse {
		r.askAgain(now)
	}
}

// tick does what is due.
func (r *registration) tick(now time.Time) {
	p := &r.ping
	if r.carrying && r.b.cur == r && r.b.m.batches > r.begun {
		if r.carrying = false; r.b.old != nil {
			r.carry(now, r.b.old)
		}
	}
	switch {
	case !p.since.IsZero() && now.Sub(p.since) >= lostAfter, r.s.Dead(now):
		if r.b.cur == r {
			r.b.lost(now, "the Base stopped answering", true)
		} else {
			r.end(now, false)
		}
		return
	case p.since.IsZero() && !now.Before(p.due):
		r.askAgain(now)
	case !p.since.IsZero() && p.tries < pingTries && !now.Before(p.next):
		r.sendPing(now)
	}
	if r.dial == 0 && r.b.cur == r && r.doubtful(now) {
		r.b.renew(now)
	}
	if !r.renewAt.IsZero() && !now.Before(r.renewAt) {
		r.renewAt = time.Time{}
		if r.b.cur == r {
			r.b.renew(now)
		}
	}
	if !r.carried.IsZero() && !now.Before(r.carried) {
		r.carried = time.Time{}
		for i := range r.channels.slots {
			if s := &r.channels.slots[i]; s.relay != nil && s.sequence == 0 {
				r.unlink(s)
				r.b.m.do(action{kind: actEvent, event: Event{Type: PeerGone, Base: r.b.server.Address, Peer: s.peer}})
			}
		}
	}
	if m := r.b.m; r.b.cur == r && (r.generation != m.generation || r.b.target && !r.everybody) {
		r.everybody = r.everybody || r.b.target
		r.reconcile(now)
	}
	if r.b.cur == r {
		r.refill(now)
	}
	r.flush(now)
}

// next is when tick has something to do.
func (r *registration) next() time.Time {
	if r.carrying {
		return r.since
	}
	t := earliest(r.s.Next(), r.renewAt, r.carried)
	if p := &r.ping; p.since.IsZero() {
		t = earliest(t, p.due)
	} else {
		t = earliest(t, p.since.Add(lostAfter))
		if p.tries < pingTries {
			t = earliest(t, p.next)
		}
		if at := p.since.Add(doubtAfter); !r.b.doubted {
			t = earliest(t, at)
		}
	}
	return t
}
