package watch

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hnet-robotics/hnet_bridge/overlay/tun"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// benchmark tells an inspector of one packet over and over, with rising sequence numbers at place sn of the packet.
func benchmark(b *testing.B, packet []byte, sn int, outbound bool) {
	s := newSim(b)
	s.announce(writerID, "rt/chatter", "std_msgs::msg::dds_::String_")
	s.in(robotA, message(prefix(2), sedp(prefix(2), writerID, "rt/chatter", "std_msgs::msg::dds_::String_")))
	b.ReportAllocs()
	now := time.Now()
	before := cpuTime(b)
	for n := 1; b.Loop(); n++ {
		if n%64 == 0 {
			now = now.Add(300 * time.Microsecond)
		}
		if sn > 0 {
			packet[sn], packet[sn+1], packet[sn+2], packet[sn+3] = byte(n), byte(n>>8), byte(n>>16), byte(n>>24)
		}
		if outbound {
			s.i.Outbound(now, robotA, packet)
		} else {
			s.i.Inbound(now, robotA, packet[tun.HeaderLen:])
		}
	}
	b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op")
}

// cpuTime is what this process has used. On a machine that others use too it says more than the clock.
func cpuTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// typical is what Cyclone DDS sends of a sample: INFO_DST, INFO_TS, DATA, HEARTBEAT.
func typical(from wire.GuidPrefix, size int) (packet []byte, sn int) {
	m := message(from, &wire.InfoDst{Prefix: prefix(9)}, &wire.InfoTS{Time: 1}, data(1, size), heartbeat(writerID))
	packet = append(make([]byte, tun.HeaderLen), ip6(self, robotA, userPort, m)...)
	return packet, tun.HeaderLen + ipv6Len + udpLen + wire.HeaderLen + 16 + 12 + 4 + 16
}

func BenchmarkOutbound64B(b *testing.B) {
	p, sn := typical(prefix(1), 64)
	benchmark(b, p, sn, true)
}

func BenchmarkOutbound1200B(b *testing.B) {
	p, sn := typical(prefix(1), 1060)
	benchmark(b, p, sn, true)
}

func BenchmarkInbound1200B(b *testing.B) {
	p, sn := typical(prefix(2), 1060)
	benchmark(b, p, sn, false)
}

// BenchmarkOutboundFragment takes samples of 1 MB, a fragment in each datagram.
func BenchmarkOutboundFragment(b *testing.B) {
	const fragments = 1000
	s := newSim(b)
	s.announce(writerID, "rt/image", "sensor_msgs::msg::dds_::Image_")
	p := append(make([]byte, tun.HeaderLen), ip6(self, robotA, userPort, message(prefix(1), fragment(1, 1, fragments*1000)))...)
	body := p[tun.HeaderLen+ipv6Len+udpLen+wire.HeaderLen+4:]
	b.ReportAllocs()
	now := time.Now()
	for n := 0; b.Loop(); n++ {
		if n%64 == 0 {
			now = now.Add(300 * time.Microsecond)
		}
		binary.LittleEndian.PutUint32(body[16:], uint32(n/fragments+1))
		binary.LittleEndian.PutUint32(body[20:], uint32(n%fragments+1))
		s.i.Outbound(now, robotA, p)
	}
	if got := s.topic(robotA, "/image").Tx; b.N >= fragments && (got.Samples == 0 || got.Resent > 0) {
		b.Errorf("%+v", got)
	}
}

func BenchmarkOutboundTCPSuperpacket(b *testing.B) {
	p := make([]byte, tun.HeaderLen+ipv6Len+20+63000)
	h := tun.Header{Flags: tun.FlagNeedsChecksum, GSO: tun.GSOTCPv6, GSOSize: 1200, HeaderLen: 60, ChecksumStart: 40, ChecksumOffset: 16}
	h.Encode(p)
	p[tun.HeaderLen], p[tun.HeaderLen+6], p[tun.HeaderLen+ipv6Len+12] = 0x60, protocolTCP, 0x50
	benchmark(b, p, 0, true)
}

