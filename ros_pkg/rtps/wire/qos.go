package wire

import "time"

// ReliabilityKind is whether lost samples are sent again. Values as on the wire (9.6.2.2.2).
type ReliabilityKind uint32

// Kinds of reliability, the weaker first. Zero is none of them.
const (
	BestEffort ReliabilityKind = 1
	Reliable   ReliabilityKind = 2
)

// DurabilityKind is what of the past a late reader gets.
type DurabilityKind uint32

// Kinds of durability, the weaker first.
const (
	Volatile DurabilityKind = iota
	TransientLocal
	Transient
	Persistent
)

// HistoryKind is how much is kept.
type HistoryKind uint32

// Kinds of history.
const (
	KeepLast HistoryKind = iota
	KeepAll
)

// LivelinessKind is who asserts that a writer lives.
type LivelinessKind uint32

// Kinds of liveliness, the weaker first.
const (
	Automatic LivelinessKind = iota
	ManualByParticipant
	ManualByTopic
)

// OwnershipKind is whether several writers write one instance.
type OwnershipKind uint32

// Kinds of ownership.
const (
	Shared OwnershipKind = iota
	Exclusive
)

// DestinationOrderKind is by which time a reader orders.
type DestinationOrderKind uint32

// Kinds of destination order, the weaker first.
const (
	ByReceptionTime DestinationOrderKind = iota
	BySourceTime
)

// AccessScope is how far a presentation reaches.
type AccessScope uint32

// Scopes, the smaller first.
const (
	InstanceScope AccessScope = iota
	TopicScope
	GroupScope
)

// Representation is how samples are encoded (DDS-XTypes 1.3, 7.6.3.1.1).
type Representation int16

// Representations.
const (
	XCDR1 Representation = 0
	XML   Representation = 1
	XCDR2 Representation = 2
)

// Unlimited is the value of a limit that is none.
const Unlimited int32 = -1

// Reliability is the policy RELIABILITY.
type Reliability struct {
	Kind        ReliabilityKind
	MaxBlocking time.Duration // how long a write may wait; of no meaning to the other side
}

// History is the policy HISTORY. Depth counts for KeepLast.
type History struct {
	Kind  HistoryKind
	Depth int32
}

// Liveliness is the policy LIVELINESS.
type Liveliness struct {
	Kind  LivelinessKind
	Lease time.Duration
}

// Presentation is the policy PRESENTATION.
type Presentation struct {
	Scope             AccessScope
	Coherent, Ordered bool
}

// ResourceLimits is the policy RESOURCE_LIMITS.
type ResourceLimits struct{ Samples, Instances, SamplesPerInstance int32 }

// DurabilityService is the policy DURABILITY_SERVICE.
type DurabilityService struct {
	CleanupDelay time.Duration
	History      History
	Limits       ResourceLimits
}

// QoS are the policies of an endpoint that travel in discovery data. The zero value is not valid: begin with
// [DefaultQoS].
type QoS struct {
	Reliability       Reliability
	Durability        DurabilityKind
	DurabilityService DurabilityService
	History           History
	Limits            ResourceLimits
	Deadline          time.Duration
	LatencyBudget     time.Duration
	Lifespan          time.Duration // of a writer's samples
	MinSeparation     time.Duration // of a reader's samples: TIME_BASED_FILTER
	Liveliness        Liveliness
	Ownership         OwnershipKind
	OwnershipStrength int32
	DestinationOrder  DestinationOrderKind
	Presentation      Presentation
	TransportPriority int32
	Partitions        []string         // none: the one named ""
	Representations   []Representation // none: XCDR1
}

// DefaultQoS is what an endpoint has that does not say otherwise (DDS 1.4, 2.2.3): a writer is reliable, a reader best
// effort. Fast DDS from 3.3 on and Cyclone DDS say only what differs from it.
func DefaultQoS(writer bool) QoS {
	unlimited := ResourceLimits{Unlimited, Unlimited, Unlimited}
	q := QoS{
		Reliability:       Reliability{BestEffort, 100 * time.Millisecond},
		DurabilityService: DurabilityService{History: History{KeepLast, 1}, Limits: unlimited},
		History:           History{KeepLast, 1},
		Limits:            unlimited,
		Deadline:          Infinite,
		Lifespan:          Infinite,
		Liveliness:        Liveliness{Automatic, Infinite},
	}
	if writer {
		q.Reliability.Kind = Reliable
	}
	return q
}

// Policy names a QoS policy by the number it has in DDS (DDS 1.4, 2.3.3 QosPolicyId_t).
type Policy int

// Policies that can make a writer and a reader incompatible.
const (
	PolicyNone               Policy = 0
	PolicyDurability         Policy = 2
	PolicyPresentation       Policy = 3
	PolicyDeadline           Policy = 4
	PolicyLatencyBudget      Policy = 5
	PolicyOwnership          Policy = 6
	PolicyLiveliness         Policy = 8
	PolicyReliability        Policy = 11
	PolicyDestinationOrder   Policy = 12
	PolicyDataRepresentation Policy = 23
)

