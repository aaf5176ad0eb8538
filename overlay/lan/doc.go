// Package lan finds peers on the links this host is attached to, without a server.
//
// Every host multicasts announcements: its signed contact record, a nonce, and echoes of the nonces it heard from others, all
// signed by the record's key. An announcement that echoes the receiver's own nonce was made just now by the holder of that key
// and becomes a Sighting. Any other is hearsay (it may be a replay) and does nothing but cause an announcement that echoes its
// nonce, so that two hosts prove themselves to each other within milliseconds. What may be answered has one fixed size. Notices,
// which keep everybody informed while nothing happens, are shorter and never answered.
//
// The package does not know the whitelist. It treats everybody alike, so nobody can learn from its behaviour who may talk to
// whom. A Sighting is a hint where a peer may be reached: it names only an endpoint that the peer itself signed, and whoever
// uses it still has to prove by a handshake that the peer answers there.
//
// Machine is the protocol without sockets or clock; Discovery runs it on multicast sockets. docs/protocol.md has the wire
// format.
//
// Cost of an idle link: with one to three hosts a notice of each in 5 minutes per address family, with more of them one in 100
// seconds for every host there is, up to 20 minutes. Up to 12 hosts, each sends and receives less than 1 MB in a day by both
// families together, headers included; 20 hosts cause 1.5 MB, 100 hosts 8 MB. With Config.LowData an idle link costs nothing, and a
// start or a change of addresses 15 kB for each host on the link. Point-to-point interfaces (which modems are), the overlay
// device and anything inside fc94::/16 are never used.
package lan
