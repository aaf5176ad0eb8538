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

// maxResends is how many samples and parts of samples that a reader asked for may wait to be sent.
const maxResends = 512

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

// resend is a sample, or fragments of it, to be sent again.
type resend struct {
	seq       wire.SequenceNumber
	next      uint32 // fragment, from 0
	fragments wire.FragmentNumberSet
	some      bool // only those in fragments
}

type gapRange struct{ from, to wire.SequenceNumber }

func (p *readerProxy) guid() wire.GUID { return p.endpoint.GUID }

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
		c := h.get(p.next)
		var payload []byte
		ok := c != nil && !expired(c, now)
		if ok {
			payload, ok = p.w.payload(c, p.endpoint)
		}
		if !ok {
			if p.skip == 0 {
				p.skip = p.next
			}
			p.next++
			p.frag = 0
			continue
		}
		p.skipped(b)
		if !p.send(now, b, c, payload, &left) {
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

// every is after how many samples the reader is asked what it has.
func (p *readerProxy) every() int {
	if p.w.builtin {
		return 1
	}
	if p.w.config.QoS.History == KeepLast {
		return min(max(p.w.config.QoS.depth()/2, 1), heartbeatEvery)
	}
	return heartbeatEvery
}

// patience is how long an answer may take.
func (p *readerProxy) patience() time.Duration { return max(heartbeatDelay, p.rtt+p.rtt/2) }

// skipped tells what does not concern the reader, if the message has the order to allow for it.
func (p *readerProxy) skipped(b *wire.Builder) {
	if p.skip == 0 {
		return
	}
	if p.reliable {
		p.gap(b, gapRange{p.skip, p.next - 1})
	}
	p.skip = 0
}

func (p *readerProxy) gap(b *wire.Builder, g gapRange) {
	p.fit(b, wire.GapLen(0))
	b.Gap(&wire.Gap{
		Reader: p.guid().Entity, Writer: p.w.guid.Entity, Start: g.from, Set: wire.NewSequenceNumberSet(g.to + 1),
	})
}

// fit posts the message first if n more bytes would make it too long.
func (p *readerProxy) fit(b *wire.Builder, n int) {
	if b.Len()+n > p.limit() {
		p.w.m.post(p.to())
	}
}

// header is the inline QoS of a sample.
func (p *readerProxy) header(c *change) wire.ParameterList {
	if !c.relates && c.status == Alive && !c.keyed {
		return wire.ParameterList{}
	}
	q := wire.InlineQoS{Status: wire.StatusInfo(c.status)}
	if c.relates {
		q.Related, q.HasRelated = wire.SampleIdentity{Writer: c.related.Writer, SN: c.related.Sequence}, true
	}
	if c.keyed {
		q.KeyHash, q.HasKeyHash = c.key.Bytes(), true
	}
	m := p.w.m
	m.inline = wire.AppendInlineQoS(m.inline[:0], q)
	return wire.ParameterList{Bytes: m.inline}
}

// send writes a sample, or as many of its fragments as may go, and reports whether it is complete.
func (p *readerProxy) send(now time.Time, b *wire.Builder, c *change, payload []byte, left *int) bool {
	inline := p.header(c)
	if n := wire.InfoTSLen + wire.DataLen(len(inline.Bytes), len(payload)); n+wire.HeartbeatLen+36 <= p.limit() {
		p.fit(b, n)
		p.data(b, c, payload, inline)
		*left -= n
		p.pace.spend(n)
		return true
	}
	size := p.fragment()
	count := uint32((len(payload) + size - 1) / size)
	for p.frag < count {
		if *left <= 0 {
			return false
		}
		n := p.part(b, c, payload, inline, p.frag, size)
		*left -= n
		p.pace.spend(n)
		if p.frag++; p.reliable && p.frag < count && p.frag%64 == 0 {
			p.fragHBCount++
			p.fit(b, wire.HeartbeatFragLen)
			b.HeartbeatFrag(wire.HeartbeatFrag{
				Reader: p.guid().Entity, Writer: p.w.guid.Entity, SN: c.seq,
				LastFragment: wire.FragmentNumber(p.frag), Count: p.fragHBCount,
			})
		}
	}
	return true
}

func (p *readerProxy) data(b *wire.Builder, c *change, payload []byte, inline wire.ParameterList) {
	b.InfoTS(wire.TimestampFrom(c.at))
	d := &p.w.m.data
	*d = wire.Data{
		Reader: p.guid().Entity, Writer: p.w.guid.Entity, SN: c.seq, InlineQoS: inline, Content: wire.DataContent,
		Payload: payload,
	}
	if c.status != Alive {
		d.Content = wire.KeyContent
		if len(payload) == 0 {
			d.Content = wire.NoContent
		}
	}
	b.Data(d)
	d.Payload = nil
}

// part writes one fragment, from 0, in a message of its own, and returns its length.
func (p *readerProxy) part(b *wire.Builder, c *change, payload []byte, inline wire.ParameterList, i uint32, size int) int {
	m := p.w.m
	start := int(i) * size
	end := min(start+size, len(payload))
	n := wire.InfoTSLen + wire.DataFragLen(len(inline.Bytes), end-start)
	p.fit(b, n)
	b.InfoTS(wire.TimestampFrom(c.at))
	d := &m.dataFrag
	*d = wire.DataFrag{
		Reader: p.guid().Entity, Writer: p.w.guid.Entity, SN: c.seq, FirstFragment: wire.FragmentNumber(i + 1),
		Fragments: 1, FragmentSize: uint16(size), SampleSize: uint32(len(payload)), InlineQoS: inline,
		Payload: payload[start:end],
	}
	b.DataFrag(d)
	d.Payload = nil
	return n
}

// again sends what was asked for, and reports whether all of that is out now.
func (p *readerProxy) again(now time.Time, b *wire.Builder, left *int) bool {
	if len(p.resends) == 0 {
		return false
	}
	m := p.w.m
	for len(p.resends) > 0 {
		if *left <= 0 {
			return false
		}
		r := &p.resends[0]
		if !p.repeat(now, b, r, left) {
			return false
		}
		m.counters.Resent++
		p.resends = p.resends[1:]
	}
	p.resends = nil
	return true
}

// repeat sends one sample or fragments of it again, and reports whether that is complete.
func (p *readerProxy) repeat(now time.Time, b *wire.Builder, r *resend, left *int) bool {
	c := p.w.history.get(r.seq)
	var payload []byte
	ok := c != nil && !expired(c, now)
	if ok {
		payload, ok = p.w.payload(c, p.endpoint)
	}
	if !ok {
		p.gap(b, gapRange{r.seq, r.seq})
		return true
	}
	inline := p.header(c)
	if n := wire.InfoTSLen + wire.DataLen(len(inline.Bytes), len(payload)); n+wire.HeartbeatLen+36 <= p.limit() {
		p.fit(b, n)
		p.data(b, c, payload, inline)
		*left -= n
		p.pace.spend(n)
		return true
	}
	size := p.fragment()
	count := uint32((len(payload) + size - 1) / size)
	for ; r.next < count; r.next++ {
		if r.some && !r.fragments.Contains(wire.FragmentNumber(r.next+1)) {
			continue
		}
		if *left <= 0 {
			return false
		}
		n := p.part(b, c, payload, inline, r.next, size)
		*left -= n
		p.pace.spend(n)
	}
	return true
}

// beat asks the reader again for what it has.
func (p *readerProxy) beat(now time.Time) {
	if p.unmet {
		if now.Sub(p.matchedAt) >= meeting {
			p.push(now)
			return
		}
		p.tell(now, false)
		p.interval = min(2*p.interval, heartbeatMost)
		p.w.m.set(&p.heartbeat, now.Add(p.interval))
		return
	}
	if p.acked >= p.next && p.skip == 0 {
		p.owing = time.Time{}
		return
	}
	p.silent = min(p.silent+1, 1<<20)
	p.tell(now, false)
	most := max(heartbeatMost, p.patience())
	if p.silent > patientFor && !p.remote.proven {
		most = heartbeatRare
	}
	p.interval = min(2*p.interval, most)
	p.w.m.set(&p.heartbeat, now.Add(p.interval))
}

// tell sends a heartbeat on its own.
func (p *readerProxy) tell(now time.Time, final bool) {
	b := p.w.m.message(p.remote.info.Prefix)
	p.asking = true
	p.skipped(b)
	p.ask(now, b, final)
	p.w.m.post(p.to())
	p.asking = false
}

// ask adds a heartbeat: it names what was sent so far, not what still waits.
func (p *readerProxy) ask(now time.Time, b *wire.Builder, final bool) {
	p.skipped(b)
	p.fit(b, wire.HeartbeatLen)
	h := &p.w.history
	last := p.next - 1
	first := min(max(h.first, p.from), last+1)
	p.w.count++
	b.Heartbeat(wire.Heartbeat{
		Reader: p.guid().Entity, Writer: p.w.guid.Entity, First: max(first, 1), Last: last, Count: p.w.count, Final: final,
	})
	p.w.m.counters.Heartbeats++
	p.since = 0
	if !final {
		p.unasked = 0
		if p.asked.IsZero() {
			p.asked = now
		}
	}
}

// recount is after how long without a valid count a lower one is taken: the other side has forgotten us meanwhile, and
// counts anew.
const recount = 500 * time.Millisecond

// counter tells repeated submessages from new ones.
type counter struct {
	last uint32
	at   time.Time // zero: none yet
}

// take reports whether a count, which may wrap, is a new one.
func (c *counter) take(now time.Time, count uint32) bool {
	if !c.at.IsZero() && int32(count-c.last) <= 0 && now.Sub(c.at) < recount {
		return false
	}
	c.last, c.at = count, now
	return true
}

// onAckNack takes what the reader has and lacks.
func (p *readerProxy) onAckNack(now time.Time, a *wire.AckNack) {
	if !p.reliable || !p.acks.take(now, a.Count) {
		return
	}
	h := &p.w.history
	p.silent = 0
	if !p.asked.IsZero() {
		if d := now.Sub(p.asked); p.rtt == 0 || d < p.rtt {
			p.rtt = d
		} else {
			p.rtt += (min(d, time.Second) - p.rtt) / 8
		}
		p.asked = time.Time{}
	}
	if base := min(a.Set.Base, p.next); base > p.acked {
		if p.pace.pacing != nil {
			p.arrived(base)
		}
		p.acked = base
		p.owing = now
		p.stalled = false
		p.w.forget()
		p.w.progress()
	}
	if p.acked >= p.next {
		p.owing = time.Time{}
	}
	p.interval = min(p.interval, p.patience())
	wanted := p.want(now, &a.Set)
	if p.unmet {
		// An unasked one, with which a reader only introduces itself, is empty at 1 and not final.
		if p.unmet = !a.Final && a.Set.Base == 1 && a.Set.NumBits == 0; p.unmet {
			if now.Sub(p.toldAt) >= leastSuppression {
				p.toldAt = now
				p.tell(now, false)
			}
		} else {
			p.push(now)
		}
		return
	}
	if len(p.resends) > 0 {
		p.push(now)
		return
	}
	if p.next <= h.last {
		p.push(now) // there is room again
	}
	if !a.Final && !wanted && now.Sub(p.toldAt) >= leastSuppression {
		p.toldAt = now
		p.tell(now, p.acked >= p.next)
	}
}

// arrived makes room in the pace for what the reader has from now on.
func (p *readerProxy) arrived(base wire.SequenceNumber) {
	n, limit, large := 0, p.limit(), false
	for seq := max(p.acked, base-maxArrived); seq < base; seq++ {
		if c := p.w.history.get(seq); c != nil {
			n += len(c.payload)
			large = large || len(c.payload) > limit
		}
	}
	p.pace.arrived(n, large)
}

// maxArrived is how many samples of one acknowledgement are looked at: as many as a reader's socket may hold.
const maxArrived = 256

// want notes what a reader asks for, tells it at once what it will not get, and reports whether it asked for anything
// that is not on its way already.
func (p *readerProxy) want(now time.Time, set *wire.SequenceNumberSet) (wanted bool) {
	m, h := p.w.m, &p.w.history
	calm := now.Sub(p.resentAt) >= p.suppression()
	if calm {
		p.resent = wire.NewSequenceNumberSet(max(set.Base, 1))
	}
	var gone wire.SequenceNumberSet // of the first number and these
	for seq := range set.All() {
		if seq >= p.next {
			break
		}
		wanted = true
		c := h.get(seq)
		ok := c != nil && seq >= p.from && !expired(c, now)
		if ok {
			_, ok = p.w.payload(c, p.endpoint)
		}
		if !ok {
			if p.resent.Contains(seq) {
				continue
			}
			p.resent.Add(seq)
			p.resentAt = now
			if gone.Base == 0 {
				gone.Base = seq + 1
			} else {
				gone.Add(seq)
			}
			continue
		}
		if p.resent.Contains(seq) || len(p.resends) >= maxResends {
			continue
		}
		p.resent.Add(seq)
		p.resentAt = now
		if len(c.payload) > p.limit() && p.pace.pacing != nil {
			p.pace.lost(now)
		}
		p.resends = append(p.resends, resend{seq: seq})
	}
	if gone.Base > 0 {
		b := m.message(p.remote.info.Prefix)
		b.Gap(&wire.Gap{Reader: p.guid().Entity, Writer: p.w.guid.Entity, Start: gone.Base - 1, Set: gone})
		m.post(p.to())
	}
	return wanted
}

// leastSuppression bounds what a reader makes its writer do that asks without end.
const leastSuppression = 2 * time.Millisecond

// suppression is for how long a repeated request is taken for one that crossed the answer.
func (p *readerProxy) suppression() time.Duration {
	return min(max(p.rtt*3/4, leastSuppression), 500*time.Millisecond)
}

// onNackFrag takes which fragments the reader lacks.
func (p *readerProxy) onNackFrag(now time.Time, n *wire.NackFrag) {
	if !p.reliable || !p.nacks.take(now, n.Count) || p.pace.pacing == nil {
		return
	}
	p.silent = 0
	if n.SN > p.next || n.SN == p.next && p.frag == 0 || n.SN < p.from {
		return
	}
	if n.Set == p.lastParts && n.SN == p.lastPartsOf && now.Sub(p.partsAt) < p.suppression() {
		return // it crossed the answer
	}
	for i := range p.resends {
		if r := &p.resends[i]; r.seq == n.SN && (!r.some || r.fragments == n.Set) {
			return // it is on its way
		}
	}
	if len(p.resends) >= maxResends {
		return
	}
	p.lastParts, p.lastPartsOf, p.partsAt = n.Set, n.SN, now
	p.pace.lost(now)
	p.resends = append(p.resends, resend{seq: n.SN, fragments: n.Set, some: true})
	p.push(now)
}
