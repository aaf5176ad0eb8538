//go:build !purego

package tun

import "golang.org/x/sys/cpu"

// wideLeast is where a wide sum begins to pay, in bytes.
const wideLeast = 256

// wideMost is what 64-bit lanes of 32-bit words hold with room to spare; no packet is longer.
const wideMost = 1 << 20

var hasAVX2 = cpu.X86.HasAVX2

//go:noescape
func sumAVX2(b *byte, n int) uint64

// sumWide adds the beginning of b as 32-bit words, if the processor does that faster, and returns how many bytes that was. The sum is below 2^52.
func sumWide(b []byte) (sum uint64, n int) {
	if len(b) < wideLeast || !hasAVX2 {
		return 0, 0
	}
	n = min(len(b), wideMost) &^ 63
	return sumAVX2(&b[0], n), n
}
