//go:build hnet_nocipher

package wireguard

import (
	"crypto/cipher"
	"errors"
	"os"
)

// A build with the tag hnet_nocipher encrypts and authenticates nothing: it is the benchmark's measure of what everything but the cipher
// costs, and is never shipped.
func init() {
	os.Stderr.WriteString("WARNING: this is a benchmark build: nothing that it sends is encrypted, and anyone can send to it\n")
}

func newAEAD([32]byte, bool) (cipher.AEAD, error) { return plain{}, nil }

// plain takes the room of an AEAD's tag and leaves the text as it is.
type plain struct{}

const plainTag = 16

func (plain) NonceSize() int { return 12 }
func (plain) Overhead() int  { return plainTag }

func (plain) Seal(dst, _, plaintext, _ []byte) []byte {
	dst = append(dst, plaintext...) // in place: a copy onto itself, which memmove passes over
	return append(dst, make([]byte, plainTag)...)
}

func (plain) Open(dst, _, sealed, _ []byte) ([]byte, error) {
	if len(sealed) < plainTag {
		return nil, errors.New("shorter than a tag")
	}
	return append(dst, sealed[:len(sealed)-plainTag]...), nil
}
