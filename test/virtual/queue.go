// Package virtual is time that passes only in a simulation: machines are given it as their clock, and hours of it pass in milliseconds.
package virtual

import (
	"container/heap"
	"time"
)

// Queue is what is to happen: in the order of its times, and what is due at the same time in the order in which it was put in, so that it adds nothing
// accidental to a simulation. The simulation keeps the time itself. The zero Queue is empty. It is not for several goroutines at once.
type Queue struct {
	events events
	order  uint64
}

// At has f called at a time. What is due in the past is called next, and time does not go back for it.
func (q *Queue) At(t time.Time, f func()) {
	q.order++
	heap.Push(&q.events, event{t, q.order, f})
}

// Step calls what is due next, if that is not after end, with now set to its time. It is false if nothing was called.
func (q *Queue) Step(now *time.Time, end time.Time) bool {
	if len(q.events) == 0 || q.events[0].at.After(end) {
		return false
	}
	e := heap.Pop(&q.events).(event)
	if e.at.After(*now) {
		*now = e.at
	}
	e.f()
	return true
}

// Run calls all that is due within d from now, what comes to be due meanwhile included. Then now is d later.
func (q *Queue) Run(now *time.Time, d time.Duration) {
	end := now.Add(d)
	for q.Step(now, end) {
	}
	*now = end
}

// Clear forgets all that is due.
func (q *Queue) Clear() { q.events = nil }

type event struct {
	at    time.Time
	order uint64
	f     func()
}

// events is a heap, the next one first.
type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at.Before(e[j].at) || e[i].at.Equal(e[j].at) && e[i].order < e[j].order
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := len(*e) - 1
	x := (*e)[last]
	(*e)[last] = event{} // it may hold a whole machine
	*e = (*e)[:last]
	return x
}
