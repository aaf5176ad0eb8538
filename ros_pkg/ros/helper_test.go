package ros

import (
	"context"
	"log/slog"
	"testing"
	"time"
)

// patience is for events that come, if they come.
const patience = 20 * time.Second

// testHandler logs to a test.
type testHandler struct{ t *testing.T }

func (h testHandler) Enabled(context.Context, slog.Level) bool { return true }
func (h testHandler) Handle(_ context.Context, r slog.Record) error {
	text := r.Message
	r.Attrs(func(a slog.Attr) bool { text += " " + a.String(); return true })
	h.t.Log(r.Level, text)
	return nil
}
func (h testHandler) WithAttrs([]slog.Attr) slog.Handler { return h }
func (h testHandler) WithGroup(string) slog.Handler      { return h }

// receive waits for a value.
func receive[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

// none checks that nothing has come.
func none[T any](t *testing.T, c <-chan T) {
	t.Helper()
	select {
	case v := <-c:
		t.Fatalf("unexpected: %+v", v)
	default:
	}
}

// within is a context for what must happen.
func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits until a condition that follows the graph is true.
func eventually(t *testing.T, c *Context, what string, f func() bool) {
	t.Helper()
	timeout := time.After(patience)
	for {
		changed := c.Changed()
		if f() {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatal("not so: " + what)
		}
	}
}

// wait lets time pass, virtual time in a bubble.
func wait(d time.Duration) { time.Sleep(d) }

// chanHandler logs to a test, and what is a warning or worse to a channel, which must have room.
type chanHandler struct {
	testHandler
	out chan<- string
}

func (h chanHandler) Handle(ctx context.Context, r slog.Record) error {
	if h.out != nil && r.Level >= slog.LevelWarn {
		text := r.Message
		r.Attrs(func(a slog.Attr) bool { text += " " + a.String(); return true })
		h.out <- text
	}
	return h.testHandler.Handle(ctx, r)
}
func (h chanHandler) WithAttrs([]slog.Attr) slog.Handler { return h }
func (h chanHandler) WithGroup(string) slog.Handler      { return h }
