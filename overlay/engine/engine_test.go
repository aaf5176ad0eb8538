package engine

import (
	"testing"
	"testing/synctest"
	"time"
)

func pair(t *testing.T, opts ...nodeOption) (*network, *node, *node) {
	n := newNetwork()
	a := newNode(t, n, 1, "192.0.2.1:5582", opts...)
	b := newNode(t, n, 2, "192.0.2.2:5582", opts...)
	a.knows(b, "192.0.2.2:5582")
	b.knows(a)
	return n, a, b
}

func TestFirstPacketWaitsForTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t)
		p := udpPacket(a.id.Address(), b.id.Address(), 1, 300)
		a.send(p)
		mustReceive(t, b, p)
		q := udpPacket(b.id.Address(), a.id.Address(), 2, 400)
		b.send(q)
		mustReceive(t, a, q)
		if a.happened(PeerUp) != 1 || b.happened(PeerUp) != 1 {
			t.Errorf("PeerUp told %d and %d times, want once each", a.happened(PeerUp), b.happened(PeerUp))
		}
	})
}

func TestAllSizesBothWays(t *testing.T) {
	for name, opts := range map[string][]nodeOption{"chacha20poly1305": nil, "aes256gcm": {withAES}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, a, b := pair(t, opts...)
				for size := 40; size <= 1500; size++ {
					p := udpPacket(a.id.Address(), b.id.Address(), uint32(size), size)
					a.send(p)
					mustReceive(t, b, p)
					q := udpPacket(b.id.Address(), a.id.Address(), uint32(size), size)
					b.send(q)
					mustReceive(t, a, q)
				}
				s, _ := a.Peer(b.id.Address())
				if s.Cipher != name || s.State != Connected {
					t.Errorf("cipher %q, state %v", s.Cipher, s.State)
				}
				time.Sleep(time.Second) // virtual: let the timers settle
			})
		})
	}
}
