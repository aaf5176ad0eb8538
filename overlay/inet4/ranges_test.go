package inet4

import (
	"net/netip"
	"testing"
)

func TestCandidate(t *testing.T) {
	// docs/protocol.md has these.
	for _, c := range []struct {
		overlay string
		i       int
		want    string
	}{
		{"fc94:1b7f:432:c8eb:c27b:9fad:cd51:2e85", 0, "198.19.73.46"},
		{"fc94:1b7f:432:c8eb:c27b:9fad:cd51:2e85", 1, "198.19.12.147"},
		{"fc94:46a6:4636:9da2:964e:6fbf:1845:cec", 0, "198.19.34.116"},
	} {
		got, ok := Candidate(netip.MustParseAddr(c.overlay), DefaultRanges[0], c.i)
		if got.String() != c.want || !ok {
			t.Errorf("%s, %d: %v %v, want %s", c.overlay, c.i, got, ok, c.want)
		}
	}
	spread := make(map[netip.Addr]bool)
	for i := range 1000 {
		a, ok := Candidate(overlay(1, 1), prefix("198.19.0.0/24"), i)
		if ok {
			spread[a] = true
		}
		if ok != isHost(a, prefix("198.19.0.0/24")) || !prefix("198.19.0.0/24").Contains(a) {
			t.Fatalf("candidate %v", a)
		}
	}
	if len(spread) < 240 {
		t.Errorf("1000 candidates are %d of 254 addresses", len(spread))
	}
}

func TestCheckRange(t *testing.T) {
	for _, s := range []string{"10.94.0.0/16", "172.30.0.0/24", "192.168.77.0/28", "100.100.0.0/20", "198.18.0.0/15", "240.0.0.0/8", "10.0.0.0/8"} {
		if err := CheckRange(netip.MustParsePrefix(s)); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	for _, r := range DefaultRanges {
		if err := CheckRange(r); err != nil {
			t.Error(err)
		}
	}
	for _, s := range []string{"8.8.8.0/24", "0.0.0.0/0", "127.0.0.0/8", "224.0.0.0/8", "169.254.0.0/16", "10.94.0.1/16", "10.94.0.0/29", "172.0.0.0/8", "255.0.0.0/8", "fd00::/48", "198.0.0.0/8"} {
		if err := CheckRange(netip.MustParsePrefix(s)); err == nil {
			t.Errorf("%s is taken", s)
		}
	}
}
