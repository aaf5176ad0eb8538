package server

import (
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hnet-robotics/hnet_bridge/overlay/base/session"
	"github.com/hnet-robotics/hnet_bridge/overlay/base/wire"
	"github.com/hnet-robotics/hnet_bridge/overlay/underlay"
)

// threadTime is the processor time of this thread so far: what else the machine does is none of it.
func threadTime(b *testing.B) time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		b.Fatal(err)
	}
	return time.Duration(ts.Nano())
}

func heapBytes() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// BenchmarkRegistrations100k registers 100,000 clients, each asking for another, and reports what the server keeps for each, the server's share of
// one processor while they are idle (a ping every 25 s), and the processor time that one registration takes.
func BenchmarkRegistrations100k(b *testing.B) {
	const clients = 100_000
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for b.Loop() {
		x := newSim(b, Limits{}, nil)
		base := x.s.cfg.Identity.Address()
		before := heapBytes()
		var inServer time.Duration
		// What the clients are is not on the heap of which the server's is measured: pings are made here and kept in one block.
		pings := make([]byte, 0, clients*64)
		offsets := make([]int, 0, clients+1)
		answer := func(want wire.Type) []byte {
			x.pumpAll()
			sent := x.sock.take()
			if len(sent) == 0 || wire.TypeOf(sent[0].Buf) != want {
				b.Fatalf("no %v", want)
			}
			return sent[0].Buf
		}
		arrive := func(from netip.AddrPort, datagram []byte) {
			m := underlay.Message{Buf: slices.Clone(datagram), N: len(datagram), Remote: from, TTL: 60}
			start := threadTime(b)
			x.s.Handle(x.now, &m, m.Buf, x.sock)
			inServer += threadTime(b) - start
		}
		// Each asks for its neighbour, so that half of them have a link: 2i with 2i+1.
		next := identityOf(0)
		for i := range clients {
			id, at := next, endpointOf(i)
			next = identityOf(i + 1)
			other := next
			if i%2 == 1 {
				other = identityOf(i - 1)
			}
			hs, err := session.NewClient(session.ClientConfig{Identity: id, Base: base, Index: uint32(i)})
			if err != nil {
				b.Fatal(err)
			}
			arrive(at, hs.Hello(x.now))
			register, _, err := hs.HandleCookie(x.now, answer(wire.TypeCookie), signedRecord(b, id, 1))
			if err != nil {
				b.Fatal(err)
			}
			arrive(at, register)
			s, _, err := hs.HandleWelcome(x.now, answer(wire.TypeWelcome))
			if err != nil {
				b.Fatal(err)
			}
			_ = s.Queue(wire.KindInterest, wire.Interest{Links: []wire.Link{{Channel: 1, Address: other.Address()}}}.Append(nil))
			arrive(at, s.Poll(x.now))
			x.pumpAll()
			for _, m := range x.sock.take() {
				if m.Remote == at {
					_, _ = s.Receive(x.now, m.Buf, nil)
				}
			}
			offsets = append(offsets, len(pings))
			pings = append(pings, s.Unsequenced(x.now, wire.KindPing, make([]byte, 8))...)
		}
		registering := inServer
		offsets = append(offsets, len(pings))
		if g := x.s.Gauges(); g.UDP != clients || g.Links != clients/2 {
			b.Fatalf("%+v", g)
		}
		// One round of pings, with the timers that are due meanwhile.
		inServer = 0
		for i := range clients {
			arrive(endpointOf(i), pings[offsets[i]:offsets[i+1]])
			if i%100 == 0 {
				x.now = x.now.Add(25 * time.Second / (clients / 100))
				start := threadTime(b)
				x.s.Tick(x.now)
				x.pumpAll()
				inServer += threadTime(b) - start
				x.sock.take()
			}
		}
		b.ReportMetric(float64(inServer)/float64(25*time.Second)*100, "idle-CPU-%")
		b.ReportMetric(float64(registering.Microseconds())/clients, "cpu-us/registration")
		pings, offsets = nil, nil
		b.ReportMetric((heapBytes()-before)/clients, "bytes/client")
		runtime.KeepAlive(x)
	}
}

// link links two clients without a handshake, for what is measured behind that.
func link(b testing.TB, s *Server, n int, from, to netip.AddrPort, sock underlay.Socket) (number, token uint32) {
	b.Helper()
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &s.registry
	var made [2]*client
	for i, at := range []netip.AddrPort{from, to} {
		id := identityOf(2*n + i)
		number, _ := r.reserve(now)
		c := &client{address: addressOf(id.Address()), session: number, token: uint32(n), route: &route{sock: sock, remote: at}, silence: time.Hour,
			secured: &session.Session{}, lifetime: now.Add(time.Hour), signed: make([]byte, 200)}
		r.install(now, c)
		r.confirm(now, c)
		made[i] = c
	}
	r.want(made[0], 1, made[1].address)
	r.want(made[1], 1, made[0].address)
	r.touched = nil
	return made[0].session, made[0].token
}

