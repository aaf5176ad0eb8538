// Package identity is who a node is: one Ed25519 key pair, whose Montgomery form is its WireGuard key, whose hash is its
// address (docs/protocol.md, Identity).
package identity

import (
	"crypto/ed25519"
	"crypto/sha512"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
)

// Identity is the key pair of this node. It is immutable and safe for concurrent use. However it is printed or logged,
// only its address shows.
type Identity struct {
	seed    [32]byte
	signing ed25519.PrivateKey
	private [32]byte
	public  PublicKey
	address netip.Addr
}

// FromSeed derives the identity of an Ed25519 seed (RFC 8032, 5.1.5). The X25519 private key is the same clamped half
// of SHA-512(seed) that Ed25519 signs with.
func FromSeed(seed [32]byte) *Identity {
	id := &Identity{seed: seed, signing: ed25519.NewKeyFromSeed(seed[:])}
	sum := sha512.Sum512(seed[:])
	copy(id.private[:], sum[:32])
	id.private[0] &= 248
	id.private[31] &= 127
	id.private[31] |= 64

	// It cannot fail: a clamped scalar is no multiple of the prime order of the base point.
	id.public, _ = id.SigningKey().WireGuard()
	id.address = id.public.Address()
	return id
}

// Address is where peers find this node inside the overlay.
func (id *Identity) Address() netip.Addr { return id.address }

// SigningKey is the Ed25519 public key.
func (id *Identity) SigningKey() SigningKey {
	return SigningKey(id.signing.Public().(ed25519.PublicKey))
}

// PublicKey is the X25519 public key, this node's WireGuard key.
func (id *Identity) PublicKey() PublicKey { return id.public }

// PrivateKey is the clamped X25519 private key. It is a secret.
func (id *Identity) PrivateKey() [32]byte { return id.private }

// Sign returns the 64-byte Ed25519 signature of message. The message must begin with a label of its own for each use.
func (id *Identity) Sign(message []byte) []byte { return ed25519.Sign(id.signing, message) }

// String is the address.
func (id Identity) String() string { return id.address.String() }

// Format prints the address whatever the verb, so that no verb reaches the secrets.
func (id Identity) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, id.String()) }

// LogValue is the address.
func (id Identity) LogValue() slog.Value { return slog.StringValue(id.String()) }
