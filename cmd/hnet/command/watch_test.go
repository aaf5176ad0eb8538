package command

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/api/apitest"
)

// startWatch runs hnet peers --watch; stop is Ctrl-C.
func startWatch(t *testing.T, w *world, args ...string) (stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int, 1)
	go func() { done <- Run(ctx, w.Env, append([]string{"peers", "--watch"}, args...)) }()
	return func() int {
		cancel()
		select {
		case code := <-done:
			return code
		case <-time.After(5 * time.Second):
			t.Fatal("Ctrl-C does not end it")
			return -1
		}
	}
}

// waitFor waits until the output is as wanted.
func waitFor(t *testing.T, w *world, what string, ok func(out string) bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(w.out.String()); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no %s in\n%s\nstderr: %s", what, w.out.String(), w.err.String())
		}
	}
}

func setState(n *apitest.Node, i int, state api.PeerState, path api.Path) {
	n.Do(func(n *apitest.Node) { n.PeerList[i].State, n.PeerList[i].Path = state, path })
	n.Publish(api.Event{Time: now, Type: api.EventPeerState})
}

func TestWatchLines(t *testing.T) {
	n := node()
	run, stop := apitest.Serve(t, n, api.Options{Credentials: asRoot})
	w := newWorld(run)
	end := startWatch(t, w)
	first := `12:00:00 robot2 (` + robot.Address().String() + `) connected by lan at 192.168.1.12:5582, 0.41 ms
12:00:00 phone (` + phone.Address().String() + `) connected by relay_tcp at 198.51.100.7:443, 1.23 s
12:00:00 ` + guest.Address().String() + ` connecting, not whitelisted
12:00:00 arm (` + away.Address().String() + `) unreachable
`
	waitFor(t, w, "first state", func(out string) bool { return out == first })

	setState(n, 3, api.Connecting, api.PathNone)
	second := first + "12:00:00 arm (" + away.Address().String() + ") connecting\n"
	waitFor(t, w, "change", func(out string) bool { return out == second })

	n.Do(func(n *apitest.Node) { n.PeerList = n.PeerList[:3] })
	n.Publish(api.Event{Time: now, Type: api.EventPeerRemoved})
	third := second + "12:00:00 arm (" + away.Address().String() + ") gone\n"
	waitFor(t, w, "peer gone", func(out string) bool { return out == third })

	// The daemon goes and comes back.
	stop()
	waitFor(t, w, "note", func(out string) bool {
		return strings.HasPrefix(out, third+"12:00:00 hnetd is not running") && strings.Count(out, "\n") == strings.Count(third, "\n")+1
	})
	apitest.ServeIn(t, run, n, api.Options{Credentials: asRoot})
	waitFor(t, w, "return", func(out string) bool { return strings.HasSuffix(out, "12:00:00 hnetd answers again\n") })
	if code := end(); code != 0 {
		t.Errorf("exit code %d: %s", code, w.err.String())
	}
}

func TestWatchScreen(t *testing.T) {
	n := node()
	run, _ := apitest.Serve(t, n, api.Options{Credentials: asRoot})
	w := newWorld(run)
	w.terminal(200, 24)
	end := startWatch(t, w)
	waitFor(t, w, "table", func(out string) bool { return strings.Contains(out, "robot2") })
	setState(n, 3, api.Connected, api.PathDirect)
	waitFor(t, w, "change", func(out string) bool { return strings.Contains(out, "direct") })
	if code := end(); code != 0 {
		t.Errorf("exit code %d: %s", code, w.err.String())
	}
	out := w.out.String()
	if !strings.HasPrefix(out, "\x1b[?25l\r\x1b[1mHOSTNAME") || !strings.HasSuffix(out, "\r\x1b[K\x1b[?25h") {
		t.Errorf("the cursor is not hidden first and shown last:\n%q", out)
	}
	if !strings.Contains(out, "\x1b[5A\r") || strings.Count(out, "\x1b[?25l") != 1 {
		t.Errorf("not redrawn in place:\n%q", out)
	}
}

// A table higher than the screen must not scroll.
func TestWatchSmallScreen(t *testing.T) {
	run, _ := apitest.Serve(t, node(), api.Options{Credentials: asRoot})
	w := newWorld(run)
	w.terminal(60, 4)
	end := startWatch(t, w)
	waitFor(t, w, "table", func(out string) bool { return strings.Contains(out, "... and 3 more\x1b[K\n\x1b[J") })
	if code := end(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if frame, _, _ := strings.Cut(w.out.String(), "\x1b[J"); strings.Count(frame, "\n") != 3 {
		t.Errorf("frame of %d lines:\n%q", strings.Count(frame, "\n"), frame)
	}
}

func TestWatchJSON(t *testing.T) {
	n := node()
	run, _ := apitest.Serve(t, n, api.Options{Credentials: asRoot})
	w := newWorld(run)
	end := startWatch(t, w, "--json")
	waitFor(t, w, "first list", func(out string) bool { return strings.Count(out, "\n") == 1 })
	setState(n, 3, api.Connected, api.PathDirect)
	waitFor(t, w, "second list", func(out string) bool {
		_, second, _ := strings.Cut(out, "\n")
		return strings.HasPrefix(second, `[{"address":"`) && strings.Contains(second, `"path":"direct"`) && strings.Count(second, "\n") == 1
	})
	if code := end(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
