package wireguard

import "encoding/binary"

// MessageType is the first little-endian word of a WireGuard datagram (§5.4).
type MessageType uint32

// The four message types.
const (
	TypeNone        MessageType = 0 // not a WireGuard datagram
	TypeInitiation  MessageType = 1
	TypeResponse    MessageType = 2
	TypeCookieReply MessageType = 3
	TypeTransport   MessageType = 4
)

// Sizes of the messages in bytes. All but transport messages have one size only.
const (
	InitiationSize      = 148
	ResponseSize        = 92
	CookieReplySize     = 64
	TransportHeaderSize = 16
	TagSize             = 16
	// TransportOverhead is what sealing adds to a plaintext.
	TransportOverhead = TransportHeaderSize + TagSize
)

// Offsets of fields, §5.4.2 to §5.4.6.
const (
	offSender           = 4  // initiation and response
	offResponseReceiver = 8  // response
	offReceiver         = 4  // cookie reply and transport
	offCounter          = 8  // transport
	offInitiationNoise  = 8  // ephemeral, static, timestamp: one Noise message of 108 bytes
	offResponseNoise    = 12 // ephemeral, empty: one Noise message of 48 bytes
	macSize             = 16
	offCookieNonce      = 8
	offCookie           = 32
)

// TypeOf tells which message b is by type word and exact length, TypeNone if it is none.
func TypeOf(b []byte) MessageType {
	if len(b) < TransportOverhead {
		return TypeNone
	}
	switch t := MessageType(binary.LittleEndian.Uint32(b)); {
	case t == TypeTransport,
		t == TypeInitiation && len(b) == InitiationSize,
		t == TypeResponse && len(b) == ResponseSize,
		t == TypeCookieReply && len(b) == CookieReplySize:
		return t
	}
	return TypeNone
}

// ReceiverIndex returns the index by which a response, a cookie reply or a transport message names the receiver's key pair or handshake.
// TypeOf must have said that b is one of these.
func ReceiverIndex(b []byte) uint32 {
	if MessageType(binary.LittleEndian.Uint32(b)) == TypeResponse {
		return binary.LittleEndian.Uint32(b[offResponseReceiver:])
	}
	return binary.LittleEndian.Uint32(b[offReceiver:])
}

// Counter returns the counter of a transport message.
func Counter(b []byte) uint64 { return binary.LittleEndian.Uint64(b[offCounter:]) }

// Padded returns n rounded up to the padding multiple but not beyond limit, unless n itself is (§5.4.6; limit is the
// largest plaintext that fits the path, so that padding never makes a datagram too large).
func Padded(n, limit int) int {
	p := (n + PaddingMultiple - 1) &^ (PaddingMultiple - 1)
	if p > limit {
		return max(n, limit)
	}
	return p
}
