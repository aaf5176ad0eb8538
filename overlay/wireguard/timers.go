package wireguard

import (
	"math/rand/v2"
	"time"
)

// deadline is a moment at which a timer fires; the zero value is not set.
type deadline struct{ at time.Time }

func (d *deadline) set() bool { return !d.at.IsZero() }
func (d *deadline) clear()    { d.at = time.Time{} }
func (d *deadline) due(now time.Time) bool {
	return d.set() && !now.Before(d.at)
}

// timers are a peer's timers, §6 of the paper.
type timers struct {
	// retransmit sends the initiation again.
	retransmit deadline
	// keepalive answers received data when nothing else does (§6.5).
	keepalive      deadline
	keepaliveAgain bool
	// unanswered starts a handshake when sent data brings nothing back for KeepaliveTimeout + RekeyTimeout.
	unanswered deadline
	// erase drops all keys after three times RejectAfterTime without a new session.
	erase deadline
}

func (t *timers) sent(now time.Time, keepalive bool) {
	if !keepalive && !t.unanswered.set() {
		t.unanswered.at = now.Add(KeepaliveTimeout + RekeyTimeout + rand.N(RekeyJitter))
	}
	t.authenticatedSent()
}

func (t *timers) authenticatedSent() {
	t.keepalive.clear()
	t.keepaliveAgain = false
}

func (t *timers) received(now time.Time, data bool) {
	t.unanswered.clear()
	if data {
		if t.keepalive.set() {
			t.keepaliveAgain = true
		} else {
			t.keepalive.at = now.Add(KeepaliveTimeout)
		}
	}
}

func (t *timers) derived(now time.Time) { t.erase.at = now.Add(3 * RejectAfterTime) }

// Next returns when Tick has something to do; the zero time if never.
func (p *Peer) Next() (next time.Time) {
	t := &p.timers
	for _, d := range [...]*deadline{&t.retransmit, &t.keepalive, &t.unanswered, &t.erase} {
		if d.set() && (next.IsZero() || d.at.Before(next)) {
			next = d.at
		}
	}
	return next
}

// Tick runs the timers that are due.
func (p *Peer) Tick(now time.Time) (todo Todo) {
	t := &p.timers
	if t.erase.due(now) {
		had := !p.lastHandshake.IsZero()
		p.erase()
		if had {
			todo |= Down
		}
	}
	if t.retransmit.due(now) {
		t.retransmit.clear()
		if p.attempts++; p.attempts > p.maxAttempts() {
			p.abandon()
			p.postponed = false
			t.keepalive.clear()
			p.attempts = 0
			todo |= GiveUp
		} else {
			todo |= Initiate
		}
	}
	if t.unanswered.due(now) {
		t.unanswered.clear()
		todo |= p.want(now)
	}
	if t.keepalive.due(now) {
		t.keepalive.clear()
		if t.keepaliveAgain {
			t.keepaliveAgain = false
			t.keepalive.at = now.Add(KeepaliveTimeout)
		}
		todo |= Keepalive
	}
	return todo
}

// maxAttempts makes retransmission end after RekeyAttemptTime, with the fast ones on top.
func (p *Peer) maxAttempts() int {
	if p.Native() {
		return maxAttempts + len(fastRetries)
	}
	return maxAttempts
}
