// Package wire is every message between a client and a Base, to and from bytes (docs/protocol.md, Base). It is a leaf: it keeps no state, knows no
// keys and opens nothing that is sealed.
//
// Integers are big endian. Reserved bytes are sent zero and not looked at. Parse functions accept no other length than the ones of version 1, and
// their results share memory with the input only where that is said.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/hnet-robotics/hnet_bridge/overlay/record"
)

// Type is the first byte of a datagram between client and Base. Over TCP the same messages travel, each behind its length as two bytes.
type Type byte

// The types; the arrow says which way they go.
const (
	TypeHello       Type = 0x40 // client -> Base
	TypeCookie      Type = 0x41 // Base -> client
	TypeRegister    Type = 0x42 // client -> Base
	TypeWelcome     Type = 0x43 // Base -> client
	TypeControl     Type = 0x44 // client -> Base
	TypeBaseControl Type = 0x45 // Base -> client
	TypeRelay       Type = 0x48 // client -> Base
	TypeRelayed     Type = 0x49 // Base -> client
	TypeFilterProbe Type = 0x4a // Base -> client, from its alternate port
	TypeUnknown     Type = 0x4b // Base -> client
)

// Version is the only version of hello, cookie, register and welcome.
const Version = 1

// Lengths in bytes.
const (
	NonceLen  = 16
	CookieMAC = 16 // the cookie itself, within the cookie message
	KeyLen    = 32
	TagLen    = 16 // of everything sealed

	EndpointLen = 18

	HelloLen       = 128 // padded, so that the cookie is shorter than what asks for it
	CookieLen      = 4 + NonceLen + KeyLen + CookieMAC + EndpointLen
	FilterProbeLen = 16
	UnknownLen     = 16
	RelayHeaderLen = 16

	// A register is a header, then Noise message 1: e, sealed s, sealed RegisterPayload.
	RegisterHeaderLen = 4 + NonceLen + CookieMAC + 4
	MinRegisterLen    = RegisterHeaderLen + noise1Len + registerFixed + minRecord
	MaxRegisterLen    = RegisterHeaderLen + noise1Len + registerFixed + record.MaxLen

	// A welcome is a header, then Noise message 2: e, sealed WelcomePayload. It is shorter than every register.
	WelcomeHeaderLen  = 8
	WelcomePayloadLen = 37
	WelcomeLen        = WelcomeHeaderLen + KeyLen + WelcomePayloadLen + TagLen

	// A control datagram is a header, then sealed: the acknowledgement (4 bytes) and messages.
	ControlHeaderLen = 16
	MinControlLen    = ControlHeaderLen + AckLen + TagLen
	// MaxControlLen keeps control datagrams whole on an underlay of 1108 bytes and more.
	MaxControlLen = 1060
	// MaxPlaintext is what a control datagram seals at the most.
	MaxPlaintext = MaxControlLen - ControlHeaderLen - TagLen
	AckLen       = 4

	// MaxMessage is the length of the longest message a client and a Base send each other, apart from relayed ones.
	MaxMessage = MaxRegisterLen

	noise1Len     = KeyLen + KeyLen + TagLen + TagLen
	registerFixed = 4
	minRecord     = 48 + 2 + 64
)

// Errors of parsing, each wrapped with what was wrong. They are ordinary on an open network: callers count them.
var (
	// ErrLength: the message has not the length of its type.
	ErrLength = errors.New("wrong length")
	// ErrType: the message is of another type than the one to be parsed.
	ErrType = errors.New("wrong type")
	// ErrVersion: the other side speaks another version of the protocol.
	ErrVersion = errors.New("unknown version")
	// ErrValue: a field has a value that it may not have.
	ErrValue = errors.New("bad value")
)

