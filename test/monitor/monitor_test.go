package monitor

import (
	"context"
	"testing"
	"testing/synctest"
)

// TestWait: several wait for different states; each goes on with its own, and who waits for what never comes with the context.
func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m Monitor
		state, passed, gave := 0, 0, 0
		ctx, cancel := context.WithCancel(t.Context())
		for want := range 5 {
			go func() {
				ok := m.Wait(ctx, func() bool { return state >= want })
				m.Lock()
				defer m.Unlock()
				if ok {
					passed++
				} else {
					gave++
				}
			}()
		}
		check := func(wantPassed, wantGave int) {
			t.Helper()
			synctest.Wait()
			m.Lock()
			defer m.Unlock()
			if passed != wantPassed || gave != wantGave {
				t.Errorf("state %d: %d have passed, %d have given up, want %d and %d", state, passed, gave, wantPassed, wantGave)
			}
		}
		set := func(to int) {
			m.Lock()
			defer m.Unlock()
			state = to
			m.Changed()
		}
		check(1, 0)
		set(1)
		check(2, 0)
		set(3)
		check(4, 0)
		cancel()
		check(4, 1)
		set(4)
		if !m.Wait(ctx, func() bool { return state == 4 }) {
			t.Error("what is true already counts when the context has ended, too")
		}
	})
}
