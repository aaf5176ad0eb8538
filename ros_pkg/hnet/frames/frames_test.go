package frames

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/cdr"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/geometry_msgs"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/tf2_msgs"
)

func transform(parent, child string, x, y, z, yaw float64) geometry_msgs.TransformStamped {
	var t geometry_msgs.TransformStamped
	t.Header.FrameID, t.ChildFrameID = parent, child
	t.Transform.Translation = geometry_msgs.Vector3{X: x, Y: y, Z: z}
	t.Transform.Rotation = geometry_msgs.Quaternion{Z: math.Sin(yaw / 2), W: math.Cos(yaw / 2)}
	return t
}

func TestLocate(t *testing.T) {
	now := time.Unix(1000, 0)
	var b Buffer
	b.Put(now, true, []geometry_msgs.TransformStamped{
		transform("map", "r1/odom", 10, 0, 0, 0),
		transform("/map", "/r2/odom", 0, 5, 0, 0), // as ROS 1 wrote them
	})
	b.Put(now, false, []geometry_msgs.TransformStamped{
		transform("r1/odom", "r1/base", 2, 0, 0, math.Pi/2),
		transform("r2/odom", "r2/base", 0, 0, 1, 0),
		transform("elsewhere", "r3/base", 1, 1, 1, 0),
		transform("x", "y", 1, 0, 0, 0), transform("y", "x", 1, 0, 0, 0),
	})
	for _, test := range []struct {
		frame, in string
		want      string // "" = not connected
	}{
		{"r2/base", "r1/base", "5 12 1"}, // r1 looks along map's y from (12, 0)
		{"r1/base", "r2/base", "12 -5 -1"},
		{"r1/base", "map", "12 0 0"},
		{"map", "r1/base", "0 12 0"},
		{"r1/base", "r1/base", "0 0 0"},
		{"never/heard", "never/heard", "0 0 0"},
		{"r3/base", "r1/base", ""},
		{"unknown", "r1/base", ""},
		{"x", "y", ""},
		{"", "", ""},
	} {
		got := ""
		if p, ok := b.Locate(now, test.frame, test.in); ok {
			got = fmt.Sprintf("%.3g %.3g %.3g", round(p.X), round(p.Y), round(p.Z))
		}
		if got != test.want {
			t.Errorf("%s in %s is %q, want %q", test.frame, test.in, got, test.want)
		}
	}
	// What moves is believed for a time, what is static always.
	later := now.Add(Age + time.Second)
	if _, ok := b.Locate(later, "r2/base", "r1/base"); ok {
		t.Error("an old transform is believed")
	}
	if _, ok := b.Locate(later, "r2/odom", "r1/odom"); !ok {
		t.Error("a static transform is not believed any more")
	}
}

func round(f float64) float64 { return math.Round(f*1e6)/1e6 + 0 }

// TestNonsense: what cannot be a transform is ignored, and does not replace one that can.
func TestNonsense(t *testing.T) {
	now := time.Unix(1000, 0)
	var b Buffer
	good := transform("map", "robot", 1, 0, 0, 0)
	b.Put(now, true, []geometry_msgs.TransformStamped{good})
	for _, change := range []func(*geometry_msgs.TransformStamped){
		func(s *geometry_msgs.TransformStamped) { s.Transform.Translation.X = math.NaN() },
		func(s *geometry_msgs.TransformStamped) { s.Transform.Translation.Y = math.Inf(-1) },
		func(s *geometry_msgs.TransformStamped) { s.Transform.Rotation = geometry_msgs.Quaternion{} },
		func(s *geometry_msgs.TransformStamped) { s.Transform.Rotation.X = math.Inf(1) },
		func(s *geometry_msgs.TransformStamped) { s.Transform.Rotation.X = math.NaN() },
		func(s *geometry_msgs.TransformStamped) { s.Header.FrameID = "robot" },
		func(s *geometry_msgs.TransformStamped) { s.Header.FrameID = "" },
	} {
		bad := good
		change(&bad)
		b.Put(now, true, []geometry_msgs.TransformStamped{bad})
	}
	if p, ok := b.Locate(now, "robot", "map"); !ok || p.X != 1 {
		t.Errorf("the robot is at %v, %v", p, ok)
	}
}

// TestBound: whoever invents frames does not fill the memory, and old ones make room.
func TestBound(t *testing.T) {
	now := time.Unix(1000, 0)
	var b Buffer
	for i := range 3 * maxFrames {
		b.Put(now, false, []geometry_msgs.TransformStamped{transform("map", fmt.Sprint(i), 1, 0, 0, 0)})
	}
	if len(b.frames) != maxFrames {
		t.Errorf("%d frames are kept", len(b.frames))
	}
	later := now.Add(Age + time.Second)
	b.Put(later, false, []geometry_msgs.TransformStamped{transform("map", "new", 1, 0, 0, 0)})
	if _, ok := b.Locate(later, "new", "map"); !ok || len(b.frames) != 1 {
		t.Errorf("old frames leave no room: %d", len(b.frames))
	}
	// A long chain has an end.
	var chain Buffer
	for i := range 2 * maxDepth {
		chain.Put(now, true, []geometry_msgs.TransformStamped{transform(fmt.Sprint(i), fmt.Sprint(i+1), 1, 0, 0, 0)})
	}
	if _, ok := chain.Locate(now, fmt.Sprint(2*maxDepth), "0"); ok {
		t.Error("a chain beyond the bound was walked")
	}
}

// FuzzTF: whatever is said on /tf, the answer is a place or none.
func FuzzTF(f *testing.F) {
	f.Add(cdr.Marshal(&tf2_msgs.TFMessage{Transforms: []geometry_msgs.TransformStamped{transform("map", "robot", 1, 2, 3, 0.5), transform("robot", "arm", 1, 0, 0, 0)}}))
	f.Fuzz(func(t *testing.T, payload []byte) {
		var m tf2_msgs.TFMessage
		if cdr.Unmarshal(payload, &m) != nil {
			return
		}
		now := time.Unix(1000, 0)
		var b Buffer
		b.Put(now, false, m.Transforms)
		for i := range m.Transforms {
			p, ok := b.Locate(now, m.Transforms[i].ChildFrameID, m.Transforms[0].Header.FrameID)
			if ok && (math.IsNaN(p.X+p.Y+p.Z) || math.IsInf(p.X+p.Y+p.Z, 0)) {
				t.Errorf("%v", p)
			}
		}
	})
}
