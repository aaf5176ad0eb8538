package client

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/base/session"
	"github.com/hnet-robotics/hnet_bridge/overlay/base/wire"
	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
)

// Times of a handshake.
const (
	firstRetry   = 250 * time.Millisecond
	fullTries    = 5 // at 0, 0.25, 0.75, 1.75 and 3.75 s; given up at 7.75 s
	probeTries   = 3 // given up at 1.75 s
	laterTries   = 4 // when the last registration failed
	streamAnswer = 6 * time.Second
	dialTimeout  = 10 * time.Second
)

// stage is how far an attempt is.
type stage uint8

const (
	dialing     stage = iota // the TCP connection is not there yet
	greeting                 // the hello is out
	registering              // the register is out
)

// attempt is one handshake with a Base over one transport. Over UDP it may be one only to see how far the Base is: that is decided when the cookie
// arrives.
type attempt struct {
	b        *base
	stage    stage
	hs       *session.Client
	index    uint32
	dial     uint64 // the number of the TCP connection; 0 = UDP
	stream   conduit
	endpoint netip.AddrPort   // that answered; of the connection over TCP
	targets  []netip.AddrPort // that the hello went to
	message  []byte           // to send again
	since    time.Time        // it was sent first
	tries    int
	limit    int
	next     time.Time // try again, or give up
	signed   []byte    // own record told
}

// greet begins the handshake with a hello.
func (a *attempt) greet(now time.Time) {
	m := a.b.m
	a.index = m.newIndex()
	hs, err := session.NewClient(session.ClientConfig{
		Identity: m.cfg.identity, Base: a.b.server.Address, Index: a.index, Random: m.cfg.random, OverTCP: a.dial != 0,
	})
	if err != nil {
		a.fail(now, err.Error())
		return
	}
	a.hs, a.stage, a.message, a.since, a.tries = hs, greeting, hs.Hello(now), now, 0
	a.send(now)
}

// send sends the hello or register, for the first time or again.
func (a *attempt) send(now time.Time) {
	m := a.b.m
	a.tries++
	if a.dial != 0 {
		m.do(action{kind: actFrame, stream: a.stream, payload: a.message})
		a.next = now.Add(streamAnswer)
		return
	}
	wait := max(firstRetry, a.b.rtt*3/2) << (a.tries - 1)
	a.next = now.Add(wait)
	switch a.stage {
	case greeting:
		a.targets = a.b.endpoints()
		if a.tries == 1 && len(a.targets) > 1 && a.targets[0] == a.b.good {
			a.targets = a.targets[:1]
		}
		for _, to := range a.targets {
			m.expect(to)
			m.do(action{kind: actSend, to: to, payload: a.message})
		}
	case registering:
		m.do(action{kind: actSend, to: a.endpoint, payload: a.message})
		if a.tries > 1 {
			// A cookie that has grown old meanwhile is renewed.
			m.do(action{kind: actSend, to: a.endpoint, payload: a.hs.Hello(now)})
		}
	}
}

// notTaken is what it means that a Base shows itself and does not register this node.
const notTaken = "it answers and does not register this node: it may not be let in there, the Base may be full, or another host runs with this " +
	"identity (a copied disk image)"

// tick tries again or gives up.
func (a *attempt) tick(now time.Time) {
	if now.Before(a.next) {
		return
	}
	switch {
	case a.stage == dialing:
		a.fail(now, "the TCP connection was not made in time")
	case a.stage == registering && (a.dial != 0 || a.tries >= a.limit):
		a.b.complain(now, notTaken)
		a.fail(now, notTaken)
	case a.dial != 0:
		a.fail(now, "no answer over TCP: another server may listen there, or a proxy keeps the connection to itself")
	case a.tries < a.limit:
		a.send(now)
	default:
		a.fail(now, "no answer over UDP")
	}
}

// cookie takes the answer to the hello. It reports whether it was one.
func (a *attempt) cookie(now time.Time, b []byte, from netip.AddrPort) bool {
	if a.stage == dialing || a.dial == 0 && !slices.Contains(a.targets, from) {
		return false
	}
	c, err := wire.ParseCookie(b)
	if err != nil || c.Nonce != [wire.NonceLen]byte(a.hs.Hello(now)[4:]) {
		return false
	}
	if a.stage == registering {
		if register, _, err := a.hs.HandleCookie(now, b, a.signed); err == nil && from == a.endpoint {
			a.message = register // of use when it is sent again
		}
		return true
	}
	if key, err := identity.SigningKey(c.Key).WireGuard(); err != nil || key.Address() != a.b.server.Address {
		what := "an invalid key"
		if err == nil {
			what = key.Address().String()
		}
		a.b.complain(now, fmt.Sprintf("who answers at %v is %s: correct the Base's host or address in the configuration", from, what))
		return true
	}
	a.endpoint = from
	// From the first hello: if it was the second that arrived that is too long, and pings will correct it.
	a.b.answered(now, now.Sub(a.since), a.dial != 0, from)
	if !a.b.takes(now, a) {
		a.done()
		return true
	}
	a.signed = a.b.m.signed
	register, _, err := a.hs.HandleCookie(now, b, a.signed)
	if err != nil {
		a.b.complain(now, fmt.Sprintf("cookie from %v: %v", from, err))
		return true
	}
	a.stage, a.message, a.since, a.tries = registering, register, now, 0
	a.limit = max(a.limit, laterTries)
	a.send(now)
	return true
}

// welcome takes the answer to the register.
func (a *attempt) welcome(now time.Time, b []byte, from netip.AddrPort) {
	if a.stage != registering || a.dial == 0 && from != a.endpoint {
		return
	}
	s, w, err := a.hs.HandleWelcome(now, b)
	if err != nil {
		a.b.complain(now, fmt.Sprintf("welcome from %v: %v", from, err))
		return
	}
	if a.tries == 1 {
		a.b.measure(now.Sub(a.since))
	}
	a.b.adopt(now, newRegistration(now, a, s, w))
}

// done ends the attempt without a registration, and not as a failure.
func (a *attempt) done() {
	b := a.b
	if a.dial != 0 {
		delete(b.m.conns, a.dial)
		b.m.do(action{kind: actHangUp, dial: a.dial, stream: a.stream})
	}
	if b.udp == a {
		b.udp = nil
	}
	if b.tcp == a {
		b.tcp = nil
	}
}

// fail ends the attempt as a failure.
func (a *attempt) fail(now time.Time, why string) {
	b, dial := a.b, a.dial
	a.done()
	b.attemptFailed(now, dial != 0, why)
}
