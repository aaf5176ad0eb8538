package watch

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/tun"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// checkBounds fails if a table is larger than it may be, or its counts are not those of what is in it.
func checkBounds(t testing.TB, w *Watch) {
	t.Helper()
	rows, writers, fragments := 0, 0, 0
	if len(w.table.peers) > maxPeers {
		t.Fatalf("%d peers", len(w.table.peers))
	}
	for _, p := range w.table.peers {
		unknown := 0
		for _, r := range p.rows {
			if r.kind == Unknown {
				unknown++
			}
		}
		rows += len(p.rows)
		writers += len(p.writers)
		if len(p.rows) > maxRows || len(p.writers) > maxWriters || len(p.writers) != len(p.ring) || len(p.book.names) > maxNames || unknown != p.unknown || unknown > maxUnknown {
			t.Fatalf("%d rows (%d unknown, counted %d), %d writers, %d in the ring, %d names", len(p.rows), unknown, p.unknown, len(p.writers), len(p.ring), len(p.book.names))
		}
		for _, wr := range p.ring {
			if len(wr.windows) > maxWindows {
				t.Fatalf("%d windows", len(wr.windows))
			}
			for _, win := range wr.windows {
				if win.frags != nil {
					fragments++
				}
			}
		}
	}
	if rows != w.table.rows || rows > maxRowsTotal || writers != w.table.writers || writers > maxWritersTotal {
		t.Fatalf("%d rows (counted %d), %d writers (counted %d)", rows, w.table.rows, writers, w.table.writers)
	}
	if n := int(w.table.fragments.Load()); n != fragments || n > maxFragments {
		t.Fatalf("%d fragment windows (counted %d)", fragments, n)
	}
}

// TestFlood: a peer that invents participants, writers, topics and ports fills what it may and no more, and the others' topics are counted as before.
func TestFlood(t *testing.T) {
	s := newSim(t)
	s.announce(writerID, "rt/cmd_vel", "geometry_msgs::msg::dds_::Twist_")
	s.in(robotB, message(prefix(2), sedp(prefix(2), writerID, "rt/scan", "sensor_msgs::msg::dds_::LaserScan_")))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	random := rand.New(rand.NewPCG(1, 2))
	n, rounds := 1, 60_000
	if testing.Short() {
		rounds = 6_000
	}
	for range rounds {
		s.after(100 * time.Microsecond)
		var p wire.GuidPrefix
		binary.BigEndian.PutUint64(p[:], random.Uint64())
		id := wire.MakeEntityID(random.Uint32(), wire.KindWriterNoKey)
		var b []byte
		switch random.IntN(3) {
		case 0:
			b = message(p, sedp(p, id, "rt/t"+string(rune('a'+random.IntN(26)))+p.String(), "x::msg::dds_::T_"), dataOf(id, 1, 10))
		case 1:
			b = message(p, fragment(random.IntN(9)+1, 1, 50_000))
		default:
			b = message(p, dataOf(id, 1, 10), &wire.InfoDst{Prefix: p}, ackNack(id, 1, 1))
		}
		s.i.Inbound(s.now, robotA, ip6(robotA, self, uint16(random.Uint32()), b))
		if n%50 == 0 {
			s.out(robotA, message(prefix(1), data(n/50, 100)))
			s.in(robotB, message(prefix(2), data(n/50, 100)))
		}
		n++
	}
	checkBounds(t, s.w)
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 8<<20 {
		t.Errorf("the tables hold %d kB", grown>>10)
	}
	if got := s.topic(robotA, "/cmd_vel").Tx; got.Samples != uint64(rounds/50) || got.Resent != 0 || got.Lost != 0 {
		t.Errorf("/cmd_vel: %+v", got)
	}
	if got := s.topic(robotB, "/scan").Rx; got.Samples != uint64(rounds/50) || got.Resent != 0 || got.Lost != 0 {
		t.Errorf("/scan: %+v", got)
	}
	if got := s.topic(robotA, "more topics").Rx; got.Bytes == 0 {
		t.Error("nothing is counted as more topics")
	}
	// When it has been quiet, everything is free again.
	s.after(forgottenRow + time.Minute)
	s.w.Snapshot(s.now)
	checkBounds(t, s.w)
	if s.w.table.rows != 0 || s.w.table.writers != 0 || s.w.table.fragments.Load() != 0 {
		t.Errorf("left: %d rows, %d writers, %d fragment windows", s.w.table.rows, s.w.table.writers, s.w.table.fragments.Load())
	}
	s.out(robotA, message(prefix(1), data(5000, 100)))
	if got := s.topic(robotA, "/cmd_vel").Tx; got.Samples != 1 {
		t.Errorf("/cmd_vel when it is published again: %+v", got)
	}
}

