package lane

import (
	"slices"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/pace"
	"github.com/hnet-robotics/hnet_bridge/overlay/pace/pacetest"
	"github.com/hnet-robotics/hnet_bridge/overlay/tun"
)

const (
	mbit     = 1e6 / 8
	overhead = 32 + 8 // sealing and the tunnel's UDP header
)

// sender is a peer's queues and Controller in front of a bottleneck, as an engine would drive them.
type sender struct {
	w       *pacetest.World
	link    *pacetest.Link
	paced   bool
	q       Queues
	b       Budget
	control *pace.Controller
	receive pace.Receiver
	counter uint64
	armed   bool
	dropped int
	arrived func(superpacket []byte)
}

func newSender(rate float64, buffer int, paced bool) *sender {
	w := pacetest.NewWorld(1)
	return &sender{
		w: w, paced: paced, control: pace.New(),
		link: &pacetest.Link{World: w, Rate: rate * mbit, Buffer: buffer, Delay: 30 * time.Millisecond},
	}
}

func (s *sender) push(t Treatment, superpacket []byte) {
	s.limit()
	s.dropped += s.q.Push(s.w.Now, t, superpacket, &s.b)
	s.flush()
}

func (s *sender) limit() {
	rate, limited := s.control.Rate()
	s.q.Limit(s.w.Now, rate, limited && s.paced)
}

func (s *sender) flush() {
	s.limit()
	for {
		item, dropped, ok := s.q.Front(s.w.Now, &s.b)
		s.dropped += dropped
		if !ok {
			return
		}
		bytes := len(item.Superpacket) + overhead
		if until, ok := s.control.Allow(s.w.Now, bytes); !ok && s.paced {
			if !s.armed {
				s.armed = true
				// Timers of a loaded host are late.
				s.w.At(until.Add(time.Duration(s.w.Rand.Int64N(int64(2*time.Millisecond)))), func() {
					s.armed = false
					s.flush()
				})
			}
			return
		}
		s.q.Take(&s.b)
		s.counter++
		counter, packet := s.counter, slices.Clone(item.Superpacket)
		s.control.Sent(s.w.Now, counter, bytes)
		s.link.Send(bytes, func(time.Duration) {
			s.receive.Arrived(s.w.Now, counter, bytes, 1)
			if r, ok := s.receive.Due(s.w.Now); ok {
				s.w.After(30*time.Millisecond, func() { s.control.Report(s.w.Now, r) })
			}
			s.arrived(packet)
		})
	}
}

// stream counts what arrives of datagrams sent at a steady pace, whose number is in their port.
type stream struct {
	s      *sender
	sent   map[uint16]time.Time
	delays []time.Duration
	next   uint16
}

func (s *sender) steady(t Treatment, every time.Duration) *stream {
	x := &stream{s: s, sent: map[uint16]time.Time{}}
	s.w.Every(every, func() {
		x.next++
		x.sent[x.next] = s.w.Now
		s.push(t, datagram{version: 6, protocol: protocolUDP, label: 5, class: 46 << 2, port: x.next, payload: 100}.superpacket())
	})
	return x
}

func (x *stream) arrived(superpacket []byte) bool {
	if superpacket[tun.HeaderLen+3]&0xf != 5 {
		return false
	}
	x.delays = append(x.delays, x.s.w.Now.Sub(x.sent[portOf(superpacket)]))
	return true
}

func (x *stream) quantile(q float64) time.Duration {
	slices.Sort(x.delays)
	return x.delays[min(int(q*float64(len(x.delays))), len(x.delays)-1)]
}

