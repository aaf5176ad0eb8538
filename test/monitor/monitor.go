// Package monitor is a lock on state that others wait for.
package monitor

import (
	"context"
	"sync"
)

// Monitor is a mutex with a condition, for which [sync.Cond] would not do: who waits gives up when a context ends. The zero Monitor is ready.
type Monitor struct {
	sync.Mutex
	changed chan struct{} // closed at the next change; nil: nobody waits
}

// Changed has all who wait look again. It is called with the lock held.
func (m *Monitor) Changed() {
	if m.changed != nil {
		close(m.changed)
		m.changed = nil
	}
}

// Wait waits until f is true, which is called with the lock held. It is false if the context ends first.
func (m *Monitor) Wait(ctx context.Context, f func() bool) bool {
	for {
		m.Lock()
		ok := f()
		if !ok && m.changed == nil {
			m.changed = make(chan struct{})
		}
		changed := m.changed
		m.Unlock()
		if ok {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}
