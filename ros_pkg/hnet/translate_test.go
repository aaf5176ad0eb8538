package hnet

import (
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/builtin_interfaces"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/hnet_bridge"
)

var (
	robot1, robot2, robot3 = netip.MustParseAddr("fc94::1"), netip.MustParseAddr("fc94::2"), netip.MustParseAddr("fc94::3")
	endpoint               = netip.MustParseAddrPort("192.0.2.1:5582")
	noon                   = time.Date(2026, 1, 1, 12, 0, 0, 500, time.UTC)
)

func TestPeerMessage(t *testing.T) {
	got := PeerMessage(&api.Peer{
		Address: robot1, Hostname: "robot-1", State: api.Connected, Path: api.PathRelayTCP, Endpoint: endpoint,
		RTT: api.Known(12.5), Jitter: api.Known(0.5), Loss: api.Known(0.25), TxBytes: 1, RxBytes: 2, LastHandshake: &noon, Whitelisted: true,
	})
	want := hnet_bridge.Peer{
		Address: "fc94::1", Hostname: "robot-1", State: hnet_bridge.PeerStateConnected, Path: hnet_bridge.PeerPathRelayTCP, Endpoint: "192.0.2.1:5582",
		RTT: 0.0125, Jitter: 0.0005, Loss: 0.25, TxBytes: 1, RxBytes: 2, LastHandshake: builtin_interfaces.FromTime(noon), Whitelisted: true,
	}
	if got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	got = PeerMessage(&api.Peer{Address: robot1, State: "of a later version", Path: "too"})
	if got.State != hnet_bridge.PeerStateUnknown || got.Path != hnet_bridge.PeerPathNone || got.Endpoint != "" || got.LastHandshake != (builtin_interfaces.Time{}) {
		t.Errorf("what is not known is %+v", got)
	}
	for _, v := range []float64{got.RTT, got.Jitter, got.Loss} {
		if !math.IsNaN(v) {
			t.Errorf("a number that is not known is %v", v)
		}
	}
}

// TestWordsOfTheAPI: every state and path of the API has a constant of its own.
func TestWordsOfTheAPI(t *testing.T) {
	states := map[uint8]bool{}
	for _, s := range []api.PeerState{api.Connected, api.Connecting, api.Idle, api.Unreachable} {
		states[PeerMessage(&api.Peer{State: s}).State] = true
	}
	paths := map[uint8]bool{}
	for _, p := range []api.Path{api.PathLAN, api.PathDirect, api.PathRelayUDP, api.PathRelayTCP, api.PathNone} {
		paths[PeerMessage(&api.Peer{Path: p}).Path] = true
	}
	bases := map[uint8]bool{}
	for _, s := range []api.BaseState{api.BaseRegistered, api.BaseConnecting, api.BaseUnreachable, api.BaseStandby} {
		bases[StatusMessage(noon, &api.Status{Bases: []api.Base{{State: s}}}).Bases[0].State] = true
	}
	if len(states) != 4 || states[0] || len(paths) != 5 || len(bases) != 4 || bases[0] {
		t.Errorf("states %v, paths %v, bases %v", states, paths, bases)
	}
}

func TestStatusMessage(t *testing.T) {
	m := StatusMessage(noon, &api.Status{
		Address: robot1, Hostname: "robot-1", Interface: "hnet0", WhitelistEnabled: true, NAT: "easy", Version: "1.2.3",
		Bases:    []api.Base{{Address: robot2, Host: "base.example", Transport: "udp", State: api.BaseRegistered, RTT: api.Known(20)}, {Transport: "none"}},
		Warnings: []api.Warning{{Code: "port_taken", Text: "text", Fix: "fix"}},
	})
	if m.Header.Stamp.AsTime() != noon || m.Header.FrameID != "" || m.Address != "fc94::1" || m.Hostname != "robot-1" || m.Interface != "hnet0" ||
		!m.WhitelistEnabled || m.NAT != "easy" || m.Version != "1.2.3" || len(m.Bases) != 2 || len(m.Warnings) != 1 {
		t.Fatalf("got %+v", m)
	}
	if want := (hnet_bridge.Base{Address: "fc94::2", Host: "base.example", Transport: "udp", State: hnet_bridge.BaseStateRegistered, RTT: 0.02}); m.Bases[0] != want {
		t.Errorf("a Base is %+v", m.Bases[0])
	}
	if b := m.Bases[1]; b.Address != "" || b.State != hnet_bridge.BaseStateUnknown || !math.IsNaN(b.RTT) {
		t.Errorf("an unknown Base is %+v", b)
	}
	if m.Warnings[0] != (hnet_bridge.Warning{Code: "port_taken", Text: "text", Fix: "fix"}) {
		t.Errorf("a warning is %+v", m.Warnings[0])
	}
}

func TestLists(t *testing.T) {
	w := WhitelistMessages([]api.WhitelistEntry{{Address: robot1, Hostname: "a", Key: "k", Source: "local"}})
	if len(w) != 1 || w[0] != (hnet_bridge.WhitelistEntry{Address: "fc94::1", Hostname: "a", Key: "k", Source: "local"}) {
		t.Errorf("whitelist: %+v", w)
	}
	h := HostnameMessages([]api.HostEntry{{Address: robot1, Name: "a", Source: "config"}})
	if len(h) != 1 || h[0] != (hnet_bridge.HostnameEntry{Address: "fc94::1", Name: "a", Source: "config"}) {
		t.Errorf("names: %+v", h)
	}
	p := PeersMessage(noon, []api.Peer{{Address: robot1}, {Address: robot2}})
	if p.Header.Stamp.AsTime() != noon || len(p.Peers) != 2 || p.Peers[1].Address != "fc94::2" {
		t.Errorf("peers: %+v", p)
	}
}
