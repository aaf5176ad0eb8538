package wire

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

var (
	here  = LocatorFrom(netip.MustParseAddrPort("192.0.2.1:7410"))
	there = LocatorFrom(netip.MustParseAddrPort("[fc94::1]:7411"))
	group = LocatorFrom(netip.MustParseAddrPort("239.255.0.1:7400"))
	shm   = Locator{Kind: LocatorSHM, Port: 7413}
)

func participant() ParticipantData {
	return ParticipantData{
		GUID: GUID{testPrefix, EntityParticipant}, Version: Version, Vendor: VendorCyclone, Builtin: HasAll, Lease: 10 * time.Second,
		MetatrafficUnicast: []Locator{here, there, shm}, MetatrafficMulticast: []Locator{group}, DefaultUnicast: []Locator{there}, DefaultMulticast: []Locator{group, here},
		ExpectsInlineQoS: true, HasDomainID: true, DomainID: 42, DomainTag: "tag", Name: "robot", UserData: []byte("enclave=/;"),
		Properties: []Property{{"a", "b"}, {"", ""}, {"longer", "and longer"}}, ManualLiveliness: 3,
	}
}

func endpoint(writer bool) EndpointData {
	d := EndpointData{
		GUID: GUID{testPrefix, MakeEntityID(1, KindReaderNoKey)}, Participant: GUID{testPrefix, EntityParticipant}, Topic: "rt/chatter",
		Type: "std_msgs::msg::dds_::String_", QoS: DefaultQoS(writer), Unicast: []Locator{here, shm}, Multicast: []Locator{group}, ExpectsInlineQoS: true,
		UserData: []byte("typehash=RIHS01_00;"), TopicData: []byte("t"), GroupData: []byte("g"), MaxSize: 1000, Name: "name",
		KeyHash: [16]byte{1, 2, 3}, HasKeyHash: true, Properties: []Property{{"n", "v"}},
	}
	if writer {
		d.GUID.Entity = MakeEntityID(1, KindWriterNoKey)
	}
	d.QoS.Partitions = []string{"p"}
	return d
}

// TestDiscoveryData writes everything and reads it again, in both byte orders (9.6.2.2).
func TestDiscoveryData(t *testing.T) {
	for _, big := range []bool{false, true} {
		p := participant()
		w := NewParameterWriter([]byte("before"), big)
		w.Participant(&p)
		b, ok := bytes.CutPrefix(w.Bytes(), []byte("before"))
		if got, err := ParseParticipant(b); !ok || err != nil || !reflect.DeepEqual(got, p) {
			t.Errorf("big endian %v: %v\n%+v, want\n%+v", big, err, got, p)
		}
		for _, writer := range []bool{false, true} {
			e := endpoint(writer)
			w := NewParameterWriter(nil, big)
			w.Endpoint(&e)
			got, err := ParseEndpoint(w.Bytes(), writer)
			if err != nil || !reflect.DeepEqual(got, e) || got.Writer() != writer {
				t.Errorf("big endian %v: %v\n%+v, want\n%+v", big, err, got, e)
			}
			if c := got.Clone(); !reflect.DeepEqual(c, e) {
				t.Errorf("clone %+v", c)
			}
			if _, err := ParseEndpoint(w.Bytes(), !writer); !errors.Is(err, ErrMalformed) {
				t.Errorf("a writer taken for a reader or the reverse: %v", err)
			}
		}
	}
}

// list writes a payload of parameters with an encapsulation and a sentinel.
func list(f ...func(w *ParameterWriter)) []byte {
	var w ParameterWriter
	w.Encapsulation()
	for _, f := range f {
		f(&w)
	}
	w.Sentinel()
	return w.Bytes()
}

func guid(id PID, g GUID) func(*ParameterWriter) { return func(w *ParameterWriter) { w.GUID(id, g) } }
func text(id PID, s string) func(*ParameterWriter) {
	return func(w *ParameterWriter) { w.Text(id, s) }
}
func raw(t testing.TB, id PID, hex string) func(*ParameterWriter) {
	b := unhex(t, hex)
	return func(w *ParameterWriter) { w.Raw(id, b) }
}

