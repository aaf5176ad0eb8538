package session

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/hnet-robotics/hnet_bridge/overlay/base/wire"
)

const (
	// replayWindow is how far, in datagrams, one may come late.
	replayWindow = 64
	// maxCounter is beyond what a session can live to see; a nonce must never come twice.
	maxCounter = 1 << 60
)

// Errors of Receive. They are ordinary on an open network: callers count them.
var (
	// ErrSession: the datagram is of another session, or went the wrong way.
	ErrSession = errors.New("control datagram of another session")
	// ErrReplay: the counter was seen before, or is too old to tell.
	ErrReplay = errors.New("control datagram is a replay or too late")
	// ErrAuthentic: the seal is broken.
	ErrAuthentic = errors.New("control datagram is not authentic")
	// ErrMalformed: authentic, but against the rules. Such a peer is better left.
	ErrMalformed = errors.New("control datagram is malformed")
)

// Session is one side of a conversation after the handshake. It seals and opens control datagrams and makes messages arrive once and in order. It
// does not know of endpoints. It belongs to one goroutine or lock.
//
// A Base holds 100,000 of them: the ciphers are made when needed, and the queue is there only while something is in it.
type Session struct {
	sendKey, receiveKey [chacha20poly1305.KeySize]byte
	ephemeral           [wire.KeyLen]byte // of the register, at the Base
	welcome             []byte            // at the Base, until confirmed
	start               time.Time         // all times below count from here
	heard               time.Duration
	rtt                 time.Duration // smoothed, 0 = not known

	counter  uint64 // of the next datagram to send
	received uint64 // one more than the highest counter received
	window   uint64 // bit i: received-1-i was received

	local, remote     uint32
	base, confirmed   bool
	stream            bool
	owesAck           bool
	unacked           uint8         // datagrams with messages received since the last acknowledgement
	ackDue            time.Duration // if owesAck
	delivered         uint32        // highest message sequence received in order
	assigned, maxSent uint32        // highest message sequence given to a message, and sent
	out               *outbox       // nil while there is nothing to be sent or acknowledged
	early             *early        // nil while nothing came before its turn
}

func newSession(now time.Time, send, receive [32]byte, local, remote uint32) *Session {
	return &Session{sendKey: send, receiveKey: receive, start: now, local: local, remote: remote}
}

// Local is the number by which the other side's datagrams name this session.
func (s *Session) Local() uint32 { return s.local }

// Remote is the number by which this side's datagrams name this session.
func (s *Session) Remote() uint32 { return s.remote }

// SetStream says that a stream carries this session: nothing gets lost there, so that repetitions come late, only to outlive what the Base or a
// proxy dropped.
func (s *Session) SetStream() { s.stream = true }

// Confirmed tells whether the other side has proved that it has the session's keys. At a client that is so from the start.
func (s *Session) Confirmed() bool { return s.confirmed }

// Welcome is, at the Base, the message that began the session, to be sent again if the register comes again; nil once the session is confirmed.
func (s *Session) Welcome() []byte { return s.welcome }

// RegisteredBy tells, at the Base, whether a register with this ephemeral key began the session.
func (s *Session) RegisteredBy(ephemeral [wire.KeyLen]byte) bool {
	return s.base && s.ephemeral == ephemeral
}

// LastHeard is when the last authentic new datagram came, or the session began.
func (s *Session) LastHeard() time.Time { return s.start.Add(s.heard) }

// Receive opens a control datagram, takes its acknowledgement and hands each new message, in order, to deliver. What is wrong with a datagram is
// found before any of its messages is delivered. newest tells that its counter is the highest so far: then the other side is where it came from.
//
// b is not changed. deliver may keep the body, and may call Queue and Unsequenced. Messages of unknown kinds are not delivered.
func (s *Session) Receive(now time.Time, b []byte, deliver func(kind wire.Kind, body []byte)) (newest bool, err error) {
	header, sealed, err := wire.ParseControl(b)
	if err != nil {
		return false, err
	}
	if header.FromBase == s.base || header.Index != s.local {
		return false, ErrSession
	}
	if !s.fresh(header.Counter) {
		return false, ErrReplay
	}
	plain, err := openWith(&s.receiveKey, header.Counter, b[:wire.ControlHeaderLen], sealed)
	if err != nil {
		return false, ErrAuthentic
	}
	newest = s.mark(header.Counter)
	s.heard = now.Sub(s.start)
	if !s.confirmed {
		s.roundTrip(s.heard)
		s.confirmed, s.welcome = true, nil
	}

	ack, messages := binary.BigEndian.Uint32(plain), plain[wire.AckLen:]
	if err := s.judge(ack, messages); err != nil {
		return newest, err
	}
	s.acknowledged(now, ack, len(messages) == 0)
	s.deliver(now, messages, deliver)
	return newest, nil
}

