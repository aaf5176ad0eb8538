package session

import (
	"crypto/subtle"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/crypto/blake2s"

	"github.com/hnet-robotics/hnet_bridge/overlay/base/wire"
)

// secretLifetime is how long cookies are made with one secret. They are believed for that time once more.
const secretLifetime = 2 * time.Minute

// cookies makes and checks the cookies of a Base: a keyed hash over the source and the nonce, so that nothing need be kept of who asked.
type cookies struct {
	random io.Reader

	mu      sync.Mutex
	secrets [2][32]byte // the current and the one before
	live    [2]bool
	made    time.Time // of the current
}

// current returns the secrets, replaced if it is time.
func (c *cookies) current(now time.Time) (secrets [2][32]byte, live [2]bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	age := now.Sub(c.made)
	if c.live[0] && age < secretLifetime {
		return c.secrets, c.live, nil
	}
	var fresh [32]byte
	if _, err := io.ReadFull(c.random, fresh[:]); err != nil {
		return secrets, live, fmt.Errorf("no random numbers for cookies: %w", err)
	}
	c.secrets = [2][32]byte{fresh, c.secrets[0]}
	c.live = [2]bool{true, c.live[0] && age < 2*secretLifetime}
	c.made = now
	return c.secrets, c.live, nil
}

func (c *cookies) make(now time.Time, from netip.AddrPort, nonce [wire.NonceLen]byte) ([wire.CookieMAC]byte, error) {
	secrets, _, err := c.current(now)
	if err != nil {
		return [wire.CookieMAC]byte{}, err
	}
	return cookieOf(&secrets[0], from, nonce), nil
}

func (c *cookies) valid(now time.Time, from netip.AddrPort, nonce [wire.NonceLen]byte, cookie [wire.CookieMAC]byte) bool {
	secrets, live, err := c.current(now)
	if err != nil {
		return false
	}
	for i := range secrets {
		if !live[i] {
			continue
		}
		if want := cookieOf(&secrets[i], from, nonce); subtle.ConstantTimeCompare(want[:], cookie[:]) == 1 {
			return true
		}
	}
	return false
}

// cookieOf is BLAKE2s-128 keyed with a secret over the source endpoint and the nonce.
func cookieOf(secret *[32]byte, from netip.AddrPort, nonce [wire.NonceLen]byte) (out [wire.CookieMAC]byte) {
	h, _ := blake2s.New128(secret[:]) // an error only for keys above 32 bytes
	h.Write(wire.AppendEndpoint(make([]byte, 0, wire.EndpointLen), from))
	h.Write(nonce[:])
	h.Sum(out[:0])
	return out
}
