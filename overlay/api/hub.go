package api

import (
	"context"
	"sync"
)

// hubQueue is how many events may wait for one reader before it is cut.
const hubQueue = 256

// Hub spreads events to any number of readers and never waits for one of them. The zero Hub is ready.
type Hub struct {
	mu      sync.Mutex
	readers map[chan Event]struct{}
}

// Publish gives ev to every reader. One whose queue is full gets a last [EventOverflow] and is cut.
func (h *Hub) Publish(ev Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for ch := range h.readers {
		if len(ch) < hubQueue {
			ch <- ev
			continue
		}
		ch <- Event{Time: ev.Time, Type: EventOverflow, Detail: "read too slowly, events were lost: subscribe again and ask for the present state"}
		h.drop(ch)
	}
}

// Subscribe returns the events from now on. The channel closes when ctx ends or the reader was cut.
func (h *Hub) Subscribe(ctx context.Context) <-chan Event {
	// One place more than the queue, so that the note to a reader that is cut always fits.
	ch := make(chan Event, hubQueue+1)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.readers == nil {
		h.readers = make(map[chan Event]struct{})
	}
	h.readers[ch] = struct{}{}
	context.AfterFunc(ctx, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.drop(ch)
	})
	return ch
}

// drop ends a reader once. h.mu is held.
func (h *Hub) drop(ch chan Event) {
	if _, ok := h.readers[ch]; ok {
		delete(h.readers, ch)
		close(ch)
	}
}
