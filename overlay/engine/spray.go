package engine

import (
	"context"
	"encoding/binary"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/path"
	"github.com/hnet-robotics/hnet_bridge/overlay/underlay"
)

// Port prediction brings together a side whose NAT gives every remote another port and one whose NAT does not: the first opens many sockets,
// the second guesses the ports that they got. package path says how many and how often; here are the sockets.
const (
	// scoutGrace is how long scouts live on after the last probe: an answer may be on its way.
	scoutGrace = 3 * time.Second
	// scoutCheck is how often it is looked whether a path still runs over a scout; after scoutIdle such checks without one it is closed.
	scoutCheck = 15 * time.Second
	scoutIdle  = 4
)

// sprays runs port prediction, for one peer at a time: 256 sockets are enough.
type sprays struct {
	mu      sync.Mutex
	running bool
	last    map[netip.Addr][]time.Time // when which address was sprayed lately
	waiting []*peer                    // whose turn comes when the one under way has ended
	ctx     context.Context            // of Run, nil before
	tasks   sync.WaitGroup

	in   *inbound // of all scouts
	inMu sync.Mutex
}

// begin lets port prediction happen until ctx ends.
func (s *sprays) begin(ctx context.Context) {
	s.mu.Lock()
	s.ctx = ctx
	s.mu.Unlock()
}

// end lets no more begin, and waits until what is under way has ended with ctx.
func (s *sprays) end() {
	s.mu.Lock()
	s.ctx = nil
	s.mu.Unlock()
	s.tasks.Wait()
}

// spray begins port prediction with a peer, if the NATs in front of both are of the kinds for it and none is under way.
func (e *Engine) spray(now time.Time, p *peer) {
	contact, ok := e.cfg.Directory.ByAddress(p.address)
	own := e.ends.Load()
	if !ok || own == nil {
		return
	}
	p.mu.Lock()
	role := path.RoleOf(own.mapping, p.routes.mapping)
	target := p.predictable(contact)
	relayed := p.path.relayed()
	// Too early to tell who would do what: it is begun when both NATs have been measured.
	p.routes.sprayDue = own.mapping == path.UnknownMapping || p.routes.mapping == path.UnknownMapping
	p.mu.Unlock()
	if role == path.NoRole || !target.IsValid() || !relayed {
		return
	}
	s := &e.sprays
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ctx == nil || s.ctx.Err() != nil:
		return
	case s.running:
		if len(s.waiting) < maxSprayed && !slices.Contains(s.waiting, p) {
			s.waiting = append(s.waiting, p)
		}
		return
	case !s.mayAgain(now, target.Addr()):
		return
	}
	s.running = true
	ctx := s.ctx
	machine := path.NewSpray(now, nil, role, target, byte(e.hops.Load()))
	s.tasks.Go(func() {
		e.predict(ctx, p, machine, role, target)
		s.mu.Lock()
		s.running = false
		next := s.waiting
		s.waiting = nil
		s.mu.Unlock()
		for _, p := range next {
			e.sprayNow(p)
		}
	})
}

// sprayNow begins port prediction with a peer that waited for its turn, and has the peer begin too.
func (e *Engine) sprayNow(p *peer) {
	p.mu.Lock()
	p.routes.sprayDue = !p.removed && p.path.relayed()
	p.mu.Unlock()
	e.controlMu.Lock()
	defer e.controlMu.Unlock()
	e.sprayLate(time.Now(), p, e.control)
	e.control.flush()
}

// An address is sprayed at most spraysInPause times in sprayPause, whoever asks for it: several robots may be behind one NAT. maxSprayed bounds the
// addresses, and the peers that wait.
const (
	sprayPause    = 10 * time.Minute
	spraysInPause = 3
	maxSprayed    = 64
)

// mayAgain reports whether an address may be sprayed now, and notes that it is. The lock is held.
func (s *sprays) mayAgain(now time.Time, target netip.Addr) bool {
	for a, times := range s.last {
		if times = slices.DeleteFunc(times, func(at time.Time) bool { return now.Sub(at) >= sprayPause }); len(times) == 0 {
			delete(s.last, a)
		} else {
			s.last[a] = times
		}
	}
	if len(s.last[target]) >= spraysInPause || len(s.last) >= maxSprayed {
		return false
	}
	if s.last == nil {
		s.last = make(map[netip.Addr][]time.Time)
	}
	s.last[target] = append(s.last[target], now)
	return true
}

// sprayLate begins what was put off until both NATs are known, and has the peer begin too.
func (e *Engine) sprayLate(now time.Time, p *peer, out *outbound) {
	own := e.ends.Load()
	p.mu.Lock()
	due := p.routes.sprayDue && own != nil && path.RoleOf(own.mapping, p.routes.mapping) != path.NoRole
	p.routes.sprayDue = p.routes.sprayDue && !due
	p.mu.Unlock()
	if due {
		out.inner(now, p, e.endpointsMessage(path.SignalSpray, false))
		e.spray(now, p)
	}
}

