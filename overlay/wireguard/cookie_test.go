package wireguard

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	wgdevice "golang.zx2c4.com/wireguard/device"
)

var somewhere = netip.MustParseAddrPort("198.51.100.7:51820")

// loaded makes a gate that is under load at start.
func loaded(t testing.TB, g *Gate, message []byte) {
	t.Helper()
	for range loadedAbove + 1 {
		if v, _ := g.Judge(start, message, somewhere); v == Drop {
			t.Fatal("dropped before there is load")
		}
	}
	if v, _ := g.Judge(start, message, somewhere); v != Challenge {
		t.Fatalf("verdict %d under load", v)
	}
}

func TestOurMACsPassTheReferenceChecker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newEnds(t, setup{}, setup{})
		var checker wgdevice.CookieChecker
		checker.Init(wgdevice.NoisePublicKey(b.id.PublicKey()))
		source := []byte("192.0.2.7:1")
		m := a.initiation(t, time.Now())
		if !checker.CheckMAC1(m) {
			t.Fatal("the reference refuses our mac1")
		}
		if checker.CheckMAC2(m, source) {
			t.Fatal("mac2 before any cookie")
		}
		reply, err := checker.CreateReply(m, binary.LittleEndian.Uint32(m[offSender:]), source)
		if err != nil {
			t.Fatal(err)
		}
		var wire bytes.Buffer
		binary.Write(&wire, binary.LittleEndian, reply)
		if TypeOf(wire.Bytes()) != TypeCookieReply || ReceiverIndex(wire.Bytes()) != a.sent.index {
			t.Fatalf("the reference's cookie reply reads as type %d for %d", TypeOf(wire.Bytes()), ReceiverIndex(wire.Bytes()))
		}
		if !a.AcceptCookie(time.Now(), wire.Bytes()) {
			t.Fatal("the reference's cookie reply was refused")
		}
		if a.AcceptCookie(time.Now(), wire.Bytes()) {
			t.Error("the same cookie reply was taken twice")
		}
		time.Sleep(CookieLifetime - time.Second)
		if m = a.initiation(t, time.Now()); !checker.CheckMAC1(m) || !checker.CheckMAC2(m, source) {
			t.Error("the reference refuses our mac2")
		}
		if checker.CheckMAC2(m, []byte("192.0.2.8:1")) {
			t.Error("the cookie is good from anywhere")
		}
		time.Sleep(time.Second)
		if m = a.initiation(t, time.Now()); !bytes.Equal(m[len(m)-macSize:], make([]byte, macSize)) {
			t.Error("a cookie was used beyond its lifetime")
		}
	})
}

func TestReferenceMACsPassOurGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newEnds(t, setup{}, setup{})
		g := NewGate(b.id.PublicKey())
		var generator wgdevice.CookieGenerator
		generator.Init(wgdevice.NoisePublicKey(b.id.PublicKey()))
		m := a.initiation(t, start)
		clear(m[len(m)-2*macSize:])
		generator.AddMacs(m)
		loaded(t, g, m)
		_, reply := g.Judge(start, m, somewhere)
		if len(reply) != CookieReplySize || len(reply) >= ResponseSize {
			t.Fatalf("cookie reply of %d bytes", len(reply))
		}
		var parsed wgdevice.MessageCookieReply
		if err := binary.Read(bytes.NewReader(reply), binary.LittleEndian, &parsed); err != nil {
			t.Fatal(err)
		}
		if !generator.ConsumeReply(&parsed) {
			t.Fatal("the reference refuses our cookie reply")
		}
		generator.AddMacs(m)
		if v, _ := g.Judge(start, m, somewhere); v != Admit {
			t.Errorf("verdict %d with the cookie", v)
		}
		for _, other := range []string{"198.51.100.7:51821", "198.51.100.8:51820", "[2001:db8::1]:51820"} {
			if v, _ := g.Judge(start, m, netip.MustParseAddrPort(other)); v == Admit {
				t.Errorf("the cookie is good from %s too", other)
			}
		}
		// The secret changes; a loaded gate then asks for a new cookie.
		later := start.Add(CookieLifetime + time.Second)
		for range loadedAbove + 1 {
			g.Judge(later, m, somewhere)
		}
		if v, _ := g.Judge(later, m, somewhere); v != Challenge {
			t.Errorf("verdict %d with a cookie of an old secret", v)
		}
	})
}

func TestGateRefusesWrongMAC1(t *testing.T) {
	a, b := newEnds(t, setup{}, setup{})
	g := NewGate(b.id.PublicKey())
	m := a.initiation(t, start)
	if v, _ := g.Judge(start, m, somewhere); v != Admit {
		t.Fatalf("verdict %d for a good message", v)
	}
	for i := range len(m) - macSize { // mac2 is not looked at without load
		bad := bytes.Clone(m)
		bad[i] ^= 0x80
		if v, _ := g.Judge(start, bad, somewhere); v != Drop {
			t.Fatalf("verdict %d with byte %d changed", v, i)
		}
	}
	if v, _ := NewGate(a.id.PublicKey()).Judge(start, m, somewhere); v != Drop {
		t.Error("a message to another node was admitted")
	}
}

// withCookie returns m with a mac2 that g accepts from source.
func withCookie(g *Gate, now time.Time, m []byte, source netip.AddrPort) []byte {
	m = bytes.Clone(m)
	_, _, upToMAC1, mac2 := macs1and2(m)
	cookie := g.cookieFor(now, source)
	sum := mac(cookie[:], upToMAC1)
	copy(mac2, sum[:])
	return m
}

