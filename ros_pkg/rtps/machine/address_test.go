package machine

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// Samples for some readers only reach nobody else, and hold up nobody, whatever is lost.
func TestTo(t *testing.T) {
	for _, loss := range []float64{0, 0.3} {
		t.Run(fmt.Sprint(loss), func(t *testing.T) {
			s := newSimulation(t)
			s.loss = loss
			w := s.start().writer("rr/x", reliableQoS())
			var readers []*sink
			for range 4 {
				readers = append(readers, s.start().reader("rr/x", reliableQoS()))
			}
			own := w.node.reader("rr/x", reliableQoS())
			s.until(30*time.Second, "match", func() bool {
				for _, r := range readers {
					if r.matches != 1 {
						return false
					}
				}
				return w.matches == 5
			})
			want := make([][]byte, 4)
			for i := range 100 {
				k := i % 5
				if k == 4 {
					w.write(i, 60, WriteOptions{To: []wire.GUID{own.GUID()}})
				} else {
					w.write(i, 60, WriteOptions{To: []wire.GUID{readers[k].GUID()}})
					want[k] = append(want[k], byte(i))
				}
				s.run(time.Millisecond)
			}
			w.write(100, 60)
			s.until(30*time.Second, "acknowledgement", func() bool { return w.Acked(w.Last()) })
			for k, r := range readers {
				var got []byte
				for _, x := range r.samples {
					got = append(got, x.Payload[4])
				}
				if !bytes.Equal(got, append(want[k], 100)) {
					t.Errorf("reader %d: %v", k, got)
				}
			}
			if len(own.samples) != 21 || !own.samples[0].Own {
				t.Errorf("the own reader has %d samples", len(own.samples))
			}
		})
	}
}

// Each reader gets its own form of a sample, from the history and sent again too, or none.
func TestPayloadFor(t *testing.T) {
	for _, loss := range []float64{0, 0.3} {
		for _, size := range []int{100, 20_000} {
			t.Run(fmt.Sprint(loss, size), func(t *testing.T) {
				s := newSimulation(t)
				s.loss = loss
				form := func(sample []byte, k byte) []byte {
					return append(bytes.Repeat([]byte{k}, int(k)*4), sample...)
				}
				w := s.start().writer("rt/x", transient(10), func(c *WriterConfig) {
					c.PayloadFor = func(sample []byte, r *Endpoint) []byte {
						k := r.GUID.Prefix[11]
						if k == 4 || k == 5 && sample[4]%2 == 0 {
							return nil
						}
						return form(sample, k)
					}
				})
				var readers []*sink
				for range 2 {
					readers = append(readers, s.start().reader("rt/x", transient(10)))
				}
				for i := range 10 {
					w.write(i, size)
					s.run(10 * time.Millisecond)
				}
				for range 2 {
					readers = append(readers, s.start().reader("rt/x", transient(10)))
				}
				s.until(30*time.Second, "match", func() bool { return w.matches == 4 })
				s.until(60*time.Second, "acknowledgement", func() bool { return w.Acked(w.Last()) })
				for i, r := range readers {
					k := byte(i + 2)
					var want []int
					for n := range 10 {
						if k < 4 || k == 5 && n%2 != 0 {
							want = append(want, n)
						}
					}
					if len(r.samples) != len(want) {
						t.Fatalf("reader %d has %d samples, not %d", i, len(r.samples), len(want))
					}
					for j, n := range want {
						if !bytes.Equal(r.samples[j].Payload, form(numbered(n, size), k)) {
							t.Errorf("reader %d: sample %d is not its form of number %d", i, j, n)
						}
					}
				}
			})
		}
	}
}

func TestRelated(t *testing.T) {
	s := newSimulation(t)
	w, r := pair(t, s, reliableQoS(), reliableQoS())
	at := time.Unix(1_600_000_000, 123_456_789)
	related := SampleIdentity{Writer: wire.GUID{Prefix: prefixOf(9), Entity: 0x1203}, Sequence: 1<<32 + 5}
	for _, size := range []int{50, 5000} {
		w.write(0, size, WriteOptions{SourceTime: at, Related: &related})
	}
	s.run(time.Second)
	if len(r.samples) != 2 {
		t.Fatalf("%d samples", len(r.samples))
	}
	for _, x := range r.samples {
		if x.Related == nil || *x.Related != related || !x.SourceTime.Equal(at) || x.Writer != w.GUID() {
			t.Errorf("sample %+v", x)
		}
		if x.From.Addr() != hostAddr(1) || x.Local.Addr() != hostAddr(2) || x.Interface != 2 || x.Loopback || x.Own {
			t.Errorf("it came from %v to %v by %d, loopback %v, own %v", x.From, x.Local, x.Interface, x.Loopback, x.Own)
		}
	}
	near := s.startOn(1, 1)
	k := near.reader("rt/x", reliableQoS())
	s.until(5*time.Second, "match", func() bool { return k.matches == 1 && w.matches == 2 })
	w.write(1, 100)
	s.run(time.Second)
	if len(k.samples) != 1 || !k.samples[0].Loopback || k.samples[0].Own {
		t.Errorf("on the same host: %+v", k.samples)
	}
}
