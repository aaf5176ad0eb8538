package lane

import (
	"math"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/tun"
)

// Bounds of one peer, in bytes with keeping. What waits for a session or a path is little: the first packets, not throughput. On a limited path the lanes
// hold what laneTime carries, and at least a sample of 1 MB and what follows meanwhile; CoDel keeps what heeds it far below these.
const (
	idleBytes   = 256 << 10
	idlePackets = 128
	urgentBytes = 256 << 10
	normalBytes = 1 << 20
	bulkBytes   = 2 << 20
	mostBytes   = 8 << 20
	laneTime    = time.Second
	// MaxAge is how long anything waits: a robot has no use for stale samples, and TCP sends again.
	MaxAge = 5 * time.Second
)

// What a limited path does.
const (
	pieceTime  = 3 * time.Millisecond // what is larger is cut
	pieceLeast = 1600
	// A burst of a flow that heeds no loss is admitted while less than freshTime's worth of the flow waits.
	freshTime  = 200 * time.Millisecond
	freshLeast = 128 << 10
	// urgentShare is the part of the rate up to which the urgent lane goes first, urgentCredit what it may have saved up.
	urgentShare  = 0.5
	urgentCredit = 100 * time.Millisecond
	urgentLeast  = 16 << 10

	quantum   = 1514 // of a flow
	turnBytes = 3000 // of a lane, times its weight
	flows     = 64   // of a lane; more share queues

	spareMost  = 64 // buffers kept for the next packets
	spareBytes = 2048
)

// urgent is the index of the urgent lane.
const urgent = 0

// weights are the lanes' parts in turns; the urgent lane's is that of what exceeds its share.
var weights = [lanes]int{1, 4, 1}

// Queues are the lanes of one peer. The zero Queues are empty and ready. They belong to the peer's lock. Idle ones take two words.
type Queues struct{ s *state }

type state struct {
	lanes   [lanes]round
	packets int
	sweep   time.Time // when Expire has something to do, or earlier

	limited bool
	rate    float64 // bytes per second
	credit  float64 // of the urgent lane, bytes
	at      time.Time

	turn   int // the lane whose turn it is
	chosen int // the lane that Front chose, -1 = none

	split tun.Splitter
	taken []byte // valid until the next Push
	spare [][]byte
}

// round is one lane: its flows, and those that have packets in the order of their turns.
type round struct {
	flows   [flows]*flow
	active  []*flow
	bytes   int
	packets int
	deficit int
}

func (q *Queues) state() *state {
	if q.s == nil {
		q.s = &state{chosen: -1}
	}
	return q.s
}

// Empty reports whether nothing waits.
func (q *Queues) Empty() bool { return q.s == nil || q.s.packets == 0 }

// Bytes returns how many bytes wait, with 64 for each packet's keeping.
func (q *Queues) Bytes() (n int) {
	if q.s != nil {
		for i := range q.s.lanes {
			n += q.s.lanes[i].bytes
		}
	}
	return n
}

// Limit says what the path takes at the moment (pace.Controller.Rate), in bytes per second. It is cheap, and called before Push and before a run of
// Front and Take.
func (q *Queues) Limit(now time.Time, bytesPerSecond float64, limited bool) {
	if !limited {
		if q.s != nil {
			if q.s.limited = false; q.s.packets == 0 {
				q.s = nil
			}
		}
		return
	}
	s := q.state()
	most := max(bytesPerSecond*urgentShare*urgentCredit.Seconds(), urgentLeast)
	if !s.limited {
		s.limited, s.credit = true, most
	} else if since := now.Sub(s.at); since > 0 {
		s.credit = min(s.credit+since.Seconds()*urgentShare*bytesPerSecond, most)
	}
	s.at, s.rate = now, bytesPerSecond
}

// Piece is the size in bytes of the largest superpacket that needs no cutting: a larger one goes through Push even if nothing waits.
func (q *Queues) Piece() int {
	if q.s == nil || !q.s.limited {
		return math.MaxInt
	}
	return max(int(q.s.rate*pieceTime.Seconds()), pieceLeast)
}

