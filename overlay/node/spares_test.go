package node

import (
	"net/netip"
	"testing"

	"github.com/hnet-robotics/hnet_bridge/overlay/engine"
	"github.com/hnet-robotics/hnet_bridge/overlay/stun"
)

func TestSpares(t *testing.T) {
	at := netip.MustParseAddrPort
	s := newSpares()
	routed := func(netip.Addr) uint32 { return 3 }
	if q := s.questions(routed); len(q) != 0 {
		t.Errorf("%d questions without Bases and uplinks", len(q))
	}
	for i, base := range []string{"198.51.100.1:5582", "198.51.100.2:5582", "198.51.100.3:5582", "[2001:db8::1]:5582"} {
		s.setBase(netip.AddrFrom4([4]byte{byte(i)}), at(base))
	}
	s.setBase(netip.AddrFrom4([4]byte{2}), netip.AddrPort{}) // lost
	s.setUplinks([]engine.Uplink{
		{Interface: 3, IPv4: netip.MustParseAddr("192.0.2.1"), IPv6: netip.MustParseAddr("2001:db8:1::1")},
		{Interface: 4, IPv4: netip.MustParseAddr("10.64.0.1")},
	})
	q := s.questions(routed)
	if len(q) != 2 || !s.open() {
		t.Fatalf("%d questions, want one to each of two Bases by the uplink that routing does not choose", len(q))
	}
	mapped := at("203.0.113.5:40001")
	for _, m := range q {
		if !m.Bound || m.Local.Interface != 4 || m.Local.Addr != netip.MustParseAddr("10.64.0.1") || !m.Remote.Addr().Is4() {
			t.Errorf("a question by %+v to %v, bound %v", m.Local, m.Remote, m.Bound)
		}
		id, ok := stun.ParseRequest(m.Buf)
		if !ok {
			t.Fatal("no question")
		}
		if s.handle(stun.AppendSuccess(nil, [12]byte{1}, mapped)) {
			t.Error("an answer to nothing was taken")
		}
		if !s.handle(stun.AppendSuccess(nil, id, mapped)) || s.handle(stun.AppendSuccess(nil, id, mapped)) {
			t.Error("an answer is taken once")
		}
	}
	if got := s.result(); s.open() || len(got) != 1 || got[0] != mapped {
		t.Errorf("found %v", got)
	}
	s.setUplinks(nil)
	if q := s.questions(routed); len(q) != 0 || len(s.result()) != 0 {
		t.Error("what was found by an uplink that is gone is kept")
	}
}
