package inet4

import (
	"container/heap"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// world is a fleet in virtual time: machines, sessions between them, and messages that take a while or are lost.
type world struct {
	t       *testing.T
	now     time.Time
	rng     *rand.Rand
	nodes   []*Machine
	ids     []netip.Addr
	linked  map[[2]int]bool
	loss    float64
	mail    mailbox
	moves   []int // changes of each node's address
	last    []netip.Addr
	deliver int
	next    []time.Time  // of each node
	stale   map[int]bool // whose next is another
}

type letter struct {
	at       time.Time
	from, to int
	b        []byte
}

type mailbox []letter

func (m mailbox) Len() int           { return len(m) }
func (m mailbox) Less(i, j int) bool { return m[i].at.Before(m[j].at) }
func (m mailbox) Swap(i, j int)      { m[i], m[j] = m[j], m[i] }
func (m *mailbox) Push(x any)        { *m = append(*m, x.(letter)) }
func (m *mailbox) Pop() any {
	old := *m
	x := old[len(old)-1]
	*m = old[:len(old)-1]
	return x
}

var start = time.Unix(1_800_000_000, 0)

func overlay(seed uint64, i int) netip.Addr {
	b := [16]byte{0xfc, 0x94}
	r := rand.New(rand.NewPCG(seed, uint64(i)))
	binary.BigEndian.PutUint64(b[2:], r.Uint64())
	binary.BigEndian.PutUint64(b[8:], r.Uint64())
	return netip.AddrFrom16(b)
}

func newWorld(t *testing.T, seed uint64, n int, ranges ...netip.Prefix) *world {
	w := &world{t: t, now: start, rng: rand.New(rand.NewPCG(seed, 1)), linked: make(map[[2]int]bool), moves: make([]int, n), last: make([]netip.Addr, n), next: make([]time.Time, n), stale: make(map[int]bool)}
	for i := range n {
		w.ids = append(w.ids, overlay(seed, i))
		m := New(w.now, Config{Self: w.ids[i], Ranges: ranges})
		m.SetNetworks(w.now, nil)
		w.nodes = append(w.nodes, m)
		w.last[i], _ = m.Address()
	}
	return w
}

func pair(i, j int) [2]int { return [2]int{min(i, j), max(i, j)} }

func (w *world) link(i, j int) {
	if i != j && !w.linked[pair(i, j)] {
		w.linked[pair(i, j)] = true
		w.nodes[i].Up(w.now, w.ids[j])
		w.nodes[j].Up(w.now, w.ids[i])
		w.stale[i], w.stale[j] = true, true
	}
}

func (w *world) cut(i, j int) {
	delete(w.linked, pair(i, j))
	w.nodes[i].Down(w.ids[j])
	w.nodes[j].Down(w.ids[i])
	w.stale[i], w.stale[j] = true, true
}

func (w *world) index(id netip.Addr) int { return slices.Index(w.ids, id) }

// post takes what a machine says.
func (w *world) post(i int) {
	for _, o := range w.nodes[i].Outgoing() {
		j := w.index(o.Peer)
		if j < 0 || !w.linked[pair(i, j)] || w.rng.Float64() < w.loss {
			continue
		}
		at := w.now.Add(time.Duration(1+w.rng.IntN(100)) * time.Millisecond)
		heap.Push(&w.mail, letter{at, i, j, o.Message.Append(nil)})
	}
	if a, _ := w.nodes[i].Address(); a != w.last[i] {
		w.last[i] = a
		w.moves[i]++
	}
}

// run lets time pass.
func (w *world) run(d time.Duration) {
	end := w.now.Add(d)
	for i := range w.nodes {
		w.stale[i] = true
	}
	for {
		for i := range w.stale {
			w.post(i)
			w.next[i] = w.nodes[i].Next()
		}
		clear(w.stale)
		next := end
		for _, at := range w.next {
			if !at.IsZero() && at.Before(next) {
				next = at
			}
		}
		if len(w.mail) > 0 && w.mail[0].at.Before(next) {
			next = w.mail[0].at
		}
		if !next.Before(end) {
			w.now = end
			return
		}
		if next.After(w.now) {
			w.now = next
		}
		for len(w.mail) > 0 && !w.mail[0].at.After(w.now) {
			x := heap.Pop(&w.mail).(letter)
			if !w.linked[pair(x.from, x.to)] {
				continue
			}
			w.deliver++
			w.stale[x.to] = true
			if err := w.nodes[x.to].Receive(w.now, w.ids[x.from], x.b); err != nil {
				w.t.Fatalf("a message of ours was not understood: %v", err)
			}
		}
		for i, at := range w.next {
			if !at.IsZero() && !at.After(w.now) {
				w.nodes[i].Tick(w.now)
				w.stale[i] = true
			}
		}
	}
}

// agreed checks that all that are connected have different addresses, and that each uses the other's.
func (w *world) agreed() error {
	for p := range w.linked {
		i, j := p[0], p[1]
		a, _ := w.nodes[i].Address()
		b, _ := w.nodes[j].Address()
		if a == b {
			return fmt.Errorf("nodes %d and %d both have %v", i, j, a)
		}
		for _, x := range [][2]int{{i, j}, {j, i}} {
			other, _ := w.nodes[x[1]].Address()
			got, ready := w.nodes[x[0]].Ready(w.ids[x[1]])
			if got != other || !ready {
				return fmt.Errorf("node %d uses %v (ready %v) for node %d, which has %v", x[0], got, ready, x[1], other)
			}
		}
	}
	// Who knows both must not have two with one address.
	for k, m := range w.nodes {
		seen := make(map[netip.Addr]netip.Addr)
		for peer, a := range m.Peers() {
			if other, twice := seen[a]; twice {
				return fmt.Errorf("node %d has %v for %v and %v", k, a, peer, other)
			}
			seen[a] = peer
		}
	}
	return nil
}
