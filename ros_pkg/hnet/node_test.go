package hnet

import (
	"context"
	"errors"
	"math"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/api/apitest"
	"github.com/hnet-robotics/hnet_bridge/overlay/config"
	"github.com/hnet-robotics/hnet_bridge/overlay/host/sandbox"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/cdr"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/hnet/caller"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/diagnostic_msgs"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/geometry_msgs"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/hnet_bridge"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/std_srvs"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/tf2_msgs"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/visualization_msgs"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/ros"
)

// testNode makes a node that is alone in its domain.
func testNode(t *testing.T, args []string, opts ...ros.Option) *ros.Node {
	t.Helper()
	n, err := ros.NewNode(Name, append(opts, ros.WithArgs(args), ros.WithEnvironment(func(name string) string {
		return map[string]string{"ROS_AUTOMATIC_DISCOVERY_RANGE": "OFF"}[name]
	}))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

func TestParameters(t *testing.T) {
	paths := config.FindPaths(func(string) string { return "" })
	n := testNode(t, []string{"--ros-args", "-p", "rtt_warn:=0.1", "-p", "required_peers:=[a, b]", "-p", "markers.rate:=0"})
	p, err := declareParameters(n, paths)
	if err != nil {
		t.Fatal(err)
	}
	s := p.settings()
	if s.RTTWarn != 100*time.Millisecond || s.RTTError != time.Second || len(s.Required) != 2 || s.Markers.Period != time.Second || s.Markers.OwnFrame != "base_link" {
		t.Errorf("%+v", s)
	}
	if err := p.rttWarn.Set(2); err == nil || !strings.Contains(err.Error(), "rtt_error") {
		t.Errorf("a limit above the other: %v", err)
	}
	if err := p.lossError.Set(1.5); err == nil {
		t.Error("more than everything may be lost")
	}
	for _, set := range []error{p.allowRemote.Set(true), p.embedded.Set(true), p.runFolder.Set("/"), p.configFile.Set("/"), p.stateFolder.Set("/")} {
		if set == nil {
			t.Error("a parameter that decides who may do what can be set by anyone")
		}
	}
	if err := p.rttError.Set(0.5); err != nil || p.settings().RTTError != 500*time.Millisecond {
		t.Errorf("a limit cannot be set: %v", err)
	}
	// Values that contradict each other at the start end it.
	n = testNode(t, []string{"--ros-args", "-p", "loss_warn:=0.9"})
	if _, err := declareParameters(n, paths); err == nil || !strings.Contains(err.Error(), "loss_warn") {
		t.Errorf("contradictory values: %v", err)
	}
}

// inbox keeps the newest message of a topic.
type inbox[T any] struct{ got chan *T }

func subscribe[T any, M interface {
	*T
	cdr.Message
}](t *testing.T, n *ros.Node, topic string, qos ros.QoS) *inbox[T] {
	t.Helper()
	in := &inbox[T]{make(chan *T, 1000)}
	_, err := ros.NewSubscription[T, M](n, topic, qos, func(m *T, _ ros.MessageInfo) {
		select {
		case in.got <- m:
		default:
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func (in *inbox[T]) wait(t *testing.T, what string, fits func(*T) bool) *T {
	t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case m := <-in.got:
			if fits(m) {
				return m
			}
		case <-deadline:
			t.Fatalf("never came: %s", what)
		}
	}
}

// TestNode runs the node on real sockets in a network of its own: beside a daemon in memory, and another node that looks on and asks.
func TestNode(t *testing.T) {
	sandbox.Run(t, func(t *testing.T) {
		daemon := testDaemon()
		run, stop := apitest.Serve(t, daemon, api.Options{})
		guard := &Guard{}
		node, err := ros.NewNode(Name, ros.WithArgs([]string{"--ros-args", "-r", "__ns:=/robot", "-p", "run_folder:=" + run, "-p", "publish_rate:=5.0", "-p", "diagnostics_rate:=5.0",
			"-p", "markers.rate:=10.0", "--log-level", "warn"}), ros.WithParameterAuthorization(guard.Permit))
		if err != nil {
			t.Fatal(err)
		}
		defer node.Close()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- Run(ctx, node, Options{Paths: config.FindPaths(func(string) string { return "" }), Guard: guard})
		}()
		other, err := ros.NewNode("other", ros.WithArgs(nil))
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		peers := subscribe[hnet_bridge.PeerArray](t, other, "/robot/hnet/peers", ros.QoSState)
		status := subscribe[hnet_bridge.Status](t, other, "/robot/hnet/status", ros.QoSState)
		events := subscribe[hnet_bridge.PeerEvent](t, other, "/robot/hnet/events", ros.QoS{Depth: 100})
		diagnostics := subscribe[diagnostic_msgs.DiagnosticArray](t, other, "/diagnostics", ros.QoS{})
		markers := subscribe[visualization_msgs.MarkerArray](t, other, "/robot/hnet/markers", ros.QoS{})
		tf, err := ros.NewPublisher[tf2_msgs.TFMessage](other, "/tf_static", ros.QoSState)
		if err != nil {
			t.Fatal(err)
		}
		var place geometry_msgs.TransformStamped
		place.Header.FrameID, place.ChildFrameID = "base_link", "robot-2/base_link"
		place.Transform.Translation.X, place.Transform.Rotation.W = 7, 1
		if err := tf.Publish(&tf2_msgs.TFMessage{Transforms: []geometry_msgs.TransformStamped{place}}); err != nil {
			t.Fatal(err)
		}

		m := peers.wait(t, "peers", func(m *hnet_bridge.PeerArray) bool { return len(m.Peers) == 1 })
		if m.Peers[0].Hostname != "robot-2" || m.Header.Stamp.AsTime().IsZero() {
			t.Errorf("peers: %+v", m)
		}
		status.wait(t, "status", func(m *hnet_bridge.Status) bool { return m.Address == "fc94::1" && m.WhitelistEnabled })
		diagnostics.wait(t, "diagnostics", func(m *diagnostic_msgs.DiagnosticArray) bool {
			return len(m.Status) == 3 && m.Status[0].Name == "robot/hnet: daemon" && m.Status[0].Level == levelOK && m.Status[2].Name == "robot/hnet: peer robot-2"
		})
		markers.wait(t, "a link to where tf has the peer", func(m *visualization_msgs.MarkerArray) bool {
			return len(m.Markers) == 2 && m.Markers[0].Points[1].X == 7
		})

		// A peer comes up.
		daemon.Do(func(n *apitest.Node) { n.PeerList[0].State, n.PeerList[0].RTT = api.Connected, api.Known(3) })
		p := daemon.PeerList[0]
		daemon.Publish(api.Event{Time: time.Now(), Type: api.EventPeerState, Peer: &p})
		events.wait(t, "the peer is up", func(e *hnet_bridge.PeerEvent) bool {
			return e.Type == hnet_bridge.PeerEventTypeUp && e.Peer.Hostname == "robot-2"
		})
		peers.wait(t, "it is connected", func(m *hnet_bridge.PeerArray) bool {
			return m.Peers[0].State == hnet_bridge.PeerStateConnected && m.Peers[0].RTT == 0.003
		})

		askAll(t, other, daemon, guard)

		// The daemon ends, and comes again.
		stop()
		events.wait(t, "the daemon is down", func(e *hnet_bridge.PeerEvent) bool { return e.Type == hnet_bridge.PeerEventTypeDaemonDown })
		peers.wait(t, "nothing is known", func(m *hnet_bridge.PeerArray) bool {
			return m.Peers[0].State == hnet_bridge.PeerStateUnknown && math.IsNaN(m.Peers[0].RTT)
		})
		status.wait(t, "a warning", func(m *hnet_bridge.Status) bool { return len(m.Warnings) == 1 && m.Warnings[0].Code == "daemon_down" })
		diagnostics.wait(t, "stale diagnostics", func(m *diagnostic_msgs.DiagnosticArray) bool {
			return m.Status[0].Level == levelError && m.Status[2].Level == levelStale
		})
		apitest.ServeIn(t, run, daemon, api.Options{})
		events.wait(t, "the daemon is up", func(e *hnet_bridge.PeerEvent) bool { return e.Type == hnet_bridge.PeerEventTypeDaemonUp })
		peers.wait(t, "it is connected", func(m *hnet_bridge.PeerArray) bool { return m.Peers[0].State == hnet_bridge.PeerStateConnected })

		cancel()
		if err := <-ended; err != nil {
			t.Errorf("it ended with %v", err)
		}
	})
}

// call makes one call of a service.
func call[Req, Resp any, Q interface {
	*Req
	cdr.Message
}, P interface {
	*Resp
	cdr.Message
}](t *testing.T, n *ros.Node, service string, q *Req) *Resp {
	t.Helper()
	c, err := ros.NewClient[Req, Resp, Q, P](n, service)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.Wait(ctx); err != nil {
		t.Fatalf("%s: %v", service, err)
	}
	r, err := c.Call(ctx, q)
	if err != nil {
		t.Fatalf("%s: %v", service, err)
	}
	return r
}

// askAll asks all that can be asked, first as root, whose process this is in its sandbox, then as someone else.
func askAll(t *testing.T, n *ros.Node, daemon *apitest.Node, guard *Guard) {
	t.Helper()
	want := func(what string, success bool, message string, wanted bool, words string) {
		t.Helper()
		if success != wanted || !strings.Contains(message, words) {
			t.Errorf("%s: %v, %q", what, success, message)
		}
	}
	add := func(a, name string) *hnet_bridge.WhitelistAddResponse {
		return call[hnet_bridge.WhitelistAddRequest, hnet_bridge.WhitelistAddResponse](t, n, "/robot/hnet/whitelist_add", &hnet_bridge.WhitelistAddRequest{Address: a, Hostname: name})
	}
	r := add(" fc94::3", "robot-3")
	want("whitelist_add", r.Success, r.Message, true, "robot-3 (fc94::3) is in the whitelist")
	r = add("robot-3", "")
	want("whitelist_add without an address", r.Success, r.Message, false, `"robot-3" is no address`)
	list := call[hnet_bridge.WhitelistListRequest, hnet_bridge.WhitelistListResponse](t, n, "/robot/hnet/whitelist_list", &hnet_bridge.WhitelistListRequest{})
	want("whitelist_list", list.Success, list.Message, true, "1 peer")
	if !list.Enabled || len(list.Entries) != 1 || list.Entries[0].Hostname != "robot-3" {
		t.Errorf("whitelist_list: %+v", list)
	}
	rm := call[hnet_bridge.WhitelistRmRequest, hnet_bridge.WhitelistRmResponse](t, n, "/robot/hnet/whitelist_rm", &hnet_bridge.WhitelistRmRequest{Address: "fc94::3"})
	want("whitelist_rm", rm.Success, rm.Message, true, "no longer")
	rm = call[hnet_bridge.WhitelistRmRequest, hnet_bridge.WhitelistRmResponse](t, n, "/robot/hnet/whitelist_rm", &hnet_bridge.WhitelistRmRequest{Address: "fc94::3"})
	want("whitelist_rm again", rm.Success, rm.Message, false, "not whitelisted")
	on := call[std_srvs.SetBoolRequest, std_srvs.SetBoolResponse](t, n, "/robot/hnet/whitelist_enable", &std_srvs.SetBoolRequest{})
	want("whitelist_enable", on.Success, on.Message, true, "the whitelist is off")
	host := call[hnet_bridge.HostnameAddRequest, hnet_bridge.HostnameAddResponse](t, n, "/robot/hnet/hostname_add", &hnet_bridge.HostnameAddRequest{Name: "arm", Address: "fc94::4"})
	want("hostname_add", host.Success, host.Message, true, "arm is fc94::4")
	names := call[hnet_bridge.HostnameListRequest, hnet_bridge.HostnameListResponse](t, n, "/robot/hnet/hostname_list", &hnet_bridge.HostnameListRequest{})
	want("hostname_list", names.Success, names.Message, true, "1 name")
	if len(names.Entries) != 1 || names.Entries[0].Address != "fc94::4" {
		t.Errorf("hostname_list: %+v", names)
	}
	un := call[hnet_bridge.HostnameRmRequest, hnet_bridge.HostnameRmResponse](t, n, "/robot/hnet/hostname_rm", &hnet_bridge.HostnameRmRequest{Name: "arm"})
	want("hostname_rm", un.Success, un.Message, true, "arm is no longer fc94::4")

	// Someone else may look, and change nothing.
	guard.mu.Lock()
	guard.System = strangers{}
	guard.mu.Unlock()
	const refused = "only root"
	r = add("fc94::5", "mallory")
	want("a stranger's whitelist_add", r.Success, r.Message, false, refused)
	rm = call[hnet_bridge.WhitelistRmRequest, hnet_bridge.WhitelistRmResponse](t, n, "/robot/hnet/whitelist_rm", &hnet_bridge.WhitelistRmRequest{Address: "fc94::2"})
	want("a stranger's whitelist_rm", rm.Success, rm.Message, false, refused)
	on = call[std_srvs.SetBoolRequest, std_srvs.SetBoolResponse](t, n, "/robot/hnet/whitelist_enable", &std_srvs.SetBoolRequest{Data: true})
	want("a stranger's whitelist_enable", on.Success, on.Message, false, refused)
	host = call[hnet_bridge.HostnameAddRequest, hnet_bridge.HostnameAddResponse](t, n, "/robot/hnet/hostname_add", &hnet_bridge.HostnameAddRequest{Name: "arm", Address: "fc94::4"})
	want("a stranger's hostname_add", host.Success, host.Message, false, refused)
	un = call[hnet_bridge.HostnameRmRequest, hnet_bridge.HostnameRmResponse](t, n, "/robot/hnet/hostname_rm", &hnet_bridge.HostnameRmRequest{Name: "arm"})
	want("a stranger's hostname_rm", un.Success, un.Message, false, refused)
	list = call[hnet_bridge.WhitelistListRequest, hnet_bridge.WhitelistListResponse](t, n, "/robot/hnet/whitelist_list", &hnet_bridge.WhitelistListRequest{})
	want("a stranger's whitelist_list", list.Success, list.Message, true, "")
	if guard.Refused() != 5 {
		t.Errorf("%d requests were refused", guard.Refused())
	}
	daemon.Do(func(d *apitest.Node) {
		if len(d.Added) != 1 || d.List.Enabled || len(d.Names) != 0 {
			t.Errorf("what was refused was done: %+v", d.Added)
		}
	})
	guard.mu.Lock()
	guard.System = nil
	guard.mu.Unlock()
}

// strangers says that all sockets are a stranger's.
type strangers struct{ caller.Linux }

func (strangers) Sockets() ([]caller.Socket, error) {
	list, err := caller.Linux{}.Sockets()
	for i := range list {
		list[i].UID = 54321
	}
	return list, err
}

// TestServices without a daemon: they answer, and say why nothing happens.
func TestServicesWithoutDaemon(t *testing.T) {
	b := &bridge{client: api.NewClient(filepath.Join(t.TempDir(), "none")), guard: new(Guard), node: testNode(t, nil)}
	success, message := b.change(t.Context(), ros.RequestInfo{Own: true}, func(ctx context.Context) (string, error) {
		return "done", b.client.WhitelistEnable(ctx, true)
	})
	if success || !strings.Contains(message, "hnetd is not running") || !strings.Contains(message, "systemctl start hnetd") {
		t.Errorf("%v, %q", success, message)
	}
	success, message = ask(t.Context(), func(context.Context) (string, error) { return "x", errors.New("why") })
	if success || message != "why" {
		t.Errorf("%v, %q", success, message)
	}
}
