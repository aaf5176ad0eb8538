package ros

import (
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// Bounds of what waits for a client's reply reader to be matched. Clients send requests when they know the server; the server may learn of the client's reader a
// little later, or, if datagrams are lost, some seconds.
const (
	holdFor       = 5 * time.Second
	maxHeld       = 256
	maxHeldClient = 32 // of one participant
	maxHeldBytes  = 8 << 20
)

// outbox decides which readers get a reply, and holds it until there are some. It knows no sockets and no clock.
type outbox struct {
	readers map[wire.GUID]string // matched readers of replies and their clientid
	held    []heldReply          // in the order of expiry
	bytes   int
	expired uint64
	refused uint64
}

type heldReply struct {
	to      caller
	payload []byte
	until   time.Time
}

// ready is a reply that can be sent.
type ready struct {
	to      caller
	payload []byte
	readers []wire.GUID
}

// send returns the reply with its readers, or holds it.
func (o *outbox) send(now time.Time, to caller, payload []byte) (ready, bool) {
	o.expire(now)
	if list := o.find(&to); list != nil {
		return ready{to, payload, list}, true
	}
	n := 0
	for i := range o.held {
		if o.held[i].to.prefix == to.prefix {
			n++
		}
	}
	if n >= maxHeldClient || len(o.held) >= maxHeld || o.bytes+len(payload) > maxHeldBytes {
		o.refused++
		return ready{}, false
	}
	o.held = append(o.held, heldReply{to, payload, now.Add(holdFor)})
	o.bytes += len(payload)
	return ready{}, false
}

func (o *outbox) find(to *caller) (list []wire.GUID) {
	if !to.reader.IsZero() {
		if id, ok := o.readers[to.reader]; ok && to.wants(to.reader, id) {
			return []wire.GUID{to.reader}
		}
		return nil
	}
	for g, id := range o.readers {
		if to.wants(g, id) {
			list = append(list, g)
		}
	}
	return list
}

// matched takes note of a reader and returns what waited for it.
func (o *outbox) matched(now time.Time, g wire.GUID, id string) (out []ready) {
	if o.readers == nil {
		o.readers = map[wire.GUID]string{}
	}
	o.readers[g] = id
	o.expire(now)
	rest := o.held[:0]
	for _, h := range o.held {
		if h.to.wants(g, id) {
			out = append(out, ready{h.to, h.payload, []wire.GUID{g}})
			o.bytes -= len(h.payload)
		} else {
			rest = append(rest, h)
		}
	}
	clear(o.held[len(rest):])
	o.held = rest
	return out
}

// unmatched forgets a reader.
func (o *outbox) unmatched(g wire.GUID) { delete(o.readers, g) }

// expire drops what nobody came for.
func (o *outbox) expire(now time.Time) {
	n := 0
	for n < len(o.held) && !now.Before(o.held[n].until) {
		o.bytes -= len(o.held[n].payload)
		n++
	}
	if n > 0 {
		o.expired += uint64(n)
		o.held = append(o.held[:0:0], o.held[n:]...)
	}
}

// next is when expire has something to do; zero if nothing is held.
func (o *outbox) next() time.Time {
	if len(o.held) == 0 {
		return time.Time{}
	}
	return o.held[0].until
}
