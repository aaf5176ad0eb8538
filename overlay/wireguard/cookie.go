package wireguard

import (
	"crypto/hmac"
	"crypto/rand"
	"encoding/binary"
	"hash"
	"net/netip"
	"time"

	"golang.org/x/crypto/blake2s"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
)

// newMAC returns the keyed BLAKE2s with 16 bytes of output, §5.4's MAC.
func newMAC(key []byte) hash.Hash {
	h, _ := blake2s.New128(key) // an error only for keys above 32 bytes, which no caller has
	return h
}

func mac(key []byte, data ...[]byte) (out [macSize]byte) {
	h := newMAC(key)
	for _, d := range data {
		h.Write(d)
	}
	h.Sum(out[:0])
	return out
}

func labelledKey(label string, public identity.PublicKey) [32]byte {
	return blake2s.Sum256(append([]byte(label), public[:]...))
}

// macs1and2 returns the two trailing fields of a handshake message.
func macs1and2(message []byte) (body, mac1, upToMAC1, mac2 []byte) {
	n := len(message)
	return message[:n-2*macSize], message[n-2*macSize : n-macSize], message[:n-macSize], message[n-macSize:]
}

// cookieJar is the initiator's side of cookies (§5.4.7): it fills in the macs of what we send to one peer and keeps the cookie it was sent.
type cookieJar struct {
	mac1Key   [32]byte
	cookieKey [32]byte
	lastMAC1  [macSize]byte
	sent      bool
	cookie    [macSize]byte
	received  time.Time
}

func newCookieJar(remote identity.PublicKey) cookieJar {
	return cookieJar{mac1Key: labelledKey(labelMAC1, remote), cookieKey: labelledKey(labelCookie, remote)}
}

// stamp writes mac1 and, with a live cookie, mac2 into a handshake message.
func (j *cookieJar) stamp(now time.Time, message []byte) {
	body, mac1, upToMAC1, mac2 := macs1and2(message)
	j.lastMAC1 = mac(j.mac1Key[:], body)
	j.sent = true
	copy(mac1, j.lastMAC1[:])
	if !j.received.IsZero() && now.Sub(j.received) < CookieLifetime {
		m := mac(j.cookie[:], upToMAC1)
		copy(mac2, m[:])
	}
}

// accept opens a cookie reply to the last message that was stamped.
func (j *cookieJar) accept(now time.Time, message []byte) bool {
	if !j.sent {
		return false
	}
	aead, err := chacha20poly1305.NewX(j.cookieKey[:])
	if err != nil {
		return false
	}
	cookie, err := aead.Open(nil, message[offCookieNonce:offCookie], message[offCookie:], j.lastMAC1[:])
	if err != nil {
		return false
	}
	copy(j.cookie[:], cookie)
	j.received = now
	j.sent = false
	return true
}

// Verdict is what a Gate says of a handshake message.
type Verdict uint8

const (
	// Drop: not for us, or more than this source may ask for.
	Drop Verdict = iota
	// Admit: worth its X25519 operations.
	Admit
	// Challenge: answer with the cookie reply.
	Challenge
)

// Limits of the Gate, per second and in numbers of handshake messages. A handshake costs some 200 µs of one core, so that 250 a second are 5 % of it;
// above that the sender must prove its address by a cookie, and above 1,000 nobody is served, whatever a botnet proves.
const (
	loadedAbove   = 250
	servedAtMost  = 1000
	loadedFor     = time.Second
	sourceRate    = 20
	sourceBurst   = 5
	maxSources    = 4096
	challengeRate = 2000
)

// Gate keeps strangers from making us compute: mac1 from anyone, and under load mac2, by which a sender proves that it receives at its
// address, with a rate limit per source (§5.3, §5.4.7). It belongs to one goroutine or lock.
type Gate struct {
	// What a stranger's garbage meets first allocates nothing: mac1's hash and sum are kept.
	mac1      hash.Hash
	sum       [macSize]byte
	cookieKey [32]byte
	secret    [32]byte
	secretAt  time.Time
	loaded    time.Time // under load until
	admitted  bucket
	served    bucket
	challenge bucket
	sources   map[netip.Prefix]*bucket
}

