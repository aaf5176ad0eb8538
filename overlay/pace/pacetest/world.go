// Package pacetest is a bottleneck in virtual time, for tests of what paces and queues.
package pacetest

import (
	"math/rand/v2"
	"time"

	"github.com/hnet-robotics/hnet_bridge/test/virtual"
)

// World is virtual time: events run in their order, at once.
type World struct {
	Now   time.Time
	Rand  *rand.Rand
	queue virtual.Queue
}

// NewWorld returns a World in which nothing is due. The same seed gives the same run.
func NewWorld(seed uint64) *World {
	return &World{Now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Rand: rand.New(rand.NewPCG(seed, 0))}
}

// At runs f at t, or now if that has passed.
func (w *World) At(t time.Time, f func()) {
	if t.Before(w.Now) {
		t = w.Now
	}
	w.queue.At(t, f)
}

// After runs f after d.
func (w *World) After(d time.Duration, f func()) { w.At(w.Now.Add(d), f) }

// Every runs f each d from now on.
func (w *World) Every(d time.Duration, f func()) {
	w.After(d, func() {
		f()
		w.Every(d, f)
	})
}

// Run lets time pass.
func (w *World) Run(d time.Duration) { w.queue.Run(&w.Now, d) }

// Link is a bottleneck: a FIFO buffer in front of a rate, then a delay. Its fields may change at any time.
type Link struct {
	World  *World
	Rate   float64 // bytes per second
	Buffer int     // bytes that may wait; more is dropped
	Delay  time.Duration
	Jitter time.Duration // added to Delay, evenly distributed; the order is kept
	Loss   float64       // share of packets lost after the buffer

	Carried int // bytes that left the buffer, lost ones included
	Dropped int // packets that found the buffer full

	waiting int
	queue   []packet
	busy    bool
	last    time.Time
}

type packet struct {
	bytes   int
	since   time.Time
	arrived func(queued time.Duration)
}

// Send brings bytes to the other end, where arrived is called with the time they waited in the buffer, unless they are lost.
func (l *Link) Send(bytes int, arrived func(queued time.Duration)) {
	if l.waiting+bytes > l.Buffer {
		l.Dropped++
		return
	}
	l.waiting += bytes
	l.queue = append(l.queue, packet{bytes, l.World.Now, arrived})
	if !l.busy {
		l.serve()
	}
}

// Queueing is how long what is sent now would wait.
func (l *Link) Queueing() time.Duration { return seconds(float64(l.waiting) / l.Rate) }

func (l *Link) serve() {
	if l.busy = len(l.queue) > 0; !l.busy {
		l.queue = nil
		return
	}
	p := l.queue[0]
	l.queue[0] = packet{}
	l.queue = l.queue[1:]
	queued := l.World.Now.Sub(p.since)
	l.World.After(seconds(float64(p.bytes)/l.Rate), func() {
		l.waiting -= p.bytes
		l.Carried += p.bytes
		if l.World.Rand.Float64() >= l.Loss {
			at := l.World.Now.Add(l.Delay)
			if l.Jitter > 0 {
				at = at.Add(time.Duration(l.World.Rand.Int64N(int64(l.Jitter))))
			}
			if at.Before(l.last) {
				at = l.last
			}
			l.last = at
			l.World.At(at, func() { p.arrived(queued) })
		}
		l.serve()
	})
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
