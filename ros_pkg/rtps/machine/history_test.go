package machine

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

func TestHistory(t *testing.T) {
	h := newHistory()
	for i := range 100 {
		if c := h.push(numbered(i, 20)); c.seq != wire.SequenceNumber(i+1) {
			t.Fatalf("number %d is %d", i+1, c.seq)
		}
		if h.count > 10 {
			h.remove(h.first)
		}
	}
	if h.first != 91 || h.last != 100 || h.count != 10 || h.bytes != 200 || len(h.ring) != 16 {
		t.Fatalf("%d..%d, %d samples of %d bytes in %d slots", h.first, h.last, h.count, h.bytes, len(h.ring))
	}
	h.remove(95)
	if h.get(95) != nil || h.get(96) == nil || h.get(90) != nil || h.get(101) != nil {
		t.Error("the wrong samples are there")
	}
	for seq := h.first; seq <= 100; seq++ {
		h.remove(seq)
	}
	if h.count != 0 || h.first != 101 || h.bytes != 0 || h.skip() != 101 || h.push(nil).seq != 102 {
		t.Errorf("an empty history is %d..%d", h.first, h.last)
	}
}

func transient(depth int) QoS {
	return QoS{Reliability: Reliable, Durability: TransientLocal, Depth: depth}
}

// A reader that comes late gets the history if both want it, and nothing else of the past.
func TestLateJoiner(t *testing.T) {
	for _, loss := range []float64{0, 0.15} {
		for _, test := range []struct {
			name   string
			w, r   QoS
			from   int
			sample int
		}{
			{"transient_local", transient(10), transient(10), 20, 100},
			{"transient_local_large", transient(10), transient(10), 20, 30_000},
			{"volatile_reader", transient(10), reliableQoS(), 30, 100},
			{"best_effort_reader", transient(10), QoS{}, 30, 100},
			{"volatile", QoS{Reliability: Reliable, Depth: 10}, QoS{Reliability: Reliable, Depth: 10}, 30, 100},
			{"keep_all", QoS{Reliability: Reliable, Durability: TransientLocal, History: KeepAll}, transient(1), 0, 100},
		} {
			t.Run(fmt.Sprint(test.name, loss), func(t *testing.T) {
				s := newSimulation(t)
				s.loss = loss
				a, b := s.start(), s.start()
				w := a.writer("rt/x", test.w)
				early := b.reader("rt/x", test.w)
				s.until(20*time.Second, "match", func() bool { return w.matches == 1 && early.matches == 1 })
				for i := range 30 {
					w.write(i, test.sample)
					s.run(20 * time.Millisecond)
				}
				s.until(30*time.Second, "acknowledgement", func() bool { return w.Acked(w.Last()) })
				late := s.start().reader("rt/x", test.r)
				s.until(20*time.Second, "match", func() bool { return w.matches == 2 && late.matches == 1 })
				s.run(time.Second)
				for i := 30; i < 35; i++ {
					w.write(i, test.sample)
					s.run(50 * time.Millisecond)
				}
				s.run(10 * time.Second)
				if test.r.Reliability == BestEffort && loss > 0 {
					for _, x := range late.samples {
						if x.Payload[4] < 30 {
							t.Errorf("sample %d is of the past", x.Payload[4])
						}
					}
					return
				}
				late.expect(test.from, 34, test.sample)
				early.expect(0, 34, test.sample)
				if !w.Acked(w.Last()) {
					t.Error("not all is acknowledged")
				}
			})
		}
	}
}

// What was written before is not asked for by a volatile reader even of a writer that has it.
func TestVolatileReaderCostsNothing(t *testing.T) {
	s := newSimulation(t)
	w, _ := pair(t, s, transient(100), transient(100))
	for i := range 100 {
		w.write(i, 1000)
	}
	s.run(2 * time.Second)
	before := w.node.bytes
	late := s.start().reader("rt/x", reliableQoS())
	s.until(5*time.Second, "match", func() bool { return late.matches == 1 })
	s.run(time.Second)
	if len(late.samples) != 0 || w.node.bytes-before > 10_000 {
		t.Errorf("%d samples, %d bytes", len(late.samples), w.node.bytes-before)
	}
}

func TestKeepLastOverwrites(t *testing.T) {
	s := newSimulation(t)
	w, r := pair(t, s, QoS{Reliability: Reliable, Depth: 3}, reliableQoS())
	w.write(0, 50)
	s.run(time.Second)
	s.cut = func(from, to *simNode) bool { return true }
	for i := 1; i <= 20; i++ {
		w.write(i, 50)
	}
	s.run(2 * time.Second)
	if w.history.count != 3 {
		t.Errorf("%d samples are kept", w.history.count)
	}
	s.cut = nil
	s.run(3 * time.Second)
	var got []int
	for _, x := range r.samples {
		got = append(got, int(x.Payload[4]))
	}
	if fmt.Sprint(got) != "[0 18 19 20]" {
		t.Errorf("received %v", got)
	}
	if lost := r.node.m.counters.Lost; lost != 17 {
		t.Errorf("%d samples are counted as lost", lost)
	}
	if !w.Acked(w.Last()) {
		t.Error("not acknowledged")
	}
}

// A reader that does not answer fills the history of a KeepAll writer, which refuses more, and in the end lets it go.
func TestSilentReader(t *testing.T) {
	s := newSimulation(t)
	a, b := s.start(), s.start()
	w := a.writer("rt/x", reliableQoS(), func(c *WriterConfig) { c.MaxSamples = 10 })
	r := b.reader("rt/x", reliableQoS())
	s.until(5*time.Second, "match", func() bool { return w.matches == 1 && r.matches == 1 })
	progress := 0
	w.Progress = func() { progress++ }
	// It announces itself, but its acknowledgements are lost.
	s.cut = func(from, to *simNode) bool { return from == b && s.now.UnixNano()%7 != 0 }
	for i := range 10 {
		w.write(i, 50)
	}
	if _, err := w.Write(s.now, numbered(10, 50), &WriteOptions{}); !errors.Is(err, ErrFull) {
		t.Fatalf("the 11th sample: %v", err)
	}
	s.cut = func(from, to *simNode) bool { return from == b }
	for i := 0; ; i++ {
		s.run(time.Second)
		_, err := w.Write(s.now, numbered(10, 50), &WriteOptions{})
		w.node.flush()
		if err == nil {
			if i < 5 {
				t.Errorf("given up after %d s", i)
			}
			break
		}
		if i > 25 {
			t.Fatal("the silent reader is still waited for")
		}
	}
	if a.m.counters.Stalled == 0 && len(w.proxies) > 0 {
		t.Error("not counted")
	}
	s.cut = nil
	s.run(5 * time.Second)
	if progress == 0 {
		t.Error("no word of progress")
	}
}

func TestLifespan(t *testing.T) {
	s := newSimulation(t)
	a := s.start()
	q := transient(10)
	q.Lifespan = 10 * time.Second
	w := a.writer("rt/x", q)
	w.write(0, 50)
	s.run(8 * time.Second)
	w.write(1, 50)
	s.run(5 * time.Second)
	late := s.start().reader("rt/x", transient(10))
	s.until(5*time.Second, "a sample", func() bool { return len(late.samples) > 0 })
	s.run(time.Second)
	late.expect(1, 1, 50)
	if !w.Acked(w.Last()) {
		t.Error("what has expired is waited for")
	}
}
