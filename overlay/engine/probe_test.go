package engine

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/wireguard"
)

// probeSize is what a probe, its reply or a hello takes on the wire.
const probeSize = innerLen + wireguard.TransportOverhead

// probesFrom counts the messages of that size from a port since a sighting.
func probesFrom(n *network, from netip.AddrPort, since int) (c int) {
	for _, x := range n.sightings()[since:] {
		if x.from == from && len(x.b) == probeSize {
			c++
		}
	}
	return c
}

// chat sends a packet each way every 250 ms.
func chat(a, b *node, d time.Duration) {
	for i := range uint32(d / (250 * time.Millisecond)) {
		a.send(udpPacket(a.id.Address(), b.id.Address(), i, 200))
		b.send(udpPacket(b.id.Address(), a.id.Address(), i, 200))
		time.Sleep(250 * time.Millisecond)
	}
	a.received()
	b.received()
}

func TestProbesMeasureThePath(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for _, c := range []struct {
		oneWay, jitter time.Duration
		loss           float64
	}{
		{30 * time.Millisecond, 0, 0},
		{30 * time.Millisecond, 10 * time.Millisecond, 0},
		{5 * time.Millisecond, 0, 0.3},
	} {
		synctest.Test(t, func(t *testing.T) {
			n, a, b := pair(t)
			flowsWithin(t, a, b, time.Second)
			count := 0
			n.setFilter(func(from, to netip.AddrPort, d []byte) []delivery {
				// Three of ten, never two in a row, so that every window of 32 holds about the same share.
				if c.loss > 0 && from == a.port.addr && len(d) == probeSize {
					if count++; count%10 == 0 || count%10 == 3 || count%10 == 6 {
						return nil
					}
				}
				return []delivery{{after: c.oneWay + time.Duration(r.Float64()*float64(c.jitter)), from: from, to: to, b: d}}
			})
			chat(a, b, 90*time.Second)
			s, _ := a.Peer(b.id.Address())
			low, high := 2*c.oneWay, 2*(c.oneWay+c.jitter)
			if !s.Measured || s.RTT < low-time.Millisecond || s.RTT > high+time.Millisecond {
				t.Errorf("round trip %v, want %v to %v", s.RTT, low, high)
			}
			if s.Jitter > c.jitter+time.Millisecond || (c.jitter > 0 && s.Jitter < c.jitter/20) {
				t.Errorf("jitter %v of a way that varies by %v", s.Jitter, c.jitter)
			}
			if !s.LossKnown || s.Loss < c.loss/6 || s.Loss > c.loss*2 { // of 32 probes
				t.Errorf("loss %v, want %v", s.Loss, c.loss)
			}
		})
	}
}

func TestProbesEndAfterTheTraffic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t)
		chat(a, b, 20*time.Second)
		mark := len(n.sightings())
		time.Sleep(30*time.Second - time.Second)
		if got := probesFrom(n, a.port.addr, mark); got < 20 {
			t.Errorf("%d probes and replies in the half minute after the traffic", got)
		}
		time.Sleep(3 * time.Second)
		mark = len(n.sightings())
		time.Sleep(time.Hour)
		if got := len(n.sightings()) - mark; got != 0 {
			t.Errorf("%d datagrams in an idle hour", got)
		}
	})
}

func TestStockPeersAreNeverProbed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, s := withStock(t, wireguard.PSK{})
		for i := range uint32(60) {
			exchange(t, a, s, i, 200)
			time.Sleep(time.Second)
		}
		if got := probesFrom(n, ourPort, 0); got != 0 {
			t.Errorf("%d messages of our own to a stock peer", got)
		}
	})
}

func TestPeerIsKnownAsNativeThoughTheHelloIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		a := newNode(t, n, 1, "192.0.2.1:5582")
		b := newNode(t, n, 2, "192.0.2.2:5582")
		a.known.put(Contact{Address: b.id.Address(), Key: b.id.PublicKey(), Candidates: []netip.AddrPort{b.port.addr}})
		b.known.put(Contact{Address: a.id.Address(), Key: a.id.PublicKey()})
		lost := 0
		n.setFilter(func(from, to netip.AddrPort, d []byte) []delivery {
			if from == b.port.addr && len(d) == probeSize && lost < 1 { // the hello
				lost++
				return nil
			}
			return []delivery{{from: from, to: to, b: d}}
		})
		a.send(udpPacket(a.id.Address(), b.id.Address(), 1, 100))
		synctest.Wait()
		if s, _ := a.Peer(b.id.Address()); s.Native || lost != 1 {
			t.Fatalf("native %v after %d lost messages", s.Native, lost)
		}
		chat(a, b, 5*time.Second)
		if s, _ := a.Peer(b.id.Address()); !s.Native {
			t.Error("probes do not show what the peer is")
		}
	})
}

