package spdp

import (
	"bytes"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// TestStorms: whatever a peer sends of digests, sessions and requests as fast as it can, little comes back, less reaches
// the participants, and nothing grows.
func TestStorms(t *testing.T) {
	last := wire.GuidPrefix(bytes.Repeat([]byte{0xff}, prefixLen))
	for name, c := range map[string]struct {
		make func(a *attack, i int) message
		back int // datagrams for 2,000 in two seconds
	}{
		"digests of what is not": {func(a *attack, i int) message {
			m := message{kind: kindDigest, complete: true, same: true, last: last}
			for k := range maxEntries {
				p := enemyPrefix(i*maxEntries%60000 + k)
				m.entries = append(append(m.entries, p[:]...), 0, 0, 0, byte(i))
			}
			return m
		}, 1100},
		"digests of others'": {func(a *attack, i int) message {
			m := message{kind: kindDigest, complete: true, last: last}
			m.entries = append(append(m.entries, a.list[0].prefix[:]...), 0, 0, 0, byte(i))
			if bytes.Compare(a.list[0].prefix[:], a.list[1].prefix[:]) < 0 {
				m.entries = append(append(m.entries, a.list[1].prefix[:]...), 0, 0, 0, byte(i))
			}
			return m
		}, 100},
		"digests in short":        {func(a *attack, i int) message { return message{kind: kindSame, sum: uint64(i)} }, 1100},
		"requests for the digest": {func(a *attack, i int) message { return message{kind: kindWant} }, 100},
		"new runs": {func(a *attack, i int) message {
			return message{kind: kindDigest, complete: true, last: last, session: session(i+2) << 32}
		}, 700},
		"new sessions": {func(a *attack, i int) message {
			return message{kind: kindDigest, complete: true, last: last, session: 1<<32 | session(i+2)}
		}, 700},
		"of no session": {func(a *attack, i int) message {
			return message{kind: kindDigest, complete: true, last: last, heard: 99}
		}, 100},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAttack(t)
			sent, heard := 0, a.list[0].heard
			a.victim.stranger = func(Datagram) { sent++ }
			for i := range 2000 {
				m := c.make(a, i)
				a.counter++
				m.counter = a.counter
				if m.session == 0 {
					m.session = 1 << 32
				}
				if m.heard == 0 {
					m.heard = a.mine()
				}
				a.raw(m.append(nil))
				a.run(time.Millisecond)
			}
			if sent > c.back {
				t.Errorf("%d datagrams in return for 2,000", sent)
			}
			if n := a.list[0].heard - heard; n > 20 {
				t.Errorf("the participant heard %d messages", n)
			}
			if p := a.victim.m.peers[a.enemy]; len(p.participants) > 0 || len(p.refused) > 2*MaxPerPeer {
				t.Errorf("%d participants, %d refused", len(p.participants), len(p.refused))
			}
			a.unharmed()
		})
	}
}
