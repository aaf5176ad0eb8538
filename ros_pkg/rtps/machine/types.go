package machine

import (
	"errors"
	"net/netip"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

var (
	// ErrFull says that a reliable KeepAll writer holds as many samples as it may that some reader has not acknowledged.
	ErrFull = errors.New("the history is full of samples that a reader has not acknowledged: write more slowly, or find the reader that does not answer")
	// ErrTooLarge says that a sample is longer than Config.MaxSample.
	ErrTooLarge = errors.New("the sample is longer than the participant's limit")
	// ErrClosed says that an endpoint or its participant was closed.
	ErrClosed = errors.New("the endpoint is closed")
)

// SampleIdentity names a sample of the domain.
type SampleIdentity struct {
	Writer   wire.GUID
	Sequence wire.SequenceNumber
}

// Status says what a sample tells about its instance.
type Status uint8

const (
	Alive        Status = 0
	Disposed     Status = 1 // the bits of RTPS 2.5, section 9.6.4.4
	Unregistered Status = 2
)

// Sample is what a reader gets.
type Sample struct {
	Payload     []byte // CDR with its 4 bytes of encapsulation; the receiver may keep and change it
	Writer      wire.GUID
	Sequence    wire.SequenceNumber
	SourceTime  time.Time // zero if the writer told none
	ReceiveTime time.Time
	Related     *SampleIdentity // of a service's request or reply; nil if there is none
	Status      Status

	// From is the source of the datagrams that brought the sample (all of them have the same), and Local the address that the last was sent to, on the
	// interface of index Interface. They are what the kernel says: elsewhere than on this host and in an overlay that checks them, who sends chooses the
	// source. Loopback tells that the source is an address of this host's. The kernel drops what comes from a network with such a source, in IPv4 unless
	// the interface's accept_local is set, in IPv6 by a filter of ours on the socket, which a warning tells of if it cannot be had; in the moment in which
	// an address is new it may be missed. Which program of this host it was, it does not tell. A sample of this participant's own writer never was in a
	// datagram: From is invalid, Own is true.
	From      netip.AddrPort
	Local     netip.AddrPort
	Interface int
	Loopback  bool
	Own       bool
}

// WriteOptions belong to one sample.
type WriteOptions struct {
	SourceTime time.Time       // zero = now
	Related    *SampleIdentity // put into the inline QoS under both parameter ids in use
	To         []wire.GUID     // only these readers get the sample; nil = all
}

// ParticipantInfo is what is known of a participant.
type ParticipantInfo struct {
	Prefix   wire.GuidPrefix
	Vendor   wire.VendorID
	Name     string
	UserData []byte
	Lease    time.Duration
	Unicast  []netip.AddrPort // announced for user data
	Meta     []netip.AddrPort // announced for discovery
	Sources  []netip.AddrPort // where datagrams came from lately
	SameHost bool
	Own      bool // this one
}

// Endpoint is a writer or a reader of the domain. What it points to must not be changed.
type Endpoint struct {
	GUID        wire.GUID
	Participant *ParticipantInfo
	Writer      bool
	Topic       string
	Type        string
	QoS         QoS
	UserData    []byte
}

// Kind of a GraphEvent.
type EventKind uint8

const (
	ParticipantFound EventKind = iota
	ParticipantChanged
	ParticipantLost
	EndpointFound
	EndpointChanged
	EndpointLost
)

// GraphEvent tells of a change of the graph.
type GraphEvent struct {
	Kind        EventKind
	Participant *ParticipantInfo
	Endpoint    *Endpoint // of the endpoint events
	Expired     bool      // lost without a farewell: its lease ran out
}

// Graph is the domain as it is known at one moment, own participant and endpoints included.
type Graph struct {
	Participants []*ParticipantInfo
	Writers      []*Endpoint
	Readers      []*Endpoint
}

// Interface is a network interface to announce on and to be reached at.
type Interface struct {
	Index     int
	Name      string
	Loopback  bool
	Multicast bool // may be used for multicast
	Addrs     []netip.Prefix
}

// Arrival tells where a datagram came from. Who fills it in sees to it that nothing from a network has a source address of this host's.
type Arrival struct {
	From      netip.AddrPort // without zone if it is no link-local address; never IPv4-mapped
	Local     netip.AddrPort // the address it was sent to, which may be a group
	Interface int            // index
}

// Datagram is to be sent.
type Datagram struct {
	To        netip.AddrPort
	Interface int  // of a multicast datagram, its index
	Loopback  bool // that is the loopback interface
	Payload   []byte
}

// WriterConfig describes a writer. The callbacks come in order, one at a time over all of a participant, and may call
// the participant.
type WriterConfig struct {
	Topic, Type string
	QoS         QoS
	UserData    []byte

	Matched      func(e Endpoint, matched bool)
	Incompatible func(e Endpoint, policy string)

	// PayloadFor chooses what one reader gets of a sample: nil = nothing, it is told that the sample does not concern it.
	// It is called whenever the sample is sent to the reader, with the participant locked: it must be quick, must always
	// answer alike and must not call the participant. Without it all readers get the sample as it was written.
	PayloadFor func(sample []byte, reader *Endpoint) []byte

	// MaxSamples and MaxBytes bound the history; 0 means 1,024 samples for KeepAll and 64 MiB, or 8 MiB for KeepAll without durability. One sample fits in
	// any case.
	MaxSamples int
	MaxBytes   int
}

// ReaderConfig describes a reader; see WriterConfig for the callbacks.
type ReaderConfig struct {
	Topic, Type string
	QoS         QoS
	UserData    []byte

	Deliver      func(Sample)
	Matched      func(e Endpoint, matched bool)
	Incompatible func(e Endpoint, policy string)
}
