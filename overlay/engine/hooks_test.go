package engine

import (
	"bytes"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// looker is an Inspector that remembers what it saw, for all goroutines.
type looker struct {
	mu      sync.Mutex
	out, in [][]byte
	peers   []netip.Addr
}

func (l *looker) Outbound(_ time.Time, peer netip.Addr, superpacket []byte) Treatment {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.out, l.peers = append(l.out, bytes.Clone(superpacket)), append(l.peers, peer)
	return Treatment{}
}

func (l *looker) Inbound(_ time.Time, peer netip.Addr, packet []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.in, l.peers = append(l.in, bytes.Clone(packet)), append(l.peers, peer)
}

func TestInspectorSeesAllPacketsInTheClear(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &looker{}
		n := newNetwork()
		a := newNode(t, n, 1, "192.0.2.1:5582", func(c *Config) { c.Inspect = func() Inspector { return l } })
		b := newNode(t, n, 2, "192.0.2.2:5582")
		a.knows(b, "192.0.2.2:5582")
		b.knows(a)
		out := udpPacket(a.id.Address(), b.id.Address(), 1, 300)
		a.send(out) // waits for the session
		mustReceive(t, b, out)
		super := tcpSuper(a.id.Address(), b.id.Address(), 5000, 1220)
		a.send(bytes.Clone(super))
		b.received()
		in := udpPacket(b.id.Address(), a.id.Address(), 2, 400)
		b.send(in)
		mustReceive(t, a, in)
		b.send(udpPacket(testIdentity(9).Address(), a.id.Address(), 3, 400)) // not sent by b at all: nobody is told
		a.received()
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.out) != 2 || !bytes.Equal(l.out[0], superpacket(out)) || !bytes.Equal(l.out[1], super) {
			t.Errorf("%d superpackets were seen going out, want two, whole", len(l.out))
		}
		if len(l.in) != 1 || !bytes.Equal(l.in[0], in) {
			t.Errorf("%d packets were seen coming in, want one", len(l.in))
		}
		for _, peer := range l.peers {
			if peer != b.id.Address() {
				t.Errorf("a packet of %v was seen", peer)
			}
		}
	})
}

func TestAdmitTurnsPacketsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &looker{}
		n := newNetwork()
		a := newNode(t, n, 1, "192.0.2.1:5582", func(c *Config) {
			c.Admit = func(_ netip.Addr, packet []byte) bool { return len(packet) != 333 }
			c.Inspect = func() Inspector { return l }
		})
		b := newNode(t, n, 2, "192.0.2.2:5582")
		a.knows(b, "192.0.2.2:5582")
		b.knows(a)
		flowsWithin(t, a, b, time.Second)
		flowsWithin(t, b, a, time.Second)
		seen := len(l.in)
		b.send(udpPacket(b.id.Address(), a.id.Address(), 1, 333))
		mustReceive(t, a)
		if a.Stats().Barred.Load() != 1 || len(l.in) != seen {
			t.Errorf("%d packets turned away, %d seen", a.Stats().Barred.Load(), len(l.in)-seen)
		}
	})
}

// TestDepartChangesPackets: what is changed on its way out arrives changed, of a packet that waited for its session and of those that did not.
func TestDepartChangesPackets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		var to []netip.Addr
		var mu sync.Mutex
		a := newNode(t, n, 1, "192.0.2.1:5582", func(c *Config) {
			c.Depart = func(peer netip.Addr, packet []byte) {
				mu.Lock()
				defer mu.Unlock()
				to = append(to, peer)
				packet[len(packet)-1] = 0xdd
			}
		})
		b := newNode(t, n, 2, "192.0.2.2:5582")
		a.knows(b, "192.0.2.2:5582")
		b.knows(a)
		for range 2 {
			a.send(udpPacket(a.id.Address(), b.id.Address(), 1, 333))
			synctest.Wait()
			time.Sleep(time.Second)
			got := b.received()
			if len(got) != 1 || got[0][len(got[0])-1] != 0xdd {
				t.Fatalf("%x arrived", got)
			}
		}
		mu.Lock()
		defer mu.Unlock()
		if len(to) != 2 || to[0] != b.id.Address() || to[1] != b.id.Address() {
			t.Errorf("packets to %v departed", to)
		}
	})
}

// groups carries all multicast to one peer, and delivers what comes with another destination.
type groups struct {
	to      netip.Addr
	deliver netip.Addr
	mu      sync.Mutex
	from    []netip.Addr
}

func (g *groups) Outbound(_ time.Time, packet []byte, send func(netip.Addr, []byte)) {
	send(g.to, packet)
	send(testIdentity(9).Address(), packet) // who may not talk
}

func (g *groups) Inbound(_ time.Time, peer netip.Addr, packet []byte) [][]byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.from = append(g.from, peer)
	if packet[25] != 0x1e {
		return nil
	}
	b := bytes.Clone(packet)
	copy(b[24:], g.deliver.AsSlice())
	return [][]byte{packet, b}
}

func TestMulticastIsCarriedAsItSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		ga, gb := &groups{to: testIdentity(2).Address()}, &groups{to: testIdentity(1).Address(), deliver: netip.MustParseAddr("ff02::9")}
		a := newNode(t, n, 1, "192.0.2.1:5582", func(c *Config) { c.Multicast = ga })
		b := newNode(t, n, 2, "192.0.2.2:5582", func(c *Config) { c.Multicast = gb })
		a.knows(b, "192.0.2.2:5582")
		b.knows(a)
		sent := udpPacket(a.id.Address(), netip.MustParseAddr("ff1e::1"), 1, 300)
		a.send(sent)
		got := b.received()
		if len(got) != 2 || !bytes.Equal(got[0], sent) || !bytes.Equal(got[1][48:], sent[48:]) || netip.AddrFrom16([16]byte(got[1][24:40])) != gb.deliver {
			t.Fatalf("%d packets came, want the one sent and its translation", len(got))
		}
		a.send(udpPacket(a.id.Address(), netip.MustParseAddr("ff02::1"), 2, 300))
		mustReceive(t, b)
		if len(gb.from) != 2 || gb.from[0] != a.id.Address() || a.Stats().Denied.Load() != 2 {
			t.Errorf("%d packets of %v came, %d were denied", len(gb.from), gb.from, a.Stats().Denied.Load())
		}
		// Whose source is another's is nobody's business.
		say(a, b, udpPacket(testIdentity(9).Address(), netip.MustParseAddr("ff1e::1"), 3, 300))
		mustReceive(t, b)
		if len(gb.from) != 2 || b.Stats().Spoofed.Load() != 1 {
			t.Error("a forged source was taken")
		}
	})
}
