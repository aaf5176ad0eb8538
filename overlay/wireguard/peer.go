package wireguard

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
)

// Todo is what a Peer asks of its owner after an input.
type Todo uint8

const (
	// Initiate: call Peer.Initiation and send the message to the path, or to every candidate endpoint if there is no path.
	Initiate Todo = 1 << iota
	// Keepalive: send an empty transport message, unless data is about to be sent.
	Keepalive
	// Flush: a new session can send; what waits may go.
	Flush
	// GiveUp: nobody answered for RekeyAttemptTime; what waits should be dropped.
	GiveUp
	// Down: the last key pair was erased; there is no session any more.
	Down
)

// Indices hands out the random 32-bit indices by which the other side addresses our handshakes and key pairs.
type Indices interface {
	// New reserves an index for a handshake of this peer; ok is false when the table is full.
	New() (index uint32, ok bool)
	// Bind lets an index name a key pair from now on.
	Bind(index uint32, k *Keypair)
	// Free gives an index back.
	Free(index uint32)
}

// PeerConfig is what a Peer is made from.
type PeerConfig struct {
	Local   *Local
	Remote  identity.PublicKey
	PSK     PSK
	Indices Indices
	// Native says that the peer is one of our daemons: it may be asked again sooner than the protocol's 5 s.
	Native bool
	// Stamp returns strictly increasing times, at least 1<<24 ns apart, for the timestamps of initiations.
	Stamp func() time.Time
}

// Peer is one peer's state machine: its handshakes, its key pairs and its timers. It belongs to one lock; no method blocks.
type Peer struct {
	cfg PeerConfig
	jar cookieJar

	// current is what we send with, next waits for the peer's confirmation. The older ones, newest first, only receive: after handshakes that crossed, the
	// peer may go on sending with any of the last three until it hears from the newest.
	current, next *Keypair
	older         [3]*Keypair

	sent          *sentInitiation
	postponed     bool // an initiation was due, and there was no way to send it by
	attempts      int
	lastSent      time.Time // initiation or response of ours
	lastConsumed  time.Time // initiation of the peer
	lastTimestamp Timestamp
	lastHandshake time.Time
	handshakeRTT  time.Duration
	lastMinute    bool // a rekey in the key pair's last seconds was asked for
	features      Features

	timers timers
}

// NewPeer makes the machine of a peer that has neither session nor handshake.
func NewPeer(c PeerConfig) *Peer {
	return &Peer{cfg: c, jar: newCookieJar(c.Remote)}
}

// SetNative records that the peer turned out to be one of our daemons.
func (p *Peer) SetNative() { p.cfg.Native = true }

// Native reports whether the peer is known to be one of our daemons.
func (p *Peer) Native() bool { return p.cfg.Native || p.features&FeatureNative != 0 }

// LastHandshake is when the newest session was derived; zero if none was.
func (p *Peer) LastHandshake() time.Time { return p.lastHandshake }

// HandshakeRTT is the time from the newest initiation of ours to its response; zero if none was answered yet.
func (p *Peer) HandshakeRTT() time.Duration { return p.handshakeRTT }

// Session returns the key pair that data goes out with, nil if there is none that may be used.
func (p *Peer) Session(now time.Time) *Keypair {
	if k := p.current; k != nil && now.Sub(k.created) < RejectAfterTime && k.counter.Load() < RejectAfterMessages {
		return k
	}
	return nil
}

// Handshaking reports whether an initiation of ours awaits its response, or a way to be sent by, and how often that was tried again.
func (p *Peer) Handshaking() (attempts int, ok bool) {
	return p.attempts, (p.sent != nil || p.postponed) && p.timers.retransmit.set()
}

// Send returns the key pair to seal a train of transport messages with, and tells the timers. It is nil when no session can carry
// the train; the plaintext then waits, and Initiate asks for the handshake. keepalive says that the train carries no data.
func (p *Peer) Send(now time.Time, keepalive bool) (k *Keypair, todo Todo) {
	if k = p.Session(now); k == nil {
		return nil, p.want(now)
	}
	if k.counter.Load() > RekeyAfterMessages || (k.initiator && now.Sub(k.created) >= k.rekeyAfter) {
		todo = p.want(now)
	}
	p.timers.sent(now, keepalive)
	return k, todo
}

