package engine

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/wireguard"
)

// load is packets that one node sends another, as fast as they go, and what became of them. A burst and whatever else happens at the same moment of
// virtual time run at once, on all processors.
type load struct {
	from, to *node
	size     int
	sent     uint32
	got      []bool
	arrived  int
	lost     int    // of what was sent up to the last settle
	next     uint32 // one more than the highest number that arrived
}

// bursts is how many packets a burst has, and steps how many bursts a test: the race detector takes ten times as long.
func bursts(packets, steps int) (int, int) {
	if raceEnabled {
		return packets / 4, steps / 4
	}
	return packets, steps
}

func between(from, to *node, size int) *load { return &load{from: from, to: to, size: size} }

// begin has the nodes of loads meet: what waits for the first session has little room.
func begin(t *testing.T, loads ...*load) {
	t.Helper()
	for _, l := range loads {
		l.burst(1)
		settle(t, true, loads...)
	}
}

func (l *load) burst(n int) {
	first := l.sent
	l.sent += uint32(n)
	l.got = append(l.got, make([]bool, n)...)
	for i := range n {
		l.from.send(udpPacket(l.from.id.Address(), l.to.id.Address(), first+uint32(i), l.size))
	}
}

// settle takes in what arrived, at all nodes of the loads. What is changed, comes twice or (unless it may) out of order fails the test.
func settle(t *testing.T, inOrder bool, loads ...*load) {
	t.Helper()
	synctest.Wait()
	byAddress := map[[2]netip.Addr]*load{}
	var nodes []*node
	for _, l := range loads {
		byAddress[[2]netip.Addr{l.from.id.Address(), l.to.id.Address()}] = l
		if !slices.Contains(nodes, l.to) {
			nodes = append(nodes, l.to)
		}
	}
	for _, x := range nodes {
		for _, b := range x.received() {
			h, ok := parseIPv6(b)
			l := byAddress[[2]netip.Addr{h.source, h.destination}]
			if !ok || l == nil || len(b) < 52 {
				t.Fatalf("a packet of nobody: %x", b)
			}
			n := binary.BigEndian.Uint32(b[48:])
			switch {
			case n >= l.sent || !bytes.Equal(b, udpPacket(h.source, h.destination, n, l.size)):
				t.Fatalf("packet %d was changed on its way", n)
			case l.got[n]:
				t.Fatalf("packet %d came twice", n)
			case inOrder && n < l.next:
				t.Fatalf("packet %d came after %d", n, l.next-1)
			}
			l.got[n] = true
			l.next = max(l.next, n+1)
			l.arrived++
		}
	}
	for _, l := range loads {
		l.lost = int(l.sent) - l.arrived
	}
}

// nonces checks that no counter is used twice with the same keys, which would give them away.
type nonces struct {
	seen       map[uint64]struct{}
	handshakes int // answered
}

// take looks at what crossed the network since, and forgets it.
func (x *nonces) take(t *testing.T, n *network) {
	t.Helper()
	if x.seen == nil {
		x.seen = map[uint64]struct{}{}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.seen {
		switch wireguard.TypeOf(s.b) {
		case wireguard.TypeResponse:
			x.handshakes++
		case wireguard.TypeTransport:
			key := uint64(wireguard.ReceiverIndex(s.b))<<32 | wireguard.Counter(s.b)
			if _, again := x.seen[key]; again {
				t.Fatalf("counter %d was used twice with the keys of index %#x", wireguard.Counter(s.b), wireguard.ReceiverIndex(s.b))
			}
			x.seen[key] = struct{}{}
		}
	}
	n.seen = n.seen[:0]
}

// forget throws away what crossed the network so far.
func (n *network) forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.seen = n.seen[:0]
}

func unpaced(c *Config) { c.Unpaced = true }

