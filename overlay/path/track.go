package path

import (
	"math/bits"
	"time"
)

// instant is nanoseconds since a machine's epoch; 0 = never.
type instant int64

func (t instant) add(d time.Duration) instant { return t + instant(d) }
func (t instant) passed(now instant) bool     { return t != 0 && t <= now }

// Timing of replies.
const (
	minTimeout     = 150 * time.Millisecond
	maxTimeout     = 700 * time.Millisecond
	unknownTimeout = 700 * time.Millisecond // before the first measurement
	// lossAfter is how long a reply may take before its probe counts as lost, and the longest RTT that can be measured.
	lossAfter = 3 * time.Second
	window    = 32 // probes that the loss is counted over
)

// track is one path and what is known of it. 136 bytes, so that a remembered path of an idle peer costs little.
type track struct {
	key     Key
	due     instant // next probe, 0 = none
	probed  instant // last probe
	arrived instant // last authentic data or probe by it, coarsely
	heard   instant // last reply, or handshake, that proved it
	// missed is when the first of the probes was sent that have been unanswered since the last reply.
	missed instant
	avoid  instant // for its loss not used until then

	srtt, jitter uint32 // microseconds
	base         uint32 // as srtt, without the time that probes waited behind our own traffic
	history      uint32 // a bit for each decided probe, 1 = answered, the newest lowest
	uplink       uint32 // interface it leaves by, 0 = unknown
	bound, mtu   uint16

	kind    Kind
	state   State
	order   uint8 // in which it was offered
	flags   trackFlags
	count   uint8 // bits in history
	late    uint8 // replies late in a row
	sent    uint8 // probes sent since the last reply
	step    uint8 // of the schedule or of the backoff
	avoids  uint8 // how often it was left for its loss
	samples uint8 // of the RTT, up to enoughSamples
	deaths  uint8 // in use, in quick succession
}

type trackFlags uint8

const (
	offered   trackFlags = 1 << iota // by the last SetCandidates
	answered                         // it answered some time
	opening                          // an opener is to be sent
	searched                         // its MTU has been found
	spare                            // Candidate.Spare
	peerSpare                        // the peer's probes say that it is one of its Spare ones
)

func (tr *track) is(f trackFlags) bool { return tr.flags&f != 0 }

// spared reports whether it is kept for copies, and for when nothing else is alive.
func (tr *track) spared() bool { return tr.flags&(spare|peerSpare) != 0 }

// direct reports whether it needs no Base.
func (tr *track) direct() bool { return !tr.kind.Relayed() }

// usable reports whether traffic may be sent by it at all: it answered, or it is a relay, which at least a Base vouches for.
func (tr *track) usable() bool { return tr.kind.Relayed() || tr.is(answered) && tr.state != Untried }

// forget returns to not knowing anything, as when this host's end of it changed.
func (tr *track) forget() {
	*tr = track{key: tr.key, kind: tr.kind, order: tr.order, bound: tr.bound, flags: tr.flags & (offered | spare | peerSpare), uplink: tr.uplink, probed: tr.probed}
}

// measure takes an RTT sample by the smoothing of RFC 6298; queueing is how much of it is known to be the queue of our own traffic.
func (tr *track) measure(rtt, queueing time.Duration) {
	sample := uint32(max(min(rtt, lossAfter), time.Microsecond) / time.Microsecond)
	// What is known of the queue may be of a moment ago: it never makes a path look better than it was.
	idle := sample - uint32(min(queueing/time.Microsecond, time.Duration(sample)))
	if tr.samples > 0 && idle < tr.base {
		idle = min(sample, tr.base)
	}
	if tr.samples == 0 {
		tr.srtt, tr.jitter, tr.base = sample, sample/2, sample
	} else {
		tr.base = uint32(int64(tr.base) + (int64(idle)-int64(tr.base))/8)
		off := int64(sample) - int64(tr.srtt)
		tr.jitter = uint32(int64(tr.jitter) + (max(off, -off)-int64(tr.jitter))/4)
		tr.srtt = uint32(int64(tr.srtt) + off/8)
	}
	tr.samples = min(tr.samples+1, enoughSamples)
}

func (tr *track) rtt() time.Duration { return time.Duration(tr.srtt) * time.Microsecond }

// timeout is when a reply is late. Above 600 ms of RTT the upper clamp gives way, else such a path would never be in time; a dead path is then
// noticed later by as much.
func (tr *track) timeout() time.Duration {
	if tr.samples == 0 {
		return unknownTimeout
	}
	jitter := time.Duration(tr.jitter) * time.Microsecond
	t := max(minTimeout, min(maxTimeout, tr.rtt()+4*jitter+20*time.Millisecond))
	return max(t, min(lossAfter, tr.rtt()+min(jitter, tr.rtt()/4)+20*time.Millisecond))
}

// decide notes the fate of a probe.
func (tr *track) decide(arrived bool) {
	tr.history <<= 1
	if arrived {
		tr.history |= 1
	}
	tr.count = min(tr.count+1, window)
}

// loss is the share of decided probes that were lost.
func (tr *track) loss() float64 {
	if tr.count == 0 {
		return 0
	}
	mask := uint32(1<<tr.count - 1) // all ones for 32
	return float64(int(tr.count)-bits.OnesCount32(tr.history&mask)) / float64(tr.count)
}

// cost is the RTT of the path without our own traffic, with loss counted in, in microseconds: a lost packet is worth a few round trips to who has to ask
// again. Our own traffic would fill the queue of another path as well.
func (tr *track) cost() float64 {
	if tr.count < window/2 {
		return float64(tr.base)
	}
	return float64(tr.base) * (1 + 4*tr.loss())
}

func (tr *track) status(selected bool) Status {
	s := Status{
		Key: tr.key, Kind: tr.kind, State: tr.state, Selected: selected, RTT: tr.rtt(), Jitter: time.Duration(tr.jitter) * time.Microsecond,
		Loss: tr.loss(), LossKnown: tr.count > 0, MTU: int(tr.mtu), Searched: tr.is(searched), Spare: tr.spared(),
	}
	if s.State == Alive && tr.late > 0 {
		s.State = Doubtful
	}
	return s
}
