package machine

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// A reader that asks without end is answered at a bounded rate, for what is there and for what is not.
func TestNackStorm(t *testing.T) {
	s := newSimulation(t)
	w, r := pair(t, s, QoS{Reliability: Reliable, Depth: 50}, reliableQoS())
	for i := range 200 {
		w.write(i, 1000)
		s.run(time.Millisecond)
	}
	s.cut = func(from, _ *simNode) bool { return from == w.node } // nothing of it is of interest but how much it is
	x := stranger{prefix: r.node.m.Prefix(), addr: netip.AddrPortFrom(hostAddr(r.node.host), 7411)}
	for _, first := range []wire.SequenceNumber{1, 151} {
		sent, bytes := w.node.sent, w.node.bytes
		const storm = 20_000
		for i := range storm {
			n := wire.AckNack{Reader: r.GUID().Entity, Writer: w.GUID().Entity, Set: wire.NewSequenceNumberSet(first), Count: uint32(1<<20 + int(first)*storm + i)}
			for k := wire.SequenceNumber(0); k < 50; k += 2 {
				n.Set.Add(first + k)
			}
			x.send(w.node, &n)
			s.run(50 * time.Microsecond)
		}
		// One answer in 2 ms: of one gap, or of 25 samples.
		if d, b := w.node.sent-sent, w.node.bytes-bytes; first == 1 && d > 700 || b > 600*25*1200 {
			t.Errorf("from %d: %d datagrams, %d bytes in a second", first, d, b)
		}
	}
}

func TestHeartbeatFlood(t *testing.T) {
	s := newSimulation(t)
	w, r := pair(t, s, reliableQoS(), reliableQoS())
	w.write(0, 50)
	s.run(100 * time.Millisecond)
	x := stranger{prefix: w.node.m.Prefix(), addr: netip.AddrPortFrom(hostAddr(w.node.host), 7411)}
	sent := r.node.sent
	for i := range 50_000 {
		x.send(r.node, &wire.Heartbeat{Writer: w.GUID().Entity, First: 1, Last: 1, Count: uint32(1<<20 + i)})
		s.run(2 * time.Microsecond)
	}
	if n := r.node.sent - sent; n > 100*(answersMost+2) {
		t.Errorf("%d answers in 100 ms", n)
	}
}

// A reader that never acknowledges holds up a writer that keeps all for a while, and then nobody any more; one that keeps the last, never.
func TestDeafReader(t *testing.T) {
	for _, q := range []QoS{{Reliability: Reliable, Depth: 10}, reliableQoS()} {
		s := newSimulation(t)
		w := s.start().writer("rt/x", q, func(c *WriterConfig) { c.MaxSamples = 50 })
		r := s.start().reader("rt/x", reliableQoS())
		x := newStranger(1)
		id := wire.EntityID(0x104)
		x.send(w.node, x.announcement(time.Hour))
		d := wire.EndpointData{GUID: wire.GUID{Prefix: x.prefix, Entity: id}, Topic: "rt/x", Type: "T", QoS: wire.DefaultQoS(false)}
		d.QoS.Reliability.Kind = wire.Reliable
		x.send(w.node, &wire.Heartbeat{Writer: wire.EntitySEDPSubscriptionsWriter, First: 1, Last: 1, Count: 1},
			&wire.Data{Writer: wire.EntitySEDPSubscriptionsWriter, SN: 1, Content: wire.DataContent, Payload: d.Append(nil)})
		s.until(5*time.Second, "matches", func() bool { return w.matches == 2 && r.matches == 1 })
		written, refused := 0, time.Duration(0)
		for range 3000 {
			w.node.do(func() {
				_, err := w.Writer.Write(s.now, numbered(written, 500), &WriteOptions{})
				switch {
				case errors.Is(err, ErrFull):
					refused += 10 * time.Millisecond
				case err != nil:
					t.Fatal(err)
				default:
					written++
				}
			})
			// It shows that it is there, and no more.
			x.send(w.node, x.announcement(time.Hour))
			s.run(10 * time.Millisecond)
			if w.history.count > 50 {
				t.Fatalf("%d samples are kept", w.history.count)
			}
		}
		s.run(time.Second)
		r.expect(0, written-1, 500)
		if q.History == KeepLast && refused > 0 || refused > meeting+stalledAfter {
			t.Errorf("%v: nothing could be written for %v", q.History, refused)
		}
		if q.History == KeepAll && (refused == 0 || w.node.m.counters.Stalled != 1) {
			t.Errorf("refused for %v, %d stalled", refused, w.node.m.counters.Stalled)
		}
	}
}

