package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

var (
	testPrefix = GuidPrefix{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}
	testHeader = Header{Version, VendorCyclone, testPrefix}
)

const headerHex = "52545053 0203 0110 0102030405060708090a0b0c "

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func sequenceSet(base SequenceNumber, numbers ...SequenceNumber) SequenceNumberSet {
	s := NewSequenceNumberSet(base)
	for _, n := range numbers {
		s.Add(n)
	}
	return s
}

func fragmentSet(base FragmentNumber, numbers ...FragmentNumber) FragmentNumberSet {
	s := NewFragmentNumberSet(base)
	for _, n := range numbers {
		s.Add(n)
	}
	return s
}

// examples are submessages byte by byte, in both byte orders.
var examples = []struct {
	name        string // section of the specification
	sub         Submessage
	little, big string
}{
	{"9.4.5.2 ACKNACK", &AckNack{Reader: 0x000004c7, Writer: 0x000004c2, Set: sequenceSet(0x1_0000_0002, 0x1_0000_0002, 0x1_0000_0023), Count: 7, Final: true},
		"06 03 2000 000004c7 000004c2 01000000 02000000 22000000 00000080 00000040 07000000",
		"06 02 0020 000004c7 000004c2 00000001 00000002 00000022 80000000 40000000 00000007"},
	{"9.4.5.2 ACKNACK of nothing", &AckNack{Reader: 1, Writer: 2, Set: sequenceSet(5), Count: 1},
		"06 01 1800 00000001 00000002 00000000 05000000 00000000 01000000",
		"06 00 0018 00000001 00000002 00000000 00000005 00000000 00000001"},
	{"9.4.5.3 DATA", &Data{Reader: 0x104, Writer: 0x203, SN: 3, Content: DataContent, Payload: []byte{0, 1, 0, 0, 1, 2, 3, 4}},
		"15 05 1c00 0000 1000 00000104 00000203 00000000 03000000 00010000 01020304",
		"15 04 001c 0000 0010 00000104 00000203 00000000 00000003 00010000 01020304"},
	{"9.4.5.3 DATA of a key", &Data{Writer: EntitySPDPWriter, SN: 1, Content: KeyContent, Payload: []byte{0, 3, 0, 0}},
		"15 09 1800 0000 1000 00000000 000100c2 00000000 01000000 00030000",
		"15 08 0018 0000 0010 00000000 000100c2 00000000 00000001 00030000"},
	{"9.4.5.4 DATA_FRAG", &DataFrag{Reader: 0x104, Writer: 0x203, SN: 9, FirstFragment: 3, Fragments: 1, FragmentSize: 8, SampleSize: 20, Key: true, Payload: []byte{1, 2, 3, 4}},
		"16 05 2400 0000 1c00 00000104 00000203 00000000 09000000 03000000 0100 0800 14000000 01020304",
		"16 04 0024 0000 001c 00000104 00000203 00000000 00000009 00000003 0001 0008 00000014 01020304"},
	{"9.4.5.5 GAP", &Gap{Reader: 0x104, Writer: 0x203, Start: 4, Set: sequenceSet(6, 7)},
		"08 01 2000 00000104 00000203 00000000 04000000 00000000 06000000 02000000 00000040",
		"08 00 0020 00000104 00000203 00000000 00000004 00000000 00000006 00000002 40000000"},
	{"9.4.5.6 HEARTBEAT", &Heartbeat{Reader: 0x104, Writer: 0x203, First: 1, Last: 0x2_0000_0000, Count: 0xfffffffe, Final: true, Liveliness: true},
		"07 07 1c00 00000104 00000203 00000000 01000000 02000000 00000000 feffffff",
		"07 06 001c 00000104 00000203 00000000 00000001 00000002 00000000 fffffffe"},
	{"9.4.5.7 HEARTBEAT_FRAG", &HeartbeatFrag{Reader: 0x104, Writer: 0x203, SN: 2, LastFragment: 300, Count: 4},
		"13 01 1800 00000104 00000203 00000000 02000000 2c010000 04000000",
		"13 00 0018 00000104 00000203 00000000 00000002 0000012c 00000004"},
	{"9.4.5.8 INFO_DST", &InfoDst{testPrefix}, "0e 01 0c00 0102030405060708090a0b0c", "0e 00 000c 0102030405060708090a0b0c"},
	{"9.4.5.10 INFO_SRC", &InfoSrc{ProtocolVersion{2, 1}, VendorFastDDS, testPrefix},
		"0c 01 1400 00000000 0201 010f 0102030405060708090a0b0c", "0c 00 0014 00000000 0201 010f 0102030405060708090a0b0c"},
	{"9.4.5.11 INFO_TS", &InfoTS{0x12345678_9abcdef0}, "09 01 0800 78563412 f0debc9a", "09 00 0008 12345678 9abcdef0"},
	{"9.4.5.11 INFO_TS without time", &InfoTS{TimeInvalid}, "09 03 0000", "09 02 0000"},
	{"9.4.5.13 NACK_FRAG", &NackFrag{Reader: 0x104, Writer: 0x203, SN: 2, Set: fragmentSet(2, 2, 4), Count: 1},
		"12 01 2000 00000104 00000203 00000000 02000000 02000000 03000000 000000a0 01000000",
		"12 00 0020 00000104 00000203 00000000 00000002 00000002 00000003 a0000000 00000001"},
}