// Push takes a superpacket (virtio_net_hdr and IP packet), which is copied but may be cut in place: the caller's buffer is worthless afterwards.
// dropped is how many packets were lost for it, itself included.
func (q *Queues) Push(now time.Time, t Treatment, superpacket []byte, b *Budget) (dropped int) {
	if len(superpacket) <= tun.HeaderLen {
		return 1
	}
	s := q.state()
	s.recycle()
	packet := superpacket[tun.HeaderLen:]
	lane := t.Lane
	if lane < Urgent || lane > Bulk {
		lane = ByClass(class(packet))
	}
	h := parse(packet)
	if len(superpacket) <= q.Piece() {
		return s.push(now, int(lane-Urgent), h, superpacket[:tun.HeaderLen], packet, t.Redundant, b)
	}
	if s.split.Reset(superpacket) != nil {
		return 1
	}
	var plain [tun.HeaderLen]byte
	for s.split.Next() {
		dropped += s.push(now, int(lane-Urgent), h, plain[:], s.split.Packet(), t.Redundant, b)
	}
	return dropped
}

// push queues one superpacket or packet.
func (s *state) push(now time.Time, lane int, h header, virtio, packet []byte, redundant bool, b *Budget) (dropped int) {
	l := &s.lanes[lane]
	f := l.flows[h.flow%flows]
	if f == nil {
		f = new(flow)
		l.flows[h.flow%flows] = f
	}
	cost := len(virtio) + len(packet) + keeping
	most, packets := idleBytes, idlePackets
	if s.limited {
		most, packets = s.most(lane), math.MaxInt
	}
	f.responsive = h.responsive
	if s.limited && !h.responsive && lane != urgent {
		fresh := max(int(s.rate*freshTime.Seconds()), freshLeast)
		if !f.admits(now, cost, fresh, most*3/4) {
			return 1
		}
	}
	for l.packets > 0 && (l.bytes+cost > most || l.packets >= packets) {
		s.drop(lane, l.fattest(), b)
		dropped++
	}
	// What is less urgent makes room when all peers together hold too much.
	for i := lanes - 1; i > lane && b.used.Load()+int64(cost) > MostBytes; i-- {
		for s.lanes[i].packets > 0 && b.used.Load()+int64(cost) > MostBytes {
			s.drop(i, s.lanes[i].fattest(), b)
			dropped++
		}
	}
	if b.used.Load()+int64(cost) > MostBytes {
		return dropped + 1
	}
	b.used.Add(int64(cost))
	if s.packets == 0 {
		s.sweep = now.Add(MaxAge)
	}
	f.push(waiting{s.copy(virtio, packet), now, redundant})
	l.bytes += cost
	l.packets++
	s.packets++
	if !f.listed {
		f.listed, f.deficit = true, quantum
		l.active = append(l.active, f)
	}
	return dropped
}

// most is how many bytes a lane of a limited path may hold.
func (s *state) most(lane int) int {
	least := [lanes]int{urgentBytes, normalBytes, bulkBytes}[lane]
	if lane == urgent {
		return least
	}
	return min(max(least, int(s.rate*laneTime.Seconds())), mostBytes)
}

func (s *state) copy(virtio, packet []byte) []byte {
	n := len(virtio) + len(packet)
	var b []byte
	switch last := len(s.spare) - 1; {
	case n > spareBytes:
		b = make([]byte, 0, n)
	case last >= 0:
		b = s.spare[last][:0]
		s.spare[last] = nil
		s.spare = s.spare[:last]
	case s.limited:
		b = make([]byte, 0, spareBytes)
	default:
		b = make([]byte, 0, n)
	}
	return append(append(b, virtio...), packet...)
}

// recycle takes back the buffer of what was taken last.
func (s *state) recycle() {
	if s.taken != nil {
		s.reuse(s.taken)
		s.taken = nil
	}
}

func (s *state) reuse(b []byte) {
	if cap(b) == spareBytes && len(s.spare) < spareMost {
		s.spare = append(s.spare, b)
	}
}

// fattest is the flow of which most waits.
func (l *round) fattest() *flow {
	fattest := l.active[0]
	for _, f := range l.active[1:] {
		if f.bytes > fattest.bytes {
			fattest = f
		}
	}
	return fattest
}

// remove takes the head of a flow out.
func (s *state) remove(lane int, f *flow, b *Budget) waiting {
	w := f.pop()
	l := &s.lanes[lane]
	l.bytes -= w.cost()
	l.packets--
	s.packets--
	b.used.Add(-int64(w.cost()))
	if f.len() == 0 {
		l.unlist(f)
	}
	return w
}

func (s *state) drop(lane int, f *flow, b *Budget) {
	w := s.remove(lane, f, b)
	s.reuse(w.superpacket)
}

