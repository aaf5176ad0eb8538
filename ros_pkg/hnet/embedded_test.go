package hnet

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

// TestEmbedded: an overlay that cannot run is tried again, one that was taken down is not.
func TestEmbedded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		script := []error{errors.New("no rights"), errors.New("no rights"), nil}
		var opened []time.Duration
		start := time.Now()
		e := &Embedded{Log: slog.New(slog.DiscardHandler)}
		e.open = func(ctx context.Context, ready func()) error {
			n := len(opened)
			opened = append(opened, time.Since(start))
			if script[n] == nil {
				ready()
				time.Sleep(time.Second)
			}
			return script[n]
		}
		done := make(chan struct{})
		go func() { defer close(done); e.Run(t.Context()) }()
		time.Sleep(time.Millisecond)
		if err := e.Err(); err == nil || err.Error() != "no rights" {
			t.Errorf("it says %v", err)
		}
		time.Sleep(2 * embedRetry)
		if err := e.Err(); err != nil {
			t.Errorf("it runs, and says %v", err)
		}
		<-done
		if e.Err() == nil || len(opened) != 3 || opened[1] != embedRetry || opened[2] != 2*embedRetry {
			t.Errorf("opened at %v, at last: %v", opened, e.Err())
		}
	})
}

// TestEmbeddedEnds with its context.
func TestEmbeddedEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &Embedded{Log: slog.New(slog.DiscardHandler), open: func(ctx context.Context, ready func()) error {
			ready()
			<-ctx.Done()
			return ctx.Err()
		}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		e.Run(ctx)
		if e.Err() != nil {
			t.Errorf("it ended as it should, and says %v", e.Err())
		}
	})
}
