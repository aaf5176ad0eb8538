package path

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

func TestRoles(t *testing.T) {
	for _, c := range []struct {
		own, peer Mapping
		role      Role
	}{
		{Independent, Dependent, Easy}, {Dependent, Independent, Hard}, {UnknownMapping, Dependent, Easy}, {Dependent, UnknownMapping, Hard},
		{Independent, Independent, NoRole}, {Dependent, Dependent, NoRole}, {UnknownMapping, UnknownMapping, NoRole}, {Independent, UnknownMapping, NoRole},
	} {
		if got := RoleOf(c.own, c.peer); got != c.role {
			t.Errorf("own %d, peer %d: role %d", c.own, c.peer, got)
		}
	}
}

// TestSprayEasy holds the easy side to its bounds: one address, no port twice, rate, rounds, and an end.
func TestSprayEasy(t *testing.T) {
	target := netip.MustParseAddrPort("203.0.113.1:1")
	s := NewSpray(epoch, rand.NewPCG(1, 2), Easy, target, 0)
	seen := map[netip.AddrPort]bool{}
	var at []time.Time
	end := epoch
	for now := epoch; !s.Done(); now = now.Add(time.Millisecond) {
		for {
			p, ok := s.Poll(now)
			if !ok {
				break
			}
			if p.Remote.Addr() != target.Addr() || p.Remote.Port() < 1024 || seen[p.Remote] || p.Socket != -1 {
				t.Fatalf("probe %+v", p)
			}
			seen[p.Remote] = true
			at = append(at, now)
		}
		if next := s.Next(); !next.IsZero() && !next.After(now) {
			t.Fatal("Next is past")
		}
		end = now
	}
	if len(at) > 6003 || len(at) < 5990 {
		t.Errorf("%d probes", len(at))
	}
	for i := range at {
		if i+SprayRate+5 < len(at) && at[i+SprayRate+5].Sub(at[i]) < time.Second {
			t.Fatal("too fast")
		}
	}
	if d := end.Sub(epoch); d > 51*time.Second {
		t.Errorf("took %v", d)
	}
	// Whoever comes late does not send all at once.
	s = NewSpray(epoch, rand.NewPCG(1, 2), Easy, target, 0)
	n := 0
	for {
		if _, ok := s.Poll(epoch.Add(5 * time.Second)); !ok {
			break
		}
		n++
	}
	if n > 6 {
		t.Errorf("%d probes at once after a pause", n)
	}
	s.Stop()
	if _, ok := s.Poll(epoch.Add(time.Minute)); ok || !s.Done() {
		t.Error("goes on after Stop")
	}
}

// TestSprayHard: every socket opens in each pass, low first.
func TestSprayHard(t *testing.T) {
	target := netip.MustParseAddrPort("203.0.113.1:1")
	s := NewSpray(epoch, rand.NewPCG(1, 2), Hard, target, 4)
	var low, full [SpraySockets]int
	for now := epoch; !s.Done(); now = now.Add(time.Millisecond) {
		for {
			p, ok := s.Poll(now)
			if !ok {
				break
			}
			if p.Remote != target {
				t.Fatalf("probe %+v", p)
			}
			if p.TTL == 4 {
				low[p.Socket]++
			} else {
				full[p.Socket]++
			}
		}
	}
	for i := range SpraySockets {
		if low[i] < 2 || full[i] < 2 || low[i]+full[i] > 6 {
			t.Errorf("socket %d opened %d + %d times", i, low[i], full[i])
		}
	}
}

// TestOdds compares the odds of field measurements (50 probes a second: 45 % after 3 s, 86 % after 10 s, 95 % after 15 s, 99.9 % after 35 s) and those
// stated for our rate with what the machine's ports meet.
func TestOdds(t *testing.T) {
	const trials = 20000
	random := rand.New(rand.NewPCG(5, 6))
	marks := []int{150, 500, 750, 1750, 3 * SprayRate, 5 * SprayRate, 10 * SprayRate}
	met := make([]int, len(marks))
	for range trials {
		s := NewSpray(epoch, random, Easy, netip.MustParseAddrPort("203.0.113.1:1"), 0)
		var open [1 << 16]bool
		for n := 0; n < SpraySockets; {
			if p := firstPort + random.IntN(65536-firstPort); !open[p] {
				open[p] = true
				n++
			}
		}
		first := 0
		for first < marks[len(marks)-1] && !open[s.port()] {
			first++
		}
		for i, n := range marks {
			if first < n {
				met[i]++
			}
		}
	}
	for i, want := range []float64{0.45, 0.86, 0.95, 0.999, 0.908, 0.981, 0.9996} {
		got := float64(met[i]) / trials
		t.Logf("%4d probes: %.4f", marks[i], got)
		if sigma := math.Sqrt(want * (1 - want) / trials); math.Abs(got-want) > 4*sigma+0.005 {
			t.Errorf("%d probes meet with %.4f, want %.4f", marks[i], got, want)
		}
	}
}
