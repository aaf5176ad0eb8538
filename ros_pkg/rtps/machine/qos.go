package machine

import "time"

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

// Names of policies in which two endpoints do not fit together.
const (
	PolicyType               = "type"
	PolicyReliability        = "reliability"
	PolicyDurability         = "durability"
	PolicyDeadline           = "deadline"
	PolicyLatencyBudget      = "latency_budget"
	PolicyLiveliness         = "liveliness"
	PolicyOwnership          = "ownership"
	PolicyPartition          = "partition"
	PolicyDataRepresentation = "data_representation"
)

// Incompatible names the first policy in which what a writer offers does not satisfy what a reader requests (DDS 1.4,
// section 2.2.3), and is empty if they match. Partitions are compared last: endpoints of different partitions are not
// meant to meet, which is no error.
func Incompatible(offered, requested *QoS) string {
	switch {
	case offered.Reliability < requested.Reliability:
		return PolicyReliability
	case offered.Durability < requested.Durability:
		return PolicyDurability
	case longer(offered.Deadline, requested.Deadline):
		return PolicyDeadline
	case offered.LatencyBudget > requested.LatencyBudget:
		return PolicyLatencyBudget
	case offered.Liveliness < requested.Liveliness, longer(offered.LivelinessLease, requested.LivelinessLease):
		return PolicyLiveliness
	case offered.Exclusive != requested.Exclusive:
		return PolicyOwnership
	case !samePartition(offered.Partition, requested.Partition):
		return PolicyPartition
	}
	return ""
}

// longer compares periods of which 0 is infinite.
func longer(a, b time.Duration) bool {
	return b != 0 && (a == 0 || a > b)
}

// samePartition reports whether two lists of names have one in common. A name may hold the wildcards * and ? on one
// side; the empty list is the partition "".
func samePartition(a, b []string) bool {
	if len(a) == 0 {
		a = []string{""}
	}
	if len(b) == 0 {
		b = []string{""}
	}
	for _, x := range a {
		for _, y := range b {
			if x == y || wild(x) != wild(y) && (glob(x, y) || glob(y, x)) {
				return true
			}
		}
	}
	return false
}

func wild(s string) bool {
	for i := range len(s) {
		if s[i] == '*' || s[i] == '?' {
			return true
		}
	}
	return false
}

// glob matches in time proportional to len(pattern)*len(s) at worst: the names come from the network.
func glob(pattern, s string) bool {
	p, i, star, mark := 0, 0, -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]):
			p++
			i++
		case star >= 0:
			mark++
			p, i = star+1, mark
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

func (q *QoS) depth() int {
	if q.Depth <= 0 {
		return 1
	}
	return q.Depth
}
