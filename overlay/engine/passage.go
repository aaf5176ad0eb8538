package engine

import (
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/pace"
	"github.com/hnet-robotics/hnet_bridge/overlay/underlay"
	"github.com/hnet-robotics/hnet_bridge/overlay/wireguard"
)

// passage is how a superpacket goes out, as was decided under its peer's lock: it is sealed without.
type passage struct {
	k      *wireguard.Keypair // nil: it must wait
	path   Path
	second Path   // of copies, none if it is not valid
	native bool   // the peer joins pieces
	number uint64 // 0 if it is not of a superpacket

	paced, pacedSecond *pace.Controller // of the two paths, nil if nothing holds them back
}

// refusedAtLeast keeps a carrier that names a moment gone by from being asked in a circle.
const refusedAtLeast = time.Millisecond

// admit decides how bytes go out, and puts that into s. If s.k is nil they must wait: for a session, which todo then asks for, or because the path
// refuses them until p.resume. The peer has a machine and its lock is held.
func (p *peer) admit(e *Engine, now time.Time, bytes int, redundant bool, s *passage) (todo wireguard.Todo) {
	s.k, s.second.Carrier, s.paced, s.pacedSecond = nil, nil, nil, nil
	if p.machine.Session(now) != nil {
		if !p.path.valid() {
			return 0
		}
		until, refused := p.path.Carrier.Refuse(now, bytes)
		s.paced = p.path.controller()
		if s.paced != nil && !refused {
			if at, ok := s.paced.Allow(now, bytes); !ok {
				until, refused = at, true
			}
		}
		if refused {
			p.resume = now.Add(max(until.Sub(now), refusedAtLeast))
			return 0
		}
		if p.chooses() {
			p.routes.machine.Traffic(now)
			if redundant {
				s.second = p.backup(e, now, bytes)
				s.pacedSecond = s.second.controller()
			}
		}
	}
	s.path, s.native = p.path, p.machine.Native()
	s.k, todo = p.machine.Send(now, false)
	return todo
}

// backup is the path for copies, if there is one and it takes bytes more: a copy does not wait. The peer's lock is held.
func (p *peer) backup(e *Engine, now time.Time, bytes int) Path {
	p.routes.machine.Copying(now)
	k, kind, mtu, ok := p.routes.machine.Backup()
	if !ok {
		return Path{}
	}
	x := p.pathOf(e, k, kind, mtu)
	if !x.valid() {
		return x
	}
	if _, refused := x.Carrier.Refuse(now, bytes); refused {
		return Path{}
	}
	if c := x.controller(); c != nil {
		if _, ok := c.Allow(now, bytes); !ok {
			return Path{}
		}
	}
	return x
}

// limit is the largest plaintext that both paths carry, 0 if unknown.
func (s *passage) limit() int {
	limit := s.path.plaintextLimit()
	if s.second.valid() {
		if other := s.second.plaintextLimit(); limit == 0 || other != 0 && other < limit {
			limit = other
		}
	}
	return limit
}

// sent tells what holds the paths back what is about to go by them: bytes of sealed datagrams, and the counter of the last. It looks at the clock anew,
// once for what is sent together: a host that is kept from its processor after it read a packet must not look like a queue.
func (o *outbound) sent(p *peer, s *passage, counter uint64, bytes int) {
	if s.paced == nil && s.pacedSecond == nil || bytes == 0 {
		return
	}
	if o.sealedAt.IsZero() {
		o.sealedAt = time.Now()
	}
	now := o.sealedAt
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.paced != nil {
		s.paced.Sent(now, counter, bytes)
	}
	if s.pacedSecond != nil {
		s.pacedSecond.Sent(now, counter, bytes)
	}
}

// Sizes of what is sent a second time in one go. Copies are of small and urgent things; of more it is sent in several.
const (
	copiesArena  = 128 << 10
	copiesAtOnce = 16
)

// again sends a sealed datagram on another path, too. Copies have trains of their own, so that those of the first path stay whole.
func (o *outbound) again(p *peer, path Path, datagram []byte, tos byte) {
	if o.twin == nil {
		o.twin = &outbound{
			e: o.e, sealed: make([]byte, copiesArena),
			trains: make([]underlay.Message, 0, copiesAtOnce), from: make([]trainInfo, 0, copiesAtOnce),
		}
	}
	copy(o.twin.room(p, &path, 0, len(datagram), tos), datagram)
}
