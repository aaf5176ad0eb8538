package engine

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/lane"
	"github.com/hnet-robotics/hnet_bridge/overlay/path"
)

// flowsWithin sends every 20 ms until a packet arrives, and demands that one does within limit.
func flowsWithin(t *testing.T, from, to *node, limit time.Duration) time.Duration {
	t.Helper()
	start := time.Now()
	for i := uint32(0); time.Since(start) <= limit; i++ {
		from.send(udpPacket(from.id.Address(), to.id.Address(), i, 200))
		if len(to.received()) > 0 {
			return time.Since(start)
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("nothing arrived within %v", limit)
	return limit
}

// delayed gives every datagram a way of d.
func delayed(d time.Duration) func(from, to netip.AddrPort, b []byte) []delivery {
	return func(from, to netip.AddrPort, b []byte) []delivery {
		return []delivery{{after: d, from: from, to: to, b: b}}
	}
}

func TestRestartedSideIsBackWithinASecond(t *testing.T) {
	for _, lost := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			n, a, b := pair(t)
			n.setFilter(delayed(20 * time.Millisecond))
			flowsWithin(t, a, b, time.Second)
			time.Sleep(10 * time.Second)
			b.stop()
			b2 := newNode(t, n, 2, "192.0.2.2:5582")
			b2.knows(a, "192.0.2.1:5582")
			first := lost
			n.setFilter(func(from, to netip.AddrPort, d []byte) []delivery {
				if first && d[0] == 1 { // the very first initiation is lost
					first = false
					return nil
				}
				return delayed(20*time.Millisecond)(from, to, d)
			})
			if err := b2.Connect(a.id.Address()); err != nil {
				t.Fatal(err)
			}
			flowsWithin(t, a, b2, time.Second)
			flowsWithin(t, b2, a, time.Second)
			if got := a.happened(PeerUp); got != 1 {
				t.Errorf("PeerUp told %d times at the side that stayed, want once: the peer was never given up", got)
			}
		})
	}
}

func TestSimultaneousFirstContact(t *testing.T) {
	for _, delay := range []time.Duration{0, time.Millisecond, 50 * time.Millisecond, 150 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			n := newNetwork()
			a := newNode(t, n, 1, "192.0.2.1:5582")
			b := newNode(t, n, 2, "192.0.2.2:5582")
			n.setFilter(delayed(delay))
			a.knows(b, "192.0.2.2:5582")
			b.knows(a, "192.0.2.1:5582")
			for i := range uint32(10) {
				a.send(udpPacket(a.id.Address(), b.id.Address(), i, 200))
				b.send(udpPacket(b.id.Address(), a.id.Address(), i, 200))
			}
			time.Sleep(4*delay + 10*time.Millisecond)
			for _, x := range []*node{a, b} {
				got := x.received()
				if len(got) != 10 {
					t.Fatalf("delay %v: %d of 10 packets", delay, len(got))
				}
				for i, p := range got {
					if number := binary.BigEndian.Uint32(p[48:]); number != uint32(i) {
						t.Fatalf("delay %v: packet %d came as number %d", delay, number, i)
					}
				}
				if x.happened(PeerUp) != 1 {
					t.Errorf("PeerUp told %d times", x.happened(PeerUp))
				}
			}
			// Rekeys do not cross for ever: in ten minutes the sides make few handshakes and lose nothing.
			before := n.count(a.port.addr, 1) + n.count(b.port.addr, 1)
			for i := range uint32(10 * 60 * 4) {
				a.send(udpPacket(a.id.Address(), b.id.Address(), i, 200))
				b.send(udpPacket(b.id.Address(), a.id.Address(), i, 200))
				time.Sleep(250 * time.Millisecond)
			}
			time.Sleep(time.Second)
			if x, y := len(a.received()), len(b.received()); x != 2400 || y != 2400 {
				t.Errorf("delay %v: %d and %d of 2400 packets over ten minutes", delay, x, y)
			}
			if got := n.count(a.port.addr, 1) + n.count(b.port.addr, 1) - before; got > 8 {
				t.Errorf("delay %v: %d handshakes in ten minutes", delay, got)
			}
		})
	}
}

func TestOneOfSeveralCandidatesWorks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		a := newNode(t, n, 1, "192.0.2.1:5582")
		b := newNode(t, n, 2, "192.0.2.2:5582")
		b.knows(a)
		a.knows(b, "192.0.2.77:1", "203.0.113.5:5582", "192.0.2.2:5582", "198.51.100.1:9")
		p := udpPacket(a.id.Address(), b.id.Address(), 1, 300)
		a.send(p)
		mustReceive(t, b, p)
		if s, _ := a.Peer(b.id.Address()); s.Path.Remote != b.port.addr {
			t.Errorf("path is %v", s.Path.Remote)
		}
		// From then on the others are left alone.
		before := len(n.sightings())
		a.send(p)
		synctest.Wait()
		for _, x := range n.sightings()[before:] {
			if x.to != b.port.addr && x.to != a.port.addr {
				t.Errorf("%v still gets %d bytes", x.to, len(x.b))
			}
		}
	})
}

