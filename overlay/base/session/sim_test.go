package session

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/base/wire"
)

// network carries datagrams between two sessions in virtual time, badly.
type network struct {
	t       testing.TB
	random  *rand.Rand
	now     time.Time
	ends    [2]*end
	flights []flight

	loss, duplicate, corrupt float64
	delay, jitter            time.Duration
	down                     func(at time.Duration) bool
	datagrams                int
}

type end struct {
	s        *Session
	toSend   int // messages still to be queued
	queued   uint32
	received uint32
	pinged   int
}

type flight struct {
	at time.Time
	to int
	b  []byte
}

func newNetwork(t testing.TB, seed uint64) *network {
	client, base := quickPair()
	return &network{t: t, random: rand.New(rand.NewPCG(seed, 7)), now: began, ends: [2]*end{{s: client}, {s: base}}, delay: 20 * time.Millisecond}
}

// body is that of the n-th message: each has its own length and content.
func body(n uint32) []byte {
	b := binary.BigEndian.AppendUint32(nil, n)
	return append(b, bytes.Repeat([]byte{byte(n)}, int(n*2654435761>>22)%1000)...)
}

func (n *network) send(from int, b []byte) {
	n.datagrams++
	if len(b) > wire.MaxControlLen || wire.TypeOf(b) == 0 {
		n.t.Fatalf("sent %x", b)
	}
	copies := 1
	for n.random.Float64() < n.duplicate {
		copies++
	}
	for range copies {
		if n.random.Float64() < n.loss || n.down != nil && n.down(n.now.Sub(began)) {
			continue
		}
		f := flight{at: n.now.Add(n.delay), to: 1 - from, b: bytes.Clone(b)}
		if n.jitter > 0 {
			f.at = f.at.Add(time.Duration(n.random.Int64N(int64(n.jitter))))
		}
		if n.random.Float64() < n.corrupt {
			f.b[n.random.IntN(len(b))] ^= 1 << n.random.IntN(8)
		}
		n.flights = append(n.flights, f)
	}
}

// pump lets both ends queue and send what they can.
func (n *network) pump() {
	for i, e := range n.ends {
		for e.toSend > 0 && e.s.Queue(wire.KindRecord, body(e.queued+1)) == nil {
			e.queued++
			e.toSend--
		}
		for b := e.s.Poll(n.now); b != nil; b = e.s.Poll(n.now) {
			n.send(i, b)
		}
		if e.s.underWay() > sendWindow {
			n.t.Fatalf("%d datagrams under way", e.s.underWay())
		}
	}
}

func (s *Session) underWay() int {
	if s.out == nil {
		return 0
	}
	return s.out.underWay()
}

func (n *network) arrive(f flight) {
	e := n.ends[f.to]
	_, _ = e.s.Receive(n.now, f.b, func(k wire.Kind, b []byte) {
		switch k {
		case wire.KindRecord:
			e.received++
			if !bytes.Equal(b, body(e.received)) {
				n.t.Fatalf("end %d: message %d is %x", f.to, e.received, b)
			}
		case wire.KindPing:
			e.pinged++
		default:
			n.t.Fatalf("end %d: %v", f.to, k)
		}
	})
}

// run goes on until nothing is left to do, or the limit; it returns the virtual time that passed.
func (n *network) run(limit time.Duration) time.Duration {
	for n.pump(); ; n.pump() {
		var next time.Time
		earlier := func(t time.Time) {
			if !t.IsZero() && (next.IsZero() || t.Before(next)) {
				next = t
			}
		}
		for _, f := range n.flights {
			earlier(f.at)
		}
		for _, e := range n.ends {
			if !e.s.Dead(n.now) {
				earlier(e.s.Next())
			}
		}
		if next.IsZero() || next.Sub(began) > limit {
			return n.now.Sub(began)
		}
		if !next.After(n.now) && !slices.ContainsFunc(n.flights, func(f flight) bool { return !f.at.After(n.now) }) {
			n.t.Fatalf("at %v something is due at %v and nobody does it", n.now, next)
		}
		if next.After(n.now) {
			n.now = next
		}
		slices.SortStableFunc(n.flights, func(a, b flight) int { return a.at.Compare(b.at) })
		due := n.flights[:0:0]
		n.flights = slices.DeleteFunc(n.flights, func(f flight) bool {
			if f.at.After(n.now) {
				return false
			}
			due = append(due, f)
			return true
		})
		for _, f := range due {
			n.arrive(f)
			n.pump()
		}
	}
}

func (n *network) allArrived(want int) {
	n.t.Helper()
	for i, e := range n.ends {
		if got := n.ends[1-i].received; e.toSend > 0 || int(got) != want || e.s.Queued() != 0 {
			n.t.Errorf("of %d messages of end %d %d arrived, %d are queued, dead: %v", want, i, got, e.s.Queued(), e.s.Dead(n.now))
		}
		if !e.s.Next().IsZero() {
			n.t.Errorf("end %d wants something at %v", i, e.s.Next())
		}
	}
}

