package nat

import (
	"net/netip"
	"slices"
	"time"
)

// Times.
const (
	settle       = time.Second      // after news, for more of it: Bases register one after another
	urgentPause  = 15 * time.Second // the least time between rounds
	lazyPause    = 10 * time.Minute // the same when the network seems to be the one it was
	repeat       = time.Hour        // ±10 %, without news
	natMemory    = 10 * time.Minute // how long a NAT may remember that we sent to a port, generously
	confirmAfter = 200 * time.Second
)

// family is what is known of one address family.
type family struct {
	m      *Machine
	is4    bool
	locals []netip.AddrPort

	outside   netip.AddrPort // as the first Base sees us
	mapping   Mapping
	confirmed bool
	doubted   bool // the last round saw a dependent mapping for the first time
	addresses int  // Base addresses that the mapping was seen from
	filtering Filtering
	open      bool // a stranger came in
	hairpin   Hairpin
	rebinds   int
	measured  time.Time
	silent    bool // the last round had no answer at all
	heard     bool // it had, or there was one since

	touched map[netip.AddrPort]time.Time // alternate ports, and when we sent there last
	due     time.Time                    // the next round; zero: none
	started time.Time                    // the last one
	round   *round                       // under way
}

// want asks for a round, at the earliest after a moment and a pause since the last one.
func (f *family) want(now time.Time, pause time.Duration) {
	at := now.Add(settle)
	if next := f.started.Add(pause); !f.started.IsZero() && next.After(at) {
		at = next
	}
	if f.due.IsZero() || at.Before(f.due) {
		f.due = at
	}
}

// forget makes everything unknown: the network is another one.
func (f *family) forget() {
	f.mapping, f.confirmed, f.doubted, f.addresses = MappingUnknown, false, false, 0
	f.filtering, f.open, f.hairpin = FilteringUnknown, false, HairpinUnknown
	f.rebinds, f.silent, f.heard, f.round = 0, false, false, nil
}

// links takes the local endpoints.
func (f *family) links(now time.Time, locals []netip.AddrPort) {
	gone := slices.ContainsFunc(f.locals, func(l netip.AddrPort) bool { return !slices.Contains(locals, l) })
	stayed := slices.ContainsFunc(f.locals, func(l netip.AddrPort) bool { return slices.Contains(locals, l) })
	fresh := len(locals) > len(f.locals) || gone
	f.locals = locals
	switch {
	case !gone && !fresh:
	case gone && !stayed:
		f.forget()
		f.outside = netip.AddrPort{}
		f.want(now, urgentPause)
	case gone:
		f.round = nil // it may have measured by that address
		f.want(now, urgentPause)
	default: // what an added address changes, if it does, the Bases will observe
		f.want(now, lazyPause)
	}
}

// seen takes what the first Base sees, which it saw at old before (invalid: it did not).
func (f *family) seen(now time.Time, observed, old netip.AddrPort) {
	before := f.outside
	f.outside = observed
	switch {
	case before.Addr() != observed.Addr():
		// Another network, or another address of the same: no NAT can remember what was sent from here.
		f.forget()
		clear(f.touched)
		f.want(now, urgentPause)
	case old.IsValid() && old != observed:
		f.rebinds++
		pause := lazyPause
		if f.round != nil { // what it found so far is worth nothing
			f.round, pause = nil, urgentPause
		}
		f.want(now, pause)
	}
}

// offered takes a Base that can be measured with now.
func (f *family) offered(now time.Time, b Registration) {
	if !slices.ContainsFunc(b.UDP, func(e netip.AddrPort) bool { return e.Addr().Is4() == f.is4 }) {
		return
	}
	byUDP := slices.ContainsFunc(f.m.bases, func(b Registration) bool { return b.Via.IsValid() })
	switch {
	case f.mapping == MappingUnknown, f.addresses < 2 && f.fresh(b), !byUDP && !f.silent, f.filtering == FilteringUnknown && alternateOf(b).IsValid():
		f.want(now, urgentPause)
	case f.round == nil && f.due.IsZero(): // there was nobody to ask when it was time
		f.want(now, lazyPause)
	}
}

