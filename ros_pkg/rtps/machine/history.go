package machine

import (
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// keepBuffer is the length in bytes up to which a slot's payload buffer is used again for a later sample, so that writing
// small samples allocates nothing.
const keepBuffer = 4 << 10

// change is a sample in a writer's history.
type change struct {
	seq     wire.SequenceNumber
	there   bool // false: removed, a hole
	payload []byte
	at      time.Time // source time
	expires time.Time // zero: never
	status  Status
	related SampleIdentity
	relates bool
	to      []wire.GUID // nil: everybody
	all     bool        // to everybody
	key     wire.GUID   // instance, of builtin writers and farewells
	keyed   bool
}

// history is a writer's samples in the order of their sequence numbers, which are consecutive; removed ones leave holes.
type history struct {
	ring  []change // length is a power of two
	first wire.SequenceNumber
	last  wire.SequenceNumber // first-1 if there are none
	bytes int
	count int // without holes

	spare []byte // a long payload's buffer, for the next one of about that length
}

func newHistory() history { return history{ring: make([]change, 4), first: 1} }

func (h *history) slot(seq wire.SequenceNumber) *change {
	return &h.ring[int(uint64(seq)&uint64(len(h.ring)-1))]
}

// get returns the sample of a number, nil if it is not there.
func (h *history) get(seq wire.SequenceNumber) *change {
	if seq < h.first || seq > h.last {
		return nil
	}
	if c := h.slot(seq); c.there {
		return c
	}
	return nil
}

// push makes the slot of the next number, with the payload copied.
func (h *history) push(payload []byte) *change {
	if int(h.last-h.first)+2 > len(h.ring) {
		ring := make([]change, 2*len(h.ring))
		for seq := h.first; seq <= h.last; seq++ {
			ring[int(uint64(seq)&uint64(len(ring)-1))] = *h.slot(seq)
		}
		h.ring = ring
	}
	h.last++
	c := h.slot(h.last)
	buf := c.payload[:0]
	if len(payload) > keepBuffer && cap(buf) < len(payload) {
		if cap(h.spare) >= len(payload) && cap(h.spare) <= 4*len(payload) {
			buf = h.spare
		}
		h.spare = nil
	}
	*c = change{seq: h.last, there: true, payload: append(buf, payload...)}
	h.bytes += len(payload)
	h.count++
	return c
}

// skip gives the next number to nothing.
func (h *history) skip() wire.SequenceNumber {
	if h.count == 0 {
		h.last++
		h.first = h.last + 1
		return h.last
	}
	c := h.push(nil)
	h.remove(c.seq)
	return h.last
}

func (h *history) remove(seq wire.SequenceNumber) {
	c := h.get(seq)
	if c == nil {
		return
	}
	h.bytes -= len(c.payload)
	h.count--
	buf := c.payload[:0]
	if cap(buf) > keepBuffer {
		h.spare, buf = buf, nil
	}
	*c = change{seq: seq, payload: buf}
	for h.first <= h.last && !h.slot(h.first).there {
		h.first++
	}
}