func (l *round) unlist(f *flow) {
	for i, other := range l.active {
		if other == f {
			copy(l.active[i:], l.active[i+1:])
			l.active[len(l.active)-1] = nil
			l.active = l.active[:len(l.active)-1]
			break
		}
	}
	f.listed = false
	if len(l.active) == 0 {
		l.deficit = 0
	}
}

// Front chooses what goes next, without taking it; ok is false when nothing waits. dropped is how many packets were thrown away because the queue they
// waited in is too long. Asked again before Take, it gives the same answer unless something more urgent was pushed.
func (q *Queues) Front(now time.Time, b *Budget) (item Item, dropped int, ok bool) {
	s := q.s
	if s == nil {
		return Item{}, 0, false
	}
	for s.packets > 0 {
		lane := s.choose()
		l := &s.lanes[lane]
		f := l.next()
		w := f.front()
		if s.limited && f.responsive && !f.judged {
			target := max(codelTarget, time.Duration(codelPackets/s.rate*float64(time.Second)))
			if f.codel.judge(now, now.Sub(w.since), f.bytes, target) && !Mark(w.superpacket[tun.HeaderLen:]) {
				s.drop(lane, f, b)
				dropped++
				continue
			}
			f.judged = true
		}
		s.chosen = lane
		return Item{w.superpacket, Lane(lane) + Urgent, w.redundant}, dropped, true
	}
	s.chosen = -1
	return Item{}, dropped, false
}

// choose returns the lane that goes next; something waits.
func (s *state) choose() int {
	if s.lanes[urgent].packets > 0 && (!s.limited || s.credit > 0) {
		return urgent
	}
	for {
		if l := &s.lanes[s.turn]; l.packets > 0 {
			if l.deficit > 0 {
				return s.turn
			}
			l.deficit += turnBytes * weights[s.turn]
			if l.deficit > 0 {
				return s.turn
			}
		}
		s.turn = (s.turn + 1) % lanes
	}
}

// next returns the flow of the lane whose turn it is.
func (l *round) next() *flow {
	for {
		f := l.active[0]
		if f.deficit > 0 {
			return f
		}
		f.deficit += quantum
		copy(l.active, l.active[1:])
		l.active[len(l.active)-1] = f
	}
}

// Take removes what Front returned last; nothing else is called in between.
func (q *Queues) Take(b *Budget) {
	s := q.s
	if s == nil || s.chosen < 0 {
		return
	}
	s.recycle()
	lane := s.chosen
	s.chosen = -1
	l := &s.lanes[lane]
	f := l.active[0]
	w := s.remove(lane, f, b)
	f.deficit -= len(w.superpacket)
	if lane == urgent && s.credit > 0 {
		s.credit -= float64(len(w.superpacket))
	} else {
		l.deficit -= len(w.superpacket)
		if l.packets == 0 {
			l.deficit = 0
		}
		if l.deficit <= 0 {
			s.turn = (lane + 1) % lanes
		}
	}
	s.taken = w.superpacket
}

// Expire throws away what has waited for MaxAge and returns how many packets that was.
func (q *Queues) Expire(now time.Time, b *Budget) (dropped int) {
	s := q.s
	if s == nil || s.packets == 0 || now.Before(s.sweep) {
		return 0
	}
	s.chosen = -1
	oldest := now
	for lane := range s.lanes {
		for _, f := range s.lanes[lane].flows {
			for f != nil && f.len() > 0 && now.Sub(f.front().since) >= MaxAge {
				s.drop(lane, f, b)
				dropped++
			}
			if f != nil && f.len() > 0 && f.front().since.Before(oldest) {
				oldest = f.front().since
			}
		}
	}
	s.sweep = oldest.Add(MaxAge)
	q.shrink()
	return dropped
}

// Next returns when Expire wants to be called, zero if nothing waits.
func (q *Queues) Next() time.Time {
	if q.Empty() {
		return time.Time{}
	}
	return q.s.sweep
}

// Clear throws away everything and returns how many packets that was.
func (q *Queues) Clear(b *Budget) (dropped int) {
	s := q.s
	if s == nil {
		return 0
	}
	for lane := range s.lanes {
		for s.lanes[lane].packets > 0 {
			s.remove(lane, s.lanes[lane].active[0], b)
			dropped++
		}
	}
	s.chosen = -1
	q.shrink()
	return dropped
}

// shrink forgets the flows of empty queues.
func (q *Queues) shrink() {
	if q.s.packets == 0 && !q.s.limited {
		q.s = nil
	}
}
