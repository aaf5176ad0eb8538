package interfaces

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/cdr"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/builtin_interfaces"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/diagnostic_msgs"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/hnet_bridge"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/hnet_test_msgs"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/rcl_interfaces"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/rmw_dds_common"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/rmw_dds_common_humble"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/std_msgs"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/std_srvs"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/test_msgs"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/type_description_interfaces"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/visualization_msgs"
)

// types are messages that have every kind of field in every form between them.
var types = []func() cdr.Message{
	func() cdr.Message { return new(test_msgs.BasicTypes) },
	func() cdr.Message { return new(test_msgs.Arrays) },
	func() cdr.Message { return new(test_msgs.BoundedSequences) },
	func() cdr.Message { return new(test_msgs.BoundedPlainSequences) },
	func() cdr.Message { return new(test_msgs.UnboundedSequences) },
	func() cdr.Message { return new(test_msgs.MultiNested) },
	func() cdr.Message { return new(test_msgs.Strings) },
	func() cdr.Message { return new(test_msgs.WStrings) },
	func() cdr.Message { return new(test_msgs.Empty) },
	func() cdr.Message { return new(rmw_dds_common.ParticipantEntitiesInfo) },
	func() cdr.Message { return new(rmw_dds_common_humble.ParticipantEntitiesInfo) },
	func() cdr.Message { return new(rcl_interfaces.ParameterEvent) },
	func() cdr.Message { return new(rcl_interfaces.SetParametersRequest) },
	func() cdr.Message { return new(diagnostic_msgs.DiagnosticArray) },
	func() cdr.Message { return new(visualization_msgs.MarkerArray) },
	func() cdr.Message { return new(type_description_interfaces.GetTypeDescriptionResponse) },
	func() cdr.Message { return new(hnet_bridge.PeerArray) },
	func() cdr.Message { return new(hnet_bridge.Status) },
	func() cdr.Message { return new(hnet_bridge.WhitelistAddRequest) },
	func() cdr.Message { return new(hnet_bridge.WhitelistListResponse) },
	func() cdr.Message { return new(hnet_test_msgs.Kinds) },
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestVectors(t *testing.T) {
	gid := func(first byte) (g [16]uint8) { g[0], g[15] = first, 0xc1; return g }
	gidHex := func(first string) string { return first + strings.Repeat("00", 14) + "c1" }
	tests := []struct {
		m      cdr.Message
		le, be string
	}{
		{&std_msgs.String{Data: "hello"}, "06000000 68656c6c6f00", "00000006 68656c6c6f00"},
		{
			&std_msgs.Header{Stamp: builtin_interfaces.Time{Sec: 1, Nanosec: 2}, FrameID: "ab"},
			"01000000 02000000 03000000 616200", "00000001 00000002 00000003 616200",
		},
		{new(std_msgs.Empty), "00", "00"},
		{&std_srvs.SetBoolResponse{Success: true, Message: "x"}, "01 000000 02000000 7800", "01 000000 00000002 7800"},
		{
			&test_msgs.BasicTypes{BoolValue: true, ByteValue: 2, CharValue: 3, Float32Value: 1.5, Float64Value: -2, Int8Value: -1, Uint8Value: 254, Int16Value: -2,
				Uint16Value: 0x1234, Int32Value: -3, Uint32Value: 0xdeadbeef, Int64Value: -4, Uint64Value: 0x0102030405060708},
			"01 02 03 00 0000c03f 00000000000000c0 ff fe feff 3412 0000 fdffffff efbeadde fcffffffffffffff 0807060504030201",
			"01 02 03 00 3fc00000 c000000000000000 ff fe fffe 1234 0000 fffffffd deadbeef fffffffffffffffc 0102030405060708",
		},
		{
			&rmw_dds_common.ParticipantEntitiesInfo{
				GID: rmw_dds_common.Gid{Data: gid(1)},
				NodeEntitiesInfoSeq: []rmw_dds_common.NodeEntitiesInfo{{
					NodeNamespace: "/", NodeName: "hnet", WriterGIDSeq: []rmw_dds_common.Gid{{Data: gid(2)}},
				}},
			},
			gidHex("01") + "01000000 02000000 2f00 0000 05000000 686e657400 000000 00000000 01000000" + gidHex("02"),
			gidHex("01") + "00000001 00000002 2f00 0000 00000005 686e657400 000000 00000000 00000001" + gidHex("02"),
		},
		{
			&hnet_bridge.WhitelistAddRequest{Address: "fc94::1", Hostname: ""},
			"08000000 666339343a3a3100 01000000 00", "00000008 666339343a3a3100 00000001 00",
		},
		{
			&hnet_bridge.Base{Address: "", Host: "h", Transport: "udp", State: hnet_bridge.BaseStateRegistered, RTT: 0.5},
			"01000000 00 000000 02000000 6800 0000 04000000 75647000 01 000000 000000 00 000000000000e03f",
			"00000001 00 000000 00000002 6800 0000 00000004 75647000 01 000000 000000 00 3fe0000000000000",
		},
	}
	for _, test := range tests {
		le := append([]byte{0, 1, 0, 0}, unhex(t, test.le)...)
		if got := cdr.Marshal(test.m); !bytes.Equal(got, le) {
			t.Errorf("%s: wrote\n%x, want\n%x", test.m.ROSType(), got, le)
		}
		for order, payload := range map[string][]byte{"little": le, "big": append([]byte{0, 0, 0, 0}, unhex(t, test.be)...)} {
			got := reflect.New(reflect.TypeOf(test.m).Elem()).Interface().(cdr.Message)
			if err := cdr.Unmarshal(payload, got); err != nil {
				t.Errorf("%s, %s endian: %v", test.m.ROSType(), order, err)
			} else if !reflect.DeepEqual(got, test.m) {
				t.Errorf("%s, %s endian: read %+v, want %+v", test.m.ROSType(), order, got, test.m)
			}
		}
	}
}

func TestDefaults(t *testing.T) {
	m := test_msgs.NewMultiNested()
	for _, a := range m.ArrayOfArrays {
		if a.Int64ValuesDefault != [3]int64{0, math.MaxInt64, math.MinInt64} || a.DefaultsValues[2].Uint64Value != 50000000 || !a.BoolValuesDefault[1] {
			t.Errorf("%+v", a)
		}
	}
	if s := m.ArrayOfUnboundedSequences[2].StringValuesDefault; !reflect.DeepEqual(s, []string{"", "max value", "min value"}) {
		t.Errorf("%q", s)
	}
	s := test_msgs.NewStrings()
	if s.StringValueDefault4 != "Hello'world!" || s.BoundedStringValueDefault5 != `Hello"world!` || test_msgs.StringsStringConst != "Hello world!" {
		t.Errorf("%+v", s)
	}
	if w := test_msgs.NewWStrings(); w.WstringValueDefault3 != "ハローワールド" {
		t.Errorf("%+v", w)
	}
	if r := type_description_interfaces.GetTypeDescription.NewRequest().(*type_description_interfaces.GetTypeDescriptionRequest); !r.IncludeTypeSources {
		t.Error("a new request does not have its default values")
	}
	if visualization_msgs.NewMarker().Pose.Orientation.W != 1 {
		t.Error("a new marker is not upright")
	}
	m.ArrayOfArrays[0].Int64ValuesDefault[0] = 7
	m.SetDefaults()
	if !reflect.DeepEqual(m, test_msgs.NewMultiNested()) {
		t.Error("defaults were set twice and differ")
	}
}

func TestBounds(t *testing.T) {
	m := &test_msgs.BoundedSequences{Int32Values: []int32{1, 2, 3}}
	if err := cdr.Check(m); err != nil {
		t.Fatal(err)
	}
	m.Int32Values = append(m.Int32Values, 4)
	if err := cdr.Check(m); err == nil {
		t.Error("4 elements of 3 passed")
	}
	var got test_msgs.BoundedSequences
	if err := cdr.Unmarshal(cdr.Marshal(m), &got); err != nil || len(got.Int32Values) != 3 {
		t.Errorf("%v, %v", got.Int32Values, err)
	}
	long := &test_msgs.Strings{BoundedStringValue: strings.Repeat("x", 23)}
	if err := cdr.Check(long); err == nil {
		t.Error("23 bytes of 22 passed")
	}
	var s test_msgs.Strings
	if err := cdr.Unmarshal(cdr.Marshal(&test_msgs.Strings{}), &s); err != nil {
		t.Fatal(err)
	}
	node := &rmw_dds_common.NodeEntitiesInfo{NodeName: strings.Repeat("n", 256)}
	payload := cdr.Marshal(node)
	if err := cdr.Unmarshal(payload, node); err != nil {
		t.Fatal(err)
	}
	payload = append(payload[:4+8+4:4+8+4], make([]byte, 300)...) // the name's length follows "" and its padding
	binary.LittleEndian.PutUint32(payload[4+8:], 258)
	if err := cdr.Unmarshal(payload, node); !errors.Is(err, cdr.ErrBound) {
		t.Errorf("a name of 257 bytes: %v", err)
	}
}

// filled has something in every sequence, and what one hears of robots in its strings.
func filled() []cdr.Message {
	u := test_msgs.NewUnboundedSequences()
	u.BasicTypesValues = make([]test_msgs.BasicTypes, 3)
	u.Float64Values = []float64{1, 2, 3}
	u.StringValues = []string{"a", "b"}
	u.BoolValues = []bool{true}
	u.Int16Values = []int16{-1, 1}
	nested := test_msgs.NewMultiNested()
	nested.UnboundedSequenceOfArrays = []test_msgs.Arrays{*test_msgs.NewArrays()}
	nested.BoundedSequenceOfUnboundedSequences = []test_msgs.UnboundedSequences{*u, *u}
	peers := &hnet_bridge.PeerArray{Header: std_msgs.Header{Stamp: builtin_interfaces.FromTime(time.Unix(1700000000, 5))}}
	for range 10 {
		peers.Peers = append(peers.Peers, hnet_bridge.Peer{Address: "fc94:1:2:3:4:5:6:7", Hostname: "robot-2", Endpoint: "[2001:db8::1]:5582", RTT: 0.012})
	}
	return []cdr.Message{u, nested, peers, test_msgs.NewArrays(), test_msgs.NewBoundedSequences()}
}

func TestNoAllocations(t *testing.T) {
	for _, m := range filled() {
		payload := cdr.Marshal(m)
		again := reflect.New(reflect.TypeOf(m).Elem()).Interface().(cdr.Message)
		if err := cdr.Unmarshal(payload, again); err != nil {
			t.Fatalf("%s: %v", m.ROSType(), err)
		}
		if !bytes.Equal(cdr.Marshal(again), payload) {
			t.Errorf("%s: changed on the way", m.ROSType())
		}
		buf := make([]byte, 0, len(payload)+8)
		if n := testing.AllocsPerRun(100, func() { buf = cdr.AppendMarshal(buf[:0], m) }); n != 0 {
			t.Errorf("%s: marshalling allocates %v times", m.ROSType(), n)
		}
		if n := testing.AllocsPerRun(100, func() { _ = cdr.Unmarshal(payload, again) }); n != 0 {
			t.Errorf("%s: unmarshalling allocates %v times", m.ROSType(), n)
		}
	}
}

// allocated returns how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestHostileLengths puts an absurd length in place of each 4 bytes of a message in turn: nothing may allocate more than a small multiple of the input.
func TestHostileLengths(t *testing.T) {
	for _, m := range filled() {
		payload := cdr.Marshal(m)
		for _, length := range []uint32{math.MaxUint32, math.MaxInt32, 1 << 20, uint32(len(payload))} {
			for at := cdr.HeaderLen; at+4 <= len(payload); at += 4 {
				bad := bytes.Clone(payload)
				binary.LittleEndian.PutUint32(bad[at:], length)
				fresh := reflect.New(reflect.TypeOf(m).Elem()).Interface().(cdr.Message)
				if at%64 != 0 { // measuring stops the world: not each time
					_ = cdr.Unmarshal(bad, fresh)
				} else if n := allocated(func() { _ = cdr.Unmarshal(bad, fresh) }); n > 16*uint64(len(bad))+4096 {
					t.Fatalf("%s: %d at byte %d: %d bytes allocated for %d", m.ROSType(), length, at, n, len(bad))
				}
			}
		}
	}
	// A message of zeros, large: as many elements as the length allows.
	for _, create := range types {
		for n := 4; n <= 64; n += 4 {
			big := make([]byte, 1<<18)
			big[1] = 1
			binary.LittleEndian.PutUint32(big[n:], uint32(len(big)/20))
			m := create()
			if got := allocated(func() { _ = cdr.Unmarshal(big, m) }); got > 16*uint64(len(big)) {
				t.Errorf("%s: count at byte %d: %d bytes allocated for %d", m.ROSType(), n, got, len(big))
			}
		}
	}
}

func TestDescribe(t *testing.T) {
	s := rcl_interfaces.SetParameters
	td, sources, err := Describe(s.Definition, s.Name)
	if err != nil {
		t.Fatal(err)
	}
	if td.TypeDescription.TypeName != s.Name || len(sources) != 1+len(td.ReferencedTypeDescriptions) {
		t.Errorf("%+v", td)
	}
	for _, src := range sources {
		switch {
		case src.TypeName == s.Name && (src.Encoding != "srv" || src.RawFileContents != s.Definition.Text),
			strings.HasSuffix(src.TypeName, "_Event") && (src.Encoding != "implicit" || src.RawFileContents != ""),
			src.TypeName == "builtin_interfaces/msg/Time" && (src.Encoding != "msg" || !strings.Contains(src.RawFileContents, "int32 sec")):
			t.Errorf("%+v", src)
		}
	}
	if err := cdr.Check(&td); err != nil {
		t.Error(err)
	}
	for _, name := range []string{s.Name + "_Request", s.Name + "_Response", s.Name + "_Event"} {
		if td, _, err := Describe(s.Definition, name); err != nil || td.TypeDescription.TypeName != name {
			t.Errorf("%s: %+v, %v", name, td, err)
		}
	}
	for _, name := range []string{"", "rcl_interfaces/srv/GetParameters", s.Name + "_Other", "x/msg/Y"} {
		if _, _, err := Describe(s.Definition, name); err == nil {
			t.Errorf("%q was described", name)
		}
	}
	for _, create := range types {
		m := create().(cdr.Described)
		td, _, err := Describe(m.ROSDefinition(), m.ROSType())
		if err != nil || td.TypeDescription.TypeName != m.ROSType() {
			t.Errorf("%s: %v", m.ROSType(), err)
		}
	}
}

func TestTime(t *testing.T) {
	for _, d := range []time.Duration{0, 1, -1, time.Second, -time.Second, 1500 * time.Millisecond, -1500 * time.Millisecond, math.MinInt32 * time.Second} {
		if got := builtin_interfaces.FromDuration(d).AsDuration(); got != d {
			t.Errorf("%v became %v", d, got)
		}
	}
	if got := builtin_interfaces.FromDuration(-1); got != (builtin_interfaces.Duration{Sec: -1, Nanosec: 999_999_999}) {
		t.Errorf("%+v", got)
	}
	for _, at := range []time.Time{{}, time.Unix(1700000000, 123456789).UTC(), time.Unix(-5, 1).UTC()} {
		if got := builtin_interfaces.FromTime(at).AsTime(); !got.Equal(at) || got.IsZero() != at.IsZero() {
			t.Errorf("%v became %v", at, got)
		}
	}
	late, early := builtin_interfaces.FromTime(time.Unix(1<<40, 0)), builtin_interfaces.FromDuration(math.MinInt64)
	if late.Sec != math.MaxInt32 || early.Sec != math.MinInt32 {
		t.Errorf("%+v, %+v", late, early)
	}
}

// TestEveryField fills every field of every type with something, sequences with two elements, and wants it back.
func TestEveryField(t *testing.T) {
	for _, create := range types {
		m, again := create(), create()
		n := 0
		fill(reflect.ValueOf(m).Elem(), &n)
		if err := cdr.Check(m); err != nil {
			t.Errorf("%s: %v", m.ROSType(), err)
		}
		if err := cdr.Unmarshal(cdr.Marshal(m), again); err != nil || !reflect.DeepEqual(m, again) {
			t.Errorf("%s: %v\nwrote %+v\nread  %+v", m.ROSType(), err, m, again)
		}
	}
}

// fill gives v and what is in it distinct values.
func fill(v reflect.Value, n *int) {
	*n++
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(-int64(*n % 128))
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(*n % 256))
	case reflect.Float32, reflect.Float64:
		v.SetFloat(float64(*n) / 4)
	case reflect.String:
		v.SetString([]string{"", "a", "ab", "abö", "ö"}[*n%5])
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fallthrough
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i), n)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), n)
		}
	}
}

