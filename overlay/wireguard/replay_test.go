package wireguard

import (
	"math/rand/v2"
	"testing"
)

// naiveWindow is the paper's window as plainly as can be: every counter ever seen.
type naiveWindow struct {
	seen    map[uint64]bool
	highest uint64
	any     bool
}

func (w *naiveWindow) accept(c uint64) bool {
	if c >= RejectAfterMessages || w.seen[c] || (w.any && c < w.highest && w.highest-c >= WindowSize) {
		return false
	}
	w.seen[c] = true
	if !w.any || c > w.highest {
		w.highest, w.any = c, true
	}
	return true
}

func TestWindowAgainstNaiveModel(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, base := range []uint64{0, 1 << 32, RejectAfterMessages - 3*WindowSize} {
		for round := range 20 {
			var w Window
			n := naiveWindow{seen: make(map[uint64]bool)}
			top := base
			for step := range 20000 {
				var c uint64
				switch r.IntN(12) {
				default: // in order
					top++
					c = top
				case 0, 1, 2: // late by a little
					c = top - min(top, r.Uint64N(70))
				case 3: // around the window's end
					c = top - min(top, WindowSize-64+r.Uint64N(128))
				case 4: // long ago
					c = r.Uint64N(top + 1)
				case 5: // a gap
					if r.IntN(50) == 0 {
						top += r.Uint64N(3 * WindowSize)
					} else {
						top += r.Uint64N(200)
					}
					c = top
				case 6:
					c = r.Uint64()
					if r.IntN(2000) != 0 {
						c = 1<<64 - 1 - r.Uint64N(2*WindowSize) // beyond the end, mostly
						if c < RejectAfterMessages {
							continue
						}
					} else if c >= RejectAfterMessages {
						continue
					} else if c > top {
						top = c
					}
				}
				fresh := w.Fresh(c)
				got, want := w.Accept(c), n.accept(c)
				if got != want || fresh != want {
					t.Fatalf("base %d, round %d, step %d: counter %d (highest %d): accepted %v, fresh %v, want %v", base, round, step, c, n.highest, got, fresh, want)
				}
			}
		}
	}
}

func TestWindowEdges(t *testing.T) {
	var w Window
	for _, c := range []struct {
		counter uint64
		want    bool
	}{
		{0, true}, {0, false}, {1, true}, {WindowSize, true}, {0, false},
		{2 * WindowSize, true}, {WindowSize, false}, {WindowSize + 1, true}, {WindowSize + 1, false},
		{RejectAfterMessages, false}, {1<<64 - 1, false}, {RejectAfterMessages - 1, true}, {RejectAfterMessages - 1, false},
		{RejectAfterMessages - WindowSize, true}, {RejectAfterMessages - WindowSize - 1, false},
	} {
		if got := w.Accept(c.counter); got != c.want {
			t.Errorf("counter %d: %v, want %v", c.counter, got, c.want)
		}
	}
}

func BenchmarkWindow(b *testing.B) {
	var w Window
	c := uint64(0)
	for b.Loop() {
		w.Accept(c)
		c++
	}
}