func TestEndpointsInsideTheOverlayAreNeverUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		a := newNode(t, n, 1, "[2001:db8::1]:5582")
		b := newNode(t, n, 2, "[2001:db8::2]:5582")
		inside := netip.AddrPortFrom(b.id.Address(), 5582)
		a.knows(b, inside.String(), "[ff02::1]:5582", "[::]:5582", "[2001:db8::9]:0")
		a.send(udpPacket(a.id.Address(), b.id.Address(), 1, 100))
		time.Sleep(10 * time.Second)
		if got := n.sightings(); len(got) != 0 {
			t.Fatalf("%d datagrams went to %v", len(got), got[0].to)
		}
		if a.happened(ContactWanted) == 0 {
			t.Error("nobody was told that an endpoint is wanted")
		}
		// Nor is one believed as a source: a session's own datagrams from there are dropped.
		b.knows(a)
		a.knows(b, "[2001:db8::2]:5582")
		a.Refresh(b.id.Address())
		flowsWithin(t, a, b, time.Second)
		b.port.move(inside.String())
		b.send(udpPacket(b.id.Address(), a.id.Address(), 2, 100))
		mustReceive(t, a)
		if s, _ := a.Peer(b.id.Address()); s.Path.Remote.Addr() == b.id.Address() {
			t.Error("the path leads into the overlay")
		}
	})
}

// waitingPackets is how many small packets wait for a first path.
const waitingPackets = 128

func TestFirstPacketsWaitInOrderWithinBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		a := newNode(t, n, 1, "192.0.2.1:5582")
		b := newNode(t, n, 2, "192.0.2.2:5582")
		b.knows(a)
		a.knows(b) // no endpoint yet
		for i := range uint32(waitingPackets + 50) {
			a.send(udpPacket(a.id.Address(), b.id.Address(), i, 200))
		}
		time.Sleep(time.Second)
		if a.happened(ContactWanted) == 0 {
			t.Error("nobody was told that an endpoint is wanted")
		}
		a.knows(b, "192.0.2.2:5582")
		a.Refresh(b.id.Address())
		synctest.Wait()
		got := b.received()
		if len(got) != waitingPackets {
			t.Fatalf("%d packets, want the last %d", len(got), waitingPackets)
		}
		for i, p := range got {
			if number := binary.BigEndian.Uint32(p[48:]); number != uint32(i+50) {
				t.Fatalf("packet %d came as number %d", number, i)
			}
		}
		if a.Stats().LaneOverflow.Load() != 50 || a.waiting.Used() != 0 {
			t.Errorf("%d packets counted as lost, %d bytes still held", a.Stats().LaneOverflow.Load(), a.waiting.Used())
		}
	})
}

func TestWhatWaitsTooLongExpires(t *testing.T) {
	for _, keyKnown := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			n := newNetwork()
			a := newNode(t, n, 1, "192.0.2.1:5582")
			b := newNode(t, n, 2, "192.0.2.2:5582")
			b.knows(a)
			if keyKnown {
				a.knows(b)
			} else {
				a.known.put(Contact{Address: b.id.Address()})
			}
			a.send(udpPacket(a.id.Address(), b.id.Address(), 1, 200))
			time.Sleep(lane.MaxAge - time.Millisecond)
			if a.waiting.Used() == 0 {
				t.Fatal("it expired too early")
			}
			time.Sleep(2 * time.Millisecond)
			if a.waiting.Used() != 0 || a.Stats().LaneOverflow.Load() != 1 {
				t.Errorf("key known %v: %d bytes still wait", keyKnown, a.waiting.Used())
			}
			a.knows(b, "192.0.2.2:5582")
			a.Refresh(b.id.Address())
			mustReceive(t, b)
			flowsWithin(t, a, b, time.Second)
		})
	}
}

func TestAllLanesTogetherAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		a := newNode(t, n, 1, "192.0.2.1:5582")
		for i := range byte(130) {
			id := testIdentity(100 + i)
			a.known.put(Contact{Address: id.Address()})
			for range waitingPackets {
				a.send(udpPacket(a.id.Address(), id.Address(), 1, 1280))
			}
			synctest.Wait()
		}
		if got := a.waiting.Used(); got > lane.MostBytes || got < lane.MostBytes/2 {
			t.Errorf("%d bytes wait, the bound is %d", got, lane.MostBytes)
		}
		time.Sleep(lane.MaxAge + time.Second)
		if got := a.waiting.Used(); got != 0 {
			t.Errorf("%d bytes wait for ever", got)
		}
	})
}

// The peer's initiation may be how its key becomes known: what waits for it must then go.
func TestInitiationOfAPeerWhoseKeyWasNotKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		a := newNode(t, n, 1, "192.0.2.1:5582")
		b := newNode(t, n, 2, "192.0.2.2:5582")
		a.known.put(Contact{Address: b.id.Address()})
		p := udpPacket(a.id.Address(), b.id.Address(), 1, 200)
		a.send(p)
		synctest.Wait()
		b.knows(a, "192.0.2.1:5582")
		if err := b.Connect(a.id.Address()); err != nil {
			t.Fatal(err)
		}
		mustReceive(t, b, p)
	})
}

