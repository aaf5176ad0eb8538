//go:build !purego

package gcm

import (
	"crypto/cipher"
	"crypto/fips140"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"slices"
	"unsafe"

	"golang.org/x/sys/cpu"

	"github.com/hnet-robotics/hnet_bridge/overlay/wireguard/alias"
)

// maxWide is the longest message that the assembly takes: the scheduler cannot interrupt it, so it must not take long (some 6 µs).
const maxWide = 64 << 10

var hasWide = cpu.X86.HasAES && cpu.X86.HasPCLMULQDQ && cpu.X86.HasBMI2 &&
	cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512VL && cpu.X86.HasAVX512DQ && // set only if the system saves the registers
	cpu.X86.HasAVX512VAES && cpu.X86.HasAVX512VPCLMULQDQ

var errOpen = errors.New("AES-256-GCM: message authentication failed")

// schedule is what the assembly knows of a key; it knows the offsets, too.
type schedule struct {
	rounds [15][16]byte // round keys, FIPS 197 §5.2
	// powers are H^33 … H^1, H being the hash subkey (SP 800-38D §6.3), byte-reversed and times x (see the assembly). The two behind them are read
	// together with the last ones, and multiplied with nothing but zeros.
	powers [35][2]uint64
}

// wide is the AEAD of the wide instructions.
type wide struct {
	schedule schedule
	standard cipher.AEAD // for what the assembly is not made for
}

//go:noescape
func expandKey(rounds *[15][16]byte, key *byte)

//go:noescape
func expandPowers(s *schedule)

//go:noescape
func seal(s *schedule, nonce, dst, src *byte, n int, tag *byte)

//go:noescape
func open(s *schedule, nonce, dst, src *byte, n int, tag *byte)

func widest(key []byte, block cipher.Block, standard cipher.AEAD) cipher.AEAD {
	if !hasWide || fips140.Enabled() { // this is no validated module
		return standard
	}
	w := &wide{standard: standard}
	expandKey(&w.schedule.rounds, unsafe.SliceData(key))
	var h [16]byte
	block.Encrypt(h[:], h[:])
	w.schedule.powers[32] = timesX(binary.BigEndian.Uint64(h[8:]), binary.BigEndian.Uint64(h[:8]))
	expandPowers(&w.schedule)
	return w
}

// timesX multiplies the byte-reversed element of GF(2^128) by x.
func timesX(low, high uint64) [2]uint64 {
	carry := -(high >> 63) // a mask, not a branch: H is secret
	return [2]uint64{low<<1 ^ carry&1, high<<1 ^ low>>63 ^ carry&(0xc2<<56)}
}

func (w *wide) NonceSize() int { return nonceSize }
func (w *wide) Overhead() int  { return tagSize }

func (w *wide) Seal(dst, nonce, plaintext, additional []byte) []byte {
	n := len(plaintext)
	if len(nonce) != nonceSize || len(additional) != 0 || n > maxWide {
		return w.standard.Seal(dst, nonce, plaintext, additional)
	}
	whole := slices.Grow(dst, n+tagSize)[:len(dst)+n+tagSize]
	out := whole[len(dst):]
	if alias.Shifted(out, plaintext) {
		return w.standard.Seal(dst, nonce, plaintext, additional) // panics
	}
	seal(&w.schedule, unsafe.SliceData(nonce), unsafe.SliceData(out), unsafe.SliceData(plaintext), n, &out[n])
	return whole
}

func (w *wide) Open(dst, nonce, sealed, additional []byte) ([]byte, error) {
	n := len(sealed) - tagSize
	if len(nonce) != nonceSize || len(additional) != 0 || n < 0 || n > maxWide {
		return w.standard.Open(dst, nonce, sealed, additional)
	}
	whole := slices.Grow(dst, n)[:len(dst)+n]
	out := whole[len(dst):]
	if alias.Shifted(out, sealed) {
		return w.standard.Open(dst, nonce, sealed, additional) // panics
	}
	var tag [tagSize]byte
	open(&w.schedule, unsafe.SliceData(nonce), unsafe.SliceData(out), unsafe.SliceData(sealed), n, &tag[0])
	if subtle.ConstantTimeCompare(tag[:], sealed[n:]) != 1 {
		clear(out) // decrypted in the same pass, and not authentic
		return nil, errOpen
	}
	return whole, nil
}
