package client

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/record"
)

// plan decides which Bases shall be registered with: the nearest few, those where a peer is looked for, and those with a relay in use. Nothing is
// left before enough others are there.
func (m *machine) plan(now time.Time) {
	need := m.need(now)
	count, live := 0, 0
	for _, b := range m.ranked() {
		b.doubted = b.cur != nil && b.cur.doubtful(now)
		b.target = false
		if count >= need || !b.leaveAt.IsZero() || now.Before(b.notBefore) {
			continue
		}
		waits := b.cur == nil && b.round.IsZero() && b.failures > 0 && now.Before(b.retryAt())
		if waits {
			continue
		}
		b.target = true
		switch {
		case b.cur != nil && !b.doubted:
			live++
			count++
		case b.cur == nil && (b.round.IsZero() || now.Sub(b.round) < slowAfter):
			count++
		}
	}
	m.short = live < need
	for _, b := range m.bases {
		if b.cur != nil && b.target {
			b.warm = true
		}
		switch {
		case !b.leaveAt.IsZero():
			b.keep = b.cur != nil && (m.short || now.Before(b.leaveAt))
		case b.target, b.until.After(now):
			b.keep = true
		case b.cur == nil:
			b.keep = false
		default:
			b.keep = b.warm && m.short || !b.cur.used.IsZero() && now.Sub(b.cur.used) < usedFor
		}
	}
}

// need is how many Bases shall be registered with.
func (m *machine) need(now time.Time) int {
	n := warmBases
	if m.cfg.lowData {
		n = 1
	}
	return min(n, len(m.bases))
}

// ranked returns the Bases by what is known of them: those that answer, by distance; those never asked; those that failed.
func (m *machine) ranked() []*base {
	out := slices.Clone(m.bases)
	slices.SortStableFunc(out, func(x, y *base) int {
		return cmp.Or(cmp.Compare(x.class(), y.class()), cmp.Compare(x.score(), y.score()), cmp.Compare(x.order, y.order))
	})
	return out
}

func (b *base) class() int {
	switch {
	case b.cur != nil, b.failures == 0 && !b.measureAt.IsZero():
		return 0
	case b.failures == 0:
		return 1
	}
	return 2
}

// score is the distance, with what makes up for a change: a Base that is in use is left only for one that is clearly nearer.
func (b *base) score() time.Duration {
	switch b.class() {
	case 0:
		s := b.rtt
		if b.byTCP {
			s += tcpHandicap
		}
		if b.cur != nil && b.warm {
			s = s*3/4 - stickyHandicap
		}
		return s
	case 2:
		return time.Duration(b.failures)
	}
	return 0
}

// home returns the Bases that peers are told to look for us at, the best first.
func (m *machine) home() []netip.Addr {
	var out []netip.Addr
	for _, b := range m.ranked() {
		if b.cur != nil && b.warm && b.leaveAt.IsZero() && len(out) < record.MaxBases {
			out = append(out, b.server.Address)
		}
	}
	return out
}

// status tells of all known Bases.
func (m *machine) status() []Status {
	out := make([]Status, 0, len(m.bases))
	for _, b := range m.bases {
		s := Status{Address: b.server.Address, Host: b.server.Host, Transport: None, State: StateStandby, RTT: b.rtt, Err: b.err}
		switch {
		case b.cur != nil:
			e := b.cur.event(Registered)
			s.State, s.Transport, s.Endpoint, s.Observed = StateRegistered, e.Transport, e.Endpoint, e.Observed
		case b.failures > 0:
			s.State = StateUnreachable
		case b.keep || b.udp != nil || b.tcp != nil:
			s.State = StateConnecting
		}
		out = append(out, s)
	}
	return out
}

// complain notes what a user should know of a Base, and has it logged now and then.
func (b *base) complain(now time.Time, text string) {
	b.err = text
	if last, ok := b.complains[text]; ok && now.Sub(last) < complainAgain {
		return
	}
	if len(b.complains) >= 16 {
		clear(b.complains)
	}
	b.complains[text] = now
	b.m.do(action{kind: actLog, base: b.server.Address, text: text})
}

// endpoints is a bounded set of endpoints that is safe for concurrent use.
type endpoints struct {
	mu  sync.RWMutex
	set map[netip.AddrPort]struct{}
}

// maxExpected bounds the endpoints that Bases are expected to answer from.
const maxExpected = 2 * maxServers * maxEndpoints

func (e *endpoints) has(a netip.AddrPort) bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	_, ok := e.set[a]
	return ok
}

func (e *endpoints) add(a netip.AddrPort) (full bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.set == nil {
		e.set = make(map[netip.AddrPort]struct{})
	}
	e.set[a] = struct{}{}
	return len(e.set) > maxExpected
}

func (e *endpoints) reset(all []netip.AddrPort) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.set = make(map[netip.AddrPort]struct{}, len(all))
	for _, a := range all {
		e.set[a] = struct{}{}
	}
}

// expect notes that answers may come from an endpoint.
func (m *machine) expect(e netip.AddrPort) {
	if !m.known.add(e) {
		return
	}
	all := []netip.AddrPort{e}
	for _, b := range m.bases {
		all = append(all, b.endpoints()...)
		for _, r := range []*registration{b.cur, b.old} {
			if r != nil {
				all = append(all, r.endpoint)
			}
		}
	}
	m.known.reset(all)
}
