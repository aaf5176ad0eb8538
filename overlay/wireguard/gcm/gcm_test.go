package gcm

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"testing"

	"github.com/hnet-robotics/hnet_bridge/overlay/wireguard/aeadtest"
)

var against = aeadtest.Pair{Ours: New, Standard: func(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}}

func TestAgainstStandard(t *testing.T) { against.Run(t) }

func FuzzAgainstStandard(f *testing.F) { against.Fuzz(f) }

func BenchmarkSeal(b *testing.B) { against.BenchSeal(b) }

func BenchmarkOpen(b *testing.B) { against.BenchOpen(b) }

func BenchmarkNew(b *testing.B) { against.BenchNew(b) }

// The test cases of the specification of GCM (McGrew and Viega, appendix B) with keys of 256 bits.
func TestSpecification(t *testing.T) {
	const (
		key   = "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308"
		nonce = "cafebabefacedbaddecaf888"
		plain = "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255"
		crypt = "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad"
		zeros = "0000000000000000000000000000000000000000000000000000000000000000"
	)
	for _, c := range []struct{ name, key, nonce, plaintext, additional, sealed string }{
		{"13", zeros, zeros[:24], "", "", "530f8afbc74536b9a963b4f1c4cb738b"},
		{"14", zeros, zeros[:24], zeros[:32], "", "cea7403d4d606b6e074ec5d3baf39d18" + "d0d1c8a799996bf0265b98b5d48ab919"},
		{"15", key, nonce, plain, "", crypt + "b094dac5d93471bdec1a502270e3cc6c"},
		{"16", key, nonce, plain[:120], "feedfacedeadbeeffeedfacedeadbeefabaddad2", crypt[:120] + "76fc6ece0f4e1768cddf8853bb2d551b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ours, err := New(unhex(t, c.key))
			if err != nil {
				t.Fatal(err)
			}
			got := ours.Seal(nil, unhex(t, c.nonce), unhex(t, c.plaintext), unhex(t, c.additional))
			if hex.EncodeToString(got) != c.sealed {
				t.Errorf("sealed %x, want %s", got, c.sealed)
			}
			opened, err := ours.Open(nil, unhex(t, c.nonce), unhex(t, c.sealed), unhex(t, c.additional))
			if err != nil || hex.EncodeToString(opened) != c.plaintext {
				t.Errorf("opened %x, %v; want %s", opened, err, c.plaintext)
			}
		})
	}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
