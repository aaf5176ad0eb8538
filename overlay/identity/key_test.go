package identity

import (
	"bytes"
	"crypto/ecdh"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"filippo.io/edwards25519"
	"github.com/google/go-cmp/cmp"
)

var p = new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 255), big.NewInt(19))

// aroundP is p + offset, little-endian.
func aroundP(offset int64) (k [32]byte) {
	new(big.Int).Add(p, big.NewInt(offset)).FillBytes(k[:])
	slices.Reverse(k[:])
	return k
}

func TestPublicKeyCheck(t *testing.T) {
	good := FromSeed([32]byte{9}).PublicKey()
	topBit := good
	topBit[31] |= 0x80
	type row struct {
		name string
		key  PublicKey
		want error
	}
	rows := []row{
		{"a real key", good, nil},
		{"the base point", PublicKey{9}, nil},
		{"p-2", aroundP(-2), nil},
		{"p", aroundP(0), ErrNonCanonical},
		{"p+1", aroundP(1), ErrNonCanonical},
		{"2^255-1", aroundP(18), ErrNonCanonical},
		{"2^255", aroundP(19), ErrNonCanonical},
		{"the top bit, which X25519 ignores", topBit, ErrNonCanonical},
		{"all bits", PublicKey(bytes.Repeat([]byte{255}, 32)), ErrNonCanonical},
	}
	for _, k := range lowOrder {
		rows = append(rows, row{"low order " + k.String(), k, ErrLowOrder})
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			if err := r.key.Check(); !errors.Is(err, r.want) {
				t.Errorf("Check: %v, want %v", err, r.want)
			}
			got, err := ParsePublicKey(r.key.String())
			if !errors.Is(err, r.want) {
				t.Errorf("ParsePublicKey: %v, want %v", err, r.want)
			}
			if err == nil && got != r.key {
				t.Errorf("ParsePublicKey returns %v", got)
			}
		})
	}
}

// The list of low-order points is complete and right: these, and of the small numbers and those around p no others, give
// the all-zero secret that crypto/ecdh refuses.
func TestLowOrderAgainstECDH(t *testing.T) {
	private, err := ecdh.X25519().NewPrivateKey(bytes.Repeat([]byte{0x42}, 32))
	if err != nil {
		t.Fatal(err)
	}
	keys := slices.Clone(lowOrder)
	for i := range int64(64) {
		keys = append(keys, PublicKey{byte(i)}, aroundP(-i-1))
	}
	for _, k := range keys {
		remote, err := ecdh.X25519().NewPublicKey(k[:])
		if err != nil {
			t.Fatal(err)
		}
		_, err = private.ECDH(remote)
		if refused := k.Check() != nil; refused != (err != nil) {
			t.Errorf("%v: refused %v, crypto/ecdh says %v", k, refused, err)
		}
	}
	if len(lowOrder) != 5 {
		t.Errorf("%d low-order points, there are 5", len(lowOrder))
	}
}

// torsion returns the eight points of low order, as multiples of one of order 8.
func torsion(t *testing.T) []*edwards25519.Point {
	t.Helper()
	for y := byte(2); y < 255; y++ {
		point, err := new(edwards25519.Point).SetBytes(append([]byte{y}, make([]byte, 31)...))
		if err != nil {
			continue
		}
		// The order of the prime subgroup, by double and add, leaves the part of low order.
		l, _ := new(big.Int).SetString("27742317777372353535851937790883648493", 10)
		l.Add(l, new(big.Int).Lsh(big.NewInt(1), 252))
		low := edwards25519.NewIdentityPoint()
		for i := l.BitLen() - 1; i >= 0; i-- {
			low.Double(low)
			if l.Bit(i) == 1 {
				low.Add(low, point)
			}
		}
		four := new(edwards25519.Point).Double(new(edwards25519.Point).Double(low))
		if four.Equal(edwards25519.NewIdentityPoint()) == 1 {
			continue // of order 4 or less
		}
		all := []*edwards25519.Point{edwards25519.NewIdentityPoint()}
		for len(all) < 8 {
			all = append(all, new(edwards25519.Point).Add(all[len(all)-1], low))
		}
		return all
	}
	t.Fatal("no point of order 8 found")
	return nil
}