// TestDefaults is what holds for parameters left out: Fast DDS from 3.3 on leaves out every default.
func TestDefaults(t *testing.T) {
	d, err := ParseParticipant(list(guid(PIDParticipantGUID, GUID{testPrefix, EntityParticipant})))
	if want := (ParticipantData{GUID: GUID{testPrefix, EntityParticipant}, Lease: 100 * time.Second}); err != nil || !reflect.DeepEqual(d, want) {
		t.Errorf("%v %+v", err, d)
	}
	for _, writer := range []bool{false, true} {
		want := EndpointData{GUID: endpoint(writer).GUID, Topic: "t", Type: "T", QoS: DefaultQoS(writer)}
		e, err := ParseEndpoint(list(guid(PIDEndpointGUID, want.GUID), text(PIDTopicName, "t"), text(PIDTypeName, "T")), writer)
		if err != nil || !reflect.DeepEqual(e, want) || (e.QoS.Reliability.Kind == Reliable) != writer {
			t.Errorf("%v %+v", err, e)
		}
	}
	e, err := ParseEndpoint(list(func(w *ParameterWriter) { b := endpoint(true).GUID.Bytes(); w.Raw(PIDKeyHash, b[:]) }, text(PIDTopicName, "t"), text(PIDTypeName, "T")), true)
	if err != nil || e.GUID != endpoint(true).GUID {
		t.Errorf("9.6.3.8, a key hash in place of the GUID: %v %+v", err, e)
	}
}

