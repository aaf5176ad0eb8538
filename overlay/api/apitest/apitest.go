// Package apitest runs the local API on a node that exists in memory only, for tests of its clients.
package apitest

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
)

// Node is an [api.Controller] whose state tests set. Change it through [Node.Do] while it is served.
type Node struct {
	mu sync.Mutex

	NodeStatus api.Status
	NodeID     api.ID
	PeerList   []api.Peer
	List       api.Whitelist
	Names      []api.HostEntry
	Added      []api.WhitelistAdd // requests seen
	// Answer is what Ping does; nil: a timeout.
	Answer func(peer netip.Addr) (api.PingResult, error)
	// Diagnosis is what Doctor finds; the peer asked about is filled in.
	Diagnosis api.Diagnosis
	// Carried is what Traffic tells.
	Carried api.Traffic
	// OnDown is what Down does.
	OnDown func()

	api.Hub
}

// Do changes the node under its lock.
func (n *Node) Do(f func(*Node)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f(n)
}

// Serve runs the API on RUN/hnetd.sock of a new folder until the test ends or stop is called, and returns the folder.
func Serve(t testing.TB, n *Node, opt api.Options) (run string, stop func()) {
	t.Helper()
	// t.TempDir may be too long for a socket's path.
	run, err := os.MkdirTemp("", "hnet")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(run) })
	if err := os.Chmod(run, 0o755); err != nil {
		t.Fatal(err)
	}
	return run, ServeIn(t, run, n, opt)
}

// ServeIn is [Serve] in a folder that is there.
func ServeIn(t testing.TB, run string, n *Node, opt api.Options) (stop func()) {
	t.Helper()
	l, err := api.Listen(filepath.Join(run, "hnetd.sock"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- api.NewServer(n, opt).Serve(ctx, l) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("serve: %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("the server does not end")
		}
	})
	t.Cleanup(stop)
	return stop
}

// Status implements [api.Controller], as do the methods below.
func (n *Node) Status(context.Context) (api.Status, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.NodeStatus
	s.WhitelistEnabled = n.List.Enabled
	return s, nil
}

func (n *Node) ID(context.Context) (api.ID, error) { return n.NodeID, nil }

func (n *Node) Peers(context.Context) ([]api.Peer, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.PeerList), nil
}

func (n *Node) Traffic(context.Context) (api.Traffic, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.Carried, nil
}

func (n *Node) Whitelist(context.Context) (api.Whitelist, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return api.Whitelist{Enabled: n.List.Enabled, Entries: slices.Clone(n.List.Entries)}, nil
}

func (n *Node) WhitelistAdd(_ context.Context, add api.WhitelistAdd) (api.WhitelistEntry, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.Added = append(n.Added, add)
	e := api.WhitelistEntry{Address: add.Address, Hostname: add.Hostname, Key: add.Key, Source: "local"}
	n.List.Entries = append(n.List.Entries, e)
	return e, nil
}

func (n *Node) WhitelistRemove(_ context.Context, peer netip.Addr) (api.WhitelistEntry, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, e := range n.List.Entries {
		if e.Address == peer {
			n.List.Entries = slices.Delete(n.List.Entries, i, i+1)
			return e, nil
		}
	}
	return api.WhitelistEntry{}, &api.Error{Code: api.CodeNotFound, Text: peer.String() + " is not whitelisted", Fix: "see 'hnet whitelist ls'"}
}

func (n *Node) WhitelistEnable(_ context.Context, enabled bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.List.Enabled = enabled
	return nil
}

func (n *Node) Hosts(context.Context) ([]api.HostEntry, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.Names), nil
}

func (n *Node) HostAdd(_ context.Context, add api.HostAdd) (api.HostEntry, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if strings.Contains(add.Name, "_") {
		return api.HostEntry{}, &api.Error{Code: api.CodeBadRequest, Text: add.Name + " is no hostname", Fix: "use letters, digits and -"}
	}
	h := api.HostEntry{Name: strings.ToLower(add.Name), Address: add.Address, Source: "local"}
	n.Names = append(n.Names, h)
	return h, nil
}

func (n *Node) HostRemove(_ context.Context, name string) (api.HostEntry, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, h := range n.Names {
		if h.Name == name {
			n.Names = slices.Delete(n.Names, i, i+1)
			return h, nil
		}
	}
	return api.HostEntry{}, &api.Error{Code: api.CodeNotFound, Text: "there is no name " + name, Fix: "see 'hnet host ls'"}
}

func (n *Node) Resolve(_ context.Context, text string) (api.HostEntry, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	a, _ := netip.ParseAddr(text)
	for _, h := range n.Names {
		if h.Name == text || h.Address == a {
			return h, nil
		}
	}
	if identity.Prefix.Contains(a) {
		return api.HostEntry{Address: a}, nil
	}
	return api.HostEntry{}, &api.Error{Code: api.CodeNotFound, Text: "nobody is called " + text, Fix: "see 'hnet host ls', or use the address"}
}

func (n *Node) Ping(ctx context.Context, peer netip.Addr, timeout time.Duration) (api.PingResult, error) {
	n.mu.Lock()
	answer := n.Answer
	n.mu.Unlock()
	if answer != nil {
		return answer(peer)
	}
	<-ctx.Done()
	return api.PingResult{}, &api.Error{Code: api.CodeTimeout, Text: "no answer from " + peer.String() + " in " + timeout.String(), Fix: "is hnetd running there, and this node on its whitelist?"}
}

// Connect waits for the peer to be in the list as connected, woken by events.
func (n *Node) Connect(ctx context.Context, peer netip.Addr) (api.Peer, error) {
	events := n.Subscribe(ctx)
	for {
		n.mu.Lock()
		peers := slices.Clone(n.PeerList)
		n.mu.Unlock()
		for _, p := range peers {
			if p.Address == peer && p.State == api.Connected {
				return p, nil
			}
		}
		if _, ok := <-events; !ok {
			return api.Peer{}, &api.Error{Code: api.CodeTimeout, Text: peer.String() + " is not connected", Fix: "is hnetd running there, and this node on its whitelist?"}
		}
	}
}

func (n *Node) Doctor(_ context.Context, peer netip.Addr) (api.Diagnosis, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	d := n.Diagnosis
	d.Peer, d.Checks = peer, slices.Clone(d.Checks)
	for _, h := range n.Names {
		if peer.IsValid() && h.Address == peer {
			d.Hostname = h.Name
		}
	}
	return d, nil
}

func (n *Node) Down(context.Context) error {
	n.mu.Lock()
	down := n.OnDown
	n.mu.Unlock()
	if down != nil {
		down()
	}
	return nil
}
