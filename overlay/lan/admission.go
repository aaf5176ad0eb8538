package lan

import (
	"net/netip"
	"time"
)

// Signature checks are what an attacker can make us pay for, so they are rationed before any is done: per source, and in
// total apart for known sources (from which a fresh announcement came before) and for all others. A flood from unknown
// sources therefore cannot take the checks that known peers need, and the sum of both bounds the processor time.
const (
	checksPerSource      = 10 // a second; a host announces at most answersPerSecond times per family
	checksPerSourceBurst = 20
	checksPerSecond      = 100 // for each of the two classes
	checksBurst          = 200
	maxSources           = 256 // for each of the two classes
)

// origin is where a datagram came from.
type origin struct {
	link int
	addr netip.Addr
}

type source struct {
	checks limit
	known  bool
	heard  time.Time
}

// admission decides which datagrams are worth a signature check.
type admission struct {
	sources        map[origin]*source
	known, unknown limit
}

func newAdmission() admission {
	return admission{
		sources: make(map[origin]*source),
		known:   perSecond(checksPerSecond, checksBurst),
		unknown: perSecond(checksPerSecond, checksBurst),
	}
}

// admit spends a check for a datagram from o, if there is one left.
func (a *admission) admit(now time.Time, o origin) bool {
	s := a.sources[o]
	if s != nil && now.Before(s.checks.ready()) {
		return false
	}
	total := &a.unknown
	if s != nil && s.known {
		total = &a.known
	}
	if !total.take(now) {
		return false
	}
	if s == nil {
		s = &source{checks: perSecond(checksPerSource, checksPerSourceBurst)}
		a.sources[o] = s
	}
	s.heard = now
	s.checks.take(now)
	a.trim(s.known)
	return true
}

// vouch makes o a known source.
func (a *admission) vouch(now time.Time, o origin) {
	s := a.sources[o]
	if s == nil {
		s = &source{checks: perSecond(checksPerSource, checksPerSourceBurst)}
		a.sources[o] = s
	}
	s.heard, s.known = now, true
	a.trim(true)
}

// trim evicts the source of one class that was silent longest, if there are too many.
func (a *admission) trim(known bool) {
	if len(a.sources) <= maxSources {
		return
	}
	var oldest origin
	var at time.Time
	n := 0
	for o, s := range a.sources {
		if s.known != known {
			continue
		}
		if n++; n == 1 || s.heard.Before(at) {
			oldest, at = o, s.heard
		}
	}
	if n > maxSources {
		delete(a.sources, oldest)
	}
}

// forget drops what is known of the sources on a link that is gone.
func (a *admission) forget(link int) {
	for o := range a.sources {
		if o.link == link {
			delete(a.sources, o)
		}
	}
}
