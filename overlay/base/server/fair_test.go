package server

import (
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/base/wire"
)

// TestFairQueue: senders of small and of large items get the same bytes.
func TestFairQueue(t *testing.T) {
	var f fair[int, int]
	got := map[int]int{}
	for range 20_000 {
		for f.push(1, 60_000, 1) {
		}
		for f.push(2, 100, 2) {
		}
		for f.push(3, 1500, 3) {
		}
		item, size, ok := f.pop()
		if !ok {
			t.Fatal("empty")
		}
		got[item] += size
	}
	for who, bytes := range got {
		if ratio := float64(bytes) / float64(got[1]); ratio < 0.95 || ratio > 1.05 {
			t.Errorf("sender %d got %.2f of what sender 1 got", who, ratio)
		}
	}
	for {
		if _, _, ok := f.pop(); !ok {
			break
		}
	}
	if !f.empty() || f.bytes != 0 || f.active != 0 || len(f.flows) != 0 {
		t.Errorf("left over: %+v", f)
	}
}

// TestFairQueueBounds: a flood of senders does not go beyond the bound, and each still has room.
func TestFairQueueBounds(t *testing.T) {
	var f fair[int, struct{}]
	for who := range 10_000 {
		for f.push(who, 1400, struct{}{}) {
		}
	}
	if f.bytes > waitingBytes {
		t.Errorf("%d bytes wait", f.bytes)
	}
	if f.active < 1500 {
		t.Errorf("only %d senders have something waiting", f.active)
	}
	for !f.empty() {
		f.pop()
	}
	if f.flows != nil || f.spare != nil {
		t.Error("the memory of the flood stays")
	}
}

// TestFairness: when the total rate is scarce, who sends ten times as much as each of 20 others gets no more than they do.
func TestFairness(t *testing.T) {
	const senders, size, milliseconds = 21, 1000, 2000
	// 21 senders share 21 Mbit/s; twenty offer 1.5 Mbit/s each, one offers 15.
	x := newSim(t, Limits{TotalRate: senders * 1_000_000, RelayRate: Unlimited}, nil)
	sink := x.client(1).register()
	payload := make([]byte, size)
	clients := make([]*simClient, senders)
	for i := range clients {
		clients[i] = x.client(2 + i).register()
		clients[i].interest(1, sink)
		sink.interest(uint32(1+i), clients[i])
	}
	x.sleep(time.Second)
	// An offer is in bytes, so that what is sent each millisecond may be no whole number of datagrams.
	owed, got := make([]int, senders), make([]int, senders+1)
	send := func(i, bytes int) {
		for owed[i] += bytes; owed[i] >= size; owed[i] -= size {
			wire.PutRelay(payload, clients[i].welcome.Session, clients[i].welcome.Token, 1)
			x.train(clients[i].at, payload, 0)
		}
	}
	for ms := range milliseconds {
		if ms == milliseconds/4 {
			clear(got) // with what the total rate allows at once
		}
		for i := range clients {
			if i == 0 {
				send(i, 15_000_000/8/1000)
			} else {
				send(i, 1_500_000/8/1000)
			}
		}
		x.now = x.now.Add(time.Millisecond)
		x.pumpAll()
		for _, m := range x.sock.take() {
			_, channel, _ := wire.ParseRelayed(m.Buf)
			got[channel] += len(m.Buf)
		}
	}
	total := 0
	for _, bytes := range got[1:] {
		total += bytes
	}
	want := senders * 1_000_000 / 8 * milliseconds * 3 / 4 / 1000
	if total < want*95/100 || total > want*105/100 {
		t.Errorf("%d bytes in all, want %d", total, want)
	}
	share := total / senders
	for i, bytes := range got[1:] {
		if bytes < share-quantum || bytes > share+quantum {
			t.Errorf("sender %d got %d bytes, its share is %d", i, bytes, share)
		}
	}
	t.Logf("the greedy one %d bytes, the others %d to %d", got[1], min(got[2], got[3], got[20]), max(got[2], got[3], got[20]))
}
