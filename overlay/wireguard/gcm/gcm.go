// Package gcm is AES-256-GCM (NIST SP 800-38D) at the width of the processor: where there are VAES and VPCLMULQDQ on 64-byte registers, sixteen blocks are
// encrypted and hashed at once. The standard library works on 16-byte registers, and sealing and opening was more than half of the daemon's CPU time
// for a TCP stream.
package gcm

import (
	"crypto/aes"
	"crypto/cipher"
	"fmt"
)

const (
	// KeySize is the only size of a key that New takes, in bytes.
	KeySize   = 32
	nonceSize = 12
	tagSize   = 16
)

// New returns AES-256-GCM with nonces of 12 and tags of 16 bytes. It behaves as crypto/cipher's does, and is that where the processor has no wide instructions.
func New(key []byte) (cipher.AEAD, error) {
	if len(key) != KeySize {
		return nil, fmt.Errorf("AES-256-GCM: key of %d bytes, want %d", len(key), KeySize)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("AES-256-GCM: %w", err)
	}
	standard, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("AES-256-GCM: %w", err)
	}
	return widest(key, block, standard), nil
}
