// Package multicast carries multicast over the overlay, for programs that insist on it: packets that a program of this
// host sends to a group on hnet0 go, each as a copy in the tunnel, to those connected whitelisted peers on which a program
// has joined the group, and to nobody else.
//
// # Groups
//
// The groups joined on hnet0 are the kernel's (/proc/net/igmp6, /proc/net/igmp), looked at when it reports a change by MLD
// or IGMP, which hnet0 carries no further. Each daemon tells its connected whitelisted peers: UDP from port [Port] to port
// [Port] of their overlay addresses, all integers big endian, at most 1200 bytes:
//
//	kind u8 (1), version u8 (1), flags u8 (1: answer with yours), zero, run u32, counter u32, number of groups u16, zero [2],
//	then the groups [16], IPv4 ones as IPv4-mapped addresses
//
// run is random for each run of a daemon, counter counts up in it: what is older than the last heard is passed over. The
// list is the whole; it is told on every change, repeated shortly after, and every [tellEvery] while it is not empty. A
// list not heard again for [holdFor] is forgotten.
//
// # What passes
//
// UDP alone, in either version of IP, from the sender's own overlay address, to groups of link-local scope or larger; not
// the groups by which hosts and routers of one link talk of the link itself (ff02::1, ff02::2, ff02::16, ff02::1:ff00:0/104,
// 224.0.0.0/24 but mDNS, ...), which the overlay has no use for. hnet0 is one link: the hop limit stays as it is, and a
// packet without any left does not pass. Packets and bytes are limited, for each peer and for all together, in both
// directions.
//
// # The two groups of DDS
//
// Over IPv6, Cyclone DDS announces participants to ff02::ffff:239.255.0.1 and Fast DDS to ff1e::ffff:efff:1, so they never
// meet. Here each counts as the other: a peer that has joined one gets what is sent to either, and writes to hnet0 a copy
// for each that its programs have joined.
package multicast