// NewGate makes the gate of the node with this public key.
func NewGate(public identity.PublicKey) *Gate {
	key := labelledKey(labelMAC1, public)
	return &Gate{mac1: newMAC(key[:]), cookieKey: labelledKey(labelCookie, public), sources: make(map[netip.Prefix]*bucket)}
}

// Judge decides about an initiation or response from source. With Challenge it returns the cookie reply to send, 64 bytes, always
// less than the message that asked for it.
func (g *Gate) Judge(now time.Time, message []byte, source netip.AddrPort) (Verdict, []byte) {
	body, mac1, upToMAC1, mac2 := macs1and2(message)
	g.mac1.Reset()
	g.mac1.Write(body)
	if !hmac.Equal(g.mac1.Sum(g.sum[:0]), mac1) {
		return Drop, nil
	}
	if !g.admitted.take(now, loadedAbove, loadedAbove) {
		g.loaded = now.Add(loadedFor)
	}
	if !now.Before(g.loaded) {
		return Admit, nil
	}
	cookie := g.cookieFor(now, source)
	if want := mac(cookie[:], upToMAC1); !hmac.Equal(want[:], mac2) {
		if !g.challenge.take(now, challengeRate, challengeRate) {
			return Drop, nil
		}
		return Challenge, g.reply(message, mac1, cookie)
	}
	if !g.source(source.Addr()).take(now, sourceRate, sourceBurst) || !g.served.take(now, servedAtMost, servedAtMost) {
		return Drop, nil
	}
	return Admit, nil
}

// cookieFor computes the cookie of an address and port; the secret under it changes every two minutes.
func (g *Gate) cookieFor(now time.Time, source netip.AddrPort) [macSize]byte {
	if g.secretAt.IsZero() || now.Sub(g.secretAt) > CookieLifetime {
		rand.Read(g.secret[:])
		g.secretAt = now
	}
	address := source.Addr().As16()
	return mac(g.secret[:], address[:], binary.BigEndian.AppendUint16(nil, source.Port()))
}

func (g *Gate) reply(message, mac1 []byte, cookie [macSize]byte) []byte {
	aead, err := chacha20poly1305.NewX(g.cookieKey[:])
	if err != nil {
		return nil
	}
	reply := make([]byte, offCookie, CookieReplySize)
	binary.LittleEndian.PutUint32(reply, uint32(TypeCookieReply))
	copy(reply[offReceiver:], message[offSender:offSender+4])
	rand.Read(reply[offCookieNonce:offCookie])
	return aead.Seal(reply, reply[offCookieNonce:offCookie], cookie[:], mac1)
}

// source returns the bucket of a source: an IPv4 address or an IPv6 /64, which one host can fill at will.
func (g *Gate) source(a netip.Addr) *bucket {
	bits := 32
	if a.Is6() {
		bits = 64
	}
	prefix, err := a.WithZone("").Prefix(bits)
	if err != nil {
		prefix = netip.Prefix{}
	}
	b := g.sources[prefix]
	if b == nil {
		if len(g.sources) >= maxSources {
			// Full buckets carry no memory worth keeping; with none full, all start afresh, which lets each source have one burst more.
			clear(g.sources)
		}
		b = &bucket{}
		g.sources[prefix] = b
	}
	return b
}

// bucket is a token bucket; the zero value is full.
type bucket struct {
	used float64
	at   time.Time
}

func (b *bucket) take(now time.Time, perSecond, burst float64) bool {
	b.used = max(0, b.used-now.Sub(b.at).Seconds()*perSecond)
	b.at = now
	if b.used+1 > burst {
		return false
	}
	b.used++
	return true
}
