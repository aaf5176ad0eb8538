package frames

import (
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/cdr"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/geometry_msgs"
)

// TFMessage is tf2_msgs/msg/TFMessage.
type TFMessage struct {
	Transforms []geometry_msgs.TransformStamped
}

// ROSType returns "tf2_msgs/msg/TFMessage".
func (*TFMessage) ROSType() string { return tfMessage.Type }

// ROSTypeHash returns the RIHS01 hash of the type.
func (*TFMessage) ROSTypeHash() string { return tfMessage.Hash }

// ROSDefinition returns the interface file.
func (*TFMessage) ROSDefinition() *cdr.Definition { return &tfMessage }

// MarshalCDR writes m.
func (m *TFMessage) MarshalCDR(e *cdr.Encoder) {
	e.SequenceLen(len(m.Transforms))
	for i := range m.Transforms {
		m.Transforms[i].MarshalCDR(e)
	}
}

// UnmarshalCDR reads m, reusing its slices and strings.
func (m *TFMessage) UnmarshalCDR(d *cdr.Decoder) {
	m.Transforms = cdr.Resize(m.Transforms, d.SequenceLen(68)) // two empty strings, a time, seven numbers
	for i := range m.Transforms {
		m.Transforms[i].UnmarshalCDR(d)
	}
}

var tfMessage = cdr.Definition{
	Type: "tf2_msgs/msg/TFMessage",
	Hash: "RIHS01_e369d0f05a23ae52508854b66f6aa0437f3449d652e8cbf22d5abe85d020f087",
	Uses: []*cdr.Definition{&geometry_msgs.TransformStampedDefinition},
	Text: "# Fields as in tf2_msgs/msg/TFMessage of ROS 2 (github.com/ros2/geometry2, BSD License).\n\ngeometry_msgs/TransformStamped[] transforms\n",
}
