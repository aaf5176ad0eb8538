//go:build !hnet_nocipher

package wireguard

import (
	"crypto/aes"
	"crypto/cipher"

	"golang.org/x/crypto/chacha20poly1305"
)

// newAEAD returns the transport cipher of one direction.
func newAEAD(key [32]byte, useAES bool) (cipher.AEAD, error) {
	if !useAES {
		return chacha20poly1305.New(key[:])
	}
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
