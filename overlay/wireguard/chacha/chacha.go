// Package chacha is ChaCha20-Poly1305 (RFC 8439) at the width of the processor.
package chacha

import (
	"crypto/cipher"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

const (
	// KeySize is the only size of a key that New takes, in bytes.
	KeySize   = chacha20poly1305.KeySize
	nonceSize = chacha20poly1305.NonceSize
	tagSize   = chacha20poly1305.Overhead
)

// New returns ChaCha20-Poly1305 with nonces of 12 and tags of 16 bytes. It behaves as golang.org/x/crypto's does, and is that where the processor has no
// wide instructions.
func New(key []byte) (cipher.AEAD, error) {
	standard, err := chacha20poly1305.New(key)
	if err != nil {
		return nil, fmt.Errorf("ChaCha20-Poly1305: %w", err)
	}
	return widest(key, standard), nil
}
