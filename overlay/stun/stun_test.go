package stun

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The responses of RFC 5769, 2.2 and 2.3, whole: SOFTWARE, XOR-MAPPED-ADDRESS, MESSAGE-INTEGRITY and FINGERPRINT.
const (
	response4 = `0101003c 2112a442 b7e7a701 bc34d686 fa87dfae
		8022000b 74657374 20766563 746f7220
		00200008 0001a147 e112a643
		00080014 2b91f599 fd9e90c3 8c7489f9 2af9ba53 f06be7d7
		80280004 c07d4c96`
	response6 = `01010048 2112a442 b7e7a701 bc34d686 fa87dfae
		8022000b 74657374 20766563 746f7220
		00200014 0002a147 0113a9fa a5d3f179 bc25f4b5 bed2b9d9
		00080014 a382954e 4be67bf1 1784c97c 8292c275 bfe3ed41
		80280004 c8fb0b4c`
	// The request of RFC 5769, 2.1: PRIORITY, USERNAME and MESSAGE-INTEGRITY must be understood.
	iceRequest = `00010058 2112a442 b7e7a701 bc34d686 fa87dfae
		80220010 5354554e 20746573 7420636c 69656e74
		00240004 6e0001ff 80290008 932ff9b1 51263b36
		00060009 6576746a 3a683676 59202020
		00080014 9aeaa70c bfd8cb56 781ef2b5 b2d3f249 c1b571a2
		80280004 e57a3bcf`
)

var vectorID = [12]byte{0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae}

func TestVectorsOfRFC5769(t *testing.T) {
	for _, tt := range []struct {
		raw, mapped string
		own         int
	}{
		{response4, "192.0.2.1:32853", SuccessLen4},
		{response6, "[2001:db8:1234:5678:11:2233:4455:6677]:32853", SuccessLen6},
	} {
		raw, want := unhex(t, tt.raw), netip.MustParseAddrPort(tt.mapped)
		id, got, ok := ParseSuccess(raw)
		if !ok || id != vectorID || got != want {
			t.Errorf("%v: %x, %v, %v", want, id, got, ok)
		}
		// Our own response has the vector's attribute and no other.
		own := AppendSuccess(nil, vectorID, want)
		if len(own) != tt.own || !bytes.Equal(own[headerLen:], raw[36:36+len(own)-headerLen]) || !bytes.Equal(own[4:headerLen], raw[4:headerLen]) {
			t.Errorf("%v: %x", want, own)
		}
		if id, got, ok = ParseSuccess(own); !ok || id != vectorID || got != want {
			t.Errorf("own %v: %x, %v, %v", want, id, got, ok)
		}
	}
	raw := unhex(t, iceRequest)
	if !IsMessage(raw) {
		t.Error("the request is not seen as STUN")
	}
	if _, ok := ParseRequest(raw); ok {
		t.Error("accepted a request whose attributes must be understood")
	}
}

func TestRequest(t *testing.T) {
	b := AppendRequest([]byte("x"), vectorID)[1:]
	if want := unhex(t, "00010000 2112a442 b7e7a701 bc34d686 fa87dfae"); !bytes.Equal(b, want) {
		t.Errorf("%x, want %x", b, want)
	}
	if id, ok := ParseRequest(b); !ok || id != vectorID {
		t.Errorf("%x, %v", id, ok)
	}
	if _, _, ok := ParseSuccess(b); ok {
		t.Error("a request is accepted as a response")
	}
}

func TestParseRequest(t *testing.T) {
	const head = "2112a442 b7e7a701 bc34d686 fa87dfae"
	for _, tt := range []struct {
		name, raw string
		want      bool
	}{
		{"plain", "00010000" + head, true},
		{"with SOFTWARE, padded", "0001000c" + head + "80220005 68656c6c 6f000000", true},
		{"with an unknown optional attribute of no length", "00010004" + head + "ffff0000", true},
		{"CHANGE-REQUEST", "00010008" + head + "00030004 00000006", false},
		{"empty", "", false},
		{"a byte too few", "00010000" + head[:len(head)-2], false},
		{"a byte too many", "00010000" + head + "00", false},
		{"length beyond the end", "00010004" + head, false},
		{"length before the end", "00010000" + head + "80220000", false},
		{"attribute beyond the end", "00010004" + head + "80220001", false},
		{"half an attribute header", "00010002" + head + "8022", false},
		{"other magic cookie", "00010000 2112a443" + head[8:], false},
		{"indication", "00110000" + head, false},
		{"response", "01010000" + head, false},
		{"other method", "00030000" + head, false},
		{"first bits", "c0010000" + head, false},
	} {
		if _, ok := ParseRequest(unhex(t, tt.raw)); ok != tt.want {
			t.Errorf("%s: %v", tt.name, ok)
		}
	}
}

