package machine

import (
	"net/netip"
	"slices"
	"testing"
	"time"
)

// Both libraries' groups of IPv6 are announced to, as that of IPv4 is: each library knows its own alone.
func TestGroups(t *testing.T) {
	s := newSimulation(t)
	a := s.start()
	interfaces := simInterfaces(1)
	interfaces[1].Addrs = append(interfaces[1].Addrs, netip.MustParsePrefix("fd00::1/64"))
	var to []netip.Addr
	s.tap = func(_ *simNode, d Datagram) {
		if d.To.Addr().IsMulticast() && d.To.Port() == 7400 && d.Interface == 2 && !slices.Contains(to, d.To.Addr()) {
			to = append(to, d.To.Addr())
		}
	}
	a.do(func() { a.m.SetInterfaces(s.now, interfaces) })
	s.run(time.Second)
	want := []netip.Addr{netip.MustParseAddr("239.255.0.1"), netip.MustParseAddr("ff02::ffff:239.255.0.1"), netip.MustParseAddr("ff1e::ffff:efff:1")}
	if !slices.Equal(to, want) {
		t.Errorf("announced to %v", to)
	}
	if joined := append(Groups(false), Groups(true)...); !slices.Equal(joined, want) {
		t.Errorf("joined %v", joined)
	}
}
