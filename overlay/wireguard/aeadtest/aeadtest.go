// Package aeadtest tests a cipher.AEAD of our own against one that is trusted: same results for every length, in place and apart, at any alignment and beside
// memory that is not there; same slices, same panics; nothing left of what is not authentic; no allocation; from several goroutines.
package aeadtest

import (
	"bytes"
	"crypto/cipher"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
)

// Keys, nonces and tags are as AES-256-GCM's and ChaCha20-Poly1305's, in bytes.
const (
	KeySize   = 32
	nonceSize = 12
	tagSize   = 16
)

// Pair is what is compared.
type Pair struct {
	Ours, Standard func(key []byte) (cipher.AEAD, error)
}

// Run runs all tests but the fuzz target.
func (p Pair) Run(t *testing.T) {
	for _, c := range []struct {
		name string
		test func(*testing.T)
	}{
		{"EveryLength", p.everyLength},
		{"LongMessages", p.longMessages},
		{"Forged", p.forged},
		{"LengthIsAuthentic", p.lengthIsAuthentic},
		{"ShorterThanTag", p.shorterThanTag},
		{"Slices", p.slices},
		{"Panics", p.panics},
		{"Sizes", p.sizes},
		{"Concurrent", p.concurrent},
		{"NoAllocation", p.noAllocation},
		{"BesideNoMemory", p.besideNoMemory},
		{"ForgedBesideNoMemory", p.forgedBesideNoMemory},
	} {
		t.Run(c.name, c.test)
	}
}

// with returns both with the same key.
func (p Pair) with(t testing.TB, key []byte) (ours, standard cipher.AEAD) {
	t.Helper()
	ours, err := p.Ours(key)
	if err != nil {
		t.Fatal(err)
	}
	standard, err = p.Standard(key)
	if err != nil {
		t.Fatal(err)
	}
	return ours, standard
}

// source is a repeatable source of bytes; a failed test names its seed.
type source struct{ *rand.ChaCha8 }

func newSource(t testing.TB, seed byte) source {
	t.Helper()
	return source{rand.NewChaCha8([32]byte{seed})}
}

func (s source) bytes(n int) []byte {
	b := make([]byte, n)
	s.Read(b)
	return b
}

func (s source) below(n int) int { return int(s.Uint64() % uint64(n)) }

const guard = 80 // more than a register

// guarded returns a slice of n bytes between dirty ones, and a function that fails if those have changed. The slice's capacity goes past the end guard's.
func guarded(t testing.TB, s source, n int) (middle []byte, check func()) {
	t.Helper()
	whole := s.bytes(guard + n + guard)
	before := bytes.Clone(whole)
	return whole[guard : guard+n], func() {
		t.Helper()
		if !bytes.Equal(whole[:guard], before[:guard]) || !bytes.Equal(whole[guard+n:], before[guard+n:]) {
			t.Fatalf("written outside of %d bytes", n)
		}
	}
}

// same checks one message of n bytes, in place and apart, at some alignment.
func same(t testing.TB, s source, ours, standard cipher.AEAD, n int) {
	t.Helper()
	plaintext, nonce := s.bytes(n), s.bytes(nonceSize)
	want := standard.Seal(nil, nonce, plaintext, nil)

	shift := s.below(64)
	room, check := guarded(t, s, shift+n+tagSize)
	before := bytes.Clone(room[:shift])
	in := room[shift:]
	copy(in, plaintext)
	if got := ours.Seal(in[:0], nonce, in[:n], nil); !bytes.Equal(got, want) {
		t.Fatalf("%d bytes sealed in place: %s", n, firstDifference(got, want))
	}
	check()
	got, err := ours.Open(in[:0], nonce, in, nil)
	if err != nil || !bytes.Equal(got, plaintext) {
		t.Fatalf("%d bytes opened in place: %v, %s", n, err, firstDifference(got, plaintext))
	}
	if !bytes.Equal(in[n:], want[n:]) || !bytes.Equal(room[:shift], before) {
		t.Fatalf("%d bytes opened in place: what is beside them has changed", n)
	}
	check()

	from, check := guarded(t, s, n)
	copy(from, plaintext)
	to, checkTo := guarded(t, s, n+tagSize)
	if got := ours.Seal(to[:0], nonce, from, nil); !bytes.Equal(got, want) || !bytes.Equal(from, plaintext) {
		t.Fatalf("%d bytes sealed apart: %s", n, firstDifference(got, want))
	}
	check()
	checkTo()
	to, checkTo = guarded(t, s, n)
	got, err = ours.Open(to[:0], nonce, want, nil)
	if err != nil || !bytes.Equal(got, plaintext) {
		t.Fatalf("%d bytes opened apart: %v, %s", n, err, firstDifference(got, plaintext))
	}
	checkTo()
}

