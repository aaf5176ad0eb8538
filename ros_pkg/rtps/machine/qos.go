package machine

import (
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// Reliability says whether lost samples are sent again.
type Reliability uint8

const (
	BestEffort Reliability = iota
	Reliable
)

// Durability says what a reader that comes late still gets.
type Durability uint8

const (
	Volatile Durability = iota
	TransientLocal
	Transient
	Persistent
)

// History says how many samples a writer keeps for its readers.
type History uint8

const (
	KeepLast History = iota // the newest QoS.Depth
	KeepAll                 // all, within the bounds of WriterConfig
)

// Liveliness says who asserts that a writer is alive.
type Liveliness uint8

const (
	Automatic Liveliness = iota
	ManualByParticipant
	ManualByTopic
)

// QoS are the policies of an endpoint. The zero value is best effort, volatile, keep last 1. A duration of 0 means
// infinite.
type QoS struct {
	Reliability Reliability
	Durability  Durability
	History     History
	Depth       int // of KeepLast; 0 means 1

	Deadline        time.Duration
	LatencyBudget   time.Duration // 0 means 0
	Lifespan        time.Duration // of a writer's samples
	Liveliness      Liveliness
	LivelinessLease time.Duration
	Exclusive       bool // ownership
	Partition       []string

	// MaxBlocking is how long Write waits for room in the history of a reliable KeepAll writer. 0 means 100 ms.
	MaxBlocking time.Duration
}

// PolicyType is named where two endpoints of a topic have different types. Else the policy is named as wire.Policy does.
const PolicyType = "TYPE"

// incompatible names what keeps a writer and a reader of one topic apart; apart without a name, they are in different
// partitions and not meant to meet.
func incompatible(w, r *wire.QoS, sameType bool) (policy string, match bool) {
	if !wire.PartitionsMatch(w.Partitions, r.Partitions) {
		return "", false
	}
	if !sameType {
		return PolicyType, false
	}
	if p := wire.Incompatible(w, r); p != wire.PolicyNone {
		return p.String(), false
	}
	return "", true
}

func infinite(d time.Duration) time.Duration {
	if d == 0 {
		return wire.Infinite
	}
	return d
}

func finite(d time.Duration) time.Duration {
	if d == wire.Infinite {
		return 0
	}
	return d
}

// wire is what is announced.
func (q *QoS) wire(writer bool) wire.QoS {
	w := wire.DefaultQoS(writer)
	w.Reliability.Kind = wire.BestEffort
	if q.Reliability == Reliable {
		w.Reliability.Kind = wire.Reliable
	}
	if q.MaxBlocking > 0 {
		w.Reliability.MaxBlocking = q.MaxBlocking
	}
	w.Durability = wire.DurabilityKind(q.Durability)
	w.History = wire.History{Kind: wire.HistoryKind(q.History), Depth: int32(min(q.depth(), 1<<30))}
	w.Deadline, w.LatencyBudget, w.Lifespan = infinite(q.Deadline), q.LatencyBudget, infinite(q.Lifespan)
	w.Liveliness = wire.Liveliness{Kind: wire.LivelinessKind(q.Liveliness), Lease: infinite(q.LivelinessLease)}
	if q.Exclusive {
		w.Ownership = wire.Exclusive
	}
	w.Partitions = q.Partition
	return w
}

// announced is what another one announced.
func announced(w *wire.QoS) QoS {
	q := QoS{
		Durability: Durability(w.Durability), History: History(w.History.Kind), Depth: int(w.History.Depth),
		Deadline: finite(w.Deadline), LatencyBudget: w.LatencyBudget, Lifespan: finite(w.Lifespan),
		Liveliness: Liveliness(w.Liveliness.Kind), LivelinessLease: finite(w.Liveliness.Lease),
		Exclusive: w.Ownership == wire.Exclusive, Partition: w.Partitions, MaxBlocking: w.Reliability.MaxBlocking,
	}
	if w.Reliability.Kind == wire.Reliable {
		q.Reliability = Reliable
	}
	return q
}

func (q *QoS) depth() int {
	if q.Depth <= 0 {
		return 1
	}
	return q.Depth
}
