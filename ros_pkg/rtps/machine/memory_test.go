package machine

import (
	"runtime"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// BenchmarkMemory reports what a thousand matched remote readers of ten participants cost.
func BenchmarkMemory(b *testing.B) {
	for b.Loop() {
		s := newSimulation(b)
		a := s.start()
		w := a.writer("rt/x", QoS{Reliability: Reliable, Depth: 10})
		heap := func() uint64 {
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			return m.HeapAlloc
		}
		before := heap()
		for k := range 10 {
			x := newStranger(k)
			x.send(a, x.announcement(time.Hour))
			x.send(a, &wire.Heartbeat{Writer: wire.EntitySEDPSubscriptionsWriter, First: 1, Last: 100, Count: 1})
			for i := range 100 {
				x.send(a, x.endpoint(i+1, wire.MakeEntityID(uint32(i+1), wire.KindReaderNoKey), "rt/x"))
			}
		}
		if w.matches != 1000 {
			b.Fatalf("%d matched", w.matches)
		}
		after := heap()
		b.ReportMetric(float64(int64(after)-int64(before))/1000, "B/endpoint")
		runtime.KeepAlive(s)
	}
}