// lengths are the least and the greatest of each type, from TypeHello on.
var lengths = [16]struct{ min, max uint16 }{
	0:                           {HelloLen, HelloLen},
	TypeCookie - TypeHello:      {CookieLen, CookieLen},
	TypeRegister - TypeHello:    {MinRegisterLen, MaxRegisterLen},
	TypeWelcome - TypeHello:     {WelcomeLen, WelcomeLen},
	TypeControl - TypeHello:     {MinControlLen, MaxControlLen},
	TypeBaseControl - TypeHello: {MinControlLen, MaxControlLen},
	TypeRelay - TypeHello:       {RelayHeaderLen + 1, 65535},
	TypeRelayed - TypeHello:     {RelayHeaderLen + 1, 65535},
	TypeFilterProbe - TypeHello: {FilterProbeLen, FilterProbeLen},
	TypeUnknown - TypeHello:     {UnknownLen, UnknownLen},
}

// TypeOf returns the type of a datagram, 0 if it is none of ours or has a length that its type cannot have. It allocates nothing.
func TypeOf(b []byte) Type {
	if len(b) == 0 || b[0]&0xf0 != byte(TypeHello) {
		return 0
	}
	l := &lengths[b[0]&0x0f]
	if l.min == 0 || len(b) < int(l.min) || len(b) > int(l.max) {
		return 0
	}
	return Type(b[0])
}

// String names the type as the documentation does.
func (t Type) String() string {
	switch t {
	case TypeHello:
		return "hello"
	case TypeCookie:
		return "cookie"
	case TypeRegister:
		return "register"
	case TypeWelcome:
		return "welcome"
	case TypeControl, TypeBaseControl:
		return "control"
	case TypeRelay, TypeRelayed:
		return "relay"
	case TypeFilterProbe:
		return "filter probe"
	case TypeUnknown:
		return "unknown session"
	}
	return fmt.Sprintf("type %#02x", byte(t))
}

// check is the common beginning of all Parse functions.
func check(b []byte, t Type) error {
	switch {
	case len(b) == 0:
		return fmt.Errorf("bad %v message: empty: %w", t, ErrLength)
	case b[0] != byte(t):
		return fmt.Errorf("bad %v message: first byte %#02x: %w", t, b[0], ErrType)
	case TypeOf(b) != t:
		return fmt.Errorf("bad %v message: %d bytes: %w", t, len(b), ErrLength)
	}
	return nil
}

// checkVersioned is check for the four messages of the handshake.
func checkVersioned(b []byte, t Type) error {
	if err := check(b, t); err != nil {
		return err
	}
	if b[1] != Version {
		return fmt.Errorf("bad %v message: version %d, this program knows %d: %w", t, b[1], Version, ErrVersion)
	}
	return nil
}

// AppendEndpoint appends e as 18 bytes: an IPv6 or IPv4-mapped address, then the port. An invalid e, or one without port, is 18 zeros: none. A zone
// is left out.
func AppendEndpoint(dst []byte, e netip.AddrPort) []byte {
	if !e.IsValid() || e.Port() == 0 || e.Addr().Unmap().IsUnspecified() {
		return append(dst, make([]byte, EndpointLen)...)
	}
	raw := e.Addr().As16()
	return binary.BigEndian.AppendUint16(append(dst, raw[:]...), e.Port())
}

// ParseEndpoint reads the 18 bytes of an endpoint; IPv4-mapped addresses come out as IPv4, none as the zero AddrPort. It fails on any other length,
// and on an endpoint with an address or a port only.
func ParseEndpoint(b []byte) (netip.AddrPort, error) {
	if len(b) != EndpointLen {
		return netip.AddrPort{}, fmt.Errorf("endpoint of %d bytes: %w", len(b), ErrLength)
	}
	addr, port := netip.AddrFrom16([16]byte(b)), binary.BigEndian.Uint16(b[16:])
	none := addr.IsUnspecified()
	switch {
	case none && port == 0:
		return netip.AddrPort{}, nil
	case none || port == 0 || addr.Unmap().IsUnspecified():
		return netip.AddrPort{}, fmt.Errorf("endpoint with an address or a port only: %w", ErrValue)
	}
	return netip.AddrPortFrom(addr.Unmap(), port), nil
}
