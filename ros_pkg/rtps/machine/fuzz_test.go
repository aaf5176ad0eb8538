package machine

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// target is a machine that knows one stranger with a writer and a reader, both matched.
func target(t testing.TB) (*simulation, *simNode, stranger) {
	s := newSimulation(t)
	a := s.start(func(c *Config) {
		c.Limits = Limits{
			Participants: 8, Endpoints: 20, PerParticipant: 10, Reassembly: 4 << 20, WriterAssembly: 2 << 20, Held: 1 << 20,
			HeldAll: 2 << 20, PerSource: 8,
		}
		c.MaxSample = 4 << 20
	})
	a.writer("rt/x", QoS{Reliability: Reliable, Durability: TransientLocal, Depth: 20})
	a.reader("rt/x", transient(5))
	x := newStranger(1)
	x.send(a, x.announcement(time.Minute))
	x.send(a, &wire.Heartbeat{Writer: wire.EntitySEDPPublicationsWriter, First: 1, Last: 1, Count: 1}, x.endpoint(1, 0x103, "rt/x"),
		&wire.Heartbeat{Writer: wire.EntitySEDPSubscriptionsWriter, First: 1, Last: 1, Count: 1}, x.endpoint(1, 0x204, "rt/x"))
	return s, a, x
}

// FuzzDatagrams gives a machine datagrams, each with its length in two bytes in front of it and without the header,
// from a participant that it knows; some bytes of the length let time pass and samples be written.
func FuzzDatagrams(f *testing.F) {
	x := newStranger(1)
	add := func(messages ...[]byte) {
		var b []byte
		for _, m := range messages {
			m = m[wire.HeaderLen:]
			b = binary.LittleEndian.AppendUint16(b, uint16(len(m)))
			b = append(b, m...)
		}
		f.Add(b)
	}
	acks := wire.NewSequenceNumberSet(1)
	acks.Add(1)
	acks.Add(3)
	fragments := wire.NewFragmentNumberSet(1)
	fragments.Add(1)
	add(x.message(x.announcement(time.Second)), x.message(x.farewell(x.prefix)))
	add(x.message(&wire.Heartbeat{Writer: 0x103, First: 1, Last: 9, Count: 1}, &wire.Data{Writer: 0x103, SN: 3, Content: wire.DataContent, Payload: make([]byte, 8)}),
		x.message(&wire.Gap{Writer: 0x103, Start: 1, Set: acks}))
	add(x.message(&wire.AckNack{Reader: 0x204, Writer: 0x103, Set: acks, Count: 3}, &wire.NackFrag{Reader: 0x204, Writer: 0x103, SN: 1, Set: fragments, Count: 1}))
	add(x.message(&wire.DataFrag{Writer: 0x103, SN: 1, FirstFragment: 1, Fragments: 1, FragmentSize: 100, SampleSize: 150, Payload: make([]byte, 100)},
		&wire.HeartbeatFrag{Writer: 0x103, SN: 1, LastFragment: 2, Count: 1}), x.message(&wire.Heartbeat{Writer: 0x103, First: 1, Last: 1, Count: 2}))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, a, x := target(t)
		head := wire.Header{Version: wire.Version, Vendor: wire.VendorFastDDS, Prefix: x.prefix}.Append(nil)
		w := a.m.ordered()[0]
		for i := 0; len(b) >= 2 && i < 50; i++ {
			n := int(binary.LittleEndian.Uint16(b))
			b = b[2:]
			if n&0x8000 != 0 {
				s.run(time.Duration(n&0x7ff) * time.Millisecond)
			}
			if n&0x4000 != 0 && w != nil {
				a.do(func() { w.Write(s.now, make([]byte, n&0x3ff), &WriteOptions{}) })
			}
			n = min(n&0x3fff, len(b))
			a.do(func() {
				a.m.HandleDatagram(s.now, append(head[:wire.HeaderLen:wire.HeaderLen], b[:n]...), Arrival{From: x.addr, Interface: 2})
			})
			b = b[n:]
			m, l := a.m, &a.m.config.Limits
			if len(m.participants) > l.Participants || m.endpoints > l.Endpoints || m.reassembly > l.Reassembly || m.held > l.HeldAll ||
				m.reassembly < 0 || m.held < 0 || len(m.sources) > maxSourceAddrs {
				t.Fatalf("beyond its bounds: %d participants, %d endpoints, %d and %d bytes", len(m.participants), m.endpoints, m.reassembly, m.held)
			}
			for _, list := range m.writerProxies {
				for _, p := range list {
					if len(p.gaps) > maxGapRuns || len(p.held) > maxHeld || len(p.parts) > maxParts {
						t.Fatal("a writer takes more than its share")
					}
				}
			}
		}
		s.run(2 * time.Second)
		if next := a.m.Next(); !next.After(s.now) {
			t.Fatalf("the next tick is at %v, now is %v", next, s.now)
		}
		if a.sent > 20_000 {
			t.Fatalf("%d datagrams were sent", a.sent)
		}
		a.do(func() { a.m.Farewell(s.now) })
	})
}
