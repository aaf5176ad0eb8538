package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/test/internet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }

// TestTellingPairs runs those pairs of the matrix that fail first when something is broken.
func TestTellingPairs(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the real programs")
	}
	for _, p := range []Pair{
		{A: internet.PortRestricted, B: internet.Symmetric}, // first, as it takes longest: the port is guessed
		{A: internet.LinuxNAT, B: internet.LinuxNAT},        // openers that must not reach the other router
		{A: internet.DoubleNAT, B: internet.PortRestricted},
		{A: internet.AddressRestricted, B: internet.Symmetric},
		{A: internet.Symmetric, B: internet.UPnP}, // a mapped port
		{A: internet.UDPBlocked, B: internet.Symmetric},
		{A: internet.IPv6Only, B: internet.IPv4Only}, // the Base has both
		{A: internet.PortRestricted, B: internet.PortRestricted, Place: sameNAT},
	} {
		t.Run(p.String(), func(t *testing.T) {
			t.Parallel()
			var r Result
			try(t, p, &r)
			if fail := r.Fail(); fail != "" {
				t.Errorf("%s; the daemon says: %s", fail, r.Diagnosis)
			}
			t.Logf("first ping %v, direct after %v, %s", r.First, r.Direct, paths(r))
		})
	}
}

func TestRequirements(t *testing.T) {
	for _, test := range []struct {
		pair Pair
		want time.Duration
	}{
		{Pair{A: internet.Public, B: internet.Public}, soon},
		{Pair{A: internet.Public, B: internet.IPv6Only}, soon},
		{Pair{A: internet.LinuxNAT, B: internet.DoubleNAT}, soon},
		{Pair{A: internet.UPnP, B: internet.UPnP}, soon},
		{Pair{A: internet.Symmetric, B: internet.UPnP}, guessing},
		{Pair{A: internet.PortRestricted, B: internet.Symmetric}, guessing},
		{Pair{A: internet.Symmetric, B: internet.Symmetric}, 0},
		{Pair{A: internet.UDPBlocked, B: internet.Public}, 0},
		{Pair{A: internet.IPv6Only, B: internet.IPv4Only}, 0},
		{Pair{A: internet.IPv6Only, B: internet.PortRestricted}, 0},
		{Pair{A: internet.PortRestricted, B: internet.PortRestricted, Place: sameNAT}, soon},
	} {
		got := test.pair.requirement()
		if got.Direct != test.want || (got.Why == "") != (got.Direct != 0) {
			t.Errorf("%v: %+v, want %v", test.pair, got, test.want)
		}
	}
	seen := map[Pair]bool{}
	for _, p := range pairs() {
		if seen[p] || seen[Pair{p.B, p.A, p.Place}] {
			t.Errorf("%v is there twice", p)
		}
		seen[p] = true
	}
	if n := len(kinds); len(seen) != n*(n+1)/2+4 {
		t.Errorf("%d pairs", len(seen))
	}
}

func TestReport(t *testing.T) {
	ok := Result{Pair: Pair{A: internet.FullCone, B: internet.PortRestricted}, Connected: true, First: 30 * time.Millisecond, Direct: 240 * time.Millisecond,
		PathA: api.PathDirect, PathB: api.PathDirect}
	relayed := Result{Pair: Pair{A: internet.Symmetric, B: internet.UDPBlocked}, Connected: true, First: time.Second, PathA: api.PathRelayUDP, PathB: api.PathRelayTCP}
	slow := ok
	slow.Pair, slow.Direct = Pair{A: internet.LinuxNAT, B: internet.LinuxNAT}, 3500*time.Millisecond
	never := Result{Pair: Pair{A: internet.Public, B: internet.Public}, PathA: api.PathNone, PathB: api.PathNone, Diagnosis: "a | b\nc"}
	broken := Result{Pair: Pair{A: internet.UPnP, B: internet.UPnP}, Connected: true, Direct: time.Second, Trouble: "no lab"}
	var b bytes.Buffer
	if err := write(&b, []Result{ok, relayed, slow, never, broken}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| full cone – port-restricted | yes | 30 | 0.2 | direct | within 3s | pass |",
		"| symmetric – UDP blocked | yes | 1000 | – | relay by udp / relay by tcp | no: no UDP on one side | pass |",
		"| **FAIL**: direct only after 3.5 s |",
		"| no | – | – | none | within 3s | **FAIL**: not connected; the daemon says: a \\| b c |",
		"| **FAIL**: no lab |",
		"5 pairs, 2 as required.",
		"| **port-restricted** | | 0.2 | |",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, b.String())
		}
	}
}