// Numbers at their ends, and runs of any length, change nothing for other writers and cost no time.
func TestSequenceExtremes(t *testing.T) {
	s := newSimulation(t)
	w, r := pair(t, s, reliableQoS(), reliableQoS())
	const id = wire.EntityID(0x103)
	x := newStranger(1)
	x.send(r.node, x.announcement(time.Hour))
	x.send(r.node, &wire.Heartbeat{Writer: wire.EntitySEDPPublicationsWriter, First: 1, Last: 1, Count: 1}, x.endpoint(1, id, "rt/x"))
	ends := []wire.SequenceNumber{1, 2, 255, 256, 257, 1 << 31, 1 << 32, wire.MaxSequence - 1, wire.MaxSequence, wire.MaxSequence + 1, 1<<63 - 1}
	count := uint32(1)
	for _, a := range ends {
		for _, b := range ends {
			count++
			full := wire.NewSequenceNumberSet(b)
			for k := range wire.SequenceNumber(wire.MaxSetBits) {
				full.Add(b + k)
			}
			for _, sub := range []wire.Submessage{
				&wire.Heartbeat{Writer: id, First: a, Last: b, Count: count},
				&wire.Gap{Writer: id, Start: a, Set: wire.NewSequenceNumberSet(b)}, &wire.Gap{Writer: id, Start: a, Set: full},
				&wire.Data{Writer: id, SN: a, Content: wire.DataContent, Payload: numbered(1, 50)},
				&wire.DataFrag{Writer: id, SN: a, FirstFragment: 1, Fragments: 1, FragmentSize: 100, SampleSize: 1 << 25, Payload: make([]byte, 100)},
				&wire.HeartbeatFrag{Writer: id, SN: a, LastFragment: 1<<32 - 1, Count: count},
				&wire.AckNack{Reader: 0x104, Writer: w.GUID().Entity, Set: full, Count: count},
			} {
				x.send(r.node, sub)
				x.send(w.node, sub)
			}
			s.run(5 * time.Millisecond)
		}
	}
	for i := range 10 {
		w.write(i, 50)
	}
	s.run(10 * time.Second)
	got := 0
	for _, g := range r.samples {
		if g.Writer == w.GUID() {
			got++
		}
	}
	if got != 10 || r.node.m.reassembly > 1<<20 {
		t.Errorf("%d of 10 samples, %d bytes of fragments", got, r.node.m.reassembly)
	}
}

