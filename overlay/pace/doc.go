// Package pace finds how much a path carries without a queue on its way, so that what waits, waits at home in lanes of our own (package lane) and not in
// a modem's buffer, where an urgent packet stands behind a megabyte of images.
//
// Controller is pure: what was sent, what the receiver reported and the time come in, permission to send comes out. A path that shows no congestion is
// never held back: a Controller begins without a limit, and from 500 Mbit/s on it never sets one.
//
// # What it sees
//
// The receiver of a path counts what arrives and reports that while much does (Receiver, Report), some 50 times a second. From a Report the Controller
// knows the round trip time of a datagram, the difference of its one-way delay from that of others, and how many bytes arrived. The queueing is how
// much longer a datagram took than the fastest in two minutes, by the round trip or one way, whichever is less: a queue on the way back is not seen by the
// one, and clocks that drift apart are not by the other. Bytes that were sent and did not arrive are loss.
//
// # What it does
//
// Congestion is a queue that stands: all samples of 250 ms or a round trip, whichever is longer, have waited for more than 10 ms and a twelfth of the
// path's RTT, and the sender did not pause for so long that the queue would have drained: a burst that is through before the next one is no
// congestion. (Once there is a limit: 40 ms or half a round trip, and 5 ms. On a path whose delay jumps or grows under load by itself, more.) While a
// queue stands the path delivers what it can, so that is its capacity. The limit becomes 0.93 of it, and until what is on its way too much has
// drained, half of that is sent. Then the limit grows again, by some 13 % a second while it is used and no queue is seen, faster when none is for long or
// the capacity is another each time. So the queue is a saw of a few milliseconds, the link is used to 97 %, and controllers at one bottleneck,
// which all see the same queue, converge.
//
// Loss by itself counts when it is more than 20 % above what is usual on the path for a while (5 % once there is a limit), and begins as more is sent: a
// policer. If it stays when less is sent, it is the radio's, and the limit is taken back.
//
// A limit that is not reached is remembered and doubles every three minutes.
//
// # What keeps it from harm
//
// A host that lacks processor time, a longer route and somebody else's traffic in the same buffer all look like a queue. So each cut is a trial: if
// the queue does not yield to it within about a second, the cut is undone, and none is made for some time, twice as long after each. A level that
// stands still is the RTT from then on. While samples contradict each other (25 ms from one to the next, in the mean) none of them counts, and a
// limit that there is goes within a second or two. There is no limit below 1 Mbit/s. While something waits and no Report comes, the limit doubles every half second.
package pace
