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
	mu    sync.Mutex
	heap  peerHeap
	wake  chan struct{}
	epoch time.Time // the grid of coarse deadlines begins there
}

// grain is the grid of all deadlines but those of pacing. A thousand peers that are probed every second would else wake the processor several thousand
// times a second, each time for one datagram. What is late by grain/2 in the mean is: a probe by 1 % of its interval, and the end of a path that fell
// silent by 1 % of 1.3 s. The jitter of the deadlines stays, and each node's grid has a phase of its own, so that no two fall into step on the wire.
const grain = 20 * time.Millisecond

// duePeers bounds the peers whose datagrams leave by one system call.
const duePeers = 16

func (s *schedule) init() {
	s.wake = make(chan struct{}, 1)
	s.epoch = time.Now()
}

// coarse returns the moment of the grid at or after at.
func (s *schedule) coarse(at time.Time) time.Time {
	if late := at.Sub(s.epoch) % grain; late > 0 {
		return at.Add(grain - late)
	}
	return at
}

// arm makes sure that p is looked at no later than at, or a grain after it if it is not for the sake of what is paced; zero means nothing is due. The
// peer's lock is held.
func (s *schedule) arm(p *peer, at time.Time) {
	if at.IsZero() || !p.armed.IsZero() && !at.Before(p.armed) {
		return
	}
	if at = s.coarse(at); !p.resume.IsZero() && p.resume.Before(at) {
		at = p.resume
	}
	if !p.armed.IsZero() && !at.Before(p.armed) {
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

// due appends to list, which has room for some, peers whose time has come; if there is none it returns when the next one's will, zero if there is none
// at all.
func (s *schedule) due(now time.Time, list []*peer) (peers []*peer, next time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if list = s.heap.due(now, 0, list); len(list) == 0 && len(s.heap) > 0 {
		next = s.heap[0].armed
	}
	return list, next
}

// timerLoop runs the peers' timers until ctx ends.
func (e *Engine) timerLoop(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	room := make([]*peer, 0, duePeers)
	for ctx.Err() == nil {
		peers, next := e.timers.due(time.Now(), room)
		if len(peers) > 0 {
			e.tick(peers)
			clear(peers)
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

// tick runs the timers of some peers, and sends what that brings at once.
func (e *Engine) tick(peers []*peer) {
	e.controlMu.Lock()
	defer e.controlMu.Unlock()
	for _, p := range peers {
		now := time.Now()
		p.mu.Lock()
		a := e.react(p, now, p.tick(e, now))
		p.mu.Unlock()
		e.perform(now, p, a, e.control)
	}
	e.control.flush()
}

// peerHeap is a heap of peers by armed time.
type peerHeap []*peer

// due appends the peers from the i-th down whose time has come, as far as there is room.
func (h peerHeap) due(now time.Time, i int, list []*peer) []*peer {
	if i >= len(h) || len(list) == cap(list) || now.Before(h[i].armed) {
		return list
	}
	list = append(list, h[i])
	return h.due(now, 2*i+2, h.due(now, 2*i+1, list))
}

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