func TestParseSuccess(t *testing.T) {
	const head = "2112a442 b7e7a701 bc34d686 fa87dfae"
	const good = "00200008 0001a147 e112a643"
	for _, tt := range []struct {
		name, raw string
		want      bool
	}{
		{"plain", "0101000c" + head + good, true},
		{"MAPPED-ADDRESS before", "01010018" + head + "00010008 00018055 c0000202" + good, true},
		{"a second address", "01010018" + head + good + "00200008 0001a148 e112a643", true},
		{"MAPPED-ADDRESS only", "0101000c" + head + "00010008 00018055 c0000202", false},
		{"no attribute", "01010000" + head, false},
		{"unknown that must be understood", "01010010" + head + good + "00030000", false},
		{"error response", "0111000c" + head + good, false},
		{"family 3", "0101000c" + head + "00200008 0003a147 e112a643", false},
		{"IPv6 in 8 bytes", "0101000c" + head + "00200008 0002a147 e112a643", false},
		{"short", "01010008" + head + "00200003 0001a1 00", false},
		{"port 0", "0101000c" + head + "00200008 00012112 e112a643", false},
		{"0.0.0.0", "0101000c" + head + "00200008 0001a147 2112a442", false},
		{"multicast", "0101000c" + head + "00200008 0001a147 c112a443", false},
	} {
		_, mapped, ok := ParseSuccess(unhex(t, tt.raw))
		if ok != tt.want || ok && mapped.String() != "192.0.2.1:32853" {
			t.Errorf("%s: %v, %v", tt.name, mapped, ok)
		}
	}
}

func TestSuccessLengths(t *testing.T) {
	for _, tt := range []struct {
		mapped, want string
		n            int
	}{
		{"1.2.3.4:5", "1.2.3.4:5", 32},
		{"[::ffff:1.2.3.4]:5", "1.2.3.4:5", 32},
		{"[fe80::1%eth0]:65535", "[fe80::1]:65535", 44},
	} {
		b := AppendSuccess(nil, vectorID, netip.MustParseAddrPort(tt.mapped))
		if _, got, ok := ParseSuccess(b); len(b) != tt.n || !ok || got.String() != tt.want {
			t.Errorf("%s: %d bytes, %v, %v", tt.mapped, len(b), got, ok)
		}
	}
	if b := AppendSuccess(nil, vectorID, netip.AddrPort{}); len(b) != 0 {
		t.Errorf("no address: %x", b)
	}
}

func TestRandomRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 10000 {
		var id [12]byte
		var raw [16]byte
		for i := range id {
			id[i] = byte(r.Uint32())
		}
		for i := range raw {
			raw[i] = byte(r.Uint32())
		}
		raw[0] = 0x20
		mapped := netip.AddrPortFrom(netip.AddrFrom16(raw), uint16(1+r.IntN(65535)))
		if gotID, got, ok := ParseSuccess(AppendSuccess(nil, id, mapped)); !ok || got != mapped || gotID != id {
			t.Fatalf("%v came back as %v, %v", mapped, got, ok)
		}
	}
}

func TestNoAllocation(t *testing.T) {
	buf, request := make([]byte, 0, 64), AppendRequest(nil, vectorID)
	mapped := netip.MustParseAddrPort("[2001:db8::1]:5582")
	if n := testing.AllocsPerRun(100, func() {
		id, ok := ParseRequest(request)
		if !ok || !IsMessage(request) {
			t.Fatal("refused")
		}
		if _, _, ok := ParseSuccess(AppendSuccess(buf, id, mapped)); !ok {
			t.Fatal("refused")
		}
	}); n != 0 {
		t.Errorf("%v allocations for a question and its answer", n)
	}
}

func FuzzParse(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		id, request := ParseRequest(b)
		if request {
			if again := AppendRequest(nil, id); !IsMessage(b) || !bytes.Equal(again[4:], b[4:headerLen]) {
				t.Errorf("%x was read from %x", id, b)
			}
		}
		id, mapped, success := ParseSuccess(b)
		if request && success {
			t.Errorf("%x is both", b)
		}
		if success {
			own := AppendSuccess(nil, id, mapped)
			if id2, mapped2, ok := ParseSuccess(own); !ok || id2 != id || mapped2 != mapped || len(own) > len(b) {
				t.Errorf("%v of %x came back as %v, %v", mapped, b, mapped2, ok)
			}
		}
		if !bytes.Equal(before, b) {
			t.Error("the input was changed")
		}
	})
}

func BenchmarkAnswer(b *testing.B) {
	buf, request := make([]byte, 0, 64), AppendRequest(nil, vectorID)
	mapped := netip.MustParseAddrPort("[2001:db8::1]:5582")
	b.ReportAllocs()
	for b.Loop() {
		id, _ := ParseRequest(request)
		AppendSuccess(buf, id, mapped)
	}
}
