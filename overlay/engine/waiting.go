package engine

import (
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/wireguard"
)

// lost counts packets that waited in vain.
func (e *Engine) lost(packets int) { e.stats.LaneOverflow.Add(uint64(packets)) }

// holdBack tells the lanes what the path takes at the moment. The peer's lock is held.
func (p *peer) holdBack(now time.Time) {
	rate, limited := 0.0, false
	if c := p.path.controller(); c != nil {
		rate, limited = c.Rate()
	}
	p.lanes.Limit(now, rate, limited)
}

// passes reports whether a superpacket may go past the lanes, which are empty: a slow path takes it in smaller pieces. The peer's lock is held.
func (p *peer) passes(now time.Time, bytes int) bool {
	if p.path.controller() == nil {
		return true
	}
	p.holdBack(now)
	return bytes <= p.lanes.Piece()
}

// wait puts a superpacket into its lane. The peer's lock is held.
func (e *Engine) wait(p *peer, now time.Time, t Treatment, superpacket []byte) {
	p.holdBack(now)
	e.lost(p.lanes.Push(now, t, superpacket, &e.waiting))
}

// flushLanes sends what waits for the peer, in the order of the lanes, until nothing is left or the path refuses.
func (e *Engine) flushLanes(now time.Time, p *peer, out *outbound) (sent bool, todo wireguard.Todo) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.flushing {
		// Who sends may have been refused already, and this be the moment at which that one wanted to go on. There must be another.
		p.resume = now.Add(refusedAtLeast)
		e.timers.arm(p, p.next())
		return false, 0
	}
	p.flushing = true
	defer func() {
		p.flushing = false
		p.settled.Broadcast()
	}()
	if p.path.controller() != nil {
		now = time.Now() // what is sent late was not in a queue on the way
	}
	e.lost(p.lanes.Expire(now, &e.waiting))
	p.holdBack(now)
	for p.machine != nil {
		item, dropped, ok := p.lanes.Front(now, &e.waiting)
		e.lost(dropped)
		if !ok {
			break
		}
		s := out.nextPassage()
		todo |= p.admit(e, now, len(item.Superpacket), item.Redundant, s)
		if s.k == nil {
			e.timers.arm(p, p.next())
			break
		}
		p.lanes.Take(&e.waiting)
		p.mu.Unlock()
		out.seal(p, s, item.Superpacket)
		p.mu.Lock()
		sent = true
	}
	if sent {
		// What comes from the device now must not overtake what is sealed but not sent.
		p.mu.Unlock()
		out.flush()
		p.mu.Lock()
	}
	return sent, todo
}
