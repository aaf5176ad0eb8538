package systemd

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// manager is what systemd hears.
func manager(t *testing.T) <-chan string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	heard := make(chan string, 1000)
	go func() {
		b := make([]byte, 100)
		for {
			n, err := c.Read(b)
			if err != nil {
				return
			}
			heard <- string(b[:n])
		}
	}()
	return heard
}

func TestNotify(t *testing.T) {
	heard := manager(t)
	log := slog.New(slog.DiscardHandler)
	Ready(log)
	Stopping(log)
	if a, b := <-heard, <-heard; a != "READY=1" || b != "STOPPING=1" {
		t.Errorf("%q, %q", a, b)
	}
}

// TestWatchdog: it is told again and again while the daemon lives, nothing while that is not known, and ends with the context.
func TestWatchdog(t *testing.T) {
	heard := manager(t)
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	t.Setenv("WATCHDOG_USEC", strconv.Itoa(int((40 * time.Millisecond).Microseconds())))
	ctx, cancel := context.WithCancel(t.Context())
	asked, answers := make(chan bool), make(chan error)
	done := make(chan struct{})
	go func() {
		defer close(done)
		Watchdog(ctx, slog.New(slog.DiscardHandler), func(check context.Context) error {
			_, bounded := check.Deadline()
			asked <- bounded
			return <-answers
		})
	}()
	for _, err := range []error{nil, errors.New("stuck"), nil, errors.New("stuck")} {
		if !<-asked {
			t.Error("it would wait for ever")
		}
		answers <- err
		if err == nil {
			if got := <-heard; got != "WATCHDOG=1" {
				t.Errorf("%q", got)
			}
		}
	}
	<-asked
	cancel()
	for ended := false; !ended; { // it may be asked once more
		select {
		case answers <- errors.New("stuck"):
		case <-asked:
		case <-done:
			ended = true
		}
	}
	if len(heard) > 0 {
		t.Errorf("%q", <-heard)
	}
}

// TestNobody: without systemd nothing happens.
func TestNobody(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("WATCHDOG_USEC", "")
	log := slog.New(slog.DiscardHandler)
	Ready(log)
	Watchdog(t.Context(), log, func(context.Context) error { t.Error("asked"); return nil })
}