// TestUrgentBesideBulk: 50 Hz of small urgent packets beside what would fill the link 15 times.
func TestUrgentBesideBulk(t *testing.T) {
	const idle = 30 * time.Millisecond
	for _, k := range []struct {
		name   string
		buffer int
		loss   float64
		bulk   func(s *sender)
	}{
		{"images, 64 kB buffer", 64 << 10, 0, images},
		{"images, 256 kB buffer", 256 << 10, 0, images},
		{"images, 1 MB buffer", 1 << 20, 0, images},
		{"images, 1 MB buffer, 1 % loss", 1 << 20, 0.01, images},
		{"flood of 300 Mbit/s", 1 << 20, 0, flood},
	} {
		t.Run(k.name, func(t *testing.T) {
			var p99 [2]time.Duration
			for i, paced := range []bool{false, true} {
				if !paced && k.name != "images, 1 MB buffer" {
					continue // one to compare with is enough
				}
				s := newSender(20, k.buffer, paced)
				s.link.Loss = k.loss
				samples := 0
				whole := map[uint16]int{}
				bulkBytes := 0
				var x *stream
				s.arrived = func(p []byte) {
					if x != nil && x.arrived(p) {
						return
					}
					bulkBytes += len(p)
					if whole[portOf(p)]++; whole[portOf(p)] == imagePackets {
						samples++
					}
				}
				k.bulk(s)
				s.w.Run(5 * time.Second) // the capacity is found out
				x = s.steady(Treatment{Lane: Urgent}, 20*time.Millisecond)
				before, wholeBefore := bulkBytes, samples
				s.w.Run(10 * time.Second)
				p99[i] = x.quantile(.99) - idle
				utilisation := float64(bulkBytes-before) / (20 * mbit * 10)
				t.Logf("paced %v: p50 +%v p99 +%v max +%v of %d, %.0f%% of the link for bulk, %d whole samples", paced, x.quantile(.5)-idle, p99[i], x.quantile(1)-idle,
					len(x.delays), 100*utilisation, samples-wholeBefore)
				if !paced {
					continue
				}
				if p99[1] > 20*time.Millisecond {
					t.Errorf("p99 is %v more than on the idle link", p99[1])
				}
				if float64(len(x.delays)) < 490*(1-2*k.loss) {
					t.Errorf("%d of 500 urgent packets arrived", len(x.delays))
				}
				if utilisation < 0.85 {
					t.Errorf("bulk has %.0f%% of the link", 100*utilisation)
				}
				// The link carries 2.4 samples a second.
				if k.loss == 0 && samples-wholeBefore < 12 {
					t.Errorf("%d whole samples in 10 s", samples-wholeBefore)
				}
			}
		})
	}
}

const imagePackets = 750 // of 1,400 bytes

// images are samples of 1 MB at 10 Hz, handed over at once.
func images(s *sender) { samplesEvery(s, 100*time.Millisecond) }

// flood has samples of 1 MB at 36 Hz: 300 Mbit/s.
func flood(s *sender) { samplesEvery(s, 28*time.Millisecond) }

func samplesEvery(s *sender, every time.Duration) {
	number := uint16(0)
	s.w.Every(every, func() {
		number++
		for range imagePackets {
			s.push(Treatment{Lane: Bulk}, datagram{version: 6, protocol: protocolUDP, label: 3, port: number, payload: 1400 - 58}.superpacket())
		}
	})
}

// TestMislabelledFlood: what calls itself urgent and is not leaves room for the rest.
func TestMislabelledFlood(t *testing.T) {
	s := newSender(20, 256<<10, true)
	normal, urgent := 0, 0
	s.arrived = func(p []byte) {
		if portOf(p) == 1 {
			urgent += len(p)
		} else {
			normal += len(p)
		}
	}
	s.w.Every(500*time.Microsecond, func() {
		for range 2 {
			s.push(Treatment{Lane: Urgent}, datagram{version: 6, protocol: protocolUDP, label: 3, port: 1, payload: 1300}.superpacket())
		}
	})
	s.w.Every(2*time.Millisecond, func() { // 5.3 Mbit/s
		s.push(Treatment{Lane: Normal}, datagram{version: 6, protocol: protocolUDP, label: 4, port: 2, payload: 1300}.superpacket())
	})
	s.w.Run(5 * time.Second)
	normal, urgent = 0, 0
	s.w.Run(10 * time.Second)
	const offered = 10 * 500 * 1358
	t.Logf("normal %d of %d bytes, urgent %d", normal, offered, urgent)
	if float64(normal) < 0.9*offered {
		t.Errorf("the normal lane carried %d of %d bytes", normal, offered)
	}
	if float64(urgent) < 0.3*20*mbit*10 {
		t.Errorf("the flood itself was starved: %d bytes", urgent)
	}
}
