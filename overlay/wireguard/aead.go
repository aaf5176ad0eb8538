//go:build !hnet_nocipher

package wireguard

import (
	"crypto/cipher"

	"github.com/hnet-robotics/hnet_bridge/overlay/wireguard/chacha"
	"github.com/hnet-robotics/hnet_bridge/overlay/wireguard/gcm"
)

// newAEAD returns the transport cipher of one direction.
func newAEAD(key [32]byte, useAES bool) (cipher.AEAD, error) {
	if useAES {
		return gcm.New(key[:])
	}
	return chacha.New(key[:])
}