// String is the name in the DDS specification, as ROS 2 writes it.
func (p Policy) String() string {
	switch p {
	case PolicyNone:
		return "none"
	case PolicyDurability:
		return "DURABILITY"
	case PolicyPresentation:
		return "PRESENTATION"
	case PolicyDeadline:
		return "DEADLINE"
	case PolicyLatencyBudget:
		return "LATENCY_BUDGET"
	case PolicyOwnership:
		return "OWNERSHIP"
	case PolicyLiveliness:
		return "LIVELINESS"
	case PolicyReliability:
		return "RELIABILITY"
	case PolicyDestinationOrder:
		return "DESTINATION_ORDER"
	case PolicyDataRepresentation:
		return "DATA_REPRESENTATION"
	}
	return "unknown"
}

// Incompatible returns the first policy in which what a writer offers is less than what a reader requests (DDS 1.4,
// 2.2.3, table of RxO policies; DDS-XTypes 1.3, 7.6.3.1.2), or PolicyNone. Partitions are not among them: see
// [PartitionsMatch].
func Incompatible(offered, requested *QoS) Policy {
	o, r := offered, requested
	switch {
	case o.Reliability.Kind < r.Reliability.Kind:
		return PolicyReliability
	case o.Durability < r.Durability:
		return PolicyDurability
	case o.Deadline > r.Deadline:
		return PolicyDeadline
	case o.Liveliness.Kind < r.Liveliness.Kind, o.Liveliness.Lease > r.Liveliness.Lease:
		return PolicyLiveliness
	case o.Ownership != r.Ownership:
		return PolicyOwnership
	case o.Presentation.Scope < r.Presentation.Scope,
		r.Presentation.Coherent && !o.Presentation.Coherent,
		r.Presentation.Ordered && !o.Presentation.Ordered:
		return PolicyPresentation
	case o.LatencyBudget > r.LatencyBudget:
		return PolicyLatencyBudget
	case o.DestinationOrder < r.DestinationOrder:
		return PolicyDestinationOrder
	case !represented(o.Representations, r.Representations):
		return PolicyDataRepresentation
	}
	return PolicyNone
}

// represented says that the reader takes what the writer sends, which is the first that it offers.
func represented(offered, requested []Representation) bool {
	sent := XCDR1
	if len(offered) > 0 {
		sent = offered[0]
	}
	if len(requested) == 0 {
		return sent == XCDR1
	}
	for _, r := range requested {
		if r == sent {
			return true
		}
	}
	return false
}

// PartitionsMatch says that two endpoints share a partition (DDS 1.4, 2.2.3.13): one name of a side equals one of the
// other, or matches it as a pattern with *, ? and [set] as fnmatch has them. Two patterns do not match each other.
func PartitionsMatch(a, b []string) bool {
	if len(a) == 0 {
		a = defaultPartition
	}
	if len(b) == 0 {
		b = defaultPartition
	}
	for _, x := range a {
		for _, y := range b {
			px, py := isPattern(x), isPattern(y)
			if x == y && !px || px && !py && glob(x, y) || py && !px && glob(y, x) {
				return true
			}
		}
	}
	return false
}

var defaultPartition = []string{""}

func isPattern(s string) bool {
	for i := range len(s) {
		if s[i] == '*' || s[i] == '?' || s[i] == '[' {
			return true
		}
	}
	return false
}

// glob goes back to the last star only, so that its time is at most the product of the two lengths.
func glob(pattern, s string) bool {
	star, from := -1, 0
	p, i := 0, 0
	for i < len(s) {
		if p < len(pattern) {
			if pattern[p] == '*' {
				star, from = p, i
				p++
				continue
			}
			if n, ok := globOne(pattern[p:], s[i]); ok {
				p += n
				i++
				continue
			}
		}
		if star < 0 {
			return false
		}
		from++
		p, i = star+1, from
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// globOne matches one character, and returns the length of the pattern's part for it.
func globOne(pattern string, c byte) (int, bool) {
	switch pattern[0] {
	case '?':
		return 1, true
	case '\\':
		if len(pattern) > 1 {
			return 2, pattern[1] == c
		}
	case '[':
		i := 1
		not := i < len(pattern) && (pattern[i] == '!' || pattern[i] == '^')
		if not {
			i++
		}
		found := false
		for first := true; i < len(pattern) && (first || pattern[i] != ']'); first = false {
			low, high := pattern[i], pattern[i]
			if i+2 < len(pattern) && pattern[i+1] == '-' && pattern[i+2] != ']' {
				high = pattern[i+2]
				i += 2
			}
			i++
			found = found || low <= c && c <= high
		}
		if i < len(pattern) {
			return i + 1, found != not
		}
	}
	return 1, pattern[0] == c
}