// Accept judges a transport message that Open found authentic: false for one that came before, is too old for the window, or belongs to a
// session that has ended.
func (p *Peer) Accept(now time.Time, k *Keypair, counter uint64) bool {
	if k != p.current && k != p.next && !slices.Contains(p.older[:], k) {
		return false
	}
	return now.Sub(k.created) < RejectAfterTime && k.window.Accept(counter)
}

// Arrived tells the timers of messages of k that were accepted, once per train; data says that one of them was more than a keepalive.
func (p *Peer) Arrived(now time.Time, k *Keypair, data bool) (todo Todo) {
	if k == p.next {
		// §5.1: the responder may send only after the initiator has shown that it has the keys.
		p.retire(now, p.current)
		p.current, p.next = k, nil
		p.established(now)
		todo |= Flush
	}
	p.timers.received(now, data)
	if k == p.current && k.initiator && !p.lastMinute && now.Sub(k.created) >= RejectAfterTime-KeepaliveTimeout-RekeyTimeout {
		p.lastMinute = true
		todo |= p.want(now)
	}
	return todo
}

// want asks for a handshake as the protocol does: none while one is being retransmitted, and none so soon after our last handshake message that its
// answer may be under way. That holds after a response of ours too: two handshakes that cross would leave each side with another session.
func (p *Peer) want(now time.Time) Todo {
	if p.timers.retransmit.set() {
		return 0
	}
	p.attempts = 0
	if soonest := p.lastSent.Add(p.retryAfter()); !p.lastSent.IsZero() && now.Before(soonest) {
		p.timers.retransmit.at = soonest
		return 0
	}
	return Initiate
}

// Contact asks for a handshake now because something happened that makes an answer likely: a new endpoint, a whitelist change, a restart.
// Retransmissions begin anew. It is limited by ContactInterval only.
func (p *Peer) Contact(now time.Time) Todo {
	p.attempts = 0
	if soonest := p.lastSent.Add(ContactInterval); !p.lastSent.IsZero() && now.Before(soonest) {
		p.timers.retransmit.at = soonest
		return 0
	}
	return Initiate
}

// Initiation makes a handshake initiation with fresh ephemeral and starts its timers; nil when indices have run out.
func (p *Peer) Initiation(now time.Time) ([]byte, error) {
	index, ok := p.cfg.Indices.New()
	if !ok {
		p.timers.retransmit.at = now.Add(RekeyTimeout)
		return nil, nil
	}
	sent, message, err := p.cfg.Local.initiate(now, p.cfg.Remote, p.cfg.PSK, index, newTimestamp(p.cfg.Stamp(), p.cfg.Local.features()))
	if err != nil {
		p.cfg.Indices.Free(index)
		return nil, err
	}
	p.abandon()
	p.sent, p.postponed = sent, false
	p.jar.stamp(now, message)
	p.lastSent = now
	p.timers.authenticatedSent()
	p.timers.retransmit.at = now.Add(p.retryAfter())
	return message, nil
}

// Postpone is called in place of Initiation when there is no way to send one by. The attempt counts and is repeated as if it had been sent, but costs nothing:
// an initiation takes three multiplications on the curve, and a node may want thousands of peers of which nothing but the key is known.
func (p *Peer) Postpone(now time.Time) {
	p.postponed = true
	p.timers.retransmit.at = now.Add(p.retryAfter())
}

func (p *Peer) retryAfter() time.Duration {
	if p.Native() && p.attempts < len(fastRetries) {
		d := max(fastRetries[p.attempts], min(2*p.handshakeRTT, RekeyTimeout))
		return d + rand.N(d/8)
	}
	return RekeyTimeout + rand.N(RekeyJitter)
}

// abandon forgets the initiation in flight.
func (p *Peer) abandon() {
	if p.sent != nil {
		p.cfg.Indices.Free(p.sent.index)
		p.sent = nil
	}
}

