package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/record"
)

var (
	someEndpoint4 = netip.MustParseAddrPort("203.0.113.5:5582")
	someEndpoint6 = netip.MustParseAddrPort("[2001:db8::7]:443")
	someNode      = netip.MustParseAddr("fc94:1b7f:432:c8eb:c27b:9fad:cd51:2e85")
)

func fill[T ~[]byte](b T, from byte) T {
	for i := range b {
		b[i] = from + byte(i)
	}
	return b
}

func some16(from byte) [16]byte { return [16]byte(fill(make([]byte, 16), from)) }
func some32(from byte) [32]byte { return [32]byte(fill(make([]byte, 32), from)) }

// The layout as the documentation has it; whoever changes a byte here changes the protocol.
func TestLayout(t *testing.T) {
	const (
		sixteen  = "000102030405060708090a0b0c0d0e0f"
		sixteenB = "101112131415161718191a1b1c1d1e1f"
		thirty   = "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f"
		e4       = "00000000000000000000ffffcb00710515ce"
		e6       = "20010db800000000000000000000000701bb"
		none     = "000000000000000000000000000000000000"
		node     = "fc941b7f0432c8ebc27b9fadcd512e85"
		opaque   = "0001020304050607"
	)
	relay, relayed := make([]byte, 16), fill(make([]byte, 16), 1)
	PutRelay(relay, 0x01020304, 0x05060708, 0x090a0b0c)
	PutRelayed(relayed, 0x01020304, 0x090a0b0c)
	ping := [8]byte(fill(make([]byte, 8), 0))
	twelve := [12]byte(fill(make([]byte, 12), 0))
	for _, tt := range []struct {
		name string
		got  []byte
		want string
	}{
		{"hello", Hello{Nonce: some16(0)}.Append(nil), "40010000" + sixteen + strings.Repeat("00", 108)},
		{"cookie", Cookie{Nonce: some16(0), Key: some32(0x20), Cookie: some16(0x10), Observed: someEndpoint4}.Append(nil), "41010000" + sixteen + thirty + sixteenB + e4},
		{"register", RegisterHeader{Nonce: some16(0), Cookie: some16(0x10), Index: 0x01020304}.Append(nil), "42010000" + sixteen + sixteenB + "01020304"},
		{"register payload", RegisterPayload{Flags: 5, MaxAge: 258 * time.Second, Signed: []byte{7, 8}}.Append(nil), "050001020708"},
		{"welcome", WelcomeHeader{Index: 0x01020304}.Append(nil), "4301000001020304"},
		{"welcome payload", WelcomePayload{Session: 0x01020304, Token: 0x05060708, Observed: someEndpoint6, Hops: 9, AlternatePort: 0x0a0b, Keep: 150 * time.Second, RelayRate: 0x0c0d0e0f, MaxInterests: 10000}.Append(nil),
			"0102030405060708" + e6 + "090a0b00960c0d0e0f2710"},
		{"control", ControlHeader{Index: 0x01020304, Counter: 0x05060708090a0b0c}.Append(nil), "440000000102030405060708090a0b0c"},
		{"control of the Base", ControlHeader{FromBase: true, Index: 0x01020304, Counter: 1}.Append(nil), "45000000010203040000000000000001"},
		{"relay", relay, "480000000102030405060708090a0b0c"},
		{"relayed", relayed, "490000000102030400000000090a0b0c"},
		{"filter probe", FilterProbe{Nonce: twelve}.Append(nil), "4a000000000102030405060708090a0b"},
		{"unknown", Unknown{Session: 0x01020304, Echo: ping}.Append(nil), "4b00000001020304" + opaque},
		{"message", Message{Sequence: 0x01020304, Kind: KindPeer, Body: []byte{5, 6, 7}}.Append(nil), "01020304" + "07" + "0003" + "050607"},
		{"ping", Ping{Opaque: ping}.Append(nil), opaque},
		{"pong", Pong{Opaque: ping, Hops: 3}.Append(nil), opaque + none + "03"},
		{"record", Record{Signed: []byte{1, 2}}.Append(nil), "0102"},
		{"interest", Interest{Links: []Link{{1, someNode}, {2, someNode}}}.Append(nil), "00000001" + node + "00000002" + node},
		{"uninterest", Uninterest{Channels: []uint32{1, 0x10203}}.Append(nil), "0000000100010203"},
		{"peer", Peer{Channel: 7, Here: true, Observed: someEndpoint4, Signed: []byte{9}}.Append(nil), "0000000701" + e4 + "09"},
		{"peer gone", Peer{Channel: 7}.Append(nil), "0000000700" + none},
		{"drain", Drain{Seconds: 258}.Append(nil), "0102"},
		{"filter test", FilterTest{Nonce: twelve}.Append(nil), "000102030405060708090a0b"},
		{"close", Close{}.Append(nil), ""},
	} {
		if got := hex.EncodeToString(tt.got); got != tt.want {
			t.Errorf("%s:\n%s, want\n%s", tt.name, got, tt.want)
		}
	}
}

