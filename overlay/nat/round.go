package nat

import (
	"net/netip"
	"slices"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/stun"
)

// A try is followed by a wait; after the last wait the test has failed. The waits of filter tests are those of a Base's session, which may have
// to repeat the request on its way.
var (
	stunWaits    = []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second, 2 * time.Second, 2 * time.Second}
	filterWaits  = []time.Duration{time.Second, time.Second, time.Second, 3 * time.Second}
	hairpinWaits = []time.Duration{500 * time.Millisecond, 500 * time.Millisecond, time.Second}
)

type state uint8

const (
	idle state = iota
	running
	answered
	failed
)

// test is one question, repeated until it is answered or given up.
type test struct {
	state  state
	base   netip.Addr
	to     netip.AddrPort // of a filter test: where the probe comes from
	id     [12]byte       // of a filter test, the last byte counts the tries
	waits  []time.Duration
	tries  int
	at     time.Time // of the next step
	mapped netip.AddrPort
	local  netip.Addr // where the answer arrived
}

func (t *test) start(now time.Time, m *Machine, waits []time.Duration) {
	t.state, t.id, t.waits, t.at = running, m.id(), waits, now
}

// step tells whether it is time for another try.
func (t *test) step(now time.Time) bool {
	if t.state != running || now.Before(t.at) {
		return false
	}
	if t.tries == len(t.waits) {
		t.state = failed
		return false
	}
	t.at = now.Add(t.waits[t.tries])
	t.tries++
	return true
}

func (t *test) over() bool { return t.state != running }

// round is one measurement of a family.
type round struct {
	f         *family
	mains     []test // STUN to main ports of Bases
	filter    test
	alternate test // STUN to an alternate port, only if there is one main port's answer
	hairpin   test
	heard     int // STUN answers
}

// newRound begins a round; nil if there is nobody to ask.
func newRound(now time.Time, f *family) *round {
	r := &round{f: f}
	for _, b := range f.m.bases {
		for _, e := range b.UDP {
			if e.Addr().Is4() == f.is4 && len(r.mains) < maxMains && !slices.ContainsFunc(r.mains, func(t test) bool { return t.to == e }) {
				t := test{base: b.Base, to: e}
				t.start(now, f.m, stunWaits)
				r.mains = append(r.mains, t)
				break // the first of the family: by others it would be the same Base's word again
			}
		}
	}
	if len(r.mains) == 0 {
		return nil
	}
	for _, b := range f.m.bases {
		e := alternateOf(b)
		if e.IsValid() && e.Addr().Is4() == f.is4 && usable(b.Observed) {
			r.filter = test{base: b.Base, to: e}
			r.filter.start(now, f.m, filterWaits)
			break
		}
	}
	return r
}

