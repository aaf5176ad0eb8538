package hnet

import (
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/api/apitest"
)

// patience is how long a test waits for what has to come; the machine may be slow.
const patience = 20 * time.Second

func testDaemon() *apitest.Node {
	return &apitest.Node{
		NodeStatus: api.Status{Address: robot1, Hostname: "robot-1", Interface: "hnet0", NAT: "unknown", Version: "1.2.3"},
		PeerList:   []api.Peer{{Address: robot2, Hostname: "robot-2", State: api.Idle, Path: api.PathNone, Whitelisted: true}},
		List:       api.Whitelist{Enabled: true},
	}
}

// updates collects what a follower tells.
type updates struct {
	mu   sync.Mutex
	list []Update
	more chan struct{}
}

func newUpdates() *updates { return &updates{more: make(chan struct{}, 1)} }

func (u *updates) add(x Update) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.list = append(u.list, x)
	select {
	case u.more <- struct{}{}:
	default:
	}
}

// wait returns the next update that fits, and drops those before it.
func (u *updates) wait(t *testing.T, what string, fits func(Update) bool) Update {
	t.Helper()
	deadline := time.After(patience)
	for {
		u.mu.Lock()
		i := slices.IndexFunc(u.list, fits)
		if i >= 0 {
			x := u.list[i]
			u.list = slices.Delete(u.list, 0, i+1)
			u.mu.Unlock()
			return x
		}
		u.mu.Unlock()
		select {
		case <-u.more:
		case <-deadline:
			t.Fatalf("never came: %s", what)
		}
	}
}

func has(event string) func(Update) bool {
	return func(u Update) bool { return slices.Contains(spell(u.Events), event) }
}

func follow(t *testing.T, run string, period time.Duration) (*Follower, *updates) {
	t.Helper()
	u := newUpdates()
	client := api.NewClient(filepath.Join(run, "hnetd.sock"))
	f := &Follower{
		RunFolder: run, Client: client, Log: slog.New(slog.DiscardHandler), Period: func() time.Duration { return period }, Changed: u.add,
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); f.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done; client.Close() })
	return f, u
}

// TestFollower goes through a daemon's life: it is there, things happen, it ends, it comes back.
func TestFollower(t *testing.T) {
	daemon := testDaemon()
	run, stop := apitest.Serve(t, daemon, api.Options{})
	f, u := follow(t, run, time.Hour) // looks come from events alone
	first := u.wait(t, "the first look", func(u Update) bool { return u.View.Up })
	if !first.Turned || len(first.View.Peers) != 1 || first.View.Status.Address != robot1 || first.View.Restarts != 0 || !slices.Equal(spell(first.Events), []string{"daemon up"}) {
		t.Errorf("first: %+v %q", first.View, spell(first.Events))
	}

	daemon.Do(func(n *apitest.Node) {
		n.PeerList[0].State, n.PeerList[0].Path, n.PeerList[0].Endpoint = api.Connected, api.PathLAN, endpoint
	})
	p := daemon.PeerList[0]
	daemon.Publish(api.Event{Time: noon, Type: api.EventPeerState, Peer: &p, Detail: "connected"})
	up := u.wait(t, "the peer is up", has("up robot-2"))
	if up.Turned || up.View.Peers[0].State != api.Connected || time.Since(up.View.PeersSince[robot2]) < time.Hour { // since noon
		t.Errorf("up: %+v", up)
	}

	stop()
	lost := u.wait(t, "the daemon is lost", has("daemon down"))
	if lost.View.Up || !lost.Turned || lost.View.Err == nil || len(lost.View.Peers) != 1 {
		t.Errorf("lost: %+v", lost.View)
	}
	daemon.Do(func(n *apitest.Node) { n.PeerList[0].State = api.Idle })
	apitest.ServeIn(t, run, daemon, api.Options{})
	back := u.wait(t, "the daemon is back", has("daemon up"))
	if !back.View.Up || back.View.Restarts != 1 || !has("down robot-2")(back) {
		t.Errorf("back: %+v, %q", back.View, spell(back.Events))
	}
	if f.View() != back.View {
		t.Error("the view is another one than was told")
	}
}

// TestFollowerLooks: without any event it looks once in a period.
func TestFollowerLooks(t *testing.T) {
	daemon := testDaemon()
	run, _ := apitest.Serve(t, daemon, api.Options{})
	_, u := follow(t, run, 20*time.Millisecond)
	u.wait(t, "a look", func(u Update) bool { return u.View.Up })
	daemon.Do(func(n *apitest.Node) { n.PeerList[0].RxBytes = 7 })
	seen := u.wait(t, "another look", func(u Update) bool { return u.View.Peers[0].RxBytes == 7 })
	if seen.Turned || len(seen.Events) != 0 {
		t.Errorf("it tells of more than there is: %+v", seen)
	}
}

// TestFollowerWaits for a daemon that starts later, and is told each time that it still does.
func TestFollowerWaits(t *testing.T) {
	run, stop := apitest.Serve(t, testDaemon(), api.Options{})
	stop()
	f, u := follow(t, run, time.Hour)
	for range 2 {
		x := u.wait(t, "it is not there", func(u Update) bool { return !u.View.Up })
		if e, ok := asAPI(x.View.Err); !ok || e.Code != api.CodeNotRunning || x.Turned || len(x.Events) > 0 || !x.View.Answered.IsZero() {
			t.Errorf("%+v", x.View)
		}
	}
	apitest.ServeIn(t, run, testDaemon(), api.Options{})
	u.wait(t, "it is there", func(u Update) bool { return u.View.Up && u.View.Restarts == 0 })
	if !f.View().Up {
		t.Error("the view is old")
	}
}

// TestFollowerOverflow: a stream that was cut because it was read too slowly is no daemon that is down.
func TestFollowerOverflow(t *testing.T) {
	daemon := testDaemon()
	run, _ := apitest.Serve(t, daemon, api.Options{})
	_, u := follow(t, run, time.Hour)
	u.wait(t, "the first look", func(u Update) bool { return u.View.Up })
	for i := range 5000 {
		p := daemon.PeerList[0]
		p.RxBytes = uint64(i)
		daemon.Publish(api.Event{Time: noon, Type: api.EventPeerState, Peer: &p})
	}
	daemon.Do(func(n *apitest.Node) { n.PeerList[0].Hostname = "renamed" })
	daemon.Publish(api.Event{Time: noon, Type: api.EventHosts})
	last := u.wait(t, "the newest state", func(u Update) bool { return u.View.Peers[0].Hostname == "renamed" })
	if !last.View.Up || last.View.Restarts != 0 {
		t.Errorf("%+v", last.View)
	}
}
