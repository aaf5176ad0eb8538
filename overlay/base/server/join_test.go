package server

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/hnet-robotics/hnet_bridge/overlay/base/wire"
	"github.com/hnet-robotics/hnet_bridge/overlay/underlay"
)

// cut takes what was sent apart into datagrams, with what each says of its way.
func cut(sent []underlay.Message) (datagrams []underlay.Message) {
	for _, m := range sent {
		size := m.Segment
		if size == 0 {
			size = len(m.Buf)
		}
		for b := m.Buf; len(b) > 0; b = b[min(size, len(b)):] {
			m.Buf, m.Segment = b[:min(size, len(b))], 0
			datagrams = append(datagrams, m)
		}
	}
	return datagrams
}

// TestJoin: datagrams that came one by one leave as one train if they are alike.
func TestJoin(t *testing.T) {
	x := newSim(t, Limits{RelayRate: Unlimited}, nil)
	a, b := pair(t, x)
	out := &forwarder{s: x.s}
	send := func(tos byte, segment int, sizes ...int) {
		var d []byte
		for _, n := range sizes {
			one := make([]byte, n)
			wire.PutRelay(one, a.welcome.Session, a.welcome.Token, 3)
			d = append(d, one...)
		}
		m := underlay.Message{Buf: d, N: len(d), Remote: a.at, TOS: tos, Segment: segment}
		at := from(&m, x.sock)
		x.s.take(x.now, &at, &m, d, segment, out)
	}
	for range 5 {
		send(0, 0, 100)
	}
	send(0, 0, 60)
	send(0, 0, 100)
	send(0, 0, 110)
	send(1, 0, 110)
	send(1, 110, 110, 110, 20)
	send(1, 0, 110)
	send(1, 1000, 1000, 1000, 1000, 1000, 1000)
	send(1, 0, 1000)
	out.flush()
	sent := x.sock.take()
	var got [][2]int
	for _, m := range sent {
		if m.Remote != b.at {
			t.Errorf("sent to %v", m.Remote)
		}
		got = append(got, [2]int{len(m.Buf), m.Segment})
	}
	want := [][2]int{{560, 100}, {100, 0}, {110, 0}, {350, 110}, {110, 0}, {5000, 1000}, {1000, 0}}
	if len(got) != len(want) {
		t.Fatalf("sent %v, want %v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("message %d is %v, want %v", i, got[i], want[i])
		}
	}
	if s := x.s.Stats(); s.RelayedPackets.Load() != uint64(len(cut(sent))) {
		t.Errorf("%d packets counted, %d sent", s.RelayedPackets.Load(), len(cut(sent)))
	}
}

// TestJoinKeepsEverything: whatever comes in one batch leaves in its order, and unchanged but for the headers.
func TestJoinKeepsEverything(t *testing.T) {
	x := newSim(t, Limits{RelayRate: Unlimited}, nil)
	a, b := pair(t, x)
	random := rand.New(rand.NewPCG(1, 2))
	out := &forwarder{s: x.s}
	for range 300 {
		var want [][]byte
		for range random.IntN(40) + 1 {
			sender, channel := a, uint32(3)
			if random.IntN(8) == 0 {
				sender, channel = b, 9
			}
			size := []int{17, 100, 100, 100, 1200, 1200, 1400}[random.IntN(7)]
			count := 1
			if random.IntN(4) == 0 {
				count = random.IntN(45) + 1
			}
			d := make([]byte, size*count-random.IntN(size-16)*min(1, count-1))
			for i := range d {
				d[i] = byte(random.Uint32())
			}
			segment := 0
			if count > 1 {
				segment = size
			}
			for rest := d; len(rest) > 0; rest = rest[min(size, len(rest)):] {
				wire.PutRelay(rest, sender.welcome.Session, sender.welcome.Token, channel)
				want = append(want, bytes.Clone(rest[wire.RelayHeaderLen:min(size, len(rest))]))
			}
			m := underlay.Message{Buf: d, N: len(d), Remote: sender.at, Segment: segment}
			at := from(&m, x.sock)
			x.s.take(x.now, &at, &m, d, segment, out)
		}
		out.flush()
		got := cut(x.sock.take())
		if len(got) != len(want) {
			t.Fatalf("%d datagrams left, %d came", len(got), len(want))
		}
		for i := range want {
			if wire.TypeOf(got[i].Buf) != wire.TypeRelayed || !bytes.Equal(got[i].Buf[wire.RelayHeaderLen:], want[i]) {
				t.Fatalf("datagram %d is another", i)
			}
		}
	}
}