func TestGateLimitsEachSourceAndAll(t *testing.T) {
	a, b := newEnds(t, setup{}, setup{})
	g := NewGate(b.id.PublicKey())
	m := a.initiation(t, start)
	loaded(t, g, m)

	served := func(now time.Time, source netip.AddrPort) bool {
		v, _ := g.Judge(now, withCookie(g, now, m, source), source)
		return v == Admit
	}
	// One source: a burst, then sourceRate a second.
	n := 0
	for range 100 {
		if served(start, somewhere) {
			n++
		}
	}
	if n != sourceBurst {
		t.Errorf("%d of 100 at once from one source, want %d", n, sourceBurst)
	}
	// Ports do not make another source; nor do addresses of one IPv6 /64.
	if served(start, netip.AddrPortFrom(somewhere.Addr(), 9)) {
		t.Error("another port of a spent source is served")
	}
	n = 0
	for i := range byte(100) {
		if served(start, netip.AddrPortFrom(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: i}), 9)) {
			n++
		}
	}
	if n != sourceBurst {
		t.Errorf("%d of 100 from one /64, want %d", n, sourceBurst)
	}
	// All sources together.
	n = 0
	for i := range 3000 {
		if served(start, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 9)) {
			n++
		}
	}
	if n > servedAtMost || n < servedAtMost-2*sourceBurst {
		t.Errorf("%d of 3000 served at once, want at most %d", n, servedAtMost)
	}
	// Time heals.
	if !served(start.Add(time.Second), somewhere) {
		t.Error("a source stays locked out")
	}
}

func TestGateComesOutOfLoad(t *testing.T) {
	a, b := newEnds(t, setup{}, setup{})
	g := NewGate(b.id.PublicKey())
	m := a.initiation(t, start)
	loaded(t, g, m)
	if v, _ := g.Judge(start.Add(loadedFor/2), m, somewhere); v != Challenge {
		t.Errorf("verdict %d shortly after the flood", v)
	}
	if v, _ := g.Judge(start.Add(2*loadedFor), m, somewhere); v != Admit {
		t.Errorf("verdict %d after the flood", v)
	}
	// Below the limit nobody is ever challenged.
	now := start.Add(time.Minute)
	for range 5 * loadedAbove {
		now = now.Add(time.Second / (loadedAbove - 1))
		if v, _ := g.Judge(now, m, somewhere); v != Admit {
			t.Fatalf("verdict %d at %d a second", v, loadedAbove-1)
		}
	}
}

func TestGateAnswersAreLimited(t *testing.T) {
	a, b := newEnds(t, setup{}, setup{})
	g := NewGate(b.id.PublicKey())
	m := a.initiation(t, start)
	answers := 0
	for range 10 * challengeRate {
		if v, reply := g.Judge(start, m, somewhere); v == Challenge {
			if len(reply) >= len(m) {
				t.Fatal("an answer larger than the question")
			}
			answers++
		}
	}
	if answers > challengeRate {
		t.Errorf("%d cookie replies at once, want at most %d", answers, challengeRate)
	}
}

func TestGateSourcesAreBounded(t *testing.T) {
	g := NewGate(testIdentity(1).PublicKey())
	for i := range uint32(3 * maxSources) {
		g.source(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
		if len(g.sources) > maxSources {
			t.Fatalf("%d sources remembered", len(g.sources))
		}
	}
	// Zones are the attacker's to choose from nowhere but the link; they do not multiply sources.
	clear(g.sources)
	for _, zone := range []string{"1", "2", "3"} {
		g.source(netip.MustParseAddr("fe80::1%" + zone))
	}
	if len(g.sources) != 1 {
		t.Errorf("%d sources for one link-local prefix", len(g.sources))
	}
}

func TestGateDropsGarbageWithoutAllocating(t *testing.T) {
	g := NewGate(testIdentity(1).PublicKey())
	m := make([]byte, InitiationSize)
	if n := testing.AllocsPerRun(100, func() { g.Judge(start, m, somewhere) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzJudge(f *testing.F) {
	a, b := newEnds(f, setup{}, setup{})
	m := a.initiation(f, start)
	f.Add(m, false)
	f.Add(m, true)
	response, err := b.respond(start, m)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(response, true)
	f.Fuzz(func(t *testing.T, d []byte, stamped bool) {
		if k := TypeOf(d); k != TypeInitiation && k != TypeResponse {
			return
		}
		g := NewGate(b.id.PublicKey())
		g.loaded = start.Add(time.Hour)
		if stamped {
			jar := newCookieJar(b.id.PublicKey())
			jar.stamp(start, d)
		}
		switch v, reply := g.Judge(start, d, somewhere); {
		case v == Admit:
			t.Fatal("admitted under load without a cookie")
		case v == Drop && stamped:
			t.Fatal("dropped with a good mac1")
		case v == Challenge && (len(reply) != CookieReplySize || len(reply) >= len(d)):
			t.Fatalf("a cookie reply of %d bytes", len(reply))
		}
	})
}

func FuzzAcceptCookie(f *testing.F) {
	a, b := newEnds(f, setup{}, setup{})
	m := a.initiation(f, start)
	g := NewGate(b.id.PublicKey())
	loaded(f, g, m)
	_, reply := g.Judge(start, m, somewhere)
	f.Add(reply)
	f.Add(make([]byte, CookieReplySize))
	f.Fuzz(func(t *testing.T, d []byte) {
		if TypeOf(d) != TypeCookieReply {
			return
		}
		p, _ := newEnds(t, setup{}, setup{})
		if p.AcceptCookie(start, d) {
			t.Fatal("a cookie before any message")
		}
		p.initiation(t, start)
		if p.AcceptCookie(start, d) {
			t.Fatal("a cookie for another message")
		}
	})
}