func TestAnUnreachablePeerIsGivenUpAndComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t)
		flowsWithin(t, a, b, time.Second)
		n.setFilter(func(from, to netip.AddrPort, d []byte) []delivery { return nil })
		start := time.Now()
		for i := range uint32(8 * 10) {
			a.send(udpPacket(a.id.Address(), b.id.Address(), i, 200))
			time.Sleep(100 * time.Millisecond)
		}
		if s, _ := a.Peer(b.id.Address()); s.State == Connected {
			t.Errorf("still called connected %v after the path died", time.Since(start))
		}
		for i := range uint32(130) {
			a.send(udpPacket(a.id.Address(), b.id.Address(), i, 200))
			time.Sleep(time.Second)
		}
		if s, _ := a.Peer(b.id.Address()); s.State != Unreachable || a.happened(PeerDown) != 1 {
			t.Errorf("state %v, PeerDown told %d times", s.State, a.happened(PeerDown))
		}
		n.setFilter(nil)
		b.received()
		flowsWithin(t, a, b, 6*time.Second)
		flowsWithin(t, b, a, time.Second)
		if s, _ := a.Peer(b.id.Address()); s.State != Connected || a.happened(PeerUp) != 2 {
			t.Errorf("state %v, PeerUp told %d times", s.State, a.happened(PeerUp))
		}
	})
}

// A peer that was given up while its session lives is up again as soon as it speaks.
func TestAPeerThatSpeaksAgainIsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t)
		flowsWithin(t, a, b, time.Second)
		n.setFilter(func(from, to netip.AddrPort, d []byte) []delivery { return nil })
		if err := a.Renew(b.id.Address()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(120 * time.Second)
		if a.happened(PeerDown) != 1 {
			t.Fatalf("PeerDown told %d times", a.happened(PeerDown))
		}
		n.setFilter(nil)
		b.send(udpPacket(b.id.Address(), a.id.Address(), 9, 100))
		if len(a.received()) != 1 {
			t.Fatal("the session did not live")
		}
		if s, _ := a.Peer(b.id.Address()); s.State != Connected || a.happened(PeerUp) != 2 {
			t.Errorf("state %v, PeerUp told %d times", s.State, a.happened(PeerUp))
		}
	})
}

func TestNewEndpointRevivesADeadPath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t)
		flowsWithin(t, a, b, time.Second)
		b.port.move("198.51.100.20:5582")
		for i := range uint32(120) { // 12 s: the probes go unanswered, the first retransmissions are over
			a.send(udpPacket(a.id.Address(), b.id.Address(), i, 200))
			time.Sleep(100 * time.Millisecond)
		}
		b.received()
		a.knows(b, "198.51.100.20:5582")
		a.Refresh(b.id.Address())
		flowsWithin(t, a, b, 200*time.Millisecond)
	})
}

func TestConnectIsRefusedForStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newNode(t, newNetwork(), 1, "192.0.2.1:5582")
		stranger := testIdentity(50).Address()
		if err := a.Connect(stranger); err == nil || a.Renew(stranger) == nil {
			t.Error("contact with a stranger")
		}
		if len(a.Peers()) != 0 {
			t.Error("a stranger is in the table")
		}
	})
}

func TestHandshakesGoToEachEndpointOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		a, b := newNode(t, n, 1, "192.0.2.1:5582"), newNode(t, n, 2, "192.0.2.2:5582")
		first, second := netip.MustParseAddrPort("198.51.100.2:5582"), netip.MustParseAddrPort("198.51.100.2:40000")
		a.knows(b, first.String())
		p := a.peerFor(b.id.Address())
		p.mu.Lock()
		defer p.mu.Unlock()
		p.routes.told = []netip.AddrPort{first, second} // the peer says inside the tunnel what its record says, and more
		var x action
		contact, _ := a.known.ByAddress(b.id.Address())
		a.everywhere(p, contact, 0, &x)
		if len(x.to) != 2 || x.to[0].Remote != first || x.to[1].Remote != second {
			t.Errorf("an initiation goes to %v", x.to)
		}
	})
}

// Link-local endpoints mean nothing without their link, which differs from host to host: they would be taken for neighbours, and cannot be sent to.
func TestLinkLocalEndpointsAreNotToldInsideTheTunnel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t)
		flowsWithin(t, a, b, time.Second)
		global, local := netip.MustParseAddrPort("[2001:db8::7]:5582"), netip.MustParseAddrPort("[fe80::7]:5582")
		x := ends{list: []netip.AddrPort{local, global}}
		b.ends.Store(&x) // as one that does not know better
		say(b, a, b.endpointsMessage(path.NoSignal, false))
		synctest.Wait()
		p := a.peers.get(b.id.Address())
		p.mu.Lock()
		told := p.routes.told
		p.mu.Unlock()
		if len(told) != 1 || told[0] != global {
			t.Errorf("taken over: %v", told)
		}
		a.SetEndpoints([]netip.AddrPort{local, global}, path.Independent)
		if own := a.ends.Load().list; len(own) != 1 || own[0] != global {
			t.Errorf("told: %v", own)
		}
	})
}