func firstDifference(got, want []byte) string {
	if len(got) != len(want) {
		return fmt.Sprintf("%d bytes, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			return fmt.Sprintf("byte %d is %#x, want %#x", i, got[i], want[i])
		}
	}
	return "equal"
}

func (p Pair) everyLength(t *testing.T) {
	s := newSource(t, 1)
	var ours, standard cipher.AEAD
	for n := range 2101 {
		if n%50 == 0 {
			ours, standard = p.with(t, s.bytes(KeySize))
		}
		same(t, s, ours, standard, n)
	}
}

func (p Pair) longMessages(t *testing.T) {
	s := newSource(t, 2)
	ours, standard := p.with(t, s.bytes(KeySize))
	for _, n := range []int{8952, 65535, 64 << 10, 64<<10 + 1, 80000} {
		same(t, s, ours, standard, n)
	}
	for range 100 {
		same(t, s, ours, standard, s.below(64<<10))
	}
}

// refuse opens what is not authentic, and looks that nothing of the plaintext is left.
func refuse(t *testing.T, ours cipher.AEAD, nonce, forged []byte) {
	t.Helper()
	n := len(forged) - tagSize
	apart := bytes.Repeat([]byte{0xaa}, n)
	if got, err := ours.Open(apart[:0], nonce, forged, nil); err == nil || got != nil {
		t.Fatalf("%d forged bytes opened", n)
	}
	in := bytes.Clone(forged)
	if got, err := ours.Open(in[:0], nonce, in, nil); err == nil || got != nil {
		t.Fatalf("%d forged bytes opened in place", n)
	}
	for i := range n {
		if apart[i] != 0 || in[i] != 0 {
			t.Fatalf("byte %d of %d forged ones is not cleared", i, n)
		}
	}
}

func (p Pair) forged(t *testing.T) {
	s := newSource(t, 3)
	ours, standard := p.with(t, s.bytes(KeySize))
	for _, n := range []int{0, 1, 16, 67, 300} {
		nonce := s.bytes(nonceSize)
		sealed := standard.Seal(nil, nonce, s.bytes(n), nil)
		for bit := range 8 * len(sealed) {
			sealed[bit/8] ^= 1 << (bit % 8)
			refuse(t, ours, nonce, sealed)
			sealed[bit/8] ^= 1 << (bit % 8)
		}
		for bit := range 8 * len(nonce) {
			nonce[bit/8] ^= 1 << (bit % 8)
			refuse(t, ours, nonce, sealed)
			nonce[bit/8] ^= 1 << (bit % 8)
		}
		if _, err := ours.Open(nil, nonce, sealed, nil); err != nil {
			t.Fatal(err)
		}
	}
	for range 2000 {
		n, nonce := s.below(4000), s.bytes(nonceSize)
		sealed := standard.Seal(nil, nonce, s.bytes(n), nil)
		bit := s.below(8 * len(sealed))
		sealed[bit/8] ^= 1 << (bit % 8)
		refuse(t, ours, nonce, sealed)
	}
}

// A message of another length is another message, even if only zeros were cut off or added.
func (p Pair) lengthIsAuthentic(t *testing.T) {
	s := newSource(t, 4)
	ours, standard := p.with(t, s.bytes(KeySize))
	for n := range 600 {
		nonce := s.bytes(nonceSize)
		sealed := standard.Seal(nil, nonce, s.bytes(n), nil)
		tag := sealed[n:]
		if n > 0 {
			refuse(t, ours, nonce, append(bytes.Clone(sealed[:n-1]), tag...))
		}
		refuse(t, ours, nonce, append(append(bytes.Clone(sealed[:n]), 0), tag...))
	}
}

