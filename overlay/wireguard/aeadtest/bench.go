package aeadtest

import (
	"crypto/cipher"
	"fmt"
	"testing"
)

// benchSizes are a small topic of a robot, a command, packets of Ethernet paths, and one of jumbo frames.
var benchSizes = []int{16, 64, 128, 256, 1312, 1452, 8952}

func (p Pair) each(b *testing.B, f func(b *testing.B, a cipher.AEAD, nonce, room []byte, n int)) {
	ours, standard := p.with(b, make([]byte, KeySize))
	for _, n := range benchSizes {
		for _, c := range []struct {
			name string
			cipher.AEAD
		}{{"ours", ours}, {"standard", standard}} {
			b.Run(fmt.Sprintf("%d/%s", n, c.name), func(b *testing.B) {
				room := make([]byte, 16+n+tagSize)[16:] // as behind the header of a transport message
				b.SetBytes(int64(n))
				b.ReportAllocs()
				f(b, c.AEAD, make([]byte, nonceSize), room, n)
			})
		}
	}
}

// BenchSeal seals one message in place after another.
func (p Pair) BenchSeal(b *testing.B) {
	p.each(b, func(b *testing.B, a cipher.AEAD, nonce, room []byte, n int) {
		for b.Loop() {
			a.Seal(room[:0], nonce, room[:n], nil)
		}
	})
}

// BenchOpen opens one message apart after another: in place it would be gone.
func (p Pair) BenchOpen(b *testing.B) {
	p.each(b, func(b *testing.B, a cipher.AEAD, nonce, room []byte, n int) {
		out := make([]byte, n)
		sealed := a.Seal(room[:0], nonce, room[:n], nil)
		for b.Loop() {
			if _, err := a.Open(out[:0], nonce, sealed, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchNew is what a new key costs.
func (p Pair) BenchNew(b *testing.B) {
	key := make([]byte, KeySize)
	for b.Loop() {
		if _, err := p.Ours(key); err != nil {
			b.Fatal(err)
		}
	}
}