func TestLengths(t *testing.T) {
	for _, tt := range []struct{ name, got, want any }{
		{"hello", len(Hello{}.Append(nil)), 128},
		{"cookie", len(Cookie{}.Append(nil)), 86},
		{"register header", len(RegisterHeader{}.Append(nil)), RegisterHeaderLen},
		{"least register", MinRegisterLen, 254},
		{"longest register", MaxRegisterLen, 140 + record.MaxLen},
		{"welcome payload", len(WelcomePayload{}.Append(nil)), WelcomePayloadLen},
		{"welcome", WelcomeLen, 93},
		{"least control", MinControlLen, 36},
		{"longest body", MaxBody, 1017},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, tt.got, tt.want)
		}
	}
	// Nobody is answered by more than he sent, and everything fits.
	if CookieLen >= HelloLen || WelcomeLen >= MinRegisterLen || UnknownLen > RelayHeaderLen || UnknownLen > MinControlLen {
		t.Error("an answer is longer than its cause")
	}
	if peerFixed+record.MaxLen > MaxBody {
		t.Error("a peer with the longest record does not fit a control datagram")
	}
}

// Of each type, every length but its own is refused.
func TestTypeOf(t *testing.T) {
	between := func(lo, hi int) func(int) bool { return func(n int) bool { return n >= lo && n <= hi } }
	lengths := map[Type]func(int) bool{
		TypeHello: between(128, 128), TypeCookie: between(86, 86), TypeRegister: between(MinRegisterLen, MaxRegisterLen), TypeWelcome: between(93, 93),
		TypeControl: between(36, 1060), TypeBaseControl: between(36, 1060), TypeRelay: between(17, 65535), TypeRelayed: between(17, 65535),
		TypeFilterProbe: between(16, 16), TypeUnknown: between(16, 16),
	}
	b := make([]byte, 1600)
	for first := range 256 {
		b[0] = byte(first)
		for n := range b {
			want := Type(0)
			if fits := lengths[Type(first)]; n > 0 && fits != nil && fits(n) {
				want = Type(first)
			}
			if got := TypeOf(b[:n]); got != want {
				t.Fatalf("%d bytes from %#02x on: %v, want %v", n, first, got, want)
			}
		}
	}
}

