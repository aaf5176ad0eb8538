package engine

import (
	"encoding/binary"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/fragment"
	"github.com/hnet-robotics/hnet_bridge/overlay/wireguard"
)

// Messages of our own inside the tunnel. Their first byte is below 0x10, where no IP version begins; stock peers drop them, and none is
// sent to a peer that has not shown that it is one of our daemons. Integers are big endian; unknown types and longer messages are ignored.
//
//	0x01 piece       see package fragment
//	0x02 hello       0x02, version (1), 14 bytes zero: "I am an hnet daemon", after each handshake
//	0x03 probe       0x03, 3 bytes zero, sequence number (4), sender's clock (8, opaque to the receiver)
//	0x04 probe reply 0x04, the probe's other 15 bytes
const (
	innerFragment   = fragment.Type
	innerHello      = 0x02
	innerProbe      = 0x03
	innerProbeReply = 0x04

	innerLen     = 16
	helloVersion = 1
)

func hello() []byte {
	b := make([]byte, innerLen)
	b[0], b[1] = innerHello, helloVersion
	return b
}

// inner reads a message of our own.
func (in *inbound) inner(now time.Time, p *peer, b []byte) {
	if len(b) < innerLen {
		in.e.stats.Malformed.Add(1)
		return
	}
	// Each of these messages shows what the peer is: the hello may have been lost.
	in.with(now, p, func() wireguard.Todo { p.machine.SetNative(); return 0 })
	switch b[0] {
	case innerHello:
	case innerProbe:
		reply := make([]byte, innerLen)
		copy(reply, b)
		reply[0] = innerProbeReply
		in.out.inner(now, p, reply)
	case innerProbeReply:
		in.with(now, p, func() wireguard.Todo { p.probes.reply(now, b); return 0 })
	default:
		in.e.stats.Unknown.Add(1)
	}
}

// Probing of the path in use. The interval, halved while probes go unanswered, is short enough for a watcher's eyes and for noticing a dead path within
// six seconds; at 80 bytes each way it costs 640 bit/s, and only while there is traffic.
const (
	probeInterval = 2 * time.Second
	probeTimeout  = 2 * time.Second
	probeAfter    = 30 * time.Second // how long after the last traffic
	probeHistory  = 32
	// probesLost in a row make the path doubtful.
	probesLost = 3
)

// prober measures a path: round-trip time, jitter, loss. It belongs to the peer's lock.
type prober struct {
	at       time.Time // next probe, zero when not probing
	active   time.Time // last traffic
	sequence uint32
	sent     [probeHistory]time.Time
	answered uint32 // a bit for each of the last probes, the newest lowest
	count    int    // probes in the history
	lost     int    // unanswered in a row

	rtt, jitter time.Duration
	measured    bool
}

// traffic notes that packets pass, which keeps the path probed.
func (b *prober) traffic(now time.Time) {
	b.active = now
	if b.at.IsZero() {
		b.at = now
		b.count, b.answered, b.lost = 0, 0, 0
	}
}

func (b *prober) stop() { b.at = time.Time{}; b.lost = 0 }

// silent reports whether so many probes in a row went unanswered that the path is doubtful.
func (b *prober) silent() bool { return b.lost >= probesLost }

// due reports whether a probe should go out now, and whether the path has just become doubtful.
func (b *prober) due(now time.Time) (due, lost bool) {
	if b.at.IsZero() || now.Before(b.at) {
		return false, false
	}
	if now.Sub(b.active) > probeAfter {
		b.stop()
		return false, false
	}
	if b.count > 0 && b.answered&1 == 0 {
		b.lost++
	}
	return true, b.lost == probesLost
}

// make returns the next probe.
func (b *prober) make(now time.Time) []byte {
	b.sequence++
	b.sent[b.sequence%probeHistory] = now
	b.answered <<= 1
	b.count = min(b.count+1, probeHistory)
	b.at = now.Add(probeInterval)
	if b.lost > 0 {
		b.at = now.Add(probeInterval / 2)
	}
	m := make([]byte, innerLen)
	m[0] = innerProbe
	binary.BigEndian.PutUint32(m[4:], b.sequence)
	return m
}

// reply takes an answer. The time it is measured by is our own note of sending, never what the peer sends back.
func (b *prober) reply(now time.Time, m []byte) {
	sequence := binary.BigEndian.Uint32(m[4:])
	age := b.sequence - sequence
	if age >= uint32(b.count) || b.answered&(1<<age) != 0 {
		return
	}
	b.lost = 0
	sample := now.Sub(b.sent[sequence%probeHistory])
	if sample > probeTimeout {
		return
	}
	b.answered |= 1 << age
	if !b.measured {
		b.rtt, b.jitter, b.measured = sample, sample/2, true
		return
	}
	// RFC 6298's smoothing.
	b.jitter += ((sample - b.rtt).Abs() - b.jitter) / 4
	b.rtt += (sample - b.rtt) / 8
}

// loss is the share of the last probes that brought no answer in time, 0 to 1; ok is false before the first is decided.
func (b *prober) loss(now time.Time) (share float64, ok bool) {
	decided, lost := 0, 0
	for age := range uint32(b.count) {
		answered := b.answered&(1<<age) != 0
		if !answered && now.Sub(b.sent[(b.sequence-age)%probeHistory]) < probeTimeout {
			continue
		}
		decided++
		if !answered {
			lost++
		}
	}
	if decided == 0 {
		return 0, false
	}
	return float64(lost) / float64(decided), true
}
