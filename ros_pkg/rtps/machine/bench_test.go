package machine

import (
	"net/netip"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// BenchmarkWrite is a sample of 64 bytes from Write to its datagram, acknowledged now and then.
func BenchmarkWrite(b *testing.B) {
	for _, bench := range []struct {
		name string
		q    QoS
	}{{"best_effort", QoS{}}, {"reliable", QoS{Reliability: Reliable, Depth: 10}}} {
		b.Run(bench.name, func(b *testing.B) {
			s := newSimulation(b)
			w, r := pair(b, s, bench.q, bench.q)
			payload := numbered(0, 64)
			m, now := w.node.m, s.now
			ack := wire.AckNack{Reader: r.GUID().Entity, Writer: w.GUID().Entity, Count: 1000}
			x := stranger{prefix: r.node.m.Prefix()}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				now = now.Add(10 * time.Microsecond)
				if _, err := w.Write(now, payload, &WriteOptions{}); err != nil {
					b.Fatal(err)
				}
				out := m.Take()
				if len(out.Datagrams) != 1 {
					b.Fatalf("%d datagrams", len(out.Datagrams))
				}
				out.Release()
				if i%8 == 7 && bench.q.Reliability == Reliable {
					ack.Set = wire.NewSequenceNumberSet(w.Last() + 1)
					ack.Count++
					ack.Final = true
					b.StopTimer()
					d := x.message(&ack)
					b.StartTimer()
					m.HandleDatagram(now, d, Arrival{From: netip.AddrPortFrom(hostAddr(2), 7411)})
				}
			}
		})
	}
}

// BenchmarkRead is a datagram with a sample of 64 bytes to the sample.
func BenchmarkRead(b *testing.B) {
	for _, bench := range []struct {
		name string
		q    QoS
	}{{"best_effort", QoS{}}, {"reliable", QoS{Reliability: Reliable, Depth: 10}}} {
		b.Run(bench.name, func(b *testing.B) {
			s := newSimulation(b)
			w, r := pair(b, s, bench.q, bench.q)
			m, now := r.node.m, s.now
			x := stranger{prefix: w.node.m.Prefix()}
			hb := wire.Heartbeat{Writer: w.GUID().Entity, First: 1, Last: 0, Count: 1000}
			d := &wire.Data{Reader: r.GUID().Entity, Writer: w.GUID().Entity, SN: 1, Content: wire.DataContent, Payload: numbered(0, 64)}
			builder := wire.NewBuilder(nil, wire.Header{Version: wire.Version, Vendor: Vendor, Prefix: x.prefix})
			from := Arrival{From: netip.AddrPortFrom(hostAddr(1), 7411), Interface: 2}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				now = now.Add(10 * time.Microsecond)
				builder.Reset(wire.Header{Version: wire.Version, Vendor: Vendor, Prefix: x.prefix})
				builder.InfoDst(m.Prefix())
				builder.InfoTS(wire.TimestampFrom(now))
				builder.Data(d)
				if i%8 == 7 {
					hb.Count++
					hb.Last = d.SN
					builder.Heartbeat(hb)
				}
				m.HandleDatagram(now, builder.Bytes(), from)
				d.SN++
				out := m.Take()
				if len(out.Calls) != 1 {
					b.Fatalf("%d samples", len(out.Calls))
				}
				out.Release()
			}
		})
	}
}

// BenchmarkLarge is a sample of 1 MiB through two machines and back the acknowledgement, without a network.
func BenchmarkLarge(b *testing.B) {
	s := newSimulation(b)
	s.delay, s.budget = 0, 1<<40
	w, r := pair(b, s, QoS{Reliability: Reliable, Depth: 10}, QoS{Reliability: Reliable, Depth: 10})
	b.SetBytes(1 << 20)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		r.samples = r.samples[:0]
		w.write(i, 1<<20)
		for len(r.samples) == 0 {
			s.run(time.Millisecond)
		}
	}
}