func TestADeadPathIsNoticedAndOthersAreTried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		a := newNode(t, n, 1, "192.0.2.1:5582")
		b := newNode(t, n, 2, "192.0.2.2:5582")
		other := netip.MustParseAddrPort("203.0.113.2:5582")
		a.knows(b, "192.0.2.2:5582", other.String())
		b.knows(a, "192.0.2.1:5582")
		chat(a, b, 5*time.Second)
		// b's first address dies both ways; through the other it is reached.
		n.setFilter(func(from, to netip.AddrPort, d []byte) []delivery {
			switch {
			case to == other:
				return []delivery{{from: from, to: b.port.addr, b: d}}
			case from == a.port.addr, to != a.port.addr:
				return nil
			}
			return []delivery{{from: other, to: to, b: d}}
		})
		dead := time.Now()
		for i := uint32(0); ; i++ {
			a.send(udpPacket(a.id.Address(), b.id.Address(), i, 200))
			if len(b.received()) > 0 {
				break
			}
			if time.Since(dead) > 10*time.Second {
				t.Fatal("the other way was not found in 10 s")
			}
			time.Sleep(50 * time.Millisecond)
		}
		if took := time.Since(dead); took > 7*time.Second {
			t.Errorf("it took %v", took)
		}
		if s, _ := a.Peer(b.id.Address()); s.Path.Remote != other || s.State != Connected {
			t.Errorf("path %v, state %v", s.Path.Remote, s.State)
		}
	})
}

// kernel answers echo requests that come out of a simulated hnet0, as the host would, until the test ends.
func kernel(d *device) {
	go func() {
		for {
			select {
			case p := <-d.out:
				h, ok := parseIPv6(p)
				if ok && h.nextHeader == protocolICMPv6 && p[40] == icmpEchoRequest {
					d.in <- newICMP(h.destination, h.source, icmpEchoReply, 0, binary.BigEndian.Uint32(p[44:]), p[48:])
				}
			case <-d.done:
				return
			}
		}
	}()
}

func TestPing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, s := withStock(t, wireguard.PSK{})
		b := newNode(t, n, 2, "192.0.2.2:5582")
		a.knows(b, "192.0.2.2:5582")
		b.knows(a)
		kernel(s.device)
		kernel(b.device)
		n.setFilter(delayed(10 * time.Millisecond))
		for _, peer := range []netip.Addr{s.id.Address(), b.id.Address()} {
			// The first includes the handshake.
			for i, want := range []time.Duration{40 * time.Millisecond, 20 * time.Millisecond} {
				got, err := a.Ping(t.Context(), peer)
				if err != nil || got != want {
					t.Errorf("ping %d: %v, %v; want %v", i, got, err, want)
				}
			}
		}
		// Replies to pings of ours end with us; those of the host's own programs reach it.
		mustReceive(t, a)
		request := newICMP(a.id.Address(), b.id.Address(), icmpEchoRequest, 0, 7, bytes.Repeat([]byte{1}, 16))
		a.send(request)
		time.Sleep(time.Second)
		if got := a.received(); len(got) != 1 || got[0][40] != icmpEchoReply {
			t.Errorf("%d packets for the host's own ping", len(got))
		}
		n.setFilter(func(from, to netip.AddrPort, d []byte) []delivery { return nil })
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		start := time.Now()
		if _, err := a.Ping(ctx, b.id.Address()); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 3*time.Second {
			t.Errorf("ping into the void: %v after %v", err, time.Since(start))
		}
		if _, err := a.Ping(t.Context(), testIdentity(77).Address()); err == nil {
			t.Error("a stranger was pinged")
		}
		if a.echoes.pending.Load() != 0 || len(a.echoes.waiting) != 0 {
			t.Error("a ping is remembered after its end")
		}
	})
}

func TestPingsAtOnceAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		a := newNode(t, n, 1, ourEndpoint)
		b := testIdentity(2)
		a.known.put(Contact{Address: b.Address(), Key: b.PublicKey()})
		ctx, cancel := context.WithCancel(t.Context())
		for range maxEchoes {
			go a.Ping(ctx, b.Address())
		}
		synctest.Wait()
		if _, err := a.Ping(ctx, b.Address()); !errors.Is(err, errTooManyPings) {
			t.Errorf("one more: %v", err)
		}
		cancel()
		synctest.Wait()
		if a.echoes.pending.Load() != 0 {
			t.Error("cancelled pings are remembered")
		}
	})
}

func TestCongestionMarks(t *testing.T) {
	const notECT, ect1, ect0, ce = 0, 1, 2, 3
	a, b := sides(t)
	b.last = []byte{}
	for _, c := range []struct{ inner, outer, want byte }{
		{notECT, notECT, notECT}, {notECT, ce, notECT}, {ect0, ect0, ect0}, {ect0, ce, ce}, {ect1, ce, ce}, {ect1, ect1, ect1}, {ce, ce, ce}, {ce, ect0, ce},
	} {
		p := udpPacket(a.address, b.address, 1, 200)
		p[1] |= c.inner << 4
		a.out.packet(a.now, superpacket(p))
		if got := a.out.trains[len(a.out.trains)-1].TOS & 3; got != c.inner {
			t.Errorf("outer mark %d of a packet with %d", got, c.inner)
		}
		a.out.flush()
		for i := range b.inboxed {
			b.inbox[i].TOS = c.outer
		}
		b.last = b.last[:0]
		b.settle()
		if got := b.last[10+1] >> 4 & 3; got != c.want {
			t.Errorf("inner mark %d, outer %d: arrived with %d, want %d", c.inner, c.outer, got, c.want)
		}
	}
	// Packets with different marks do not share a train: it has one mark.
	x, y := udpPacket(a.address, b.address, 1, 200), udpPacket(a.address, b.address, 2, 200)
	y[1] |= ect0 << 4
	a.out.packet(a.now, superpacket(x))
	a.out.packet(a.now, superpacket(y))
	if got := len(a.out.trains); got != 2 {
		t.Errorf("%d trains", got)
	}
}
