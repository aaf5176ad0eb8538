package wire

import (
	"fmt"
	"math"
)

// Bounds of what discovery data may contain. More is refused or, where it says so, left out and counted.
const (
	MaxName            = 1024  // bytes of a topic's, type's, entity's or partition's name
	MaxUserData        = 16384 // bytes of USER_DATA, TOPIC_DATA or GROUP_DATA
	MaxLocators        = 32    // of one kind; the rest is left out
	MaxProperties      = 64    // the rest is left out
	MaxPartitions      = 64    // names of one endpoint
	MaxRepresentations = 16
)

func (r *in) history() (h History) {
	h.Kind, h.Depth = HistoryKind(r.u32()), int32(r.u32())
	r.bad = r.bad || h.Kind > KeepAll
	return h
}

func (r *in) limits() ResourceLimits {
	return ResourceLimits{int32(r.u32()), int32(r.u32()), int32(r.u32())}
}

// atMost reads an enumeration. A value that no specification knows is an error, since nobody could match it rightly.
func (r *in) atMost(limit uint32) uint32 {
	v := r.u32()
	r.bad = r.bad || v > limit
	return v
}

// parse reads one parameter if it is a policy's. known is false if it is none.
func (q *QoS) parse(p Parameter) (known bool, err error) {
	r := p.in()
	switch p.ID {
	case PIDReliability:
		q.Reliability.Kind = ReliabilityKind(r.u32())
		if len(r.b) > 0 {
			q.Reliability.MaxBlocking = r.duration()
		}
		r.bad = r.bad || q.Reliability.Kind != BestEffort && q.Reliability.Kind != Reliable
	case PIDDurability:
		q.Durability = DurabilityKind(r.atMost(uint32(Persistent)))
	case PIDDurabilityService:
		q.DurabilityService = DurabilityService{CleanupDelay: r.duration(), History: r.history(), Limits: r.limits()}
	case PIDHistory:
		q.History = r.history()
	case PIDResourceLimits:
		q.Limits = r.limits()
	case PIDDeadline:
		q.Deadline = r.duration()
	case PIDLatencyBudget:
		q.LatencyBudget = r.duration()
	case PIDLifespan:
		q.Lifespan = r.duration()
	case PIDTimeBasedFilter:
		q.MinSeparation = r.duration()
	case PIDLiveliness:
		q.Liveliness.Kind = LivelinessKind(r.atMost(uint32(ManualByTopic)))
		q.Liveliness.Lease = r.duration()
	case PIDOwnership:
		q.Ownership = OwnershipKind(r.atMost(uint32(Exclusive)))
	case PIDOwnershipStrength:
		q.OwnershipStrength = int32(r.u32())
	case PIDDestinationOrder:
		q.DestinationOrder = DestinationOrderKind(r.atMost(uint32(BySourceTime)))
	case PIDPresentation:
		q.Presentation.Scope = AccessScope(r.atMost(uint32(GroupScope)))
		flags := r.take(2)
		q.Presentation.Coherent = len(flags) == 2 && flags[0] != 0
		q.Presentation.Ordered = len(flags) == 2 && flags[1] != 0
	case PIDTransportPriority:
		q.TransportPriority = int32(r.u32())
	case PIDPartition:
		q.Partitions = r.partitions()
	case PIDDataRepresentation:
		q.Representations = r.representations()
	default:
		return false, nil
	}
	if r.bad {
		return true, badParameter(p.ID)
	}
	return true, nil
}

func badParameter(id PID) error { return fmt.Errorf("parameter 0x%04x: %w", uint16(id), ErrMalformed) }

func (r *in) partitions() []string {
	n := r.u32()
	if n > MaxPartitions {
		r.bad = true
		return nil
	}
	var names []string
	for range n {
		r.align(4)
		names = append(names, r.text(MaxName))
		if r.bad {
			return nil
		}
	}
	return names
}

func (r *in) representations() []Representation {
	n := r.u32()
	if n > MaxRepresentations {
		r.bad = true
		return nil
	}
	var list []Representation
	for range n {
		list = append(list, Representation(r.u16()))
	}
	if r.bad {
		return nil
	}
	return list
}

func (w *out) history(h History) {
	w.u32(uint32(h.Kind))
	w.u32(uint32(h.Depth))
}

func (w *out) limits(l ResourceLimits) {
	w.u32(uint32(l.Samples))
	w.u32(uint32(l.Instances))
	w.u32(uint32(l.SamplesPerInstance))
}

// QoS writes all policies, also those that have their default value: what an older implementation makes of a missing
// one is its own affair. Partitions and representations are written if there are any. A lifespan is a writer's, a
// separation a reader's.
func (w *ParameterWriter) QoS(q *QoS, writer bool) {
	at := w.begin(PIDReliability)
	w.w.u32(uint32(q.Reliability.Kind))
	w.w.duration(q.Reliability.MaxBlocking)
	w.end(at)
	w.Uint32(PIDDurability, uint32(q.Durability))
	w.Duration(PIDDeadline, q.Deadline)
	w.Duration(PIDLatencyBudget, q.LatencyBudget)
	at = w.begin(PIDLiveliness)
	w.w.u32(uint32(q.Liveliness.Kind))
	w.w.duration(q.Liveliness.Lease)
	w.end(at)
	w.Uint32(PIDOwnership, uint32(q.Ownership))
	w.Uint32(PIDDestinationOrder, uint32(q.DestinationOrder))
	at = w.begin(PIDPresentation)
	w.w.u32(uint32(q.Presentation.Scope))
	w.w.b = append(w.w.b, bit(q.Presentation.Coherent), bit(q.Presentation.Ordered))
	w.end(at)
	at = w.begin(PIDHistory)
	w.w.history(q.History)
	w.end(at)
	at = w.begin(PIDResourceLimits)
	w.w.limits(q.Limits)
	w.end(at)
	if writer {
		w.Duration(PIDLifespan, q.Lifespan)
		w.Uint32(PIDOwnershipStrength, uint32(q.OwnershipStrength))
		w.Uint32(PIDTransportPriority, uint32(q.TransportPriority))
		at = w.begin(PIDDurabilityService)
		w.w.duration(q.DurabilityService.CleanupDelay)
		w.w.history(q.DurabilityService.History)
		w.w.limits(q.DurabilityService.Limits)
		w.end(at)
	} else {
		w.Duration(PIDTimeBasedFilter, q.MinSeparation)
	}
	if len(q.Partitions) > 0 {
		at = w.begin(PIDPartition)
		w.w.u32(uint32(len(q.Partitions)))
		for _, name := range q.Partitions {
			w.w.pad(at)
			w.w.text(name)
		}
		w.end(at)
	}
	if n := len(q.Representations); n > 0 && n <= math.MaxUint16 {
		at = w.begin(PIDDataRepresentation)
		w.w.u32(uint32(n))
		for _, r := range q.Representations {
			w.w.u16(uint16(r))
		}
		w.end(at)
	}
}

func bit(v bool) byte {
	if v {
		return 1
	}
	return 0
}
