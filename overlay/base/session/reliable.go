package session

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/base/wire"
)

// Bounds of the messages that one side of a session has queued or under way; see Room.
const (
	MaxQueued      = 64
	MaxQueuedBytes = 32 << 10 // bodies and headers
)

const (
	// sendWindow is how many datagrams with messages may be under way.
	sendWindow = 8
	// leastRTO, or twice the round trip if that is longer, is after how long the oldest is repeated; each time in vain doubles it up to maxRTO.
	leastRTO  = 250 * time.Millisecond
	streamRTO = 2 * time.Second
	maxRTO    = 4 * time.Second
	maxRTT    = maxRTO / 2
	// giveUp is how long the other side may acknowledge nothing while something is under way.
	giveUp = 30 * time.Second
	// ackDelay is how long an acknowledgement waits for company; every ackEvery-th datagram with messages is acknowledged at once.
	ackDelay = 50 * time.Millisecond
	ackEvery = 2
	// lostAfter is how many acknowledgements in a row that say nothing new, and carry nothing else, mean that a datagram was lost.
	lostAfter = 3
)

// Errors of Queue.
var (
	// ErrFull: the queue has no room now. There will be some when the other side has acknowledged something.
	ErrFull = errors.New("control queue is full")
	// ErrKind: messages of this kind are sent with Unsequenced.
	ErrKind = errors.New("kind is not sequenced")
	// ErrTooLong: the body is longer than wire.MaxBody.
	ErrTooLong = errors.New("control message is too long")
	// ErrEnded: the session has used up its numbers; make a new one.
	ErrEnded = errors.New("session has used up its message numbers")
)

// outbox is the messages that wait to be sent or acknowledged. Its first message has the sequence number assigned-len(messages)+1.
type outbox struct {
	messages []outgoing
	bytes    int
	next     int // messages[next:] are to be sent, for the first time or again
	window   int // datagrams that may be under way
	rto      time.Duration
	resendAt time.Duration // if something is under way
	deadAt   time.Duration // if something is or was under way
	waiting  bool          // something was sent since the queue was empty: deadAt counts
	timedAt  time.Duration // when the message timed was sent, of which no datagram was repeated: its acknowledgement tells the round trip
	timed    uint32        // 0 = none
	repeats  uint8         // acknowledgements in a row that said nothing new
	recover  uint32        // the message up to which the last guess at a loss sent again; it must arrive before the next guess
}

type outgoing struct {
	body  []byte
	kind  wire.Kind
	first bool // of its datagram
}

// Queue takes a message that Poll is to send until it is acknowledged. It keeps a copy of body. ErrFull is ordinary: keep what is to be said, and
// queue it when Room says so, which only Receive can change.
func (s *Session) Queue(kind wire.Kind, body []byte) error {
	switch {
	case !kind.Sequenced():
		return fmt.Errorf("cannot queue a message of kind %v: %w", kind, ErrKind)
	case len(body) > wire.MaxBody:
		return fmt.Errorf("cannot queue a %v of %d bytes, %d at most: %w", kind, len(body), wire.MaxBody, ErrTooLong)
	case s.assigned == math.MaxUint32:
		return ErrEnded
	case !s.Room(len(body)):
		return ErrFull
	}
	if s.out == nil {
		s.out = &outbox{window: sendWindow, rto: s.firstRTO()}
	}
	s.assigned++
	s.out.messages = append(s.out.messages, outgoing{body: append([]byte(nil), body...), kind: kind})
	s.out.bytes += wire.MessageHeaderLen + len(body)
	return nil
}

// Room tells whether Queue would take a message with a body of n bytes now.
func (s *Session) Room(n int) bool {
	return s.out == nil || len(s.out.messages) < MaxQueued && s.out.bytes+wire.MessageHeaderLen+n <= MaxQueuedBytes
}

// Queued is the number of messages that are not acknowledged yet.
func (s *Session) Queued() int {
	if s.out == nil {
		return 0
	}
	return len(s.out.messages)
}

// Poll returns the next control datagram to send, or nil if there is none now. Call it until it says nil: after Queue, after Receive, and at Next.
func (s *Session) Poll(now time.Time) []byte {
	if s.Dead(now) {
		return nil
	}
	at := now.Sub(s.start)
	if s.early != nil && at >= s.early.until {
		s.early = nil
	}
	if o := s.out; o != nil {
		if o.underWay() > 0 && at >= o.resendAt {
			// Everything goes again, for what came after a gap may not have been kept; but one datagram alone until there is an answer.
			o.next, o.window, o.timed = 0, 1, 0
			o.rto = min(2*o.rto, maxRTO)
		}
		if o.ready() {
			return s.send(at)
		}
	}
	if s.owesAck && at >= s.ackDue {
		return s.seal(s.begin(0))
	}
	return nil
}