// TestRekeyUnderLoad renews the session again and again, from either side and from both at once, in the middle of bursts both ways: nothing is lost,
// changed, twice or out of order, and no counter is used twice with the same keys.
func TestRekeyUnderLoad(t *testing.T) {
	for name, opts := range map[string][]nodeOption{"chacha20poly1305": nil, "aes256gcm": {withAES}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, a, b := pair(t, append(slices.Clone(opts), unpaced)...) // what is held back arrives in time, but later
				loads := []*load{between(a, b, 1200), between(b, a, 1280)}
				begin(t, loads...)
				var nonces nonces
				packets, steps := bursts(300, 40)
				for i := range steps {
					var wg sync.WaitGroup
					for _, l := range loads {
						wg.Go(func() { l.burst(packets) })
					}
					for j, x := range []*node{a, b} {
						if i%3 == j || i%3 == 2 {
							wg.Go(func() {
								if err := x.Renew([]*node{b, a}[j].id.Address()); err != nil {
									t.Error(err)
								}
							})
						}
					}
					wg.Wait()
					settle(t, true, loads...)
					for _, l := range loads {
						if l.lost > 0 {
							t.Fatalf("step %d: %d of %d packets were lost", i, l.lost, l.sent)
						}
					}
					nonces.take(t, n)
					time.Sleep(wireguard.ContactInterval)
				}
				if nonces.handshakes < steps {
					t.Errorf("%d handshakes in %d steps", nonces.handshakes, steps)
				}
				for _, x := range []*node{a, b} {
					if s := x.Stats(); s.Replayed.Load()+s.Unauthentic.Load()+s.Malformed.Load() > uint64(steps) { // crossed handshakes
						t.Errorf("%d replayed, %d unauthentic, %d malformed", s.Replayed.Load(), s.Unauthentic.Load(), s.Malformed.Load())
					}
				}
				t.Logf("%d packets, %d sessions", len(nonces.seen), nonces.handshakes)
			})
		})
	}
}

// TestReplaysUnderLoad delays each datagram by its own time, so that they overtake each other, and has a stranger send all of them again, and some of them
// much later or with a bit turned.
func TestReplaysUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t, unpaced, withAES)
		loads := []*load{between(a, b, 1200), between(b, a, 1200)}
		begin(t, loads...)
		evil := netip.MustParseAddrPort("203.0.113.66:666")
		random := rand.New(rand.NewPCG(1, 2))
		again, forged := map[netip.AddrPort]uint64{}, map[netip.AddrPort]uint64{}
		n.setFilter(func(from, to netip.AddrPort, b []byte) (out []delivery) {
			after := time.Duration(random.IntN(5000)) * time.Microsecond
			out = []delivery{{from: from, to: to, b: b, after: after}}
			if wireguard.TypeOf(b) != wireguard.TypeTransport {
				return out
			}
			replay := func(later time.Duration, b []byte) {
				out = append(out, delivery{from: evil, to: to, b: slices.Clone(b), after: after + later})
			}
			again[to]++
			replay(time.Duration(random.IntN(2000))*time.Microsecond, b)
			switch random.IntN(8) {
			case 0: // beyond the window by then
				again[to]++
				replay(300*time.Millisecond, b)
			case 1:
				forged[to]++
				b := slices.Clone(b)
				b[wireguard.TransportHeaderSize+random.IntN(len(b)-wireguard.TransportHeaderSize)] ^= 1 << random.IntN(8)
				replay(0, b)
			case 2: // a counter that is still to come
				forged[to]++
				b := slices.Clone(b)
				binary.LittleEndian.PutUint64(b[8:], wireguard.Counter(b)+uint64(1+random.IntN(1<<30)))
				replay(0, b)
			}
			return out
		})
		packets, steps := bursts(500, 20)
		before := map[*node][2]uint64{}
		for _, x := range []*node{a, b} {
			before[x] = [2]uint64{x.Stats().Replayed.Load(), x.Stats().Unauthentic.Load()}
		}
		for range steps {
			for _, l := range loads {
				l.burst(packets)
			}
			time.Sleep(10 * time.Millisecond)
			settle(t, false, loads...)
			n.forget()
		}
		n.setFilter(nil)
		time.Sleep(time.Second) // what is to come much later has come
		settle(t, false, loads...)
		for _, l := range loads {
			if l.lost != 0 {
				t.Errorf("%d of %d packets were lost", l.lost, l.sent)
			}
		}
		for _, x := range []*node{a, b} {
			at := x.port.address()
			replayed, unauthentic := x.Stats().Replayed.Load()-before[x][0], x.Stats().Unauthentic.Load()-before[x][1]
			if replayed != again[at] || unauthentic != forged[at] {
				t.Errorf("%v: %d replays of %d and %d forgeries of %d were thrown away", at, replayed, again[at], unauthentic, forged[at])
			}
			for _, p := range x.Peers() {
				if p.Path.Remote == evil {
					t.Errorf("%v sends to the stranger", at)
				}
			}
		}
		t.Logf("%d packets, %d and %d replays, %d and %d forgeries", loads[0].sent+loads[1].sent,
			again[a.port.address()], again[b.port.address()], forged[a.port.address()], forged[b.port.address()])
	})
}