// Respond answers an initiation that ReadInitiation found to be this peer's. The new session is used for sending only when the peer has confirmed it.
func (p *Peer) Respond(now time.Time, in *Initiation) ([]byte, error) {
	if !in.timestamp.after(p.lastTimestamp) || (!p.lastConsumed.IsZero() && now.Sub(p.lastConsumed) < InitiationInterval) {
		return nil, errReplayed
	}
	index, ok := p.cfg.Indices.New()
	if !ok {
		return nil, nil
	}
	k, message, err := p.cfg.Local.respond(now, in, p.cfg.PSK, index)
	if err != nil {
		p.cfg.Indices.Free(index)
		return nil, err
	}
	p.lastTimestamp, p.lastConsumed, p.lastSent, p.features = in.timestamp, now, now, in.Features
	p.jar.stamp(now, message)
	p.drop(p.next)
	p.next = k
	p.cfg.Indices.Bind(index, k)
	p.timers.received(now, false)
	p.timers.authenticatedSent()
	p.timers.derived(now)
	return message, nil
}

// Complete reads a response to our initiation and makes its key pair the current one.
func (p *Peer) Complete(now time.Time, message []byte) (Todo, error) {
	if p.sent == nil || p.sent.index != ReceiverIndex(message) {
		return 0, ErrHandshake
	}
	k, err := p.cfg.Local.finish(now, p.sent, message, p.cfg.PSK)
	if err != nil {
		return 0, err
	}
	p.handshakeRTT = now.Sub(p.sent.at)
	p.sent = nil // its index is the key pair's from here on
	p.cfg.Indices.Bind(k.local, k)
	if p.next != nil {
		// Two handshakes crossed: the peer may be the initiator of one session as we are of the other. Unless the two rekey at different times, they
		// cross again every time.
		k.rekeyAfter += rand.N(2 * RekeyTimeout)
	}
	p.retire(now, p.current)
	p.retire(now, p.next)
	p.current, p.next = k, nil
	p.timers.received(now, false)
	p.timers.derived(now)
	// The keepalive confirms the session to the responder, which must not send before.
	p.established(now)
	return Flush | Keepalive, nil
}

// AcceptCookie reads a cookie reply to our last handshake message. The next retransmission carries the cookie, and comes at once.
func (p *Peer) AcceptCookie(now time.Time, message []byte) bool {
	if !p.jar.accept(now, message) {
		return false
	}
	if p.timers.retransmit.set() && p.Native() {
		p.timers.retransmit.at = now.Add(ContactInterval)
	}
	return true
}

// established ends a handshake: its timers stop.
func (p *Peer) established(now time.Time) {
	p.lastHandshake = now
	p.lastMinute = false
	p.attempts = 0
	p.timers.retransmit.clear()
	p.abandon()
	p.postponed = false
}

// retire makes k, unless it is nil, the newest of the older key pairs. What has expired goes.
func (p *Peer) retire(now time.Time, k *Keypair) {
	if k == nil {
		return
	}
	p.drop(p.older[2])
	p.older = [3]*Keypair{k, p.older[0], p.older[1]}
	for i, o := range p.older {
		if o != nil && now.Sub(o.created) >= RejectAfterTime {
			p.drop(o)
			p.older[i] = nil
		}
	}
}

func (p *Peer) drop(k *Keypair) {
	if k != nil {
		p.cfg.Indices.Free(k.local)
	}
}

// Forget erases the session, the handshake and the timers, as when a peer leaves the whitelist. The replay protection of initiations stays.
func (p *Peer) Forget() {
	p.erase()
	p.abandon()
	p.postponed = false
	p.timers = timers{}
	p.lastSent = time.Time{}
	p.attempts = 0
}

// erase drops all key pairs and leaves a handshake that is under way alone.
func (p *Peer) erase() {
	for _, k := range append(p.older[:], p.current, p.next) {
		p.drop(k)
	}
	p.current, p.next, p.older = nil, nil, [3]*Keypair{}
	p.lastHandshake = time.Time{}
	p.timers.keepalive.clear()
	p.timers.unanswered.clear()
	p.timers.erase.clear()
}
