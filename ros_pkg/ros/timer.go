package ros

import (
	"context"
	"iter"
	"time"
)

// Every counts the ticks of a period from 0, the first one period from now, until ctx ends. Ticks that nobody was there for are skipped, not made up for. It is for
// the loop of a goroutine that publishes:
//
//	for range ros.Every(ctx, time.Second) { … }
func Every(ctx context.Context, period time.Duration) iter.Seq[int] {
	return func(yield func(int) bool) {
		ticker := time.NewTicker(max(period, time.Nanosecond))
		defer ticker.Stop()
		for i := 0; ; i++ {
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return
			}
			if ctx.Err() != nil || !yield(i) {
				return
			}
		}
	}
}

// Timer calls f once in a period, by the system's clock, until stop is called or the node closes. Calls never overlap: those that would are skipped.
func (n *Node) Timer(period time.Duration, f func()) (stop func(), err error) {
	ctx, cancel := context.WithCancel(context.Background())
	release, err := n.own(cancel)
	if err != nil {
		cancel()
		return nil, err
	}
	go func() {
		for range Every(ctx, period) {
			f()
		}
	}()
	return release, nil
}
