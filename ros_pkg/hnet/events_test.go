package hnet

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/hnet_bridge"
)

var eventNames = map[uint8]string{
	hnet_bridge.PeerEventTypeUp: "up", hnet_bridge.PeerEventTypeDown: "down", hnet_bridge.PeerEventTypePathChanged: "path",
	hnet_bridge.PeerEventTypeWhitelisted: "whitelisted", hnet_bridge.PeerEventTypeUnwhitelisted: "unwhitelisted",
	hnet_bridge.PeerEventTypeRefused: "refused", hnet_bridge.PeerEventTypeAdded: "added", hnet_bridge.PeerEventTypeRemoved: "removed",
	hnet_bridge.PeerEventTypeDaemonUp: "daemon up", hnet_bridge.PeerEventTypeDaemonDown: "daemon down",
}

func spell(events []*hnet_bridge.PeerEvent) (out []string) {
	for _, e := range events {
		out = append(out, strings.TrimSpace(eventNames[e.Type]+" "+e.Peer.Hostname))
	}
	return out
}

func TestTracker(t *testing.T) {
	lan := netip.MustParseAddrPort("192.168.1.2:5582")
	peer := func(a netip.Addr, name string, s api.PeerState, p api.Path, e netip.AddrPort) api.Peer {
		return api.Peer{Address: a, Hostname: name, State: s, Path: p, Endpoint: e, Whitelisted: true}
	}
	idle1 := peer(robot1, "one", api.Idle, api.PathNone, netip.AddrPort{})
	up1 := peer(robot1, "one", api.Connected, api.PathRelayUDP, endpoint)
	near1 := peer(robot1, "one", api.Connected, api.PathLAN, lan)
	lost1 := peer(robot1, "one", api.Unreachable, api.PathNone, netip.AddrPort{})
	up2 := peer(robot2, "two", api.Connected, api.PathLAN, lan)
	out1 := idle1
	out1.Whitelisted = false
	at := noon
	event := func(kind api.EventType, p api.Peer) func(*Tracker) []*hnet_bridge.PeerEvent {
		return func(tr *Tracker) []*hnet_bridge.PeerEvent {
			return tr.Event(&api.Event{Time: at, Type: kind, Peer: &p})
		}
	}
	list := func(peers ...api.Peer) func(*Tracker) []*hnet_bridge.PeerEvent {
		return func(tr *Tracker) []*hnet_bridge.PeerEvent { return tr.List(at, peers) }
	}
	var tr Tracker
	for i, step := range []struct {
		do   func(*Tracker) []*hnet_bridge.PeerEvent
		want string
	}{
		{list(idle1, up2), ""}, // what is, not what happened
		{event(api.EventPeerState, up1), "up one"},
		{event(api.EventPeerPath, up1), ""}, // told with the state
		{list(up1, up2), ""},
		{event(api.EventPeerPath, near1), "path one"},
		{event(api.EventPeerState, lost1), "down one"},
		{list(near1, up2), "up one"},                              // nobody listened
		{list(near1), "down two, unwhitelisted two, removed two"}, // in the daemon's absence
		{event(api.EventWhitelist, up2), "added two, whitelisted two, up two"},
		{event(api.EventWhitelist, out1), "unwhitelisted one, down one"},
		{event(api.EventPeerRemoved, out1), "removed one"},
		{event(api.EventWhitelist, out1), ""}, // late
		{event(api.EventPeerRemoved, out1), ""},
		{event(eventRefused, api.Peer{Address: robot3, Hostname: "stranger", Endpoint: endpoint}), "refused stranger"},
		{event("of a later version", up1), ""},
		{func(tr *Tracker) []*hnet_bridge.PeerEvent { return tr.Event(&api.Event{Type: api.EventBase}) }, ""},
		{func(tr *Tracker) []*hnet_bridge.PeerEvent {
			return tr.Event(&api.Event{Type: api.EventPeerState, Peer: &api.Peer{}})
		}, ""},
		{list(), "unwhitelisted two, down two, removed two"},
	} {
		at = at.Add(time.Second)
		events := step.do(&tr)
		got, want := spell(events), strings.Split(step.want, ", ")
		if step.want == "" {
			want = nil
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("step %d: got %q, want %q", i, got, want)
		}
		for _, e := range events {
			if e.Header.Stamp.AsTime() != at || e.Detail == "" {
				t.Errorf("step %d: %+v", i, e)
			}
		}
	}
	if len(tr.peers) != 0 {
		t.Errorf("%d peers are remembered", len(tr.peers))
	}
}

func TestSince(t *testing.T) {
	var tr Tracker
	tr.List(noon, []api.Peer{{Address: robot1, State: api.Connecting}})
	tr.List(noon.Add(time.Second), []api.Peer{{Address: robot1, State: api.Connecting}})
	if got := tr.Since(robot1); got != noon {
		t.Errorf("connecting since %v", got)
	}
	tr.List(noon.Add(2*time.Second), []api.Peer{{Address: robot1, State: api.Connected}})
	if got := tr.Since(robot1); got != noon.Add(2*time.Second) {
		t.Errorf("connected since %v", got)
	}
	if got := tr.Since(robot2); !got.IsZero() {
		t.Errorf("an unknown peer since %v", got)
	}
}

// TestDetail: an event tells in words what it tells in numbers.
func TestDetail(t *testing.T) {
	var tr Tracker
	tr.List(noon, nil)
	p := api.Peer{Address: robot1, State: api.Connected, Path: api.PathDirect, Endpoint: endpoint}
	var words []string
	for _, e := range tr.List(noon, []api.Peer{p}) {
		words = append(words, e.Detail)
	}
	p.Path = api.PathLAN
	for _, e := range tr.List(noon, []api.Peer{p}) {
		words = append(words, e.Detail)
	}
	want := []string{"fc94::1 is known", "fc94::1 is up: direct, 192.0.2.1:5582", "fc94::1 has another path: over the LAN, 192.0.2.1:5582, before direct"}
	if fmt.Sprint(words) != fmt.Sprint(want) {
		t.Errorf("got  %q\nwant %q", words, want)
	}
}

// TestNameOfRemoved: the daemon forgets the name of a peer that leaves the whitelist, who reads the events does not.
func TestNameOfRemoved(t *testing.T) {
	var tr Tracker
	tr.List(noon, []api.Peer{{Address: robot1, Hostname: "one", State: api.Idle, Whitelisted: true}})
	var words []string
	for _, kind := range []api.EventType{api.EventWhitelist, api.EventPeerRemoved} {
		for _, e := range tr.Event(&api.Event{Time: noon, Type: kind, Peer: &api.Peer{Address: robot1, State: api.Idle}}) {
			words = append(words, e.Detail)
		}
	}
	if want := []string{"one is no longer in the whitelist", "one is not in the list any more"}; !slices.Equal(words, want) {
		t.Errorf("got %q, want %q", words, want)
	}
}
