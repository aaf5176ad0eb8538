package wireguard

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// sealedSizes are the plaintexts that matter: a topic of a robot, a datagram of the comparison with others, a packet of an Ethernet path.
var sealedSizes = []int{64, 1200, 1424}

func benchKeys(b *testing.B, aes bool) *Keypair {
	b.Helper()
	k, err := newKeypair(start, [32]byte{1}, [32]byte{1}, aes)
	if err != nil {
		b.Fatal(err)
	}
	return k
}

func eachCipher(b *testing.B, f func(b *testing.B, k *Keypair, size int)) {
	for _, aes := range []bool{false, true} {
		for _, size := range sealedSizes {
			k := benchKeys(b, aes)
			b.Run(fmt.Sprintf("%s/%d", k.Cipher(), size), func(b *testing.B) {
				b.SetBytes(int64(size))
				b.ReportAllocs()
				f(b, k, size)
			})
		}
	}
}

// BenchmarkSeal seals one transport message in place.
func BenchmarkSeal(b *testing.B) {
	eachCipher(b, func(b *testing.B, k *Keypair, size int) {
		var s Sealer
		dst := make([]byte, size+TransportOverhead)
		for b.Loop() {
			s.Seal(k, dst, dst[TransportHeaderSize:][:size])
		}
	})
}

// BenchmarkOpen opens one, a copy of it each time, and judges its counter, as if it had never come before.
func BenchmarkOpen(b *testing.B) {
	eachCipher(b, func(b *testing.B, k *Keypair, size int) {
		var s Sealer
		var o Opener
		var window Window
		sealed := make([]byte, size+TransportOverhead)
		s.Seal(k, sealed, sealed[TransportHeaderSize:][:size])
		work := make([]byte, len(sealed))
		counter := uint64(0)
		for b.Loop() {
			copy(work, sealed)
			if _, ok := o.Open(k, work); !ok || !window.Accept(counter) {
				b.Fatal("not authentic, or not fresh")
			}
			counter++
		}
	})
}

// BenchmarkHandshake is a whole session: an initiation, its response, and both key pairs.
func BenchmarkHandshake(b *testing.B) {
	x, y := NewLocal(testIdentity(1).PrivateKey(), testIdentity(1).PublicKey(), true), NewLocal(testIdentity(2).PrivateKey(), testIdentity(2).PublicKey(), true)
	now := start
	stamp := func() time.Time { return now }
	var indices benchIndices
	a := NewPeer(PeerConfig{Local: x, Remote: testIdentity(2).PublicKey(), Indices: &indices, Stamp: stamp})
	c := NewPeer(PeerConfig{Local: y, Remote: testIdentity(1).PublicKey(), Indices: &indices, Stamp: stamp})
	for b.Loop() {
		now = now.Add(time.Second)
		m, err := a.Initiation(now)
		if err != nil {
			b.Fatal(err)
		}
		in, err := y.ReadInitiation(m)
		if err != nil {
			b.Fatal(err)
		}
		r, err := c.Respond(now, in)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := a.Complete(now, r); err != nil {
			b.Fatal(err)
		}
	}
}

type benchIndices uint32

func (i *benchIndices) New() (uint32, bool) { *i++; return uint32(*i), true }
func (*benchIndices) Bind(uint32, *Keypair) {}
func (*benchIndices) Free(uint32)           {}

// BenchmarkGate is what a handshake of a stranger costs under load before anything is computed for it: thrown away for a wrong mac1, asked for a cookie,
// and thrown away because more than enough were asked.
func BenchmarkGate(b *testing.B) {
	id := testIdentity(2)
	p := NewPeer(PeerConfig{
		Local: NewLocal(testIdentity(1).PrivateKey(), testIdentity(1).PublicKey(), false), Remote: id.PublicKey(),
		Indices: new(benchIndices), Stamp: func() time.Time { return start },
	})
	good, err := p.Initiation(start)
	if err != nil {
		b.Fatal(err)
	}
	bad := append([]byte(nil), good...)
	bad[len(bad)-20] ^= 1
	from := netip.MustParseAddrPort("192.0.2.1:5582")
	for _, c := range []struct {
		name    string
		message []byte
		step    time.Duration // between two messages
		want    Verdict
	}{
		{"wrong mac1", bad, 0, Drop},
		{"cookie", good, 2 * time.Second / challengeRate, Challenge},
		{"no cookie", good, 0, Drop},
	} {
		b.Run(c.name, func(b *testing.B) {
			g := NewGate(id.PublicKey())
			now := start
			for range loadedAbove + challengeRate + 1 {
				g.Judge(now, c.message, from)
			}
			b.ReportAllocs()
			for b.Loop() {
				now = now.Add(c.step)
				if v, _ := g.Judge(now, c.message, from); v != c.want {
					b.Fatalf("verdict %d, want %d", v, c.want)
				}
			}
		})
	}
}
