package watch

import (
	"sync"
	"sync/atomic"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

const (
	maxNames    = 2048 // of a peer
	maxOwnNames = 8192
	maxNameLen  = 255 // bytes of a topic's or a type's name; ROS allows no longer ones
)

// book is what one host said of its endpoints: the topics of its writers, and for this host's own book of its readers too.
type book struct {
	limit int
	// version grows when a name is added: whoever missed one looks again.
	version atomic.Uint32

	mu    sync.RWMutex
	names map[wire.GUID]name
}

func (b *book) init(limit int) { b.limit, b.names = limit, make(map[wire.GUID]name) }

func (b *book) find(g wire.GUID) (name, bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	n, ok := b.names[g]
	return n, ok
}

func (b *book) add(g wire.GUID, n name) {
	b.mu.Lock()
	defer b.mu.Unlock()
	old, known := b.names[g]
	if known && old == n {
		return
	}
	if !known && len(b.names) >= b.limit {
		for victim := range b.names { // any: Go's maps begin anywhere
			delete(b.names, victim)
			break
		}
	}
	b.names[g] = n
	b.version.Add(1)
}

func (b *book) remove(g wire.GUID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.names, g)
}

// announcement is what is read of a DATA(w) or DATA(r).
type announcement struct {
	guid       wire.GUID
	topic, typ string
}

// readAnnouncement reads the parameter list of discovery data as far as it goes: the first fragment of a long one, in which type information is what is
// long, has all that is wanted.
func readAnnouncement(payload []byte) (a announcement, ok bool) {
	l, err := wire.ParseParameterPayload(payload)
	if err != nil {
		return a, false
	}
	var key wire.GUID
	c := l.Parameters()
	for p, more := c.Next(); more; p, more = c.Next() {
		switch p.ID {
		case wire.PIDEndpointGUID:
			a.guid, _ = p.GUID()
		case wire.PIDKeyHash: // the same bytes (9.6.3.8)
			key, _ = p.GUID()
		case wire.PIDTopicName:
			a.topic, _ = p.Text(maxNameLen)
		case wire.PIDTypeName:
			a.typ, _ = p.Text(maxNameLen)
		}
	}
	if a.guid.IsZero() {
		a.guid = key
	}
	return a, !a.guid.IsZero() && a.topic != "" && a.typ != ""
}
