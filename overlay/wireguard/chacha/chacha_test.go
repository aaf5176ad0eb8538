package chacha

import (
	"bytes"
	"encoding/binary"
	"math/big"
	"slices"
	"testing"

	"golang.org/x/crypto/chacha20"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/hnet-robotics/hnet_bridge/overlay/wireguard/aeadtest"
)

var against = aeadtest.Pair{Ours: New, Standard: chacha20poly1305.New}

func TestAgainstStandard(t *testing.T) { against.Run(t) }

func FuzzAgainstStandard(f *testing.F) { against.Fuzz(f) }

func BenchmarkSeal(b *testing.B) { against.BenchSeal(b) }

func BenchmarkOpen(b *testing.B) { against.BenchOpen(b) }

func BenchmarkNew(b *testing.B) { against.BenchNew(b) }

// tagOf is the tag by RFC 8439 §2.5.1 and §2.8, as it is written there.
func tagOf(once *[32]byte, message []byte) []byte {
	little := func(b []byte) *big.Int {
		b = slices.Clone(b)
		slices.Reverse(b)
		return new(big.Int).SetBytes(b)
	}
	r := slices.Clone(once[:16])
	for i, mask := range []byte{3: 15, 4: 252, 7: 15, 8: 252, 11: 15, 12: 252, 15: 15} {
		if mask != 0 {
			r[i] &= mask
		}
	}
	padded := append(slices.Clone(message), make([]byte, -len(message)&15)...)
	padded = append(padded, make([]byte, 8)...)
	padded = binary.LittleEndian.AppendUint64(padded, uint64(len(message)))
	h := new(big.Int)
	for block := range slices.Chunk(padded, 16) {
		h.Add(h, little(append(slices.Clone(block), 1)))
		h.Mul(h, little(r))
		h.Mod(h, modulus())
	}
	h.Add(h, little(once[16:]))
	tag := h.FillBytes(make([]byte, 17))[1:]
	slices.Reverse(tag)
	return tag
}

// modulus is 2^130-5.
func modulus() *big.Int { return new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 130), big.NewInt(5)) }

// The standard library's AEAD is assembly, too. This compares with what is none: key stream in Go, and the tag by big numbers.
func TestAsWritten(t *testing.T) {
	key, nonce := make([]byte, KeySize), make([]byte, nonceSize)
	for n := range 3200 {
		key[n%KeySize]++
		nonce[n%nonceSize]--
		ours, err := New(key)
		if err != nil {
			t.Fatal(err)
		}
		stream, err := chacha20.NewUnauthenticatedCipher(key, nonce)
		if err != nil {
			t.Fatal(err)
		}
		var once [32]byte
		stream.XORKeyStream(once[:], once[:])
		stream.SetCounter(1)
		plaintext := bytes.Repeat([]byte{byte(n)}, n)
		want := make([]byte, n)
		stream.XORKeyStream(want, plaintext)
		want = append(want, tagOf(&once, want)...)
		if got := ours.Seal(nil, nonce, plaintext, nil); !bytes.Equal(got, want) {
			t.Fatalf("%d bytes sealed to %x, want %x", n, got, want)
		}
	}
}
