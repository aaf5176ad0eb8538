package wire

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// Hello asks a Base for a cookie.
type Hello struct {
	Nonce [NonceLen]byte // random, the client's for this handshake
}

// Append appends the hello, HelloLen bytes.
func (h Hello) Append(dst []byte) []byte {
	dst = appendVersioned(dst, TypeHello)
	dst = append(dst, h.Nonce[:]...)
	return append(dst, make([]byte, HelloLen-4-NonceLen)...)
}

// ParseHello reads a hello.
func ParseHello(b []byte) (Hello, error) {
	if err := checkVersioned(b, TypeHello); err != nil {
		return Hello{}, err
	}
	return Hello{Nonce: [NonceLen]byte(b[4:])}, nil
}

// Cookie answers a hello. Nothing of it is authentic but for Key, which the client compares with the address that it knows.
type Cookie struct {
	Nonce    [NonceLen]byte // of the hello
	Key      [KeyLen]byte   // Ed25519 key of the Base
	Cookie   [CookieMAC]byte
	Observed netip.AddrPort // where the hello came from
}

// Append appends the cookie, CookieLen bytes.
func (c Cookie) Append(dst []byte) []byte {
	dst = appendVersioned(dst, TypeCookie)
	dst = append(dst, c.Nonce[:]...)
	dst = append(dst, c.Key[:]...)
	dst = append(dst, c.Cookie[:]...)
	return AppendEndpoint(dst, c.Observed)
}

// ParseCookie reads a cookie.
func ParseCookie(b []byte) (Cookie, error) {
	if err := checkVersioned(b, TypeCookie); err != nil {
		return Cookie{}, err
	}
	observed, err := ParseEndpoint(b[68:])
	if err != nil {
		return Cookie{}, err
	}
	return Cookie{
		Nonce: [NonceLen]byte(b[4:]), Key: [KeyLen]byte(b[20:]), Cookie: [CookieMAC]byte(b[52:]), Observed: observed,
	}, nil
}

// RegisterHeader is what stands in a register in front of the sealed part.
type RegisterHeader struct {
	Nonce  [NonceLen]byte
	Cookie [CookieMAC]byte
	Index  uint32 // by which the Base's datagrams to this client name its session
}

// Append appends the header, RegisterHeaderLen bytes; the Noise message follows.
func (r RegisterHeader) Append(dst []byte) []byte {
	dst = appendVersioned(dst, TypeRegister)
	dst = append(dst, r.Nonce[:]...)
	dst = append(dst, r.Cookie[:]...)
	return binary.BigEndian.AppendUint32(dst, r.Index)
}

// ParseRegister reads the header of a register; noise is the Noise message behind it, part of b. Its first 32 bytes are the ephemeral key by which
// one register and its repetitions are told from others.
func ParseRegister(b []byte) (r RegisterHeader, noise []byte, err error) {
	if err := checkVersioned(b, TypeRegister); err != nil {
		return RegisterHeader{}, nil, err
	}
	r = RegisterHeader{
		Nonce: [NonceLen]byte(b[4:]), Cookie: [CookieMAC]byte(b[20:]), Index: binary.BigEndian.Uint32(b[36:]),
	}
	return r, b[RegisterHeaderLen:], nil
}

// RegisterPayload is what a register seals.
type RegisterPayload struct {
	Flags  byte          // none is defined
	MaxAge time.Duration // whole seconds up to 65535: the client is gone after this silence; 0 leaves it to the Base, whose own limit holds anyhow
	Signed []byte        // the client's signed contact record
}

// Append appends the payload. MaxAge is cut to its bounds.
func (p RegisterPayload) Append(dst []byte) []byte {
	dst = append(dst, p.Flags, 0)
	dst = appendSeconds(dst, p.MaxAge)
	return append(dst, p.Signed...)
}

