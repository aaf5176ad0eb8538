package machine

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

const (
	// nackDelay leaves time to what was overtaken on its way.
	nackDelay = time.Millisecond
	// answersMost is how many heartbeats are answered within nackDelay: a flood of them is answered once in a while.
	answersMost = 32
	// quietDelay is how long fragments of a sample must have paused before the rest is asked for.
	quietDelay = 5 * time.Millisecond
	// nackAgain is when to ask again for what was asked for, should the writer have fallen silent; then longer and longer.
	nackAgain     = 500 * time.Millisecond
	nackAgainMost = 5 * time.Second
	// knockFirst is when to ask again for the first heartbeat, and knocks how often, longer and longer.
	knockFirst = 50 * time.Millisecond
	knocks     = 8
	// unbegun is how long samples wait for the first heartbeat.
	unbegun = time.Second

	maxDescription = 1 << 16

	maxAhead   = 1 << 13 // numbers between the first missing one and one that is held
	maxHeld    = 1 << 12 // samples held
	maxGapRuns = 256
)

// writerProxy is a remote writer as a reader sees it.
type writerProxy struct {
	r        *Reader
	remote   *remote
	endpoint *Endpoint
	own      *remoteEndpoint
	reliable bool

	known bool                // where to begin
	next  wire.SequenceNumber // all below were delivered or will never come
	held  map[wire.SequenceNumber]*Sample
	keys  map[wire.SequenceNumber]wire.GUID // of builtin samples held
	bytes int                               // of held
	gaps  []gapRange                        // beyond next that will never come, in order
	since time.Time                         // first sample held while not known

	beats     counter // heartbeats
	first     wire.SequenceNumber
	last      wire.SequenceNumber
	fragBeats counter
	fragOf    wire.SequenceNumber
	fragLast  wire.FragmentNumber

	answer     timer
	answeredAt time.Time // beginning of the millisecond in which
	answers    int       // so many were given at once
	must       bool      // answer even if nothing is missing
	again      time.Duration
	begin      timer
	knocked    int
	ackCount   uint32
	nackCount  uint32

	parts      map[wire.SequenceNumber]*assembly
	assembling int // bytes
	fragAt     time.Time
}

func (p *writerProxy) guid() wire.GUID { return p.endpoint.GUID }

// to is where the writer is reached.
func (p *writerProxy) to() []netip.AddrPort {
	if p.r.builtin {
		return p.remote.metaTo(p.knocked > 2)
	}
	return p.own.to(p.knocked > 2)
}

// longest is how many bytes a sample may have. Nobody describes an endpoint in more than one datagram.
func (p *writerProxy) longest() int {
	if p.r.builtin {
		return min(maxDescription, p.r.m.config.MaxSample)
	}
	return p.r.m.config.MaxSample
}

// knock asks for a first heartbeat, from which the reader learns where to begin.
func (p *writerProxy) knock(now time.Time) {
	if p.known {
		return
	}
	if !p.since.IsZero() && now.Sub(p.since) >= unbegun {
		// The writer does not say. What is here must do.
		p.start(now, slices.Min(slices.Collect(maps.Keys(p.held))))
		return
	}
	wait := knockFirst << min(p.knocked, knocks)
	if p.knocked < knocks {
		m := p.r.m
		b := m.message(p.remote.info.Prefix)
		p.ackCount++
		// Fast DDS answers base 0 at once, and base 1 with its next heartbeat, after 3 s.
		base := wire.SequenceNumber(1)
		if p.remote.info.Vendor == wire.VendorFastDDS {
			base = 0
		}
		b.AckNack(&wire.AckNack{
			Reader: p.r.guid.Entity, Writer: p.guid().Entity, Set: wire.NewSequenceNumberSet(base), Count: p.ackCount,
		})
		m.counters.AckNacks++
		m.post(p.to())
		p.knocked++
	} else if p.since.IsZero() {
		return // it has nothing to say; when it has, it will
	}
	if !p.since.IsZero() {
		wait = min(wait, max(p.since.Add(unbegun).Sub(now), time.Millisecond))
	}
	p.r.m.set(&p.begin, now.Add(wait))
}

// start fixes the number to begin with.
func (p *writerProxy) start(now time.Time, seq wire.SequenceNumber) {
	p.known = true
	p.knocked = 0
	p.r.m.stop(&p.begin)
	p.lost(now, seq, false)
	p.advance(now)
}

