package engine

import (
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/pace"
	"github.com/hnet-robotics/hnet_bridge/overlay/path"
	"github.com/hnet-robotics/hnet_bridge/overlay/wireguard"
)

// pacing is how much one path takes, and what its other end is told of that. It belongs to its peer's lock, and goes some time
// after the peer fell idle.
type pacing struct {
	controller *pace.Controller // of what goes out; nil until the peer told what arrived: who is never told of congestion is never held back
	receiver   pace.Receiver    // of what comes in
	keys       *wireguard.Keypair
	told       time.Time
	heard      time.Time // of what goes out
}

// rarely is the least time between two reports with Config.LowData.
const rarely = 100 * time.Millisecond

// paces returns the pacing of a path of one of our own, nil of one that is not known. The peer's lock is held.
func (p *peer) paces(k path.Key) *pacing {
	inUse := p.path.valid() && p.path.key() == k
	if inUse && p.path.pacing != nil {
		return p.path.pacing
	}
	r := p.routes.find(k)
	if r == nil {
		return nil
	}
	if r.pacing == nil {
		r.pacing = &pacing{}
	}
	if inUse {
		p.path.pacing = r.pacing
	}
	return r.pacing
}

// controller returns what holds the path back, nil if nothing does. The peer's lock is held.
func (x Path) controller() *pace.Controller {
	if x.pacing == nil {
		return nil
	}
	return x.pacing.controller
}

// limitKept is how long it is remembered of an idle peer what its path takes: the next burst shall not fill the modem's buffer again.
const limitKept = 10 * time.Minute

// queueing is how long datagrams wait on the path behind our own, 0 if that was not told lately.
func (x Path) queueing(now time.Time) time.Duration {
	if c := x.controller(); c != nil && now.Sub(x.pacing.heard) < time.Second {
		return c.Queueing()
	}
	return 0
}

// roundTrip tells what holds a path back how long a probe took there and back. The peer's lock is held.
func (p *peer) roundTrip(now time.Time, k path.Key, rtt time.Duration) {
	if r := p.routes.find(k); r != nil && r.pacing != nil && r.pacing.controller != nil && rtt > 0 {
		r.pacing.controller.RoundTrip(now, rtt)
	}
}

// inherit has a path that takes over the traffic begin with the limit of the one before: if they share the bottleneck it is the same, else it is soon
// found out. The peer's lock is held.
func (p *peer) inherit(now time.Time, before Path) {
	old := before.controller()
	if old == nil {
		return
	}
	if _, limited := old.Rate(); !limited {
		return
	}
	k := p.path.key()
	p.routes.note(k, k)
	x := p.paces(k)
	if x == nil || x.controller != nil {
		return
	}
	x.controller = pace.New()
	if rtt := p.routes.machine.RTT(k); rtt > 0 {
		x.controller.RoundTrip(now, rtt)
	}
	x.controller.Inherit(now, old)
}

// rest forgets what is known of the paths of an idle peer, but for the limit of the one in use. The peer's lock is held.
func (p *peer) rest(now time.Time) {
	c := p.path.controller()
	keep := false
	if c != nil && (p.paceUntil.IsZero() || now.Before(p.paceUntil)) {
		_, keep = c.Rate()
	}
	for i := range p.routes.known {
		if r := &p.routes.known[i]; !keep || r.pacing != p.path.pacing {
			r.pacing = nil
		}
	}
	switch {
	case !keep:
		p.path.pacing, p.paceUntil = nil, time.Time{}
	case p.paceUntil.IsZero():
		p.paceUntil = now.Add(limitKept)
	}
}

// runSize is what the judge of a run saw of it.
type runSize struct {
	highest        uint64
	bytes, packets int
}

func (s *runSize) add(o openedMessage) {
	s.highest = max(s.highest, o.counter)
	s.bytes += len(o.plaintext) + wireguard.TransportOverhead
	s.packets++
}

// came counts a run that came by a path, and waited for age to be read, and returns what the peer is to be told of the path, if it is time for that. The peer's lock is held.
func (p *peer) came(e *Engine, now time.Time, age time.Duration, at path.Key, k *wireguard.Keypair, s runSize) (r pace.Report, due bool) {
	if !p.chooses() || s.packets == 0 {
		return r, false
	}
	x := p.paces(at)
	if x == nil {
		return r, false
	}
	// Each session counts from zero. The one that the peer sends by need not be ours to send by: both may have shaken hands at once.
	if x.keys != k {
		x.keys = k
		x.receiver.Anew()
	}
	// A reader that is kept from its processor is no queue on the way.
	x.receiver.Arrived(now.Add(-age), s.highest, s.bytes, s.packets)
	if e.cfg.LowData && now.Sub(x.told) < rarely {
		return r, false
	}
	if r, due = x.receiver.Due(now); due {
		x.told = now
	}
	return r, due
}

// paceLen is the length of innerPace: a header of 8 bytes and the report.
const paceLen = 8 + pace.ReportLen

// report tells the peer what arrived by a path, back by that path.
func (in *inbound) report(now time.Time, p *peer, at Path, r pace.Report) {
	b := in.reportBuf[:8]
	clear(b)
	b[0] = innerPace
	in.out.innerOn(now, p, at, pace.AppendReport(b, r))
}

// later returns the later of two times.
func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// sendsBy reports whether traffic or copies go by a path. The peer's lock is held.
func (p *peer) sendsBy(k path.Key) bool {
	if p.path.valid() && p.path.key() == k {
		return true
	}
	second, _, _, ok := p.routes.machine.Backup()
	return ok && second == k
}

// paced takes the peer's word of what arrived there by a path, and goes on with what waited for it.
func (in *inbound) paced(now time.Time, p *peer, at Path, b []byte, age time.Duration) {
	if len(b) < paceLen {
		in.e.stats.Malformed.Add(1)
		return
	}
	r, err := pace.ParseReport(b[8:])
	if err != nil {
		in.e.stats.Malformed.Add(1)
		return
	}
	if in.e.cfg.Unpaced {
		return
	}
	in.with(now, p, func() wireguard.Todo {
		if !p.chooses() || !p.sendsBy(at.key()) {
			return 0 // nothing was sent there lately
		}
		x := p.paces(at.key())
		if x == nil {
			return 0
		}
		if x.controller == nil {
			x.controller = pace.New()
			if rtt := p.routes.machine.RTT(at.key()); rtt > 0 {
				x.controller.RoundTrip(now, rtt)
			}
		}
		x.heard = later(x.heard, now.Add(-age))
		x.controller.Report(x.heard, r)
		p.resumed = p.resumed || !p.lanes.Empty() && x == p.path.pacing
		return 0
	})
}
