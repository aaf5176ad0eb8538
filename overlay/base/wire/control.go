package wire

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/record"
)

// Kind is what a message inside a control datagram is.
type Kind byte

// The kinds; the arrow says which way they go.
const (
	KindPing       Kind = 1  // both ways
	KindPong       Kind = 2  // both ways
	KindRecord     Kind = 3  // client -> Base
	KindInterest   Kind = 4  // client -> Base
	KindUninterest Kind = 5  // client -> Base
	KindPeer       Kind = 7  // Base -> client
	KindDrain      Kind = 8  // Base -> client
	KindFilterTest Kind = 9  // client -> Base
	KindClose      Kind = 10 // both ways
)

// Sequenced tells whether messages of this kind are numbered, repeated until they are acknowledged, and delivered in order. The others are
// sent once. What an unknown kind is, only its number can tell.
func (k Kind) Sequenced() bool {
	return k == KindRecord || k == KindInterest || k == KindUninterest || k == KindPeer
}

// Known tells whether version 1 has this kind.
func (k Kind) Known() bool {
	return k >= KindPing && k <= KindClose && k != 6
}

// String names the kind as the documentation does.
func (k Kind) String() string {
	names := [...]string{"kind 0", "ping", "pong", "record", "interest", "uninterest", "kind 6", "peer", "drain", "filter test", "close"}
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("kind %d", byte(k))
}

const (
	// MessageHeaderLen is what a message takes beside its body.
	MessageHeaderLen = 7
	// MaxBody is the longest body of a message.
	MaxBody = MaxPlaintext - AckLen - MessageHeaderLen
	// MaxLinks and MaxChannels bound one Interest and one Uninterest.
	MaxLinks    = MaxBody / linkLen
	MaxChannels = MaxBody / channelLen

	linkLen    = 4 + 16
	channelLen = 4
	peerFixed  = 4 + 1 + EndpointLen
	flagHere   = 1
)

// Message is one message inside a control datagram.
type Message struct {
	Sequence uint32 // from 1; 0 for kinds that are not sequenced
	Kind     Kind
	Body     []byte
}

// Append appends the message. Its body must not be longer than MaxBody.
func (m Message) Append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, m.Sequence)
	dst = append(dst, byte(m.Kind))
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(m.Body)))
	return append(dst, m.Body...)
}

// NextMessage takes the first message off b, the plaintext behind the acknowledgement. Body and rest are parts of b. It checks the layout only.
func NextMessage(b []byte) (m Message, rest []byte, err error) {
	if len(b) < MessageHeaderLen {
		return Message{}, nil, fmt.Errorf("bad control message: %d bytes left: %w", len(b), ErrLength)
	}
	end := MessageHeaderLen + int(binary.BigEndian.Uint16(b[5:]))
	if end > len(b) {
		return Message{}, nil, fmt.Errorf("bad control message: %d bytes of %d: %w", len(b), end, ErrLength)
	}
	return Message{Sequence: binary.BigEndian.Uint32(b), Kind: Kind(b[4]), Body: b[MessageHeaderLen:end:end]}, b[end:], nil
}

// Ping asks for a Pong.
type Ping struct {
	Opaque [8]byte
}

// Append appends the body.
func (p Ping) Append(dst []byte) []byte { return append(dst, p.Opaque[:]...) }

// ParsePing reads the body of a ping.
func ParsePing(b []byte) (Ping, error) {
	if len(b) != 8 {
		return Ping{}, badLength("ping", len(b))
	}
	return Ping{Opaque: [8]byte(b)}, nil
}

// Pong answers a Ping.
type Pong struct {
	Opaque   [8]byte        // of the ping
	Observed netip.AddrPort // where the ping came from
	Hops     uint8          // as in WelcomePayload
}

// Append appends the body.
func (p Pong) Append(dst []byte) []byte {
	return append(AppendEndpoint(append(dst, p.Opaque[:]...), p.Observed), p.Hops)
}

// ParsePong reads the body of a pong.
func ParsePong(b []byte) (Pong, error) {
	if len(b) != 8+EndpointLen+1 {
		return Pong{}, badLength("pong", len(b))
	}
	observed, err := ParseEndpoint(b[8 : 8+EndpointLen])
	return Pong{Opaque: [8]byte(b), Observed: observed, Hops: b[8+EndpointLen]}, err
}

// Record brings the client's new contact record to the Base.
type Record struct {
	Signed []byte
}

// Append appends the body.
func (r Record) Append(dst []byte) []byte { return append(dst, r.Signed...) }

// ParseRecord reads the body of a record. Signed is part of b and not checked but for its length.
func ParseRecord(b []byte) (Record, error) {
	if len(b) < minRecord || len(b) > record.MaxLen {
		return Record{}, badLength("record", len(b))
	}
	return Record{Signed: b}, nil
}

// Link is a peer whom a client wants to meet, and the client's number for it.
type Link struct {
	Channel uint32     // not 0
	Address netip.Addr // overlay address
}

// Interest tells the Base whom the client wants to meet, beside those of earlier messages. A channel that is in use already gets the new address.
type Interest struct {
	Links []Link // 1 to MaxLinks
}