// lost gives up what is below seq.
func (p *writerProxy) lost(now time.Time, seq wire.SequenceNumber, count bool) {
	if seq <= p.next {
		return
	}
	if len(p.held) > 0 {
		// What is there is delivered all the same, in order.
		for _, s := range slices.Sorted(maps.Keys(p.held)) {
			if s >= seq {
				break
			}
			if count && s > p.next {
				p.r.m.counters.Lost += uint64(s - p.next)
			}
			p.next = s
			p.advance(now)
		}
	}
	if seq > p.next {
		if count {
			p.r.m.counters.Lost += uint64(min(seq-p.next, 1<<20))
		}
		p.next = seq
		p.discard()
	}
	p.advance(now)
}

// discard drops incomplete samples that are no longer wanted.
func (p *writerProxy) discard() {
	for seq := range p.parts {
		if seq < p.next {
			p.dropPart(seq)
		}
	}
}

// advance delivers what is next.
func (p *writerProxy) advance(now time.Time) {
	for {
		if s := p.held[p.next]; s != nil {
			key := p.keys[p.next]
			p.unhold(p.next)
			p.next++
			p.give(now, *s, key)
			continue
		}
		if len(p.gaps) > 0 && p.gaps[0].from <= p.next {
			if p.gaps[0].to >= p.next {
				p.next = p.gaps[0].to + 1
				p.discard()
			}
			p.gaps = p.gaps[1:]
			continue
		}
		return
	}
}

func (p *writerProxy) give(now time.Time, s Sample, key wire.GUID) {
	if p.r.intake != nil {
		p.r.intake(now, p, s, key)
	} else {
		p.r.m.deliver(p.r, s)
	}
}

func (p *writerProxy) hold(s Sample, key wire.GUID) bool {
	m, n := p.r.m, len(s.Payload)+64
	if p.known && s.Sequence-p.next >= maxAhead || len(p.held) >= maxHeld || p.bytes+n > m.config.Limits.Held || m.held+n > m.config.Limits.HeldAll {
		m.counters.RefusedHeld++
		return false
	}
	if p.held == nil {
		p.held = make(map[wire.SequenceNumber]*Sample)
	}
	kept := s // only what waits costs memory of its own
	p.held[s.Sequence] = &kept
	if key != (wire.GUID{}) {
		if p.keys == nil {
			p.keys = make(map[wire.SequenceNumber]wire.GUID)
		}
		p.keys[s.Sequence] = key
	}
	p.bytes += n
	m.held += n
	return true
}

func (p *writerProxy) unhold(seq wire.SequenceNumber) {
	if s := p.held[seq]; s != nil {
		n := len(s.Payload) + 64
		p.bytes -= n
		p.r.m.held -= n
		delete(p.held, seq)
		delete(p.keys, seq)
	}
}

// drop forgets all that waits.
func (p *writerProxy) drop() {
	for seq := range p.held {
		p.unhold(seq)
	}
	for seq := range p.parts {
		p.dropPart(seq)
	}
}

// wants reports whether a sample of this number is still of use.
func (p *writerProxy) wants(seq wire.SequenceNumber) bool {
	if seq < p.next || p.held[seq] != nil || p.gone(seq) {
		p.r.m.counters.Duplicates++
		return false
	}
	return true
}

func (p *writerProxy) gone(seq wire.SequenceNumber) bool {
	for _, g := range p.gaps {
		if seq >= g.from && seq <= g.to {
			return true
		}
	}
	return false
}

// accept takes a complete sample, whose payload is the proxy's now.
func (p *writerProxy) accept(now time.Time, s Sample, key wire.GUID) {
	switch {
	case !p.reliable:
		p.next = s.Sequence + 1
		p.discard()
		p.give(now, s, key)
	case !p.known:
		if p.hold(s, key) && p.since.IsZero() {
			p.since = now
			p.knocked = min(p.knocked, knocks-1)
			p.r.m.sooner(&p.begin, now.Add(knockFirst))
		}
	case s.Sequence == p.next:
		p.next++
		p.give(now, s, key)
		p.advance(now)
	default:
		p.hold(s, key)
	}
}

