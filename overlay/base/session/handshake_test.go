package session

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/flynn/noise"

	"github.com/hnet-robotics/hnet_bridge/overlay/base/wire"
	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/record"
)

var (
	began  = time.Unix(1_700_000_000, 0)
	source = netip.MustParseAddrPort("203.0.113.9:40000")
)

// testRandom is reproducible; each test or fuzz input has its own.
func testRandom(seed byte) io.Reader { return rand.NewChaCha8([32]byte{seed}) }

func testIdentity(n byte) *identity.Identity { return identity.FromSeed([32]byte{n}) }

func signedRecord(t testing.TB, id *identity.Identity, sequence uint64) []byte {
	t.Helper()
	r := record.Record{Sequence: sequence, Lifetime: time.Hour, Endpoints: []netip.AddrPort{source}}
	b, err := r.Sign(id)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// both is a client and a Base before their handshake.
type both struct {
	t        testing.TB
	id, base *identity.Identity
	client   *Client
	acceptor *Acceptor
	signed   []byte
}

func newBoth(t testing.TB) *both {
	t.Helper()
	b := &both{t: t, id: testIdentity(1), base: testIdentity(2)}
	b.acceptor = NewAcceptor(b.base, testRandom(2))
	b.client = b.newClient(3)
	b.signed = signedRecord(t, b.id, 7)
	return b
}

func (b *both) newClient(seed byte) *Client {
	b.t.Helper()
	c, err := NewClient(ClientConfig{Identity: b.id, Base: b.base.Address(), Index: 0x11223344, Random: testRandom(seed), MaxAge: 90 * time.Second})
	if err != nil {
		b.t.Fatal(err)
	}
	return c
}

// registered plays the handshake up to the register.
func (b *both) registered(now time.Time) (register []byte) {
	b.t.Helper()
	cookie, err := b.acceptor.HandleHello(now, b.client.Hello(now), source)
	if err != nil {
		b.t.Fatal(err)
	}
	register, observed, err := b.client.HandleCookie(now, cookie, b.signed)
	if err != nil || observed != source {
		b.t.Fatalf("observed %v, %v", observed, err)
	}
	return register
}

func (b *both) payload() wire.WelcomePayload {
	return wire.WelcomePayload{Session: 0x55667788, Token: 0x99aabbcc, Observed: source, Hops: 3, AlternatePort: 3478, Keep: 150 * time.Second, RelayRate: 200_000, MaxInterests: 10_000}
}

func (b *both) accept(now time.Time, register []byte) (welcome []byte, s *Session, r *Registration) {
	b.t.Helper()
	r, err := b.acceptor.HandleRegister(now, register, source)
	if err != nil {
		b.t.Fatal(err)
	}
	welcome, s, err = r.Accept(now, b.payload())
	if err != nil {
		b.t.Fatal(err)
	}
	return welcome, s, r
}

// pair plays a whole handshake.
func pair(t testing.TB) (client, base *Session) {
	t.Helper()
	b := newBoth(t)
	welcome, base, _ := b.accept(began, b.registered(began))
	client, _, err := b.client.HandleWelcome(began, welcome)
	if err != nil {
		t.Fatal(err)
	}
	return client, base
}

func TestHandshake(t *testing.T) {
	b := newBoth(t)
	register := b.registered(began)
	welcome, base, r := b.accept(began, register)
	if r.Key != b.id.PublicKey() || r.Record.Sequence != 7 || !bytes.Equal(r.Signed, b.signed) || r.Index != 0x11223344 || r.MaxAge != 90*time.Second {
		t.Errorf("registration %+v", r)
	}
	if hello := b.client.Hello(began); !bytes.Equal(r.Nonce[:], hello[4:20]) || !bytes.Equal(r.Ephemeral[:], register[40:72]) {
		t.Errorf("nonce %x, ephemeral %x", r.Nonce, r.Ephemeral)
	}
	if wire.TypeOf(register) != wire.TypeRegister || wire.TypeOf(welcome) != wire.TypeWelcome || len(welcome) >= len(register) {
		t.Errorf("register of %d bytes, welcome of %d", len(register), len(welcome))
	}
	client, payload, err := b.client.HandleWelcome(began, welcome)
	if err != nil || payload != b.payload() {
		t.Fatalf("%+v, %v", payload, err)
	}
	if !client.Confirmed() || base.Confirmed() || !bytes.Equal(base.Welcome(), welcome) || !base.RegisteredBy(r.Ephemeral) || base.RegisteredBy([32]byte{}) || client.RegisteredBy([32]byte{}) {
		t.Error("who is confirmed, and by what, is wrong")
	}
	if client.Local() != 0x11223344 || client.Remote() != 0x55667788 || base.Local() != client.Remote() || base.Remote() != client.Local() {
		t.Errorf("numbers %x %x, %x %x", client.Local(), client.Remote(), base.Local(), base.Remote())
	}
	if _, _, err := b.client.HandleWelcome(began, welcome); !errors.Is(err, ErrNotOurs) {
		t.Errorf("welcome twice: %v", err)
	}
	if _, _, err := r.Accept(began, b.payload()); err == nil {
		t.Error("accepted twice")
	}

	later := began.Add(time.Second)
	ping := client.Unsequenced(later, wire.KindPing, wire.Ping{Opaque: [8]byte{1}}.Append(nil))
	got := 0
	if newest, err := base.Receive(later, ping, func(k wire.Kind, body []byte) {
		if p, err := wire.ParsePing(body); k != wire.KindPing || err != nil || p.Opaque != [8]byte{1} {
			t.Errorf("%v %x", k, body)
		}
		got++
	}); err != nil || !newest || got != 1 {
		t.Errorf("%v, %v, %d pings", newest, err, got)
	}
	if !base.Confirmed() || base.Welcome() != nil || base.LastHeard() != later || !base.RegisteredBy(r.Ephemeral) {
		t.Error("not confirmed")
	}
}

func TestCookieLifetime(t *testing.T) {
	for _, tt := range []struct {
		after time.Duration
		want  bool
	}{{0, true}, {time.Minute, true}, {2*time.Minute - 1, true}, {2 * time.Minute, true}, {4*time.Minute - 1, true}, {4 * time.Minute, false}, {time.Hour, false}} {
		b := newBoth(t)
		register := b.registered(began)
		_, err := b.acceptor.HandleRegister(began.Add(tt.after), register, source)
		if ok := err == nil; ok != tt.want || !ok && !errors.Is(err, ErrCookie) {
			t.Errorf("after %v: %v", tt.after, err)
		}
		// The same with others asking every ten seconds.
		b = newBoth(t)
		register = b.registered(began)
		for at := time.Duration(0); at <= tt.after && at < 10*time.Minute; at += 10 * time.Second {
			if _, err := b.acceptor.HandleHello(began.Add(at), b.client.Hello(began), source); err != nil {
				t.Fatal(err)
			}
		}
		_, err = b.acceptor.HandleRegister(began.Add(tt.after), register, source)
		if ok := err == nil; ok != tt.want {
			t.Errorf("busy, after %v: %v", tt.after, err)
		}
	}
}

func TestCookieIsBound(t *testing.T) {
	b := newBoth(t)
	register := b.registered(began)
	for _, other := range []string{"203.0.113.9:40001", "203.0.113.8:40000", "[2001:db8::1]:40000"} {
		if _, err := b.acceptor.HandleRegister(began, register, netip.MustParseAddrPort(other)); !errors.Is(err, ErrCookie) {
			t.Errorf("from %s: %v", other, err)
		}
	}
	// A dual-stack socket shows the same source in the other form.
	if _, err := b.acceptor.HandleRegister(began, register, netip.MustParseAddrPort("[::ffff:203.0.113.9]:40000")); err != nil {
		t.Errorf("from the mapped form: %v", err)
	}
	if _, err := NewAcceptor(b.base, testRandom(9)).HandleRegister(began, register, source); !errors.Is(err, ErrCookie) {
		t.Errorf("of another run: %v", err)
	}
	if e, err := b.acceptor.Check(began, register, source); err != nil || !bytes.Equal(e[:], register[40:72]) {
		t.Errorf("check: %x, %v", e, err)
	}
}

func TestWrongBase(t *testing.T) {
	b := newBoth(t)
	other := NewAcceptor(testIdentity(5), testRandom(5))
	cookie, err := other.HandleHello(began, b.client.Hello(began), source)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = b.client.HandleCookie(began, cookie, b.signed)
	if !errors.Is(err, ErrPinned) || !strings.Contains(err.Error(), testIdentity(5).Address().String()) || b.client.Register() != nil {
		t.Errorf("another Base: %v", err)
	}
	// One that claims the key of the right Base cannot read the register.
	key := b.base.SigningKey()
	copy(cookie[20:52], key[:])
	register, _, err := b.client.HandleCookie(began, cookie, b.signed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.HandleRegister(began, register, source); !errors.Is(err, ErrHandshake) {
		t.Errorf("impostor: %v", err)
	}
	// Nor can he keep the true Base's cookie out.
	if _, err := b.acceptor.HandleRegister(began, b.registered(began), source); err != nil {
		t.Errorf("after the impostor: %v", err)
	}
	for name, key := range map[string][32]byte{"low order": {1}, "no point": {2}} {
		c := b.newClient(8)
		cookie, _ := b.acceptor.HandleHello(began, c.Hello(began), source)
		copy(cookie[20:52], key[:])
		if _, _, err := c.HandleCookie(began, cookie, b.signed); err == nil {
			t.Errorf("%s accepted", name)
		}
	}
}

func TestNewClientRefuses(t *testing.T) {
	if _, err := NewClient(ClientConfig{Base: testIdentity(1).Address()}); err == nil {
		t.Error("no identity accepted")
	}
	if _, err := NewClient(ClientConfig{Identity: testIdentity(1), Base: netip.MustParseAddr("2001:db8::1")}); err == nil {
		t.Error("a Base outside the overlay accepted")
	}
	if _, err := NewClient(ClientConfig{Identity: testIdentity(1), Base: testIdentity(2).Address(), Random: strings.NewReader("short")}); err == nil {
		t.Error("no random numbers accepted")
	}
}

func TestBadRecords(t *testing.T) {
	b := newBoth(t)
	good := b.signed
	broken := bytes.Clone(good)
	broken[len(broken)-1] ^= 1
	for _, tt := range []struct {
		name   string
		signed []byte
		client bool // finds it itself
	}{
		{"another node's", signedRecord(t, testIdentity(6), 7), false},
		{"broken signature", broken, false},
		{"trailing byte", append(bytes.Clone(good), 0), false},
		{"none", nil, true},
		{"short", good[:100], true},
		{"long", make([]byte, record.MaxLen+1), true},
	} {
		b.client = b.newClient(4)
		cookie, _ := b.acceptor.HandleHello(began, b.client.Hello(began), source)
		register, _, err := b.client.HandleCookie(began, cookie, tt.signed)
		if tt.client {
			if err == nil {
				t.Errorf("%s: accepted by the client", tt.name)
			}
			if _, _, err := b.client.HandleCookie(began, cookie, good); err != nil {
				t.Errorf("%s: afterwards %v", tt.name, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if _, err := b.acceptor.HandleRegister(began, register, source); !errors.Is(err, ErrRecord) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestRepeated(t *testing.T) {
	b := newBoth(t)
	register := b.registered(began)
	if again := b.registered(began.Add(time.Second)); !bytes.Equal(again, register) || !bytes.Equal(b.client.Register(), register) {
		t.Error("the same cookie led to another register")
	}
	welcome, _, r := b.accept(began, register)
	if e, err := b.acceptor.Check(began, register, source); err != nil || e != r.Ephemeral {
		t.Errorf("a repetition is not recognised: %x, %v", e, err)
	}
	// A Base that did answer it anew made another session; the client takes the welcome that comes first.
	_, other, _ := b.accept(began, register)
	client, _, err := b.client.HandleWelcome(began, welcome)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Receive(began, client.Unsequenced(began, wire.KindClose, nil), nil); !errors.Is(err, ErrAuthentic) || other.Confirmed() {
		t.Errorf("the session of a repeated register: %v", err)
	}
}

// The cookie goes stale while the client tries: hello again brings a new one. The welcome to either register is taken.
func TestRenewedCookie(t *testing.T) {
	late := began.Add(3 * time.Minute)
	for name, which := range map[string]int{"first": 0, "second": 1} {
		b := newBoth(t)
		registers := [][]byte{bytes.Clone(b.registered(began)), bytes.Clone(b.registered(late))}
		if bytes.Equal(registers[0][40:72], registers[1][40:72]) || !bytes.Equal(b.client.Register(), registers[1]) {
			t.Errorf("%s: an ephemeral key was used twice", name)
		}
		welcome, base, _ := b.accept(late, registers[which])
		client, _, err := b.client.HandleWelcome(late, welcome)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := base.Receive(late, client.Unsequenced(late, wire.KindClose, nil), nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Somebody who sees the hello sends cookies of his own making: they cost the client a bounded number of handshakes.
func TestForgedCookies(t *testing.T) {
	b := newBoth(t)
	cookie, _ := b.acceptor.HandleHello(began, b.client.Hello(began), source)
	for i := range 5 {
		forged := bytes.Clone(cookie)
		forged[52] ^= byte(i + 1)
		if _, _, err := b.client.HandleCookie(began, forged, b.signed); err != nil {
			t.Fatal(err)
		}
	}
	welcome, _, _ := b.accept(began, b.registered(began))
	for i := range 20 {
		forged := bytes.Clone(cookie)
		forged[53] ^= byte(i + 1)
		_, _, err := b.client.HandleCookie(began, forged, b.signed)
		if refused := errors.Is(err, ErrNotOurs); refused != (i >= maxCookies-6) {
			t.Errorf("forgery %d: %v", i, err)
		}
		if len(b.client.tries) > 2 {
			t.Errorf("%d tries", len(b.client.tries))
		}
		if i < 2 {
			b.registered(began) // the true cookie comes once more, and is the one to be remembered
		}
	}
	if _, _, err := b.client.HandleWelcome(began, welcome); err != nil {
		t.Errorf("the true welcome: %v", err)
	}
}

// What was seen of a client is worth nothing behind a cookie that somebody got for his own endpoint, with the same nonce or another.
func TestReplayFromElsewhere(t *testing.T) {
	b := newBoth(t)
	register := bytes.Clone(b.registered(began))
	elsewhere := netip.MustParseAddrPort("198.51.100.66:6")
	cookie, err := b.acceptor.HandleHello(began, b.client.Hello(began), elsewhere)
	if err != nil {
		t.Fatal(err)
	}
	copy(register[20:36], cookie[52:68])
	if _, err := b.acceptor.Check(began, register, elsewhere); err != nil {
		t.Fatal(err)
	}
	if _, err := b.acceptor.HandleRegister(began, register, elsewhere); !errors.Is(err, ErrHandshake) {
		t.Errorf("%v", err)
	}
}

func TestForeignAnswers(t *testing.T) {
	b := newBoth(t)
	register := b.registered(began)
	welcome, _, _ := b.accept(began, register)
	late := b.newClient(7)
	if _, _, err := late.HandleWelcome(began, welcome); !errors.Is(err, ErrNotOurs) {
		t.Errorf("a welcome without register: %v", err)
	}
	cookie, _ := b.acceptor.HandleHello(began, b.client.Hello(began), source)
	if _, _, err := late.HandleCookie(began, cookie, b.signed); !errors.Is(err, ErrNotOurs) {
		t.Errorf("the cookie of another: %v", err)
	}
	index := bytes.Clone(welcome)
	index[7]++
	if _, _, err := b.client.HandleWelcome(began, index); !errors.Is(err, ErrNotOurs) {
		t.Errorf("the welcome of another: %v", err)
	}
}

// Every byte of a register counts, and every one of a welcome but for the reserved ones, and no forgery keeps the true welcome out.
func TestTamperedHandshake(t *testing.T) {
	b := newBoth(t)
	register := b.registered(began)
	reserved := func(i int) bool { return i == 2 || i == 3 }
	for i := range register {
		bad := bytes.Clone(register)
		bad[i] ^= 1 << (i % 8)
		if _, err := b.acceptor.HandleRegister(began, bad, source); err == nil {
			t.Errorf("byte %d of the register", i)
		}
	}
	welcome, base, _ := b.accept(began, register)
	lowOrder := bytes.Clone(welcome)
	clear(lowOrder[8:40])
	for _, key := range [][]byte{make([]byte, 32), append([]byte{1}, make([]byte, 31)...), bytes.Repeat([]byte{0xff}, 32)} {
		copy(lowOrder[8:], key)
		if _, _, err := b.client.HandleWelcome(began, lowOrder); !errors.Is(err, ErrHandshake) {
			t.Errorf("ephemeral %x: %v", key[:4], err)
		}
	}
	for i := range welcome {
		bad := bytes.Clone(welcome)
		bad[i] ^= 1 << (i % 8)
		if reserved(i) {
			continue
		}
		if _, _, err := b.client.HandleWelcome(began, bad); err == nil {
			t.Fatalf("byte %d of the welcome", i)
		}
	}
	for n := range welcome {
		if _, _, err := b.client.HandleWelcome(began, welcome[:n]); err == nil {
			t.Fatalf("%d bytes of the welcome", n)
		}
	}
	client, _, err := b.client.HandleWelcome(began, welcome)
	if err != nil {
		t.Fatalf("after all that: %v", err)
	}
	if _, err := base.Receive(began, client.Unsequenced(began, wire.KindClose, nil), nil); err != nil {
		t.Error(err)
	}
}

// A register whose ephemeral key is of low order fails, whatever is behind it.
func TestLowOrderRegister(t *testing.T) {
	b := newBoth(t)
	register := b.registered(began)
	clear(register[40:72])
	if _, err := b.acceptor.HandleRegister(began, register, source); !errors.Is(err, ErrHandshake) {
		t.Error(err)
	}
}

// The Noise name, prologue and keys are as documented: a plain Noise initiator gets in.
func TestPlainNoise(t *testing.T) {
	b := newBoth(t)
	private, public, base := b.id.PrivateKey(), b.id.PublicKey(), b.base.PublicKey()
	cookie, err := b.acceptor.HandleHello(began, append([]byte{0x40, 1, 0, 0}, make([]byte, 124)...), source)
	if err != nil {
		t.Fatal(err)
	}
	head := append([]byte{0x42, 1, 0, 0}, make([]byte, 16)...)
	head = append(append(head, cookie[52:68]...), 0, 0, 0, 9)
	hs, err := noise.NewHandshakeState(noise.Config{
		CipherSuite: noise.NewCipherSuite(noise.DH25519, noise.CipherChaChaPoly, noise.HashBLAKE2s), Pattern: noise.HandshakeIK, Initiator: true,
		Prologue: append([]byte("hnet base v1"), head...), StaticKeypair: noise.DHKey{Private: private[:], Public: public[:]}, PeerStatic: base[:], Random: testRandom(1),
	})
	if err != nil {
		t.Fatal(err)
	}
	register, _, _, err := hs.WriteMessage(head, append([]byte{0, 0, 0, 0}, b.signed...))
	if err != nil {
		t.Fatal(err)
	}
	welcome, s, _ := b.accept(began, register)
	payload, toBase, _, err := hs.ReadMessage(nil, welcome[8:])
	if err != nil || len(payload) != 37 {
		t.Fatalf("%x, %v", payload, err)
	}
	datagram := []byte{0x44, 0, 0, 0, 0x55, 0x66, 0x77, 0x88, 0, 0, 0, 0, 0, 0, 0, 0}
	datagram, err = toBase.Encrypt(datagram, datagram, []byte{0, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0})
	if err != nil {
		t.Fatal(err)
	}
	var got []wire.Kind
	if _, err := s.Receive(began, datagram, func(k wire.Kind, _ []byte) { got = append(got, k) }); err != nil || len(got) != 1 || got[0] != wire.KindClose {
		t.Errorf("%v, %v", got, err)
	}
}

func FuzzHandshake(f *testing.F) {
	b := newBoth(f)
	register := bytes.Clone(b.registered(began))
	cookie, _ := b.acceptor.HandleHello(began, b.client.Hello(began), source)
	welcome, _, _ := b.accept(began, register)
	// What the fuzzer gives is XORed onto true messages, for it cannot guess cookies.
	f.Fuzz(func(t *testing.T, which byte, mask []byte) {
		b := newBoth(t)
		original := [][]byte{b.client.Hello(began), register, cookie, welcome}[which%4]
		m := bytes.Clone(original)
		if which&4 != 0 {
			m = bytes.Clone(mask)
		} else {
			for i := range min(len(m), len(mask)) {
				m[i] ^= mask[i]
			}
		}
		b.registered(began)
		if answer, err := b.acceptor.HandleHello(began, m, source); err == nil && len(answer) > len(m) {
			t.Errorf("%d bytes for %d", len(answer), len(m))
		}
		if r, err := b.acceptor.HandleRegister(began, m, source); err == nil {
			if answer, _, err := r.Accept(began, b.payload()); err != nil || len(answer) > len(m) {
				t.Errorf("%d bytes for %d, %v", len(answer), len(m), err)
			}
		}
		if register, _, err := b.client.HandleCookie(began, m, b.signed); err == nil && wire.TypeOf(register) != wire.TypeRegister {
			t.Errorf("register %x", register)
		}
		if _, _, err := b.client.HandleWelcome(began, m); err == nil && !bytes.Equal(m[4:], welcome[4:]) {
			t.Errorf("accepted %x", m)
		}
	})
}

func BenchmarkHello(b *testing.B) {
	x := newBoth(b)
	hello := x.client.Hello(began)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := x.acceptor.HandleHello(began, hello, source); err != nil {
			b.Fatal(err)
		}
	}
}

// What a stranger's garbage costs.
func BenchmarkBadCookie(b *testing.B) {
	x := newBoth(b)
	register := bytes.Clone(x.registered(began))
	register[20] ^= 1
	b.ReportAllocs()
	for b.Loop() {
		if _, err := x.acceptor.HandleRegister(began, register, source); err == nil {
			b.Fatal("accepted")
		}
	}
}

func BenchmarkRegister(b *testing.B) {
	x := newBoth(b)
	register := x.registered(began)
	b.ReportAllocs()
	for b.Loop() {
		x.accept(began, register)
	}
}