// alternateOf returns the alternate port of a Base that we are registered with by UDP.
func alternateOf(b Registration) netip.AddrPort {
	if !b.Via.IsValid() || b.Alternate == 0 || b.Alternate == b.Via.Port() {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(b.Via.Addr(), b.Alternate)
}

func (r *round) tests(yield func(*test) bool) {
	for i := range r.mains {
		if !yield(&r.mains[i]) {
			return
		}
	}
	_ = yield(&r.filter) && yield(&r.alternate) && yield(&r.hairpin)
}

func (r *round) next() (at time.Time) {
	for t := range r.tests {
		if t.state == running && (at.IsZero() || t.at.Before(at)) {
			at = t.at
		}
	}
	return at
}

func (r *round) poll(now time.Time) (Action, bool) {
	for t := range r.tests {
		if !t.step(now) {
			continue
		}
		if t == &r.filter {
			t.id[11] = byte(t.tries)
			return Action{Base: t.base, Nonce: t.id}, true
		}
		if t == &r.alternate && !r.f.touch(now, t.to) {
			t.state = failed
			continue
		}
		return Action{To: t.to, Data: stun.AppendRequest(nil, t.id)}, true
	}
	if r.advance(now) {
		return r.poll(now)
	}
	return Action{}, false
}

// advance starts what can be asked only after something else; it does so once for each.
func (r *round) advance(now time.Time) (started bool) {
	for i := range r.mains {
		if !r.mains[i].over() {
			return false
		}
	}
	verdict, addresses := r.verdict()
	if r.alternate.state == idle && addresses == 1 && verdict == MappingUnknown {
		if t, ok := r.second(); ok {
			r.alternate = t
			r.alternate.start(now, r.f.m, stunWaits)
			return true
		}
	}
	// By IPv4 only: it is of use between two hosts behind one NAT, and IPv6 has none. A lying Base could name an innocent host: it would get
	// three datagrams of 20 bytes in an hour.
	if r.hairpin.state == idle && verdict == MappingIndependent && r.f.is4 && r.alternate.over() {
		r.hairpin = test{to: r.reference().mapped}
		r.hairpin.start(now, r.f.m, hairpinWaits)
		return true
	}
	return false
}

// second finds the alternate port of a Base whose main port has answered.
func (r *round) second() (test, bool) {
	for _, t := range r.mains {
		for _, b := range r.f.m.bases {
			if e := alternateOf(b); t.state == answered && b.Base == t.base && e.Addr() == t.to.Addr() && e != t.to {
				return test{base: b.Base, to: e}, true
			}
		}
	}
	return test{}, false
}

// done tells whether nothing is under way and nothing more can be asked.
func (r *round) done() bool {
	for t := range r.tests {
		if !t.over() {
			return false
		}
	}
	return true
}

// reference is the first answer of a main port.
func (r *round) reference() *test {
	for i := range r.mains {
		if r.mains[i].state == answered {
			return &r.mains[i]
		}
	}
	return nil
}

// verdict says what the answers so far tell of the mapping, and from how many Base addresses they came. Only what left by one local address
// can be compared: a host with two uplinks is behind two NATs.
func (r *round) verdict() (Mapping, int) {
	first := r.reference()
	if first == nil {
		return MappingUnknown, 0
	}
	var from []netip.Addr
	local, differs, destinations := true, false, 0
	for t := range r.tests {
		if t.state != answered || !t.mapped.IsValid() || t.local.IsValid() && first.local.IsValid() && t.local != first.local {
			continue
		}
		destinations++
		if !slices.Contains(from, t.to.Addr()) {
			from = append(from, t.to.Addr())
		}
		local = local && slices.Contains(r.f.locals, t.mapped)
		differs = differs || t.mapped != first.mapped
	}
	switch {
	case local:
		return MappingNone, len(from)
	case differs:
		return MappingDependent, len(from)
	case destinations > 1:
		return MappingIndependent, len(from)
	}
	return MappingUnknown, len(from)
}

// sure tells whether main ports saw different endpoints: nothing but this host sends first to them, so that nothing can take their place in a
// router's table.
func (r *round) sure() bool {
	first := r.reference()
	return first != nil && slices.ContainsFunc(r.mains, func(t test) bool {
		return t.state == answered && t.mapped != first.mapped && (!t.local.IsValid() || !first.local.IsValid() || t.local == first.local)
	})
}

// answered takes a STUN answer.
func (f *family) answered(id [12]byte, from, mapped netip.AddrPort, local netip.Addr) bool {
	if f.round == nil {
		return false
	}
	r := f.round
	for t := range r.tests {
		if t == &r.filter || t == &r.hairpin || t.state == idle || t.id != id || t.to != from {
			continue
		}
		if t.state == running && usable(mapped) && mapped.Addr().Is4() == f.is4 {
			t.state, t.mapped, t.local = answered, mapped, local
			r.heard++
			f.heard, f.silent = true, false
			if !f.outside.IsValid() {
				f.outside = mapped
			}
			f.provisional()
		}
		return true
	}
	return false
}

// provisional takes over what a round that goes on has found so far, if nothing is known for sure.
func (f *family) provisional() {
	if verdict, _ := f.round.verdict(); !f.confirmed && verdict != MappingUnknown {
		f.mapping = verdict
	}
}

// returned takes a request that may be our own, back from the NAT.
func (f *family) returned(id [12]byte) bool {
	if f.round == nil || f.round.hairpin.state == idle || f.round.hairpin.id != id {
		return false
	}
	f.round.hairpin.state = answered
	f.hairpin = HairpinWorks
	return true
}

// passed takes a filter probe.
func (f *family) passed(now time.Time, nonce [12]byte, from netip.AddrPort) {
	r := f.round
	if r == nil || r.filter.state == idle || r.filter.to.Addr() != from.Addr() || f.m.isMain(from) || !f.virgin(now, from) {
		return
	}
	if tries := nonce[11]; tries == 0 || int(tries) > r.filter.tries || [11]byte(nonce[:11]) != [11]byte(r.filter.id[:11]) {
		return
	}
	r.filter.state = answered
	f.judgeFiltering(true)
}
