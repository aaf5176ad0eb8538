package client

import (
	"net/netip"
	"slices"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/base/wire"
)

// Times of a Base's life.
const (
	measureEvery   = time.Hour
	measureLow     = 6 * time.Hour
	slowAfter      = 2500 * time.Millisecond // another is tried beside one that takes so long to register
	retireAfter    = 3 * time.Second
	flapWithin     = time.Minute
	usedFor        = 120 * time.Second
	wantedFor      = 60 * time.Second
	drainGrace     = 5 * time.Second
	renewInterval  = time.Second
	complainAgain  = 10 * time.Minute
	tcpHandicap    = 100 * time.Millisecond
	stickyHandicap = 5 * time.Millisecond
)

// base is the life of one Base: where it is, how far, and the registration there.
type base struct {
	m      *machine
	server Server
	order  int // in the configuration

	// Where it is.
	literal    bool // Host is no name
	resolved   []netip.Addr
	resolving  bool
	resolvable time.Time // not looked up before
	stale      bool      // to be looked up again
	dnsFails   int
	good       netip.AddrPort // the UDP endpoint that answered last

	// How far.
	rtt       time.Duration
	byTCP     bool      // it last answered over TCP
	measureAt time.Time // zero = at once
	failures  int       // in a row
	failedAt  time.Time
	factor    float64 // of the backoff
	flaps     int     // registrations in a row that were lost soon
	err       string
	complains map[string]time.Time

	// What is wanted of it.
	target    bool      // it is one of the nearest
	warm      bool      // it was, and is registered
	keep      bool      // it shall be registered
	until     time.Time // a peer is looked for there
	notBefore time.Time // it drains, or is lost again and again
	leaveAt   time.Time // it drains, and is left then if others are registered; zero = it does not
	doubted   bool      // the last plan did without it

	// What is there, and under way.
	cur, old  *registration
	retireAt  time.Time // of old
	udp, tcp  *attempt
	round     time.Time // the try to register began; zero = none
	udpTried  bool      // in this round
	tcpTried  bool
	preferTCP bool        // UDP is known not to work: no waiting for it
	forgets   []time.Time // when the Base forgot this node lately
	renewing  bool        // there is a registration, and it is made anew
	renewedAt time.Time
	udpAgain  time.Time // while on TCP
}

// answered notes how long the Base took to answer a hello.
func (b *base) answered(now time.Time, rtt time.Duration, tcp bool, from netip.AddrPort) {
	if b.failures > 0 || b.rtt == 0 {
		b.rtt = rtt
	} else {
		b.measure(rtt)
	}
	b.failures = 0
	b.byTCP, b.err = tcp, ""
	if !tcp {
		b.good, b.preferTCP = from, false
	}
	every := measureEvery
	if b.m.cfg.lowData {
		every = measureLow
	}
	b.measureAt = now.Add(b.m.jitter(every))
}

// measure takes a round-trip time.
func (b *base) measure(rtt time.Duration) {
	if b.rtt == 0 {
		b.rtt = rtt
	} else {
		b.rtt += (rtt - b.rtt) / 4
	}
	if b.cur != nil {
		b.cur.way.rtt.Store(int64(b.rtt))
	}
}

// takes tells whether an attempt that got its cookie shall go on to register.
func (b *base) takes(now time.Time, a *attempt) bool {
	b.m.plan(now)
	return b.keep && b.m.signed != nil && (b.cur == nil || b.renewing || b.cur.dial != 0 && a.dial == 0)
}

// adopt makes a new registration the one in force.
func (b *base) adopt(now time.Time, r *registration) {
	m := b.m
	if r.dial == 0 {
		b.udp = nil
		if b.tcp != nil {
			b.tcp.done()
		}
	} else {
		b.tcp = nil
	}
	b.retire(now)
	b.old, b.retireAt = b.cur, now.Add(retireAfter)
	b.cur = r
	m.registrations[r.way.index] = r
	m.ways.add(r.way)
	if b.old != nil {
		r.used = b.old.used
	}
	b.round, b.renewing, b.failures, b.err = time.Time{}, false, 0, ""
	b.preferTCP = r.dial != 0
	b.udpAgain = now.Add(b.udpRetry())
	m.do(action{kind: actEvent, event: r.event(Registered)})
	m.plan(now)
	r.begin(now, b.old)
	if b.retirable() {
		b.retire(now)
	}
}