// TestDiscoveryRefused is what discovery data must not be, and what it may.
func TestDiscoveryRefused(t *testing.T) {
	key := guid(PIDParticipantGUID, GUID{testPrefix, EntityParticipant})
	for _, test := range []struct {
		name string
		b    []byte
		err  error
	}{
		{"valid", list(key), nil},
		{"empty", nil, ErrMalformed},
		{"plain CDR", []byte{0, 1, 0, 0, 1, 0, 0, 0}, ErrMalformed},
		{"no GUID", list(), ErrMalformed},
		{"GUID of a writer", list(guid(PIDParticipantGUID, GUID{testPrefix, 3})), ErrMalformed},
		{"GUID of nobody", list(guid(PIDParticipantGUID, GUID{Entity: EntityParticipant})), ErrMalformed},
		{"no sentinel", list(key)[:24], ErrMalformed},
		{"half a GUID", list(raw(t, PIDParticipantGUID, "00000000")), ErrMalformed},
		{"another major version", list(key, raw(t, PIDProtocolVersion, "03000000")), ErrNotRTPS},
		{"negative lease", list(key, raw(t, PIDParticipantLeaseDuration, "ffffffff00000000")), ErrMalformed},
		{"half a locator", list(key, raw(t, PIDDefaultUnicastLocator, "01000000")), ErrMalformed},
		{"string beyond its parameter", list(key, raw(t, PIDEntityName, "05000000 61626300")), ErrMalformed},
		{"string of four billion", list(key, raw(t, PIDEntityName, "ffffffff 61626300")), ErrMalformed},
		{"string with a zero inside", list(key, raw(t, PIDEntityName, "04000000 61006300")), ErrMalformed},
		{"string without a zero", list(key, raw(t, PIDEntityName, "04000000 61626364")), nil},
		{"string of nothing at all", list(key, raw(t, PIDEntityName, "00000000")), nil},
		{"name too long", list(key, text(PIDEntityName, strings.Repeat("x", MaxName+1))), ErrMalformed},
		{"longest name", list(key, text(PIDEntityName, strings.Repeat("x", MaxName))), nil},
		{"user data too long", list(key, func(w *ParameterWriter) { w.Octets(PIDUserData, make([]byte, MaxUserData+1)) }), ErrMalformed},
		{"properties beyond their parameter", list(key, raw(t, PIDPropertyList, "ffffff1f")), ErrMalformed},
		{"half a property", list(key, raw(t, PIDPropertyList, "01000000 02000000 61000000")), ErrMalformed},
		{"9.6.2.2.1: unknown, must be understood", list(key, raw(t, 0x4fff, "00000000")), ErrMustUnderstand},
		{"9.6.2.2.1: a vendor's, must be understood", list(key, raw(t, 0xcfff, "00000000")), nil},
		{"unknown", list(key, raw(t, 0x0fff, "00000000"), raw(t, PIDPad, "00000000")), nil},
		{"a token of DDS-Security", list(key, raw(t, PIDIdentityToken, "00000000")), nil},
	} {
		d, err := ParseParticipant(test.b)
		if !errors.Is(err, test.err) || err != nil && !reflect.DeepEqual(d, ParticipantData{}) {
			t.Errorf("%s: %v %+v", test.name, err, d)
		}
		if err == nil && d.Unknown != 0 != (test.name == "unknown" || strings.Contains(test.name, "a vendor's")) {
			t.Errorf("%s: %d unknown", test.name, d.Unknown)
		}
		if err == nil && d.Secure != strings.Contains(test.name, "Security") {
			t.Errorf("%s: secure %v", test.name, d.Secure)
		}
	}
	e := endpoint(true)
	key = guid(PIDEndpointGUID, e.GUID)
	topic, kind := text(PIDTopicName, "t"), text(PIDTypeName, "T")
	for _, test := range []struct {
		name string
		b    []byte
		err  error
	}{
		{"valid", list(key, topic, kind), nil},
		{"no topic", list(key, kind), ErrMalformed},
		{"no type", list(key, topic), ErrMalformed},
		{"no GUID", list(topic, kind), ErrMalformed},
		{"another's participant", list(key, topic, kind, guid(PIDParticipantGUID, GUID{GuidPrefix{9}, EntityParticipant})), ErrMalformed},
		{"a policy that is none", list(key, topic, kind, raw(t, PIDDurability, "09000000")), ErrMalformed},
		{"must be understood", list(key, topic, kind, raw(t, 0x4fff, "")), ErrMustUnderstand},
		{"content filter, type information", list(key, topic, kind, raw(t, PIDContentFilter, ""), raw(t, PIDTypeInformation, "00000000")), nil},
	} {
		d, err := ParseEndpoint(test.b, true)
		if !errors.Is(err, test.err) || err == nil && (d.ContentFiltered && d.TypeInformation) != strings.Contains(test.name, "filter") {
			t.Errorf("%s: %v %+v", test.name, err, d)
		}
	}
}

// TestDiscoveryBounds sees that lists end at their bounds and that locators said twice count once.
func TestDiscoveryBounds(t *testing.T) {
	d := participant()
	d.DefaultUnicast, d.Properties = nil, nil
	for i := range MaxLocators + 5 {
		l := Locator{Kind: LocatorUDPv4, Port: uint32(i)}
		d.DefaultUnicast = append(d.DefaultUnicast, l, l, Locator{Kind: LocatorInvalid})
	}
	for i := range MaxProperties + 7 {
		d.Properties = append(d.Properties, Property{fmt.Sprint(i), strings.Repeat("x", i)})
	}
	got, err := ParseParticipant(d.Append(nil))
	if err != nil || len(got.DefaultUnicast) != MaxLocators || len(got.Properties) != MaxProperties || got.Dropped != 10+7 {
		t.Errorf("%v: %d locators, %d properties, %d dropped", err, len(got.DefaultUnicast), len(got.Properties), got.Dropped)
	}
	d.UserData = make([]byte, 70_000)
	if got, err := ParseParticipant(d.Append(nil)); err != nil || got.UserData != nil {
		t.Errorf("a parameter that is too long was not left out: %v", err)
	}
	e := endpoint(true)
	for range MaxPartitions {
		e.QoS.Partitions = append(e.QoS.Partitions, "x")
	}
	if _, err := ParseEndpoint(e.Append(nil), true); !errors.Is(err, ErrMalformed) {
		t.Errorf("too many partitions: %v", err)
	}
}

