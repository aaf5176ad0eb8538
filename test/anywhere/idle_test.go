package anywhere

import (
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/base/client"
	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/underlay"
)

// TestIdleDay lets a whole day pass for six nodes that are registered with two Bases, ask for each other and say nothing, and counts what one of
// them sends and gets, with headers of IPv4 and UDP. What a whole node costs on a real link is measured by 'make idle'.
func TestIdleDay(t *testing.T) {
	for _, c := range []struct {
		name    string
		lowData bool
		most    int64 // bytes a day; the rest of the budget is for the link, for port mapping and for measuring the NAT
	}{{"default", false, 2_500_000}, {"low data", true, 500_000}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				bytes := idleDay(t, c.lowData)
				t.Logf("%d bytes a day", bytes)
				if bytes > c.most {
					t.Errorf("%d bytes a day, %d at most", bytes, c.most)
				}
			})
		})
	}
}

const (
	legDelay = 10 * time.Millisecond
	// ackAfter is when a Base looks again whether it owes somebody an acknowledgement.
	ackAfter = 100 * time.Millisecond
)

func idleDay(t *testing.T, lowData bool) int64 {
	var counted atomic.Int64
	bases := make(map[netip.AddrPort]*liar) // that do not lie here
	nodes := make(map[netip.AddrPort]*client.Client)
	var servers []client.Server
	for i := range byte(2) {
		b := newLiar(i)
		at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, i + 1}), 5582)
		bases[at] = b
		servers = append(servers, client.Server{Address: b.id.Address(), Endpoints: []netip.AddrPort{at}})
		b.send = func(datagram []byte, to netip.AddrPort) {
			if to == nodeAt(0) {
				counted.Add(int64(ipUDP + len(datagram)))
			}
			datagram = append([]byte(nil), datagram...)
			time.AfterFunc(legDelay, func() { nodes[to].Control(time.Now(), datagram, at, underlay.Source{}) })
		}
	}
	var everybody []netip.Addr
	ids := make([]*identity.Identity, 6)
	for i := range ids {
		ids[i] = identity.FromSeed([32]byte{6, byte(i)})
		everybody = append(everybody, ids[i].Address())
	}
	registered := make([]atomic.Int64, len(ids))
	met := make([]atomic.Int64, len(ids))
	for i, id := range ids {
		own := nodeAt(byte(i))
		c := client.New(client.Config{
			Identity: id, LowData: lowData && i == 0,
			Send: func(to netip.AddrPort, datagram []byte) error {
				if i == 0 {
					counted.Add(int64(ipUDP + len(datagram)))
				}
				b := bases[to]
				datagram = append([]byte(nil), datagram...)
				time.AfterFunc(legDelay, func() { b.locked(func() { b.arrived(datagram, own) }) })
				time.AfterFunc(legDelay+ackAfter, func() { b.locked(b.flushAll) })
				return nil
			},
			Relay: func(ms []underlay.Message) (int, error) { return len(ms), nil },
			Notify: func(e client.Event) {
				switch e.Type {
				case client.Registered:
					registered[i].Add(1)
				case client.Lost:
					registered[i].Add(-1)
				case client.PeerHere:
					met[i].Add(1)
				}
			},
		})
		nodes[own] = c
		if err := c.SetRecord(signedRecord(t, id, own)); err != nil {
			t.Fatal(err)
		}
		c.SetInterests(everybody)
		c.SetServers(servers)
	}
	for _, c := range nodes {
		go c.Run(t.Context())
	}
	// Who starts looks at all Bases; a day later it is about the days that follow.
	time.Sleep(time.Hour)
	counted.Store(0)
	time.Sleep(24 * time.Hour)
	want := int64(2)
	if lowData {
		want = 1
	}
	if n := registered[0].Load(); n != want || met[0].Load() < 5 {
		t.Errorf("registered with %d Bases, not %d; %d peers are there", n, want, met[0].Load())
	}
	return counted.Load()
}

func nodeAt(i byte) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, i + 1}), 5582)
}