// TestFloodUnderLoad has strangers ask for 3,000 sessions a second from everywhere: what flows is not touched, sessions are renewed, a new peer gets in,
// and no more is computed and answered than the gate's limits say.
func TestFloodUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t, withAES)
		c := newNode(t, n, 3, "192.0.2.3:5582", withAES)
		c.knows(b, b.port.address().String())
		loads := []*load{between(a, b, 1200), between(b, a, 1200)}
		newcomer := between(c, b, 300)
		begin(t, loads...)
		var flood [][]byte
		for i := range 64 {
			flood = append(flood, strangersInitiation(t, b, byte(100+i)))
		}
		const step, until = 10 * time.Millisecond, 60 * time.Second
		packets, _ := bursts(60, 0)
		perStep, lasts := 30, 3*time.Second
		if raceEnabled {
			perStep, lasts = 6, time.Second // 600 a second are above the limit, too
		}
		start := time.Now()
		refused := b.Stats().Refused.Load()
		cookies, renewed := 0, 0
		for i := 0; newcomer.arrived == 0 || time.Since(start) < lasts; i++ {
			if time.Since(start) > until {
				t.Fatalf("the new peer is not in after %v", until)
			}
			if i == 60 { // the flood is on for a while
				b.knows(c)
				newcomer.burst(1)
			}
			var wg sync.WaitGroup
			wg.Go(func() {
				for j := range perStep {
					k := i*perStep + j
					from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, byte(k >> 8), byte(k)}), 1000)
					m := flood[k%len(flood)]
					n.arrive(delivery{from: from, to: b.port.address(), b: slices.Clone(m)}, len(m))
				}
			})
			for _, l := range loads {
				wg.Go(func() { l.burst(packets) })
			}
			if i%100 == 70 {
				wg.Go(func() { a.Renew(b.id.Address()) })
			}
			wg.Wait()
			settle(t, true, append(loads, newcomer)...)
			for _, s := range n.sightings() {
				switch {
				case s.b[0] == byte(wireguard.TypeCookieReply):
					cookies++
				case s.b[0] == byte(wireguard.TypeResponse) && s.to == a.port.address():
					renewed++
				}
			}
			n.forget()
			time.Sleep(step)
		}
		took := time.Since(start)
		for _, l := range loads {
			if l.lost > 0 {
				t.Errorf("%d of %d packets were lost", l.lost, l.sent)
			}
		}
		seconds := took.Seconds()
		if got := float64(b.Stats().Refused.Load() - refused); got > 250*(seconds+1) {
			t.Errorf("%.0f handshakes of strangers were computed in %v", got, took)
		}
		if cookies == 0 || float64(cookies) > 2000*(seconds+1) {
			t.Errorf("%d cookies were sent in %v", cookies, took)
		}
		if renewed == 0 {
			t.Error("no session was renewed")
		}
		t.Logf("%v: %d packets, %d cookies, %d handshakes of strangers computed, %d sessions renewed", took, loads[0].sent+loads[1].sent, cookies,
			b.Stats().Refused.Load()-refused, renewed)
	})
}

