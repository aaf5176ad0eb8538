package wire

import (
	"reflect"
	"testing"
	"time"
)

// TestIncompatible is the table of policies in DDS 1.4, 2.2.3: for each, what a writer may offer to what request.
func TestIncompatible(t *testing.T) {
	type set func(q *QoS)
	reliability := func(k ReliabilityKind) set { return func(q *QoS) { q.Reliability.Kind = k } }
	durability := func(k DurabilityKind) set { return func(q *QoS) { q.Durability = k } }
	deadline := func(d time.Duration) set { return func(q *QoS) { q.Deadline = d } }
	latency := func(d time.Duration) set { return func(q *QoS) { q.LatencyBudget = d } }
	liveliness := func(k LivelinessKind, d time.Duration) set { return func(q *QoS) { q.Liveliness = Liveliness{k, d} } }
	ownership := func(k OwnershipKind) set { return func(q *QoS) { q.Ownership = k } }
	order := func(k DestinationOrderKind) set { return func(q *QoS) { q.DestinationOrder = k } }
	presentation := func(p Presentation) set { return func(q *QoS) { q.Presentation = p } }
	represent := func(r ...Representation) set { return func(q *QoS) { q.Representations = r } }
	both := func(f ...set) set {
		return func(q *QoS) {
			for _, f := range f {
				f(q)
			}
		}
	}
	none := both()
	for _, test := range []struct {
		name               string
		offered, requested set
		want               Policy
	}{
		{"the defaults", none, none, PolicyNone},
		{"reliable to best effort", reliability(Reliable), reliability(BestEffort), PolicyNone},
		{"reliable to reliable", reliability(Reliable), reliability(Reliable), PolicyNone},
		{"best effort to reliable", reliability(BestEffort), reliability(Reliable), PolicyReliability},
		{"volatile to transient local", durability(Volatile), durability(TransientLocal), PolicyDurability},
		{"transient local to volatile", durability(TransientLocal), durability(Volatile), PolicyNone},
		{"transient local to transient", durability(TransientLocal), durability(Transient), PolicyDurability},
		{"persistent to transient", durability(Persistent), durability(Transient), PolicyNone},
		{"no deadline to a deadline", none, deadline(time.Second), PolicyDeadline},
		{"a longer deadline", deadline(2 * time.Second), deadline(time.Second), PolicyDeadline},
		{"a shorter deadline", deadline(time.Second), deadline(2 * time.Second), PolicyNone},
		{"a longer latency budget", latency(2), latency(1), PolicyLatencyBudget},
		{"a shorter latency budget", latency(1), latency(Infinite), PolicyNone},
		{"liveliness that nobody asked for", liveliness(ManualByTopic, time.Second), none, PolicyNone},
		{"a weaker liveliness", liveliness(Automatic, 1), liveliness(ManualByTopic, Infinite), PolicyLiveliness},
		{"a longer lease", liveliness(Automatic, Infinite), liveliness(Automatic, time.Second), PolicyLiveliness},
		{"shared and exclusive", ownership(Shared), ownership(Exclusive), PolicyOwnership},
		{"exclusive and shared", ownership(Exclusive), ownership(Shared), PolicyOwnership},
		{"exclusive and exclusive", ownership(Exclusive), ownership(Exclusive), PolicyNone},
		{"by reception to by source", order(ByReceptionTime), order(BySourceTime), PolicyDestinationOrder},
		{"by source to by reception", order(BySourceTime), order(ByReceptionTime), PolicyNone},
		{"a smaller scope", presentation(Presentation{Scope: InstanceScope}), presentation(Presentation{Scope: GroupScope}), PolicyPresentation},
		{"a larger scope", presentation(Presentation{Scope: TopicScope}), presentation(Presentation{}), PolicyNone},
		{"no coherent access", presentation(Presentation{}), presentation(Presentation{Coherent: true}), PolicyPresentation},
		{"no ordered access", presentation(Presentation{Coherent: true}), presentation(Presentation{Ordered: true}), PolicyPresentation},
		{"XCDR1 to nothing said", represent(XCDR1), none, PolicyNone},
		{"XCDR2 to nothing said", represent(XCDR2), none, PolicyDataRepresentation},
		{"nothing said to XCDR2", none, represent(XCDR2), PolicyDataRepresentation},
		{"the first offered counts", represent(XCDR2, XCDR1), represent(XCDR1), PolicyDataRepresentation},
		{"any requested counts", represent(XCDR2), represent(XCDR1, XCDR2), PolicyNone},
		{"the first of several", both(reliability(BestEffort), ownership(Exclusive)), both(reliability(Reliable), durability(Transient)), PolicyReliability},
	} {
		offered, requested := DefaultQoS(true), DefaultQoS(false)
		test.offered(&offered)
		test.requested(&requested)
		if got := Incompatible(&offered, &requested); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
	for p := range Policy(30) {
		if p.String() == "" {
			t.Error("a policy without name")
		}
	}
}

// TestPartitions is DDS 1.4, 2.2.3.13.
func TestPartitions(t *testing.T) {
	list := func(s ...string) []string { return s }
	for _, test := range []struct {
		a, b []string
		want bool
	}{
		{nil, nil, true}, {nil, list(""), true}, {list("a"), nil, false}, {list("a"), list("b", "a"), true}, {list("a"), list("A"), false},
		{list("*"), nil, true}, {list("a*"), list("abc"), true}, {list("a*c"), list("abbc"), true}, {list("a*c"), list("abbd"), false},
		{list("*b*"), list("abc"), true}, {list("?"), list("x"), true}, {list("?"), nil, false}, {list("?b"), list("ab"), true}, {list("ab"), list("?b"), true},
		{list("a*"), list("a*"), false}, {list("[a-c]x"), list("bx"), true}, {list("[a-c]x"), list("dx"), false}, {list("[!a-c]x"), list("dx"), true},
		{list("[]x]"), list("]"), true}, {list("[a"), list("[a"), false}, {list("[a"), list("b"), false}, {list(`\*`), list("*"), false},
		{list("a**b"), list("ab"), true}, {list("*a*b*c*"), list("xxaxxbxxcxx"), true}, {list("*a*b*c*"), list("xxaxxcxxbxx"), false},
		{list("a["), list("ab"), false}, {list(`*\`), list(`x\`), true}, {list(`\a*`), list("ab"), true},
	} {
		if got := PartitionsMatch(test.a, test.b); got != test.want {
			t.Errorf("%q and %q: %v", test.a, test.b, got)
		}
		if got := PartitionsMatch(test.b, test.a); got != test.want {
			t.Errorf("%q and %q: %v", test.b, test.a, got)
		}
	}
}

// TestQoSOnTheWire writes policies that are all unlike their defaults and reads them again, in both byte orders.
func TestQoSOnTheWire(t *testing.T) {
	q := QoS{
		Reliability:       Reliability{Reliable, time.Second},
		Durability:        TransientLocal,
		DurabilityService: DurabilityService{time.Minute, History{KeepAll, 9}, ResourceLimits{1, 2, 3}},
		History:           History{KeepAll, 7},
		Limits:            ResourceLimits{10, 20, 30},
		Deadline:          time.Second,
		LatencyBudget:     2 * time.Second,
		Lifespan:          3 * time.Second,
		MinSeparation:     4 * time.Second,
		Liveliness:        Liveliness{ManualByTopic, 5 * time.Second},
		Ownership:         Exclusive,
		OwnershipStrength: -6,
		DestinationOrder:  BySourceTime,
		Presentation:      Presentation{GroupScope, true, true},
		TransportPriority: 8,
		Partitions:        []string{"", "a", "bcd*", "efgh"},
		Representations:   []Representation{XCDR2, XCDR1, XML},
	}
	for _, big := range []bool{false, true} {
		for _, writer := range []bool{false, true} {
			want := q
			if d := DefaultQoS(writer); writer {
				want.MinSeparation = d.MinSeparation
			} else {
				want.Lifespan, want.OwnershipStrength, want.TransportPriority, want.DurabilityService = d.Lifespan, d.OwnershipStrength, d.TransportPriority, d.DurabilityService
			}
			w := NewParameterWriter(nil, big)
			w.QoS(&q, writer)
			w.Sentinel()
			got := DefaultQoS(writer)
			c := ParameterList{w.Bytes(), big}.Parameters()
			for p, ok := c.Next(); ok; p, ok = c.Next() {
				if known, err := got.parse(p); !known || err != nil {
					t.Errorf("parameter %04x: %v %v", p.ID, known, err)
				}
			}
			if c.Err() != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%v\n%+v, want\n%+v", c.Err(), got, want)
			}
		}
	}
}

// TestQoSRefused are values that no policy has.
func TestQoSRefused(t *testing.T) {
	for _, test := range []struct {
		id    PID
		value string
	}{
		{PIDReliability, "00000000 0000000000000000"}, {PIDReliability, "03000000 0000000000000000"}, {PIDReliability, ""},
		{PIDDurability, "04000000"}, {PIDHistory, "02000000 01000000"}, {PIDHistory, "00000000"}, {PIDLiveliness, "03000000 0000000000000000"},
		{PIDLiveliness, "00000000"}, {PIDOwnership, "02000000"}, {PIDDestinationOrder, "02000000"}, {PIDPresentation, "03000000 00000000"},
		{PIDPresentation, "01000000"}, {PIDDeadline, "ffffffff 00000000"}, {PIDLifespan, "00000000"}, {PIDResourceLimits, "01000000"},
		{PIDPartition, "ffffffff"}, {PIDPartition, "02000000 02000000 61000000"}, {PIDDataRepresentation, "ffffffff"}, {PIDDataRepresentation, "03000000 00000000"},
		{PIDDurabilityService, "00000000 00000000 00000000"},
	} {
		q := DefaultQoS(true)
		if known, err := q.parse(Parameter{ID: test.id, Value: unhex(t, test.value)}); !known || err == nil {
			t.Errorf("parameter %04x %s: %v %v", test.id, test.value, known, err)
		}
	}
	// A sender may leave the blocking time out.
	q := DefaultQoS(false)
	if _, err := q.parse(Parameter{ID: PIDReliability, Value: unhex(t, "02000000")}); err != nil || q.Reliability.Kind != Reliable {
		t.Error(err)
	}
}