// retirable tells whether the registration whose place another has taken serves nothing any more. A connection does until the Base knows the new
// registration: were it to end before, the Base would tell the peers that we are gone, and they would lose their Relays.
func (b *base) retirable() bool {
	return b.old != nil && !b.old.linked() && (b.old.dial == 0 || b.cur.known())
}

// retire ends the registration whose place another has taken.
func (b *base) retire(now time.Time) {
	if b.old != nil {
		b.old.end(now, false)
		b.old = nil
	}
}

// links tells whether the registration in force has a Relay to a peer.
func (b *base) links(p netip.Addr) bool {
	return b.cur != nil && !b.cur.ended && b.cur.channels.relay(p) != nil
}

// lost ends the registration in force; failed says that the Base is to be taken for dead.
func (b *base) lost(now time.Time, why string, failed bool) {
	r := b.cur
	b.cur, b.warm, b.renewing, b.round = nil, false, false, time.Time{}
	b.retire(now)
	r.end(now, false)
	b.err = why
	b.m.do(action{kind: actEvent, event: Event{Type: Lost, Base: b.server.Address}})
	b.preferTCP = r.dial != 0
	if now.Sub(r.since) < flapWithin {
		b.flaps++
	} else {
		b.flaps = 0
	}
	if b.flaps > 1 {
		// Two with one identity, say, take the registration from each other.
		b.notBefore = later(b.notBefore, now.Add(b.m.jitter(min(backoffFirst<<min(b.flaps-1, 6), backoffMax))))
	}
	if failed {
		b.fails(now)
	}
	if !b.leaveAt.IsZero() {
		// It drained, and has ended now: the next one may be there at once.
		b.leaveAt, b.notBefore = time.Time{}, now.Add(b.m.jitter(backoffFirst))
	}
	b.cancel()
}

// cancel ends what is under way.
func (b *base) cancel() {
	if b.udp != nil {
		b.udp.done()
	}
	if b.tcp != nil {
		b.tcp.done()
	}
}

// release leaves a Base that is not needed.
func (b *base) release(now time.Time) {
	r := b.cur
	b.cur, b.warm, b.renewing, b.round = nil, false, false, time.Time{}
	b.retire(now)
	r.end(now, true)
	b.leaveAt = time.Time{}
	b.m.do(action{kind: actEvent, event: Event{Type: Lost, Base: b.server.Address}})
	b.cancel()
}

// drain prepares for the Base to end.
func (b *base) drain(now time.Time, in time.Duration) {
	if !b.leaveAt.IsZero() {
		return
	}
	b.leaveAt = now.Add(min(in/2, drainGrace))
	b.notBefore = now.Add(in + b.m.jitter(backoffFirst))
	b.err = "the Base is about to end"
	// Whoever has another way takes it now, while what is on its way by this one still arrives.
	if b.cur != nil {
		for i := range b.cur.channels.slots {
			if s := &b.cur.channels.slots[i]; s.relay != nil {
				b.m.do(action{kind: actEvent, event: Event{Type: PeerGone, Base: b.server.Address, Peer: s.peer}})
			}
		}
	}
}

// renew registers anew beside the registration in force.
func (b *base) renew(now time.Time) {
	if b.renewing || b.cur == nil || now.Sub(b.renewedAt) < renewInterval {
		return
	}
	b.renewing, b.renewedAt, b.round = true, now, time.Time{}
}

// renewed notes that the registration in force stands after all.
func (b *base) renewed() {
	if b.renewing {
		b.renewing, b.round = false, time.Time{}
		b.cancel()
	}
}

// unknown takes the Base's word that it does not know the session of a datagram.
func (b *base) unknown(now time.Time, u wire.Unknown) {
	r := b.cur
	if now.Sub(r.denied) < unknownInterval && !r.denied.IsZero() {
		return
	}
	r.denied = now
	r.verify(now, unknownWithin)
	if r.said(u.Echo) {
		r.forgotten = true
		b.forgot(now)
		b.renew(now)
	}
}

