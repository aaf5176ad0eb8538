package hnet

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/geometry_msgs"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/visualization_msgs"
)

func TestMarkers(t *testing.T) {
	at := func(frame, in string) (geometry_msgs.Point, bool) {
		return geometry_msgs.Point{X: 3, Y: 4, Z: 1}, frame == "robot-2/base_link" && in == "base_link"
	}
	one := api.Peer{Address: robot2, Hostname: "robot-2", State: api.Connected, Path: api.PathLAN, RTT: api.Known(2)}
	two := api.Peer{Address: robot3, State: api.Unreachable}
	v, s := testView(one, two), testSettings()
	var l Links
	m := l.Markers(noon, v, s, at)
	if len(m.Markers) != 4 {
		t.Fatalf("%d markers", len(m.Markers))
	}
	line, label := m.Markers[0], m.Markers[1]
	if line.Type != visualization_msgs.MarkerLineList || line.NS != linksNS || line.Header.FrameID != "base_link" || !line.FrameLocked ||
		len(line.Points) != 2 || line.Points[0] != (geometry_msgs.Point{}) || line.Points[1] != (geometry_msgs.Point{X: 3, Y: 4, Z: 1}) ||
		line.Scale.X != 0.05 || line.Color != colors[QualityGood] || line.Pose.Orientation.W != 1 || line.Lifetime.AsDuration() <= time.Second {
		t.Errorf("line: %+v", line)
	}
	if label.Type != visualization_msgs.MarkerTextViewFacing || label.NS != labelsNS || label.Text != "robot-2\nconnected over the LAN, 2.0 ms" ||
		label.Pose.Position.X != 3 || label.Pose.Position.Z <= 1 || label.Color != line.Color || label.Scale.Z != 0.3 {
		t.Errorf("label: %+v", label)
	}
	far, label := m.Markers[2], m.Markers[3]
	if far.ID == line.ID || far.Color != colors[QualityLost] || math.Hypot(far.Points[1].X, far.Points[1].Y) != 2 || !strings.Contains(label.Text, "tf does not say") {
		t.Errorf("a peer without a place: %+v %+v", far, label)
	}

	// Without a ring it is not drawn, and what was drawn of it goes.
	s.Markers.RingRadius = 0
	m = l.Markers(noon, v, s, at)
	if got := actions(m); got != "add 0, add 0, delete 1, delete 1" {
		t.Errorf("without a ring: %s", got)
	}
	if got := actions(l.Markers(noon, v, s, at)); got != "add 0, add 0" {
		t.Errorf("it is deleted again: %s", got)
	}
	// A peer keeps its number whatever happens to others, and numbers are used again.
	s.Markers.RingRadius = 1
	v.Peers = []api.Peer{two, {Address: robot1}, one}
	if got := actions(l.Markers(noon, v, s, at)); got != "add 0, add 0, add 1, add 1, add 2, add 2" {
		t.Errorf("three: %s", got)
	}
	// In another frame all is drawn anew.
	s.Markers.OwnFrame = "odom"
	v.Peers = []api.Peer{two}
	if got := actions(l.Markers(noon, v, s, at)); !strings.HasPrefix(got, "delete") || strings.Count(got, "delete") != 6 || strings.Count(got, "add") != 2 {
		t.Errorf("another frame: %s", got)
	}
	v.Up = false
	if m := l.Markers(noon, v, s, at); m.Markers[0].Color != colors[QualityIdle] || !strings.Contains(m.Markers[1].Text, "hnetd does not answer") {
		t.Errorf("without a daemon: %+v", m.Markers)
	}
}

func actions(m *visualization_msgs.MarkerArray) string {
	var out []string
	for _, x := range m.Markers {
		what := "add"
		if x.Action == visualization_msgs.MarkerDelete {
			what = "delete"
		}
		out = append(out, fmt.Sprint(what, " ", x.ID))
	}
	if !strings.HasPrefix(strings.Join(out, ""), "delete") {
		slices.Sort(out)
	}
	return strings.Join(out, ", ")
}

func TestMarkersAreBounded(t *testing.T) {
	v := testView()
	for i := range 3 * maxMarkedPeers {
		v.Peers = append(v.Peers, api.Peer{Address: netip.MustParseAddr(fmt.Sprintf("fc94::1:%x", i))})
	}
	var l Links
	nowhere := func(string, string) (geometry_msgs.Point, bool) { return geometry_msgs.Point{}, false }
	if m := l.Markers(noon, v, testSettings(), nowhere); len(m.Markers) != 2*maxMarkedPeers {
		t.Errorf("%d markers", len(m.Markers))
	}
}

func TestPeerFrame(t *testing.T) {
	named, nameless := &api.Peer{Address: robot2, Hostname: "robot-2"}, &api.Peer{Address: robot2}
	for _, test := range []struct {
		pattern string
		peer    *api.Peer
		want    string
	}{
		{"{hostname}/base_link", named, "robot-2/base_link"},
		{"{hostname}/base_link", nameless, "fc94__2/base_link"},
		{"{address}", named, "fc94__2"},
		{"base_link", named, "base_link"},
		{"{other}", named, "{other}"},
	} {
		if got := PeerFrame(test.pattern, test.peer); got != test.want {
			t.Errorf("%s: %s, want %s", test.pattern, got, test.want)
		}
	}
}

// TestEveryQualityHasAColor of its own.
func TestEveryQualityHasAColor(t *testing.T) {
	seen := map[any]bool{}
	for q := QualityIdle; q <= QualityLost; q++ {
		c, ok := colors[q]
		if !ok || c.A == 0 || seen[c] {
			t.Errorf("quality %d: %v", q, c)
		}
		seen[c] = true
	}
}
