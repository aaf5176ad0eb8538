package session

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/flynn/noise"

	"github.com/hnet-robotics/hnet_bridge/overlay/base/wire"
	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/record"
)

// Acceptor is the Base's side of all handshakes. It keeps nothing about anybody, is safe for concurrent use, and limits no rates: its user does, since
// each hello costs a hash, and each register with a good cookie some 0.6 ms of a core until it is accepted.
type Acceptor struct {
	id      *identity.Identity
	static  noise.DHKey
	random  io.Reader
	cookies cookies
}

// NewAcceptor makes the acceptor of the Base with this identity. random must be safe for concurrent use; nil is crypto/rand.
func NewAcceptor(id *identity.Identity, random io.Reader) *Acceptor {
	random = orRandom(random)
	return &Acceptor{id: id, static: static(id), random: random, cookies: cookies{random: random}}
}

// HandleHello returns the cookie to send to where the hello came from; it is shorter than the hello.
func (a *Acceptor) HandleHello(now time.Time, b []byte, from netip.AddrPort) (cookie []byte, err error) {
	hello, err := wire.ParseHello(b)
	if err != nil {
		return nil, err
	}
	value, err := a.cookies.make(now, from, hello.Nonce)
	if err != nil {
		return nil, err
	}
	c := wire.Cookie{Nonce: hello.Nonce, Key: a.id.SigningKey(), Cookie: value, Observed: from}
	return c.Append(make([]byte, 0, wire.CookieLen)), nil
}

// Check verifies the cookie of a register, which costs one hash or two, and tells the register's ephemeral key: see the package's words on replays.
func (a *Acceptor) Check(now time.Time, b []byte, from netip.AddrPort) (ephemeral [wire.KeyLen]byte, err error) {
	header, noise1, err := wire.ParseRegister(b)
	if err != nil {
		return ephemeral, err
	}
	if !a.cookies.valid(now, from, header.Nonce, header.Cookie) {
		return ephemeral, fmt.Errorf("register from %v: %w", from, ErrCookie)
	}
	return [wire.KeyLen]byte(noise1), nil
}

// Registration is a client's authentic wish to be registered, not yet judged: whether it may come in, and whether it is a replay.
type Registration struct {
	Record    record.Record      // parsed and verified; its key is the client's
	Signed    []byte             // the record as it travels; own memory
	Key       identity.PublicKey // the client's, proved by the handshake; its Address is the client's
	Index     uint32             // the client's number for the session
	Ephemeral [wire.KeyLen]byte  // of the handshake: the same only in repetitions of one register
	Nonce     [wire.NonceLen]byte
	Flags     byte
	MaxAge    time.Duration // the client's wish how long its silence shall be borne, 0 = none

	noise *noise.HandshakeState
}

// HandleRegister checks the cookie, opens the register (two DH) and verifies the record in it.
func (a *Acceptor) HandleRegister(now time.Time, b []byte, from netip.AddrPort) (*Registration, error) {
	ephemeral, err := a.Check(now, b, from)
	if err != nil {
		return nil, err
	}
	header, noise1, err := wire.ParseRegister(b)
	if err != nil {
		return nil, err
	}
	hs, err := noise.NewHandshakeState(noiseConfig(a.static, a.random, b[:wire.RegisterHeaderLen]))
	if err != nil {
		return nil, fmt.Errorf("register from %v: %w", from, err)
	}
	opened, _, _, err := hs.ReadMessage(nil, noise1)
	if err != nil {
		return nil, fmt.Errorf("register from %v: %w", from, ErrHandshake)
	}
	payload, err := wire.ParseRegisterPayload(opened)
	if err != nil {
		return nil, fmt.Errorf("register from %v: %w", from, err)
	}
	r := &Registration{
		Signed: bytes.Clone(payload.Signed), Key: identity.PublicKey(hs.PeerStatic()), Index: header.Index,
		Ephemeral: ephemeral, Nonce: header.Nonce, Flags: payload.Flags, MaxAge: payload.MaxAge, noise: hs,
	}
	if r.Record, err = record.Parse(r.Signed); err != nil {
		return nil, fmt.Errorf("register from %v: %w: %w", from, ErrRecord, err)
	}
	// Parse refuses keys of low order and other encodings, so this check holds for the Noise key too.
	if r.Record.PublicKey() != r.Key {
		return nil, fmt.Errorf("register from %v: the record is of %v, the handshake of %v: %w", from, r.Record.Address(), r.Key.Address(), ErrRecord)
	}
	return r, nil
}

// Accept makes the session (two DH) and the welcome to send, which the session keeps until it is confirmed. payload.Session is the Base's number for it.
// It can be called once.
func (r *Registration) Accept(now time.Time, payload wire.WelcomePayload) (welcome []byte, s *Session, err error) {
	if r.noise == nil {
		return nil, nil, fmt.Errorf("registration of %v: accepted twice", r.Key.Address())
	}
	header := wire.WelcomeHeader{Index: r.Index}.Append(make([]byte, 0, wire.WelcomeLen))
	welcome, toBase, toClient, err := r.noise.WriteMessage(header, payload.Append(make([]byte, 0, wire.WelcomePayloadLen)))
	if err != nil {
		return nil, nil, fmt.Errorf("registration of %v: %w", r.Key.Address(), err)
	}
	r.noise = nil
	s = newSession(now, toClient.UnsafeKey(), toBase.UnsafeKey(), payload.Session, r.Index)
	s.base, s.ephemeral, s.welcome = true, r.Ephemeral, welcome
	return welcome, s, nil
}
