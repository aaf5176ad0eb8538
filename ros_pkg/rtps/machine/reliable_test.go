package machine

import (
	"fmt"
	"testing"
	"time"
)

// pair is a writer and a reader on two hosts that know each other.
func pair(t testing.TB, s *simulation, wq, rq QoS) (*spring, *sink) {
	t.Helper()
	a, b := s.start(), s.start()
	w, r := a.writer("rt/x", wq), b.reader("rt/x", rq)
	s.until(20*time.Second, "match", func() bool { return w.matches == 1 && r.matches == 1 })
	return w, r
}

func TestReliable(t *testing.T) {
	for _, loss := range []float64{0, 0.05, 0.15, 0.4} {
		t.Run(fmt.Sprint(loss), func(t *testing.T) {
			s := newSimulation(t)
			s.loss, s.duplicate, s.delay = loss, loss/2, time.Millisecond
			w, r := pair(t, s, reliableQoS(), reliableQoS())
			const count = 500
			for i := range count {
				w.write(i, 100)
				s.run(time.Duration(s.random.IntN(4)) * time.Millisecond)
			}
			took := s.until(time.Minute, "all samples", func() bool { return len(r.samples) >= count })
			r.expect(0, count-1, 100)
			s.until(time.Minute, "all acknowledged", func() bool { return w.Acked(w.Last()) })
			if n := w.history.count; n != 0 {
				t.Errorf("%d samples are kept that everybody has", n)
			}
			t.Logf("%v after the last write, %d datagrams out, %d back, resent %d", took, w.node.sent, r.node.sent, w.node.m.counters.Resent)
		})
	}
}