func TestSigningKeyRefusals(t *testing.T) {
	for i, point := range torsion(t) {
		if _, err := SigningKey(point.Bytes()).WireGuard(); !errors.Is(err, ErrLowOrder) {
			t.Errorf("low-order point %d (%x): %v", i, point.Bytes(), err)
		}
	}
	if _, err := (SigningKey{}).WireGuard(); !errors.Is(err, ErrLowOrder) {
		t.Errorf("the zero key: %v", err)
	}

	// Every y from p to 2^255-1 is a second encoding of y-p, with either sign.
	accepted := 0
	for offset := range int64(19) {
		for _, sign := range []byte{0, 0x80} {
			k := SigningKey(aroundP(offset))
			k[31] |= sign
			if _, err := new(edwards25519.Point).SetBytes(k[:]); err == nil {
				accepted++
			}
			if _, err := k.WireGuard(); !errors.Is(err, ErrNonCanonical) {
				t.Errorf("y = p+%d, sign %#x: %v", offset, sign, err)
			}
		}
	}
	if accepted == 0 {
		t.Error("no second encoding is on the curve, so this test shows nothing")
	}
	// x = 0 has no sign.
	for _, y := range []SigningKey{{1}, aroundP(-1)} {
		y[31] |= 0x80
		if _, err := y.WireGuard(); !errors.Is(err, ErrNonCanonical) {
			t.Errorf("negative zero %x: %v", y, err)
		}
	}
	// y = 2 is not on the curve.
	if _, err := (SigningKey{2}).WireGuard(); !errors.Is(err, ErrNonCanonical) {
		t.Errorf("a point beside the curve: %v", err)
	}
}

func TestParseKeyText(t *testing.T) {
	id := FromSeed([32]byte{1})
	good := id.PublicKey().String()
	// The last character carries two bits that belong to no byte.
	loose := good[:42] + string(good[42]+1) + "="
	if _, err := base64.StdEncoding.DecodeString(loose); err != nil {
		t.Fatalf("bad test data: %v", err)
	}
	for _, s := range []string{
		"", "x", good[:43], good + "=", " " + good, good + "\n", good[:20] + "\n" + good[20:], loose,
		strings.Repeat("A", 1<<16), base64.RawStdEncoding.EncodeToString(make([]byte, 33)), "fc94::1",
	} {
		for name, parse := range map[string]func() error{
			"PublicKey":  func() error { _, err := ParsePublicKey(s); return err },
			"SigningKey": func() error { _, err := ParseSigningKey(s); return err },
		} {
			err := parse()
			if err == nil {
				t.Errorf("%s %q is accepted", name, s)
			} else if len(err.Error()) > 300 || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: error of %d bytes: %q", name, len(err.Error()), err)
			}
		}
	}
	if got, err := ParseSigningKey(id.SigningKey().String()); err != nil || got != id.SigningKey() {
		t.Errorf("ParseSigningKey: %v, %v", got, err)
	}
}

func TestKeyJSON(t *testing.T) {
	type keys struct {
		P PublicKey
		S SigningKey
	}
	id := FromSeed([32]byte{1})
	for _, want := range []keys{{}, {id.PublicKey(), id.SigningKey()}} {
		b, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		got := keys{P: PublicKey{1}, S: SigningKey{1}}
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", b, diff)
		}
	}
	for _, bad := range []string{`{"P":"AAAA"}`, `{"P":"` + (PublicKey{1}).String() + `"}`, `{"S":"` + (SigningKey{1}).String() + `"}`, `{"S":1}`} {
		if err := json.Unmarshal([]byte(bad), &keys{}); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
}

func TestCheckAddress(t *testing.T) {
	for s, good := range map[string]bool{
		"fc94::":                       true,
		"fc94:ffff::1":                 true,
		"fc95::1":                      false,
		"fc94::1%eth0":                 false,
		"10.0.0.1":                     false,
		"::ffff:10.0.0.1":              false,
		"fc94::1/16":                   false,
		"robot1":                       false,
		"":                             false,
		"fc94:1b7f:432:c8eb:c27b:9fad": false,
	} {
		if _, err := ParseAddress(s); (err == nil) != good {
			t.Errorf("ParseAddress(%q): %v", s, err)
		}
	}
	if CheckAddress(netip.Addr{}) == nil {
		t.Error("the zero address is accepted")
	}
}
