package identity

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"

	"filippo.io/edwards25519"
)

var (
	// ErrNonCanonical says that a key is not the one valid encoding of its point.
	ErrNonCanonical = errors.New("not the canonical encoding of a point")
	// ErrLowOrder says that a key is a point of low order, with which every shared secret is public.
	ErrLowOrder = errors.New("a point of low order, which keeps nothing secret")
)

// PublicKey is an X25519 public key, the WireGuard key of a node. The zero value stands for "not known".
type PublicKey [32]byte

// IsZero tells whether the key is not known.
func (k PublicKey) IsZero() bool { return k == PublicKey{} }

// String is the key in standard base64, as wg prints it.
func (k PublicKey) String() string { return base64.StdEncoding.EncodeToString(k[:]) }

// MarshalText is String, and empty for the zero key.
func (k PublicKey) MarshalText() ([]byte, error) { return marshalKey(k) }

// UnmarshalText is ParsePublicKey; an empty text is the zero key.
func (k *PublicKey) UnmarshalText(text []byte) error {
	return unmarshalKey((*[32]byte)(k), text, func() error { return k.Check() })
}

// ParsePublicKey reads a key in base64 and checks it; see Check.
func ParsePublicKey(s string) (PublicKey, error) {
	k, err := parseKey(s)
	if err != nil {
		return PublicKey{}, err
	}
	if err := PublicKey(k).Check(); err != nil {
		return PublicKey{}, err
	}
	return k, nil
}

// Check reports why no node can have this key: it is not below 2^255-19 (ErrNonCanonical) or it is a point of low
// order, such as zero (ErrLowOrder).
func (k PublicKey) Check() error {
	if !belowModulus(k) {
		return fmt.Errorf("%v is no WireGuard key: %w", k, ErrNonCanonical)
	}
	if slices.Contains(lowOrder, k) {
		return fmt.Errorf("%v is no WireGuard key: %w", k, ErrLowOrder)
	}
	return nil
}

// belowModulus compares the little-endian k with p = 2^255-19.
func belowModulus(k PublicKey) bool {
	if k[31] != 0x7f {
		return k[31] < 0x7f
	}
	for _, b := range k[1:31] {
		if b != 0xff {
			return true
		}
	}
	return k[0] < 0xed
}

// lowOrder are the canonical u coordinates of order 1, 2, 4 and 8, on the curve and on its twist.
var lowOrder = []PublicKey{
	{}, // 0
	{1},
	{ // a point of order 8
		0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a,
		0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
	},
	{ // the other one
		0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b,
		0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57,
	},
	{ // p-1
		0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f,
	},
}

// SigningKey is an Ed25519 public key: it verifies what a node signs, and its Montgomery form is the node's
// PublicKey. The zero value stands for "not known" (it encodes a point of low order, so no node has it).
//
// A key and its negative have one Montgomery form; whoever holds the secret of one holds that of the other.
type SigningKey [32]byte

// IsZero tells whether the key is not known.
func (k SigningKey) IsZero() bool { return k == SigningKey{} }

// String is the key in standard base64.
func (k SigningKey) String() string { return base64.StdEncoding.EncodeToString(k[:]) }

// MarshalText is String, and empty for the zero key.
func (k SigningKey) MarshalText() ([]byte, error) { return marshalKey(k) }

// UnmarshalText is ParseSigningKey; an empty text is the zero key.
func (k *SigningKey) UnmarshalText(text []byte) error {
	return unmarshalKey((*[32]byte)(k), text, func() error { _, err := k.WireGuard(); return err })
}

// ParseSigningKey reads a key in base64 and checks it as WireGuard does.
func ParseSigningKey(s string) (SigningKey, error) {
	k, err := parseKey(s)
	if err != nil {
		return SigningKey{}, err
	}
	if _, err := SigningKey(k).WireGuard(); err != nil {
		return SigningKey{}, err
	}
	return k, nil
}

// WireGuard returns the Montgomery form of the key. Encodings that are not canonical or not on the curve fail with
// ErrNonCanonical, points of low order with ErrLowOrder.
func (k SigningKey) WireGuard() (PublicKey, error) {
	p, err := new(edwards25519.Point).SetBytes(k[:])
	if err != nil || SigningKey(p.Bytes()) != k {
		return PublicKey{}, fmt.Errorf("%v is no Ed25519 key: %w", k, ErrNonCanonical)
	}
	if new(edwards25519.Point).MultByCofactor(p).Equal(edwards25519.NewIdentityPoint()) == 1 {
		return PublicKey{}, fmt.Errorf("%v is no Ed25519 key: %w", k, ErrLowOrder)
	}
	return PublicKey(p.BytesMontgomery()), nil
}

// Verify tells whether sig is this key's signature of message. It says nothing about a key that WireGuard refuses.
func (k SigningKey) Verify(message, sig []byte) bool {
	return ed25519.Verify(k[:], message, sig)
}

func parseKey(s string) ([32]byte, error) {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	// DecodeString skips line breaks, which no key has.
	if err != nil || len(b) != 32 || len(s) != base64.StdEncoding.EncodedLen(32) {
		return [32]byte{}, fmt.Errorf("%q is no key: a key is 44 characters of base64, as `wg pubkey` prints it", clip(s))
	}
	return [32]byte(b), nil
}

func marshalKey(k [32]byte) ([]byte, error) {
	if k == [32]byte{} {
		return nil, nil
	}
	return base64.StdEncoding.AppendEncode(nil, k[:]), nil
}

func unmarshalKey(k *[32]byte, text []byte, check func() error) error {
	*k = [32]byte{}
	if len(text) == 0 {
		return nil
	}
	parsed, err := parseKey(string(text))
	if err != nil {
		return err
	}
	*k = parsed
	return check()
}

// clip keeps error messages on one line of bearable length.
func clip(s string) string {
	if len(s) > 60 {
		return s[:60] + "..."
	}
	return s
}
