package wire

import (
	"bytes"
	"reflect"
	"slices"
	"testing"
)

func seeds(f *testing.F) []*Data {
	var list []*Data
	for _, b := range captured(f) {
		r, err := NewReader(b)
		if err != nil {
			f.Fatal(err)
		}
		for s, ok := r.Next(); ok; s, ok = r.Next() {
			if d, ok := s.(*Data); ok {
				list = append(list, keep(d).(*Data))
			}
		}
	}
	return list
}

// FuzzMessage reads anything; what is valid means the same when written again, in either byte order.
func FuzzMessage(f *testing.F) {
	for _, b := range captured(f) {
		f.Add(b)
	}
	for _, e := range examples {
		f.Add(unhex(f, headerHex+e.big))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := NewReader(b)
		if err != nil {
			return
		}
		for _, big := range []bool{false, true} {
			w := NewBuilder(nil, r.Header())
			w.BigEndian = big
			var want []Submessage
			if err := r.Reset(b); err != nil {
				t.Fatal(err)
			}
			for s, ok := r.Next(); ok; s, ok = r.Next() {
				w.Add(s)
				if w.Err() != nil {
					return // only for its length
				}
				want = append(want, keep(s))
			}
			var again MessageReader
			if err := again.Reset(w.Bytes()); err != nil {
				t.Fatal(err)
			}
			for _, x := range want {
				y, ok := again.Next()
				if !ok || !same(x, y) {
					t.Fatalf("%v %+v became %v %+v, %v", x.ID(), x, ok, y, again.Err())
				}
			}
			if s, ok := again.Next(); ok || again.Err() != nil {
				t.Fatalf("then %v, %v", s, again.Err())
			}
		}
	})
}

func same(x, y Submessage) bool {
	switch x := x.(type) {
	case *Data:
		y, ok := y.(*Data)
		if !ok || !bytes.HasPrefix(y.Payload, x.Payload) || len(y.Payload)-len(x.Payload) > 3 || !bytes.Equal(x.InlineQoS.Bytes, y.InlineQoS.Bytes) {
			return false
		}
		a, b := *x, *y
		a.Payload, b.Payload, a.InlineQoS, b.InlineQoS = nil, nil, ParameterList{}, ParameterList{}
		return reflect.DeepEqual(a, b)
	case *DataFrag:
		y, ok := y.(*DataFrag)
		if !ok || !bytes.Equal(x.Payload, y.Payload) || !bytes.Equal(x.InlineQoS.Bytes, y.InlineQoS.Bytes) {
			return false
		}
		a, b := *x, *y
		a.Payload, b.Payload, a.InlineQoS, b.InlineQoS = nil, nil, ParameterList{}, ParameterList{}
		return reflect.DeepEqual(a, b)
	case *InfoReply:
		y, ok := y.(*InfoReply)
		return ok && slices.Equal(locatorsOf(x.Unicast), locatorsOf(y.Unicast)) && slices.Equal(locatorsOf(x.Multicast), locatorsOf(y.Multicast))
	}
	return reflect.DeepEqual(x, y)
}

func locatorsOf(l LocatorList) (list []Locator) {
	for i := range l.Len() {
		list = append(list, l.At(i))
	}
	return list
}

// FuzzParticipant reads anything as participant data; what is valid means the same when written again.
func FuzzParticipant(f *testing.F) {
	for _, d := range seeds(f) {
		if d.Writer == EntitySPDPWriter {
			f.Add(d.Payload)
		}
	}
	full := participant()
	f.Add(full.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := ParseParticipant(b)
		if err != nil || len(b) > 30_000 {
			return
		}
		again, err := ParseParticipant(d.Append(nil))
		again.Unknown, again.Dropped, again.Secure = d.Unknown, d.Dropped, d.Secure
		if err != nil || !reflect.DeepEqual(d, again) {
			t.Fatalf("%v\n%+v became\n%+v", err, d, again)
		}
	})
}

// FuzzEndpoint reads anything as endpoint data; what is valid means the same when written again.
func FuzzEndpoint(f *testing.F) {
	for _, d := range seeds(f) {
		if d.Writer == EntitySEDPPublicationsWriter || d.Writer == EntitySEDPSubscriptionsWriter {
			f.Add(d.Payload, d.Writer == EntitySEDPPublicationsWriter)
		}
	}
	for _, writer := range []bool{false, true} {
		full := endpoint(writer)
		f.Add(full.Append(nil), writer)
	}
	f.Fuzz(func(t *testing.T, b []byte, writer bool) {
		d, err := ParseEndpoint(b, writer)
		if err != nil || len(b) > 30_000 {
			return
		}
		if writer { // what the other kind has is read and not written
			d.QoS.MinSeparation = 0
		} else {
			def := DefaultQoS(false)
			d.QoS.Lifespan, d.QoS.OwnershipStrength, d.QoS.TransportPriority, d.QoS.DurabilityService = def.Lifespan, 0, 0, def.DurabilityService
		}
		again, err := ParseEndpoint(d.Append(nil), writer)
		again.Unknown, again.Dropped, again.TypeInformation, again.ContentFiltered = d.Unknown, d.Dropped, d.TypeInformation, d.ContentFiltered
		if err != nil || !reflect.DeepEqual(d, again) {
			t.Fatalf("%v\n%+v became\n%+v", err, d, again)
		}
		other := DefaultQoS(!writer)
		Incompatible(&d.QoS, &other)
		Incompatible(&other, &d.QoS)
		PartitionsMatch(d.QoS.Partitions, []string{"a", "*", "[x-z]?"})
	})
}

// FuzzInlineQoS reads anything as a parameter list.
func FuzzInlineQoS(f *testing.F) {
	for _, d := range seeds(f) {
		if !d.InlineQoS.Empty() {
			f.Add(d.InlineQoS.Bytes, false)
		}
	}
	f.Add(AppendInlineQoS(nil, InlineQoS{HasRelated: true, Related: SampleIdentity{GUID{testPrefix, 5}, 9}, Status: 3, HasKeyHash: true}), false)
	f.Fuzz(func(t *testing.T, b []byte, big bool) {
		q, err := ParseInlineQoS(ParameterList{b, big})
		if err != nil {
			return
		}
		q.Unknown = 0
		if again, err := ParseInlineQoS(ParameterList{Bytes: AppendInlineQoS(nil, q)}); err != nil || again != q {
			t.Fatalf("%v %+v became %+v", err, q, again)
		}
	})
}

// FuzzParticipantMessage reads anything as ParticipantMessageData.
func FuzzParticipantMessage(f *testing.F) {
	for _, d := range seeds(f) {
		if d.Writer == EntityParticipantMessageWriter {
			f.Add(d.Payload)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseParticipantMessage(b)
		if err != nil {
			return
		}
		if again, err := ParseParticipantMessage(m.Append(nil)); err != nil || again.Prefix != m.Prefix || again.Kind != m.Kind || !bytes.Equal(again.Data, m.Data) {
			t.Fatalf("%v %+v became %+v", err, m, again)
		}
	})
}

// FuzzPartitions matches anything against anything, in bounded time.
func FuzzPartitions(f *testing.F) {
	f.Add("*a*b*c*d*", "aaaaaaaaaaaaaaaaaaaaaaaa")
	f.Add("[!a-z]?\\*", "[]")
	f.Fuzz(func(t *testing.T, a, b string) {
		if PartitionsMatch([]string{a}, []string{b}) != PartitionsMatch([]string{b}, []string{a}) {
			t.Fatal("not the same both ways")
		}
	})
}
