package hnet

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/diagnostic_msgs"
)

func testSettings() *Settings {
	return &Settings{
		RTTWarn: 250 * time.Millisecond, RTTError: time.Second, LossWarn: 0.05, LossError: 0.3,
		ConnectingWarn: 10 * time.Second, StaleAfter: 5 * time.Second,
		Markers: MarkerSettings{OwnFrame: "base_link", PeerFrame: "{hostname}/base_link", RingRadius: 2, LineWidth: 0.05, TextHeight: 0.3, Period: time.Second},
	}
}

func testView(peers ...api.Peer) *View {
	return &View{
		RunFolder: "/run/hnet", Up: true, Since: noon.Add(-time.Minute), Answered: noon,
		Status: api.Status{Address: robot1, Hostname: "robot-1", Interface: "hnet0", WhitelistEnabled: true, NAT: "easy", Version: "1.2.3"},
		Peers:  peers,
	}
}

func find(t *testing.T, list []diagnostic_msgs.DiagnosticStatus, name string) *diagnostic_msgs.DiagnosticStatus {
	t.Helper()
	i := slices.IndexFunc(list, func(s diagnostic_msgs.DiagnosticStatus) bool { return s.Name == name })
	if i < 0 {
		var names []string
		for _, s := range list {
			names = append(names, s.Name)
		}
		t.Fatalf("there is no status %q among %q", name, names)
	}
	return &list[i]
}

func value(s *diagnostic_msgs.DiagnosticStatus, key string) string {
	for _, v := range s.Values {
		if v.Key == key {
			return v.Value
		}
	}
	return ""
}

func TestPeerDiagnostics(t *testing.T) {
	connected := api.Peer{
		Address: robot2, Hostname: "robot-2", State: api.Connected, Path: api.PathLAN, Endpoint: endpoint, Whitelisted: true,
		RTT: api.Known(1.25), Jitter: api.Known(0.1), Loss: api.Known(0), TxBytes: 10, RxBytes: 20,
	}
	with := func(change func(*api.Peer)) api.Peer {
		p := connected
		change(&p)
		return p
	}
	state := func(s api.PeerState) api.Peer {
		return with(func(p *api.Peer) {
			p.State, p.Path, p.Endpoint, p.RTT, p.Loss = s, api.PathNone, netip.AddrPort{}, nil, nil
		})
	}
	for _, test := range []struct {
		name  string
		peer  api.Peer
		since time.Duration
		set   func(*Settings)
		level uint8
		words string
	}{
		{"connected", connected, 0, nil, levelOK, "connected over the LAN, 1.2 ms"},
		{"not measured", with(func(p *api.Peer) { p.RTT, p.Loss = nil, nil }), 0, nil, levelOK, "connected over the LAN"},
		{"slow", with(func(p *api.Peer) { p.RTT = api.Known(300) }), 0, nil, levelWarn, "round trips of 300 ms"},
		{"too slow", with(func(p *api.Peer) { p.RTT = api.Known(1001) }), 0, nil, levelError, "round trips of 1001 ms"},
		{"loss", with(func(p *api.Peer) { p.Loss = api.Known(0.1) }), 0, nil, levelWarn, "10 % lost"},
		{"much loss", with(func(p *api.Peer) { p.Loss = api.Known(0.5) }), 0, nil, levelError, "50 % lost"},
		{"slow with much loss", with(func(p *api.Peer) { p.RTT, p.Loss = api.Known(300), api.Known(0.5) }), 0, nil, levelError, "round trips of 300 ms, 50 % lost"},
		{"relayed", with(func(p *api.Peer) { p.Path = api.PathRelayUDP }), 0, nil, levelOK, "through a Base, by UDP"},
		{"relayed, and minded", with(func(p *api.Peer) { p.Path = api.PathRelayTCP }), 0, func(s *Settings) { s.WarnOnRelay = true }, levelWarn, "through a Base, by TCP"},
		{"idle", state(api.Idle), time.Hour, nil, levelOK, "idle"},
		{"idle and required", state(api.Idle), time.Hour, func(s *Settings) { s.Required = []string{"robot-2"} }, levelOK, "idle"},
		{"connecting", state(api.Connecting), 2 * time.Second, nil, levelOK, "sought"},
		{"connecting for long", state(api.Connecting), 12 * time.Second, nil, levelWarn, "no way was found in 12 s"},
		{"connecting for long, required", state(api.Connecting), 12 * time.Second, func(s *Settings) { s.Required = []string{"Robot-2"} }, levelError, "no way"},
		{"unreachable", state(api.Unreachable), time.Hour, nil, levelWarn, "no way to it was found"},
		{"unreachable, required by address", state(api.Unreachable), 0, func(s *Settings) { s.Required = []string{"FC94:0::2"} }, levelError, "no way to it was found"},
		{"required, not whitelisted", with(func(p *api.Peer) { p.Whitelisted = false }), 0, func(s *Settings) { s.Required = []string{"robot-2"} }, levelError, "not in the whitelist"},
		{"of a later version", state("dreaming"), 0, nil, levelOK, "dreaming"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := testSettings()
			if test.set != nil {
				test.set(s)
			}
			v := testView(test.peer)
			v.PeersSince = map[netip.Addr]time.Time{robot2: noon.Add(-test.since)}
			got := find(t, Diagnostics(noon, "hnet", v, s), "hnet: peer robot-2")
			if got.Level != test.level || !strings.Contains(got.Message, test.words) {
				t.Errorf("level %d, %q; want %d, %q", got.Level, got.Message, test.level, test.words)
			}
			if got.Level > levelOK && (value(got, "cause") == "" || value(got, "fix") == "") {
				t.Errorf("no cause or no fix: %v", got.Values)
			}
			if got.HardwareID != "fc94::2" {
				t.Errorf("hardware %q", got.HardwareID)
			}
		})
	}
	got := find(t, Diagnostics(noon, "hnet", testView(connected), testSettings()), "hnet: peer robot-2")
	for key, want := range map[string]string{
		"address": "fc94::2", "hostname": "robot-2", "state": "connected", "path": "lan", "endpoint": "192.0.2.1:5582", "rtt_s": "0.00125", "jitter_s": "0.0001",
		"loss": "0", "tx_bytes": "10", "rx_bytes": "20", "whitelisted": "true", "required": "false",
	} {
		if v := value(got, key); v != want {
			t.Errorf("%s is %q, want %q", key, v, want)
		}
	}
}

