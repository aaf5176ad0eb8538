package path

import (
	"net/netip"
	"testing"
	"time"
)

var (
	fullCone       = natKind{name: "EIM/EIF"}
	restrictedCone = natKind{name: "EIM/ADF", filtering: addressDependent}
	portRestricted = natKind{name: "EIM/APDF", filtering: addressAndPortDependent}
	linuxFilter    = natKind{name: "linux", linux: true, inputFilter: true}
	linuxOpen      = natKind{name: "linux without input filter", linux: true}
	adm            = natKind{name: "ADM/ADF", mapping: addressDependent, filtering: addressDependent}
	admPort        = natKind{name: "ADM/APDF", mapping: addressDependent, filtering: addressAndPortDependent}
	symmetric      = natKind{name: "APDM/APDF", mapping: addressAndPortDependent, filtering: addressAndPortDependent}
	symmetricOpen  = natKind{name: "APDM/EIF", mapping: addressAndPortDependent}
	cgnat          = natKind{name: "linux in CGNAT EIM/APDF", linux: true, outer: &portRestricted}
	cgnatOpen      = natKind{name: "open linux in CGNAT EIM/EIF", linux: true, outer: &fullCone}
	cgnatSymmetric = natKind{name: "linux in CGNAT APDM/APDF", linux: true, outer: &symmetric}

	kinds = []*natKind{
		nil, &fullCone, &restrictedCone, &portRestricted, &linuxFilter, &linuxOpen, &adm, &admPort, &symmetric, &symmetricOpen, &cgnat, &cgnatOpen, &cgnatSymmetric,
	}
)

func nameOf(k *natKind) string {
	if k == nil {
		return "none"
	}
	return k.name
}

func dependent(k *natKind) bool {
	for ; k != nil; k = k.outer {
		if k.mapping != endpointIndependent {
			return true
		}
	}
	return false
}

// byPort reports whether a host can be reached only from a port it has sent to.
func byPort(k *natKind) bool {
	for ; k != nil; k = k.outer {
		if k.linux || k.filtering == addressAndPortDependent {
			return true
		}
	}
	return false
}

// TestPunch has every kind of NAT meet every other.
func TestPunch(t *testing.T) {
	for i, a := range kinds {
		for _, b := range kinds[i:] {
			t.Run(nameOf(a)+" and "+nameOf(b), func(t *testing.T) {
				w := newWorld(t, uint64(i))
				x, y := w.pair(a, b, 2)
				on := true
				w.meet(x, y, &on)
				direct := func() bool { return x.kindNow() == Direct && y.kindNow() == Direct }
				limit := 3 * time.Second
				switch {
				case dependent(a) && dependent(b):
					limit = 0
				case dependent(a) && byPort(b), dependent(b) && byPort(a):
					limit = 40 * time.Second
				}
				if limit == 0 {
					w.run(70*time.Second, nil)
					if x.gap > 200*time.Millisecond || y.gap > 200*time.Millisecond {
						t.Errorf("traffic stopped for %v, %v", x.gap, y.gap)
					}
					if x.sprayed+y.sprayed > 0 {
						t.Error("ports were predicted without hope")
					}
					return
				}
				if !w.run(limit, direct) {
					t.Fatalf("still %v and %v after %v", x.kindNow(), y.kindNow(), limit)
				}
				t.Logf("direct after %v, %d+%d probes, %d+%d for prediction", w.now, len(x.sent), len(y.sent), x.sprayed, y.sprayed)
				if limit == 3*time.Second && x.sprayed+y.sprayed > 0 {
					t.Error("ports were predicted without need")
				}
				w.run(30*time.Second, nil)
				if !direct() {
					t.Errorf("fell back to %v and %v", x.kindNow(), y.kindNow())
				}
				if x.gap > 100*time.Millisecond || y.gap > 100*time.Millisecond {
					t.Errorf("traffic stopped for %v, %v", x.gap, y.gap)
				}
			})
		}
	}
}

// TestPunchLossy has the offer and the answer lost now and then.
func TestPunchLossy(t *testing.T) {
	for seed := range uint64(30) {
		w := newWorld(t, seed)
		x, y := w.pair(&linuxOpen, &linuxOpen, 1)
		w.drop = func(*datagram) bool { return w.random.IntN(10) == 0 }
		on := true
		w.meet(x, y, &on)
		if !w.run(20*time.Second, func() bool { return x.kindNow() == Direct && y.kindNow() == Direct }) {
			t.Errorf("seed %d: still %v and %v", seed, x.kindNow(), y.kindNow())
		}
	}
}