// Who completes a sample is taken for its sender: nobody else may have put a part into it.
func TestFragmentsOfTwoSources(t *testing.T) {
	s := newSimulation(t)
	w, r := pair(t, s, reliableQoS(), reliableQoS())
	id := w.GUID().Entity
	// Another port of the writer's host, which is all that is known of it.
	x := stranger{prefix: w.node.m.Prefix(), addr: netip.AddrPortFrom(hostAddr(w.node.host), 7411)}
	y := x
	y.addr = netip.AddrPortFrom(x.addr.Addr(), 50_000)
	frag := func(sn, n int, fill byte) *wire.DataFrag {
		b := make([]byte, 100)
		for i := range b {
			b[i] = fill
		}
		return &wire.DataFrag{Writer: id, SN: wire.SequenceNumber(sn), FirstFragment: wire.FragmentNumber(n), Fragments: 1, FragmentSize: 100, SampleSize: 300, Payload: b}
	}
	x.send(r.node, &wire.Heartbeat{Writer: id, First: 1, Last: 2, Count: 1 << 20, Final: true})
	x.send(r.node, frag(1, 1, 'x'))
	y.send(r.node, frag(1, 2, 'y'))
	y.send(r.node, frag(1, 2, 'y'))
	x.send(r.node, frag(1, 3, 'x'))
	if len(r.samples) != 0 || r.node.m.counters.RefusedFragments != 2 {
		t.Fatalf("%d samples, %+v", len(r.samples), r.node.m.counters)
	}
	x.send(r.node, frag(1, 3, 'x'))
	x.send(r.node, frag(1, 2, 'x'))
	if len(r.samples) != 1 || r.samples[0].From != x.addr {
		t.Fatalf("%d samples", len(r.samples))
	}
	for _, c := range r.samples[0].Payload {
		if c != 'x' {
			t.Fatal("a part is another's")
		}
	}
	// When the first falls silent, another may begin anew.
	y.send(r.node, frag(2, 1, 'y'))
	s.run(otherSource + time.Millisecond)
	for n := range 3 {
		x.send(r.node, frag(2, n+1, 'x'))
	}
	if len(r.samples) != 2 || r.samples[1].Payload[0] != 'x' || r.samples[1].From != x.addr {
		t.Errorf("%d samples", len(r.samples))
	}
}

// Descriptions of endpoints are bounded one by one and together.
func TestLongDescriptions(t *testing.T) {
	s := newSimulation(t)
	a := s.start(func(c *Config) { c.Limits.EndpointBytes = 1 << 20 })
	x := newStranger(1)
	x.send(a, x.announcement(time.Hour))
	x.send(a, &wire.Heartbeat{Writer: wire.EntitySEDPPublicationsWriter, First: 1, Last: 400, Count: 1})
	for i := range 400 {
		d := wire.EndpointData{GUID: wire.GUID{Prefix: x.prefix, Entity: wire.MakeEntityID(uint32(i+1), wire.KindWriterNoKey)}, Topic: "rt/x", Type: "T",
			QoS: wire.DefaultQoS(true), UserData: make([]byte, 4000)}
		x.send(a, &wire.Data{Writer: wire.EntitySEDPPublicationsWriter, SN: wire.SequenceNumber(i + 1), Content: wire.DataContent, Payload: d.Append(nil)})
	}
	if a.m.endpoints == 0 || a.m.endpointBytes > 1<<20 || a.m.counters.RefusedEndpoints == 0 {
		t.Errorf("%d endpoints of %d bytes, %+v", a.m.endpoints, a.m.endpointBytes, a.m.counters)
	}
	x.send(a, &wire.DataFrag{Writer: wire.EntitySEDPPublicationsWriter, SN: 401, FirstFragment: 1, Fragments: 1, FragmentSize: 1000, SampleSize: 1 << 20, Payload: make([]byte, 1000)})
	if a.m.counters.RefusedFragments != 1 || a.m.reassembly != 0 {
		t.Errorf("%d bytes of fragments", a.m.reassembly)
	}
	x.send(a, x.farewell(x.prefix))
	if a.m.endpoints != 0 || a.m.endpointBytes != 0 {
		t.Errorf("%d endpoints of %d bytes are left", a.m.endpoints, a.m.endpointBytes)
	}
}

// Who comes and goes all the time is no better off than who only comes.
func TestRevolvingDoor(t *testing.T) {
	s := newSimulation(t)
	a := s.start()
	x := newStranger(1)
	found := 0
	a.m.Subscribe(func(e GraphEvent) {
		if e.Kind == ParticipantFound {
			found++
		}
	})
	for i := range 20_000 {
		y := newStranger(i + 10)
		y.addr = x.addr
		y.send(a, y.announcement(time.Hour))
		y.send(a, y.farewell(y.prefix))
		s.run(100 * time.Microsecond)
	}
	if most := 32 * (8 + 3); found > most {
		t.Errorf("%d participants in 2 s from one address", found)
	}
	s.run(time.Minute)
	if len(a.m.sources) != 0 {
		t.Errorf("%d addresses are remembered", len(a.m.sources))
	}
}
