package engine

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/tun"
)

// bottleneck is a link with a rate and a buffer in front of it, in one direction.
type bottleneck struct {
	mu      sync.Mutex
	rate    float64 // bytes per second
	buffer  time.Duration
	delay   time.Duration
	free    time.Time
	carried int
	lost    int
}

// take says when a datagram is through, and whether there was room for it.
func (l *bottleneck) take(bytes int) (after time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.free.Before(now) {
		l.free = now
	}
	if l.free.Sub(now) > l.buffer {
		l.lost++
		return 0, false
	}
	l.free = l.free.Add(time.Duration(float64(bytes) / l.rate * float64(time.Second)))
	l.carried += bytes
	return l.free.Sub(now) + l.delay, true
}

func (l *bottleneck) soFar() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.carried
}

// slow puts a bottleneck between two endpoints, from the first to the second; the other way takes the delay alone.
func slow(l *bottleneck, sender netip.AddrPort) func(from, to netip.AddrPort, b []byte) []delivery {
	return func(from, to netip.AddrPort, b []byte) []delivery {
		after, ok := l.delay, true
		if from == sender {
			after, ok = l.take(len(b) + ipv4UDPHeaders)
		}
		if !ok {
			return nil
		}
		return []delivery{{after: after, from: from, to: to, b: b}}
	}
}

const (
	ef  = 46 << 2 // traffic classes
	cs1 = 8 << 2
)

// stamped is a packet of a traffic class that tells when it was sent.
func stamped(from, to netip.Addr, class byte, port uint16, size int) []byte {
	b := udpPacket(from, to, 0, size)
	b[0], b[1] = 6<<4|class>>4, class<<4
	binary.BigEndian.PutUint16(b[42:], port)
	binary.BigEndian.PutUint64(b[52:], uint64(time.Now().UnixNano()))
	binary.BigEndian.PutUint16(b[46:], 0)
	sum := udpChecksum(b)
	if sum == 0 {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(b[46:], sum)
	return b
}

// beside sends a stream that fills the link and a command at 50 Hz, and returns the commands' latencies and the share of the link that was used.
func beside(t *testing.T, unpaced bool) (latency []time.Duration, used float64) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t, func(c *Config) { c.Unpaced = unpaced })
		link := &bottleneck{rate: 2.5e6, buffer: 200 * time.Millisecond, delay: 30 * time.Millisecond}
		n.setFilter(slow(link, a.port.addr))
		flowsWithin(t, a, b, time.Second)
		const (
			warm = 6 * time.Second
			test = 10 * time.Second
		)
		begin := time.Now()
		carried := 0
		for i := 0; time.Since(begin) < warm+test; i++ {
			if i == int(warm/(10*time.Millisecond)) {
				carried = link.soFar()
			}
			if i%10 == 0 { // ten samples of 300 kB a second: 24 Mbit/s on a link of 20
				for range 250 {
					a.send(stamped(a.id.Address(), b.id.Address(), cs1, 7, 1200))
				}
			}
			if i%2 == 1 {
				a.send(stamped(a.id.Address(), b.id.Address(), ef, 8, 100))
			}
			time.Sleep(10 * time.Millisecond)
			for more := true; more; {
				select {
				case p := <-b.device.out:
					if binary.BigEndian.Uint16(p[42:]) == 8 && time.Since(begin) > warm {
						latency = append(latency, time.Since(time.Unix(0, int64(binary.BigEndian.Uint64(p[52:])))))
					}
				default:
					more = false
				}
			}
		}
		used = float64(link.soFar()-carried) / link.rate / test.Seconds()
		t.Logf("unpaced %v: %d commands, %.0f %% of the link used, %d datagrams lost on it", unpaced, len(latency), 100*used, link.lost)
	})
	slices.Sort(latency)
	return latency, used
}

// A command does not wait behind a stream that fills the link; and the link stays full.
func TestUrgentBesideAStream(t *testing.T) {
	const grain = 10 * time.Millisecond // of the test's looking
	latency, used := beside(t, false)
	if len(latency) < 475 {
		t.Fatalf("%d commands of 500 arrived", len(latency))
	}
	if p99 := latency[len(latency)*99/100]; p99 > 30*time.Millisecond+20*time.Millisecond+grain {
		t.Errorf("99 %% of the commands took at most %v, on a way of 30 ms", p99)
	}
	if used < 0.85 {
		t.Errorf("%.0f %% of the link used", 100*used)
	}
	latency, _ = beside(t, true)
	if p99 := latency[len(latency)*99/100]; p99 < 150*time.Millisecond {
		t.Errorf("unpaced, 99 %% took at most %v: the test tests nothing", p99)
	}
}

