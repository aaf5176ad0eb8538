package tun

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// wideMostTested is more than any packet; see wideMost.
const wideMostTested = 1 << 20

func TestChecksum(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	b := randomBytes(r, 4096)
	for n := 0; n < 700; n++ {
		initial := uint16(r.Uint32())
		at := r.IntN(64)
		if got, want := Checksum(initial, b[at:at+n]), naiveSum(uint32(initial), b[at:at+n]); got != want {
			t.Fatalf("%d bytes: %#04x, want %#04x", n, got, want)
		}
	}
	// Carries at every place.
	sizes := []int{4096, 65535, wideMostTested, wideMostTested + 1000}
	for n := range 300 {
		sizes = append(sizes, n)
	}
	for _, n := range sizes {
		ones := make([]byte, n)
		for i := range ones {
			ones[i] = 0xff
		}
		for _, initial := range []uint16{0, 1, 0xffff} {
			if got, want := Checksum(initial, ones), naiveSum(uint32(initial), ones); got != want {
				t.Fatalf("%d bytes of ones and %d: %#04x, want %#04x", n, initial, got, want)
			}
		}
	}
}

func TestFold(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 3))
	sums := []uint64{0, 1, 0xffff, 0x10000, 0x1fffe, 0x1ffff, 0xffffffff_00010000, 0xffffffff_ffffffff}
	for range 1000 {
		sums = append(sums, r.Uint64()>>r.UintN(64))
	}
	for _, sum := range sums {
		want := uint16(sum % 0xffff)
		if want == 0 && sum > 0 {
			want = 0xffff
		}
		if got := fold(sum); got != want {
			t.Errorf("%#x: %#04x, want %#04x", sum, got, want)
		}
	}
}

func BenchmarkChecksum(b *testing.B) {
	data := randomBytes(rand.New(rand.NewPCG(1, 2)), 65536)
	for _, n := range []int{64, 1400, 65536} {
		for _, f := range []struct {
			name string
			sum  func([]byte) uint16
		}{
			{"fast", func(b []byte) uint16 { return Checksum(0, b) }},
			{"naive", func(b []byte) uint16 { return naiveSum(0, b) }},
		} {
			b.Run(fmt.Sprintf("%s/%d", f.name, n), func(b *testing.B) {
				b.SetBytes(int64(n))
				for b.Loop() {
					f.sum(data[:n])
				}
			})
		}
	}
}