// FuzzUnmarshal: whatever is read without error is written and read again the same.
func FuzzUnmarshal(f *testing.F) {
	for i, create := range types {
		f.Add(uint8(i), cdr.Marshal(create()))
	}
	for i, m := range filled()[:1] {
		f.Add(uint8(4+i), cdr.Marshal(m))
	}
	f.Fuzz(func(t *testing.T, which uint8, payload []byte) {
		create := types[int(which)%len(types)]
		m, again := create(), create()
		if cdr.Unmarshal(payload, m) != nil {
			return
		}
		first := cdr.Marshal(m)
		if err := cdr.Check(m); err != nil {
			t.Fatalf("%s: read beyond its bounds: %v", m.ROSType(), err)
		}
		if err := cdr.Unmarshal(first, again); err != nil {
			t.Fatalf("%s: %v", m.ROSType(), err)
		}
		if second := cdr.Marshal(again); !bytes.Equal(first, second) {
			t.Fatalf("%s: wrote\n%x, then\n%x", m.ROSType(), first, second)
		}
	})
}

func BenchmarkPeerArray(b *testing.B) {
	m := filled()[2]
	payload := cdr.Marshal(m)
	b.Run("marshal", func(b *testing.B) {
		b.SetBytes(int64(len(payload)))
		b.ReportAllocs()
		var buf []byte
		for b.Loop() {
			buf = cdr.AppendMarshal(buf[:0], m)
		}
	})
	b.Run("unmarshal", func(b *testing.B) {
		b.SetBytes(int64(len(payload)))
		b.ReportAllocs()
		var again hnet_bridge.PeerArray
		for b.Loop() {
			_ = cdr.Unmarshal(payload, &again)
		}
	})
}

func BenchmarkDoubles(b *testing.B) {
	m := &test_msgs.UnboundedSequences{Float64Values: make([]float64, 8192)}
	payload := cdr.Marshal(m)
	b.Run("marshal", func(b *testing.B) {
		b.SetBytes(int64(len(payload)))
		buf := payload[:0]
		for b.Loop() {
			buf = cdr.AppendMarshal(buf[:0], m)
		}
	})
	b.Run("unmarshal", func(b *testing.B) {
		b.SetBytes(int64(len(payload)))
		var again test_msgs.UnboundedSequences
		for b.Loop() {
			_ = cdr.Unmarshal(payload, &again)
		}
	})
}
