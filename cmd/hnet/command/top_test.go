package command

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/api/apitest"
)

// busy is a node that carries all kinds of traffic.
func busy() *apitest.Node {
	n := node()
	since := now.Add(-time.Hour)
	flow := func(bytes, hz, resent, lost float64) api.Flow {
		return api.Flow{
			Bytes: uint64(bytes * 3600), Samples: uint64(hz * 3600), Messages: uint64(hz * 3600), Resent: uint64(resent * 3600), Lost: uint64(lost * 3600),
			BytesPerSecond: bytes, SamplesPerSecond: hz, MessagesPerSecond: hz, ResentPerSecond: resent, LostPerSecond: lost,
		}
	}
	n.Carried = api.Traffic{Watching: true, Since: &since, Peers: []api.PeerTraffic{
		{Address: robot.Address(), Hostname: "robot2", Topics: []api.TopicTraffic{
			{Name: "/robot2/camera/front/image_raw", Kind: api.TrafficTopic, Type: "sensor_msgs/msg/Image", Lane: "bulk", Rx: flow(8.1e6, 30, 0.9, 0), Tx: flow(12e3, 0, 0, 0)},
			{Name: "/cmd_vel", Kind: api.TrafficTopic, Type: "geometry_msgs/msg/Twist", Lane: "urgent", Redundant: true, Tx: flow(6.3e3, 50, 0, 0)},
			{Name: "/scan", Kind: api.TrafficTopic, Type: "sensor_msgs/msg/LaserScan", Lane: "dscp", Rx: flow(29e3, 9.2, 0, 0.8)},
			{Name: "/robot2/set_parameters", Kind: api.TrafficService, Type: "rcl_interfaces/srv/SetParameters", Lane: "urgent", Rx: api.Flow{Bytes: 1200, Samples: 3}},
			{Name: "/navigate_to_pose", Kind: api.TrafficAction, Type: "nav2_msgs/action/NavigateToPose", Lane: "urgent", Rx: flow(900, 10, 0, 0)},
			{Name: "unknown topic of 0110b1c2d3e4f5061718191a.00000103", Kind: api.TrafficUnknown, Lane: "dscp", Rx: flow(500, 1, 0, 0)},
			{Name: "discovery", Kind: api.TrafficDiscovery, Lane: "urgent", Tx: flow(400, 0.5, 0, 0), Rx: flow(300, 0.5, 0, 0)},
			{Name: "TCP", Kind: api.TrafficOther, Lane: "dscp", Tx: flow(1e6, 0, 0, 0)},
		}},
		{Address: guest.Address(), Topics: []api.TopicTraffic{
			{Name: "/tf", Kind: api.TrafficTopic, Type: "tf2_msgs/msg/TFMessage", Lane: "urgent", Tx: flow(20e3, 100, 0, 0), Rx: flow(20e3, 99.5, 0, 0)},
		}},
	}}
	return n
}

func TestTop(t *testing.T) {
	run, _ := apitest.Serve(t, busy(), api.Options{Credentials: asRoot})
	for _, tt := range []struct {
		name, line string
		width      int
	}{
		{"top", "top", 0},
		{"top-json", "top --json", 0},
		{"top-peer", "top robot2", 0},
		{"top-totals", "top -t", 0},
		{"top-80", "top --once", 80},
		{"top-140", "top --once", 140},
	} {
		w := newWorld(run)
		if tt.width > 0 {
			w.terminal(tt.width, 24)
		}
		if code := Run(t.Context(), w.Env, strings.Fields(tt.line)); code != 0 {
			t.Fatalf("%s: exit code %d: %s", tt.name, code, w.err.String())
		}
		golden(t, tt.name, strings.ReplaceAll(w.out.String(), "\x1b", "^"))
	}
}

func TestTopSaysNothing(t *testing.T) {
	for _, tt := range []struct {
		name, line, want string
		code             int
		traffic          api.Traffic
	}{
		{"no traffic", "top", "no traffic yet\n", 0, api.Traffic{Watching: true}},
		{"none with a peer", "top robot2", "no traffic with robot2 yet\n", 0, api.Traffic{Watching: true}},
		{"not watching", "top", "hnet: " + errNotWatching.Error() + "\n", 1, api.Traffic{}},
		{"two peers", "top a b", "hnet: unexpected argument \"b\": see 'hnet top --help'\n", 2, api.Traffic{}},
		{"unknown peer", "top nobody", "", 1, api.Traffic{Watching: true}},
	} {
		n := node()
		n.Carried = tt.traffic
		run, _ := apitest.Serve(t, n, api.Options{Credentials: asRoot})
		w := newWorld(run)
		code := Run(t.Context(), w.Env, strings.Fields(tt.line))
		if said := w.out.String() + w.err.String(); code != tt.code || tt.want != "" && said != tt.want {
			t.Errorf("%s: exit code %d, %q", tt.name, code, said)
		}
	}
}

// pictures cuts what was written into the pictures, line by line as a terminal shows them.
func pictures(out string) (list [][]string) {
	for _, p := range strings.Split(out, "\x1b[H")[1:] {
		p, _, _ = strings.Cut(p, "\x1b[J")
		lines := strings.Split(p, "\r\n")
		for i := range lines {
			lines[i] = plainText(strings.TrimSuffix(lines[i], "\x1b[K"))
		}
		list = append(list, lines)
	}
	return list
}

