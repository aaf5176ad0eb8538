package engine

import (
	"bytes"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/tun"
	"github.com/hnet-robotics/hnet_bridge/overlay/wireguard"
)

// narrow loses every datagram whose IPv4 packet is larger than mtu.
func narrow(mtu int) func(from, to netip.AddrPort, b []byte) []delivery {
	return func(from, to netip.AddrPort, b []byte) []delivery {
		if len(b)+ipv4UDPHeaders > mtu {
			return nil
		}
		return []delivery{{from: from, to: to, b: b}}
	}
}

func TestPacketsAreSplitBelowTheMTU(t *testing.T) {
	for _, mtu := range []int{1100, 1232, 576} {
		synctest.Test(t, func(t *testing.T) {
			n, a, b := pair(t)
			flowsWithin(t, a, b, time.Second)
			a.SetPathMTU(b.id.Address(), b.port.addr, mtu)
			b.SetPathMTU(a.id.Address(), a.port.addr, mtu)
			n.setFilter(narrow(mtu))
			before := len(n.sightings())
			for size := 40; size <= routeMTU; size++ {
				p := udpPacket(a.id.Address(), b.id.Address(), uint32(size), size)
				a.send(p)
				mustReceive(t, b, p)
			}
			p := udpPacket(b.id.Address(), a.id.Address(), 1, routeMTU)
			b.send(p)
			mustReceive(t, a, p)
			// Superpackets too, and what is larger than the default route allows.
			super := tcpSuper(a.id.Address(), b.id.Address(), 60000, 1220)
			want := segments(t, super)
			a.send(super)
			mustReceive(t, b, want...)
			p = udpPacket(a.id.Address(), b.id.Address(), 2, 1500)
			a.send(p)
			mustReceive(t, b, p)
			for _, x := range n.sightings()[before:] {
				if len(x.b)+ipv4UDPHeaders > mtu && x.from == a.port.addr && len(x.b) != wireguard.InitiationSize {
					t.Fatalf("an IP packet of %d bytes on a path of %d", len(x.b)+ipv4UDPHeaders, mtu)
				}
			}
			if a.joining.Load()+b.joining.Load() != 0 {
				t.Error("memory for pieces is still held")
			}
		})
	}
}

// segments returns the packets of a superpacket.
func segments(t *testing.T, super []byte) (packets [][]byte) {
	t.Helper()
	var s tun.Splitter
	if err := s.Reset(bytes.Clone(super)); err != nil {
		t.Fatal(err)
	}
	for s.Next() {
		packets = append(packets, bytes.Clone(s.Packet()))
	}
	return packets
}

func TestStockPeersNeverGetPieces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, s := withStock(t, wireguard.PSK{})
		exchange(t, a, s, 1, 200)
		a.SetPathMTU(s.id.Address(), stockPort, 1100)
		before := n.count(ourPort, 4)
		for size := 1000; size <= routeMTU; size++ {
			p := udpPacket(a.id.Address(), s.id.Address(), uint32(size), size)
			a.send(p)
			mustReceive(t, s.asNode(), p)
		}
		if got := n.count(ourPort, 4) - before; got != routeMTU-1000+1 {
			t.Errorf("%d datagrams for %d packets", got, routeMTU-1000+1)
		}
	})
}

func TestPiecesThatNeverCompleteAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t)
		flowsWithin(t, a, b, time.Second)
		a.SetPathMTU(b.id.Address(), b.port.addr, 1100)
		odd := false
		n.setFilter(func(from, to netip.AddrPort, d []byte) []delivery {
			if from == a.port.addr && len(d) > 400 {
				if odd = !odd; odd {
					return nil
				}
			}
			return []delivery{{from: from, to: to, b: d}}
		})
		for i := range uint32(100) {
			a.send(udpPacket(a.id.Address(), b.id.Address(), i, 1280))
		}
		mustReceive(t, b)
		held := b.joining.Load()
		if held == 0 || held > 16*1280 {
			t.Errorf("%d bytes held for pieces", held)
		}
		time.Sleep(3 * time.Second)
		if got := b.joining.Load(); got != 0 {
			t.Errorf("%d bytes still held", got)
		}
	})
}

func TestPathMTUBelongsToItsPath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t)
		flowsWithin(t, a, b, time.Second)
		mtu := func() int { s, _ := a.Peer(b.id.Address()); return s.Path.MTU }
		a.SetPathMTU(b.id.Address(), netip.MustParseAddrPort("192.0.2.99:1"), 900)
		if mtu() == 900 {
			t.Error("another path's MTU was taken")
		}
		a.SetPathMTU(b.id.Address(), b.port.addr, 900)
		if mtu() != 900 {
			t.Error("the path's MTU was not taken")
		}
		b.port.move("198.51.100.9:1")
		chat(a, b, 3*time.Second)
		if mtu() == 900 {
			t.Error("the new path has the old one's MTU")
		}
	})
}

// The peer's route follows the path's MTU by this event.
func TestSmallerPathMTUIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t, func(c *Config) { c.OnLink = func(netip.Addr) bool { return true } })
		chat(a, b, 3*time.Second)
		a.SetPathMTU(b.id.Address(), b.port.addr, 1500)
		chat(a, b, 5*time.Second)
		if s, _ := a.Peer(b.id.Address()); s.Path.MTU != 1500 {
			t.Fatalf("MTU %d", s.Path.MTU)
		}
		before := a.happened(PathChanged)
		a.SetPathMTU(b.id.Address(), b.port.addr, 1300)
		synctest.Wait()
		if s, _ := a.Peer(b.id.Address()); s.Path.MTU != 1300 || a.happened(PathChanged) != before+1 {
			t.Errorf("MTU %d, told %d times", s.Path.MTU, a.happened(PathChanged)-before)
		}
		a.SetPathMTU(b.id.Address(), b.port.addr, 1300)
		if got := a.happened(PathChanged) - before; got != 1 {
			t.Errorf("told %d times", got)
		}
	})
}
