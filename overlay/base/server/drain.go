package server

import (
	"context"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/base/wire"
)

const (
	// drainTime is how long clients are given to register elsewhere.
	drainTime = 3 * time.Second
	// drainAtOnce is how many clients are told under one lock, drainPause the time between: their answers must not all come at once.
	drainAtOnce = 128
	drainPause  = 2 * time.Millisecond
	// drainRepeat is after which time who is still there is told once more.
	drainRepeat = time.Second
)

// Drain prepares for the end: nobody new is let in, all clients are told to register elsewhere, and Drain returns when they have left, after 3 s or
// when ctx ends, whatever is first. Who is still there then is told that the session has ended.
func (s *Server) Drain(ctx context.Context) {
	s.draining.Store(true)
	ctx, cancel := context.WithTimeout(ctx, drainTime)
	defer cancel()
	emptied := make(chan struct{})
	s.mu.Lock()
	s.emptied = emptied
	s.unlock()
	defer func() {
		s.mu.Lock()
		s.emptied = nil
		s.mu.Unlock()
	}()
	repeat := time.NewTicker(drainRepeat)
	defer repeat.Stop()
	body := wire.Drain{Seconds: uint16(drainTime / time.Second)}.Append(nil)
	for {
		s.tellAll(ctx, wire.KindDrain, body)
		select {
		case <-emptied:
			return
		case <-ctx.Done():
			end, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainRepeat)
			defer cancel()
			s.tellAll(end, wire.KindClose, nil)
			s.settle(end)
			return
		case <-repeat.C:
		}
	}
}

// tellAll sends all clients an unsequenced message, a few at a time.
func (s *Server) tellAll(ctx context.Context, kind wire.Kind, body []byte) {
	pause := time.NewTicker(drainPause)
	defer pause.Stop()
	for first := 0; ; first += drainAtOnce {
		now := time.Now()
		s.mu.Lock()
		slots := s.registry.slots
		if first >= len(slots) {
			s.mu.Unlock()
			return
		}
		for _, slot := range slots[first:min(first+drainAtOnce, len(slots))] {
			if slot.client != nil && slot.client.confirmed {
				s.registry.say(now, slot.client, kind, body)
			}
		}
		s.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
	}
}

// settle waits until what was posted is sent.
func (s *Server) settle(ctx context.Context) {
	pause := time.NewTicker(drainPause)
	defer pause.Stop()
	for ctx.Err() == nil {
		if letters, _, _ := s.egress.sizes(); letters == 0 && s.conns.waiting.Load() == 0 {
			return
		}
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
	}
}
