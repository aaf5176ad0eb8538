package inet4

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

// Type is the first byte of the message inside the tunnel, MessageLen its length in bytes. Longer ones are read as far as that.
const (
	Type       = 0x08
	MessageLen = 20
)

// Verdict is a node's word on the address of the node that it talks to. Others than these count as "not used".
type Verdict uint8

// The verdicts.
const (
	// Unjudged: no address was told so far.
	Unjudged Verdict = iota
	// Used: packets to and from the address are carried.
	Used
	// NetworkClash: a network of the speaker's host has it; Message.Clash says which.
	NetworkClash
	// Move: another node has it, and the listener is the one to take another.
	Move
	// OtherRange: it lies in none of the ranges that the speaker takes addresses from.
	OtherRange
	// Off: the speaker has no IPv4 inside the overlay.
	Off
	// Wait: another node has it, which was told to take another.
	Wait
)

var verdictNames = [...]string{"unjudged", "used", "network clash", "move", "other range", "off", "wait"}

func (v Verdict) String() string {
	if int(v) < len(verdictNames) {
		return verdictNames[v]
	}
	return fmt.Sprintf("verdict %d", uint8(v))
}

// Message tells a node's own IPv4 address and what it makes of the other's.
//
//	0      type, 0x08
//	1      flags: 0x01 an answer is wanted, 0x02 the sender's address is settled: somebody used it before;
//	       upper four bits: the receiver's verdict on the sender's address, as the sender heard it last
//	2      verdict on the receiver's address
//	3      length of the network that it clashes with, in bits
//	4..7   the sender's address, zero if it has none
//	8..11  the receiver's address as the sender knows it, zero if it does not
//	12..15 the network that it clashes with
//	16..19 the moment in milliseconds, modulo 2^32: what comes out of order is told by it
type Message struct {
	Own     netip.Addr // invalid = none
	Known   netip.Addr // invalid = not told
	Verdict Verdict
	Clash   netip.Prefix // with NetworkClash; else invalid
	Echo    Verdict      // the receiver's verdict, as the sender heard it last
	Moment  uint32
	Answer  bool
	Settled bool
}

const (
	flagAnswer  = 0x01
	flagSettled = 0x02
)

// ErrMalformed says that a message is too short or contradicts itself.
var ErrMalformed = errors.New("malformed IPv4 message")

// Append writes the message to the end of b.
func (m Message) Append(b []byte) []byte {
	var out [MessageLen]byte
	out[0], out[1], out[2] = Type, byte(m.Echo)<<4, byte(m.Verdict)
	if m.Answer {
		out[1] |= flagAnswer
	}
	if m.Settled {
		out[1] |= flagSettled
	}
	put := func(at int, a netip.Addr) {
		if a.Is4() {
			v := a.As4()
			copy(out[at:], v[:])
		}
	}
	put(4, m.Own)
	put(8, m.Known)
	if m.Clash.IsValid() {
		out[3] = byte(m.Clash.Bits())
		put(12, m.Clash.Addr())
	}
	binary.BigEndian.PutUint32(out[16:], m.Moment)
	return append(b, out[:]...)
}

// Parse reads a message. Unknown flags, and a clash that the verdict has no use for, are skipped.
func Parse(b []byte) (m Message, err error) {
	if len(b) < MessageLen || b[0] != Type {
		return m, ErrMalformed
	}
	address := func(at int) netip.Addr {
		v := [4]byte(b[at : at+4])
		if v == [4]byte{} {
			return netip.Addr{}
		}
		return netip.AddrFrom4(v)
	}
	m = Message{
		Own: address(4), Known: address(8), Verdict: Verdict(b[2]), Echo: Verdict(b[1] >> 4),
		Moment: binary.BigEndian.Uint32(b[16:]), Answer: b[1]&flagAnswer != 0, Settled: b[1]&flagSettled != 0,
	}
	if !m.Known.IsValid() && m.Verdict != Unjudged && m.Verdict != Off {
		return Message{}, ErrMalformed
	}
	if m.Verdict == NetworkClash {
		m.Clash = netip.PrefixFrom(netip.AddrFrom4([4]byte(b[12:16])), int(b[3])).Masked()
		if !m.Clash.IsValid() || !m.Clash.Contains(m.Known) {
			return Message{}, ErrMalformed
		}
	}
	return m, nil
}
