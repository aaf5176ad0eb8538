package server

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/base/wire"
	"github.com/hnet-robotics/hnet_bridge/overlay/stun"
)

// TestFlood: what 100,000 sources send that are none, or no clients, grows nothing, gets no answer longer than itself, and keeps nobody else out.
func TestFlood(t *testing.T) {
	n := 100_000
	if testing.Short() {
		n = 10_000
	}
	x := newSim(t, Limits{}, nil)
	a, b := pair(t, x)
	random := rand.New(rand.NewPCG(1, 2))
	hello := wire.Hello{}.Append(nil)
	register := make([]byte, wire.MaxRegisterLen)
	register[0], register[1] = byte(wire.TypeRegister), wire.Version
	relay := make([]byte, 1200)
	control := make([]byte, wire.MinControlLen)
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before, slots := heap(), len(x.s.registry.slots)
	longest := map[wire.Type]int{}
	for i := range n {
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{byte(100 + random.IntN(50)), byte(random.Uint32()), byte(random.Uint32()), 1}), 1+uint16(random.IntN(60_000)))
		binary.BigEndian.PutUint64(hello[4:], random.Uint64())
		binary.BigEndian.PutUint64(register[4:], random.Uint64())
		// Half of them guess the session of a client that is there.
		session := random.Uint32()
		if i%2 == 0 {
			session = a.welcome.Session
		}
		wire.PutRelay(relay, session, random.Uint32(), 3)
		copy(control, wire.ControlHeader{Index: session, Counter: random.Uint64()}.Append(nil))
		for _, datagram := range [][]byte{hello, register, relay, control, stun.AppendRequest(nil, [12]byte{byte(i)})} {
			x.arrive(from, datagram)
			x.pumpAll()
			for _, m := range x.sock.take() {
				if m.Remote != from {
					t.Fatalf("what %v sent is answered to %v", from, m.Remote)
				}
				if len(m.Buf) > len(datagram) && !stun.IsMessage(m.Buf) || len(m.Buf) > len(datagram)+stun.SuccessLen6 {
					t.Fatalf("%d bytes are answered with %d", len(datagram), len(m.Buf))
				}
				longest[wire.TypeOf(m.Buf)] = max(longest[wire.TypeOf(m.Buf)], len(m.Buf))
			}
		}
		if i%1000 == 0 {
			x.now = x.now.Add(time.Millisecond)
		}
	}
	if grown := heap() - before; grown > 1<<20 {
		t.Errorf("%d bytes more on the heap", grown)
	}
	if g := x.s.Gauges(); g.UDP != 2 || g.Provisional != 0 || len(x.s.registry.slots) != slots {
		t.Errorf("%+v", g)
	}
	a.relay(3, "still here")
	if len(b.relayed) != 1 {
		t.Error("clients that were there are not served")
	}
	x.now = x.now.Add(time.Second)
	if c := x.client(7).register(); c.session == nil {
		t.Error("new clients are not served")
	}
	t.Logf("longest answers by type (0 = STUN): %v", longest)
}

// TestRegisterFlood: clients with as many identities as they like get what one prefix gets.
func TestRegisterFlood(t *testing.T) {
	x := newSim(t, Limits{}, nil)
	for i := range 600 {
		c := x.clientAt(i+1, netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), uint16(1000+i)))
		c.register()
	}
	if g := x.s.Gauges(); g.UDP > int(registerRate.burst)+1 {
		t.Errorf("%d registrations from one prefix at once", g.UDP)
	}
	x = newSim(t, Limits{RegistrationsPerPrefix: 10}, nil)
	for i := range 20 {
		x.clientAt(i+1, netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), uint16(1000+i))).register()
	}
	if g := x.s.Gauges(); g.UDP != 10 {
		t.Errorf("%d registrations from one prefix", g.UDP)
	}
}

// TestControlFlood: a client that asks without end is held to its rate, and learns nothing by it.
func TestControlFlood(t *testing.T) {
	x := newSim(t, Limits{}, nil)
	a := x.client(1).register()
	for range 10_000 {
		a.ping()
	}
	x.deliver()
	if n := len(a.pongs); n > int(controlRate.burst) {
		t.Errorf("%d pongs", n)
	}
	x.sleep(5 * time.Second)
	before := len(a.pongs)
	a.ping()
	x.deliver()
	if len(a.pongs) != before+1 {
		t.Error("after the flood it gets no answer")
	}
}