func (p Pair) shorterThanTag(t *testing.T) {
	ours, _ := p.with(t, make([]byte, KeySize))
	for n := range tagSize {
		if _, err := ours.Open(nil, make([]byte, nonceSize), make([]byte, n), nil); err == nil {
			t.Errorf("%d bytes opened", n)
		}
	}
}

// What the caller's slices are, and what follows of it, must be as with the standard library.
func (p Pair) slices(t *testing.T) {
	s := newSource(t, 5)
	ours, standard := p.with(t, s.bytes(KeySize))
	for _, n := range []int{0, 5, 64, 700} {
		for _, head := range []int{0, 3} {
			for _, room := range []int{0, n / 2, n, n + tagSize, n + 100} {
				nonce, plaintext := s.bytes(nonceSize), s.bytes(n)
				a := append(make([]byte, 0, head+room), "head"[:head]...)
				b := append(make([]byte, 0, head+room), "head"[:head]...)
				x, y := ours.Seal(a, nonce, plaintext, nil), standard.Seal(b, nonce, plaintext, nil)
				if !bytes.Equal(x, y) || string(x[:head]) != "head"[:head] {
					t.Fatalf("%d bytes behind %d with room for %d: %x, want %x", n, head, room, x, y)
				}
				if cap(a) >= head+n+tagSize && &x[0] != &a[:1][0] {
					t.Fatalf("%d bytes behind %d with room for %d went elsewhere", n, head, room)
				}
				sealed := y[head:]
				x, err := ours.Open(a[:head:head+room], nonce, bytes.Clone(sealed), nil)
				if err != nil || !bytes.Equal(x[head:], plaintext) || string(x[:head]) != "head"[:head] {
					t.Fatalf("opened %d bytes behind %d with room for %d: %x, %v", n, head, room, x, err)
				}
			}
		}
	}
	// With additional data all is the standard library's.
	nonce, plaintext, additional := s.bytes(nonceSize), s.bytes(100), s.bytes(20)
	sealed := ours.Seal(nil, nonce, plaintext, additional)
	if !bytes.Equal(sealed, standard.Seal(nil, nonce, plaintext, additional)) {
		t.Error("additional data: sealed otherwise")
	}
	if got, err := ours.Open(nil, nonce, sealed, additional); err != nil || !bytes.Equal(got, plaintext) {
		t.Errorf("additional data: %v", err)
	}
	if _, err := ours.Open(nil, nonce, sealed, nil); err == nil {
		t.Error("opened without its additional data")
	}
}

func (p Pair) panics(t *testing.T) {
	ours, standard := p.with(t, make([]byte, KeySize))
	nonce, b := make([]byte, nonceSize), make([]byte, 800)
	for name, f := range map[string]func(a cipher.AEAD){
		"short nonce to seal":          func(a cipher.AEAD) { a.Seal(nil, nonce[:11], b, nil) },
		"short nonce to open":          func(a cipher.AEAD) { a.Open(nil, nonce[:11], b, nil) },
		"sealed one byte further":      func(a cipher.AEAD) { a.Seal(b[1:1], nonce, b[:300], nil) },
		"sealed one byte nearer":       func(a cipher.AEAD) { a.Seal(b[:0], nonce, b[1:300], nil) },
		"opened one byte further":      func(a cipher.AEAD) { a.Open(b[1:1], nonce, b[:300], nil) },
		"opened into the tag":          func(a cipher.AEAD) { a.Open(b[295:295], nonce, b[:300], nil); panic("none") },
		"sealed from the tag's place":  func(a cipher.AEAD) { a.Seal(b[:0], nonce, b[100:101], nil); a.Seal(b[:0], nonce, b[10:100], nil) },
		"sealed over additional data":  func(a cipher.AEAD) { a.Seal(b[:0], nonce, b[:300], b[299:320]) },
		"additional data of zero size": func(a cipher.AEAD) { a.Seal(b[:0], nonce, b[:300], b[299:299]); panic("none") },
		"nothing to open, overlapping": func(a cipher.AEAD) { a.Open(b[10:10], nonce, b[:16], nil); panic("none") },
	} {
		panics := func(a cipher.AEAD) (message any) {
			defer func() { message = recover() }()
			f(a)
			return nil
		}
		if got, want := panics(ours), panics(standard); got != want || want == nil {
			t.Errorf("%s: panic %v, the standard library's is %v", name, got, want)
		}
	}
}