// TestEarlyProbes shows what openers are for: with full probes in their place two Linux NATs without input filter never meet. One side begins.
func TestEarlyProbes(t *testing.T) {
	for _, openers := range []bool{false, true} {
		w := newWorld(t, 1)
		x, y := w.pair(&linuxOpen, &linuxOpen, 1)
		for _, h := range []*host{x, y} {
			if !openers {
				h.m.SetTTL(0)
			}
			h.m.SetCandidates(w.time(), h.candidates())
			h.m.Enable(w.time(), true)
		}
		on := true
		x.talk(20*time.Millisecond, &on)
		met := w.run(25*time.Second, func() bool { return x.kindNow() == Direct || y.kindNow() == Direct })
		if met != openers {
			t.Errorf("met %v, with openers %v", met, openers)
		}
	}
}

// TestRounds looks at when punching is tried again while it brings nothing, and when something changed.
func TestRounds(t *testing.T) {
	w := newWorld(t, 1)
	x, y := w.pair(&symmetric, &symmetric, 1)
	on := true
	w.meet(x, y, &on)
	var at []time.Duration
	last := instant(0)
	watch := func() bool {
		if r := x.m.work.round; r.began != last {
			last = r.began
			at = append(at, w.now)
		}
		return false
	}
	w.run(19*time.Minute, watch)
	want := []time.Duration{0, 5 * time.Second, 15 * time.Second, 50 * time.Second, 2 * time.Minute, 7 * time.Minute, 12 * time.Minute, 17 * time.Minute}
	if len(at) != len(want) {
		t.Fatalf("rounds at %v, want %v", at, want)
	}
	for i := range want {
		if d := at[i] - want[i]; d.Abs() > want[i]/10+time.Second {
			t.Errorf("round %d at %v, want %v", i, at[i], want[i])
		}
	}
	at = nil
	y.local = []Candidate{{Key: Key{x.main, netip.MustParseAddrPort("203.0.2.99:7")}, Kind: Direct}}
	x.offer()
	w.run(time.Second, watch)
	if len(at) != 1 {
		t.Errorf("a new candidate began %d rounds, want 1", len(at))
	}
}

// TestReopen has a NAT forget everything: the relay carries the traffic meanwhile. A NAT that takes the peer's last datagrams for its own is in the
// way until it has forgotten them.
func TestReopen(t *testing.T) {
	for _, c := range []struct {
		kind  *natKind
		limit time.Duration
	}{{&linuxFilter, 5 * time.Second}, {&linuxOpen, time.Minute}} {
		w := newWorld(t, 1)
		x, y := w.pair(c.kind, c.kind, 1)
		on := true
		w.meet(x, y, &on)
		direct := func() bool { return x.kindNow() == Direct && y.kindNow() == Direct }
		if !w.run(3*time.Second, direct) {
			t.Fatal("never direct")
		}
		w.run(20*time.Second, nil)
		x.gap, y.gap = 0, 0
		x.nats[0].reset()
		w.run(c.limit, nil)
		if !direct() {
			t.Errorf("%s: %v and %v %v after a NAT forgot its mappings", c.kind.name, x.kindNow(), y.kindNow(), c.limit)
		}
		if x.gap > 2500*time.Millisecond || y.gap > 2500*time.Millisecond {
			t.Errorf("%s: traffic stopped for %v, %v", c.kind.name, x.gap, y.gap)
		}
		t.Log(x.gap, y.gap)
	}
}

// A Base that tells of another endpoint with every breath has no more offers made than two a second, and what it tells last is tried.
func TestRestlessCandidates(t *testing.T) {
	m := New(nil)
	relay := Key{Carrier: new(int), Remote: netip.MustParseAddrPort("203.0.113.1:5582")}
	now := time.Unix(1_000_000, 0)
	m.Enable(now, true)
	m.Proved(now, relay, RelayUDP, 10*time.Millisecond)
	socket, offers := new(int), 0
	tried := make(map[Key]bool)
	poll := func() {
		m.Tick(now)
		for {
			o, ok := m.Poll(now)
			if !ok {
				return
			}
			if o.Signal == SignalOffer {
				offers++
			} else {
				tried[o.Probe.Key] = true
			}
		}
	}
	var last Key
	for i := range 2000 {
		last = Key{Carrier: socket, Remote: netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}), 5582)}
		m.SetCandidates(now, []Candidate{{Key: relay, Kind: RelayUDP}, {Key: last, Kind: Direct}})
		m.Traffic(now)
		poll()
		now = now.Add(time.Millisecond)
	}
	if offers > 8 {
		t.Errorf("%d offers in two seconds", offers)
	}
	for range 4500 { // 90 s: so long the quotas remember the addresses that never answered
		now = now.Add(20 * time.Millisecond)
		m.Traffic(now)
		poll()
	}
	if !tried[last] {
		t.Error("the last candidate was never tried")
	}
}
