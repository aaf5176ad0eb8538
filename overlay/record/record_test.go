package record

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
)

var (
	signer  = identity.FromSeed([32]byte{1})
	compare = cmp.Options{cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })}
)

func sample() Record {
	return Record{
		Key:      signer.SigningKey(),
		Sequence: 0x0102030405060708,
		Lifetime: 90 * time.Second,
		Endpoints: []netip.AddrPort{
			netip.MustParseAddrPort("192.0.2.1:5582"),
			netip.MustParseAddrPort("[2001:db8::1]:5582"),
			netip.MustParseAddrPort("[fe80::1]:65535"),
		},
		Bases: []netip.Addr{netip.MustParseAddr("fc94::1"), netip.MustParseAddr("fc94:2::")},
		Relay: true,
	}
}

// full is the longest record without an extension.
func full() Record {
	r := Record{Sequence: math.MaxUint64, Lifetime: MaxLifetime}
	for i := range MaxEndpoints {
		a := netip.MustParseAddr("2001:db8::").As16()
		a[15] = byte(i)
		r.Endpoints = append(r.Endpoints, netip.AddrPortFrom(netip.AddrFrom16(a), 65535))
	}
	for i := range MaxBases {
		a := netip.MustParseAddr("fc94::").As16()
		a[15] = byte(i)
		r.Bases = append(r.Bases, netip.AddrFrom16(a))
	}
	return r
}

func mustSign(t testing.TB, r Record) []byte {
	t.Helper()
	b, err := r.Sign(signer)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRoundTrip(t *testing.T) {
	for name, want := range map[string]Record{
		"sample": sample(),
		"least":  {Lifetime: MinLifetime},
		"full":   full(),
	} {
		t.Run(name, func(t *testing.T) {
			want.Key = identity.SigningKey{} // Sign sets it
			b, err := want.Sign(signer)
			if err != nil {
				t.Fatal(err)
			}
			if want.Key != signer.SigningKey() {
				t.Errorf("Sign set the key %v", want.Key)
			}
			got, err := Parse(b)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, compare); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if got.PublicKey() != signer.PublicKey() || got.Address() != signer.Address() {
				t.Errorf("key %v, address %v", got.PublicKey(), got.Address())
			}
			clear(b)
			if diff := cmp.Diff(want, got, compare); diff != "" {
				t.Errorf("the record shares memory with its bytes:\n%s", diff)
			}
		})
	}
}

// The bytes of docs/protocol.md.
func TestLayout(t *testing.T) {
	key := signer.SigningKey()
	want := "01" + "01" + hex.EncodeToString(key[:]) + "0102030405060708" + "0000005a" + "03" + "02" +
		"04" + "c0000201" + "15ce" +
		"06" + "20010db8000000000000000000000001" + "15ce" +
		"06" + "fe800000000000000000000000000001" + "ffff" +
		"fc940000000000000000000000000001" + "fc940002000000000000000000000000" +
		"0000"
	b := mustSign(t, sample())
	body, sig := b[:len(b)-64], b[len(b)-64:]
	if hex.EncodeToString(body) != want {
		t.Errorf("body\n%x, want\n%s", body, want)
	}
	if !key.Verify(append([]byte("hnet contact record v1"), body...), sig) {
		t.Error("the signature is not that of label and body")
	}
	if key.Verify(body, sig) {
		t.Error("the label is not signed")
	}
	if MaxLen > 1024 {
		t.Errorf("MaxLen is %d", MaxLen)
	}
}

func TestExtensionIsSignedAndIgnored(t *testing.T) {
	r := full()
	extension := bytes.Repeat([]byte{0xee}, MaxExtension)
	b, err := r.sign(signer, extension)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) != MaxLen {
		t.Errorf("the longest record has %d bytes, MaxLen is %d", len(b), MaxLen)
	}
	got, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r, got, compare); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	b[len(b)-65] ^= 1
	if _, err := Parse(b); err == nil {
		t.Error("a changed extension is accepted")
	}
	over, err := r.sign(signer, make([]byte, MaxExtension+1))
	if err != nil {
		t.Fatal(err)
	}
	small := Record{Lifetime: time.Second}
	overInSmall, err := small.sign(signer, make([]byte, MaxExtension+1))
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range [][]byte{over, overInSmall} {
		if _, err := Parse(b); err == nil {
			t.Errorf("an extension of %d bytes is accepted", MaxExtension+1)
		}
	}
}

