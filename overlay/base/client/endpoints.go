package client

import (
	"net/netip"
	"slices"
	"time"
)

const (
	resolveAgain = 30 * time.Second // at the soonest
	maxEndpoints = 8
)

// endpoints are where the Base may be by UDP, the one that answered last first, then both families in turn.
func (b *base) endpoints() []netip.AddrPort {
	all := slices.Clone(b.server.Endpoints)
	if b.server.UDP != 0 {
		for _, a := range b.resolved {
			all = append(all, netip.AddrPortFrom(a, b.server.UDP))
		}
	}
	var out []netip.AddrPort
	add := func(e netip.AddrPort) {
		e = netip.AddrPortFrom(e.Addr().Unmap(), e.Port())
		if len(out) < maxEndpoints && !slices.Contains(out, e) && b.m.reachable(e) {
			out = append(out, e)
		}
	}
	if b.good.IsValid() && slices.Contains(all, b.good) {
		add(b.good)
	}
	var four, six []netip.AddrPort
	for _, e := range all {
		if e.Addr().Unmap().Is4() {
			four = append(four, e)
		} else {
			six = append(six, e)
		}
	}
	for i := range max(len(four), len(six)) {
		if i < len(four) {
			add(four[i])
		}
		if i < len(six) {
			add(six[i])
		}
	}
	return out
}

// byUDP tells whether there is an endpoint to say hello to.
func (b *base) byUDP() bool { return len(b.endpoints()) > 0 }

// resolve asks for the addresses of the name when they are wanted.
func (b *base) resolve(now time.Time) {
	if b.literal || b.server.Host == "" || b.resolving || now.Before(b.resolvable) || len(b.resolved) > 0 && !b.stale {
		return
	}
	b.resolving, b.stale = true, false
	b.m.do(action{kind: actResolve, base: b.server.Address, host: b.server.Host})
}

// resolvedTo takes the answer.
func (b *base) resolvedTo(now time.Time, addrs []netip.Addr, err error) {
	b.resolving = false
	if err != nil || len(addrs) == 0 {
		b.dnsFails++
		b.resolvable = now.Add(b.m.jitter(min(backoffFirst<<min(b.dnsFails-1, 6), backoffMax)))
		b.err = "the name " + b.server.Host + " has no address"
		if err != nil {
			b.err = err.Error()
		}
		b.stale = true
		return
	}
	b.dnsFails, b.stale, b.resolvable = 0, false, now.Add(resolveAgain)
	fresh := len(b.resolved) == 0 || !slices.ContainsFunc(addrs, func(a netip.Addr) bool { return slices.Contains(b.resolved, a) })
	b.resolved = addrs[:min(len(addrs), maxEndpoints)]
	if fresh && b.cur == nil {
		// Whatever failed before, failed elsewhere.
		b.forgive()
	}
}
