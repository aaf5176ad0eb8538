package engine

import (
	"slices"
	"sync/atomic"
	"time"
)

// Lane orders what waits for a path: the more urgent lane is emptied first.
type Lane uint8

// The lanes.
const (
	Urgent Lane = iota
	Normal
	Bulk
	laneCount
)

// Bounds of what waits. The lanes are for the moments without a path, not for throughput: a peer's lane holds a few superpackets, all peers
// together laneBytesTotal, and nothing waits longer than laneMaxAge: a robot has no use for stale samples, and TCP sends again.
const (
	laneBytes      = 256 << 10
	lanePackets    = 128
	laneBytesTotal = 4 << 20
	laneMaxAge     = 5 * time.Second
)

// laneOf chooses by DSCP (RFC 4594): EF, VA and CS5 upwards are urgent, CS1 (RFC 8622's LE too) is bulk.
func laneOf(trafficClass byte) Lane {
	switch dscp := trafficClass >> 2; {
	case dscp >= 40:
		return Urgent
	case dscp == 8 || dscp == 1:
		return Bulk
	}
	return Normal
}

// budget counts the bytes that all peers together hold.
type budget struct{ used atomic.Int64 }

type waitingPacket struct {
	superpacket []byte // virtio_net_hdr and IP packet
	since       time.Time
}

// lanes holds a peer's superpackets in the clear until a session and a path can take them. It belongs to the peer's lock.
type lanes struct {
	queue [laneCount][]waitingPacket
	bytes [laneCount]int
}

func (l *lanes) empty() bool {
	for _, q := range l.queue {
		if len(q) > 0 {
			return false
		}
	}
	return true
}

// push copies a superpacket into its lane. The oldest of the lane make room; dropped is how many packets were lost for it.
func (l *lanes) push(now time.Time, lane Lane, superpacket []byte, b *budget) (dropped int) {
	for len(l.queue[lane]) > 0 && (l.bytes[lane]+len(superpacket) > laneBytes || len(l.queue[lane]) >= lanePackets) {
		l.take(lane, b)
		dropped++
	}
	if b.used.Load()+int64(len(superpacket)) > laneBytesTotal {
		return dropped + 1
	}
	b.used.Add(int64(len(superpacket)))
	l.bytes[lane] += len(superpacket)
	l.queue[lane] = append(l.queue[lane], waitingPacket{slices.Clone(superpacket), now})
	return dropped
}

// front returns the oldest packet of the most urgent lane without taking it, nil if nothing waits.
func (l *lanes) front() (superpacket []byte, lane Lane) {
	for lane := range laneCount {
		if q := l.queue[lane]; len(q) > 0 {
			return q[0].superpacket, lane
		}
	}
	return nil, 0
}

// expire throws away what has waited too long and returns how many packets that was.
func (l *lanes) expire(now time.Time, b *budget) (n int) {
	for lane := range laneCount {
		for len(l.queue[lane]) > 0 && now.Sub(l.queue[lane][0].since) >= laneMaxAge {
			l.take(lane, b)
			n++
		}
	}
	return n
}

// next returns when expire has something to do, zero if nothing waits.
func (l *lanes) next() (at time.Time) {
	for _, q := range l.queue {
		if len(q) > 0 {
			if t := q[0].since.Add(laneMaxAge); at.IsZero() || t.Before(at) {
				at = t
			}
		}
	}
	return at
}

// take removes the oldest packet of a lane that is not empty.
func (l *lanes) take(lane Lane, b *budget) {
	w := l.queue[lane][0]
	l.queue[lane][0] = waitingPacket{}
	l.queue[lane] = l.queue[lane][1:]
	if len(l.queue[lane]) == 0 {
		l.queue[lane] = nil
	}
	l.bytes[lane] -= len(w.superpacket)
	b.used.Add(-int64(len(w.superpacket)))
}

// clear throws away everything and returns how many packets that was.
func (l *lanes) clear(b *budget) (n int) {
	for lane := range laneCount {
		for len(l.queue[lane]) > 0 {
			l.take(lane, b)
			n++
		}
	}
	return n
}