func TestSignRefuses(t *testing.T) {
	addr := netip.MustParseAddrPort
	for name, edit := range map[string]func(*Record){
		"no lifetime":          func(r *Record) { r.Lifetime = 0 },
		"negative lifetime":    func(r *Record) { r.Lifetime = -time.Second },
		"half a second":        func(r *Record) { r.Lifetime = 1500 * time.Millisecond },
		"long lifetime":        func(r *Record) { r.Lifetime = MaxLifetime + time.Second },
		"too many endpoints":   func(r *Record) { r.Endpoints = append(full().Endpoints, addr("192.0.2.1:1")) },
		"too many Bases":       func(r *Record) { r.Bases = append(full().Bases, netip.MustParseAddr("fc94:9::9")) },
		"endpoint twice":       func(r *Record) { r.Endpoints = append(r.Endpoints, r.Endpoints[0]) },
		"Base twice":           func(r *Record) { r.Bases = append(r.Bases, r.Bases[0]) },
		"Base of the underlay": func(r *Record) { r.Bases[0] = netip.MustParseAddr("2001:db8::1") },
		"no Base":              func(r *Record) { r.Bases[0] = netip.Addr{} },
		"bad endpoint":         func(r *Record) { r.Endpoints[0] = addr("127.0.0.1:5582") },
	} {
		r := sample()
		edit(&r)
		if b, err := r.Sign(signer); err == nil {
			t.Errorf("%s: signed as %x", name, b)
		}
	}
}

func TestCheckEndpoint(t *testing.T) {
	for s, good := range map[string]bool{
		"192.0.2.1:1":             true,
		"10.0.0.1:65535":          true,
		"169.254.1.1:5582":        true,
		"100.64.0.1:5582":         true,
		"[fe80::1]:5582":          true,
		"[fd00::1]:5582":          true,
		"[fc93::1]:5582":          true,
		"[2001:db8::1]:5582":      true,
		"192.0.2.1:0":             false,
		"[fe80::1%2]:5582":        false,
		"[::ffff:192.0.2.1]:5582": false,
		"[fc94::1]:5582":          false,
		"[fc94:ffff::]:5582":      false,
		"127.0.0.1:5582":          false,
		"127.9.9.9:5582":          false,
		"[::1]:5582":              false,
		"0.0.0.0:5582":            false,
		"0.1.2.3:5582":            false,
		"[::]:5582":               false,
		"224.0.0.1:5582":          false,
		"255.255.255.255:5582":    false,
		"[ff02::1]:5582":          false,
	} {
		if err := CheckEndpoint(netip.MustParseAddrPort(s)); (err == nil) != good {
			t.Errorf("%s: %v", s, err)
		}
	}
	if CheckEndpoint(netip.AddrPort{}) == nil {
		t.Error("the zero endpoint is accepted")
	}
}

// resign signs a changed body, as a malicious node can do with records of its own.
func resign(b []byte) []byte {
	body := b[:len(b)-signatureLen]
	return append(bytes.Clone(body), signer.Sign(append([]byte(label), body...))...)
}

func TestParseRefuses(t *testing.T) {
	good := mustSign(t, sample())
	at := func(i int, v byte) func([]byte) []byte {
		return func(b []byte) []byte { b[i] = v; return b }
	}
	insert := func(i int, v ...byte) func([]byte) []byte {
		return func(b []byte) []byte { return append(append(bytes.Clone(b[:i]), v...), b[i:]...) }
	}
	const firstEndpoint = headerLen
	for name, edit := range map[string]func([]byte) []byte{
		"version 0":          at(0, 0),
		"version 2":          at(0, 2),
		"unknown flag":       at(1, 3),
		"lifetime 0":         at(45, 0),
		"long lifetime":      at(42, 1),
		"longest lifetime":   func(b []byte) []byte { binary.BigEndian.PutUint32(b[42:], math.MaxUint32); return b },
		"too many endpoints": at(46, MaxEndpoints+1),
		"255 endpoints":      at(46, 255),
		"one endpoint more":  at(46, 4),
		"one endpoint less":  at(46, 2),
		"too many Bases":     at(47, MaxBases+1),
		"one Base more":      at(47, 3),
		"one Base less":      at(47, 1),
		"family 0":           at(firstEndpoint, 0),
		"family 6 for 4":     at(firstEndpoint, 6),
		"loopback endpoint":  at(firstEndpoint+1, 127),
		"port 0":             func(b []byte) []byte { b[firstEndpoint+5], b[firstEndpoint+6] = 0, 0; return b },
		"mapped endpoint": func(b []byte) []byte {
			copy(b[firstEndpoint+8:], netip.MustParseAddr("::ffff:192.0.2.9").AsSlice())
			return b
		},
		"endpoint twice": func(b []byte) []byte {
			copy(b[firstEndpoint+7+19:firstEndpoint+7+38], b[firstEndpoint+7:])
			return b
		},
		"Base outside of the prefix": at(headerLen+7+19+19, 0xfd),
		"Base twice": func(b []byte) []byte {
			copy(b[headerLen+45+16:headerLen+45+32], b[headerLen+45:])
			return b
		},
		"extension that is not there": at(len(good)-signatureLen-1, 1),
		"byte after the extension":    insert(len(good)-signatureLen, 0),
		"key of low order":            func(b []byte) []byte { clear(b[2:34]); return b },
		"key beside the curve":        func(b []byte) []byte { clear(b[2:34]); b[2] = 2; return b },
	} {
		if r, err := Parse(resign(edit(bytes.Clone(good)))); err == nil {
			t.Errorf("%s: accepted as %+v", name, r)
		} else if strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error of several lines: %q", name, err)
		} else if errors.Is(err, errSignature) && !strings.HasPrefix(name, "key ") {
			t.Errorf("%s: only the signature is refused", name)
		}
	}
	if _, err := Parse(resign(bytes.Clone(good))); err != nil {
		t.Errorf("resign does not sign: %v", err)
	}
}