func TestSubmessages(t *testing.T) {
	for _, e := range examples {
		for _, big := range []bool{false, true} {
			text := e.little
			if big {
				text = e.big
			}
			want := unhex(t, headerHex+text)
			b := NewBuilder(nil, testHeader)
			b.BigEndian = big
			b.Add(e.sub)
			if b.Err() != nil || !bytes.Equal(b.Bytes(), want) {
				t.Errorf("%s, big endian %v: built %v\n%x, want\n%x", e.name, big, b.Err(), b.Bytes(), want)
			}
			r, err := NewReader(want)
			if err != nil {
				t.Fatal(err)
			}
			s, ok := r.Next()
			if d, ok := s.(*Data); ok {
				d.InlineQoS.BigEndian = false
			}
			if !ok || !reflect.DeepEqual(s, e.sub) {
				t.Errorf("%s, big endian %v: read %v %+v, want %+v", e.name, big, r.Err(), s, e.sub)
			}
			if s, ok := r.Next(); ok || r.Err() != nil {
				t.Errorf("%s: then %v, %v", e.name, s, r.Err())
			}
		}
	}
}

// TestRefused are submessages that the rules of validity refuse, and some that look like it and are not.
func TestRefused(t *testing.T) {
	const fragment = "00000104 00000203 00000000 01000000 "
	for _, test := range []struct {
		name, text string
		valid      bool
	}{
		{"8.3.7.1.3: bitmap base 0", "06 01 1c00 00000001 00000002 00000000 00000000 01000000 00000080 01000000", false},
		{"8.3.7.1.3: Fast DDS's first, empty at 0", "06 01 1800 00000001 00000002 00000000 00000000 00000000 01000000", true},
		{"8.3.5.5: 257 bits", "06 01 4000 00000001 00000002 00000000 01000000 01010000" + strings.Repeat("00000000", 10), false},
		{"8.3.5.5: negative base", "06 01 1800 00000001 00000002 ffffffff 00000000 00000000 01000000", false},
		{"8.3.5.5: beyond the last number", "06 01 1c00 00000001 00000002 ffffff7f ffffffff 02000000 000000c0 01000000", false},
		{"ACKNACK cut short", "06 01 1400 00000001 00000002 00000000 01000000 00000000", false},
		{"8.3.7.2.3: sequence number 0", "15 01 1400 0000 1000 00000104 00000203 00000000 00000000", false},
		{"8.3.7.2.3: negative sequence number", "15 01 1400 0000 1000 00000104 00000203 ffffffff 01000000", false},
		{"8.3.7.2.3: data and key", "15 0d 1800 0000 1000 00000104 00000203 00000000 01000000 00010000", false},
		{"9.4.5.3: neither", "15 01 1400 0000 1000 00000104 00000203 00000000 01000000", true},
		{"9.4.5.3.3: inline QoS moved by a later version", "15 03 1c00 0000 1400 00000104 00000203 00000000 01000000 deadbeef 01000000", true},
		{"9.4.5.3.3: inline QoS beyond the end", "15 03 1800 0000 1800 00000104 00000203 00000000 01000000 01000000", false},
		{"9.4.5.3.3: inline QoS inside the header", "15 03 1800 0000 0800 00000104 00000203 00000000 01000000 01000000", false},
		{"9.4.2.11: inline QoS without sentinel", "15 03 1c00 0000 1000 00000104 00000203 00000000 01000000 70000400 00000000", false},
		{"9.4.2.11: parameter of 3 bytes", "15 03 2000 0000 1000 00000104 00000203 00000000 01000000 70000300 00000001 00000000", false},
		{"8.3.7.3.3: fragment 0", "16 01 2400 0000 1c00 " + fragment + "00000000 0100 0400 08000000 01020304", false},
		{"8.3.7.3.3: no fragments", "16 01 2400 0000 1c00 " + fragment + "01000000 0000 0400 08000000 01020304", false},
		{"8.3.7.3.3: fragments of no bytes", "16 01 2400 0000 1c00 " + fragment + "01000000 0100 0000 08000000 01020304", false},
		{"8.3.7.3.3: beyond the sample", "16 01 2400 0000 1c00 " + fragment + "03000000 0100 0400 08000000 01020304", false},
		{"8.3.7.3.3: too few bytes", "16 01 2400 0000 1c00 " + fragment + "01000000 0200 0400 08000000 01020304", false},
		{"8.3.7.3.3: the largest numbers", "16 01 2400 0000 1c00 " + fragment + "ffffffff ffff ffff ffffffff 01020304", false},
		{"8.3.7.3.3: last fragment, padded", "16 01 2400 0000 1c00 " + fragment + "02000000 0100 0400 05000000 01020304", true},
		{"8.3.7.4.3: gap from 0", "08 01 1c00 00000104 00000203 00000000 00000000 00000000 06000000 00000000", false},
		{"8.3.7.4.3: gap list at 0", "08 01 1c00 00000104 00000203 00000000 01000000 00000000 00000000 00000000", false},
		{"8.3.7.5.3: first 0", "07 01 1c00 00000104 00000203 00000000 00000000 00000000 01000000 01000000", false},
		{"8.3.7.5.3: last below first-1", "07 01 1c00 00000104 00000203 00000000 03000000 00000000 01000000 01000000", false},
		{"8.3.7.5.3: last is first-1", "07 01 1c00 00000104 00000203 00000000 03000000 00000000 02000000 01000000", true},
		{"8.3.7.5.3: negative last", "07 01 1c00 00000104 00000203 00000000 01000000 ffffffff ffffffff 01000000", false},
		{"8.3.7.6.3: fragment 0", "13 01 1800 00000104 00000203 00000000 02000000 00000000 04000000", false},
		{"8.3.7.6.3: sequence number 0", "13 01 1800 00000104 00000203 00000000 00000000 01000000 04000000", false},
		{"8.3.7.11.3: fragment set at 0", "12 01 2000 00000104 00000203 00000000 02000000 00000000 01000000 00000080 01000000", false},
		{"8.3.7.11.3: fragment set beyond the last", "12 01 2000 00000104 00000203 00000000 02000000 ffffffff 02000000 000000c0 01000000", false},
		{"8.3.7.11.3: sequence number 0", "12 01 1c00 00000104 00000203 00000000 00000000 01000000 00000000 01000000", false},
		{"9.4.5.9: more locators than bytes", "0f 01 0400 ffffffff", false},
		{"9.4.5.9: a few more locators than bytes", "0f 01 0400 02000000", false},
		{"9.4.5.11: half a time", "09 01 0400 00000000", false},
		{"9.4.5.1.3: longer than the message", "0e 01 1000 0102030405060708090a0b0c", false},
	} {
		r, err := NewReader(unhex(t, headerHex+test.text))
		if err != nil {
			t.Fatal(err)
		}
		s, ok := r.Next()
		if ok != test.valid || ok != (r.Err() == nil) || !ok && !errors.Is(r.Err(), ErrMalformed) {
			t.Errorf("%s: %v, %v", test.name, s, r.Err())
		}
		if _, ok := r.Next(); ok {
			t.Errorf("%s: goes on after the end", test.name)
		}
	}
}