// TestKeys is how discovery data ends: with its key as payload, or with its key hash alone.
func TestKeys(t *testing.T) {
	g := endpoint(true).GUID
	for _, test := range []struct {
		name string
		d    Data
		q    InlineQoS
		want GUID
	}{
		{"key", Data{Payload: AppendKey(nil, PIDEndpointGUID, g)}, InlineQoS{}, g},
		{"all of the data", Data{Payload: list(text(PIDTopicName, "t"), guid(PIDEndpointGUID, g))}, InlineQoS{}, g},
		{"key hash", Data{}, InlineQoS{KeyHash: g.Bytes(), HasKeyHash: true}, g},
		{"another key, key hash", Data{Payload: AppendKey(nil, PIDParticipantGUID, g)}, InlineQoS{KeyHash: g.Bytes(), HasKeyHash: true}, g},
		{"nothing", Data{}, InlineQoS{}, GUID{}},
		{"key hash of zeros", Data{}, InlineQoS{HasKeyHash: true}, GUID{}},
		{"rubbish", Data{Payload: []byte{1, 2, 3}}, InlineQoS{}, GUID{}},
	} {
		if got, ok := EndedGUID(&test.d, &test.q, PIDEndpointGUID); got != test.want || ok == got.IsZero() {
			t.Errorf("%s: %v %v", test.name, got, ok)
		}
	}
	for _, b := range [][]byte{nil, list(), list(raw(t, PIDEndpointGUID, "00000000")), list(guid(PIDEndpointGUID, GUID{}))} {
		if g, err := ParseKey(b, PIDEndpointGUID); !errors.Is(err, ErrMalformed) {
			t.Errorf("%x: %v %v", b, g, err)
		}
	}
}

// TestParticipantMessage is 9.6.2.1.
func TestParticipantMessage(t *testing.T) {
	m := ParticipantMessage{testPrefix, AutomaticLiveliness, []byte{7}}
	b := m.Append(nil)
	if want := unhex(t, "00010000 0102030405060708090a0b0c 00000001 01000000 07"); !bytes.Equal(b, want) {
		t.Errorf("%x", b)
	}
	big := unhex(t, "00000000 0102030405060708090a0b0c 00000001 00000001 07")
	for _, b := range [][]byte{b, big} {
		if got, err := ParseParticipantMessage(b); err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%v %+v", err, got)
		}
	}
	if got := m.KeyHash(); got != [16]byte(unhex(t, "0102030405060708090a0b0c 00000001")) {
		t.Errorf("%x", got)
	}
	m.Data = make([]byte, 200)
	if got, err := ParseParticipantMessage(m.Append(nil)); err != nil || len(got.Data) != maxMessageData {
		t.Errorf("%v %d", err, len(got.Data))
	}
	for _, s := range []string{"", "0001", "00020000", "00010000 01020304", "00010000 0102030405060708090a0b0c 00000001 02000000 07", "00010000 0102030405060708090a0b0c 00000001 81000000" + strings.Repeat("00", 0x81)} {
		if _, err := ParseParticipantMessage(unhex(t, s)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", s, err)
		}
	}
}

