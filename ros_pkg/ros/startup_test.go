package ros

import (
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/rcl_interfaces"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/std_msgs"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/ros/param"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// launch makes a node with options of its own, whose log goes to out.
func (n *fakeNet) launch(t *testing.T, name string, out chan<- string, line string, opts ...Option) (*Node, error) {
	t.Helper()
	opts = append([]Option{WithArgs(strings.Fields(line)), WithEnvironment(func(string) string { return "" }), WithLogHandler(chanHandler{testHandler{t}, out}),
		func(o *options) { o.dom = n.join(wire.VendorUnknown, "enclave=/;") }}, opts...)
	node, err := NewNode(name, opts...)
	if err == nil {
		t.Cleanup(func() { node.Close() })
	}
	return node, err
}

// TestQoSOverrides: the parameters that rclcpp has for it, of the topics that want them and of /parameter_events.
func TestQoSOverrides(t *testing.T) {
	net := new(fakeNet)
	n, err := net.launch(t, "n", nil, "--ros-args -r __ns:=/a -p qos_overrides./a/x.publisher.depth:=3 -p qos_overrides./a/x.publisher.durability:=volatile "+
		"-p qos_overrides./a/x.subscription_two.reliability:=best_effort -p qos_overrides./a/x.subscription_two.history:=keep_all "+
		"-p qos_overrides./parameter_events.publisher.depth:=7 -p qos_overrides./a/bad.publisher.reliability:=perhaps -p qos_overrides./a/deep.publisher.depth:=-1")
	if err != nil {
		t.Fatal(err)
	}
	c := n.Context()
	if _, err := NewPublisher[std_msgs.String](n, "x", QoSState, QoSOverrides("")); err != nil {
		t.Fatal(err)
	}
	if _, err := NewPublisher[std_msgs.String](n, "fixed", QoSState); err != nil {
		t.Fatal(err)
	}
	hear := func(*std_msgs.String, MessageInfo) {}
	for range 2 { // the second takes the parameters of the first
		if _, err := NewSubscription(n, "x", QoS{}, hear, QoSOverrides("two")); err != nil {
			t.Fatal(err)
		}
	}
	for topic, want := range map[string]string{"bad": "perhaps", "deep": "-1"} {
		if _, err := NewPublisher[std_msgs.String](n, topic, QoS{}, QoSOverrides("")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", topic, err)
		}
	}
	pubs, subs, events := c.Publishers("/a/x"), c.Subscriptions("/a/x"), c.Publishers("/parameter_events")
	if len(pubs) != 1 || pubs[0].QoS.Depth != 3 || pubs[0].QoS.TransientLocal || pubs[0].QoS.BestEffort {
		t.Errorf("%+v", pubs)
	}
	if len(subs) != 2 || !subs[0].QoS.KeepAll || !subs[1].QoS.BestEffort {
		t.Errorf("%+v", subs)
	}
	if len(events) != 1 || events[0].QoS.Depth != 7 {
		t.Errorf("%+v", events)
	}
	names, _ := n.Parameters().List([]string{"qos_overrides./a/x.publisher"}, 0)
	want := []string{"qos_overrides./a/x.publisher.depth", "qos_overrides./a/x.publisher.durability", "qos_overrides./a/x.publisher.history",
		"qos_overrides./a/x.publisher.reliability"}
	if !slices.Equal(names, want) {
		t.Errorf("%q", names)
	}
	if d, _ := n.Parameters().Describe(want[0]); !d.ReadOnly || d.Type != param.Integer {
		t.Errorf("%+v", d)
	}
	if v, _ := n.Parameters().Get("qos_overrides./parameter_events.publisher.history"); !v.Equal(param.Of("keep_last")) {
		t.Errorf("%v", v)
	}
}

// TestLoggerLevels: ~/get_logger_levels and ~/set_logger_levels, for who may.
func TestLoggerLevels(t *testing.T) {
	net := new(fakeNet)
	refuse := false
	n, err := net.launch(t, "n", nil, "--ros-args -r __ns:=/a --log-level other:=fatal", WithLoggerService(),
		WithParameterAuthorization(func(RequestInfo) error {
			if refuse {
				return ErrClosed
			}
			return nil
		}))
	if err != nil {
		t.Fatal(err)
	}
	c := net.node(t, "c")
	get, err := NewClient[rcl_interfaces.GetLoggerLevelsRequest, rcl_interfaces.GetLoggerLevelsResponse](c, "/a/n/get_logger_levels")
	if err != nil {
		t.Fatal(err)
	}
	set, err := NewClient[rcl_interfaces.SetLoggerLevelsRequest, rcl_interfaces.SetLoggerLevelsResponse](c, "/a/n/set_logger_levels")
	if err != nil {
		t.Fatal(err)
	}
	levels := func() (out []uint32) {
		resp, err := get.Call(within(t), &rcl_interfaces.GetLoggerLevelsRequest{Names: []string{"", "a", "a.n", "other"}})
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range resp.Levels {
			out = append(out, l.Level)
		}
		return out
	}
	change := func(list ...rcl_interfaces.LoggerLevel) (out []bool) {
		resp, err := set.Call(within(t), &rcl_interfaces.SetLoggerLevelsRequest{Levels: list})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range resp.Results {
			if out = append(out, r.Successful); r.Successful != (r.Reason == "") {
				t.Errorf("%+v", r)
			}
		}
		return out
	}
	if got := levels(); !slices.Equal(got, []uint32{20, 0, 0, 50}) {
		t.Errorf("at the start: %v", got)
	}
	got := change(rcl_interfaces.LoggerLevel{Name: "a", Level: 40}, rcl_interfaces.LoggerLevel{Name: "a.n", Level: 10}, rcl_interfaces.LoggerLevel{Name: "a", Level: 11},
		rcl_interfaces.LoggerLevel{Name: strings.Repeat("x", 1000), Level: 10}, rcl_interfaces.LoggerLevel{Name: "other", Level: 0})
	if !slices.Equal(got, []bool{true, true, false, false, true}) {
		t.Errorf("%v", got)
	}
	if got := levels(); !slices.Equal(got, []uint32{20, 40, 10, 0}) || n.LogLevel() != slog.LevelDebug {
		t.Errorf("after a change: %v, %v", got, n.LogLevel())
	}
	change(rcl_interfaces.LoggerLevel{Name: "a.n"})
	if n.LogLevel() != slog.LevelError {
		t.Errorf("as the logger above it: %v", n.LogLevel())
	}
	refuse = true
	if got := change(rcl_interfaces.LoggerLevel{Name: "a.n", Level: 10}); !slices.Equal(got, []bool{false}) || n.LogLevel() != slog.LevelError {
		t.Errorf("who may not: %v, %v", got, n.LogLevel())
	}
	n.SetLogLevel(slog.LevelWarn)
	if got := levels(); got[2] != 30 {
		t.Errorf("%v", got)
	}
}

// TestStartupWarnings: what has no effect, and a name that is taken, are said.
func TestStartupWarnings(t *testing.T) {
	net := new(fakeNet)
	logs := make(chan string, 20)
	if _, err := net.launch(t, "n", logs, "--ros-args --log-file-name x -r __ns:=/a"); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, logs); !strings.Contains(got, "--log-file-name has no effect") {
		t.Error(got)
	}
	net.node(t, "n")
	none(t, logs)
	net.node(t, "n", "--ros-args", "-r", "__ns:=/a")
	if got := receive(t, logs); !strings.Contains(got, "another node has this node's name") || !strings.Contains(got, "/a/n") {
		t.Error(got)
	}
	net.node(t, "n", "--ros-args", "-r", "__ns:=/a")
	none(t, logs)
}

// TestRemappedOwnTopics: the topics and services that every node has follow rules, too.
func TestRemappedOwnTopics(t *testing.T) {
	net := new(fakeNet)
	n, err := net.launch(t, "n", nil, "--ros-args -r /rosout:=/fleet/rosout -r /parameter_events:=/fleet/events -r ~/get_parameters:=/fleet/get -r /rosout:=/not/this")
	if err != nil {
		t.Fatal(err)
	}
	c := n.Context()
	var topics []string
	for _, x := range c.Topics() {
		topics = append(topics, x.Name)
	}
	if !slices.Equal(topics, []string{"/fleet/events", "/fleet/rosout"}) {
		t.Errorf("%q", topics)
	}
	if !slices.ContainsFunc(c.Services(), func(s NamedTypes) bool { return s.Name == "/fleet/get" }) {
		t.Errorf("%+v", c.Services())
	}
}
