package virtual

import (
	"slices"
	"testing"
	"time"
)

// TestQueue: in the order of time, then of putting in; what is due while others run is not left out, and time goes forward alone.
func TestQueue(t *testing.T) {
	start := time.Unix(1000, 0)
	now := start
	var q Queue
	type call struct {
		name string
		at   time.Duration
	}
	var calls []call
	note := func(name string) func() { return func() { calls = append(calls, call{name, now.Sub(start)}) } }
	q.At(start.Add(3*time.Second), note("last"))
	q.At(start.Add(time.Second), note("first"))
	q.At(start.Add(time.Second), func() {
		note("second")()
		q.At(now.Add(time.Second), note("third"))
		q.At(now.Add(-time.Minute), note("late"))
	})
	q.At(start.Add(3*time.Second+1), note("beyond"))
	q.Run(&now, 3*time.Second)
	want := []call{{"first", time.Second}, {"second", time.Second}, {"late", time.Second}, {"third", 2 * time.Second}, {"last", 3 * time.Second}}
	if !slices.Equal(calls, want) || now.Sub(start) != 3*time.Second {
		t.Errorf("%v at %v, want %v", calls, now.Sub(start), want)
	}
	if !q.Step(&now, now.Add(time.Second)) || now.Sub(start) != 3*time.Second+1 || q.Step(&now, now.Add(time.Hour)) {
		t.Errorf("%v at %v", calls, now.Sub(start))
	}
	q.At(now, note("forgotten"))
	q.Clear()
	if q.Run(&now, time.Hour); len(calls) != len(want)+1 || now.Sub(start) != time.Hour+3*time.Second+1 {
		t.Errorf("%v at %v", calls, now.Sub(start))
	}
}
