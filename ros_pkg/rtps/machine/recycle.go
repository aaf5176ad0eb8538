package machine

import "sync"

// What may wait to be used again.
const (
	maxRecycled      = 16
	maxRecycledBytes = 8 << 20
)

// recycled are long payloads that their receivers gave back.
type recycled struct {
	mu    sync.Mutex
	list  [][]byte
	bytes int
}

// Recycle takes back the payload of a sample that was delivered and is not used any more. It may be called at any time and from anywhere.
func (m *Machine) Recycle(payload []byte) { m.recycled.put(payload) }

func (r *recycled) put(b []byte) {
	if cap(b) <= keepBuffer {
		return // the runtime does that as well
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.list) >= maxRecycled || len(r.list) > 0 && r.bytes+cap(b) > maxRecycledBytes {
		r.bytes -= cap(r.list[0])
		r.list[0] = nil
		r.list = r.list[1:]
	}
	if cap(b) <= maxRecycledBytes {
		r.list = append(r.list, b)
		r.bytes += cap(b)
	}
}

// get returns n bytes, of which nothing is known.
func (r *recycled) get(n int) []byte {
	if n > keepBuffer {
		r.mu.Lock()
		defer r.mu.Unlock()
		for i := len(r.list) - 1; i >= 0; i-- {
			if c := cap(r.list[i]); c >= n && c <= 4*n {
				b := r.list[i]
				last := len(r.list) - 1
				r.list[i] = r.list[last]
				r.list[last] = nil
				r.list = r.list[:last]
				r.bytes -= c
				return b[:n]
			}
		}
	}
	return make([]byte, n)
}

// clone copies a payload.
func (r *recycled) clone(b []byte) []byte {
	if len(b) <= keepBuffer {
		return clone(b)
	}
	c := r.get(len(b))
	copy(c, b)
	return c
}
