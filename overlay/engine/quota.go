package engine

import (
	"net/netip"
	"sync"
	"time"
)

// What is sent to an address that no peer ever answered from, because a peer, its record or a Base names it: whoever lies there must not make
// this node a nuisance to a stranger. The path machine holds each peer to 24 probes a minute to such an address; these bounds hold for all peers
// together, handshakes included. A plant with fifty robots behind one address is well within them.
const (
	quotaPerMinute = 240
	quotaBurst     = 120
	// perAddress is how many endpoints of one address one handshake attempt goes to.
	perAddress = 2
	// heardFor is how long an address that answered is no stranger.
	heardFor = time.Hour
	// maxQuotas bounds the table; who asks for more addresses than that in a minute is a liar, and waits.
	maxQuotas = 4096
)

// quota keeps the bounds. The zero quota is ready for use.
type quota struct {
	mu        sync.Mutex
	addresses map[netip.Addr]*allowance
}

type allowance struct {
	tokens float64
	at     time.Time
	heard  time.Time // when a peer last answered from there, zero if none ever did
}

// expendable reports whether forgetting it changes nothing.
func (a *allowance) expendable(now time.Time) bool {
	return now.Sub(a.heard) > heardFor && now.Sub(a.at) > time.Minute
}

// get returns the allowance of an address, nil if there is no room. The lock is held.
func (q *quota) get(now time.Time, address netip.Addr) *allowance {
	if a := q.addresses[address]; a != nil {
		return a
	}
	if q.addresses == nil {
		q.addresses = make(map[netip.Addr]*allowance)
	}
	if len(q.addresses) >= maxQuotas && !q.makeRoom(now) {
		return nil
	}
	a := &allowance{tokens: quotaBurst, at: now}
	q.addresses[address] = a
	return a
}

// makeRoom forgets whatever changes nothing. If nothing does, one that answered gets a stranger's allowance again: a node with more peers than
// maxQuotas must not be kept from the rest of them. The lock is held.
func (q *quota) makeRoom(now time.Time) (done bool) {
	var answered netip.Addr
	for k, a := range q.addresses {
		if a.expendable(now) {
			delete(q.addresses, k)
		} else if !a.heard.IsZero() {
			answered = k
		}
	}
	if len(q.addresses) >= maxQuotas {
		delete(q.addresses, answered)
	}
	return len(q.addresses) < maxQuotas
}

// take reports whether one more datagram may go to an address on somebody's word.
func (q *quota) take(now time.Time, address netip.Addr) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	a := q.get(now, address)
	if a == nil {
		return false
	}
	if now.Sub(a.heard) < heardFor {
		return true
	}
	a.tokens = min(quotaBurst, a.tokens+now.Sub(a.at).Minutes()*quotaPerMinute)
	a.at = now
	if a.tokens < 1 {
		return false
	}
	a.tokens--
	return true
}

// heard notes that a peer answered from an address.
func (q *quota) heard(now time.Time, address netip.Addr) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if a := q.get(now, address); a != nil {
		a.heard = now
	}
}