// judge finds everything that could be wrong with an opened datagram.
func (s *Session) judge(ack uint32, messages []byte) error {
	if ack > s.maxSent {
		return fmt.Errorf("%w: it acknowledges message %d, %d were sent", ErrMalformed, ack, s.maxSent)
	}
	for len(messages) > 0 {
		m, rest, err := wire.NextMessage(messages)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrMalformed, err)
		}
		if m.Kind.Known() && m.Kind.Sequenced() != (m.Sequence != 0) {
			return fmt.Errorf("%w: %v with sequence %d", ErrMalformed, m.Kind, m.Sequence)
		}
		messages = rest
	}
	return nil
}

// deliver hands over what is new and in order; judge has seen it.
func (s *Session) deliver(now time.Time, messages []byte, deliver func(wire.Kind, []byte)) {
	hand := func(m wire.Message) {
		if m.Sequence != 0 {
			s.delivered = m.Sequence
		}
		if m.Kind.Known() && deliver != nil {
			deliver(m.Kind, m.Body)
		}
	}
	sequenced, atOnce := false, false
	for len(messages) > 0 {
		m, rest, err := wire.NextMessage(messages)
		if err != nil {
			return
		}
		messages = rest
		sequenced = sequenced || m.Sequence != 0
		switch {
		case m.Sequence == 0:
			hand(m)
		case m.Sequence <= s.delivered:
			atOnce = true // our acknowledgement was lost: the other side waits
		case m.Sequence == s.delivered+1:
			hand(m)
			for m, ok := s.turn(); ok; m, ok = s.turn() {
				hand(m)
			}
		default:
			// A gap. The other side sees it by our acknowledging nothing new.
			s.keep(now, m)
			atOnce = true
		}
	}
	if !sequenced {
		return
	}
	if s.unacked = min(s.unacked+1, ackEvery); atOnce || s.unacked == ackEvery {
		s.oweAck(now, 0)
	} else {
		s.oweAck(now, ackDelay)
	}
}

// fresh tells whether a counter may still be accepted.
func (s *Session) fresh(counter uint64) bool {
	if counter >= s.received {
		return counter < maxCounter
	}
	age := s.received - 1 - counter
	return age < replayWindow && s.window&(1<<age) == 0
}

// mark notes the counter of an authentic datagram, which must be fresh, and tells whether it is the highest.
func (s *Session) mark(counter uint64) (highest bool) {
	if counter < s.received {
		s.window |= 1 << (s.received - 1 - counter)
		return false
	}
	s.window <<= min(counter+1-s.received, replayWindow)
	s.window |= 1
	s.received = counter + 1
	return true
}

// Unsequenced returns a control datagram, to be sent at once, with one message that is not sequenced. It is nil if the kind is, the body is longer
// than wire.MaxBody or the session's counters are used up.
func (s *Session) Unsequenced(_ time.Time, kind wire.Kind, body []byte) []byte {
	if kind.Sequenced() || len(body) > wire.MaxBody {
		return nil
	}
	b := s.begin(wire.MessageHeaderLen + len(body))
	return s.seal(wire.Message{Kind: kind, Body: body}.Append(b))
}

// begin starts a control datagram with the acknowledgement and room for n bytes of messages.
func (s *Session) begin(n int) []byte {
	b := make([]byte, 0, wire.ControlHeaderLen+wire.AckLen+n+wire.TagLen)
	b = wire.ControlHeader{FromBase: s.base, Index: s.remote, Counter: s.counter}.Append(b)
	return binary.BigEndian.AppendUint32(b, s.delivered)
}

// seal makes a datagram of what begin started, in place.
func (s *Session) seal(b []byte) []byte {
	if s.counter >= maxCounter {
		return nil
	}
	aead, err := chacha20poly1305.New(s.sendKey[:])
	if err != nil {
		return nil // not with keys of this length
	}
	nonce := nonceOf(s.counter)
	s.counter++
	s.owesAck, s.unacked = false, 0
	header, plain := b[:wire.ControlHeaderLen], b[wire.ControlHeaderLen:]
	return aead.Seal(header, nonce[:], plain, header)
}

func openWith(key *[32]byte, counter uint64, header, sealed []byte) ([]byte, error) {
	aead, err := chacha20poly1305.New(key[:])
	if err != nil {
		return nil, err
	}
	nonce := nonceOf(counter)
	return aead.Open(make([]byte, 0, len(sealed)), nonce[:], sealed, header)
}

// nonceOf is Noise's nonce for ChaChaPoly: 32 zero bits, then the counter, little endian.
func nonceOf(counter uint64) (nonce [chacha20poly1305.NonceSize]byte) {
	binary.LittleEndian.PutUint64(nonce[4:], counter)
	return nonce
}
