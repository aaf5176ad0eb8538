package lan

import (
	"bytes"
	"cmp"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/netwatch"
	"github.com/hnet-robotics/hnet_bridge/overlay/record"
)

const (
	announceInterval  = 30 * time.Second
	announceSpread    = 3 * time.Second // the interval varies by this much either way, so that hosts do not march in step
	answerJitter      = 20 * time.Millisecond
	answersPerSecond  = 4
	answersBurst      = 4
	nonceLife         = 60 * time.Second  // then a new one is made; the old one is accepted for as long again
	voiceEchoed       = 120 * time.Second // a voice that was silent for longer is not echoed
	voiceLife         = 150 * time.Second // a voice that was silent for longer is forgotten
	maxUnproven       = 128
	maxProven         = 256
	maxVoicesOfSource = 8
	maxIPv4Sources    = 4
	maxWanted         = 8
	echoTrip          = 50 * time.Millisecond // an echo and the answer to it, jitter included
	maxPatience       = 6
	retryDelay        = 250 * time.Millisecond
)

var burst = []time.Duration{0, 150 * time.Millisecond, 500 * time.Millisecond}

// challenge is a nonce of ours and when it was made: whoever echoes it signed later than that.
type challenge struct {
	nonce   nonce
	born    time.Time
	retired time.Time
}

// voiceID names one run of one peer's daemon.
type voiceID struct {
	key      identity.SigningKey
	instance [8]byte
}

// voice is a run of a peer's daemon as it is heard on one link.
type voice struct {
	id        voiceID
	nonce     nonce
	number    uint32
	datagram  [32]byte // SHA-256 of the last verified announcement
	recordSum [32]byte // SHA-256 of the encoded record
	record    record.Record
	source    netip.Addr
	heard     time.Time
	echoed    time.Time
	wanted    bool // to be echoed as soon as possible
	tries     int  // echoes on demand since it last showed that it heard one
	proven    bool // it has echoed us
}

// link is one interface: our challenges on it, whom we hear on it, and when to announce next. Nonces differ from link to
// link, so what was said on one proves nothing on another.
type link struct {
	index     int
	name      string
	prefixes  []netip.Prefix // IPv4 and IPv6 link-local
	sources   []netip.Addr   // to announce from
	current   challenge
	previous  challenge
	voices    map[voiceID]*voice
	announces limit
	wanted    []time.Time // announcements asked for: bursts and retries
	answer    time.Time   // when an answer is due; zero if none
	periodic  time.Time
}

func newLink(now time.Time, i netwatch.Interface, random rand.Source) *link {
	return &link{
		index: i.Index, name: i.Name, voices: make(map[voiceID]*voice), periodic: now,
		announces: perSecond(answersPerSecond, answersBurst),
		current:   challenge{nonce: newNonce(random), born: now},
	}
}

// usable reports whether an interface is a LAN; excluded is the name of the overlay device.
func usable(i netwatch.Interface, excluded string) bool {
	return i.Up && i.Multicast && !i.Loopback && !i.PointToPoint && i.Name != excluded &&
		!slices.ContainsFunc(i.Addrs, func(p netip.Prefix) bool { return identity.Prefix.Contains(p.Addr()) })
}