func (p Pair) sizes(t *testing.T) {
	ours, standard := p.with(t, make([]byte, KeySize))
	if ours.NonceSize() != standard.NonceSize() || ours.Overhead() != standard.Overhead() {
		t.Errorf("nonce of %d, tag of %d bytes", ours.NonceSize(), ours.Overhead())
	}
	for n := range 65 {
		if a, err := p.Ours(make([]byte, n)); (err == nil) != (n == KeySize) || (a == nil) != (err != nil) {
			t.Errorf("key of %d bytes: %v, %v", n, a, err)
		}
	}
}

// One AEAD from several goroutines: a peer's packets are sealed by whoever sends them.
func (p Pair) concurrent(t *testing.T) {
	ours, standard := p.with(t, newSource(t, 6).bytes(KeySize))
	var wait sync.WaitGroup
	for g := range 4 {
		wait.Go(func() {
			s := newSource(t, byte(10+g))
			for range 300 {
				n, nonce := s.below(2000), s.bytes(nonceSize)
				plaintext := s.bytes(n)
				sealed := ours.Seal(nil, nonce, plaintext, nil)
				if !bytes.Equal(sealed, standard.Seal(nil, nonce, plaintext, nil)) {
					t.Errorf("%d bytes sealed otherwise", n)
					return
				}
				if got, err := ours.Open(sealed[:0], nonce, sealed, nil); err != nil || !bytes.Equal(got, plaintext) {
					t.Errorf("%d bytes: %v", n, err)
					return
				}
			}
		})
	}
	wait.Wait()
}

// noAllocation allows as many as the standard library makes, which are some where it is all Go.
func (p Pair) noAllocation(t *testing.T) {
	s := newSource(t, 7)
	key, nonce := s.bytes(KeySize), s.bytes(nonceSize)
	ours, standard := p.with(t, key)
	for _, n := range []int{0, 60, 1400, 9000} {
		b := s.bytes(n + tagSize)
		both := func(a cipher.AEAD) float64 {
			return testing.AllocsPerRun(100, func() {
				a.Seal(b[:0], nonce, b[:n], nil)
				if _, err := a.Open(b[:0], nonce, b, nil); err != nil {
					t.Error(err)
				}
			})
		}
		if got, most := both(ours), both(standard); got > most {
			t.Errorf("%d bytes: %v allocations, want %v", n, got, most)
		}
		b[n] ^= 1 // the tag
		refused := func(a cipher.AEAD) float64 {
			return testing.AllocsPerRun(100, func() {
				if _, err := a.Open(b[:0], nonce, b, nil); err == nil {
					t.Error("opened")
				}
			})
		}
		if got, most := refused(ours), refused(standard); got > most {
			t.Errorf("%d bytes that are not authentic: %v allocations, want %v", n, got, most)
		}
	}
}

// Fuzz compares both with any key, nonce and plaintext, with zeros behind it. Its corpus should be of lengths at which the code takes another way.
func (p Pair) Fuzz(f *testing.F) {
	f.Add([]byte("key"), []byte("nonce"), []byte("plaintext"), uint16(0))
	f.Fuzz(func(t *testing.T, key, nonce, plaintext []byte, more uint16) {
		k, n := make([]byte, KeySize), make([]byte, nonceSize)
		copy(k, key)
		copy(n, nonce)
		plaintext = append(bytes.Clone(plaintext), make([]byte, more)...) // the engine makes no long inputs of itself
		ours, standard := p.with(t, k)
		want := standard.Seal(nil, n, plaintext, nil)
		got := ours.Seal(nil, n, plaintext, nil)
		if !bytes.Equal(got, want) {
			t.Fatalf("sealed otherwise: %s", firstDifference(got, want))
		}
		opened, err := ours.Open(got[:0], n, got, nil)
		if err != nil || !bytes.Equal(opened, plaintext) {
			t.Fatalf("opened otherwise: %v, %s", err, firstDifference(opened, plaintext))
		}
	})
}
