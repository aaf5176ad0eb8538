package cdr

import "sync"

// Message is a ROS message, or a request or response of a service. Generated types implement it on their pointers.
type Message interface {
	MarshalCDR(*Encoder)
	UnmarshalCDR(*Decoder)
	ROSType() string     // "std_msgs/msg/Header", "std_srvs/srv/SetBool_Request"
	ROSTypeHash() string // "RIHS01_" and 64 hexadecimal digits (REP 2016)
}

// Described is a [Message] that knows the text it was generated from, as every generated one does.
type Described interface {
	Message
	ROSDefinition() *Definition
}

// Definition is the origin of a generated type, for ~/get_type_description.
type Definition struct {
	Type string        // "std_msgs/msg/Header", "std_srvs/srv/SetBool"; requests and responses have their service's definition
	Hash string        // "RIHS01_…" of Type
	Text string        // the interface file
	Uses []*Definition // the types that Text names, and for a service those it uses tacitly
}

// Service describes a service type.
type Service struct {
	Name         string // "std_srvs/srv/SetBool"
	Hash         string // of the service: "RIHS01_…"
	RequestHash  string
	ResponseHash string
	NewRequest   func() Message // with the default values set
	NewResponse  func() Message
	Definition   *Definition
}

// Marshal returns m's payload, encapsulation header included.
func Marshal(m Message) []byte { return AppendMarshal(nil, m) }

// AppendMarshal appends m's payload, encapsulation header included, to dst, whatever dst's length and alignment.
// A string or sequence beyond its bound is cut to it, so that readers can read the rest; [Check] tells beforehand.
func AppendMarshal(dst []byte, m Message) []byte {
	e := encoders.Get().(*Encoder)
	e.Reset(dst)
	m.MarshalCDR(e)
	dst = e.buf
	e.buf, e.err = nil, nil
	encoders.Put(e)
	return dst
}

// Check says whether m keeps the bounds of its strings and sequences.
func Check(m Message) error {
	e := NewEncoder(nil)
	m.MarshalCDR(e)
	return e.Err()
}

// Unmarshal reads payload, encapsulation header included, into m, reusing m's slices and strings; nothing in m points into payload.
// Bytes behind the message are padding and ignored. After an error m holds part of the message.
func Unmarshal(payload []byte, m Message) error {
	d := decoders.Get().(*Decoder)
	err := d.Reset(payload)
	if err == nil {
		m.UnmarshalCDR(d)
		err = d.Err()
	}
	*d = Decoder{}
	decoders.Put(d)
	return err
}

// Handing an Encoder or Decoder to an interface's method puts it on the heap; these keep it there.
var (
	encoders = sync.Pool{New: func() any { return new(Encoder) }}
	decoders = sync.Pool{New: func() any { return new(Decoder) }}
)

// Resize returns s with length n, reusing its array and the elements in it where it is large enough.
func Resize[S ~[]E, E any](s S, n int) S {
	if n <= cap(s) {
		return s[:n]
	}
	grown := make(S, n)
	copy(grown, s[:cap(s)]) // what the old elements own is reused too
	return grown
}