// ParseRegisterPayload reads the opened payload. Signed is part of b and not checked but for its length.
func ParseRegisterPayload(b []byte) (RegisterPayload, error) {
	if n := len(b); n < registerFixed+minRecord || n > MaxRegisterLen-RegisterHeaderLen-noise1Len {
		return RegisterPayload{}, badLength("register payload", n)
	}
	return RegisterPayload{Flags: b[0], MaxAge: parseSeconds(b[2:]), Signed: b[registerFixed:]}, nil
}

// WelcomeHeader is what stands in a welcome in front of the sealed part.
type WelcomeHeader struct {
	Index uint32 // the client's
}

// Append appends the header, WelcomeHeaderLen bytes; the Noise message follows.
func (w WelcomeHeader) Append(dst []byte) []byte {
	return binary.BigEndian.AppendUint32(appendVersioned(dst, TypeWelcome), w.Index)
}

// ParseWelcome reads the header of a welcome; noise is the Noise message behind it, part of b.
func ParseWelcome(b []byte) (w WelcomeHeader, noise []byte, err error) {
	if err := checkVersioned(b, TypeWelcome); err != nil {
		return WelcomeHeader{}, nil, err
	}
	return WelcomeHeader{Index: binary.BigEndian.Uint32(b[4:])}, b[WelcomeHeaderLen:], nil
}

// HopsUnknown is the number of hops when the Base could not see the TTL.
const HopsUnknown = 255

// WelcomePayload is what a welcome seals.
type WelcomePayload struct {
	Session       uint32         // the Base's number of this session; stands in the client's datagrams
	Token         uint32         // random; stands in the client's relay datagrams
	Observed      netip.AddrPort // where the register came from
	Hops          uint8          // routers passed, guessed from the TTL; HopsUnknown if that was not seen
	AlternatePort uint16         // UDP port of the Base for STUN alone, 0 = none
	Keep          time.Duration  // whole seconds up to 65535: how long the Base keeps the registration of a silent client
	RelayRate     uint32         // kbit/s that the Base relays for this client, 0 = unlimited
	MaxInterests  uint16         // addresses that this client may be interested in
}

// Append appends the payload, WelcomePayloadLen bytes. Keep is cut to its bounds.
func (p WelcomePayload) Append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, p.Session)
	dst = binary.BigEndian.AppendUint32(dst, p.Token)
	dst = append(AppendEndpoint(dst, p.Observed), p.Hops)
	dst = binary.BigEndian.AppendUint16(dst, p.AlternatePort)
	dst = appendSeconds(dst, p.Keep)
	dst = binary.BigEndian.AppendUint32(dst, p.RelayRate)
	return binary.BigEndian.AppendUint16(dst, p.MaxInterests)
}

// ParseWelcomePayload reads the opened payload.
func ParseWelcomePayload(b []byte) (WelcomePayload, error) {
	if len(b) != WelcomePayloadLen {
		return WelcomePayload{}, badLength("welcome payload", len(b))
	}
	observed, err := ParseEndpoint(b[8:26])
	if err != nil {
		return WelcomePayload{}, err
	}
	return WelcomePayload{
		Session: binary.BigEndian.Uint32(b), Token: binary.BigEndian.Uint32(b[4:]),
		Observed: observed, Hops: b[26],
		AlternatePort: binary.BigEndian.Uint16(b[27:]), Keep: parseSeconds(b[29:]),
		RelayRate: binary.BigEndian.Uint32(b[31:]), MaxInterests: binary.BigEndian.Uint16(b[35:]),
	}, nil
}

func appendVersioned(dst []byte, t Type) []byte { return append(dst, byte(t), Version, 0, 0) }

func appendSeconds(dst []byte, d time.Duration) []byte {
	return binary.BigEndian.AppendUint16(dst, uint16(min(max(d/time.Second, 0), 65535)))
}

func parseSeconds(b []byte) time.Duration {
	return time.Duration(binary.BigEndian.Uint16(b)) * time.Second
}