func TestEndpoint(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"203.0.113.5:5582", "203.0.113.5:5582"},
		{"[::ffff:203.0.113.5]:5582", "203.0.113.5:5582"},
		{"[2001:db8::1]:1", "[2001:db8::1]:1"},
		{"[fe80::1%eth0]:65535", "[fe80::1]:65535"},
		{"203.0.113.5:0", "invalid AddrPort"},
		{"0.0.0.0:5", "invalid AddrPort"},
		{"[::]:5", "invalid AddrPort"},
	} {
		b := AppendEndpoint([]byte{1}, netip.MustParseAddrPort(tt.in))
		if len(b) != 1+EndpointLen {
			t.Errorf("%s: %d bytes", tt.in, len(b))
		}
		if got, err := ParseEndpoint(b[1:]); err != nil || got.String() != tt.want {
			t.Errorf("%s came back as %v, %v", tt.in, got, err)
		}
	}
	if b := AppendEndpoint(nil, netip.AddrPort{}); !bytes.Equal(b, make([]byte, 18)) {
		t.Errorf("none: %x", b)
	}
	only := func(at int) []byte { b := make([]byte, 18); b[at] = 1; return b }
	mapped := only(17)
	mapped[10], mapped[11] = 0xff, 0xff
	for name, b := range map[string][]byte{"port only": only(17), "address only": only(0), "mapped 0.0.0.0": mapped} {
		if got, err := ParseEndpoint(b); !errors.Is(err, ErrValue) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	for _, n := range []int{0, 17, 19} {
		if _, err := ParseEndpoint(make([]byte, n)); !errors.Is(err, ErrLength) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	signed := fill(make([]byte, 200), 3)
	for _, tt := range []struct {
		value  any
		b      []byte
		parsed func(b []byte) (any, error)
	}{
		{Hello{Nonce: some16(1)}, Hello{Nonce: some16(1)}.Append(nil), func(b []byte) (any, error) { return ParseHello(b) }},
		{Cookie{some16(1), some32(2), some16(3), someEndpoint6}, Cookie{some16(1), some32(2), some16(3), someEndpoint6}.Append(nil), func(b []byte) (any, error) { return ParseCookie(b) }},
		{RegisterPayload{1, 65535 * time.Second, signed}, RegisterPayload{1, 1e6 * time.Second, signed}.Append(nil), func(b []byte) (any, error) { return ParseRegisterPayload(b) }},
		{RegisterPayload{0, 0, signed}, RegisterPayload{0, -time.Second, signed}.Append(nil), func(b []byte) (any, error) { return ParseRegisterPayload(b) }},
		{WelcomePayload{1, 2, someEndpoint4, 3, 4, 5 * time.Second, 6, 7}, WelcomePayload{1, 2, someEndpoint4, 3, 4, 5 * time.Second, 6, 7}.Append(nil), func(b []byte) (any, error) { return ParseWelcomePayload(b) }},
		{FilterProbe{Nonce: [12]byte{1, 2}}, FilterProbe{Nonce: [12]byte{1, 2}}.Append(nil), func(b []byte) (any, error) { return ParseFilterProbe(b) }},
		{Unknown{1, [8]byte{2}}, Unknown{1, [8]byte{2}}.Append(nil), func(b []byte) (any, error) { return ParseUnknown(b) }},
		{Ping{[8]byte{1}}, Ping{[8]byte{1}}.Append(nil), func(b []byte) (any, error) { return ParsePing(b) }},
		{Pong{[8]byte{1}, someEndpoint4, 5}, Pong{[8]byte{1}, someEndpoint4, 5}.Append(nil), func(b []byte) (any, error) { return ParsePong(b) }},
		{Record{signed}, Record{signed}.Append(nil), func(b []byte) (any, error) { return ParseRecord(b) }},
		{Interest{[]Link{{1, someNode}, {2, someNode}}}, Interest{[]Link{{1, someNode}, {2, someNode}}}.Append(nil), func(b []byte) (any, error) { return ParseInterest(b) }},
		{Uninterest{[]uint32{1, 2}}, Uninterest{[]uint32{1, 2}}.Append(nil), func(b []byte) (any, error) { return ParseUninterest(b) }},
		{Peer{1, true, someEndpoint4, signed}, Peer{1, true, someEndpoint4, signed}.Append(nil), func(b []byte) (any, error) { return ParsePeer(b) }},
		{Drain{77}, Drain{77}.Append(nil), func(b []byte) (any, error) { return ParseDrain(b) }},
		{FilterTest{[12]byte{1}}, FilterTest{[12]byte{1}}.Append(nil), func(b []byte) (any, error) { return ParseFilterTest(b) }},
		{Close{}, Close{}.Append(nil), func(b []byte) (any, error) { return ParseClose(b) }},
	} {
		if got, err := tt.parsed(tt.b); err != nil || !reflect.DeepEqual(got, tt.value) {
			t.Errorf("%+v came back as %+v, %v", tt.value, got, err)
		}
		if _, err := tt.parsed(append(bytes.Clone(tt.b), make([]byte, 1000)...)); err == nil {
			t.Errorf("%T with 1000 bytes more was accepted", tt.value)
		}
		if len(tt.b) > 0 {
			if _, err := tt.parsed(tt.b[:1]); err == nil {
				t.Errorf("one byte of %T was accepted", tt.value)
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	version2 := Hello{}.Append(nil)
	version2[1] = 2
	_, err := ParseHello(version2)
	if !errors.Is(err, ErrVersion) {
		t.Errorf("version 2: %v", err)
	}
	_, err = ParseCookie(version2)
	if !errors.Is(err, ErrType) {
		t.Errorf("a hello as a cookie: %v", err)
	}
	outside := Interest{Links: []Link{{1, netip.MustParseAddr("2001:db8::1")}}}.Append(nil)
	for name, tt := range map[string]struct {
		parse func() error
		want  error
	}{
		"empty hello":             {func() error { _, err := ParseHello(nil); return err }, ErrLength},
		"empty register":          {func() error { _, _, err := ParseRegister(nil); return err }, ErrLength},
		"empty control":           {func() error { _, _, err := ParseControl(nil); return err }, ErrLength},
		"relay as control":        {func() error { _, _, err := ParseControl(append([]byte{0x48}, make([]byte, 50)...)); return err }, ErrType},
		"interest outside":        {func() error { _, err := ParseInterest(outside); return err }, ErrValue},
		"interest without":        {func() error { _, err := ParseInterest(nil); return err }, ErrLength},
		"interest of 51":          {func() error { _, err := ParseInterest(make([]byte, 51*20)); return err }, ErrLength},
		"interest channel 0":      {func() error { _, err := ParseInterest(Interest{Links: []Link{{0, someNode}}}.Append(nil)); return err }, ErrValue},
		"uninterest channel 0":    {func() error { _, err := ParseUninterest(make([]byte, 4)); return err }, ErrValue},
		"peer on channel 0":       {func() error { _, err := ParsePeer(Peer{}.Append(nil)); return err }, ErrValue},
		"peer here, no record":    {func() error { _, err := ParsePeer(Peer{Channel: 1, Here: true}.Append(nil)); return err }, ErrValue},
		"message header":          {func() error { _, _, err := NextMessage(make([]byte, 6)); return err }, ErrLength},
		"message body":            {func() error { _, _, err := NextMessage([]byte{0, 0, 0, 0, 1, 0, 2, 9}); return err }, ErrLength},
		"record beyond its bound": {func() error { _, err := ParseRecord(make([]byte, record.MaxLen+1)); return err }, ErrLength},
	} {
		if err := tt.parse(); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
}

func TestRelayHeader(t *testing.T) {
	b := make([]byte, 20)
	PutRelay(b, 1, 2, 3)
	if s, k, c, ok := ParseRelay(b); !ok || s != 1 || k != 2 || c != 3 {
		t.Errorf("relay: %d %d %d %v", s, k, c, ok)
	}
	if _, _, ok := ParseRelayed(b); ok {
		t.Error("relay read as relayed")
	}
	PutRelayed(b, 4, 5)
	if i, c, ok := ParseRelayed(b); !ok || i != 4 || c != 5 {
		t.Errorf("relayed: %d %d %v", i, c, ok)
	}
	if _, _, _, ok := ParseRelay(b); ok {
		t.Error("relayed read as relay")
	}
	for n := range 17 {
		if _, _, ok := ParseRelayed(b[:n]); ok {
			t.Errorf("%d bytes accepted", n)
		}
	}
	if n := testing.AllocsPerRun(100, func() {
		PutRelay(b, 1, 2, 3)
		if _, _, _, ok := ParseRelay(b); !ok || TypeOf(b) != TypeRelay {
			t.Fatal("refused")
		}
		PutRelayed(b, 4, 5)
		if _, _, ok := ParseRelayed(b); !ok {
			t.Fatal("refused")
		}
	}); n != 0 {
		t.Errorf("%v allocations in the relay path", n)
	}
}

func TestUnknownTo(t *testing.T) {
	b := make([]byte, 40)
	PutRelay(b, 1, 2, 3)
	if u, ok := UnknownTo(b); !ok || u != (Unknown{1, [8]byte{0, 0, 0, 2, 0, 0, 0, 3}}) {
		t.Errorf("relay: %+v, %v", u, ok)
	}
	control := append(ControlHeader{Index: 9, Counter: 5}.Append(nil), make([]byte, 20)...)
	if u, ok := UnknownTo(control); !ok || u != (Unknown{9, [8]byte{7: 5}}) {
		t.Errorf("control: %+v, %v", u, ok)
	}
	for name, b := range map[string][]byte{"hello": Hello{}.Append(nil), "unknown": Unknown{}.Append(nil), "short": b[:16], "none": nil} {
		if _, ok := UnknownTo(b); ok {
			t.Errorf("%s is answered", name)
		}
	}
}

func BenchmarkRelayHeader(b *testing.B) {
	d := make([]byte, 1400)
	b.ReportAllocs()
	for b.Loop() {
		PutRelay(d, 1, 2, 3)
		if TypeOf(d) == TypeRelay {
			s, _, c, _ := ParseRelay(d)
			PutRelayed(d, s, c)
		}
	}
}
