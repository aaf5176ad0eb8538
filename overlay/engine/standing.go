package engine

import (
	"slices"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/lane"
	"github.com/hnet-robotics/hnet_bridge/overlay/tun"
)

// TCP fills whatever queue it finds. On a path that is not held back there are two that nobody else keeps short: what waits in hnet0 to be read, since
// the kernel forgets whose a packet is once it lies there, and what waits in the UDP socket of the other end. Beside one stream that kept both daemons
// busy 4 MB stood in them, and the 99th percentile of a ping was 6 ms. So both are bounded, for TCP: a superpacket loses one of its segments, or one gets a
// congestion mark, when more than queueMost is read without an end, and when the queue was never short for CoDel's 100 ms (RFC 8289). What does not heed a
// loss is left alone: a lost datagram would only spoil the sample that it is a piece of.
const (
	// queueMost is in bytes. With 2 MB that percentile is 2.2 ms, and TCP as quick as without a bound; with 1 MB 1.8 ms and a sixth slower, with 512 KB
	// 1.2 ms and a quarter: what waits covers the time slices in which an end is kept from its processor.
	queueMost = 2 << 20
	// signalLeast is between two signals for queueMost: before the first has been heeded, a second one says nothing new.
	signalLeast = 50 * time.Millisecond
	// standingAge is what a datagram waits in the socket of a daemon that keeps up; its scheduler's fault is over sooner than CoDel's interval.
	standingAge = time.Millisecond
	// bulkLeast is how large a superpacket or a train is, in bytes, that comes of a queue.
	bulkLeast = 16 << 10
	// sparseMost is how large a packet is, in bytes, that may go before the superpackets it was read with.
	sparseMost = 1600
	// largeFlows is how many flows with something larger are told apart in one batch; with more, all goes in order.
	largeFlows = 16
)

// standing watches a queue of the kernel's, by what is read from it.
type standing struct {
	codel     lane.Codel
	row       int // bytes read since the queue was last empty
	signalled time.Time
}

// judge is told of each batch: its bytes, whether there was no room for all that waited, and whether it had waited long. It reports whether TCP is to be
// signalled.
func (s *standing) judge(now time.Time, bytes int, more, late bool) (signal bool) {
	signal = s.codel.Judge(now, more || late)
	if !more {
		s.row = 0
		return signal
	}
	if s.row += bytes; s.row > queueMost && now.Sub(s.signalled) >= signalLeast {
		signal = true
	}
	if signal {
		s.signalled = now
	}
	return signal
}

// filled reports whether a batch ended for lack of room: more waits in the device than its arena holds.
func filled(arena []byte, ends []int, n int) bool {
	return n == len(ends) || n > 0 && len(arena)-ends[n-1] < tun.HeaderLen+tun.MaxPacket
}

// batch carries what one drain of the device brought. Packets of flows that have no superpacket in it go first, at once: what takes longest to seal would
// hold them up without need. The order within a flow stays.
func (o *outbound) batch(now time.Time, arena []byte, ends []int) {
	var array [largeFlows]uint32
	var ahead [devicePackets]bool
	if large, ok := flowsOfLarge(array[:0], arena, ends); ok {
		start := 0
		for i, end := range ends {
			superpacket := arena[start:end]
			start = end
			if len(superpacket) <= sparseMost && !slices.Contains(large, lane.Flow(superpacket[tun.HeaderLen:])) {
				o.packet(now, superpacket)
				ahead[i] = true
			}
		}
		o.flush()
	}
	start := 0
	for i, end := range ends {
		if !ahead[i] {
			o.packet(now, arena[start:end])
		}
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
