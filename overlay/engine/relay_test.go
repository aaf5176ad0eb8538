package engine

import (
	"bytes"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/path"
	"github.com/hnet-robotics/hnet_bridge/overlay/underlay"
)

// simRelay is one peer's way by a simulated Base, which brings every datagram to the other node after a while.
type simRelay struct {
	base netip.AddrPort
	to   *node
	back *simRelay
	dead *atomic.Bool // of the Base
	sent atomic.Int64
}

const relayDelay = 15 * time.Millisecond

// relayed makes a Base between two nodes; put is to be called for the contacts to have it.
func relayed(a, b *node, base string) (ab, ba *simRelay) {
	dead := new(atomic.Bool)
	ab = &simRelay{base: netip.MustParseAddrPort(base), to: b, dead: dead}
	ba = &simRelay{base: ab.base, to: a, dead: dead, back: ab}
	ab.back = ba
	return ab, ba
}

func (r *simRelay) Headroom() int                                         { return 16 }
func (r *simRelay) Refuse(time.Time, int) (until time.Time, refused bool) { return time.Time{}, false }
func (r *simRelay) Endpoint() netip.AddrPort                              { return r.base }
func (r *simRelay) TCP() bool                                             { return false }
func (r *simRelay) Send(trains []underlay.Message) (n int, err error) {
	for _, m := range trains {
		stride := m.Headroom + m.Segment
		for b := m.Buf; len(b) > 0; b = b[min(stride, len(b)):] {
			datagram := bytes.Clone(b[m.Headroom:min(stride, len(b))])
			r.sent.Add(1)
			if !r.dead.Load() {
				time.AfterFunc(relayDelay, func() { r.to.Deliver(r.back, datagram) })
			}
		}
	}
	return len(trains), nil
}

// meet makes two nodes know each other by relays, and at their endpoints if direct.
func meet(a, b *node, direct bool, relays ...[2]*simRelay) {
	contact := func(of, other *node, side int) {
		c := Contact{Address: other.id.Address(), Key: other.id.PublicKey(), Native: true}
		if direct {
			c.Candidates = []netip.AddrPort{other.port.address()}
		}
		for _, r := range relays {
			c.Relays = append(c.Relays, r[side])
		}
		of.known.put(c)
		of.Refresh(other.id.Address())
	}
	contact(a, b, 0)
	contact(b, a, 1)
}

func strangers(t *testing.T) (n *network, a, b *node) {
	n = newNetwork()
	return n, newNode(t, n, 1, "192.0.2.1:5582"), newNode(t, n, 2, "198.51.100.2:5582")
}

func (x *node) pathTo(y *node) Path {
	s, _ := x.Peer(y.id.Address())
	return s.Path
}

func TestFirstPacketFlowsByTheRelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := strangers(t)
		ab, ba := relayed(a, b, "203.0.113.1:5582")
		meet(a, b, false, [2]*simRelay{ab, ba})
		if took := flowsWithin(t, a, b, time.Second); took > 4*relayDelay+40*time.Millisecond {
			t.Errorf("the first packet took %v", took)
		}
		flowsWithin(t, b, a, 100*time.Millisecond)
		if got := a.pathTo(b).Kind; got != path.RelayUDP {
			t.Errorf("the path is %v", got)
		}
	})
}

func TestDirectPathTakesOverFromTheRelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := strangers(t)
		n.setFilter(delayed(5 * time.Millisecond))
		ab, ba := relayed(a, b, "203.0.113.1:5582")
		meet(a, b, true, [2]*simRelay{ab, ba})
		chat(a, b, 2*time.Second)
		for x, y := range map[*node]*node{a: b, b: a} {
			if got := x.pathTo(y).Kind; got != path.Direct {
				t.Errorf("after 2 s the path is %v", got)
			}
		}
		before := ab.sent.Load()
		chat(a, b, 3*time.Second)
		if got := ab.sent.Load() - before; got > 8 {
			t.Errorf("%d datagrams by the relay while there is a direct path", got)
		}
	})
}

