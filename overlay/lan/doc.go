// Package lan finds peers on the links this host is attached to, without a server.
//
// Every host multicasts announcements of one fixed size: its signed contact record, a nonce, and echoes of the nonces it heard
// from others, all signed by the record's key. An announcement that echoes the receiver's own nonce was made just now by the
// holder of that key and becomes a Sighting. Any other is hearsay (it may be a replay) and does nothing but cause an
// announcement that echoes its nonce, so that two hosts prove themselves to each other within milliseconds.
//
// The package does not know the whitelist. It treats everybody alike, so nobody can learn from its behaviour who may talk to
// whom. A Sighting is a hint where a peer may be reached: it names only an endpoint that the peer itself signed, and whoever
// uses it still has to prove by a handshake that the peer answers there.
//
// Machine is the protocol without sockets or clock; Discovery runs it on multicast sockets. docs/protocol.md has the wire
// format.
//
// Cost of an idle link: one announcement in 30 s per address family, Size bytes each; with IPv4 and IPv6 that is about
// 7.2 MB per host and day. That is nothing on a LAN and too much on a metered link, so point-to-point interfaces (which
// modems are), the overlay device and anything inside fc94::/16 are never used.
package lan
