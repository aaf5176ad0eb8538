package wireguard

import (
	"crypto/hmac"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"slices"
	"time"

	"github.com/flynn/noise"
	"golang.org/x/crypto/blake2s"

	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
)

// Strings that the protocol mixes in, §5.4.
const (
	prologue    = "WireGuard v1 zx2c4 Jason@zx2c4.com"
	labelMAC1   = "mac1----"
	labelCookie = "cookie--"
	// labelAES derives the pre-shared key that stands for "the transport cipher is AES-256-GCM".
	labelAES = "hnet aes256gcm"
)

var suite = noise.NewCipherSuite(noise.DH25519, noise.CipherChaChaPoly, noise.HashBLAKE2s)

// Errors of handshake messages. They are ordinary on an open network: callers count them.
var (
	ErrHandshake = errors.New("handshake message is not authentic")
	errReplayed  = errors.New("handshake initiation is a replay or too soon after the last")
)

// PSK is the optional pre-shared key of a pair of peers; all zeros means none.
type PSK [32]byte

// forAES is KDF1(PSK, label): HMAC-BLAKE2s as in §5.4's KDF.
func (psk PSK) forAES() (out PSK) {
	mac := func(key, data []byte) []byte {
		h := hmac.New(func() hash.Hash { h, _ := blake2s.New256(nil); return h }, key) // an unkeyed BLAKE2s has no error
		h.Write(data)
		return h.Sum(nil)
	}
	copy(out[:], mac(mac(psk[:], []byte(labelAES)), []byte{1}))
	return out
}

// Local is this node's side of every handshake: the static key and what it offers. It is immutable.
type Local struct {
	static    noise.DHKey
	public    identity.PublicKey
	offersAES bool
}

// NewLocal makes the local side of a private X25519 key. offersAES says whether this machine wants AES-256-GCM with peers that offer it as well.
func NewLocal(private [32]byte, public identity.PublicKey, offersAES bool) *Local {
	return &Local{static: noise.DHKey{Private: slices.Clone(private[:]), Public: slices.Clone(public[:])}, public: public, offersAES: offersAES}
}

func (l *Local) features() Features {
	if l.offersAES {
		return FeatureNative | FeatureAES
	}
	return FeatureNative
}

func (l *Local) config(initiator bool) noise.Config {
	return noise.Config{
		CipherSuite: suite, Pattern: noise.HandshakeIK, Initiator: initiator, Prologue: []byte(prologue),
		PresharedKeyPlacement: 2, StaticKeypair: l.static,
	}
}

// sentInitiation is the initiator's handshake in flight.
type sentInitiation struct {
	noise *noise.HandshakeState
	index uint32
	at    time.Time
}

func (l *Local) initiate(now time.Time, remote identity.PublicKey, psk PSK, index uint32, stamp Timestamp) (*sentInitiation, []byte, error) {
	c := l.config(true)
	c.PeerStatic = slices.Clone(remote[:])
	c.PresharedKey = psk[:]
	hs, err := noise.NewHandshakeState(c)
	if err != nil {
		return nil, nil, fmt.Errorf("handshake with %s: %w", remote, err)
	}
	message := make([]byte, 0, InitiationSize)
	message = binary.LittleEndian.AppendUint32(message, uint32(TypeInitiation))
	message = binary.LittleEndian.AppendUint32(message, index)
	message, _, _, err = hs.WriteMessage(message, stamp[:])
	if err != nil {
		return nil, nil, fmt.Errorf("handshake with %s: %w", remote, err)
	}
	return &sentInitiation{noise: hs, index: index, at: now}, message[:InitiationSize], nil
}

// Initiation is a peer's initiation, authentic as to its sender's key, not yet judged as to who may come in.
type Initiation struct {
	Remote    identity.PublicKey
	Features  Features
	noise     *noise.HandshakeState
	timestamp Timestamp
	sender    uint32
}

// ReadInitiation decrypts an initiation. It costs two X25519 operations, so the Gate comes first.
func (l *Local) ReadInitiation(message []byte) (*Initiation, error) {
	hs, err := noise.NewHandshakeState(l.config(false))
	if err != nil {
		return nil, err
	}
	payload, _, _, err := hs.ReadMessage(nil, message[offInitiationNoise:InitiationSize-2*macSize])
	if err != nil || len(payload) != len(Timestamp{}) {
		return nil, ErrHandshake
	}
	in := &Initiation{noise: hs, sender: binary.LittleEndian.Uint32(message[offSender:])}
	copy(in.Remote[:], hs.PeerStatic())
	copy(in.timestamp[:], payload)
	in.Features = in.timestamp.features()
	if in.Remote.Check() != nil {
		return nil, ErrHandshake
	}
	return in, nil
}

// respond answers an initiation and derives the responder's key pair.
func (l *Local) respond(now time.Time, in *Initiation, psk PSK, index uint32) (*Keypair, []byte, error) {
	useAES := l.offersAES && in.Features&FeatureAES != 0
	if useAES {
		psk = psk.forAES()
	}
	if err := in.noise.SetPresharedKey(psk[:]); err != nil {
		return nil, nil, err
	}
	message := make([]byte, 0, ResponseSize)
	message = binary.LittleEndian.AppendUint32(message, uint32(TypeResponse))
	message = binary.LittleEndian.AppendUint32(message, index)
	message = binary.LittleEndian.AppendUint32(message, in.sender)
	message, toResponder, toInitiator, err := in.noise.WriteMessage(message, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("answering the handshake of %s: %w", in.Remote, err)
	}
	k, err := newKeypair(now, toInitiator.UnsafeKey(), toResponder.UnsafeKey(), useAES)
	if err != nil {
		return nil, nil, err
	}
	k.local, k.remote = index, in.sender
	return k, message[:ResponseSize], nil
}

// finish reads the response to s and derives the initiator's key pair: first as one who accepted AES, if that was offered, then as anyone else.
func (l *Local) finish(now time.Time, s *sentInitiation, message []byte, psk PSK) (*Keypair, error) {
	// A low-order ephemeral makes the Noise state fail half-way, after which the true response would be refused too.
	var ephemeral identity.PublicKey
	copy(ephemeral[:], message[offResponseNoise:])
	if ephemeral.Check() != nil {
		return nil, ErrHandshake
	}
	attempts := []struct {
		psk PSK
		aes bool
	}{{psk.forAES(), true}, {psk, false}}
	if !l.offersAES {
		attempts = attempts[1:]
	}
	for _, a := range attempts {
		if err := s.noise.SetPresharedKey(a.psk[:]); err != nil {
			return nil, err
		}
		_, toResponder, toInitiator, err := s.noise.ReadMessage(nil, message[offResponseNoise:ResponseSize-2*macSize])
		if err != nil {
			continue
		}
		k, err := newKeypair(now, toResponder.UnsafeKey(), toInitiator.UnsafeKey(), a.aes)
		if err != nil {
			return nil, err
		}
		k.initiator, k.local, k.remote = true, s.index, binary.LittleEndian.Uint32(message[offSender:])
		return k, nil
	}
	return nil, ErrHandshake
}
