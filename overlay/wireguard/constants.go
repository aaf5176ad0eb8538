// Package wireguard is the WireGuard protocol as state machines: messages, handshake, cookies, replay window, key pairs and
// timers. It has no sockets, no clock and no goroutines: its callers bring the time and the datagrams in and carry its answers out.
//
// The protocol is unchanged on the wire (Donenfeld, "WireGuard: Next Generation Kernel Network Tunnel", NDSS 2017; section numbers below are
// that paper's). What two hnet daemons agree on beside it is hidden in the low 24 bits of the encrypted timestamp, see timestamp.go.
package wireguard

import "time"

// Constants of the protocol, §6.1 and Table 1 of the paper.
const (
	RekeyAfterMessages  = 1 << 60
	RejectAfterMessages = 1<<64 - 1<<13 - 1
	RekeyAfterTime      = 120 * time.Second
	RejectAfterTime     = 180 * time.Second
	RekeyAttemptTime    = 90 * time.Second
	RekeyTimeout        = 5 * time.Second
	KeepaliveTimeout    = 10 * time.Second
	CookieLifetime      = 120 * time.Second
	// PaddingMultiple is what plaintext is padded to with zeros before sealing, in bytes (§5.4.6).
	PaddingMultiple = 16
)

// Constants that the reference implementations share beyond the paper.
const (
	// RekeyJitter spreads retransmissions, so that two sides that began together do not collide for ever.
	RekeyJitter = 334 * time.Millisecond
	// InitiationInterval is the least time between two initiations of one peer that a responder works on.
	InitiationInterval = 20 * time.Millisecond
	maxAttempts        = int(RekeyAttemptTime / RekeyTimeout)
)

// Constants of our own.
const (
	// ContactInterval is the least time between two initiations that events (a new endpoint, a whitelist change) ask for outside the retransmission
	// schedule. It is above InitiationInterval by enough that jitter in the network makes no stock responder refuse the second.
	ContactInterval = 100 * time.Millisecond
	// WindowSize is the replay window's width in packets. 8192 is what the design asks for at the least: at 800 kpps it allows for 10 ms of reordering.
	WindowSize = 8192
)

// fastRetries are the first retransmission intervals towards our own daemons. Stock peers get RekeyTimeout from the start. A robot on a link
// with 10 % loss loses one of the two handshake messages every fifth time; five seconds would be felt each time. An initiation makes the response to
// the one before worthless, so that the first interval must be above common round-trip times, and each next one twice as long.
var fastRetries = [...]time.Duration{400 * time.Millisecond, 800 * time.Millisecond, 1600 * time.Millisecond, 3200 * time.Millisecond}
