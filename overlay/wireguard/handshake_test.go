package wireguard

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"
	"time"
)

func TestHandshakeMatrix(t *testing.T) {
	psk, other := PSK{1, 2, 3}, PSK{1, 2, 4}
	for _, c := range []struct {
		name   string
		a, b   setup
		cipher string // "" = no session
	}{
		{"plain", setup{}, setup{}, "chacha20poly1305"},
		{"psk", setup{psk: psk}, setup{psk: psk}, "chacha20poly1305"},
		{"psk differs", setup{psk: psk}, setup{psk: other}, ""},
		{"psk on one side", setup{psk: psk}, setup{}, ""},
		{"both offer AES", setup{aes: true}, setup{aes: true}, "aes256gcm"},
		{"both offer AES, with psk", setup{aes: true, psk: psk}, setup{aes: true, psk: psk}, "aes256gcm"},
		{"both offer AES, psk differs", setup{aes: true, psk: psk}, setup{aes: true, psk: other}, ""},
		{"initiator offers AES", setup{aes: true}, setup{}, "chacha20poly1305"},
		{"responder would take AES", setup{}, setup{aes: true}, "chacha20poly1305"},
		{"initiator offers AES, with psk", setup{aes: true, psk: psk}, setup{psk: psk}, "chacha20poly1305"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := newEnds(t, c.a, c.b)
			if c.cipher == "" {
				response, err := b.respond(start, a.initiation(t, start))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := a.Complete(start, response); !errors.Is(err, ErrHandshake) {
					t.Fatalf("completed with another psk: %v", err)
				}
				return
			}
			handshake(t, start, a, b)
			if x, y := a.Session(start).Cipher(), b.Session(start).Cipher(); x != c.cipher || y != c.cipher {
				t.Errorf("ciphers %s and %s, want %s", x, y, c.cipher)
			}
			talk(t, start, a, b)
			talk(t, start, b, a)
			if !b.Native() || a.Native() {
				t.Error("the responder learns from the initiation that the peer is ours, the initiator does not")
			}
		})
	}
}

// Whoever can change the messages can only break the handshake, never choose its cipher: offer and answer are authenticated.
func TestNobodyCanDowngrade(t *testing.T) {
	a, b := newEnds(t, setup{aes: true}, setup{aes: true})
	m := a.initiation(t, start)
	for i := offInitiationNoise; i < InitiationSize-2*macSize; i++ {
		bad := bytes.Clone(m)
		bad[i] ^= 1
		if in, err := b.local.ReadInitiation(bad); err == nil {
			t.Fatalf("byte %d of the initiation changed, features %b read", i, in.Features)
		}
	}
	response, err := b.respond(start, m)
	if err != nil {
		t.Fatal(err)
	}
	for i := offResponseNoise; i < ResponseSize-2*macSize; i++ {
		bad := bytes.Clone(response)
		bad[i] ^= 1
		if _, err := a.Complete(start, bad); err == nil {
			t.Fatalf("byte %d of the response changed", i)
		}
	}
	// None of these attempts spoiled the handshake.
	if _, err := a.Complete(start, response); err != nil || a.Session(start).Cipher() != "aes256gcm" {
		t.Fatalf("the true response after the forged ones: %v", err)
	}
}

// Computed with Python's hmac and hashlib.blake2s.
func TestAESKeyDerivationIsPinned(t *testing.T) {
	for psk, want := range map[PSK]string{
		{}:        "95def29bdd3114bae85dcd18da0a6a4a",
		{1, 2, 3}: "4e7bff63cf58fe5ff4a6928289f64652",
	} {
		if got := psk.forAES(); hex.EncodeToString(got[:16]) != want {
			t.Errorf("PSK' of %x begins %x, want %s", psk, got[:16], want)
		}
	}
}