// TestRoamingUnderLoad gives one end a new address again and again in the middle of bursts, as a NAT does that forgets, without a word: what the moved end
// sends is never lost, and what is sent to it no longer than until its old address is known to be silent.
func TestRoamingUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t, withAES)
		to, from := between(a, b, 1200), between(b, a, 1200)
		begin(t, to, from)
		packets, moves := bursts(40, 8)
		for i := range moves {
			start := time.Now()
			for whole := 0; whole < 20; {
				if time.Since(start) > 5*time.Second {
					t.Fatalf("packets to the end that moved are lost after %v", time.Since(start))
				}
				var wg sync.WaitGroup
				wg.Go(func() { from.burst(packets) })
				wg.Go(func() { to.burst(packets) })
				if time.Now().Equal(start) {
					wg.Go(func() {
						b.port.move(netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}), 40000).String())
					})
				}
				wg.Wait()
				before := to.lost
				settle(t, false, to, from)
				if from.lost > 0 {
					t.Fatalf("%d packets of the end that moves were lost", from.lost)
				}
				if whole++; to.lost > before {
					whole = 0
				}
				n.forget()
				time.Sleep(10 * time.Millisecond)
			}
		}
		t.Logf("%d of %d packets were lost to an end that moved %d times", to.lost, to.sent, moves)
	})
}

// TestPathMTUUnderLoad makes the path narrower and wider under bursts of packets that then go in pieces and whole again: nothing is changed or twice, and
// nothing is lost once the path is known.
func TestPathMTUUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t, withAES)
		loads := []*load{between(a, b, 1280), between(b, a, 1280)}
		begin(t, loads...)
		packets, _ := bursts(40, 0)
		for _, mtu := range []int{1500, 1280, 1500, 1100, 1400} {
			n.setFilter(narrow(mtu))
			for whole, start := 0, time.Now(); whole < 20; {
				if time.Since(start) > 30*time.Second {
					t.Fatalf("packets are still lost on a path of %d B after %v", mtu, time.Since(start))
				}
				before := loads[0].lost + loads[1].lost
				for _, l := range loads {
					l.burst(packets)
				}
				time.Sleep(20 * time.Millisecond)
				settle(t, false, loads...)
				if whole++; loads[0].lost+loads[1].lost > before {
					whole = 0
				}
				n.forget()
			}
		}
		t.Logf("%d of %d packets were lost while the path was found", loads[0].lost+loads[1].lost, loads[0].sent+loads[1].sent)
	})
}

// TestPiecesUnderLoad loses some of the pieces of so many packets, all of one length, that their identification is used again within a second: what the lost
// ones leave is never completed by a piece of another packet.
func TestPiecesUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const mtu, size = 700, 900
		n, a, b := pair(t, withAES)
		l, back := between(a, b, size), between(b, a, size)
		begin(t, l, back)
		a.SetPathMTU(b.id.Address(), b.port.addr, mtu)
		passes, datagrams := narrow(mtu), 0
		n.setFilter(func(from, to netip.AddrPort, b []byte) []delivery {
			if datagrams++; datagrams%997 == 0 && wireguard.TypeOf(b) == wireguard.TypeTransport {
				return nil
			}
			return passes(from, to, b)
		})
		packets, steps := bursts(1000, 72)
		for range steps {
			l.burst(packets)
			settle(t, false, l, back)
			n.forget()
			time.Sleep(10 * time.Millisecond)
		}
		if l.lost == 0 || l.lost > int(l.sent)/300 {
			t.Errorf("%d of %d packets were lost of which one piece in 997 was", l.lost, l.sent)
		}
	})
}
