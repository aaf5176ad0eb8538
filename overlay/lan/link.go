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

// Notices come at an interval in proportion to the number of hosts, so that all hosts of a link together cause the same
// traffic whatever their number, within bounds. It varies by a tenth either way, so that hosts do not march in step.
const (
	noticeShare    = 100 * time.Second // for each host
	minInterval    = 5 * time.Minute
	maxInterval    = 20 * time.Minute
	intervalSpread = 10 // a tenth

	// longest is the longest time between two announcements of a host; what follows is made to bear the loss of one.
	longest = maxInterval + maxInterval/intervalSpread
)

const (
	answerJitter      = 20 * time.Millisecond
	answersPerSecond  = 4
	answersBurst      = 4
	nonceLife         = time.Minute         // then the next announcement has a new one; the old one is accepted for as long again
	nonceMax          = longest + nonceLife // no nonce is accepted for longer
	voiceEchoed       = 2*longest + time.Minute
	voiceLife         = voiceEchoed + 5*time.Minute // a voice that was silent for longer is forgotten
	spokenLately      = 5 * time.Minute
	maxUnproven       = 128
	maxProven         = 256
	maxVoicesOfSource = 8
	maxIPv4Sources    = 4
	maxWanted         = 8
	echoTrip          = 50 * time.Millisecond // an echo and the answer to it, jitter included
	maxPatience       = 6
	retryDelay        = 250 * time.Millisecond
	burstEnd          = 30 * time.Second // the last of a burst, for those who lost the others
	burstSpread       = 3 * time.Second
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
	notice    time.Time   // when the next notice is due; zero if none
	spoke     time.Time   // the last announcement
	noticed   bool        // it was a notice
}

func newLink(now time.Time, i netwatch.Interface, random rand.Source) *link {
	return &link{
		index: i.Index, name: i.Name, voices: make(map[voiceID]*voice),
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

// named returns those endpoints of r that have an address of this link.
func (l *link) named(r *record.Record) []netip.AddrPort {
	var on []netip.AddrPort
	for _, p := range l.prefixes {
		if e, ok := endpointOf(r, p.Addr()); ok {
			on = append(on, e)
		}
	}
	return on
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
		case e.nonce == l.current.nonce && now.Sub(l.current.born) <= nonceMax:
			return proof{true, l.current.born, e.proven}
		case e.nonce == l.previous.nonce && now.Sub(l.previous.retired) <= nonceLife:
			p = proof{true, l.previous.born, e.proven}
		}
	}
	return p
}

// burst asks for a few announcements at once and a late one, against loss.
func (l *link) burst(now time.Time, random rand.Source) {
	l.wanted = l.wanted[:0]
	for _, d := range burst {
		l.wanted = append(l.wanted, now.Add(d))
	}
	l.wanted = append(l.wanted, now.Add(burstEnd-burstSpread+duration(random, 2*burstSpread)))
}

// want asks for one announcement at a time.
func (l *link) want(at time.Time) {
	if len(l.wanted) < maxWanted {
		l.wanted = append(l.wanted, at)
	}
}

// due returns when the next announcement is to be sent, the rate limit included; the zero time if there is none to send.
func (l *link) due() time.Time {
	if len(l.sources) == 0 {
		return time.Time{}
	}
	at := earlier(l.notice, l.answer)
	for _, t := range l.wanted {
		at = earlier(at, t)
	}
	if ready := l.announces.ready(); !at.IsZero() && at.Before(ready) {
		at = ready
	}
	return at
}

// earlier returns the earlier of two times; zero is never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// interval returns the time to the next notice.
func (l *link) interval(random rand.Source) time.Duration {
	hosts := 1
	for _, v := range l.voices {
		if v.proven {
			hosts++
		}
	}
	d := min(max(time.Duration(hosts)*noticeShare, minInterval), maxInterval)
	return d - d/intervalSpread + duration(random, 2*d/intervalSpread)
}

// announce spends a token and fills in what this link says now: nonce and echoes. It is a notice if nothing else is due.
// With idle, notices are not sent of their own accord.
func (l *link) announce(now time.Time, idle bool, random rand.Source) (a announcement) {
	l.announces.take(now)
	asked := len(l.wanted)
	l.wanted = slices.DeleteFunc(l.wanted, func(t time.Time) bool { return !t.After(now) })
	a.notice = asked == len(l.wanted) && l.answer.IsZero()
	l.spoke, l.noticed = now, a.notice
	l.answer, l.notice = time.Time{}, time.Time{}
	if !idle {
		l.notice = now.Add(l.interval(random))
	}
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

// demands reports whether v is to be echoed as soon as possible after its announcement a that proves p. Whoever has not
// proved itself must hear us to do so; whoever lacks our proof must hear us again, once; so must a known one that would have
// echoed us if it remembered us. But if it was echoed a moment ago, its answer may still be under way, and waits for its turn
// among those of all voices here; each echo in vain doubles the patience.
func (l *link) demands(now time.Time, v *voice, a *announcement, p proof) bool {
	if a.notice || v.wanted || p.mutual || !p.fresh && v.proven && (a.number < v.number || l.remembered(now, a)) {
		return false
	}
	turn := echoTrip + time.Duration(len(l.voices))*time.Second/(answersPerSecond*MaxEchoes)
	return v.tries == 0 || now.Sub(v.echoed) >= turn<<min(v.tries-1, maxPatience)
}

// remembered reports whether who announces a without an echo of us may know us nevertheless: it had no room for more
// echoes, and we spoke a moment ago.
func (l *link) remembered(now time.Time, a *announcement) bool {
	return a.count == MaxEchoes && !l.spoke.IsZero() && now.Sub(l.spoke) < spokenLately
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