// TestInlineQoS is 9.6.3, with the two numbers of a related sample identity.
func TestInlineQoS(t *testing.T) {
	a, b := SampleIdentity{GUID{testPrefix, 0x203}, 0x1_0000_0002}, SampleIdentity{GUID{testPrefix, 0x403}, 7}
	identity := func(id PID, s SampleIdentity) func(*ParameterWriter) {
		return func(w *ParameterWriter) { w.SampleIdentity(id, s) }
	}
	for _, test := range []struct {
		name string
		b    []byte
		want InlineQoS
		err  error
	}{
		{"nothing", list(), InlineQoS{}, nil},
		{"0x0083", list(identity(0x0083, a)), InlineQoS{Related: a, HasRelated: true}, nil},
		{"0x800f", list(identity(0x800f, a)), InlineQoS{Related: a, HasRelated: true}, nil},
		{"both", list(identity(0x800f, b), identity(0x0083, a)), InlineQoS{Related: a, HasRelated: true}, nil},
		{"both, the other way round", list(identity(0x0083, a), identity(0x800f, b)), InlineQoS{Related: a, HasRelated: true}, nil},
		{"0x800f of somebody else", list(raw(t, 0x800f, "00000000")), InlineQoS{}, nil},
		{"half of 0x0083", list(raw(t, 0x0083, "00000000")), InlineQoS{}, ErrMalformed},
		{"9.6.3.9: disposed and unregistered", list(raw(t, PIDStatusInfo, "00000003")), InlineQoS{Status: StatusDisposed | StatusUnregistered}, nil},
		{"9.6.3.8: key hash", list(raw(t, PIDKeyHash, "000102030405060708090a0b0c0d0e0f")), InlineQoS{HasKeyHash: true, KeyHash: [16]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}}, nil},
		{"half a key hash", list(raw(t, PIDKeyHash, "0001020304050607")), InlineQoS{}, ErrMalformed},
		{"a coherent set and a policy", list(raw(t, PIDCoherentSet, "0000000001000000"), raw(t, PIDDeadline, "0000000001000000")), InlineQoS{Unknown: 2}, nil},
		{"must be understood", list(raw(t, 0x4abc, "")), InlineQoS{}, ErrMustUnderstand},
		{"must be understood, a vendor's", list(raw(t, 0xcabc, "")), InlineQoS{Unknown: 1}, nil},
	} {
		got, err := ParseInlineQoS(ParameterList{Bytes: test.b[4:]})
		if !errors.Is(err, test.err) || got != test.want {
			t.Errorf("%s: %v %+v, want %+v", test.name, err, got, test.want)
		}
		if err == nil && test.want.Unknown == 0 {
			again, err := ParseInlineQoS(ParameterList{Bytes: AppendInlineQoS(nil, got)})
			if err != nil || again != got {
				t.Errorf("%s, written again: %v %+v", test.name, err, again)
			}
		}
	}
	if b := AppendInlineQoS(nil, InlineQoS{}); b != nil {
		t.Errorf("nothing to say: %x", b)
	}
	if _, err := ParseInlineQoS(ParameterList{Bytes: []byte{0x70, 0}}); !errors.Is(err, ErrMalformed) {
		t.Errorf("no list: %v", err)
	}
}

// TestParameterValues reads single values.
func TestParameterValues(t *testing.T) {
	var w ParameterWriter
	g := endpoint(false).GUID
	w.GUID(1000, g)
	w.Locator(1001, there)
	w.Uint32(1002, 77)
	w.Duration(1003, time.Second)
	w.Text(1004, "text")
	w.Octets(1005, []byte{1, 2, 3})
	w.Bool(1006, true)
	w.Sentinel()
	l := ParameterList{Bytes: w.Bytes()}
	find := func(id PID) Parameter {
		p, ok := l.Find(id)
		if !ok || p.VendorSpecific() || p.MustUnderstand() {
			t.Errorf("parameter %d: %v", id, p)
		}
		return p
	}
	if v, ok := find(1000).GUID(); !ok || v != g {
		t.Error(v)
	}
	if v, ok := find(1001).Locator(); !ok || v != there {
		t.Error(v)
	}
	if v, ok := find(1002).Uint32(); !ok || v != 77 {
		t.Error(v)
	}
	if v, ok := find(1003).Duration(); !ok || v != time.Second {
		t.Error(v)
	}
	if v, ok := find(1004).Text(4); !ok || v != "text" {
		t.Error(v)
	}
	if v, ok := find(1004).Text(3); ok {
		t.Error(v)
	}
	if v, ok := find(1005).Octets(); !ok || !bytes.Equal(v, []byte{1, 2, 3}) {
		t.Error(v)
	}
	if _, ok := find(1006).GUID(); ok {
		t.Error("a GUID of 4 bytes")
	}
	if p, ok := l.Find(1007); ok {
		t.Error(p)
	}
}
