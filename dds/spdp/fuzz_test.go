package spdp

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// FuzzMessage: what is read is what is written.
func FuzzMessage(f *testing.F) {
	m := announce(data(enemyPrefix(1), overlayAddr(1)))
	m.session = 7
	f.Add(m.append(nil))
	f.Add((&message{kind: kindDigest, session: 1, counter: 2, heard: 3, complete: true, last: enemyPrefix(9), entries: append(enemyPrefixBytes(3), 0, 0, 0, 1)}).append(nil))
	f.Add((&message{kind: kindWant, session: 1, wanted: enemyPrefixBytes(3)}).append(nil))
	f.Add((&message{kind: kindSame, session: 1, sum: 1 << 40}).append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseMessage(b)
		if err != nil {
			return
		}
		again, err := parseMessage(m.append(nil))
		if err != nil || !bytes.Equal(again.append(nil), m.append(nil)) {
			t.Errorf("%x is read as %+v and again as %+v, %v", b, m, again, err)
		}
	})
}

func enemyPrefixBytes(i int) []byte {
	p := enemyPrefix(i)
	return p[:]
}

// FuzzMachine: a peer and a local program send two datagrams each; no invariant breaks.
func FuzzMachine(f *testing.F) {
	own, other := overlayAddr(1), overlayAddr(2)
	m := announce(data(enemyPrefix(1), other))
	m.session, m.heard, m.counter = 7, 1<<32|1, 1
	d := data(enemyPrefix(2), own)
	f.Add(m.append(nil), spdpMessage(enemyPrefix(2), 1, d.Append(nil)))
	f.Fuzz(func(t *testing.T, remote, local []byte) {
		now := time.Unix(1e9, 0)
		m := New(now, Options{Address: own, Run: 1, Probe: wire.GuidPrefix{1, 0x68}})
		m.SetPeers(now, []Peer{{Address: other, Connected: true}})
		d := data(enemyPrefix(9), own)
		m.Local(now, netip.AddrPortFrom(own, 7410), spdpMessage(enemyPrefix(9), 1, d.Append(nil)))
		m.Local(now, netip.AddrPortFrom(own, 7412), local)
		m.Remote(now, netip.AddrPortFrom(other, PeerPort), remote)
		for range 200 {
			now = now.Add(tick)
			m.Tick(now)
		}
		if m.Locals() > 2 || m.Remotes() > 1 || m.Locals() < 1 {
			t.Errorf("%d local and %d remote participants", m.Locals(), m.Remotes())
		}
		for _, out := range m.Out() {
			if out.Local && out.To.Addr() != own || !out.Local && (out.To != netip.AddrPortFrom(other, PeerPort) || len(out.Payload) > MaxMessage) {
				t.Errorf("%d bytes to %v", len(out.Payload), out.To)
			}
		}
	})
}

// FuzzRewrite: what is left has no locator but the host's own.
func FuzzRewrite(f *testing.F) {
	own := overlayAddr(1)
	d := data(enemyPrefix(1), own)
	f.Add(d.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		out, err := rewrite(b, place{six: own})
		if err != nil {
			return
		}
		d, err := wire.ParseParticipant(out)
		if err != nil {
			return // as it was before
		}
		if len(d.MetatrafficMulticast)+len(d.DefaultMulticast) > 0 || len(out) > maxPayload {
			t.Errorf("%d bytes, %+v", len(out), d)
		}
		for _, l := range append(d.MetatrafficUnicast, d.DefaultUnicast...) {
			if a, ok := l.AddrPort(); !ok || a.Addr() != own {
				t.Errorf("a locator at %v is left", l)
			}
		}
	})
}

// FuzzSockets reads the kernel's list, which is nobody's but must not crash either.
func FuzzSockets(f *testing.F) {
	f.Add("\n 484: 00000000000000000000000000000000:1CF2 0:0 07 0:0 0:0 0 0 0 3644426 2 0 0\n")
	f.Fuzz(func(t *testing.T, s string) {
		_, _ = parseSockets(strings.NewReader(s), overlayAddr(1))
	})
}
