// Package spdp is the discovery relay: it makes DDS participants on whitelisted hosts known to each other, whatever
// the vendor and the start order, without multicast and without a list of hosts in anybody's profile.
//
// It carries the participants' announcements (SPDP, DDSI-RTPS 2.3, 8.5.3) and nothing else. Once two participants know
// each other they discover endpoints, exchange data and keep each other alive directly; a relay that dies stops only
// new acquaintances.
//
// # On the host
//
// A participant's profile names one static peer: port [LocalPort] of the host's own overlay address, for every domain.
// (Fast DDS sends what is for its own host to a loopback address instead; there the relay listens, too.)
// The port is outside what DDS uses (7400 + 250 * domain + 0, 1, 10, 11, 12 ...), so that no participant loses its
// index to the relay, and a peer with a port costs a participant one packet where one without costs up to a hundred.
// The domain is what the announcement says, or follows from the ports it names. Participants with other profiles, and
// those that ran before the daemon, are found by asking at the discovery ports that are bound on this host, with an
// announcement of the relay's own. A participant ends when it says so, when its socket is gone, or when it is silent.
//
// What the relay learns is injected, as announcements under the participant's own name, at the discovery ports of the
// local participants of that domain; its end as the disposal of its instance.
//
// # Between hosts
//
// Daemons speak UDP from port [PeerPort] to port [PeerPort] of their overlay addresses; the tunnel has authenticated the
// source. All integers are big endian. Every datagram, of at most 1200 bytes, begins with 24 bytes: kind, version 1,
// two zero, the sender's session u64, counter u32 (counts up in a session), the receiver's session u64 (0: not known).
//
//	1 digest    flags u8 (1: complete, 2: the sender reads kind 4), three zero, first prefix [12], last prefix [12], then
//	            entries {prefix [12], revision u32} in order. With the first flag, of the sender's participants from first
//	            to last there are these and no others; a daemon that has just started does not claim that.
//	2 announce  prefix [12], revision u32, sequence number u64, RTPS version [2], vendor [2], domain u16, release u8, zero,
//	            then the parameter list of DATA(p), encapsulation included, locators rewritten.
//	3 want      up to 90 prefixes [12]: announce these to me; none: tell me your digest.
//	4 same      sum u64: the digest would be what it was; the sum is that over its entries, modulo 2^64, of the 64-bit FNV-1a
//	            hash of each entry's 16 bytes.
//
// A session is a daemon's memory of one peer: a random upper half per run of the daemon, and a lower half that counts up
// each time it has told its participants that all of the peer's have ended. What names another session of the receiver's
// is answered by a digest and otherwise passed over; a session that has counted up makes the receiver end all of the
// sender's participants in turn. So two participants always forget each other both, before they meet again: one that
// remembers would not repeat to the other what that has acknowledged in its former life, and they would stay strangers.
//
// A participant is announced once, at once, to all connected peers. From then on a host tells each peer every few seconds
// that nothing has changed, in one short datagram whatever the number of its participants, or else its digest, which
// also repairs whatever was lost: traffic grows with the participants, not with their square.
//
// A peer that is about to leave the whitelist is bid farewell ([Machine.Leave]), so that both sides have ended all
// acquaintance before the tunnel between them does.
//
// # IPv4
//
// A participant is reached at its host's IPv6 address on the overlay, at the IPv4 address it has there, or at both. IPv4
// locators on their way are the sender's own address; the receiver puts the address in their place that the peer has
// here. Nobody is told of whom it has no family in common with.
//
// # What a peer cannot do
//
// A whitelisted peer may be compromised. Its participants have locators at its own overlay address only and prefixes
// that are nobody else's, are bounded in number, size and rate of change, and end only by its own word. Nothing is sent
// to any address but local discovery ports and whitelisted daemons. What it sends to participants past the relay is looked
// at by [Guard]: nobody speaks for another's participants, and no locator in it leads anywhere but to the peer.
package spdp