// TestManyPeers: while the whitelist is off anyone is a peer.
func TestManyPeers(t *testing.T) {
	s := newSim(t)
	for n, a := range addresses(2 * maxPeers) {
		s.after(time.Millisecond)
		for k := range 20 {
			s.in(a, message(prefix(2), dataOf(wire.MakeEntityID(uint32(k+1), wire.KindWriterNoKey), 1, 10)))
		}
		if n%2 == 0 {
			s.after(2 * time.Second)
			s.out(robotA, message(prefix(1), data(n+1, 100)))
		}
	}
	checkBounds(t, s.w)
	if _, ok := s.find(robotA, unknownName(wire.GUID{Prefix: prefix(1), Entity: writerID}).text); !ok {
		t.Error("the peer that is used was the one to go")
	}
}

// TestWildNumbers: sequence numbers, fragments and sets from anywhere do nothing but be counted.
func TestWildNumbers(t *testing.T) {
	s := newSim(t)
	numbers := []wire.SequenceNumber{1, 2, math.MaxInt64, math.MaxInt64 - 1, 1 << 40, windowBits, windowBits + 1, 3, maxJump, maxJump + windowBits, math.MaxInt64 - 300}
	for _, a := range numbers {
		for _, b := range numbers {
			d := data(1, 8)
			d.SN = a
			g := &wire.Gap{Writer: writerID, Start: a, Set: wire.NewSequenceNumberSet(max(a, b))}
			g.Set.Add(max(a, b))
			m := wire.NewBuilder(nil, wire.Header{Version: wire.Version, Vendor: wire.VendorCyclone, Prefix: prefix(2)})
			for _, sub := range []wire.Submessage{d, g, d} {
				m.Add(sub) // a set that is not valid is left out
			}
			s.in(robotA, m.Bytes())
			// What the builder would not write either.
			raw := message(prefix(2), data(1, 8))
			binary.LittleEndian.PutUint32(raw[wire.HeaderLen+16:], uint32(uint64(a)>>32))
			binary.LittleEndian.PutUint32(raw[wire.HeaderLen+20:], uint32(a))
			s.in(robotA, raw)
			f := fragment(1, 3, 4_000_000)
			f.SN = b
			s.in(robotA, message(prefix(2), f))
			s.after(700 * time.Millisecond)
			row := s.w.Snapshot(s.now).Peers[0].Topics[0]
			if row.Rx.Lost > 1<<30 || row.Rx.Samples > 1<<20 {
				t.Fatalf("after %d and %d: %+v", a, b, row.Rx)
			}
		}
	}
	checkBounds(t, s.w)
}

// TestConcurrent: inspectors, announcements and snapshots at once (of use with -race).
func TestConcurrent(t *testing.T) {
	w := New(Config{})
	var wg sync.WaitGroup
	const rounds = 3000
	for g := range 3 {
		wg.Go(func() {
			i := w.Inspector()
			for n := range rounds {
				id := wire.MakeEntityID(uint32(n%40+1), wire.KindWriterNoKey)
				now := time.Now().Add(time.Duration(n) * 10 * time.Millisecond)
				if n%100 == 7*g {
					i.Inbound(now, robotA, ip6(robotA, self, userPort, message(prefix(2), sedp(prefix(2), id, "rt/t"+id.String(), "x"))))
				}
				i.Inbound(now, robotA, ip6(robotA, self, userPort, message(prefix(2), dataOf(id, n/40+1, 10), &wire.InfoDst{Prefix: prefix(1)}, ackNack(id, 1, 1))))
				b := ip6(self, robotA, userPort, message(prefix(1), dataOf(id, n+1, 10), &wire.InfoDst{Prefix: prefix(2)}, ackNack(id, 1, 1)))
				i.Outbound(now, robotA, append(make([]byte, tun.HeaderLen), b...))
				if n%500 == 0 {
					w.table.mu.Lock()
					if p := w.table.peers[robotA]; p != nil && len(p.ring) > 0 {
						w.table.evict(p)
					}
					w.table.mu.Unlock()
				}
			}
		})
	}
	for range 50 {
		w.Snapshot(time.Now())
	}
	wg.Wait()
	var samples uint64
	for _, row := range w.Snapshot(time.Now()).Peers[0].Topics {
		if row.Kind != Discovery {
			samples += row.Tx.Samples + row.Tx.Resent
		}
	}
	if samples < 3*rounds {
		t.Errorf("%d samples counted, %d sent", samples, 3*rounds)
	}
	checkBounds(t, w)
}
