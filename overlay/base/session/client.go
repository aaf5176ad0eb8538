package session

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"

	"github.com/flynn/noise"

	"github.com/hnet-robotics/hnet_bridge/overlay/base/wire"
	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/record"
)

// ClientConfig is what a Client needs to know.
type ClientConfig struct {
	Identity *identity.Identity
	Base     netip.Addr    // overlay address of the Base, which pins its key
	Index    uint32        // the client's number for this session; the Base's datagrams carry it
	Random   io.Reader     // nil is crypto/rand
	OverTCP  bool          // the session will be carried by a stream, see Session.SetStream
	MaxAge   time.Duration // as in wire.RegisterPayload, 0 leaves it to the Base
}

// maxCookies bounds how many different cookies a Client answers. An honest Base sends two at the most: its secret changed, or our endpoint did.
const maxCookies = 8

// Client is the client's side of one handshake with one Base. After some ten seconds without success, make a new one: with it come a new nonce and
// ephemeral key.
//
// Whatever got no answer is repeated: on each retry send Hello and, if there is one, Register.
type Client struct {
	config  ClientConfig
	hello   []byte
	nonce   [wire.NonceLen]byte
	tries   []try // for different cookies, the last one last; two are kept
	cookies int   // different ones so far
	done    bool
}

// try is a register under way.
type try struct {
	cookie   [wire.CookieMAC]byte
	register []byte
	noise    *noise.HandshakeState
	at       time.Time
}

// NewClient starts a handshake. It fails if the Base's address is not that of a node or the random source fails.
func NewClient(c ClientConfig) (*Client, error) {
	if c.Identity == nil {
		return nil, errors.New("registering with a Base needs an identity")
	}
	if err := identity.CheckAddress(c.Base); err != nil {
		return nil, fmt.Errorf("bad address of a Base: %w", err)
	}
	c.Random = orRandom(c.Random)
	client := &Client{config: c}
	if _, err := io.ReadFull(c.Random, client.nonce[:]); err != nil {
		return nil, fmt.Errorf("registering with Base %v: no random numbers: %w", c.Base, err)
	}
	client.hello = wire.Hello{Nonce: client.nonce}.Append(nil)
	return client, nil
}

// Hello returns the message that begins the handshake. It is the same each time and must not be changed.
func (c *Client) Hello(time.Time) []byte { return c.hello }

// Register returns the register that the last cookie led to, nil if there is none yet. It must not be changed.
func (c *Client) Register() []byte {
	if len(c.tries) == 0 {
		return nil
	}
	return c.tries[len(c.tries)-1].register
}

// HandleCookie takes the answer to the hello and the own signed contact record, and returns the register to send, which must not be changed, and where
// the Base says the hello came from. That is not authenticated: WelcomePayload.Observed is. ErrPinned means that somebody else answers at this endpoint.
//
// The same cookie again leads to the same register, another one (the Base's secret changed, or our endpoint did, or somebody forges them) to a new
// register; the welcome to either is taken.
func (c *Client) HandleCookie(now time.Time, b, signed []byte) (register []byte, observed netip.AddrPort, err error) {
	cookie, err := wire.ParseCookie(b)
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	if cookie.Nonce != c.nonce || c.done {
		return nil, netip.AddrPort{}, fmt.Errorf("cookie of Base %v: %w", c.config.Base, ErrNotOurs)
	}
	base, err := identity.SigningKey(cookie.Key).WireGuard()
	if err != nil {
		return nil, netip.AddrPort{}, fmt.Errorf("cookie of Base %v: %w", c.config.Base, err)
	}
	if got := base.Address(); got != c.config.Base {
		return nil, netip.AddrPort{}, fmt.Errorf("asked for Base %v, %v answers: %w; correct the Base's host or address in the configuration", c.config.Base, got, ErrPinned)
	}
	for i, t := range c.tries {
		if t.cookie == cookie.Cookie {
			c.tries = append(slices.Delete(c.tries, i, i+1), t)
			return t.register, cookie.Observed, nil
		}
	}
	if c.cookies >= maxCookies {
		return nil, netip.AddrPort{}, fmt.Errorf("cookie of Base %v: more than %d different ones: %w", c.config.Base, maxCookies, ErrNotOurs)
	}
	t := try{cookie: cookie.Cookie, at: now}
	if t.register, t.noise, err = c.begin(base, cookie.Cookie, signed); err != nil {
		return nil, netip.AddrPort{}, fmt.Errorf("registering with Base %v: %w", c.config.Base, err)
	}
	c.cookies++
	c.tries = append(c.tries[max(0, len(c.tries)-1):], t)
	return t.register, cookie.Observed, nil
}

// begin makes a register.
func (c *Client) begin(base identity.PublicKey, cookie [wire.CookieMAC]byte, signed []byte) ([]byte, *noise.HandshakeState, error) {
	if len(signed) > record.MaxLen {
		return nil, nil, fmt.Errorf("contact record of %d bytes, %d at most", len(signed), record.MaxLen)
	}
	header := wire.RegisterHeader{Nonce: c.nonce, Cookie: cookie, Index: c.config.Index}.Append(make([]byte, 0, wire.MaxRegisterLen))
	config := noiseConfig(static(c.config.Identity), c.config.Random, header)
	config.Initiator = true
	config.PeerStatic = slices.Clone(base[:])
	hs, err := noise.NewHandshakeState(config)
	if err != nil {
		return nil, nil, err
	}
	message, _, _, err := hs.WriteMessage(header, wire.RegisterPayload{MaxAge: c.config.MaxAge, Signed: signed}.Append(nil))
	if err != nil {
		return nil, nil, err
	}
	if wire.TypeOf(message) != wire.TypeRegister {
		return nil, nil, fmt.Errorf("contact record of %d bytes is none", len(signed))
	}
	return message, hs, nil
}

// HandleWelcome takes the answer to the register and returns the session. The caller sends a control datagram at once: only that makes the Base
// believe in the session. A message that is not authentic changes nothing; the true one may still come.
func (c *Client) HandleWelcome(now time.Time, b []byte) (*Session, wire.WelcomePayload, error) {
	fail := func(err error) (*Session, wire.WelcomePayload, error) {
		return nil, wire.WelcomePayload{}, fmt.Errorf("welcome of Base %v: %w", c.config.Base, err)
	}
	header, noise2, err := wire.ParseWelcome(b)
	if err != nil {
		return nil, wire.WelcomePayload{}, err
	}
	if header.Index != c.config.Index || len(c.tries) == 0 || c.done {
		return fail(ErrNotOurs)
	}
	// A low-order ephemeral makes the Noise state fail half-way, after which the true welcome would be refused too.
	if identity.PublicKey(noise2[:wire.KeyLen]).Check() != nil {
		return fail(ErrHandshake)
	}
	var payload []byte
	var toBase, toClient *noise.CipherState
	var sent time.Time
	for _, t := range c.tries {
		sent = t.at
		if payload, toBase, toClient, err = t.noise.ReadMessage(nil, noise2); err == nil {
			break
		}
	}
	if err != nil {
		return fail(ErrHandshake)
	}
	c.done, c.tries = true, nil
	welcome, err := wire.ParseWelcomePayload(payload)
	if err != nil {
		return fail(err)
	}
	s := newSession(now, toBase.UnsafeKey(), toClient.UnsafeKey(), c.config.Index, welcome.Session)
	s.confirmed = true
	s.roundTrip(now.Sub(sent))
	if c.config.OverTCP {
		s.SetStream()
	}
	return s, welcome, nil
}
