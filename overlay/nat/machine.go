package nat

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/stun"
)

// Bounds.
const (
	maxBases     = 8  // that are known at once
	maxEndpoints = 4  // of one Base
	maxMains     = 4  // destinations of a round
	maxLocals    = 64 // own endpoints of one family
	maxTouched   = 32 // alternate ports sent to, remembered
)

// Registration is how this node stands with one Base.
type Registration struct {
	Base      netip.Addr       // the Base's overlay address
	UDP       []netip.AddrPort // its main UDP endpoints, of both families, as far as they are known; the first four are used
	Via       netip.AddrPort   // the one of UDP by which this node is registered; invalid: over TCP
	Observed  netip.AddrPort   // as the Base sees this node by Via; invalid over TCP
	Alternate uint16           // the Base's second STUN port, 0 = none
}

// Action is something to do now: send Data to To from the main socket of its family or, if Data is nil, ask Base for a filter test with Nonce.
type Action struct {
	To    netip.AddrPort
	Data  []byte
	Base  netip.Addr
	Nonce [12]byte
}

// Machine measures. It is not safe for concurrent use. All times it is given must come from one steady clock.
type Machine struct {
	random   rand.Source
	bases    []Registration // in order of registration
	families [2]*family     // IPv4, IPv6
}

// New returns a machine that knows nothing yet. Random must be unpredictable.
func New(random rand.Source) *Machine {
	m := &Machine{random: random}
	m.families = [2]*family{{m: m, is4: true}, {m: m}}
	return m
}

func (m *Machine) of(a netip.Addr) *family {
	if a.Is4() {
		return m.families[0]
	}
	return m.families[1]
}

// Registered tells of a new or renewed registration with a Base.
func (m *Machine) Registered(now time.Time, r Registration) {
	r.Via, r.Observed = unmap(r.Via), unmap(r.Observed)
	if !usable(r.Via) { // how a Base sees a TCP connection says nothing about UDP
		r.Via, r.Observed = netip.AddrPort{}, netip.AddrPort{}
	}
	var endpoints []netip.AddrPort
	for _, e := range append([]netip.AddrPort{r.Via}, r.UDP...) {
		if e = unmap(e); usable(e) && !slices.Contains(endpoints, e) && len(endpoints) < maxEndpoints {
			endpoints = append(endpoints, e)
		}
	}
	r.UDP = endpoints
	i := slices.IndexFunc(m.bases, func(b Registration) bool { return b.Base == r.Base })
	switch {
	case i >= 0:
		old := m.bases[i]
		m.bases[i] = r
		if old.Via == r.Via {
			m.observed(now, r, old.Observed)
		} else {
			m.observed(now, r, netip.AddrPort{})
		}
	case len(m.bases) < maxBases:
		m.bases = append(m.bases, r)
		m.observed(now, r, netip.AddrPort{})
	default:
		return
	}
	for _, f := range m.families {
		f.offered(now, r)
	}
}

// Observed tells that a Base sees this node at another endpoint than before.
func (m *Machine) Observed(now time.Time, base netip.Addr, observed netip.AddrPort) {
	for i := range m.bases {
		if b := &m.bases[i]; b.Base == base && b.Via.IsValid() {
			old := b.Observed
			b.Observed = unmap(observed)
			m.observed(now, *b, old)
		}
	}
}

// observed follows up on what a Base sees, which it saw at old before.
func (m *Machine) observed(now time.Time, b Registration, old netip.AddrPort) {
	if !usable(b.Observed) || b.Observed.Addr().Is4() != b.Via.Addr().Is4() {
		return
	}
	f := m.of(b.Observed.Addr())
	for _, other := range m.bases { // the first of the family speaks for it
		if usable(other.Observed) && other.Observed.Addr().Is4() == f.is4 {
			if other.Base == b.Base {
				f.seen(now, b.Observed, old)
			}
			return
		}
	}
}

// Lost tells that the registration with a Base has ended.
func (m *Machine) Lost(base netip.Addr) {
	m.bases = slices.DeleteFunc(m.bases, func(b Registration) bool { return b.Base == base })
	for _, f := range m.families {
		if f.round != nil && f.round.filter.base == base {
			f.round.filter = test{} // nobody sends the probe now: its absence would prove nothing
		}
	}
}

