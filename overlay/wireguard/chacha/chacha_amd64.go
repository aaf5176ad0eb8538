//go:build !purego

package chacha

import (
	"crypto/cipher"
	"crypto/subtle"
	"errors"
	"slices"
	"unsafe"

	"golang.org/x/sys/cpu"

	"github.com/hnet-robotics/hnet_bridge/overlay/wireguard/alias"
)

const (
	// minWide is the shortest message that the assembly takes: it makes key stream for at least 448 bytes and eight powers of Poly1305's key, which the
	// standard library does not.
	minWide = 256
	// maxWide is the longest: the scheduler cannot interrupt it, so it must not take long (some 15 µs).
	maxWide = 64 << 10
)

var hasWide = cpu.X86.HasBMI2 &&
	cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512VL && cpu.X86.HasAVX512DQ && // set only if the system saves the registers
	cpu.X86.HasAVX512IFMA

var errOpen = errors.New("ChaCha20-Poly1305: message authentication failed")

// wide is the AEAD of the wide instructions.
type wide struct {
	key      [KeySize]byte
	standard cipher.AEAD // for what the assembly is not made for
}

//go:noescape
func seal(key *[KeySize]byte, nonce, dst, src *byte, n int, tag *byte)

//go:noescape
func open(key *[KeySize]byte, nonce, dst, src *byte, n int, tag *byte)

// authenticate is the hash alone: tests give it keys that no cipher would come to.
//
//go:noescape
func authenticate(once *[32]byte, message *byte, n int, tag *byte)

func widest(key []byte, standard cipher.AEAD) cipher.AEAD {
	if !hasWide {
		return standard
	}
	return &wide{key: [KeySize]byte(key), standard: standard}
}

func (w *wide) NonceSize() int { return nonceSize }
func (w *wide) Overhead() int  { return tagSize }

func (w *wide) Seal(dst, nonce, plaintext, additional []byte) []byte {
	n := len(plaintext)
	if len(nonce) != nonceSize || len(additional) != 0 || n < minWide || n > maxWide {
		return w.standard.Seal(dst, nonce, plaintext, additional)
	}
	whole := slices.Grow(dst, n+tagSize)[:len(dst)+n+tagSize]
	out := whole[len(dst):]
	if alias.Shifted(out, plaintext) {
		return w.standard.Seal(dst, nonce, plaintext, additional) // panics
	}
	seal(&w.key, unsafe.SliceData(nonce), unsafe.SliceData(out), unsafe.SliceData(plaintext), n, &out[n])
	return whole
}

func (w *wide) Open(dst, nonce, sealed, additional []byte) ([]byte, error) {
	n := len(sealed) - tagSize
	if len(nonce) != nonceSize || len(additional) != 0 || n < minWide || n > maxWide {
		return w.standard.Open(dst, nonce, sealed, additional)
	}
	whole := slices.Grow(dst, n)[:len(dst)+n]
	out := whole[len(dst):]
	if alias.Shifted(out, sealed) {
		return w.standard.Open(dst, nonce, sealed, additional) // panics
	}
	var tag [tagSize]byte
	open(&w.key, unsafe.SliceData(nonce), unsafe.SliceData(out), unsafe.SliceData(sealed), n, &tag[0])
	if subtle.ConstantTimeCompare(tag[:], sealed[n:]) != 1 {
		clear(out) // decrypted before it was judged, and not authentic
		return nil, errOpen
	}
	return whole, nil
}