// chatLoses counts what of a stream of packets every 20 ms is lost, and the longest silence.
func chatLoses(a, b *node, d time.Duration) (lost int, silence time.Duration) {
	last := time.Now()
	for i := range uint32(d / (20 * time.Millisecond)) {
		a.send(udpPacket(a.id.Address(), b.id.Address(), i, 200))
		b.send(udpPacket(b.id.Address(), a.id.Address(), i, 200))
		time.Sleep(20 * time.Millisecond)
		got := len(b.received())
		lost += 1 - got
		if got > 0 {
			silence = max(silence, time.Since(last))
			last = time.Now()
		}
		a.received()
	}
	return lost, max(silence, time.Since(last))
}

func TestRelayCarriesOnWhenTheDirectPathDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := strangers(t)
		n.setFilter(delayed(5 * time.Millisecond))
		ab, ba := relayed(a, b, "203.0.113.1:5582")
		meet(a, b, true, [2]*simRelay{ab, ba})
		chatLoses(a, b, 3*time.Second)
		n.setFilter(func(_, _ netip.AddrPort, _ []byte) []delivery { return nil })
		if _, silence := chatLoses(a, b, 10*time.Second); silence > 3*time.Second {
			t.Errorf("silence of %v when the path died", silence)
		}
		if got := a.pathTo(b).Kind; got != path.RelayUDP {
			t.Errorf("the path is %v", got)
		}
		n.setFilter(delayed(5 * time.Millisecond))
		lost, silence := chatLoses(a, b, 40*time.Second)
		if got := a.pathTo(b).Kind; got != path.Direct {
			t.Errorf("the direct path lives again, and the path is %v", got)
		}
		if lost > 1 || silence > 100*time.Millisecond {
			t.Errorf("the way back lost %d packets, silence of %v", lost, silence)
		}
	})
}

func TestAnotherBaseTakesOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := strangers(t)
		ab, ba := relayed(a, b, "203.0.113.1:5582")
		ab2, ba2 := relayed(a, b, "203.0.113.2:5582")
		meet(a, b, false, [2]*simRelay{ab, ba}, [2]*simRelay{ab2, ba2})
		chatLoses(a, b, 3*time.Second)
		first := ab
		if a.pathTo(b).Remote == ab2.base {
			first = ab2
		}
		first.dead.Store(true)
		if _, silence := chatLoses(a, b, 10*time.Second); silence > 2500*time.Millisecond {
			t.Errorf("silence of %v when the Base died", silence)
		}
	})
}

func TestWithdrawnRelayIsLeftAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := strangers(t)
		ab, ba := relayed(a, b, "203.0.113.1:5582")
		meet(a, b, false, [2]*simRelay{ab, ba})
		chatLoses(a, b, 2*time.Second)
		// A new registration has new relays.
		ab2, ba2 := relayed(a, b, "203.0.113.1:5582")
		ab.dead.Store(true)
		meet(a, b, false, [2]*simRelay{ab2, ba2})
		if lost, silence := chatLoses(a, b, 2*time.Second); lost > 2 || silence > 200*time.Millisecond {
			t.Errorf("%d packets lost, silence of %v", lost, silence)
		}
	})
}

// Without any way left, packets wait for the next one, for as long as lanes keep them.
func TestPacketsWaitForTheNextRelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := strangers(t)
		ab, ba := relayed(a, b, "203.0.113.1:5582")
		meet(a, b, false, [2]*simRelay{ab, ba})
		chatLoses(a, b, 2*time.Second)
		ab.dead.Store(true)
		meet(a, b, false)
		for i := range uint32(3) {
			a.send(udpPacket(a.id.Address(), b.id.Address(), i, 200))
			time.Sleep(100 * time.Millisecond)
		}
		ab2, ba2 := relayed(a, b, "203.0.113.2:5582")
		meet(a, b, false, [2]*simRelay{ab2, ba2})
		time.Sleep(time.Second)
		if got := len(b.received()); got != 3 {
			t.Errorf("%d of 3 packets arrived", got)
		}
	})
}
