package inet4

import (
	"net/netip"
	"slices"
	"testing"
	"time"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func all(w *world) {
	for i := range w.nodes {
		for j := range i {
			w.link(i, j)
		}
	}
}

func TestFiftyNodesJoin(t *testing.T) {
	for _, c := range []struct {
		name  string
		rng   string
		loss  float64
		calls bool
	}{{"default range", "198.19.0.0/16", 0, true}, {"clashes", "198.19.0.0/24", 0, false}, {"clashes and loss", "198.19.0.0/24", 0.3, false}} {
		t.Run(c.name, func(t *testing.T) {
			for seed := range uint64(2) {
				w := newWorld(t, seed, 50, prefix(c.rng))
				w.loss = c.loss
				for i := range w.nodes {
					for j := range i {
						w.link(i, j)
					}
					w.run(time.Second)
				}
				w.run(3 * time.Minute)
				w.loss = 0
				w.run(2 * time.Minute)
				if err := w.agreed(); err != nil {
					t.Errorf("seed %d: %v", seed, err)
				}
				if most := slices.Max(w.moves); most > movesBurst {
					t.Errorf("seed %d: a node moved %d times", seed, most)
				}
				quiet := w.deliver
				w.run(time.Hour)
				if w.deliver != quiet {
					t.Errorf("seed %d: %d messages when all was said", seed, w.deliver-quiet)
				}
			}
		})
	}
}

// TestHalvesMeet: two fleets that settled without knowing of each other.
func TestHalvesMeet(t *testing.T) {
	for seed := range uint64(4) {
		w := newWorld(t, seed, 40, prefix("198.19.0.0/24"))
		for i := range w.nodes {
			for j := range i {
				if (i < 20) == (j < 20) {
					w.link(i, j)
				}
			}
		}
		w.run(time.Minute)
		if err := w.agreed(); err != nil {
			t.Fatalf("seed %d, apart: %v", seed, err)
		}
		before := slices.Clone(w.moves)
		all(w)
		w.run(5 * time.Minute)
		if err := w.agreed(); err != nil {
			t.Errorf("seed %d, together: %v", seed, err)
		}
		for i := range before {
			if w.moves[i]-before[i] > movesBurst {
				t.Errorf("seed %d: node %d moved %d times", seed, i, w.moves[i]-before[i])
			}
		}
	}
}

// TestPartition: who is apart for a while and comes back keeps its address.
func TestPartition(t *testing.T) {
	w := newWorld(t, 9, 20, prefix("198.19.0.0/24"))
	all(w)
	w.run(time.Minute)
	before := slices.Clone(w.last)
	for i := range 10 {
		for j := 10; j < 20; j++ {
			w.cut(i, j)
		}
	}
	w.run(10 * time.Minute)
	all(w)
	w.run(time.Minute)
	if err := w.agreed(); err != nil {
		t.Error(err)
	}
	if !slices.Equal(before, w.last) {
		t.Errorf("addresses changed: %v, %v", before, w.last)
	}
}

// twins finds two overlay addresses with one first candidate; the lower comes first.
func twins(t *testing.T, r netip.Prefix) (low, high netip.Addr) {
	t.Helper()
	seen := make(map[netip.Addr]netip.Addr)
	for i := range 5000 {
		id := overlay(77, i)
		a, ok := Candidate(id, r, 0)
		if other, twice := seen[a]; ok && twice {
			if other.Less(id) {
				return other, id
			}
			return id, other
		}
		seen[a] = id
	}
	t.Fatal("no twins")
	return
}

// threeOf makes a fleet of the twins and a third, connected as told.
func threeOf(t *testing.T, r netip.Prefix) (w *world, low, high, third int) {
	a, b := twins(t, r)
	w = newWorld(t, 3, 3, r)
	w.ids[0], w.ids[1] = a, b
	for i := range 2 {
		w.nodes[i] = New(w.now, Config{Self: w.ids[i], Ranges: []netip.Prefix{r}})
		w.nodes[i].SetNetworks(w.now, nil)
		w.last[i], _ = w.nodes[i].Address()
	}
	if w.last[0] != w.last[1] {
		t.Fatal("these are no twins")
	}
	return w, 0, 1, 2
}

func TestHigherOverlayAddressMoves(t *testing.T) {
	w, low, high, _ := threeOf(t, prefix("198.19.0.0/20"))
	w.link(low, high)
	w.run(time.Minute)
	if err := w.agreed(); err != nil {
		t.Fatal(err)
	}
	if w.moves[low] != 0 || w.moves[high] != 1 {
		t.Errorf("moves: %v", w.moves)
	}
}

// TestThirdTellsWhoMustMove: two that do not know each other have one address, and one peer.
func TestThirdTellsWhoMustMove(t *testing.T) {
	for _, order := range [][2]int{{0, 1}, {1, 0}} {
		w, low, high, third := threeOf(t, prefix("198.19.0.0/20"))
		w.link(order[0], third)
		w.run(time.Second) // before it is settled by an answer, or after: the first stays either way
		w.link(order[1], third)
		w.run(time.Minute)
		if err := w.agreed(); err != nil {
			t.Fatalf("order %v: %v", order, err)
		}
		if w.moves[order[0]] != 0 || w.moves[order[1]] != 1 {
			t.Errorf("order %v: the one that was settled moved: %v (low %d, high %d)", order, w.moves, low, high)
		}
	}
}

func TestSettledAddressStaysOverRestarts(t *testing.T) {
	w, low, high, third := threeOf(t, prefix("198.19.0.0/20"))
	w.link(low, high)
	w.link(high, third)
	w.run(time.Minute)
	moved, _ := w.nodes[high].Address()
	s := w.nodes[high].Save(func(netip.Addr) bool { return true })
	again := New(w.now, Config{Self: w.ids[high], Ranges: []netip.Prefix{prefix("198.19.0.0/20")}, Saved: s})
	again.SetNetworks(w.now, nil)
	if a, _ := again.Address(); a != moved {
		t.Errorf("%v before, %v after", moved, a)
	}
	if got := again.Peers(); len(got) != 2 {
		t.Errorf("of the peers it remembers %v", got)
	}
	elsewhere := New(w.now, Config{Self: w.ids[high], Ranges: []netip.Prefix{prefix("10.1.0.0/16")}, Saved: s})
	elsewhere.SetNetworks(w.now, nil)
	if a, r := elsewhere.Address(); r != prefix("10.1.0.0/16") || !r.Contains(a) || len(elsewhere.Peers()) != 0 {
		t.Errorf("after the range was changed: %v in %v, peers %v", a, r, elsewhere.Peers())
	}
}

func TestOwnNetworks(t *testing.T) {
	self := overlay(1, 1)
	m := New(start, Config{Self: self, Ranges: DefaultRanges})
	m.SetNetworks(start, []Network{{prefix("0.0.0.0/0"), "a default route"}, {prefix("128.0.0.0/1"), "half of one"}, {prefix("192.168.1.0/24"), "eth0"}})
	a, r := m.Address()
	if r != DefaultRanges[0] || !m.RangeFree() {
		t.Fatalf("%v in %v", a, r)
	}
	// A network in the range that does not have the address: it stays, and the range is not routed as a whole.
	other := netip.PrefixFrom(a.Next().Next(), 32)
	m.SetNetworks(start, []Network{{other, "a host route"}})
	if b, _ := m.Address(); b != a || m.RangeFree() {
		t.Fatalf("%v, free %v", b, m.RangeFree())
	}
	// One that has it: after a while the address gives way, to a range that is all free.
	now := start
	m.SetNetworks(now, []Network{{prefix("198.19.0.0/16"), "eth0"}})
	if at := m.Next(); at != now.Add(networkHold) {
		t.Fatalf("next at %v", at)
	}
	now = now.Add(networkHold)
	m.Tick(now)
	b, r := m.Address()
	if r != DefaultRanges[1] {
		t.Fatalf("moved to %v in %v", b, r)
	}
	// It does not move back, so that a network that comes and goes does not make it flap.
	for range 100 {
		now = now.Add(time.Minute)
		m.SetNetworks(now, nil)
		m.Tick(now)
		m.SetNetworks(now, []Network{{prefix("198.19.0.0/16"), "eth0"}})
		m.Tick(now.Add(networkHold))
	}
	if c, _ := m.Address(); c != b {
		t.Errorf("it flaps: %v, %v", b, c)
	}
	// Nothing free at all.
	m.SetNetworks(now, []Network{{prefix("198.18.0.0/15"), "eth0"}, {prefix("250.0.0.0/8"), "wg0"}})
	m.Tick(now.Add(networkHold))
	blocker, blocked := m.Blocker()
	if c, _ := m.Address(); c.IsValid() || !blocked || blocker.What != "eth0" {
		t.Errorf("%v, blocked by %v %v", c, blocker, blocked)
	}
	// And free again.
	m.SetNetworks(now.Add(time.Hour), nil)
	if c, _ := m.Address(); !c.IsValid() {
		t.Error("no address though all is free")
	}
}

// TestLANOfOnePeer: what one host cannot use does not change for all others, unless nobody uses it yet.
func TestLANOfOnePeer(t *testing.T) {
	w := newWorld(t, 5, 4, DefaultRanges...)
	w.nodes[3].SetNetworks(w.now, []Network{{prefix("198.19.0.0/16"), "eth0"}})
	w.link(0, 1)
	w.run(time.Minute)
	before := slices.Clone(w.moves)
	w.link(0, 3)
	w.link(1, 3)
	w.link(2, 3) // new, and used by nobody
	w.run(time.Minute)
	if w.moves[0] != before[0] || w.moves[1] != before[1] {
		t.Errorf("settled nodes moved for one host's network: %v", w.moves)
	}
	if a, r := w.nodes[2].Address(); r != DefaultRanges[1] {
		t.Errorf("the new node has %v, which its only peer cannot use", a)
	}
	if _, ready := w.nodes[2].Ready(w.ids[3]); !ready {
		t.Error("and it still does not work")
	}
	ps := w.nodes[0].Problems()
	if len(ps) != 1 || ps[0].Peer != w.ids[3] || ps[0].Ours || ps[0].Verdict != NetworkClash || ps[0].Clash.Prefix != prefix("198.19.0.0/16") {
		t.Errorf("problems of node 0: %+v", ps)
	}
	if ps := w.nodes[3].Problems(); len(ps) != 2 || !ps[0].Ours || ps[0].Clash.What != "eth0" {
		t.Errorf("problems of node 3: %+v", ps)
	}
	// The network goes: all is well.
	w.nodes[3].SetNetworks(w.now, nil)
	w.run(time.Minute)
	if err := w.agreed(); err != nil {
		t.Error(err)
	}
}

func TestOff(t *testing.T) {
	w := newWorld(t, 6, 2, DefaultRanges...)
	w.nodes[1] = New(w.now, Config{Self: w.ids[1]})
	w.nodes[1].SetNetworks(w.now, nil)
	w.link(0, 1)
	w.run(10 * time.Minute)
	if a, _ := w.nodes[1].Address(); a.IsValid() || len(w.nodes[1].Peers()) != 0 || len(w.nodes[0].Problems()) != 0 {
		t.Errorf("a node without IPv4 has %v and %v", a, w.nodes[1].Peers())
	}
	if w.deliver > 6 {
		t.Errorf("%d messages to say so", w.deliver)
	}
	// Two of them, as by default, have nothing to say at all.
	w = newWorld(t, 6, 2)
	w.link(0, 1)
	w.run(10 * time.Minute)
	if w.deliver != 0 {
		t.Errorf("%d messages between two without IPv4", w.deliver)
	}
}

// TestSwitchedOff: a node that had an address says that it has none any more.
func TestSwitchedOff(t *testing.T) {
	w := newWorld(t, 6, 2, DefaultRanges...)
	w.link(0, 1)
	w.run(time.Minute)
	s := w.nodes[1].Save(func(netip.Addr) bool { return true })
	w.nodes[1] = New(w.now, Config{Self: w.ids[1], Saved: s})
	w.nodes[1].SetNetworks(w.now, nil)
	w.nodes[1].Up(w.now, w.ids[0]) // the other noticed no end of the session
	w.run(time.Minute)
	if got := w.nodes[0].Peers(); len(got) != 0 {
		t.Errorf("the other still has %v", got)
	}
}

// TestSilentPeer: an older daemon, or a stock peer, never answers.
func TestSilentPeer(t *testing.T) {
	m := New(start, Config{Self: overlay(1, 1), Ranges: DefaultRanges})
	m.SetNetworks(start, nil)
	now := start
	m.Up(now, overlay(1, 2))
	n := len(m.Outgoing())
	for range 1000 {
		now = now.Add(time.Second)
		m.Tick(now)
		n += len(m.Outgoing())
	}
	if n != maxRetries+1 || !m.Next().IsZero() {
		t.Errorf("%d messages to a peer that never answers, next %v", n, m.Next())
	}
}
