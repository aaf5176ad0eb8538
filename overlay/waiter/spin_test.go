package waiter

import (
	"testing"
	"time"
)

func TestSpin(t *testing.T) {
	if alone {
		t.Skip("there is one processor: nobody ever looks")
	}
	const us = time.Microsecond
	for _, test := range []struct {
		name   string
		waited []time.Duration
		want   time.Duration
	}{
		{"nothing is known", nil, 0},
		{"dense", []time.Duration{100 * us}, spinLeast},
		{"dense for a while", []time.Duration{100 * us, 60 * us, 200 * us, 100 * us}, spinMost},
		{"a topic at 1 kHz", []time.Duration{1000 * us, 1000 * us, 1000 * us}, 0},
		{"a pause", []time.Duration{100 * us, 100 * us, 100 * us, 1000 * us}, spinMost / 2},
		{"a longer one", []time.Duration{100 * us, 100 * us, 100 * us, 1000 * us, 1000 * us, 1000 * us}, 0},
		{"the limit", []time.Duration{dense}, spinLeast},
		{"beyond it", []time.Duration{dense + 1}, 0},
	} {
		var s spin
		for _, w := range test.waited {
			s.learn(w)
		}
		if got := s.limit(time.Hour); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

// Beside a stream nobody looks.
func TestSpinBesideBulk(t *testing.T) {
	if alone {
		t.Skip("there is one processor: nobody ever looks")
	}
	s := spin{spinMost}
	bulk.Store(0)
	Brought(bulkLeast - 1)
	if got := time.Duration(bulk.Load()); got != 0 {
		t.Errorf("%d bytes are bulk, at %v", bulkLeast-1, got)
	}
	Brought(bulkLeast)
	at := time.Duration(bulk.Load())
	if at == 0 || s.limit(at) != 0 || s.limit(at+bulkFor-1) != 0 || s.limit(at+bulkFor) != spinMost {
		t.Errorf("bulk at %v: %v, %v, %v", at, s.limit(at), s.limit(at+bulkFor-1), s.limit(at+bulkFor))
	}
}
