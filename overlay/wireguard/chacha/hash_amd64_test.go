//go:build !purego

package chacha

import (
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"
)

func authenticated(once *[32]byte, message []byte) []byte {
	var tag [16]byte
	authenticate(once, unsafe.SliceData(message), len(message), &tag[0])
	return tag[:]
}

// Random keys never come to the sums at which a carry runs through, or at which the last subtraction matters: these do.
func TestHashAtItsLimits(t *testing.T) {
	if !hasWide {
		t.Skip("no wide instructions")
	}
	fill := func(x byte, n int) []byte { return slices.Repeat([]byte{x}, n) }
	s := rand.NewChaCha8([32]byte{20})
	random := func(n int) []byte {
		b := make([]byte, n)
		s.Read(b)
		return b
	}
	var rs, ends [][]byte
	for _, x := range []byte{0, 1, 2, 4, 0xff} {
		rs = append(rs, append([]byte{x}, fill(0, 15)...), fill(x, 16))
	}
	rs = append(rs, random(16))
	ends = [][]byte{fill(0, 16), fill(0xff, 16), random(16)}
	for _, r := range rs {
		for _, end := range ends {
			once := [32]byte(append(slices.Clone(r), end...))
			for _, n := range []int{0, 1, 15, 16, 17, 96, 111, 112, 113, 128, 240, 241, 368, 369, 384, 496, 500, 640, 777, 1424} {
				for _, message := range [][]byte{fill(0, n), fill(0xff, n), fill(0xfb, n), random(n)} {
					if got, want := authenticated(&once, message), tagOf(&once, message); string(got) != string(want) {
						t.Fatalf("key %x, %d bytes %x…: tag %x, want %x", once, n, message[:min(n, 1)], got, want)
					}
				}
			}
		}
	}
}

// With r = 1 the hash is the sum of the blocks, each with 2^128 more, and so it can be chosen: it shall be a little more, or less, than the modulus, where
// the last subtraction decides.
func TestHashAboutItsModulus(t *testing.T) {
	if !hasWide {
		t.Skip("no wide instructions")
	}
	for _, blocks := range []int{3, 4, 7, 8, 11, 12, 15, 19, 20, 31, 32, 39, 40, 90} { // that of lengths is one more
		for below := range 64 {
			// what is in the sum anyway: the block of lengths, and 2^128 for each block
			fixed := new(big.Int).Lsh(big.NewInt(int64(blocks+1)), 128)
			fixed.Add(fixed, new(big.Int).Lsh(big.NewInt(int64(16*blocks)), 64))
			want := new(big.Int).Sub(big.NewInt(32), big.NewInt(int64(below)))
			need := new(big.Int).Mod(new(big.Int).Sub(want, fixed), modulus())
			message := make([]byte, 16*blocks)
			// the rest, less than 2^130, is spread over blocks of less than 2^128
			most := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 128), big.NewInt(1))
			for i := range blocks {
				part := need
				if part.Cmp(most) > 0 {
					part = most
				}
				b := part.FillBytes(make([]byte, 16))
				slices.Reverse(b)
				copy(message[16*i:], b)
				need = new(big.Int).Sub(need, part)
			}
			once := [32]byte{0: 1}
			if got, want := authenticated(&once, message), tagOf(&once, message); string(got) != string(want) {
				t.Fatalf("%d blocks, %d: tag %x, want %x", blocks, below, got, want)
			}
		}
	}
}
