package machine

import (
	"testing"
	"time"
)

func TestRecycle(t *testing.T) {
	var r recycled
	r.put(make([]byte, 100))
	if len(r.list) != 0 {
		t.Error("a short buffer is kept")
	}
	for range 100 {
		r.put(make([]byte, 1<<20))
	}
	if r.bytes > maxRecycledBytes || len(r.list) > maxRecycled {
		t.Errorf("%d buffers of %d bytes are kept", len(r.list), r.bytes)
	}
	r.put(make([]byte, 100<<20))
	if r.bytes > maxRecycledBytes {
		t.Errorf("%d bytes are kept", r.bytes)
	}
	r = recycled{}
	b := make([]byte, 70_000)
	r.put(b)
	if c := r.get(10_000); &c[0] == &b[0] {
		t.Error("a much longer buffer is taken")
	}
	if c := r.get(65_000); &c[0] != &b[0] || len(c) != 65_000 || len(r.list) != 0 || r.bytes != 0 {
		t.Error("a buffer of the right length is not taken")
	}
}

// A stream of long samples costs no memory for each, on neither side, where their receiver gives them back.
func TestRecycledStream(t *testing.T) {
	s := newSimulation(t)
	w, r := pair(t, s, reliableQoS(), reliableQoS())
	var buffers []*byte
	for i := range 5 {
		w.write(i, 50_000)
		s.until(5*time.Second, "the sample", func() bool { return len(r.samples) == 1 })
		buffers = append(buffers, &r.samples[0].Payload[0])
		r.expect(i, i, 50_000)
		r.node.m.Recycle(r.samples[0].Payload)
		r.samples = nil
	}
	for i := range buffers[1:] {
		if buffers[i+1] != buffers[i] {
			t.Fatal("each sample has a buffer of its own")
		}
	}
}