// A Base that is started again forgets its clients once; one that forgets this node so many times in so short a while has another with its identity.
const (
	forgetsMany = 4
	forgetsIn   = 10 * time.Minute
)

// forgot counts how often the Base forgot this node.
func (b *base) forgot(now time.Time) {
	b.forgets = slices.DeleteFunc(b.forgets, func(at time.Time) bool { return now.Sub(at) > forgetsIn })
	b.forgets = append(b.forgets, now)
	if len(b.forgets) < forgetsMany {
		return
	}
	b.forgets = nil
	b.complain(now, "it was told of another host with this identity, again and again: probably a copied disk image")
	b.m.do(action{kind: actEvent, event: Event{Type: IdentityInUse, Base: b.server.Address}})
}

// linksChanged reacts to a change of this host's addresses or routes.
func (b *base) linksChanged(now time.Time) {
	b.failures, b.flaps, b.preferTCP = 0, 0, false
	b.stale, b.resolvable, b.dnsFails = true, now, 0
	if b.cur == nil || b.renewing {
		// What was sent from the old address is answered there.
		b.cancel()
		b.round = time.Time{}
	}
	if r := b.cur; r != nil {
		b.udpAgain = now
		r.verify(now, linksWithin)
		return
	}
	if b.measureAt.IsZero() || now.Sub(b.m.linksAt) >= linksMeasure {
		b.measureAt = time.Time{}
	}
}

// tick does what is due, but for starting anything: the plan comes between.
func (b *base) tick(now time.Time) {
	b.resolve(now)
	for _, a := range []*attempt{b.udp, b.tcp} {
		if a != nil && (a == b.udp || a == b.tcp) {
			a.tick(now)
		}
	}
	if b.cur != nil {
		b.cur.tick(now)
	}
	if b.old != nil {
		if b.old.tick(now); b.old.ended || !now.Before(b.retireAt) || b.retirable() {
			b.retire(now)
		}
	}
}

// measureDue tells whether it is time to see how far the Base is.
func (b *base) measureDue(now time.Time) bool {
	if b.failures > 0 {
		return !now.Before(b.retryAt())
	}
	return !now.Before(b.measureAt) && !now.Before(b.notBefore)
}

// next is when tick or start have something to do.
func (b *base) next(now time.Time) time.Time {
	var t time.Time
	if !b.literal && b.server.Host != "" && !b.resolving && (len(b.resolved) == 0 || b.stale) {
		t = earliest(t, later(b.resolvable, now))
	}
	for _, a := range []*attempt{b.udp, b.tcp} {
		if a != nil {
			t = earliest(t, a.next)
		}
	}
	if b.old != nil {
		t = earliest(t, b.retireAt, b.old.next())
	}
	if b.cur != nil {
		t = earliest(t, b.cur.next())
		if b.cur.dial != 0 && b.udp == nil && b.byUDP() {
			t = earliest(t, b.udpAgain)
		}
		if b.keep && !b.target {
			t = earliest(t, b.ahead(now, b.until), b.ahead(now, b.cur.used.Add(usedFor)))
		}
		t = earliest(t, b.ahead(now, b.leaveAt))
	} else {
		switch {
		case !b.round.IsZero():
			t = earliest(t, b.ahead(now, b.round.Add(slowAfter)))
		case b.keep && b.m.signed != nil:
			t = earliest(t, later(b.retryAt(), now))
		case b.failures > 0:
			t = earliest(t, b.ahead(now, b.retryAt())) // it may be a target again
		}
		t = earliest(t, b.ahead(now, b.until), b.ahead(now, b.notBefore))
		if b.round.IsZero() && b.udp == nil && b.byUDP() {
			if b.failures > 0 {
				t = earliest(t, b.retryAt())
			} else {
				t = earliest(t, later(later(b.measureAt, b.notBefore), now))
			}
		}
	}
	if !b.round.IsZero() && !b.tcpTried && b.server.TCP != 0 {
		t = earliest(t, b.tcpAt(now))
	}
	return t
}

// ahead returns t if it is after now, the zero time if not: nothing is to be done about it.
func (b *base) ahead(now, t time.Time) time.Time {
	if t.After(now) {
		return t
	}
	return time.Time{}
}
