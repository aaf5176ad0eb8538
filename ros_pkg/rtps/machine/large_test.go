package machine

import (
	"fmt"
	"testing"
	"time"
)

// A megabyte in fragments, whatever is lost, across and on one host.
func TestLarge(t *testing.T) {
	for _, loss := range []float64{0, 0.05, 0.15} {
		t.Run(fmt.Sprint(loss), func(t *testing.T) {
			s := newSimulation(t)
			s.loss, s.duplicate, s.delay = loss, loss, time.Millisecond
			w, r := pair(t, s, reliableQoS(), reliableQoS())
			near := s.startOn(1, 1).reader("rt/x", reliableQoS())
			s.until(10*time.Second, "match", func() bool { return w.matches == 2 && near.matches == 1 })
			const size = 1<<20 + 3
			for i := range 3 {
				w.write(i, size)
			}
			took := s.until(time.Minute, "all samples", func() bool { return len(r.samples) == 3 && len(near.samples) == 3 })
			r.expect(0, 2, size)
			near.expect(0, 2, size)
			s.until(10*time.Second, "acknowledgement", func() bool { return w.Acked(w.Last()) })
			if n := r.node.m.reassembly; n != 0 {
				t.Errorf("%d bytes are accounted to samples that are complete", n)
			}
			t.Logf("%v, %d datagrams out, resent %d", took, w.node.sent, w.node.m.counters.Resent)
		})
	}
}

func TestLargeBestEffort(t *testing.T) {
	s := newSimulation(t)
	w, r := pair(t, s, QoS{}, QoS{})
	for i := range 5 {
		w.write(i, 200_000)
		s.run(100 * time.Millisecond)
	}
	r.expect(0, 4, 200_000)
	if w.history.count != 0 {
		t.Error("samples are kept")
	}
	s.loss = 0.02
	for i := range 50 {
		w.write(i, 100_000)
		s.run(50 * time.Millisecond)
	}
	s.run(5 * time.Second)
	if n := r.node.m.reassembly; n != 0 {
		t.Errorf("%d bytes wait for fragments that will not come", n)
	}
}

// The first burst of a large sample is bounded, and so is the rate after it.
func TestPace(t *testing.T) {
	s := newSimulation(t)
	w, r := pair(t, s, reliableQoS(), reliableQoS())
	before := w.node.bytes
	w.write(0, 4<<20)
	if n := w.node.bytes - before; n > int(farPacing.burst)*11/10 {
		t.Errorf("a burst of %d bytes", n)
	}
	took := s.until(5*time.Second, "the sample", func() bool { return len(r.samples) == 1 })
	if rate := float64(4<<20) / took.Seconds(); rate > farPacing.first*1.2 || rate < farPacing.first/3 {
		t.Errorf("%v: %.0f bytes per second", took, rate)
	}
}
