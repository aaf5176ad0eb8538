package engine

import (
	"slices"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/lane"
	"github.com/hnet-robotics/hnet_bridge/overlay/tun"
)

// TCP fills whatever queue it finds. On a path that is not held back there are two that nobody else keeps short: what waits in hnet0 to be read, since
// the kernel forgets whose a packet is once it lies there, and what waits in the UDP socket of the other end. Beside one stream that keeps both daemons
// busy, 4 MB stood in them, and a packet of 64 bytes took 4 ms at the median and 10 ms at the 99th percentile. So both are watched as CoDel does it
// (RFC 8289): a queue that was never short for 100 ms costs a superpacket one of its segments, or gives it a congestion mark. What does not heed a loss is
// left alone: a lost datagram would only spoil the sample that it is a piece of.
const (
	// standingAge is what a datagram waits in the socket of a daemon that keeps up; its scheduler's fault is over sooner than CoDel's interval.
	standingAge = time.Millisecond
	// bulkLeast is how large a superpacket or a train is, in bytes, that comes of a queue.
	bulkLeast = 16 << 10
	// sparseMost is how large a packet is, in bytes, that may go before the superpackets it was read with.
	sparseMost = 1600
	// largeFlows is how many flows with something larger are told apart in one batch; with more, all goes in order.
	largeFlows = 16
)

const protocolTCP = 6

// filled reports whether a batch ended for lack of room: more waits in the device than its arena holds.
func filled(arena []byte, ends []int, n int) bool {
	return n == len(ends) || n > 0 && len(arena)-ends[n-1] < tun.HeaderLen+tun.MaxPacket
}

// batch carries what one drain of the device brought. Packets of flows that have no superpacket in it go first, at once: what takes longest to seal would
// hold them up without need. The order within a flow stays.
func (o *outbound) batch(now time.Time, arena []byte, ends []int) {
	var array [largeFlows]uint32
	large, ok := flowsOfLarge(array[:0], arena, ends)
	ahead := false
	start := 0
	for i, end := range ends {
		superpacket := arena[start:end]
		start = end
		if ok && len(superpacket) <= sparseMost && !slices.Contains(large, lane.Flow(superpacket[tun.HeaderLen:])) {
			o.packet(now, superpacket)
			o.ahead[i], ahead = true, true
		}
	}
	if ahead {
		o.flush()
	}
	start = 0
	for i, end := range ends {
		if !o.ahead[i] {
			o.packet(now, arena[start:end])
		}
		o.ahead[i] = false
		start = end
	}
}

// flowsOfLarge appends the flows of all packets above sparseMost; ok is false if there are none, nothing else, or too many.
func flowsOfLarge(flows []uint32, arena []byte, ends []int) (_ []uint32, ok bool) {
	start, bulk, sparse := 0, false, false
	for _, end := range ends {
		superpacket := arena[start:end]
		start = end
		if len(superpacket) <= sparseMost {
			sparse = true
			continue
		}
		bulk = bulk || len(superpacket) >= bulkLeast
		if f := lane.Flow(superpacket[tun.HeaderLen:]); !slices.Contains(flows, f) {
			if len(flows) == cap(flows) {
				return flows, false
			}
			flows = append(flows, f)
		}
	}
	return flows, bulk && sparse
}

// bulkTCP reports whether a superpacket is of a TCP sender who fills a queue, and can bear to lose a segment.
func bulkTCP(superpacket []byte) bool {
	var h tun.Header
	if len(superpacket) < bulkLeast || h.Decode(superpacket) != nil {
		return false
	}
	kind := h.GSO &^ tun.GSOECN
	return kind == tun.GSOTCPv4 || kind == tun.GSOTCPv6
}

// signal tells the sender of a packet that a queue is too long; dropped means that it is told by the loss of this packet.
func (e *Engine) signal(packet []byte) (dropped bool) {
	e.stats.Signalled.Add(1)
	return !lane.Mark(packet)
}
