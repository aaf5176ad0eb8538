package engine

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// schedule knows when which peer's timers are due. One goroutine serves all peers; a peer without timers costs nothing. Arming is
// lazy: a deadline that moved later is found out when the old one fires, so that packets in flow never touch the heap.
type schedule struct {
	mu   sync.Mutex
	heap peerHeap
	wake chan struct{}
}

func (s *schedule) init() { s.wake = make(chan struct{}, 1) }

// arm makes sure that p is looked at no later than at; zero means nothing is due. The peer's lock is held.
func (s *schedule) arm(p *peer, at time.Time) {
	if at.IsZero() || (!p.armed.IsZero() && !at.Before(p.armed)) {
		return
	}
	s.mu.Lock()
	first := false
	if p.armed.IsZero() {
		p.armed = at
		heap.Push(&s.heap, p)
	} else {
		p.armed = at
		heap.Fix(&s.heap, p.heapIndex)
	}
	first = s.heap[0] == p
	s.mu.Unlock()
	if first {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

// cancel forgets p. The peer's lock is held.
func (s *schedule) cancel(p *peer) {
	s.mu.Lock()
	if !p.armed.IsZero() {
		heap.Remove(&s.heap, p.heapIndex)
		p.armed = time.Time{}
	}
	s.mu.Unlock()
}

// due returns the next peer whose time has come; else when the next one's will, zero if there is none.
func (s *schedule) due(now time.Time) (*peer, time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.heap) == 0 {
		return nil, time.Time{}
	}
	if p := s.heap[0]; !now.Before(p.armed) {
		return p, time.Time{}
	}
	return nil, s.heap[0].armed
}

// timerLoop runs the peers' timers until ctx ends.
func (e *Engine) timerLoop(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		p, next := e.timers.due(time.Now())
		if p != nil {
			e.tick(p)
			continue
		}
		if next.IsZero() {
			timer.Reset(time.Hour)
		} else {
			timer.Reset(time.Until(next))
		}
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-e.timers.wake:
		}
	}
}

// peerHeap is a heap of peers by armed time.
type peerHeap []*peer

func (h peerHeap) Len() int           { return len(h) }
func (h peerHeap) Less(i, j int) bool { return h[i].armed.Before(h[j].armed) }
func (h peerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].heapIndex, h[j].heapIndex = i, j
}
func (h *peerHeap) Push(x any) {
	p := x.(*peer)
	p.heapIndex = len(*h)
	*h = append(*h, p)
}
func (h *peerHeap) Pop() any {
	old := *h
	p := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return p
}