func TestBadNetworks(t *testing.T) {
	for _, tt := range []struct {
		name                     string
		loss, duplicate, corrupt float64
		delay, jitter            time.Duration
		messages                 int
		within                   time.Duration
	}{
		{"good", 0, 0, 0, 10 * time.Millisecond, 0, 400, time.Second},
		{"reordering", 0, 0, 0, 10 * time.Millisecond, 80 * time.Millisecond, 200, 5 * time.Second},
		{"duplicating", 0, 0.5, 0, 10 * time.Millisecond, 30 * time.Millisecond, 200, 3 * time.Second},
		{"corrupting", 0, 0, 0.1, 10 * time.Millisecond, 0, 200, 10 * time.Second},
		{"a little lossy", 0.02, 0, 0, 30 * time.Millisecond, 0, 200, 5 * time.Second},
		{"all at once", 0.1, 0.1, 0.05, 20 * time.Millisecond, 60 * time.Millisecond, 200, 15 * time.Second},
		{"a third lost", 0.33, 0.1, 0, 20 * time.Millisecond, 20 * time.Millisecond, 100, 40 * time.Second},
		{"satellite", 0.01, 0, 0, 600 * time.Millisecond, 50 * time.Millisecond, 100, 40 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for seed := range uint64(10) {
				n := newNetwork(t, seed)
				// As the handshake would have measured.
				n.ends[0].s.roundTrip(2 * tt.delay)
				n.ends[1].s.roundTrip(2 * tt.delay)
				n.loss, n.duplicate, n.corrupt, n.delay, n.jitter = tt.loss, tt.duplicate, tt.corrupt, tt.delay, tt.jitter
				for _, e := range n.ends {
					e.toSend = tt.messages
				}
				took := n.run(time.Hour)
				n.allArrived(tt.messages)
				if took > tt.within {
					t.Errorf("seed %d took %v, %v at most", seed, took, tt.within)
				}
				if seed == 0 {
					t.Logf("%d messages each way in %v and %d datagrams", tt.messages, took, n.datagrams)
				}
			}
		})
	}
}

// A path that is dead for less than 30 s costs time and no message; one that stays dead kills the session.
func TestOutage(t *testing.T) {
	for _, tt := range []struct {
		outage time.Duration
		dead   bool
	}{{5 * time.Second, false}, {25 * time.Second, false}, {time.Hour, true}} {
		t.Run(fmt.Sprint(tt.outage), func(t *testing.T) {
			n := newNetwork(t, 1)
			n.down = func(at time.Duration) bool { return at > 50*time.Millisecond && at < 50*time.Millisecond+tt.outage }
			n.ends[0].toSend = 300
			took := n.run(2 * time.Hour)
			client, base := n.ends[0], n.ends[1]
			if tt.dead {
				if !client.s.Dead(n.now) || base.s.Dead(n.now) || took > 40*time.Second {
					t.Errorf("dead: %v and %v after %v", client.s.Dead(n.now), base.s.Dead(n.now), took)
				}
				return
			}
			if base.received != 300 || client.s.Dead(n.now) || took > tt.outage+10*time.Second {
				t.Errorf("%d arrived after %v", base.received, took)
			}
		})
	}
}

// The schedule of the network is the fuzzer's: which datagrams are lost, repeated, late or broken. Whatever it does, messages arrive once and in
// order; once it lets go, all arrive.
func FuzzConversation(f *testing.F) {
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) > 400 {
			return
		}
		n := newNetwork(t, 1)
		for _, e := range n.ends {
			e.toSend = 20
		}
		for _, op := range script {
			n.pump()
			if len(n.flights) == 0 {
				n.now = n.now.Add(100 * time.Millisecond)
				continue
			}
			i := int(op>>3) % len(n.flights)
			f := n.flights[i]
			switch op & 7 {
			case 0: // lost
				n.flights = slices.Delete(n.flights, i, i+1)
			case 1: // broken
				f.b[int(op)%len(f.b)] ^= 1
			case 2: // repeated, the copy stays
				n.arrive(flight{to: f.to, b: bytes.Clone(f.b)})
			case 3: // time passes
				n.now = n.now.Add(time.Duration(op) * time.Millisecond)
			case 4: // a ping in between
				n.send(f.to, n.ends[f.to].s.Unsequenced(n.now, wire.KindPing, nil))
			default:
				n.flights = slices.Delete(n.flights, i, i+1)
				n.arrive(f)
			}
		}
		if dead := n.ends[0].s.Dead(n.now) || n.ends[1].s.Dead(n.now); dead {
			return
		}
		n.run(n.now.Sub(began) + time.Hour)
		n.allArrived(20)
	})
}