// TestFrame is what surrounds submessages (8.3.4, 8.3.6.3, 9.4.5.1).
func TestFrame(t *testing.T) {
	for _, b := range []string{"", "52545053", "52545053 0203 0110 0102030405060708090a0b", "52545058 0203 0110 0102030405060708090a0b0c",
		"52545053 0303 0110 0102030405060708090a0b0c", "52545053 0100 0110 0102030405060708090a0b0c"} {
		if _, err := NewReader(unhex(t, b)); !errors.Is(err, ErrNotRTPS) {
			t.Errorf("%s: %v", b, err)
		}
	}
	for _, test := range []struct {
		name, text, want string
		skipped          int
		bad              bool
	}{
		{"no submessage", "", "", 0, false},
		{"unknown and vendors' are skipped", "80 01 0400 00000000 24 00 0004 00000000 0e 01 0c00 000000000000000000000000", "INFO_DST", 2, false},
		{"length 0 means the rest", "0e 01 0000 0102030405060708090a0b0c 0e010c00", "INFO_DST", 0, false},
		{"but not of a PAD", "01 01 0000 09 03 0000 01 01 0400 00000000", "INFO_TS", 0, false},
		{"nor of an INFO_TS", "09 03 0000 0e 01 0c00 0102030405060708090a0b0c", "INFO_TS INFO_DST", 0, false},
		{"a longer one of a later version", "0e 01 1000 0102030405060708090a0b0c ffffffff 09 03 0000", "INFO_DST INFO_TS", 0, false},
		{"what follows a broken one does not count", "09 03 0000 09 01 0400 00000000 09 03 0000", "INFO_TS", 0, true},
		{"bytes left", "09 03 0000 0901", "INFO_TS", 0, true},
	} {
		r, err := NewReader(unhex(t, headerHex+test.text))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for s, ok := r.Next(); ok; s, ok = r.Next() {
			got = append(got, s.ID().String())
		}
		if s := strings.Join(got, " "); s != test.want || r.Skipped() != test.skipped || (r.Err() != nil) != test.bad {
			t.Errorf("%s: %q, %d skipped, %v", test.name, s, r.Skipped(), r.Err())
		}
	}
}

