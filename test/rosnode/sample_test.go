package rosnode

import "github.com/hnet-robotics/hnet_bridge/ros_pkg/cdr"

// sample is the content of all types of rosdds.
type sample struct {
	number uint64
	crc    uint32
	data   []byte
}

func (m *sample) MarshalCDR(e *cdr.Encoder) {
	e.Uint64(m.number)
	e.Uint32(m.crc)
	e.SequenceLen(len(m.data))
	e.Bytes(m.data)
}

func (m *sample) UnmarshalCDR(d *cdr.Decoder) {
	m.number, m.crc = d.Uint64(), d.Uint32()
	m.data = make([]byte, d.SequenceLen(1))
	d.Bytes(m.data)
}

func (*sample) ROSTypeHash() string { return "" }

type (
	message      struct{ sample }
	echoRequest  struct{ sample }
	echoResponse struct{ sample }
)

func (*message) ROSType() string      { return "rosdds/msg/Sample" }
func (*echoRequest) ROSType() string  { return "rosdds/srv/Echo_Request" }
func (*echoResponse) ROSType() string { return "rosdds/srv/Echo_Response" }
