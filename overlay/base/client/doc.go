// Package client is the client side of Base servers (docs/protocol.md, Base): it keeps registrations with the nearest few of them, learns there which
// peers can be met and how they are seen, and carries relayed datagrams.
//
// The machine decides, in pure code: of it are the plan (which Bases), each base (where it is, how far, which transport), the attempt (one handshake), the
// registration (one session: pings, interests, peers) and its channels. Client runs it: one goroutine handles what arrived, what is due and what is to be
// sent; names and connections have goroutines of their own, a bounded number for each Base, so that a Base that hangs delays nobody else. Relays and
// the table that finds them are shared with the engine's goroutines.
//
// # Which Bases
//
// At the start all say hello to each other, and the first two to answer are the nearest. Those stay registered (one with LowData); the others are
// measured again every hour, or when links change. A Base that is clearly nearer than a registered one takes its place once it is registered. When a
// Base leaves a ping unanswered for 1.5 s the next nearest is registered beside it, after 4 s it is lost.
//
// # Transports
//
// TCP is tried beside UDP when that has brought no registration for 1.5 s. While on TCP, UDP is tried every 30 s (90 s with LowData), and takes over.
// A renewed registration takes over the peers of the last one: their new Relays are there before the old ones are withdrawn.
package client