// BenchmarkTable relays trains of 45 datagrams between 10,000 clients by the table alone: look-up, limits and headers, without a kernel.
func BenchmarkTable(b *testing.B) {
	const pairs, segment, count = 5000, 1440, 45
	s, err := New(Config{Identity: identityOf(1 << 30), Limits: Limits{RelayRate: Unlimited}})
	if err != nil {
		b.Fatal(err)
	}
	sock := &nullSocket{}
	type sender struct {
		at     netip.AddrPort
		header [wire.RelayHeaderLen]byte
	}
	senders := make([]sender, pairs)
	for i := range senders {
		number, token := link(b, s, i, endpointOf(2*i), endpointOf(2*i+1), sock)
		senders[i].at = endpointOf(2 * i)
		wire.PutRelay(senders[i].header[:], number, token, 1)
	}
	m := underlay.Message{Buf: make([]byte, segment*count), N: segment * count, Segment: segment}
	out := &forwarder{s: s}
	now := time.Now()
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		from := &senders[n%pairs]
		n++
		for off := 0; off < len(m.Buf); off += segment {
			copy(m.Buf[off:], from.header[:])
		}
		at := route{sock: sock, remote: from.at}
		s.take(now, &at, &m, m.Buf, segment, out)
		if n%8 == 0 {
			out.flush()
		}
	}
	out.flush()
	b.ReportMetric(float64(n*count)/b.Elapsed().Seconds(), "packets/s")
	if s.Stats().RelayedPackets.Load() != uint64(n*count) {
		b.Fatalf("relayed %d of %d", s.Stats().RelayedPackets.Load(), n*count)
	}
}

type nullSocket struct{}

func (*nullSocket) ReadBatch([]underlay.Message) (int, error)     { return 0, net.ErrClosed }
func (*nullSocket) WriteBatch(ms []underlay.Message) (int, error) { return len(ms), nil }
func (*nullSocket) LocalPort() uint16                             { return 1 }
func (*nullSocket) Close() error                                  { return nil }

// BenchmarkForward sends through a server on loopback, and in the same run through a loop that does nothing but send on what it read: ratio is the
// server's throughput by that of the loop. Trains are what robots send in bulk, single datagrams what they send else.
func BenchmarkForward(b *testing.B) {
	for _, load := range []struct {
		name           string
		segment, count int
	}{{"trains", 1440, 44}, {"single", 200, 1}} {
		b.Run(load.name, func(b *testing.B) {
			for b.Loop() {
				// In turns, so that what else the machine does meets both alike.
				var plain, relayed []float64
				for range 3 {
					plain = append(plain, forwardPlain(b, load.segment, load.count))
					relayed = append(relayed, forwardServer(b, load.segment, load.count))
				}
				slices.Sort(plain)
				slices.Sort(relayed)
				b.ReportMetric(relayed[1]*float64(load.segment)*8/1e6, "Mbit/s")
				b.ReportMetric(relayed[1], "packets/s")
				b.ReportMetric(plain[1], "plain-packets/s")
				b.ReportMetric(relayed[1]/plain[1], "ratio")
			}
		})
	}
}

const forwardTime = 700 * time.Millisecond

func listenLoopback(b *testing.B) *underlay.UDP {
	b.Helper()
	sock, err := underlay.Listen("udp4", 0, underlay.Options{RecvBuffer: 4 << 20, SendBuffer: 4 << 20})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { sock.Close() })
	return sock
}

func on(sock underlay.Socket) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), sock.LocalPort())
}

// drive sends trains from one socket until what comes out at another is measured, in datagrams per second. Of what is lost between, nothing
// counts.
func drive(b *testing.B, from, to *underlay.UDP, via netip.AddrPort, header []byte, segment, count int) float64 {
	b.Helper()
	buf := make([]byte, segment*count)
	for off := 0; off < len(buf); off += segment {
		copy(buf[off:], header)
	}
	ms := make([]underlay.Message, 32)
	for i := range ms {
		ms[i] = underlay.Message{Buf: buf, Remote: via}
		if count > 1 {
			ms[i].Segment = segment
		}
	}
	var stop atomic.Bool
	var received atomic.Int64
	done := make(chan struct{}, 2)
	go func() {
		for !stop.Load() {
			_, _ = from.WriteBatch(ms)
		}
		done <- struct{}{}
	}()
	go func() {
		in := buffers(32)
		for {
			n, err := to.ReadBatch(in)
			if err != nil {
				done <- struct{}{}
				return
			}
			for i := range in[:n] {
				received.Add(int64((in[i].N + segment - 1) / segment))
			}
		}
	}()
	time.Sleep(forwardTime / 4)
	start, before := time.Now(), received.Load()
	time.Sleep(forwardTime)
	rate := float64(received.Load()-before) / time.Since(start).Seconds()
	stop.Store(true)
	<-done
	to.Close()
	<-done
	return rate
}

func forwardPlain(b *testing.B, segment, count int) float64 {
	from, to, middle := listenLoopback(b), listenLoopback(b), listenLoopback(b)
	defer middle.Close()
	remote := on(to)
	go func() {
		in := buffers(socketMessages)
		out := make([]underlay.Message, 0, len(in))
		for {
			n, err := middle.ReadBatch(in)
			if err != nil {
				return
			}
			out = out[:0]
			for i := range in[:n] {
				out = append(out, underlay.Message{Buf: in[i].Buf[:in[i].N], Segment: in[i].Segment, Remote: remote})
			}
			_, _ = middle.WriteBatch(out)
		}
	}()
	return drive(b, from, to, on(middle), nil, segment, count)
}

func forwardServer(b *testing.B, segment, count int) float64 {
	s := serveReal(b, Limits{RelayRate: Unlimited})
	defer s.stop()
	from, to := listenLoopback(b), listenLoopback(b)
	number, token := link(b, s.Server, 1, on(from), on(to), s.socket)
	header := make([]byte, wire.RelayHeaderLen)
	wire.PutRelay(header, number, token, 1)
	return drive(b, from, to, s.udp, header, segment, count)
}