func TestImpossibleEphemeralsChangeNothing(t *testing.T) {
	a, b := newEnds(t, setup{}, setup{})
	response, err := b.respond(start, a.initiation(t, start))
	if err != nil {
		t.Fatal(err)
	}
	lowOrder := [][]byte{make([]byte, 32), append([]byte{1}, make([]byte, 31)...), bytes.Repeat([]byte{0xff}, 32)}
	for _, point := range lowOrder {
		bad := bytes.Clone(response)
		copy(bad[offResponseNoise:], point)
		if _, err := a.Complete(start, bad); !errors.Is(err, ErrHandshake) {
			t.Errorf("ephemeral %x: %v", point, err)
		}
		initiation := make([]byte, InitiationSize)
		copy(initiation[offInitiationNoise:], point)
		if _, err := b.local.ReadInitiation(initiation); err == nil {
			t.Errorf("initiation with ephemeral %x was read", point)
		}
	}
	if _, err := a.Complete(start, response); err != nil {
		t.Errorf("the true response is refused afterwards: %v", err)
	}
}

func TestReplayedAndHastyInitiations(t *testing.T) {
	a, b := newEnds(t, setup{}, setup{})
	first := a.initiation(t, start)
	second := a.initiation(t, start)
	now := start
	step := func(name string, m []byte, want error) {
		t.Helper()
		if _, err := b.respond(now, m); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	step("the first", first, nil)
	step("the first again", first, errReplayed)
	step("the second too soon", second, errReplayed)
	now = now.Add(InitiationInterval)
	step("the first again, later", first, errReplayed)
	step("the second", second, nil)
	now = now.Add(time.Hour)
	step("the second an hour later", second, errReplayed)
	// Forgetting the session does not forget which initiations are old.
	b.Forget()
	step("the second after Forget", second, errReplayed)
	step("a new one", a.initiation(t, now), nil)
	if len(b.indices.live) != 1 {
		t.Errorf("%d indices in use after refused initiations, want 1", len(b.indices.live))
	}
}

func TestResponsesThatAreNotOurs(t *testing.T) {
	a, b := newEnds(t, setup{}, setup{})
	old, err := b.respond(start, a.initiation(t, start))
	if err != nil {
		t.Fatal(err)
	}
	now := start.Add(RekeyTimeout)
	response, err := b.respond(now, a.initiation(t, now))
	if err != nil {
		t.Fatal(err)
	}
	for name, m := range map[string][]byte{"to a former initiation": old, "to an index that is not ours": func() []byte {
		m := bytes.Clone(response)
		m[offResponseReceiver] ^= 1
		return m
	}()} {
		if _, err := a.Complete(now, m); !errors.Is(err, ErrHandshake) {
			t.Errorf("response %s: %v", name, err)
		}
	}
	if _, err := a.Complete(now, response); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Complete(now, response); !errors.Is(err, ErrHandshake) {
		t.Errorf("the same response twice: %v", err)
	}
	if _, err := b.Complete(now, response); !errors.Is(err, ErrHandshake) {
		t.Errorf("a response without an initiation: %v", err)
	}
}

func TestStrangersInitiationIsReadAndNamed(t *testing.T) {
	// A third party knows b's key only: the initiation opens, and tells who it is from, which is for the owner to judge.
	_, b := newEnds(t, setup{}, setup{})
	stranger := newEnd(t, testIdentity(7), testIdentity(2), setup{})
	in, err := b.local.ReadInitiation(stranger.initiation(t, start))
	if err != nil || in.Remote != stranger.id.PublicKey() {
		t.Fatalf("read %v, %v", in, err)
	}
	// An initiation to somebody else does not open.
	elsewhere := newEnd(t, testIdentity(7), testIdentity(3), setup{})
	if _, err := b.local.ReadInitiation(elsewhere.initiation(t, start)); !errors.Is(err, ErrHandshake) {
		t.Errorf("an initiation to another node: %v", err)
	}
}

func FuzzComplete(f *testing.F) {
	a, b := newEnds(f, setup{aes: true}, setup{aes: true})
	response, err := b.respond(start, a.initiation(f, start))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(response)
	f.Add(make([]byte, ResponseSize))
	f.Fuzz(func(t *testing.T, d []byte) {
		if TypeOf(d) != TypeResponse {
			return
		}
		x, y := newEnds(t, setup{aes: true}, setup{aes: true})
		m := x.initiation(t, start)
		d = bytes.Clone(d)
		copy(d[offResponseReceiver:], m[offSender:offSender+4])
		if _, err := x.Complete(start, d); err == nil {
			t.Fatal("a forged response was taken")
		}
		honest, err := y.respond(start, m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := x.Complete(start, honest); err != nil {
			t.Fatalf("the true response after a forged one: %v", err)
		}
	})
}