// plainText takes colours out.
func plainText(s string) string {
	for _, x := range []style{bold, dim, red, green, yellow, "\x1b[0m"} {
		s = strings.ReplaceAll(s, string(x), "")
	}
	return s
}

// TestTopKeys drives the live picture by keys. Each picture fits the terminal.
func TestTopKeys(t *testing.T) {
	run, _ := apitest.Serve(t, busy(), api.Options{Credentials: asRoot})
	w := newWorld(run)
	w.terminal(80, 8)
	keys := make(chan key)
	restored := false
	w.Keys = func() (<-chan key, func(), error) { return keys, func() { restored = true }, nil }
	done := make(chan int, 1)
	go func() { done <- Run(t.Context(), w.Env, []string{"top"}) }()
	last := func() []string {
		all := pictures(w.out.String())
		if len(all) == 0 {
			return make([]string, 8)
		}
		return all[len(all)-1]
	}
	wait := func(what string, ok func(p []string) bool) {
		t.Helper()
		waitFor(t, w, what, func(string) bool { return ok(last()) })
	}
	first := func(topic string) func([]string) bool {
		return func(p []string) bool { return strings.Contains(p[2], topic) }
	}
	wait("the largest first", first("image_raw"))
	keys <- keyRight
	wait("sorted by what is sent", first("(TCP)"))
	keys <- 'r'
	wait("the other way around", func(p []string) bool {
		return strings.Contains(p[7], "TX reversed") && !strings.Contains(p[2], "(TCP)")
	})
	keys <- 'r'
	keys <- keyLeft
	keys <- keyDown
	wait("the second first", first("(TCP)"))
	keys <- 't'
	wait("totals", func(p []string) bool {
		return strings.Contains(p[0], "since") && strings.Contains(p[1], "SAMPLES")
	})
	for range 30 {
		keys <- keyPageDown
	}
	wait("the end of the list", func(p []string) bool { return p[6] != "" && !strings.Contains(p[7], "more below") })
	keys <- 'q'
	if code := <-done; code != 0 || !restored {
		t.Errorf("exit code %d, terminal restored: %v", code, restored)
	}
	out := w.out.String()
	if !strings.HasPrefix(out, "\x1b[?1049h\x1b[?25l") || !strings.HasSuffix(out, "\x1b[?25h\x1b[?1049l") {
		t.Errorf("the terminal is not left as it was: %q ... %q", out[:20], out[len(out)-20:])
	}
	for _, p := range pictures(out) {
		if len(p) != 8 || slices.ContainsFunc(p, func(line string) bool { return utf8.RuneCountInString(line) > 80 }) {
			t.Errorf("it does not fit:\n%s", strings.Join(p, "\n"))
		}
	}
}

// TestTopOutlivesTheDaemon: it says that the daemon is away, and goes on when it is back.
func TestTopOutlivesTheDaemon(t *testing.T) {
	n := busy()
	run, stop := apitest.Serve(t, n, api.Options{Credentials: asRoot})
	w := newWorld(run)
	w.terminal(80, 12)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int, 1)
	go func() { done <- Run(ctx, w.Env, []string{"top"}) }()
	contains := func(text string) func(string) bool {
		return func(out string) bool {
			all := pictures(out)
			return len(all) > 0 && strings.Contains(strings.Join(all[len(all)-1], "\n"), text)
		}
	}
	waitFor(t, w, "traffic", contains("image_raw"))
	stop()
	waitFor(t, w, "note", contains("hnetd is not running"))
	if !contains("image_raw")(w.out.String()) {
		t.Error("what was known is gone")
	}
	apitest.ServeIn(t, run, n, api.Options{Credentials: asRoot})
	waitFor(t, w, "return", func(out string) bool { return !contains("not running")(out) })
	cancel()
	if code := <-done; code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestReadKeys(t *testing.T) {
	for in, want := range map[string][]key{
		"q": {'q'}, "\x03": {'q'}, "\x1b": {'q'}, "\x1b[A\x1b[B": {keyUp, keyDown}, "\x1bOC\x1bOD": {keyRight, keyLeft}, "\x1b[6~r": {keyPageDown, 'r'},
		"\x1b[1;5A": nil, "\x1b[": nil, "\x1b[99": nil, "\n\x00": nil,
	} {
		if got := readKeys([]byte(in)); !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", in, got, want)
		}
	}
}

func TestTopJSON(t *testing.T) {
	run, _ := apitest.Serve(t, busy(), api.Options{Credentials: asRoot})
	w := newWorld(run)
	if code := Run(t.Context(), w.Env, []string{"top", "--json", robot.Address().String()}); code != 0 {
		t.Fatal(w.err.String())
	}
	var v api.Traffic
	if err := json.Unmarshal([]byte(w.out.String()), &v); err != nil || len(v.Peers) != 1 || v.Peers[0].Hostname != "robot2" {
		t.Errorf("%v: %+v", err, v)
	}
}
