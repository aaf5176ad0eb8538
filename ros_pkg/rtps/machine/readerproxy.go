package machine

import (
	"net/netip"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// meeting is for how long a volatile reader has to show that it knows the writer, before it gets samples all the same.
// Cyclone DDS drops what comes before it has matched the writer, and skips all that the first heartbeat it sees names:
// so nothing is sent, and nothing named, before it has answered an empty heartbeat.
const meeting = 2 * time.Second

// readerProxy is a remote reader as its writer sees it.
type readerProxy struct {
	w        *Writer
	remote   *remote
	endpoint *Endpoint
	own      *remoteEndpoint
	reliable bool
	stalled  bool // not waited for

	from  wire.SequenceNumber // the first that concerns it
	next  wire.SequenceNumber // to be sent the first time
	frag  uint32              // fragments of next that were sent
	acked wire.SequenceNumber // it has all below
	skip  wire.SequenceNumber // skip..next-1 do not concern it and it was not told; 0: none

	heartbeat timer
	sending   timer
	interval  time.Duration
	since     int  // samples since the last heartbeat
	unasked   int  // samples since the last one that wants an answer
	silent    int  // heartbeats without an answer
	asking    bool // a heartbeat alone is being sent
	asked     time.Time
	rtt       time.Duration // as short as it was of late; 0: not known
	owing     time.Time     // since when it owes an acknowledgement

	acks, nacks counter
	resends     []resend
	resent      wire.SequenceNumberSet // lately
	resentAt    time.Time
	fragHBCount uint32
	lastParts   wire.FragmentNumberSet // asked for last
	lastPartsOf wire.SequenceNumber
	partsAt     time.Time
	toldAt      time.Time // when a heartbeat was last sent because somebody asked
	pace        pace

	unmet     bool      // has not answered the first heartbeat
	matchedAt time.Time // since then
}

func (p *readerProxy) guid() wire.GUID { return p.endpoint.GUID }

// sample is what the reader gets of a number: nothing of what is gone, too old or for others.
func (p *readerProxy) sample(now time.Time, seq wire.SequenceNumber) (c *change, payload []byte, ok bool) {
	if c = p.w.history.get(seq); c == nil || expired(c, now) {
		return nil, nil, false
	}
	payload, ok = p.w.payload(c, p.endpoint)
	return c, payload, ok
}

// finished is the number up to which nothing is left to do for the reader.
func (p *readerProxy) finished() wire.SequenceNumber {
	if p.reliable {
		return min(p.acked, p.next) - 1
	}
	return p.next - 1
}

// owed reports whether anything that concerns the reader lies between what it acknowledged and seq.
func (p *readerProxy) owed(seq wire.SequenceNumber) bool {
	for s := max(p.acked, p.w.history.first); s <= seq; s++ {
		if c := p.w.history.get(s); c != nil {
			if _, ok := p.w.payload(c, p.endpoint); ok {
				return true
			}
		}
	}
	return false
}

// to is where the reader is reached. One that is silent is asked everywhere, and then written to where it answers from: who only claims to have an address
// shall not have it flooded.
func (p *readerProxy) to() []netip.AddrPort {
	wide := p.asking && p.silent >= wideAfter
	if p.w.builtin {
		return p.remote.metaTo(wide)
	}
	return p.own.to(wide)
}

// near reports whether long datagrams reach the reader whole: it is on this host, and not one that cuts off what our own profile for Fast DDS
// does not allow over IPv6.
func (p *readerProxy) near() bool {
	if !p.remote.local {
		return false
	}
	best := p.own.to(false)
	if p.w.builtin {
		best = p.remote.metaTo(false)
	}
	return p.remote.info.Vendor != wire.VendorFastDDS || len(best) > 0 && best[0].Addr().Is4()
}

// limit is the longest datagram to the reader.
func (p *readerProxy) limit() int {
	if p.near() {
		if p.remote.info.Vendor == wire.VendorCyclone {
			return cycloneMessage
		}
		return maxLocalMessage
	}
	return p.w.m.config.MaxMessage
}

// fragment is the length of fragments for the reader.
func (p *readerProxy) fragment() int { return (p.limit() - fragmentOverhead) &^ 3 }

const (
	maxLocalMessage  = 60 << 10
	cycloneMessage   = 14720 // its own limit; of those of 60 KB some do not arrive at Cyclone DDS 0.10, which costs milliseconds
	fragmentOverhead = 20 + wire.InfoDstLen + wire.InfoTSLen + 36 + 4 + 64 + wire.HeartbeatLen
)

// push sends what has not been sent, as far as the pace allows.
func (p *readerProxy) push(now time.Time) {
	m, h := p.w.m, &p.w.history
	if p.next > h.last && len(p.resends) == 0 {
		return
	}
	if p.unmet {
		if now.Sub(p.matchedAt) < meeting {
			if p.heartbeat.index == 0 {
				p.tell(now, false)
				p.interval = p.patience()
				m.set(&p.heartbeat, now.Add(p.interval))
			}
			return
		}
		p.unmet = false
	}
	b := m.message(p.remote.info.Prefix)
	byAcks := p.paceByAcks()
	left := p.pace.fill(now, !byAcks)
	again := p.again(now, b, &left)
	for left > 0 && p.next <= h.last {
		c, payload, ok := p.sample(now, p.next)
		if !ok {
			if p.skip == 0 {
				p.skip = p.next
			}
			p.next++
			p.frag = 0
			continue
		}
		p.skipped(b)
		if !p.send(b, c, payload, &left) {
			break
		}
		p.next++
		p.frag = 0
		p.since++
		if p.unasked++; p.reliable && (p.since >= p.every() || len(payload) > p.limit()) {
			p.ask(now, b, !p.w.builtin && p.unasked < askEvery && len(payload) <= p.limit())
		}
	}
	if again && p.reliable {
		p.ask(now, b, false)
	}
	m.post(p.to())
	if len(p.resends) > 0 || p.next <= h.last && (!byAcks || p.frag > 0) {
		m.sooner(&p.sending, now.Add(p.pace.wait()))
	}
	if p.reliable && p.acked < p.next {
		if p.owing.IsZero() {
			p.owing = now
		}
		if p.heartbeat.index == 0 {
			p.interval = p.patience()
			m.set(&p.heartbeat, now.Add(p.interval))
		}
	}
}

// paceByAcks chooses how the reader is paced, and reports whether only by what it acknowledges: on one host that takes no time worth mentioning. A long
// way would be empty most of the time; within a sample, and for what is sent again, nothing is acknowledged.
func (p *readerProxy) paceByAcks() bool {
	if !p.remote.reached() {
		p.pace.use(&blindPacing)
		return false
	}
	if !p.near() {
		p.pace.use(&farPacing)
		return false
	}
	p.pace.use(&localPacing)
	if !p.reliable || p.frag > 0 || len(p.resends) > 0 {
		return false
	}
	if p.acked >= p.next {
		p.pace.tokens = p.pace.burst // nothing is on its way
	}
	return true
}

func (p *readerProxy) resume(now time.Time) {
	p.push(now)
	p.w.forget()
}