// A path that is fast enough is never held back, and costs no allocation.
func TestFastPathsAreNotPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t)
		flowsWithin(t, a, b, time.Second)
		super := tcpSuper(a.id.Address(), b.id.Address(), 60000, 1220)
		for range 500 {
			a.send(slices.Clone(super))
			time.Sleep(time.Millisecond)
		}
		synctest.Wait()
		p := a.peers.get(b.id.Address())
		p.mu.Lock()
		c := p.path.controller()
		if c == nil {
			t.Fatal("nobody told what arrived")
		}
		if rate, limited := c.Rate(); limited {
			t.Errorf("limited to %.0f bytes per second", rate)
		}
		p.mu.Unlock()
		if lost := a.Stats().LaneOverflow.Load(); lost > 0 {
			t.Errorf("%d packets lost in the lanes", lost)
		}
		// It is forgotten with the traffic.
		time.Sleep(time.Minute)
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.path.pacing != nil {
			t.Error("an idle peer keeps what its path took")
		}
		for _, r := range p.routes.known {
			if r.pacing != nil {
				t.Error("an idle peer keeps what a path took")
			}
		}
	})
}

// What an idle peer's path took is remembered for ten minutes, and then no more.
func TestLimitIsRememberedForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t)
		n.setFilter(slow(&bottleneck{rate: 2.5e6, buffer: 200 * time.Millisecond, delay: 30 * time.Millisecond}, a.port.addr))
		flowsWithin(t, a, b, time.Second)
		for range 300 {
			for range 30 { // 29 Mbit/s
				a.send(stamped(a.id.Address(), b.id.Address(), cs1, 7, 1200))
			}
			time.Sleep(10 * time.Millisecond)
		}
		limit := func() float64 {
			p := a.peers.get(b.id.Address())
			p.mu.Lock()
			defer p.mu.Unlock()
			if c := p.path.controller(); c != nil {
				if rate, limited := c.Rate(); limited {
					return rate
				}
			}
			return 0
		}
		if rate := limit(); rate < 1.5e6 || rate > 3e6 {
			t.Fatalf("limited to %.0f bytes per second on a link of 2,500,000", rate)
		}
		time.Sleep(8 * time.Minute)
		if limit() == 0 {
			t.Error("the limit was forgotten")
		}
		time.Sleep(3 * time.Minute)
		if limit() != 0 {
			t.Error("the limit is still remembered")
		}
		a.send(udpPacket(a.id.Address(), b.id.Address(), 1, 200))
		time.Sleep(time.Second)
		flowsWithin(t, a, b, time.Second)
	})
}

// A superpacket that a slow path takes in pieces only goes out in pieces, whole otherwise, and arrives either way.
func TestSuperpacketsOnASlowPath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t)
		link := &bottleneck{rate: 1.25e6, buffer: 300 * time.Millisecond, delay: 10 * time.Millisecond}
		n.setFilter(slow(link, a.port.addr))
		flowsWithin(t, a, b, time.Second)
		for range 300 { // 48 Mbit/s
			a.send(tcpSuper(a.id.Address(), b.id.Address(), 60000, 1220))
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(6 * time.Second)
		got := b.received()
		if len(got) < 2000 {
			t.Fatalf("%d segments arrived of what should be a link full", len(got))
		}
		for _, p := range got {
			if h, ok := parseIPv6(p); !ok || h.length != len(p) || len(p) > 1300+tun.HeaderLen {
				t.Fatalf("%d bytes arrived that are no segment", len(p))
			}
		}
	})
}

// Samples that come in bursts, with the link idle in between, are no congestion: they arrive as if nothing were paced.
func TestBurstsAreNotHeldBack(t *testing.T) {
	for _, c := range []struct {
		name    string
		bytes   int
		every   time.Duration
		samples int
	}{{"100 kB at 30 Hz", 100e3, 33 * time.Millisecond, 300}, {"1 MB at 5 Hz", 1e6, 200 * time.Millisecond, 40}} {
		synctest.Test(t, func(t *testing.T) {
			n, a, b := pair(t)
			link := &bottleneck{rate: 12.5e6, buffer: 100 * time.Millisecond, delay: 50 * time.Millisecond}
			n.setFilter(slow(link, a.port.addr))
			flowsWithin(t, a, b, time.Second)
			packets := c.bytes / 1200
			arrived := 0
			for range c.samples {
				for range packets {
					a.send(stamped(a.id.Address(), b.id.Address(), 0, 7, 1200))
				}
				time.Sleep(c.every)
				arrived += len(b.received())
			}
			time.Sleep(time.Second)
			arrived += len(b.received())
			if want := c.samples * packets; arrived < want {
				t.Errorf("%s: %d of %d packets arrived; %d were lost in the lanes, %d on the link", c.name, arrived, want, a.Stats().LaneOverflow.Load(), link.lost)
			}
		})
	}
}