// onLink returns those of an interface's addresses that matter here, in a fixed order.
func onLink(addrs []netip.Prefix) []netip.Prefix {
	var on []netip.Prefix
	for _, p := range addrs {
		p = netip.PrefixFrom(p.Addr().Unmap().WithZone(""), p.Bits())
		if p.Addr().Is4() && !p.Addr().IsLoopback() || p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() {
			on = append(on, p)
		}
	}
	slices.SortFunc(on, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	return slices.Compact(on)
}

// accepts reports whether a datagram from addr can come from a neighbour on this link.
func (l *link) accepts(addr netip.Addr) bool {
	if addr.Is6() {
		return addr.IsLinkLocalUnicast()
	}
	return slices.ContainsFunc(l.prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// choose picks the addresses to announce from: those that the own record names, because nobody heeds an announcement from
// another; one for IPv6, for IPv4 one of each subnet.
func (l *link) choose(own *record.Record) {
	l.sources = nil
	var subnets []netip.Prefix
	six := false
	for _, p := range l.prefixes {
		if _, named := endpointOf(own, p.Addr()); !named {
			continue
		}
		switch {
		case p.Addr().Is6() && !six:
			six = true
			l.sources = append(l.sources, p.Addr())
		case p.Addr().Is4() && len(subnets) < maxIPv4Sources && !slices.Contains(subnets, p.Masked()):
			subnets = append(subnets, p.Masked())
			l.sources = append(l.sources, p.Addr())
		}
	}
}

// endpointOf returns the first endpoint with that address that r names.
func endpointOf(r *record.Record, addr netip.Addr) (netip.AddrPort, bool) {
	for _, e := range r.Endpoints {
		if e.Addr() == addr {
			return e, true
		}
	}
	return netip.AddrPort{}, false
}

// proof is what the echoes of an announcement prove if its signature holds.
type proof struct {
	fresh  bool      // it echoes our nonce, so it was signed after that was made
	born   time.Time // when it was made
	mutual bool      // fresh, and the announcer knows itself echoed by us
}

// proof looks for our nonces among the echoes of a.
func (l *link) proof(now time.Time, a *announcement) (p proof) {
	for _, e := range a.echoes[:a.count] {
		switch {
		case e.nonce == l.current.nonce:
			return proof{true, l.current.born, e.proven}
		case e.nonce == l.previous.nonce && now.Sub(l.previous.retired) <= nonceLife:
			p = proof{true, l.previous.born, e.proven}
		}
	}
	return p
}

// burst asks for a few announcements at once, against loss.
func (l *link) burst(now time.Time) {
	l.wanted = l.wanted[:0]
	for _, d := range burst {
		l.wanted = append(l.wanted, now.Add(d))
	}
}

// want asks for one announcement at a time.
func (l *link) want(at time.Time) {
	if len(l.wanted) < maxWanted {
		l.wanted = append(l.wanted, at)
	}
}

// due returns when the next announcement is to be sent, the rate limit included; it makes sense only with sources.
func (l *link) due() time.Time {
	at := l.periodic
	for _, t := range l.wanted {
		at = earlier(at, t)
	}
	if !l.answer.IsZero() {
		at = earlier(at, l.answer)
	}
	if ready := l.announces.ready(); at.Before(ready) {
		at = ready
	}
	return at
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// announce spends a token and fills in what this link says now: nonce and echoes.
func (l *link) announce(now time.Time, random rand.Source) (a announcement) {
	l.announces.take(now)
	l.wanted = slices.DeleteFunc(l.wanted, func(t time.Time) bool { return !t.After(now) })
	l.answer = time.Time{}
	l.periodic = now.Add(announceInterval - announceSpread + duration(random, 2*announceSpread))
	if now.Sub(l.current.born) >= nonceLife {
		l.renew(now, random)
	}
	a.nonce = l.current.nonce
	for i, v := range l.toEcho(now) {
		if i == MaxEchoes {
			if v.wanted {
				l.answer = now
			}
			break
		}
		a.echoes[i] = echo{v.nonce, v.proven}
		a.count++
		if v.wanted {
			v.tries++
		}
		v.echoed, v.wanted = now, false
	}
	return a
}

// demands reports whether v is to be echoed as soon as possible after an announcement that proves p. Whoever has not
// proved itself must hear us to do so; whoever lacks our proof must hear us again, once. But if it was echoed a moment ago, its
// answer may still be under way, and waits for its turn among those of all voices here; each echo in vain doubles the patience.
func (l *link) demands(now time.Time, v *voice, p proof) bool {
	if v.wanted || p.mutual || !p.fresh && v.proven {
		return false
	}
	turn := echoTrip + time.Duration(len(l.voices))*time.Second/(answersPerSecond*MaxEchoes)
	return v.tries == 0 || now.Sub(v.echoed) >= turn<<min(v.tries-1, maxPatience)
}

// renew makes a new nonce and retires the current one.
func (l *link) renew(now time.Time, random rand.Source) {
	l.previous = l.current
	l.previous.retired = now
	l.current = challenge{nonce: newNonce(random), born: now}
}

// toEcho forgets the voices that fell silent and returns the others, the most urgent first: those that wait for an echo,
// then those echoed longest ago.
func (l *link) toEcho(now time.Time) []*voice {
	var vs []*voice
	for id, v := range l.voices {
		switch silent := now.Sub(v.heard); {
		case silent > voiceLife:
			delete(l.voices, id)
		case silent <= voiceEchoed:
			vs = append(vs, v)
		}
	}
	slices.SortFunc(vs, func(a, b *voice) int {
		if a.wanted != b.wanted {
			if a.wanted {
				return -1
			}
			return 1
		}
		since := a.echoed.Compare(b.echoed)
		if a.wanted {
			since = a.heard.Compare(b.heard)
		}
		return cmp.Or(since, bytes.Compare(a.id.instance[:], b.id.instance[:]))
	})
	return vs
}

// trim evicts who was silent longest, if there are too many voices of v's source or of v's class. Proven voices are a class
// of their own, so that a flood of unproven ones cannot displace them.
func (l *link) trim(v *voice) {
	l.evict(maxVoicesOfSource, func(o *voice) bool { return o.source == v.source })
	most := maxUnproven
	if v.proven {
		most = maxProven
	}
	l.evict(most, func(o *voice) bool { return o.proven == v.proven })
}

func (l *link) evict(most int, among func(*voice) bool) {
	if len(l.voices) <= most {
		return
	}
	var oldest *voice
	n := 0
	for _, v := range l.voices {
		if !among(v) {
			continue
		}
		if n++; oldest == nil || v.heard.Before(oldest.heard) {
			oldest = v
		}
	}
	if n > most {
		delete(l.voices, oldest.id)
	}
}
