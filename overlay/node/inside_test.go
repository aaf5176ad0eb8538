package node

import (
	"net/netip"
	"testing"
)

func TestInside(t *testing.T) {
	var i inside
	asked := 0
	ask := func(a netip.Addr) bool { asked++; return a.Is6() }
	four, six := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	for range 100 {
		if i.of(noon, four, ask) || !i.of(noon, six, ask) {
			t.Fatal("wrong answer")
		}
	}
	if asked != 2 {
		t.Errorf("the kernel was asked %d times", asked)
	}
	i.of(noon.Add(insideFor), four, ask)
	i.forget()
	i.of(noon.Add(insideFor), four, ask)
	if asked != 4 {
		t.Errorf("the kernel was asked %d times, want anew after a while and when links changed", asked)
	}
	for a := four; len(i.answers) <= maxInside && asked < 3*maxInside; a = a.Next() {
		i.of(noon, a, ask)
	}
	if len(i.answers) > maxInside {
		t.Errorf("%d answers are remembered", len(i.answers))
	}
}
