package watch

import (
	"math/rand/v2"
	"testing"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// TestWindowAgainstSet compares a window with a set of all that was ever seen, under loss, repetition, reordering, jumps and GAPs.
func TestWindowAgainstSet(t *testing.T) {
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 1))
		var w window
		first := wire.SequenceNumber(1 + random.IntN(5000))
		seen, skipped := map[wire.SequenceNumber]bool{}, map[wire.SequenceNumber]bool{}
		var lost uint64
		high, sec := first-1, int64(1)
		see := func(n wire.SequenceNumber) {
			f, gone := w.see(n)
			lost += gone
			want := fresh
			switch {
			case seen[n] || skipped[n]:
				want = again
			case n < high && n > first:
				want = late
			}
			if high-n >= windowBits { // out of sight
				want = again
			}
			if f != want {
				t.Fatalf("seed %d: %d is %d, want %d (from %d to %d)", seed, n, f, want, first, high)
			}
			high = max(high, n)
			seen[n] = true
		}
		see(first)
		for range 3000 {
			switch x := random.IntN(100); {
			case x < 70:
				see(high + 1)
			case x < 80: // some are missing
				see(high + 1 + wire.SequenceNumber(random.IntN(20)))
			case x < 95: // again, or late
				see(max(first, high-wire.SequenceNumber(random.IntN(100))))
			case x < 97:
				from := max(first, high+1-wire.SequenceNumber(random.IntN(10)))
				to := from + wire.SequenceNumber(random.IntN(30))
				lost += w.skip(from, to)
				for n := from; n < to; n++ {
					skipped[n] = true
					high = max(high, n)
				}
			case x < 98:
				see(high + 1 + wire.SequenceNumber(random.IntN(3*windowBits)))
			default:
				sec++
				lost += w.turn(sec)
			}
		}
		lost += w.turn(sec + 2*settleAfter)
		missing := uint64(0)
		for n := first; n <= high; n++ {
			if !seen[n] && !skipped[n] {
				missing++
			}
		}
		// What is late by more than the window or the time was lost before it came.
		if lost < missing || lost > missing+missing/5+20 {
			t.Fatalf("seed %d: %d lost, %d missing", seed, lost, missing)
		}
	}
}

// TestFragmentsAgainstSet does the same for fragments.
func TestFragmentsAgainstSet(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 2))
		var f fragments
		total := uint32(1 + random.IntN(fragBits))
		seen := make([]bool, total+1)
		count, high := uint32(0), uint32(0)
		for range 2000 {
			first := 1 + random.Uint32N(total)
			n := 1 + random.Uint32N(min(total-first+1, 100))
			var known uint32
			for i := first; i < first+n; i++ {
				if seen[i] {
					known++
				}
				seen[i] = true
			}
			filled := uint32(0)
			if first+n-1 <= high {
				filled = n - known
			}
			high = max(high, first+n-1)
			count += n - known
			gotKnown, gotFilled, whole := f.see(7, first, n, total)
			if gotKnown != known || gotFilled != filled || whole != (count == total) {
				t.Fatalf("seed %d: %d+%d of %d: %d known, %d filled, whole %v; want %d, %d, %v", seed, first, n, total, gotKnown, gotFilled, whole, known, filled, count == total)
			}
		}
	}
}
