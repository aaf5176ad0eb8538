// Package nat finds out what stands in front of our main UDP sockets: how a NAT maps them, what it lets in, and whether it takes packets back
// to its own inside (RFC 4787: mapping, filtering, hairpinning). [Machine] is pure: the time and what happened come in, datagrams to send and
// filter tests to ask a Base for go out.
//
// # What is measured, in which order, and why
//
// Mapping: STUN Binding requests (RFC 8489) go from the main socket to the main ports of the Bases. Two Bases at two addresses that see one
// endpoint prove a mapping that does not depend on the destination; two that see different ones, a mapping that does. With one Base only, its
// alternate port is the second destination.
//
// Filtering: a Base is asked, within its session, to send one datagram from a third port, which nobody ever sends to. It can come in only if the
// NAT lets in ports that were never sent to.
//
// That port is a third one because the tests would disturb each other on one: a datagram of ours to it would open the NAT for the probe, and a probe
// that a Linux router without a firewall does not pass on leaves an entry in its connection table for 30 s, as if it had been for the router
// itself; our own packet to that port would clash with it and be given another port, so that the most ordinary router looks symmetric. Where
// something else sent to our mapping from the alternate port, that can happen still. Such a clash can only make mappings differ, never agree. So
// agreement is believed at once, and a difference that only the alternate port shows provisionally ([Result].Confirmed): the round is repeated
// after confirmAfter, when the router's entry (30 s) and that of our own request (180 s at most) are gone.
//
// Filtering by address only and no filtering look the same from a Base that we talk to. What proves the latter is a datagram from an address that
// we never sent to: whoever sees one, tells [Machine.Stranger]. Without one, the stricter is reported.
//
// Hairpin: a Binding request of ours to our own mapped endpoint comes back or not.
//
// No answer is ever proof, since datagrams get lost: every test is repeated some times, and a test without answer makes the result stricter, never
// laxer.
//
// # How often
//
// Once the first Bases have registered, when addresses went or what the Bases observe changed, else once an hour: about 15 datagrams each time.
package nat