// send makes one datagram of as many messages as it holds.
func (s *Session) send(at time.Duration) []byte {
	o := s.out
	length, end := wire.AckLen, o.next
	for ; end < len(o.messages); end++ {
		n := wire.MessageHeaderLen + len(o.messages[end].body)
		if length+n > wire.MaxPlaintext {
			break
		}
		length += n
	}
	b := s.begin(length - wire.AckLen)
	sequence := s.assigned - uint32(len(o.messages)) + 1
	idle := o.underWay() == 0
	for i := o.next; i < end; i++ {
		m := &o.messages[i]
		m.first = i == o.next
		b = wire.Message{Sequence: sequence + uint32(i), Kind: m.kind, Body: m.body}.Append(b)
	}
	o.next = end
	if last := sequence + uint32(end) - 1; last > s.maxSent {
		s.maxSent = last
		if o.timed == 0 {
			o.timed, o.timedAt = last, at
		}
	}
	if idle {
		o.resendAt = at + o.rto
	}
	if !o.waiting {
		o.waiting, o.deadAt = true, at+giveUp
	}
	return s.seal(b)
}

// acknowledged drops the messages up to the sequence number ack, which is not beyond maxSent. alone says that the acknowledgement came for its own sake.
func (s *Session) acknowledged(now time.Time, ack uint32, alone bool) {
	o := s.out
	if o == nil {
		return
	}
	before := s.assigned - uint32(len(o.messages)) // of the message before the first
	if ack <= before {
		if ack == before && alone && o.next > 0 {
			o.repeated(before, s.maxSent)
		}
		return
	}
	at := now.Sub(s.start)
	if o.timed != 0 && ack >= o.timed {
		s.roundTrip(at - o.timedAt)
		o.timed = 0
	}
	n := int(ack - before)
	if n >= len(o.messages) {
		s.out = nil
		return
	}
	for i := range o.messages[:n] {
		o.bytes -= wire.MessageHeaderLen + len(o.messages[i].body)
		o.messages[i] = outgoing{}
	}
	o.messages = o.messages[n:]
	o.next = max(o.next-n, 0)
	if o.next > 0 {
		// Packed anew, a datagram may be acknowledged in part.
		o.messages[0].first = true
	}
	o.window = min(2*o.window, sendWindow)
	o.rto = s.firstRTO()
	o.resendAt = at + o.rto
	o.repeats = 0
	o.waiting, o.deadAt = o.next > 0, at+giveUp
}

// repeated notes an acknowledgement that said nothing new: the other side got something that it cannot use yet, or got it twice. After a few, and
// once for all that was sent by then, the oldest goes again without waiting for the RTO; its acknowledgement tells what else.
func (o *outbox) repeated(acked, maxSent uint32) {
	o.repeats = min(o.repeats+1, lostAfter)
	if o.repeats < lostAfter || acked < o.recover {
		return
	}
	o.repeats, o.recover = 0, maxSent
	o.next, o.window, o.timed = 0, 1, 0
}

// underWay counts the datagrams that are sent and not acknowledged.
func (o *outbox) underWay() (n int) {
	for i := range o.messages[:o.next] {
		if o.messages[i].first {
			n++
		}
	}
	return n
}

// ready tells whether a datagram with messages may be sent.
func (o *outbox) ready() bool {
	return o.next < len(o.messages) && o.underWay() < o.window
}

func (s *Session) firstRTO() time.Duration {
	if s.stream {
		return streamRTO
	}
	return max(leastRTO, 2*s.rtt)
}

// roundTrip takes a measured round trip. The first is that of the handshake, too long if a message of it was lost.
func (s *Session) roundTrip(rtt time.Duration) {
	rtt = min(max(rtt, 0), maxRTT)
	if s.rtt != 0 {
		rtt = (7*s.rtt + rtt) / 8
	}
	s.rtt = rtt
}

func (s *Session) oweAck(now time.Time, delay time.Duration) {
	due := now.Sub(s.start) + delay
	if !s.owesAck || due < s.ackDue {
		s.owesAck, s.ackDue = true, due
	}
}

// Next is when Poll has something to do next, or Dead to say so: a time in the past if at once, the zero time if never.
func (s *Session) Next() time.Time {
	never := time.Duration(math.MaxInt64)
	next := never
	if s.owesAck {
		next = s.ackDue
	}
	if s.early != nil {
		next = min(next, s.early.until)
	}
	if o := s.out; o != nil {
		if o.ready() {
			return s.start
		}
		if o.underWay() > 0 {
			next = min(next, o.resendAt)
		}
		if o.waiting {
			next = min(next, o.deadAt)
		}
	}
	if next == never {
		return time.Time{}
	}
	return s.start.Add(next)
}

// Dead tells whether the other side has acknowledged nothing for 30 s while something was under way. Such a session is of no more use.
func (s *Session) Dead(now time.Time) bool {
	return s.out != nil && s.out.waiting && now.Sub(s.start) >= s.out.deadAt
}