// Append appends the body.
func (i Interest) Append(dst []byte) []byte {
	for _, l := range i.Links {
		a := l.Address.As16()
		dst = append(binary.BigEndian.AppendUint32(dst, l.Channel), a[:]...)
	}
	return dst
}

// ParseInterest reads the body of an interest.
func ParseInterest(b []byte) (Interest, error) {
	if len(b) == 0 || len(b)%linkLen != 0 || len(b) > MaxLinks*linkLen {
		return Interest{}, badLength("interest", len(b))
	}
	i := Interest{Links: make([]Link, 0, len(b)/linkLen)}
	for ; len(b) > 0; b = b[linkLen:] {
		l := Link{Channel: binary.BigEndian.Uint32(b), Address: netip.AddrFrom16([16]byte(b[4:]))}
		if l.Channel == 0 || identity.CheckAddress(l.Address) != nil {
			return Interest{}, fmt.Errorf("bad interest: channel %d, address %v: %w", l.Channel, l.Address, ErrValue)
		}
		i.Links = append(i.Links, l)
	}
	return i, nil
}

// Uninterest tells the Base whom the client no longer wants to meet.
type Uninterest struct {
	Channels []uint32 // 1 to MaxChannels, none 0
}

// Append appends the body.
func (u Uninterest) Append(dst []byte) []byte {
	for _, c := range u.Channels {
		dst = binary.BigEndian.AppendUint32(dst, c)
	}
	return dst
}

// ParseUninterest reads the body of an uninterest.
func ParseUninterest(b []byte) (Uninterest, error) {
	if len(b) == 0 || len(b)%channelLen != 0 || len(b) > MaxChannels*channelLen {
		return Uninterest{}, badLength("uninterest", len(b))
	}
	u := Uninterest{Channels: make([]uint32, 0, len(b)/channelLen)}
	for ; len(b) > 0; b = b[channelLen:] {
		c := binary.BigEndian.Uint32(b)
		if c == 0 {
			return Uninterest{}, fmt.Errorf("bad uninterest: channel 0: %w", ErrValue)
		}
		u.Channels = append(u.Channels, c)
	}
	return u, nil
}

// Peer tells a client that a peer of its interest, which wants to meet it too, is at the Base, or that it is so no more.
type Peer struct {
	Channel  uint32         // the receiving client's
	Here     bool           // there is a link; false: no more
	Observed netip.AddrPort // of the peer's main UDP socket, none if it came by TCP
	Signed   []byte         // the peer's signed contact record; empty if it is not here
}

// Append appends the body.
func (p Peer) Append(dst []byte) []byte {
	flags := byte(0)
	if p.Here {
		flags = flagHere
	}
	dst = append(binary.BigEndian.AppendUint32(dst, p.Channel), flags)
	return append(AppendEndpoint(dst, p.Observed), p.Signed...)
}

// ParsePeer reads the body of a peer message. Signed is part of b and not checked but for its length.
func ParsePeer(b []byte) (Peer, error) {
	if len(b) < peerFixed || len(b) > peerFixed+record.MaxLen {
		return Peer{}, badLength("peer", len(b))
	}
	observed, err := ParseEndpoint(b[5:peerFixed])
	if err != nil {
		return Peer{}, err
	}
	p := Peer{Channel: binary.BigEndian.Uint32(b), Here: b[4]&flagHere != 0, Observed: observed, Signed: b[peerFixed:]}
	if p.Channel == 0 || p.Here && len(p.Signed) < minRecord {
		return Peer{}, fmt.Errorf("bad peer: channel %d, record of %d bytes: %w", p.Channel, len(p.Signed), ErrValue)
	}
	return p, nil
}

// Drain tells clients that the Base is about to end and that they do well to register elsewhere.
type Drain struct {
	Seconds uint16 // until then
}

// Append appends the body.
func (d Drain) Append(dst []byte) []byte { return binary.BigEndian.AppendUint16(dst, d.Seconds) }

// ParseDrain reads the body of a drain.
func ParseDrain(b []byte) (Drain, error) {
	if len(b) != 2 {
		return Drain{}, badLength("drain", len(b))
	}
	return Drain{Seconds: binary.BigEndian.Uint16(b)}, nil
}

// FilterTest asks the Base for a FilterProbe.
type FilterTest struct {
	Nonce [12]byte
}

// Append appends the body.
func (f FilterTest) Append(dst []byte) []byte { return append(dst, f.Nonce[:]...) }

// ParseFilterTest reads the body of a filter test.
func ParseFilterTest(b []byte) (FilterTest, error) {
	if len(b) != 12 {
		return FilterTest{}, badLength("filter test", len(b))
	}
	return FilterTest{Nonce: [12]byte(b)}, nil
}

// Close ends the session at once.
type Close struct{}

// Append appends the body, which is empty.
func (Close) Append(dst []byte) []byte { return dst }

// ParseClose reads the body of a close.
func ParseClose(b []byte) (Close, error) {
	if len(b) != 0 {
		return Close{}, badLength("close", len(b))
	}
	return Close{}, nil
}

func badLength(what string, n int) error {
	return fmt.Errorf("bad %s: %d bytes: %w", what, n, ErrLength)
}