// predictable is the endpoint that a Base observed and the peer itself names: nobody else is ever sprayed. The peer's lock is held.
func (p *peer) predictable(c Contact) netip.AddrPort {
	for _, x := range c.Observed {
		if x.Addr().Is4() && (slices.Contains(c.Named, x) || slices.Contains(p.routes.told, x)) {
			return x
		}
	}
	return netip.AddrPort{}
}

// predict sends what the machine says until a path is found, it has done what it may, or ctx ends.
func (e *Engine) predict(ctx context.Context, p *peer, machine *path.Spray, role path.Role, target netip.AddrPort) {
	var scouts []*scout
	if role == path.Hard {
		scouts = e.openScouts(ctx, target.Addr())
		defer e.closeScouts(ctx, p, &scouts)
	}
	main := e.socketFor(target.Addr())
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		now := time.Now()
		p.mu.Lock()
		found := p.removed || !p.path.relayed()
		p.mu.Unlock()
		if found {
			machine.Stop()
			return
		}
		e.controlMu.Lock()
		for {
			probe, ok := machine.Poll(now)
			if !ok {
				break
			}
			socket := main
			if probe.Socket >= 0 {
				if probe.Socket >= len(scouts) {
					continue
				}
				socket = scouts[probe.Socket].socket
			}
			m := make([]byte, innerLen)
			m[0] = innerProbe
			binary.BigEndian.PutUint32(m[4:], probe.Sequence)
			if socket != nil {
				e.control.innerOn(now, p, Path{Carrier: direct{socket: socket}, Remote: probe.Remote, ttl: probe.TTL}, m)
			}
		}
		e.control.flush()
		e.controlMu.Unlock()
		next := machine.Next()
		if machine.Done() || next.IsZero() {
			return
		}
		timer.Reset(max(time.Until(next), time.Millisecond))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
	}
}

// scout is one of the many sockets of port prediction.
type scout struct {
	socket underlay.Socket
	chosen atomic.Bool // a path runs over it: it is read like a main socket from now on
}

// promoter is what a light socket has in addition, see underlay.UDP.
type promoter interface{ Promote() error }

func (e *Engine) openScouts(ctx context.Context, remote netip.Addr) (scouts []*scout) {
	if e.cfg.Scout == nil {
		return nil
	}
	for len(scouts) < path.SpraySockets {
		socket, err := e.cfg.Scout(remote)
		if err != nil {
			e.cfg.Log.Debug("fewer sockets than wanted for port prediction", "opened", len(scouts), "err", err)
			return scouts
		}
		s := &scout{socket: socket}
		scouts = append(scouts, s)
		e.sprays.tasks.Go(func() { e.scoutLoop(s) })
	}
	return scouts
}

// scoutLoop reads what comes to a scout; all scouts share one inbound, since next to nothing comes to any of them.
func (e *Engine) scoutLoop(s *scout) {
	messages := []underlay.Message{{Buf: make([]byte, underlay.LightRead)}}
	for !s.chosen.Load() {
		n, err := s.socket.ReadBatch(messages)
		if err != nil {
			return
		}
		e.sprays.inMu.Lock()
		if e.sprays.in == nil {
			e.sprays.in = newInbound(e, nil)
		}
		in := e.sprays.in
		in.home, in.carrier = direct{socket: s.socket}, direct{socket: s.socket}
		for i := range messages[:n] {
			in.message(time.Now(), &messages[i])
		}
		in.flush()
		in.out.flush()
		e.sprays.inMu.Unlock()
	}
	if err := e.socketLoop(s.socket); err != nil {
		e.cfg.Log.Debug("a predicted path has ended", "err", err)
	}
}

// closeScouts closes those over which no path runs, soon, and the others when none does any more.
func (e *Engine) closeScouts(ctx context.Context, p *peer, scouts *[]*scout) {
	wait(ctx, scoutGrace)
	left := (*scouts)[:0]
	for _, s := range *scouts {
		if !p.runsOver(s.socket) || ctx.Err() != nil {
			s.socket.Close()
			continue
		}
		if x, ok := s.socket.(promoter); ok {
			_ = x.Promote() // a light socket works too, slower
		}
		s.chosen.Store(true)
		left = append(left, s)
	}
	for _, s := range left {
		e.sprays.tasks.Go(func() {
			defer s.socket.Close()
			for idle := 0; idle < scoutIdle && ctx.Err() == nil; idle++ {
				if p.runsOver(s.socket) {
					idle = 0
				}
				wait(ctx, scoutCheck)
			}
		})
	}
}

// runsOver reports whether the peer's path runs over a socket.
func (p *peer) runsOver(s underlay.Socket) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.removed && p.path.Carrier == Carrier(direct{socket: s})
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
