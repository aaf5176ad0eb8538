package multicast

import (
	"sync"
	"time"
)

// Limits of what passes: packets and bytes a second, and twice as much at once. Announcements of a host with twenty
// participants are some ten packets a second.
const (
	peerPackets = 200
	peerBytes   = 256 << 10
	nodePackets = 1000 // of all copies together
	nodeBytes   = 1 << 20
)

// limit is a pair of token buckets. Its methods may be called by several goroutines at once.
type limit struct {
	packetRate, byteRate float64

	mu             sync.Mutex
	packets, bytes float64
	at             time.Time
}

func newLimit(packets, bytes float64) *limit {
	return &limit{packetRate: packets, byteRate: bytes, packets: 2 * packets, bytes: 2 * bytes}
}

// take takes a packet if there is room for it.
func (l *limit) take(now time.Time, bytes int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if since := now.Sub(l.at).Seconds(); l.at.IsZero() {
		l.at = now
	} else if since > 0 {
		l.packets = min(2*l.packetRate, l.packets+l.packetRate*since)
		l.bytes = min(2*l.byteRate, l.bytes+l.byteRate*since)
		l.at = now
	}
	if l.packets < 1 || l.bytes < float64(bytes) {
		return false
	}
	l.packets--
	l.bytes -= float64(bytes)
	return true
}
