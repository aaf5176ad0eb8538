package machine

import (
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

const (
	// maxResends is how many samples and parts of samples that a reader asked for may wait to be sent.
	maxResends = 512
	// leastSuppression bounds what a reader makes its writer do that asks without end.
	leastSuppression = 2 * time.Millisecond
	// maxArrived is how many samples of one acknowledgement are looked at: as many as a reader's socket may hold.
	maxArrived = 256
)

// resend is a sample, or fragments of it, to be sent again.
type resend struct {
	seq       wire.SequenceNumber
	next      uint32 // fragment, from 0
	fragments wire.FragmentNumberSet
	some      bool // only those in fragments
}

// onAckNack takes what the reader has and lacks.
func (p *readerProxy) onAckNack(now time.Time, a *wire.AckNack) {
	if !p.reliable || !p.acks.take(now, a.Count) {
		return
	}
	h := &p.w.history
	p.silent = 0
	if !p.asked.IsZero() {
		if d := now.Sub(p.asked); p.rtt == 0 || d < p.rtt {
			p.rtt = d
		} else {
			p.rtt += (min(d, time.Second) - p.rtt) / 8
		}
		p.asked = time.Time{}
	}
	if base := min(a.Set.Base, p.next); base > p.acked {
		if p.pace.pacing != nil {
			p.arrived(base)
		}
		p.acked = base
		p.owing = now
		p.stalled = false
		p.w.forget()
		p.w.progress()
	}
	if p.acked >= p.next {
		p.owing = time.Time{}
	}
	p.interval = min(p.interval, p.patience())
	wanted := p.want(now, &a.Set)
	if p.unmet {
		// An unasked one, with which a reader only introduces itself, is empty at 1 and not final.
		if p.unmet = !a.Final && a.Set.Base == 1 && a.Set.NumBits == 0; p.unmet {
			if now.Sub(p.toldAt) >= leastSuppression {
				p.toldAt = now
				p.tell(now, false)
			}
		} else {
			p.push(now)
		}
		return
	}
	if len(p.resends) > 0 {
		p.push(now)
		return
	}
	if p.next <= h.last {
		p.push(now) // there is room again
	}
	if !a.Final && !wanted && now.Sub(p.toldAt) >= leastSuppression {
		p.toldAt = now
		p.tell(now, p.acked >= p.next)
	}
}

// arrived makes room in the pace for what the reader has from now on.
func (p *readerProxy) arrived(base wire.SequenceNumber) {
	n, limit, large := 0, p.limit(), false
	for seq := max(p.acked, base-maxArrived); seq < base; seq++ {
		if c := p.w.history.get(seq); c != nil {
			n += len(c.payload)
			large = large || len(c.payload) > limit
		}
	}
	p.pace.arrived(n, large)
}

// want notes what a reader asks for, tells it at once what it will not get, and reports whether it asked for anything
// that is not on its way already.
func (p *readerProxy) want(now time.Time, set *wire.SequenceNumberSet) (wanted bool) {
	m := p.w.m
	calm := now.Sub(p.resentAt) >= p.suppression()
	if calm {
		p.resent = wire.NewSequenceNumberSet(max(set.Base, 1))
	}
	var gone wire.SequenceNumberSet // of the first number and these
	for seq := range set.All() {
		if seq >= p.next {
			break
		}
		wanted = true
		c, _, ok := p.sample(now, seq)
		if !ok || seq < p.from {
			if p.resent.Contains(seq) {
				continue
			}
			p.resent.Add(seq)
			p.resentAt = now
			if gone.Base == 0 {
				gone.Base = seq + 1
			} else {
				gone.Add(seq)
			}
			continue
		}
		if p.resent.Contains(seq) || len(p.resends) >= maxResends {
			continue
		}
		p.resent.Add(seq)
		p.resentAt = now
		if len(c.payload) > p.limit() && p.pace.pacing != nil {
			p.pace.lost(now)
		}
		p.resends = append(p.resends, resend{seq: seq})
	}
	if gone.Base > 0 {
		b := m.message(p.remote.info.Prefix)
		b.Gap(&wire.Gap{Reader: p.guid().Entity, Writer: p.w.guid.Entity, Start: gone.Base - 1, Set: gone})
		m.post(p.to())
	}
	return wanted
}

// onNackFrag takes which fragments the reader lacks.
func (p *readerProxy) onNackFrag(now time.Time, n *wire.NackFrag) {
	if !p.reliable || !p.nacks.take(now, n.Count) || p.pace.pacing == nil {
		return
	}
	p.silent = 0
	if n.SN > p.next || n.SN == p.next && p.frag == 0 || n.SN < p.from {
		return
	}
	if n.Set == p.lastParts && n.SN == p.lastPartsOf && now.Sub(p.partsAt) < p.suppression() {
		return // it crossed the answer
	}
	for i := range p.resends {
		if r := &p.resends[i]; r.seq == n.SN && (!r.some || r.fragments == n.Set) {
			return // it is on its way
		}
	}
	if len(p.resends) >= maxResends {
		return
	}
	p.lastParts, p.lastPartsOf, p.partsAt = n.Set, n.SN, now
	p.pace.lost(now)
	p.resends = append(p.resends, resend{seq: n.SN, fragments: n.Set, some: true})
	p.push(now)
}

// suppression is for how long a repeated request is taken for one that crossed the answer.
func (p *readerProxy) suppression() time.Duration {
	return min(max(p.rtt*3/4, leastSuppression), 500*time.Millisecond)
}

// again sends what was asked for, and reports whether all of that is out now.
func (p *readerProxy) again(now time.Time, b *wire.Builder, left *int) bool {
	if len(p.resends) == 0 {
		return false
	}
	m := p.w.m
	for len(p.resends) > 0 {
		if *left <= 0 {
			return false
		}
		r := &p.resends[0]
		if !p.repeat(now, b, r, left) {
			return false
		}
		m.counters.Resent++
		p.resends = p.resends[1:]
	}
	p.resends = nil
	return true
}

// repeat sends one sample or fragments of it again, and reports whether that is complete.
func (p *readerProxy) repeat(now time.Time, b *wire.Builder, r *resend, left *int) bool {
	c, payload, ok := p.sample(now, r.seq)
	if !ok {
		p.gap(b, gapRange{r.seq, r.seq})
		return true
	}
	inline := p.header(c)
	if p.whole(b, c, payload, inline, left) {
		return true
	}
	size := p.fragment()
	count := uint32((len(payload) + size - 1) / size)
	for ; r.next < count; r.next++ {
		if r.some && !r.fragments.Contains(wire.FragmentNumber(r.next+1)) {
			continue
		}
		if *left <= 0 {
			return false
		}
		p.part(b, c, payload, inline, r.next, size, left)
	}
	return true
}
