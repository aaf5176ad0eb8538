package client

import (
	"net/netip"
	"time"
)

// A round is one try to register with a Base: by UDP, by TCP beside it where an answer is late, at once where UDP is known not to work. When all ways
// have failed, the next round waits, longer each time.
const (
	tcpAfter      = 1500 * time.Millisecond // without an answer over UDP
	udpRetry      = 30 * time.Second        // while on TCP
	udpRetryLow   = 90 * time.Second
	udpRetryTries = 2
	backoffFirst  = time.Second
	backoffMax    = 60 * time.Second
	backoffIdle   = time.Hour // when it is not needed
)

// trying tells whether the Base is to be registered with now.
func (b *base) trying(now time.Time) bool {
	return b.keep && b.m.signed != nil && (b.renewing && b.cur != nil || b.cur == nil && !now.Before(b.retryAt()))
}

// start begins what the plan asks for.
func (b *base) start(now time.Time) {
	if !b.keep && b.cur != nil {
		b.release(now)
	}
	byUDP := b.byUDP()
	if !b.trying(now) {
		b.round = time.Time{}
		if b.tcp != nil {
			b.tcp.done()
		}
		if b.udp != nil && b.udp.stage == registering && b.cur == nil {
			b.udp.done()
		}
		switch {
		case b.udp != nil || !byUDP:
		case b.cur != nil && b.cur.dial != 0 && b.keep && !now.Before(b.udpAgain):
			b.hello(now, udpRetryTries)
		case b.cur == nil && b.measureDue(now):
			b.hello(now, probeTries)
		}
		return
	}
	if b.round.IsZero() {
		b.round, b.udpTried, b.tcpTried = now, false, false
	}
	if byUDP && !b.udpTried {
		b.udpTried = true
		limit := fullTries
		if b.failures > 1 {
			limit = probeTries
		}
		if b.udp != nil {
			b.udp.limit = limit
		} else {
			b.hello(now, limit)
		}
	}
	if !now.Before(b.tcpAt(now)) {
		b.dialTCP(now)
	}
	if b.udp == nil && b.tcp == nil && (b.tcpTried || b.server.TCP == 0) {
		if !byUDP && b.err == "" {
			b.err = "no usable address"
		}
		b.roundFailed(now)
	}
}

// tcpAt is when TCP is to be tried in this round; far away if not at all.
func (b *base) tcpAt(now time.Time) time.Time {
	switch {
	case b.tcpTried || b.server.TCP == 0 || b.round.IsZero():
		return b.m.never
	case b.renewing && b.cur != nil && b.cur.dial == 0 && b.cur.doubtful(now):
		return b.round // UDP answered until now: something on the way stopped passing it
	case b.udpTried && b.udp == nil, b.server.UDP == 0 && len(b.server.Endpoints) == 0, b.preferTCP:
		return b.round
	}
	return b.round.Add(tcpAfter)
}

// udpRetry is how long TCP is kept before UDP is tried again.
func (b *base) udpRetry() time.Duration {
	if b.m.cfg.lowData {
		return b.m.jitter(udpRetryLow)
	}
	return b.m.jitter(udpRetry)
}

func (b *base) hello(now time.Time, tries int) {
	a := &attempt{b: b, limit: tries}
	b.udp = a
	a.greet(now)
}

func (b *base) dialTCP(now time.Time) {
	b.tcpTried = true
	m := b.m
	m.dials++
	a := &attempt{b: b, dial: m.dials, stage: dialing, next: now.Add(dialTimeout + time.Second)}
	b.tcp = a
	m.conns[a.dial] = b
	var addrs []netip.Addr
	for _, addr := range b.resolved {
		if m.reachable(netip.AddrPortFrom(addr, b.server.TCP)) {
			addrs = append(addrs, addr)
		}
	}
	m.do(action{kind: actDial, dial: a.dial, base: b.server.Address, host: b.server.Host, port: b.server.TCP, addrs: addrs})
}

// attemptFailed notes that a handshake over one transport came to nothing.
func (b *base) attemptFailed(now time.Time, tcp bool, why string) {
	b.stale = true
	if !tcp && b.cur != nil && b.cur.dial != 0 {
		b.udpAgain = now.Add(b.udpRetry())
	}
	if b.cur == nil || tcp || b.err == "" {
		b.err = why
	}
	switch {
	case b.udp != nil || b.tcp != nil:
	case !b.round.IsZero():
		if b.tcpTried || b.server.TCP == 0 {
			b.roundFailed(now)
		}
	case b.cur == nil:
		b.fails(now)
	}
}

// roundFailed notes that there was no way to register.
func (b *base) roundFailed(now time.Time) {
	b.round, b.renewing = time.Time{}, false
	if b.cur == nil {
		b.preferTCP = false
		b.fails(now)
	}
}

func (b *base) fails(now time.Time) {
	b.failures++
	b.failedAt, b.factor = now, float64(b.m.jitter(time.Second))/float64(time.Second)
}

// forgive forgets failures.
func (b *base) forgive() {
	b.failures, b.flaps, b.measureAt = 0, 0, time.Time{}
	if b.udp == nil && b.tcp == nil {
		b.round = time.Time{}
	} else {
		b.udpTried = b.udp != nil
	}
}

// retryAt is when the next try may begin.
func (b *base) retryAt() time.Time {
	at := b.notBefore
	if b.failures > 0 {
		limit := backoffIdle
		if b.m.short || b.until.After(b.failedAt) {
			limit = backoffMax
		}
		wait := min(backoffFirst<<min(b.failures-1, 12), limit)
		if retry := b.failedAt.Add(time.Duration(float64(wait) * b.factor)); retry.After(at) {
			at = retry
		}
	}
	return at
}