// onHeartbeat takes what the writer has.
func (p *writerProxy) onHeartbeat(now time.Time, h *wire.Heartbeat) {
	if !p.reliable || !p.beats.take(now, h.Count) {
		return
	}
	p.first, p.last = h.First, h.Last
	if !p.known {
		p.start(now, p.beginning(h))
	} else {
		p.lost(now, h.First, true)
	}
	p.again = 0
	missing := p.next <= p.last
	switch {
	case !missing && h.Final:
	case !missing:
		p.must = true
		if now.Sub(p.answeredAt) >= nackDelay {
			p.answeredAt, p.answers = now, 0
		}
		if p.answers++; p.answers > answersMost {
			p.r.m.sooner(&p.answer, p.answeredAt.Add(nackDelay))
			return
		}
		p.respond(now)
	default:
		p.must = p.must || !h.Final
		p.r.m.sooner(&p.answer, now.Add(nackDelay))
	}
}

// beginning is where to begin with a writer. What was before does not concern a volatile reader; but which that is, only
// the writer knows, and those that tell it by the heartbeat's first number or by gaps are believed.
func (p *writerProxy) beginning(h *wire.Heartbeat) wire.SequenceNumber {
	if p.r.config.QoS.Durability >= TransientLocal || p.endpoint.QoS.Durability < TransientLocal {
		return h.First
	}
	if v := p.remote.info.Vendor; v == Vendor || v == wire.VendorFastDDS {
		return h.First
	}
	begin := h.Last + 1
	for seq := range p.held {
		begin = min(begin, max(seq, h.First)) // sent to us, so meant for us
	}
	return begin
}

// onGap takes what will never come.
func (p *writerProxy) onGap(now time.Time, g *wire.Gap) {
	if !p.reliable {
		return
	}
	p.gap(g.Start, g.Set.Base-1)
	run := gapRange{}
	for seq := range g.Set.All() {
		if run.from != 0 && seq == run.to+1 {
			run.to = seq
			continue
		}
		if run.from != 0 {
			p.gap(run.from, run.to)
		}
		run = gapRange{seq, seq}
	}
	if run.from != 0 {
		p.gap(run.from, run.to)
	}
	if p.known {
		p.advance(now)
	}
}

// gap notes a run, in order, joined with those it touches.
func (p *writerProxy) gap(from, to wire.SequenceNumber) {
	from = max(from, p.next)
	if to < from {
		return
	}
	for i := 0; i < len(p.gaps); {
		g := p.gaps[i]
		if from <= g.to+1 && g.from <= to+1 {
			from, to = min(from, g.from), max(to, g.to)
			p.gaps = slices.Delete(p.gaps, i, i+1)
			continue
		}
		if g.from > to {
			break
		}
		i++
	}
	if len(p.gaps) >= maxGapRuns {
		return // it will be told again
	}
	i, _ := slices.BinarySearchFunc(p.gaps, from, func(g gapRange, from wire.SequenceNumber) int { return int(g.from - from) })
	p.gaps = slices.Insert(p.gaps, i, gapRange{from, to})
}

// respond acknowledges, and asks for what is missing.
func (p *writerProxy) respond(now time.Time) {
	if !p.known {
		return
	}
	m := p.r.m
	p.expire(now)
	set := wire.NewSequenceNumberSet(p.next)
	partial := false
	for seq := p.next; seq <= p.last && seq-p.next < wire.MaxSetBits; seq++ {
		switch {
		case p.held[seq] != nil || p.gone(seq):
		case p.parts[seq] != nil:
			partial = true
		default:
			set.Add(seq)
		}
	}
	if partial && now.Sub(p.fragAt) < quietDelay {
		// Fragments are still coming in.
		m.set(&p.answer, p.fragAt.Add(quietDelay))
		return
	}
	if set.Len() == 0 && !partial && !p.must {
		return
	}
	b := m.message(p.remote.info.Prefix)
	p.ackCount++
	// Nothing is asked for with the final flag off but a heartbeat, which the writer sends as long as something is missing.
	b.AckNack(&wire.AckNack{
		Reader: p.r.guid.Entity, Writer: p.guid().Entity, Set: set, Count: p.ackCount, Final: true,
	})
	m.counters.AckNacks++
	if partial {
		p.askParts(b)
	}
	m.post(p.to())
	p.must = false
	if set.Len() > 0 || partial {
		p.again = min(max(2*p.again, nackAgain), nackAgainMost)
		m.set(&p.answer, now.Add(p.again))
	}
}
