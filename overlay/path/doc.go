// Package path selects the path to a peer.
//
// Machine is pure: the time and what happened come in, probes and signals to send come out. It knows no sockets, no clock, no keys. Its owner calls
// it under the peer's lock; every call may change what is due, so after any but Traffic, Arrived, Awake, Best, Backup, Copied, Silent, Status and Twofold the owner calls
// Poll until it returns false and arms its timer for Next, at which it calls Tick and Poll. (After Traffic and Arrived it looks at Next, which is
// zero or later than now unless they woke something.)
//
// # Paths
//
// A path carries traffic only once the peer answered a probe, or completed a handshake, over it. A relay may carry traffic before, since a Base
// vouches for it. LAN is preferred to direct, direct to a relay by UDP, that to a relay by TCP; within a kind the RTT decides, loss counted in,
// when it is at least a fifth and 2 ms less. What is better by kind is taken as soon as it is proved. A reply proves the path that its probe went
// by, never the one that the reply came by: its sender may have forged his address to have us send our traffic to a stranger.
//
// While packets pass, the path in use is probed each second. A reply is late after clamp(srtt + 4 jitter + 20 ms, 150 ms, 700 ms) and the probe is
// then repeated at once and 100 ms later; three late ones in a row, six while data arrives by that path, make it dead and the next best takes
// over. That takes at most 1.5 s after it went silent with an RTT below 100 ms, and at most 2.5 s at any RTT up to 600 ms (1 s more when only our own
// direction died). The relay to fall back to is probed every 10 s, so that it is a living one. 30 s after the last packet all probing ends: an idle
// peer costs nothing, and a handshake that changed the path gets 4 s.
//
// # Two uplinks, two paths
//
// A host with two uplinks has a path by each of them to one remote; their Keys differ by the Carrier. Those by an uplink that the host's routing would
// not choose are Spare: they cost money, perhaps. They come after all living paths, relays included, and are left in peace, without a probe,
// as long as one lives. FlagSpare tells the peer, who then holds its own path to that endpoint in the same low esteem: so traffic goes home to Wi-Fi, in
// both directions, when Wi-Fi is back.
//
// While Copying is called, and 30 s after, a second path is kept alive with a probe a second: Backup, the one that has least in common with Best. By
// another uplink is best, of this host or of the peer's; a relay beside a direct path, or another Base, is next; another address is better than nothing.
// FlagCopies has the peer rouse its spare paths, too. Copies that arrive choose nothing: only probes do.
//
// # Punching
//
// Linux as a NAT without input filter takes a datagram that comes before the inside host has sent one for its own; the inside host's datagrams then
// leave by another port, and the two never meet. So while there is a relay no full probe is sent to a Direct candidate before both sides have sent an
// opener: a probe whose TTL takes it through our own NATs and no further. The machines arrange that by signals, which their owners carry inside the
// tunnel by the selected path, together with the sender's endpoints and Mapping:
//
//	A                                             B
//	openers to all direct candidates
//	SignalOffer              ------------------>  SetCandidates(A's endpoints), Signaled(SignalOffer):
//	                                              openers, then
//	Signaled(SignalAnswer):  <------------------  SignalAnswer, and full probes at
//	full probes at                                0, 100, 300, 700, 1500, 3000 ms
//	0, 100, 300, 700, 1500, 3000 ms
//
// An offer is made three times, a second apart; if no answer comes, probes are sent all the same. When both offer at once, both answer. Whoever gets
// a probe probes back at once, so the first of either side that passes proves the path both ways in one more round trip. Rounds begin
// when contact does over a relay, at once when candidates or links change or a direct path dies, and after 5, 15, 50 s, 2 min, then every 5 min
// while traffic flows over a relay. (A dead direct path is probed after 1, 2 and 5 s, too, then by rounds; without a relay after 1, 2, 5, 15, 30 s.)
//
// When the first round brought nothing, SignalSpray comes out, once for each change of candidates or links and at most once a minute. The owner
// sends it to the peer, and both, if RoleOf says so and there is an address that a Base observed and the record names, make a Spray.
//
// # Bounds
//
// What a peer can make us send, by its records, its endpoints, its probes, forged or not:
//   - 60 probes a second and 30 at once in all, those of a Spray apart;
//   - 12 at once, and 24 in any minute, to one IP address that never answered, whatever the ports named;
//   - to the one address of a Spray 200 a second for 10 s, three times.
//
// A machine has at most 32 paths, 32 addresses in its quotas and 256 probes under way. When a path more appears, the least valuable goes, of equals
// the one heard of longest ago: first unknown endpoints that never answered, then those that did, then offered candidates that never answered,
// then those that did, living paths, relays; never the one in use.
package path