func TestBaseDiagnostics(t *testing.T) {
	for _, test := range []struct {
		base  api.Base
		since time.Duration
		level uint8
		words string
	}{
		{api.Base{State: api.BaseRegistered, Transport: "udp", RTT: api.Known(20)}, 0, levelOK, "registered by udp, 20 ms"},
		{api.Base{State: api.BaseStandby}, time.Hour, levelOK, "standby"},
		{api.Base{State: api.BaseConnecting}, time.Second, levelOK, "connecting"},
		{api.Base{State: api.BaseConnecting}, time.Minute, levelWarn, "not answered for 60 s"},
		{api.Base{State: api.BaseUnreachable}, 0, levelWarn, "does not answer"},
	} {
		test.base.Address, test.base.Host = robot3, "base.example"
		v := testView()
		v.Status.Bases = []api.Base{test.base}
		v.BasesSince = map[netip.Addr]time.Time{robot3: noon.Add(-test.since)}
		got := find(t, Diagnostics(noon, "hnet", v, testSettings()), "hnet: base base.example")
		if got.Level != test.level || !strings.Contains(got.Message, test.words) || got.HardwareID != "fc94::3" {
			t.Errorf("%+v: level %d, %q, hardware %q", test.base, got.Level, got.Message, got.HardwareID)
		}
	}
}

// TestWarnings: the daemon's warnings are told of the node, and of the peer or Base that they are about.
func TestWarnings(t *testing.T) {
	v := testView(api.Peer{Address: robot2, State: api.Connected, Path: api.PathLAN}, api.Peer{Address: netip.MustParseAddr("fc94::22"), State: api.Idle})
	v.Status.Warnings = []api.Warning{
		{Code: "path_mtu", Text: "packets to fc94::2 are split", Fix: "raise the MTU"},
		{Code: "path_mtu", Text: "packets to fc94::7 are split", Fix: "raise it"},
		{Code: "identity_cloned", Text: "another host has this identity", Fix: "remove one"},
	}
	list := Diagnostics(noon, "hnet", v, testSettings())
	node := find(t, list, "hnet: node")
	if node.Level != levelError || node.Message != "another host has this identity (and 2 more)" || value(node, "fix") != "remove one" ||
		value(node, "warning path_mtu") != "packets to fc94::2 are split (fix: raise the MTU)" || value(node, "warning path_mtu 2") == "" {
		t.Errorf("node: %+v", node)
	}
	if p := find(t, list, "hnet: peer fc94::2"); p.Level != levelWarn || p.Message != "packets to fc94::2 are split" || value(p, "fix") != "raise the MTU" {
		t.Errorf("peer: %+v", p)
	}
	if p := find(t, list, "hnet: peer fc94::22"); p.Level != levelOK {
		t.Errorf("a peer that was not meant: %+v", p)
	}
	v.Status.Warnings = nil
	if node := find(t, Diagnostics(noon, "hnet", v, testSettings()), "hnet: node"); node.Level != levelOK || node.Message != "1 of 2 peers connected" {
		t.Errorf("node: %+v", node)
	}
}

