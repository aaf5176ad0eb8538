// Package lane holds what waits for a path, the queues of one peer: three lanes, in each lane a queue per flow.
//
// While there is no session or no path, the lanes only wait: the oldest of a lane make room. While the path is limited (package pace), the queues are
// where the path's congestion is, so that they can be kept short and fair, which a modem's buffer is not:
//
//   - The urgent lane goes first, as long as it takes no more than half of the rate; what is beyond that takes turns with the others.
//   - Normal and bulk take turns 4 to 1, by bytes (deficit round robin), and so do the flows of a lane 1 to 1.
//   - A flow that heeds congestion (TCP, SCTP, anything that says it can do ECN) is told of it by CoDel (RFC 8289): marked where ECN allows, else dropped
//     from the head.
//   - Other flows, which is what DDS sends, do not slow down for a lost packet; a lost packet only spoils the sample that it is a piece of. So they
//     are refused by whole bursts: what begins after a pause is admitted while little of the flow waits, and then in full while there is room.
//   - A superpacket larger than what the path carries in 3 ms is cut, so that an urgent packet never waits long behind one.
package lane

import "sync/atomic"

// Lane orders what waits for a path.
type Lane uint8

// The lanes. ByDSCP, the zero value, leaves the choice to the packet's DSCP.
const (
	ByDSCP Lane = iota
	Urgent
	Normal
	Bulk

	lanes = 3
)

func (l Lane) String() string {
	switch l {
	case ByDSCP:
		return "by DSCP"
	case Urgent:
		return "urgent"
	case Normal:
		return "normal"
	case Bulk:
		return "bulk"
	}
	return "unknown lane"
}

// Treatment is how a superpacket is to be carried. The zero Treatment is: by its DSCP, on one path.
type Treatment struct {
	Lane      Lane
	Redundant bool // on two paths at once
}

// MostBytes is how many bytes all peers together may have waiting. It bounds the memory of a host with many peers on slow paths; one peer alone has
// less (see the bounds in queues.go).
const MostBytes = 24 << 20

// Budget counts the bytes that all peers together hold. The zero Budget is empty. It is safe for concurrent use.
type Budget struct{ used atomic.Int64 }

// Used returns how many bytes wait, with 64 for each packet's keeping.
func (b *Budget) Used() int64 { return b.used.Load() }

// Item is what is to be sent next.
type Item struct {
	Superpacket []byte // virtio_net_hdr and IP packet, to be cut and sealed in place; valid until the next Push or Clear
	Lane        Lane
	Redundant   bool
}
