package wire

import (
	"math"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// TestSequenceNumberSet is 8.3.5.5 with its example, 1234/12:00110.
func TestSequenceNumberSet(t *testing.T) {
	s := sequenceSet(1234, 1236, 1237)
	if got := s.String(); got != "1234/4:0011" {
		t.Error(got)
	}
	if got := slices.Collect(s.All()); !slices.Equal(got, []SequenceNumber{1236, 1237}) || s.Len() != 2 {
		t.Error(got)
	}
	for n, want := range map[SequenceNumber]bool{1233: false, 1234: false, 1236: true, 1237: true, 1238: false, -5: false, math.MaxInt64: false, math.MinInt64: false} {
		if s.Contains(n) != want {
			t.Errorf("contains %d: %v", n, !want)
		}
	}
	before := s
	for _, n := range []SequenceNumber{1233, 1234 + 256, math.MaxInt64, math.MinInt64, 0} {
		if s.Add(n) || s != before {
			t.Errorf("%d was added", n)
		}
	}
	if !s.Add(1234+255) || s.NumBits != 256 || !s.Contains(1234+255) {
		t.Error("the last number has no room:", s)
	}
	for range s.All() {
		break
	}
}

func TestFragmentNumberSet(t *testing.T) {
	s := fragmentSet(10, 10, 42, 265)
	if got := slices.Collect(s.All()); !slices.Equal(got, []FragmentNumber{10, 42, 265}) || s.Len() != 3 {
		t.Error(got)
	}
	for n, want := range map[FragmentNumber]bool{0: false, 9: false, 10: true, 11: false, 42: true, 265: true, 266: false, math.MaxUint32: false} {
		if s.Contains(n) != want {
			t.Errorf("contains %d: %v", n, !want)
		}
	}
	if s.Add(9) || s.Add(266) || s.Add(math.MaxUint32) {
		t.Error("a number without room was added")
	}
	last := fragmentSet(math.MaxUint32, math.MaxUint32)
	if !last.valid() {
		t.Error("the last number's set is not valid")
	}
	for range s.All() {
		break
	}
	if got := fragmentSet(1, 2).String(); got != "1/2:01" {
		t.Error(got)
	}
}

// TestSetTail sees that bits beyond the count, which a sender need not clear, are in no set.
func TestSetTail(t *testing.T) {
	r, err := NewReader(unhex(t, headerHex+"06 01 1c00 00000001 00000002 00000000 01000000 03000000 ffffffff 01000000"))
	if err != nil {
		t.Fatal(err)
	}
	s, ok := r.Next()
	if !ok || s.(*AckNack).Set != sequenceSet(1, 1, 2, 3) {
		t.Errorf("%+v %v", s, r.Err())
	}
}

// TestTimestamp is 9.3.2: every nanosecond comes back as it was.
func TestTimestamp(t *testing.T) {
	for _, at := range []time.Time{time.Unix(1, 0), time.Unix(1700000000, 1), time.Unix(1700000000, 999_999_999), time.Unix(1700000000, 123_456_789), time.Unix(math.MaxUint32, 5)} {
		if got, ok := TimestampFrom(at).Time(); !ok || !got.Equal(at) {
			t.Errorf("%v became %v, %v", at.UnixNano(), got.UnixNano(), ok)
		}
	}
	for ns := 0; ns < 1e9; ns += 12_345 {
		if got := nanoseconds(fraction(ns)); got != int64(ns) {
			t.Fatalf("%d ns became %d", ns, got)
		}
	}
	if got := TimestampFrom(time.Unix(5, 500_000_000)); got != 5<<32|1<<31 {
		t.Errorf("%x", got)
	}
	for _, at := range []time.Time{{}, time.Unix(-1, 0), time.Unix(math.MaxUint32+1, 0)} {
		if got := TimestampFrom(at); got != TimeInvalid {
			t.Errorf("%v became %x", at, got)
		}
	}
	for _, s := range []Timestamp{TimeZero, TimeInvalid, TimeInfinite} {
		if at, ok := s.Time(); ok {
			t.Errorf("%x became %v", s, at)
		}
	}
}

func TestDuration(t *testing.T) {
	for _, test := range []struct {
		d    time.Duration
		wire string
		back time.Duration
	}{
		{0, "0000000000000000", 0},
		{1500 * time.Millisecond, "0100000000000080", 1500 * time.Millisecond},
		{time.Nanosecond, "0000000005000000", time.Nanosecond},
		{(math.MaxInt32-1)*time.Second + 999_999_999, "feffff7ffcffffff", (math.MaxInt32-1)*time.Second + 999_999_999},
		{math.MaxInt32 * time.Second, "ffffff7fffffffff", Infinite},
		{Infinite, "ffffff7fffffffff", Infinite},
		{-time.Second, "0000000000000000", 0},
	} {
		w := out{}
		w.duration(test.d)
		if want := unhex(t, test.wire); !slices.Equal(w.b, want) {
			t.Errorf("%v: %x, want %x", test.d, w.b, want)
		}
		r := in{b: w.b}
		if got := r.duration(); got != test.back || r.bad {
			t.Errorf("%v came back as %v", test.d, got)
		}
	}
	r := in{b: unhex(t, "ffffffff00000000")}
	if r.duration(); !r.bad {
		t.Error("a negative duration was taken")
	}
	r = in{b: unhex(t, "ffffff7fffffff7f")}
	if got := r.duration(); got != Infinite {
		t.Error("the older infinite duration is", got)
	}
}

// TestLocator is 9.3.2 and the address of each kind.
func TestLocator(t *testing.T) {
	for _, test := range []struct{ addr, wire, text string }{
		{"192.0.2.1:7400", "01000000 e81c0000 000000000000000000000000c0000201", "udpv4/192.0.2.1:7400"},
		{"[fc94::1]:65535", "02000000 ffff0000 fc940000000000000000000000000001", "udpv6/[fc94::1]:65535"},
	} {
		l := LocatorFrom(netip.MustParseAddrPort(test.addr))
		w := out{}
		w.locator(l)
		if !slices.Equal(w.b, unhex(t, test.wire)) || l.String() != test.text {
			t.Errorf("%v: %x", l, w.b)
		}
		if got, ok := l.AddrPort(); !ok || got.String() != test.addr {
			t.Errorf("%v came back as %v", test.addr, got)
		}
	}
	mapped := netip.MustParseAddrPort("[::ffff:192.0.2.1]:1")
	if l := LocatorFrom(mapped); l.Kind != LocatorUDPv4 {
		t.Error("mapped address:", l)
	}
	if l := LocatorFrom(netip.MustParseAddrPort("[fe80::1%eth0]:1")); l.String() != "udpv6/[fe80::1]:1" {
		t.Error("address with a zone:", l)
	}
	if l := LocatorFrom(netip.AddrPort{}); l.Kind != LocatorInvalid || l.String() != "invalid" {
		t.Error("no address:", l)
	}
	v4, v6 := [16]byte{12: 192, 13: 0, 14: 2, 15: 1}, netip.MustParseAddr("fc94::1").As16()
	for _, l := range []Locator{
		{}, {LocatorInvalid, 7400, v4}, {LocatorUDPv4, 0, v4}, {LocatorUDPv4, 65536, v4}, {LocatorUDPv4, 7400, [16]byte{}},
		{LocatorUDPv6, 7400, [16]byte{}}, {LocatorUDPv6, 7400, mapped.Addr().As16()}, {LocatorTCPv4, 7400, v4}, {LocatorTCPv6, 7400, v6},
		{LocatorSHM, 7400, v4}, {99, 7400, v4},
	} {
		if a, ok := l.AddrPort(); ok {
			t.Errorf("%v gives %v", l, a)
		}
		if l.String() == "" {
			t.Error("no text")
		}
	}
}

func TestEntityID(t *testing.T) {
	for id, want := range map[EntityID][3]bool{ // writer, reader, built in
		EntityParticipant: {false, false, true}, EntitySPDPWriter: {true, false, true}, EntitySPDPReader: {false, true, true},
		EntitySEDPPublicationsWriter: {true, false, true}, EntityParticipantMessageReader: {false, true, true},
		MakeEntityID(5, KindWriterNoKey): {true, false, false}, MakeEntityID(5, KindReaderNoKey): {false, true, false},
		MakeEntityID(5, KindWriterWithKey): {true, false, false}, MakeEntityID(5, KindReaderWithKey): {false, true, false},
		EntityUnknown: {}, 0x08: {}, 0x41: {},
	} {
		if got := [3]bool{id.IsWriter(), id.IsReader(), id.Builtin()}; got != want {
			t.Errorf("%v: %v, want %v", id, got, want)
		}
	}
	g := GUID{testPrefix, 0x1203}
	if b := g.Bytes(); GUIDFrom(b) != g || g.String() != "0102030405060708090a0b0c.00001203" || g.IsZero() {
		t.Errorf("%v %x", g, b)
	}
	if VendorFastDDS.String() != "Fast DDS" || (VendorID{9, 9}).String() != "vendor 09.09" {
		t.Error("names of vendors")
	}
}
