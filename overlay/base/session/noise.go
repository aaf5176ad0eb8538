package session

import (
	"crypto/rand"
	"errors"
	"io"
	"slices"

	"github.com/flynn/noise"

	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
)

const prologueLabel = "hnet base v1"

var suite = noise.NewCipherSuite(noise.DH25519, noise.CipherChaChaPoly, noise.HashBLAKE2s)

// Errors of the handshake, wrapped with what was wrong. They are ordinary on an open network: callers count them.
var (
	// ErrNotOurs: the message answers no hello or register of this Client.
	ErrNotOurs = errors.New("not an answer to this handshake")
	// ErrPinned: the Base at this endpoint is not the one that the configuration names.
	ErrPinned = errors.New("another Base than the configured one")
	// ErrCookie: the cookie is not of this source, or too old. The client must say hello again.
	ErrCookie = errors.New("cookie is not valid, or not any more")
	// ErrHandshake: not authentic.
	ErrHandshake = errors.New("handshake message is not authentic")
	// ErrRecord: the contact record is bad or another node's.
	ErrRecord = errors.New("bad contact record in a register")
)

// static is a node's X25519 key pair for the Noise library.
func static(id *identity.Identity) noise.DHKey {
	private, public := id.PrivateKey(), id.PublicKey()
	return noise.DHKey{Private: slices.Clone(private[:]), Public: slices.Clone(public[:])}
}

// noiseConfig is that of the handshake of one register. The prologue holds the register's header, so that a Noise message is worth nothing behind
// another cookie, which anybody may get for his own endpoint, or with another index.
func noiseConfig(key noise.DHKey, random io.Reader, header []byte) noise.Config {
	return noise.Config{
		CipherSuite: suite, Pattern: noise.HandshakeIK, StaticKeypair: key, Random: random,
		Prologue: append([]byte(prologueLabel), header...),
	}
}

func orRandom(r io.Reader) io.Reader {
	if r == nil {
		return rand.Reader
	}
	return r
}
