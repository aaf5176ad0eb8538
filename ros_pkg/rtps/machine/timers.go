package machine

import (
	"container/heap"
	"time"
)

// timer fires once at its time. Setting it again moves it.
type timer struct {
	at    time.Time
	index int // in the heap + 1; 0: not set
	fire  func(now time.Time)
}

type timers []*timer

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].at.Before(t[j].at) }
func (t timers) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].index, t[j].index = i+1, j+1
}
func (t *timers) Push(x any) {
	x.(*timer).index = len(*t) + 1
	*t = append(*t, x.(*timer))
}
func (t *timers) Pop() any {
	last := len(*t) - 1
	x := (*t)[last]
	(*t)[last] = nil
	*t = (*t)[:last]
	x.index = 0
	return x
}

// set arms t, at the earlier of the two times if it is armed already.
func (m *Machine) sooner(t *timer, at time.Time) {
	if t.index == 0 || at.Before(t.at) {
		m.set(t, at)
	}
}

// set arms t, or moves it.
func (m *Machine) set(t *timer, at time.Time) {
	t.at = at
	if t.index == 0 {
		heap.Push(&m.timers, t)
	} else {
		heap.Fix(&m.timers, t.index-1)
	}
}

func (m *Machine) stop(t *timer) {
	if t.index != 0 {
		heap.Remove(&m.timers, t.index-1)
	}
}

// Next returns when Tick is due; zero: never.
func (m *Machine) Next() time.Time {
	if len(m.timers) == 0 {
		return time.Time{}
	}
	return m.timers[0].at
}

// Tick does what is due.
func (m *Machine) Tick(now time.Time) {
	// What fires may arm timers for now again; the bound keeps a mistake from becoming an endless loop.
	for range 1 << 16 {
		if len(m.timers) == 0 || m.timers[0].at.After(now) {
			return
		}
		t := heap.Pop(&m.timers).(*timer)
		t.fire(now)
	}
}