// LinksChanged tells the endpoints of the main sockets on all local addresses outside the overlay, loopback left out.
func (m *Machine) LinksChanged(now time.Time, locals []netip.AddrPort) {
	for _, f := range m.families {
		var own []netip.AddrPort
		for _, l := range locals {
			if l = unmap(l); usable(l) && l.Addr().Is4() == f.is4 && len(own) < maxLocals && !slices.Contains(own, l) {
				own = append(own, l)
			}
		}
		f.links(now, own)
	}
}

// Handle takes a STUN message that arrived from an endpoint at a local address (invalid: not known) of a main socket. It reports whether the
// message was for this machine; others, such as requests to a Base on this node, are not.
func (m *Machine) Handle(_ time.Time, b []byte, from netip.AddrPort, local netip.Addr) bool {
	from, local = unmap(from), local.Unmap().WithZone("")
	f := m.of(from.Addr())
	if id, mapped, ok := stun.ParseSuccess(b); ok {
		return f.answered(id, from, unmap(mapped), local)
	}
	if id, ok := stun.ParseRequest(b); ok {
		return f.returned(id)
	}
	return false
}

// FilterProbe takes a Base's filter probe (0x4a) that arrived from an endpoint.
func (m *Machine) FilterProbe(now time.Time, nonce [12]byte, from netip.AddrPort) {
	from = unmap(from)
	m.of(from.Addr()).passed(now, nonce, from)
}

// Stranger tells that an authentic datagram came to a main socket from an address that this node never sent to, nor to any port of it.
func (m *Machine) Stranger(from netip.AddrPort) {
	from = unmap(from)
	if usable(from) {
		m.of(from.Addr()).stranger(from.Addr())
	}
}

// Poll returns what to do next; call it until ok is false, after every other call and at the time that Next says.
func (m *Machine) Poll(now time.Time) (a Action, ok bool) {
	for _, f := range m.families {
		if a, ok = f.poll(now); ok {
			return a, true
		}
	}
	return a, false
}

// Next returns when Poll is to be called next; the zero time if there is nothing to do.
func (m *Machine) Next() (next time.Time) {
	for _, f := range m.families {
		if at := f.next(); !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next
}

// Result returns what is known now.
func (m *Machine) Result() Result {
	four, six := m.families[0], m.families[1]
	r := Result{
		Mapping: four.mapping, Confirmed: four.confirmed, Filtering: four.filtering, Hairpin: four.hairpin,
		Mapping6: six.mapping, Filtering6: six.filtering,
		Observed4: four.outside, Observed6: six.outside, Local4: len(four.locals) > 0, Local6: len(six.locals) > 0,
		Rebinds: four.rebinds, Measured: four.measured,
	}
	tcp := false
	for _, b := range m.bases {
		if b.Via.IsValid() {
			return r // by UDP
		}
		tcp = true
	}
	silent := four.silent || six.silent
	r.UDPBlocked = tcp && silent && !four.heard && !six.heard
	return r
}

// id returns a fresh transaction ID.
func (m *Machine) id() (id [12]byte) {
	binary.BigEndian.PutUint64(id[:], m.random.Uint64())
	binary.BigEndian.PutUint32(id[8:], uint32(m.random.Uint64()))
	return id
}

// spread returns d ±10 %, so that a fleet that was switched on together does not measure together.
func (m *Machine) spread(d time.Duration) time.Duration {
	return d - d/10 + time.Duration(m.random.Uint64()%uint64(d/5))
}

// unmap removes what tells equal endpoints apart.
func unmap(e netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(e.Addr().Unmap().WithZone(""), e.Port())
}

// usable tells whether an endpoint can be one of ours or of a Base that tells something about a NAT: loopback and link-local ones do not.
func usable(e netip.AddrPort) bool {
	a := e.Addr()
	return a.IsValid() && e.Port() != 0 && a.IsGlobalUnicast()
}

// isMain reports whether an endpoint is one that a Base's clients send to: what comes from there shows nothing of the filtering.
func (m *Machine) isMain(e netip.AddrPort) bool {
	return slices.ContainsFunc(m.bases, func(b Registration) bool { return b.Via == e || slices.Contains(b.UDP, e) })
}
