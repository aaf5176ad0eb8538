package rtps

import "github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/machine"

// The types of package machine that are part of the API; see there.
type (
	QoS             = machine.QoS
	Sample          = machine.Sample
	SampleIdentity  = machine.SampleIdentity
	Status          = machine.Status
	WriteOptions    = machine.WriteOptions
	Endpoint        = machine.Endpoint
	ParticipantInfo = machine.ParticipantInfo
	WriterConfig    = machine.WriterConfig
	ReaderConfig    = machine.ReaderConfig
	Graph           = machine.Graph
	GraphEvent      = machine.GraphEvent
	Counters        = machine.Counters
	Limits          = machine.Limits
)

// Values of QoS.
const (
	BestEffort          = machine.BestEffort
	Reliable            = machine.Reliable
	Volatile            = machine.Volatile
	TransientLocal      = machine.TransientLocal
	Transient           = machine.Transient
	Persistent          = machine.Persistent
	KeepLast            = machine.KeepLast
	KeepAll             = machine.KeepAll
	Automatic           = machine.Automatic
	ManualByParticipant = machine.ManualByParticipant
	ManualByTopic       = machine.ManualByTopic
)

// Values of Sample.Status.
const (
	Alive        = machine.Alive
	Disposed     = machine.Disposed
	Unregistered = machine.Unregistered
)

// Kinds of GraphEvent.
const (
	ParticipantFound   = machine.ParticipantFound
	ParticipantChanged = machine.ParticipantChanged
	ParticipantLost    = machine.ParticipantLost
	EndpointFound      = machine.EndpointFound
	EndpointChanged    = machine.EndpointChanged
	EndpointLost       = machine.EndpointLost
)

// Errors of Write.
var (
	ErrFull     = machine.ErrFull
	ErrTooLarge = machine.ErrTooLarge
	ErrClosed   = machine.ErrClosed
)

// Policy says on which interfaces a participant is.
type Policy uint8

const (
	AllInterfaces Policy = iota // loopback only where there is nothing else
	LocalhostOnly
	Off // no network at all: only own writers and readers meet
)