func BenchmarkInboundTCP(b *testing.B) {
	p := make([]byte, tun.HeaderLen+ipv6Len+20+1300)
	p[tun.HeaderLen], p[tun.HeaderLen+6], p[tun.HeaderLen+ipv6Len+12] = 0x60, protocolTCP, 0x50
	benchmark(b, p, 0, false)
}

// BenchmarkOutboundManyWriters takes 200 writers in turns, so that none is the latest.
func BenchmarkOutboundManyWriters(b *testing.B) {
	s := newSim(b)
	var packets [][]byte
	const sn = tun.HeaderLen + ipv6Len + udpLen + wire.HeaderLen + 12 + 4 + 16
	for n := range 200 {
		m := message(prefix(1), &wire.InfoTS{Time: 1}, dataOf(wire.MakeEntityID(uint32(n+1), wire.KindWriterNoKey), 1, 64))
		packets = append(packets, append(make([]byte, tun.HeaderLen), ip6(self, robotA, userPort, m)...))
	}
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		p := packets[n%len(packets)]
		binary.LittleEndian.PutUint32(p[sn:], uint32(n/len(packets)+1))
		s.i.Outbound(s.now, robotA, p)
	}
}

func BenchmarkSnapshot(b *testing.B) {
	s := newSim(b)
	for n := range 500 {
		s.out(robotA, message(prefix(1), dataOf(wire.MakeEntityID(uint32(n+1), wire.KindWriterNoKey), 1, 64)))
	}
	for b.Loop() {
		s.w.Snapshot(s.now)
	}
}

// TestNoAllocations: a packet of a known writer costs no memory.
func TestNoAllocations(t *testing.T) {
	s := newSim(t)
	out, sn := typical(prefix(1), 500)
	in, _ := typical(prefix(2), 500)
	n := 0
	if allocs := testing.AllocsPerRun(1000, func() {
		n++
		out[sn], out[sn+1] = byte(n), byte(n>>8)
		in[sn], in[sn+1] = byte(n), byte(n>>8)
		s.i.Outbound(s.now, robotA, out)
		s.i.Inbound(s.now, robotA, in[tun.HeaderLen:])
		s.after(10 * time.Millisecond)
	}); allocs != 0 {
		t.Errorf("%v allocations per packet", allocs)
	}
}

// BenchmarkBesideSealing takes packets as the engine does, a drain of the device at a time, each sealed after it was looked at: what looking adds, with the
// caches as they are then. Of each kind of drain the fastest tenth counts, which others on the machine do not disturb.
func BenchmarkBesideSealing(b *testing.B) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	s := newSim(b)
	s.announce(writerID, "rt/chatter", "std_msgs::msg::dds_::String_")
	one, sn := typical(prefix(1), 1060)
	const drain = 150
	arena := bytes.Repeat(one, drain)
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		b.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		b.Fatal(err)
	}
	nonce, sealed := make([]byte, aead.NonceSize()), make([]byte, 0, 2000)
	number := uint32(0)
	var took [2][]time.Duration
	var t unix.Timespec
	clock := func() time.Duration {
		if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
			b.Fatal(err)
		}
		return time.Duration(t.Nano())
	}
	for n := 0; b.Loop(); n++ {
		for i := range drain { // as the kernel would write them
			p := arena[i*len(one):][:len(one)]
			copy(p, one)
			number++
			p[sn], p[sn+1], p[sn+2], p[sn+3] = byte(number), byte(number>>8), byte(number>>16), byte(number>>24)
		}
		looks := n % 2
		begun := clock()
		for i := range drain {
			p := arena[i*len(one):][:len(one)]
			if looks == 1 {
				s.i.Outbound(s.now, robotA, p)
			}
			sealed = aead.Seal(sealed[:0], nonce, p[tun.HeaderLen:], nil)
		}
		took[looks] = append(took[looks], clock()-begun)
		if n%16 == 0 {
			s.after(time.Millisecond)
		}
	}
	fast := func(list []time.Duration) float64 {
		slices.Sort(list)
		if len(list) == 0 {
			return 0
		}
		return float64(list[len(list)/10]) / drain
	}
	without, with := fast(took[0]), fast(took[1])
	b.ReportMetric(without, "sealing-ns")
	b.ReportMetric(with-without, "looking-ns")
}
