package identity

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
)

// vectors are those of docs/protocol.md. They were computed with another implementation (Python's cryptography, OpenSSL);
// the seeds of the third and fourth are from RFC 8032, 7.1 and from libsodium's test of the same conversion.
var vectors = []struct{ seed, signing, private, public, base64, address string }{
	{
		seed:    "0000000000000000000000000000000000000000000000000000000000000000",
		signing: "3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29",
		private: "5046adc1dba838867b2bbbfdd0c3423e58b57970b5267a90f57960924a87f156",
		public:  "5bf55c73b82ebe22be80f3430667af570fae2556a6415e6b30d4065300aa947d",
		base64:  "W/Vcc7guviK+gPNDBmevVw+uJVamQV5rMNQGUwCqlH0=",
		address: "fc94:1b7f:432:c8eb:c27b:9fad:cd51:2e85",
	},
	{
		seed:    "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
		signing: "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8",
		private: "3894eea49c580aef816935762be049559d6d1440dede12e6a125f1841fff8e6f",
		public:  "4701d08488451f545a409fb58ae3e58581ca40ac3f7f114698cd71deac73ca01",
		base64:  "RwHQhIhFH1RaQJ+1iuPlhYHKQKw/fxFGmM1x3qxzygE=",
		address: "fc94:46a6:4636:9da2:964e:6fbf:1845:cec",
	},
	{
		seed:    "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
		signing: "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
		private: "307c83864f2833cb427a2ef1c00a013cfdff2768d980c0a3a520f006904de94f",
		public:  "d85e07ec22b0ad881537c2f44d662d1a143cf830c57aca4305d85c7a90f6b62e",
		base64:  "2F4H7CKwrYgVN8L0TWYtGhQ8+DDFespDBdhcepD2ti4=",
		address: "fc94:83de:1b41:1d73:1bdc:cf35:659f:998e",
	},
	{
		seed:    "421151a459faeade3d247115f94aedae42318124095afabe4d1451a559faedee",
		signing: "b5076a8474a832daee4dd5b4040983b6623b5f344aca57d4d6ee4baf3f259e6e",
		private: "8052030376d47112be7f73ed7a019293dd12ad910b654455798b4667d73de166",
		public:  "f1814f0e8ff1043d8a44d25babff3cedcae6c22c3edaa48f857ae70de2baae50",
		base64:  "8YFPDo/xBD2KRNJbq/887crmwiw+2qSPhXrnDeK6rlA=",
		address: "fc94:ae5a:34e6:547b:1418:30ae:6e13:897",
	},
	{
		seed:    "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
		signing: "76a1592044a6e4f511265bca73a604d90b0529d1df602be30a19a9257660d1f5",
		private: "20cd6935864716a79d74dd5fabbd8964304051ca41a31c4659158ebb7c3d0b57",
		public:  "d1fa3f01826bd8b78e057c086c7b22c7ad4358ca918099cd7b7e5d3acd7e285b",
		base64:  "0fo/AYJr2LeOBXwIbHsix61DWMqRgJnNe35dOs1+KFs=",
		address: "fc94:48a2:5e02:e5df:62cd:88f2:c821:e2db",
	},
}

func fromHex(t testing.TB, s string) [32]byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 32 {
		t.Fatalf("bad test data %q", s)
	}
	return [32]byte(b)
}

func TestVectors(t *testing.T) {
	for _, v := range vectors {
		id := FromSeed(fromHex(t, v.seed))
		for what, got := range map[string]struct{ have, want any }{
			"signing key": {id.SigningKey(), SigningKey(fromHex(t, v.signing))},
			"private key": {id.PrivateKey(), fromHex(t, v.private)},
			"public key":  {id.PublicKey(), PublicKey(fromHex(t, v.public))},
			"base64":      {id.PublicKey().String(), v.base64},
			"address":     {id.Address().String(), v.address},
		} {
			if got.have != got.want {
				t.Errorf("seed %s: %s is %v, want %v", v.seed, what, got.have, got.want)
			}
		}
		if from, err := id.SigningKey().WireGuard(); err != nil || from != id.PublicKey() {
			t.Errorf("seed %s: Montgomery form %v, %v", v.seed, from, err)
		}
	}
}

func randomSeed(r *rand.ChaCha8) (seed [32]byte) {
	_, _ = r.Read(seed[:])
	return seed
}

// The way through the Edwards curve must end where the Montgomery ladder of the standard library ends.
func TestAgainstECDH(t *testing.T) {
	r := rand.NewChaCha8([32]byte{1})
	for range 500 {
		seed := randomSeed(r)
		id := FromSeed(seed)
		private := id.PrivateKey()
		key, err := ecdh.X25519().NewPrivateKey(private[:])
		if err != nil {
			t.Fatal(err)
		}
		if got := id.PublicKey(); !bytes.Equal(key.PublicKey().Bytes(), got[:]) {
			t.Fatalf("seed %x: public key %v, crypto/ecdh has %x", seed, got, key.PublicKey().Bytes())
		}
		if err := id.PublicKey().Check(); err != nil {
			t.Fatalf("seed %x: %v", seed, err)
		}
	}
}

func TestSign(t *testing.T) {
	id, other := FromSeed([32]byte{1}), FromSeed([32]byte{2})
	message := []byte("hnet test\x00message")
	sig := id.Sign(message)
	key := id.SigningKey()
	if !ed25519.Verify(key[:], message, sig) || !key.Verify(message, sig) {
		t.Error("a good signature is refused")
	}
	if other.SigningKey().Verify(message, sig) {
		t.Error("another key verifies the signature")
	}
	for i := range sig {
		bad := bytes.Clone(sig)
		bad[i] ^= 1
		if key.Verify(message, bad) {
			t.Errorf("a signature with byte %d changed is accepted", i)
		}
	}
	for _, short := range [][]byte{nil, sig[:63], append(bytes.Clone(sig), 0)} {
		if key.Verify(message, short) {
			t.Errorf("a signature of %d bytes is accepted", len(short))
		}
	}
}

// No way of printing an identity may show its secrets.
func TestPrintsNoSecret(t *testing.T) {
	id := FromSeed([32]byte(bytes.Repeat([]byte{0xa7}, 32)))
	var b strings.Builder
	for _, value := range []any{id, *id, struct{ ID *Identity }{id}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o"} {
			fmt.Fprintf(&b, verb+"\n", value)
		}
	}
	for _, h := range []slog.Handler{slog.NewTextHandler(&b, nil), slog.NewJSONHandler(&b, nil)} {
		log := slog.New(h)
		log.Info("x", "id", id, "value", *id, "group", slog.GroupValue(slog.Any("id", id)))
	}
	private := id.PrivateKey()
	for _, secret := range [][]byte{id.seed[:], private[:], id.signing} {
		for _, form := range []string{"%x", "%X", "%s", "%d", "%o", "%q"} {
			text := strings.Trim(fmt.Sprintf(form, secret[:8]), `[]"`)
			if strings.Contains(b.String(), text) {
				t.Errorf("a secret shows as %s", form)
			}
		}
	}
	if !strings.Contains(b.String(), id.Address().String()) {
		t.Error("the address does not show")
	}
}

func BenchmarkWireGuard(b *testing.B) {
	key := FromSeed([32]byte{1}).SigningKey()
	for b.Loop() {
		if _, err := key.WireGuard(); err != nil {
			b.Fatal(err)
		}
	}
}
