// Package session is one secured conversation between a client and a Base: the handshake of either side, and after it the Session with sealed control
// datagrams and messages that arrive once and in order (docs/protocol.md, Base). All of it is pure: bytes and the time come in, bytes and deadlines
// go out. A Client and a Session belong to one goroutine or lock; an Acceptor may be used by many.
//
// # Handshake
//
//	client                                   Base
//	hello{nonce}                  ─────▶     keeps nothing
//	                              ◀─────     cookie{key, MAC of source and nonce}
//	register{cookie, Noise 1}     ─────▶     proved its address: two DH, record, two DH
//	                              ◀─────     welcome{Noise 2}: the session is pending
//	control (ping, interest ...)  ─────▶     opened: the session is confirmed
//
// # Replays
//
// A register can be repeated: by the client whose welcome was lost, or by whoever saw it. From another endpoint its cookie is worthless. From the same
// endpoint (spoofed), within the two to four minutes that a cookie lives, it is authentic; but only the true client can make a control datagram
// for the session that comes of it. So a Base keeps these rules, and a replay costs it a hash, at worst a handshake, and the client nothing:
//
//  1. A session is pending until its first authentic control datagram (Session.Confirmed). A pending session displaces nothing, is shown to nobody and
//     relays nothing. It ends after a few seconds.
//  2. When it is confirmed, it takes the place of the client's confirmed session, unless that one is the newer. Pending sessions are bounded in
//     number and time, all together; a replay makes one more of them and ends none.
//  3. Acceptor.Check tells the ephemeral key of a register at the price of one hash. If it is that of a pending session (Session.RegisteredBy), the
//     stored Session.Welcome is sent again; if it is that of a confirmed one, nothing is: it is late or a replay.
//  4. A register whose record has a smaller sequence number than the one known of that client is an old one and dropped.
//
// The Noise prologue holds the cookie, so that nobody can put a register that he saw behind a cookie of his own.
//
// A client on its side sends a control datagram as soon as it has the welcome, be it a ping.
package session