// fresh tells whether a Base has an address that no Base before it has.
func (f *family) fresh(b Registration) bool {
	for _, e := range b.UDP {
		if e.Addr().Is4() == f.is4 && !slices.ContainsFunc(f.m.bases, func(o Registration) bool {
			return o.Base != b.Base && slices.ContainsFunc(o.UDP, func(x netip.AddrPort) bool { return x.Addr() == e.Addr() })
		}) {
			return true
		}
	}
	return false
}

// stranger takes the proof that nothing is filtered.
func (f *family) stranger(a netip.Addr) {
	for _, b := range f.m.bases {
		if slices.ContainsFunc(b.UDP, func(e netip.AddrPort) bool { return e.Addr() == a }) {
			return
		}
	}
	if len(f.locals) > 0 && !slices.ContainsFunc(f.locals, func(l netip.AddrPort) bool { return l.Addr() == a }) {
		f.open, f.silent, f.heard, f.filtering = true, false, true, FilteringIndependent
	}
}

// judgeFiltering takes the outcome of a filter test.
func (f *family) judgeFiltering(passed bool) {
	switch {
	case f.open:
		f.filtering = FilteringIndependent
	case passed:
		f.filtering = FilteringAddress
	default:
		f.filtering = FilteringAddressPort
	}
}

// virgin tells whether no NAT can remember that we sent to an alternate port.
func (f *family) virgin(now time.Time, e netip.AddrPort) bool {
	at, sent := f.touched[e]
	return !sent || now.Sub(at) >= natMemory
}

// touch notes that something is sent to an alternate port; it refuses if there is no room to remember.
func (f *family) touch(now time.Time, e netip.AddrPort) bool {
	if f.touched == nil {
		f.touched = make(map[netip.AddrPort]time.Time)
	}
	if _, known := f.touched[e]; !known && len(f.touched) >= maxTouched {
		for other := range f.touched {
			if f.virgin(now, other) {
				delete(f.touched, other)
			}
		}
		if len(f.touched) >= maxTouched {
			return false
		}
	}
	f.touched[e] = now
	return true
}

func (f *family) next() time.Time {
	if f.round != nil {
		return f.round.next()
	}
	return f.due
}

func (f *family) poll(now time.Time) (Action, bool) {
	for {
		if f.round == nil && !f.due.IsZero() && !now.Before(f.due) {
			f.due = time.Time{}
			if f.round = newRound(now, f); f.round != nil {
				f.started = now
			}
		}
		if f.round == nil {
			return Action{}, false
		}
		if a, ok := f.round.poll(now); ok || !f.round.done() {
			return a, ok
		}
		f.conclude(now)
	}
}

// conclude ends a round and says when the next one is.
func (f *family) conclude(now time.Time) {
	r := f.round
	f.round = nil
	f.measured = now
	f.silent, f.heard = r.heard == 0, r.heard > 0
	again := f.m.spread(repeat)
	if verdict, addresses := r.verdict(); verdict != MappingUnknown {
		f.addresses = addresses
		if f.adopt(verdict, r.sure()) {
			again = confirmAfter
		}
	}
	if r.hairpin.state == failed {
		f.hairpin = HairpinFails
	}
	if r.filter.state == failed || r.filter.state == answered {
		f.judgeFiltering(r.filter.state == answered)
	}
	if f.due.IsZero() || f.due.After(now.Add(again)) { // news during the round may have asked for another one
		f.due = now.Add(again)
	}
	if earliest := f.started.Add(urgentPause); f.due.Before(earliest) {
		f.due = earliest
	}
}

// adopt takes the mapping that a whole round found, and tells whether it is to be confirmed. Sure: a difference cannot come from a clash.
func (f *family) adopt(verdict Mapping, sure bool) (doubtful bool) {
	if verdict != MappingDependent {
		f.mapping, f.confirmed, f.doubted = verdict, true, false
		return false
	}
	f.hairpin = HairpinUnknown
	if sure || f.doubted || f.mapping == MappingDependent && f.confirmed {
		f.mapping, f.confirmed, f.doubted = verdict, true, false
		return false
	}
	f.doubted = true
	if !f.confirmed {
		f.mapping = verdict
	}
	return true
}