func TestMentions(t *testing.T) {
	for text, want := range map[string]bool{
		"fc94::1": true, "to fc94::1, and": true, "(fc94::1)": true, "fc94::1: lost": true, "at fc94::1:": true,
		"fc94::12": false, "afc94::1": false, "fc94::1:2": false, "fc94::12 and fc94::1": true, "": false, "fc94::": false,
	} {
		if mentions(text, "fc94::1") != want {
			t.Errorf("%q: %v", text, !want)
		}
	}
}

func TestDaemonDiagnostics(t *testing.T) {
	down := &api.Error{Code: api.CodeNotRunning, Text: "hnetd is not running", Fix: "start it"}
	// Not up yet.
	v := &View{RunFolder: "/run/hnet", Since: noon.Add(-time.Second), Err: down}
	list := Diagnostics(noon, "hnet", v, testSettings())
	if d := find(t, list, "hnet: daemon"); len(list) != 1 || d.Level != levelWarn || !strings.Contains(d.Message, "waiting") {
		t.Errorf("at the start: %+v", list)
	}
	// Never up.
	v.Since = noon.Add(-time.Minute)
	list = Diagnostics(noon, "hnet", v, testSettings())
	if d := find(t, list, "hnet: daemon"); len(list) != 1 || d.Level != levelError || d.Message != "hnetd is not running" || value(d, "fix") != "start it" || value(d, "down_s") != "60.0" {
		t.Errorf("without a daemon: %+v", list)
	}
	// Gone.
	v = testView(api.Peer{Address: robot2, Hostname: "robot-2", State: api.Connected, Path: api.PathLAN})
	v.Up, v.Err, v.Since = false, down, noon
	list = Diagnostics(noon.Add(7*time.Second), "robot/hnet", v, testSettings())
	if d := find(t, list, "robot/hnet: daemon"); d.Level != levelError {
		t.Errorf("the daemon is gone: %+v", d)
	}
	for _, name := range []string{"robot/hnet: node", "robot/hnet: peer robot-2"} {
		if s := find(t, list, name); s.Level != levelStale || !strings.HasPrefix(s.Message, "hnetd does not answer; 7 s ago: ") {
			t.Errorf("%s: %+v", name, s)
		}
	}
	// Silent.
	v.Up, v.Err = true, errors.New("timeout")
	list = Diagnostics(noon.Add(7*time.Second), "hnet", v, testSettings())
	if d := find(t, list, "hnet: daemon"); d.Level != levelError || d.Message != "hnetd has not answered for 7 s" {
		t.Errorf("the daemon is silent: %+v", d)
	}
	// Well, and again.
	v.Err, v.Restarts, v.Refused = nil, 2, 3
	list = Diagnostics(noon.Add(time.Second), "hnet", v, testSettings())
	if d := find(t, list, "hnet: daemon"); d.Level != levelOK || value(d, "restarts") != "2" || value(d, "requests_refused") != "3" || value(d, "version") != "1.2.3" {
		t.Errorf("the daemon is well: %+v", d)
	}
	v.Embedded, v.EmbedErr = true, errors.New("no rights")
	list = Diagnostics(noon.Add(time.Second), "hnet", v, testSettings())
	if d := find(t, list, "hnet: daemon"); d.Level != levelError || !strings.Contains(d.Message, "no rights") || value(d, "embedded") != "true" {
		t.Errorf("the embedded overlay does not run: %+v", d)
	}
}

// TestNames: no two statuses have one name, whatever peers are called, and there are not more than so many.
func TestNames(t *testing.T) {
	v := testView(api.Peer{Address: robot2, Hostname: "twin"}, api.Peer{Address: robot3, Hostname: "twin"})
	for i := range 2 * maxPeerStatuses {
		v.Peers = append(v.Peers, api.Peer{Address: netip.MustParseAddr(fmt.Sprintf("fc94::1:%x", i)), State: api.Connected})
	}
	last := &v.Peers[len(v.Peers)-1]
	last.Hostname = "needed"
	s := testSettings()
	s.Required = []string{"needed", "absent", "", "fc94::99"}
	list := Diagnostics(noon, "hnet", v, s)
	names := map[string]bool{}
	for _, d := range list {
		if names[d.Name] {
			t.Errorf("two statuses are called %q", d.Name)
		}
		names[d.Name] = true
	}
	if want := 2 + maxPeerStatuses + 2; len(list) != want {
		t.Errorf("%d statuses, want %d", len(list), want)
	}
	find(t, list, "hnet: peer needed")
	if d := find(t, list, "hnet: peer absent"); d.Level != levelError || value(d, "fix") != "hnet whitelist add ADDRESS --hostname absent" {
		t.Errorf("absent: %+v", d)
	}
	if d := find(t, list, "hnet: peer fc94::99"); d.Level != levelError || value(d, "fix") != "hnet whitelist add fc94::99" {
		t.Errorf("absent: %+v", d)
	}
	few := testView(v.Peers[:2]...)
	list = Diagnostics(noon, "hnet", few, testSettings())
	find(t, list, "hnet: peer twin")
	find(t, list, "hnet: peer twin (fc94::3)")
}
