package watch

import (
	"github.com/hnet-robotics/hnet_bridge/overlay/config"
	"github.com/hnet-robotics/hnet_bridge/overlay/engine"
)

// rule gives what matches a treatment. Kinds and types are for the defaults; a rule of the configuration has a pattern alone.
type rule struct {
	pattern string // of ROS names, "" = any
	kind    Kind   // Unknown = any
	typ     string // "" = any
	engine.Treatment
}

// defaults is what holds where the configuration says nothing. Urgent is what a robot steers by and what is small: commands, transforms, joints, calls.
// Bulk is what fills a link.
var defaults = func() (list []rule) {
	for _, p := range []string{
		"*/cmd_vel*", "*/tf", "*/tf_static", "*/joint_states", "*/joy", "*/emergency_stop*", "*/estop*", "*/parameter_events", "/clock", "ros_discovery_info",
	} {
		list = append(list, rule{pattern: p, Treatment: engine.Treatment{Lane: engine.Urgent}})
	}
	for _, k := range []Kind{Service, Action, Discovery} {
		list = append(list, rule{kind: k, Treatment: engine.Treatment{Lane: engine.Urgent}})
	}
	for _, t := range []string{
		"sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/PointCloud2", "sensor_msgs/msg/PointCloud",
		"stereo_msgs/msg/DisparityImage", "theora_image_transport/msg/Packet", "ffmpeg_image_transport_msgs/msg/FFMPEGPacket",
		"point_cloud_interfaces/msg/CompressedPointCloud2", "nav_msgs/msg/OccupancyGrid", "octomap_msgs/msg/Octomap", "grid_map_msgs/msg/GridMap",
	} {
		list = append(list, rule{typ: t, Treatment: engine.Treatment{Lane: engine.Bulk}})
	}
	return list
}()

// largeSample is the size in bytes above which samples are bulk, of topics that no rule names; largeFor is how long a writer's samples stay bulk, so that
// its small ones do not overtake its large ones.
const (
	largeSample = 64 << 10
	largeFor    = 60 // seconds
)

// policy decides how topics are treated; the first rule that matches does.
type policy []rule

func newPolicy(lanes []config.Lane) policy {
	p := make(policy, 0, len(lanes)+len(defaults))
	for _, l := range lanes {
		t := engine.Treatment{Lane: engine.Normal, Redundant: l.Redundant}
		switch l.Lane {
		case "urgent":
			t.Lane = engine.Urgent
		case "bulk":
			t.Lane = engine.Bulk
		}
		p = append(p, rule{pattern: l.Match, Treatment: t})
	}
	return append(p, defaults...)
}

// treat returns the treatment of a topic. Where no rule matches, it is the zero Treatment: the packets' DSCP decides, and size.
func (p policy) treat(n name) (engine.Treatment, bool) {
	if n.kind == Unknown || n.kind == Other {
		return engine.Treatment{}, false
	}
	for i := range p {
		r := &p[i]
		if (r.kind == Unknown || r.kind == n.kind) && (r.typ == "" || r.typ == n.typ) && (r.pattern == "" || match(r.pattern, n.text)) {
			return r.Treatment, true
		}
	}
	return engine.Treatment{}, false
}

// match reports whether text has the form of pattern, in which * stands for any bytes, slashes too, and ? for any one. It takes at most
// len(pattern)*len(text) steps.
func match(pattern, text string) bool {
	p, t, star, mark := 0, 0, -1, 0
	for t < len(text) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, t
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == text[t]):
			p++
			t++
		case star >= 0:
			mark++
			p, t = star+1, mark
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// urgency orders lanes; a packet's own mark stands where Normal does.
func urgency(l engine.Lane) int {
	switch l {
	case engine.Urgent:
		return 3
	case engine.Bulk:
		return 1
	}
	return 2
}

// join is the treatment of a datagram that carries what is treated as a and what is treated as b: the more urgent lane, two paths if either wants them.
func join(a, b engine.Treatment) engine.Treatment {
	if urgency(b.Lane) > urgency(a.Lane) || a.Lane == engine.ByDSCP && b.Lane == engine.Normal {
		a.Lane = b.Lane
	}
	a.Redundant = a.Redundant || b.Redundant
	return a
}