// TestReceiver is the receiver's state (8.3.4): each INFO counts for what follows it.
func TestReceiver(t *testing.T) {
	b := NewBuilder(nil, testHeader)
	unicast := LocatorFrom(netip.MustParseAddrPort("192.0.2.1:7411"))
	multicast := LocatorFrom(netip.MustParseAddrPort("[ff02::1]:7400"))
	other := GuidPrefix{9, 9}
	heartbeat := Heartbeat{Writer: 3, First: 1, Count: 1}
	b.Heartbeat(heartbeat)
	b.InfoDst(other)
	b.InfoTS(5)
	b.InfoReply(&InfoReply{Unicast: NewLocatorList(unicast), Multicast: NewLocatorList(multicast, unicast)})
	b.Pad(12)
	b.Heartbeat(heartbeat)
	b.InfoSrc(Header{ProtocolVersion{2, 1}, VendorFastDDS, other})
	b.Heartbeat(heartbeat)
	if b.Err() != nil {
		t.Fatal(b.Err())
	}
	r, err := NewReader(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for s, ok := r.Next(); ok; s, ok = r.Next() {
		if _, ok := s.(*Heartbeat); !ok {
			continue
		}
		u, m := r.ReplyTo()
		switch n++; n {
		case 1:
			if r.Source() != testHeader || r.Dest() != PrefixUnknown || r.Time() != TimeInvalid || u.Len() != 0 || m.Len() != 0 {
				t.Errorf("first: %v %v %v %v %v", r.Source(), r.Dest(), r.Time(), u, m)
			}
		case 2:
			if r.Source() != testHeader || r.Dest() != other || r.Time() != 5 || u.Len() != 1 || m.Len() != 2 || u.At(0) != unicast || m.At(0) != multicast || m.At(1) != unicast {
				t.Errorf("second: %v %v %v %v %v", r.Source(), r.Dest(), r.Time(), u, m)
			}
		case 3:
			if r.Source() != (Header{ProtocolVersion{2, 1}, VendorFastDDS, other}) || r.Dest() != other || r.Time() != TimeInvalid || u.Len() != 0 || m.Len() != 0 {
				t.Errorf("third: %v %v %v %v %v", r.Source(), r.Dest(), r.Time(), u, m)
			}
		}
	}
	if n != 3 || r.Err() != nil || r.Header() != testHeader {
		t.Errorf("%d heartbeats, %v", n, r.Err())
	}
	if err := r.Reset(unhex(t, headerHex)); err != nil || r.Source() != testHeader || r.Dest() != PrefixUnknown {
		t.Errorf("after Reset: %v %v %v", err, r.Source(), r.Dest())
	}
}

// TestInfoReplyIP4 is 9.4.5.14, which nobody sends any more.
func TestInfoReplyIP4(t *testing.T) {
	for _, text := range []string{"0d 03 1000 010200c0 f31c0000 0100e0ef e81c0000", "0d 02 0010 c0000201 00001cf3 efe00001 00001ce8"} {
		r, err := NewReader(unhex(t, headerHex+text))
		if err != nil {
			t.Fatal(err)
		}
		s, ok := r.Next()
		if !ok {
			t.Fatal(r.Err())
		}
		i := s.(*InfoReply)
		u, _ := i.Unicast.At(0).AddrPort()
		m, _ := i.Multicast.At(0).AddrPort()
		if i.Unicast.Len() != 1 || i.Multicast.Len() != 1 || u.String() != "192.0.2.1:7411" || m.String() != "239.224.0.1:7400" {
			t.Errorf("%v %v", u, m)
		}
	}
}

// TestBuilder is what a builder refuses, and the lengths it promises.
func TestBuilder(t *testing.T) {
	wide := sequenceSet(1, 1)
	wide.NumBits = 300
	for _, test := range []struct {
		s   Submessage
		err error
	}{
		{&Data{SN: 0}, ErrInvalid},
		{&Data{SN: 1, Payload: []byte{1}}, ErrInvalid},
		{&Data{SN: 1, Content: 7}, ErrInvalid},
		{&Data{SN: 1, InlineQoS: ParameterList{Bytes: []byte{0x70, 0, 0, 0}}}, ErrInvalid},
		{&Data{SN: 1, InlineQoS: ParameterList{Bytes: []byte{1, 0, 0, 0, 9}}}, ErrInvalid},
		{&Data{SN: 1, Content: DataContent, Payload: make([]byte, 65536)}, ErrTooLong},
		{&DataFrag{SN: 1, FirstFragment: 1, Fragments: 1, FragmentSize: 4, SampleSize: 8, Payload: make([]byte, 5)}, ErrInvalid},
		{&DataFrag{SN: 0, FirstFragment: 1, Fragments: 1, FragmentSize: 4, SampleSize: 8, Payload: make([]byte, 4)}, ErrInvalid},
		{&Heartbeat{First: 0}, ErrInvalid},
		{&HeartbeatFrag{SN: 1}, ErrInvalid},
		{&AckNack{}, nil},
		{&AckNack{Set: SequenceNumberSet{NumBits: 1}}, ErrInvalid},
		{&AckNack{Set: wide}, ErrInvalid},
		{&NackFrag{SN: 1}, ErrInvalid},
		{&Gap{Start: 1}, ErrInvalid},
	} {
		b := NewBuilder(nil, testHeader)
		b.Add(test.s)
		if !errors.Is(b.Err(), test.err) || b.Empty() != (test.err != nil) {
			t.Errorf("%v %+v: %v, %d bytes", test.s.ID(), test.s, b.Err(), b.Len())
		}
	}
	b := NewBuilder(make([]byte, 7), testHeader)
	b.Pad(6)
	if !errors.Is(b.Err(), ErrInvalid) || !b.Empty() {
		t.Errorf("a PAD of 6: %v", b.Err())
	}
	b.Reset(testHeader)
	qos := ParameterList{Bytes: AppendInlineQoS(nil, InlineQoS{Status: StatusDisposed})}
	for _, test := range []struct {
		want int
		s    Submessage
	}{
		{InfoTSLen, &InfoTS{1}}, {InfoDstLen, &InfoDst{}}, {InfoSrcLen, &InfoSrc{}}, {HeartbeatLen, &Heartbeat{First: 1}},
		{HeartbeatFragLen, &HeartbeatFrag{SN: 1, LastFragment: 1}},
		{DataLen(0, 5), &Data{SN: 1, Content: DataContent, Payload: make([]byte, 5)}},
		{DataLen(len(qos.Bytes), 4), &Data{SN: 1, InlineQoS: qos, Content: DataContent, Payload: make([]byte, 4)}},
		{DataFragLen(len(qos.Bytes), 3), &DataFrag{SN: 1, InlineQoS: qos, FirstFragment: 2, Fragments: 1, FragmentSize: 4, SampleSize: 7, Payload: make([]byte, 3)}},
		{AckNackLen(33), &AckNack{Set: sequenceSet(1, 33)}}, {AckNackLen(0), &AckNack{Set: sequenceSet(1)}},
		{NackFragLen(32), &NackFrag{SN: 1, Set: fragmentSet(1, 32)}}, {GapLen(256), &Gap{Start: 1, Set: sequenceSet(1, 256)}},
	} {
		before := b.Len()
		b.Add(test.s)
		if n := b.Len() - before; n != test.want {
			t.Errorf("%v: %d bytes, want %d", test.s.ID(), n, test.want)
		}
	}
	if b.Err() != nil {
		t.Error(b.Err())
	}
	b.Truncate(HeaderLen + InfoTSLen)
	if b.Len() != HeaderLen+InfoTSLen {
		t.Error("Truncate")
	}
}

// TestNoAllocation reads and writes what the path of data has, without a single allocation.
func TestNoAllocation(t *testing.T) {
	for name, message := range captured(t) {
		var r MessageReader
		if n := testing.AllocsPerRun(100, func() {
			if r.Reset(message) != nil {
				t.Fatal("Reset")
			}
			for s, ok := r.Next(); ok; s, ok = r.Next() {
				if d, ok := s.(*Data); ok {
					if _, err := ParseInlineQoS(d.InlineQoS); err != nil {
						t.Fatal(err)
					}
				}
			}
		}); n != 0 {
			t.Errorf("reading %s: %v allocations", name, n)
		}
	}
	b := NewBuilder(make([]byte, 0, 1500), testHeader)
	data := Data{Reader: 1, Writer: 2, SN: 3, Content: DataContent, Payload: make([]byte, 600)}
	frag := DataFrag{SN: 1, FirstFragment: 2, Fragments: 1, FragmentSize: 400, SampleSize: 799, Payload: make([]byte, 399)}
	qos := make([]byte, 0, 200)
	set := AckNack{Set: sequenceSet(1, 5, 100)}
	related := InlineQoS{Related: SampleIdentity{GUID{testPrefix, 2}, 8}, HasRelated: true, HasKeyHash: true, Status: StatusDisposed}
	if n := testing.AllocsPerRun(100, func() {
		b.Reset(testHeader)
		data.InlineQoS.Bytes = AppendInlineQoS(qos, related)
		b.InfoDst(testPrefix)
		b.InfoTS(1)
		b.Data(&data)
		b.DataFrag(&frag)
		b.Heartbeat(Heartbeat{First: 1, Last: 5, Count: 1})
		b.AckNack(&set)
	}); n != 0 || b.Err() != nil {
		t.Errorf("writing: %v allocations, %v", n, b.Err())
	}
	// Broken ones must not be dearer.
	broken := unhex(t, headerHex+"06 01 1800 00000001 00000002 ffffffff 00000000 00000000 01000000")
	var r MessageReader
	if n := testing.AllocsPerRun(100, func() {
		_ = r.Reset(broken)
		r.Next()
	}); n != 0 || r.Err() == nil {
		t.Errorf("reading a broken one: %v allocations, %v", n, r.Err())
	}
}

func BenchmarkRead(b *testing.B) {
	message := captured(b)["fastdds_fragment"]
	var r MessageReader
	b.SetBytes(int64(len(message)))
	b.ReportAllocs()
	for b.Loop() {
		_ = r.Reset(message)
		for _, ok := r.Next(); ok; _, ok = r.Next() {
		}
	}
}

func BenchmarkWrite(b *testing.B) {
	m := NewBuilder(nil, testHeader)
	d := Data{Reader: 1, Writer: 2, SN: 3, Content: DataContent, Payload: make([]byte, 1200)}
	b.SetBytes(1200)
	b.ReportAllocs()
	for b.Loop() {
		m.Reset(testHeader)
		m.InfoDst(testPrefix)
		m.InfoTS(1)
		m.Data(&d)
	}
}