// A key of low order verifies anything; it must fail before its signature is believed.
func TestParseRefusesLowOrderKeyWithValidSignature(t *testing.T) {
	r := Record{Lifetime: time.Second}
	b := mustSign(t, r)
	key := identity.SigningKey{1} // the neutral element: S*B = R is all a signature needs
	copy(b[2:], key[:])
	sig := b[len(b)-signatureLen:]
	clear(sig)
	sig[0] = 1 // R neutral, S = 0
	if !key.Verify(append([]byte(label), b[:len(b)-signatureLen]...), sig) {
		t.Fatal("the forged signature does not verify, so this test shows nothing")
	}
	if _, err := Parse(b); !errors.Is(err, identity.ErrLowOrder) {
		t.Errorf("Parse: %v", err)
	}
}

func TestParseEveryTruncationAndBit(t *testing.T) {
	good := mustSign(t, sample())
	for n := range good {
		if _, err := Parse(good[:n]); err == nil {
			t.Errorf("the first %d of %d bytes are accepted", n, len(good))
		}
	}
	for i := range good {
		for bit := range 8 {
			bad := bytes.Clone(good)
			bad[i] ^= 1 << bit
			if _, err := Parse(bad); err == nil {
				t.Errorf("accepted with bit %d of byte %d changed", bit, i)
			}
		}
	}
	for _, b := range [][]byte{nil, {}, append(bytes.Clone(good), 0), make([]byte, MaxLen), make([]byte, MaxLen+1), make([]byte, 65535)} {
		if _, err := Parse(b); err == nil {
			t.Errorf("%d bytes accepted", len(b))
		}
	}
}

func TestZeroRecord(t *testing.T) {
	var r Record
	if !r.PublicKey().IsZero() || r.Address().IsValid() {
		t.Errorf("key %v, address %v", r.PublicKey(), r.Address())
	}
}

// The fuzzer cannot sign, so each input is tried as it is and signed anew with a known key.
func FuzzParse(f *testing.F) {
	for _, r := range []Record{sample(), full(), {Lifetime: time.Second}} {
		f.Add(mustSign(f, r))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		tries := [][]byte{b}
		if len(b) >= headerLen+signatureLen {
			own := bytes.Clone(b)
			key := signer.SigningKey()
			copy(own[2:], key[:])
			tries = append(tries, resign(own))
		}
		for _, b := range tries {
			r, err := Parse(b)
			if err != nil {
				continue
			}
			if r.check() != nil || !r.Address().IsValid() {
				t.Fatalf("accepted %+v", r)
			}
			if r.Key != signer.SigningKey() {
				continue
			}
			again := r
			tail := len(b) - signatureLen
			extension := 0
			if plain, err := again.sign(signer, nil); err != nil {
				t.Fatal(err)
			} else {
				extension = len(b) - len(plain)
			}
			out, err := again.sign(signer, b[tail-extension:tail])
			if err != nil || !bytes.Equal(out, b) {
				t.Fatalf("accepted %x\n, whose one encoding is %x, %v", b, out, err)
			}
		}
	})
}

func BenchmarkParse(b *testing.B) {
	data := mustSign(b, sample())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(data); err != nil {
			b.Fatal(err)
		}
	}
}
