package nat

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/stun"
)

const (
	private = "192.168.1.2:5582"
	public  = "198.51.100.9:5582"
	baseX   = "192.0.2.1"
	baseY   = "192.0.2.65"
	away    = time.Hour + 10*time.Minute
)

var kinds = []struct {
	name   string
	inside string
	nat    *simNAT
	open   bool
	want   Kind
	words  string
}{
	{"none", public, nil, true, None, "none"},
	{"firewall", public, nil, false, None, "none"},
	{"full cone", private, &simNAT{mapping: MappingIndependent, filtering: FilteringIndependent, hairpin: true}, false, AddressRestricted,
		"endpoint-independent mapping, address-dependent filtering (address-restricted)"},
	{"address-restricted", private, &simNAT{mapping: MappingIndependent, filtering: FilteringAddress}, false, AddressRestricted,
		"endpoint-independent mapping, address-dependent filtering (address-restricted)"},
	{"port-restricted", private, &simNAT{mapping: MappingIndependent, filtering: FilteringAddressPort, base: 40000}, false, PortRestricted,
		"endpoint-independent mapping, address-and-port-dependent filtering (port-restricted)"},
	{"long memory", private, &simNAT{mapping: MappingIndependent, filtering: FilteringAddressPort, memory: 9 * time.Minute}, false, PortRestricted,
		"endpoint-independent mapping, address-and-port-dependent filtering (port-restricted)"},
	{"symmetric", private, &simNAT{mapping: MappingDependent, filtering: FilteringAddressPort, base: 30000}, false, Symmetric, "symmetric"},
}

func clone(n *simNAT) *simNAT {
	if n == nil {
		return nil
	}
	c := *n
	return &c
}

// Every kind is told within 20 s of registration, with one Base and with two, and stays what it is for hours.
func TestKinds(t *testing.T) {
	for _, k := range kinds {
		for _, bases := range [][]string{{baseX}, {baseX, baseY}} {
			t.Run(fmt.Sprintf("%s, %d Bases", k.name, len(bases)), func(t *testing.T) {
				s := newSim(t, 1, k.inside, clone(k.nat), bases...)
				s.open = k.open
				if got := s.machine.Result(); got.Kind() != Unknown || got.String() != "unknown" {
					t.Fatalf("before anything is known: %s", got)
				}
				s.register()
				s.run(20 * time.Second)
				if got := s.machine.Result(); !got.Confirmed && (k.want != Symmetric || len(bases) > 1) {
					t.Error("not confirmed")
				}
				for range 12 {
					got := s.machine.Result()
					if got.Kind() != k.want || got.String() != k.words {
						t.Fatalf("%v: %s (%s), want %s (%s)", s.now, got.Kind(), got, k.want, k.words)
					}
					s.run(20 * time.Minute)
				}
				got := s.machine.Result()
				if !got.Confirmed {
					t.Error("not confirmed after hours")
				}
				if firewall := k.name == "firewall"; firewall != (got.Filtering == FilteringAddressPort) && k.want == None {
					t.Errorf("firewall: %v", got.Filtering)
				}
				wantHairpin := HairpinUnknown
				if k.nat != nil && k.nat.mapping == MappingIndependent {
					wantHairpin = HairpinFails
					if k.nat.hairpin {
						wantHairpin = HairpinWorks
					}
				}
				if got.Hairpin != wantHairpin {
					t.Errorf("hairpin %d, want %d", got.Hairpin, wantHairpin)
				}
				if got.Rebinds != 0 {
					t.Errorf("%d rebinds of a steady mapping", got.Rebinds)
				}
			})
		}
	}
}

// A datagram in ten is lost each way: of 40 hosts of each kind, all are told right.
func TestKindsLossy(t *testing.T) {
	for _, k := range kinds {
		for seed := range uint64(40) {
			s := newSim(t, seed, k.inside, clone(k.nat), []string{baseX, baseY}[:1+seed%2]...)
			s.loss, s.open = 0.1, k.open
			s.register()
			s.run(30 * time.Second)
			if got := s.machine.Result(); got.Kind() != k.want {
				t.Errorf("%s, seed %d: %s, want %s", k.name, seed, got.Kind(), k.want)
			}
		}
	}
}

// With most datagrams lost nothing is called laxer than it is.
func TestLossIsStrict(t *testing.T) {
	for seed := range uint64(60) {
		s := newSim(t, seed, private, &simNAT{mapping: MappingIndependent, filtering: FilteringAddressPort}, baseX, baseY)
		s.loss = 0.7
		s.register()
		s.run(3 * time.Hour)
		if got := s.machine.Result().Kind(); got != PortRestricted && got != Unknown {
			t.Errorf("seed %d: %s", seed, got)
		}
	}
}

// A Linux router without a firewall keeps the place of a filter probe in its table: it must not look symmetric for that.
func TestClash(t *testing.T) {
	for _, bases := range [][]string{{baseX}, {baseX, baseY}} {
		s := newSim(t, 1, private, &simNAT{mapping: MappingIndependent, filtering: FilteringAddressPort, clash: true}, bases...)
		s.register()
		s.run(20 * time.Second)
		if got := s.machine.Result(); got.Kind() != PortRestricted {
			t.Fatalf("%d Bases, at first: %s, confirmed %v", len(bases), got, got.Confirmed)
		}
		s.run(4 * time.Minute)
		for range 100 {
			if got := s.machine.Result(); got.Kind() != PortRestricted || !got.Confirmed {
				t.Fatalf("%d Bases, %v: %s, confirmed %v", len(bases), s.now, got, got.Confirmed)
			}
			s.run(time.Minute)
		}
	}
}

// The alternate port is sent to if there is one Base alone, and at once: the kind is known within two seconds.
func TestOrder(t *testing.T) {
	for _, bases := range [][]string{{baseX}, {baseX, baseY}} {
		s := newSim(t, 1, private, &simNAT{mapping: MappingIndependent, filtering: FilteringAddressPort}, bases...)
		alternate := netip.AddrPortFrom(netip.MustParseAddr(baseX), 3478)
		s.register()
		s.run(2 * time.Second)
		if got := s.machine.Result().Mapping; got != MappingIndependent {
			t.Errorf("%d Bases: after 2 s %v", len(bases), got)
		}
		s.run(10 * time.Hour)
		if n := s.to[alternate]; (n > 0) != (len(bases) == 1) {
			t.Errorf("%d Bases: %d datagrams to an alternate port", len(bases), n)
		}
	}
}

func TestRareTraffic(t *testing.T) {
	for _, k := range kinds {
		s := newSim(t, 1, k.inside, clone(k.nat), baseX)
		s.register()
		s.run(24 * time.Hour)
		if s.sent > 30*12 {
			t.Errorf("%s: %d datagrams in a day", k.name, s.sent)
		}
	}
	// A link that comes and goes every second.
	s := newSim(t, 1, private, clone(kinds[4].nat), baseX, baseY)
	s.register()
	for i := range 3600 {
		s.machine.LinksChanged(s.now, []netip.AddrPort{s.inside, netip.MustParseAddrPort("10.0.0.1:5582")}[:1+i%2])
		s.run(time.Second)
	}
	if s.sent > 3600/15*14 {
		t.Errorf("a flapping link: %d datagrams in an hour", s.sent)
	}
	if got := s.machine.Result().Kind(); got != Cone { // there was never the time for a filter test
		t.Errorf("a flapping link: %s", got)
	}
	s.run(time.Minute)
	if got := s.machine.Result().Kind(); got != PortRestricted {
		t.Errorf("the link is steady again: %s", got)
	}
}

// A robot that moves to another network is told anew within 10 s of its Bases' noticing.
func TestRoam(t *testing.T) {
	s := newSim(t, 1, private, clone(kinds[4].nat), baseX, baseY)
	s.register()
	s.run(time.Minute)
	if got := s.machine.Result(); got.Kind() != PortRestricted || got.Observed4 != netip.MustParseAddrPort("203.0.113.1:40000") {
		t.Fatalf("at home: %s, %v", got, got.Observed4)
	}
	s.swap(&simNAT{mapping: MappingDependent, filtering: FilteringAddressPort, external: netip.MustParseAddr("100.64.7.7"), base: 1024})
	s.inside = netip.MustParseAddrPort("10.1.1.1:5582")
	s.machine.LinksChanged(s.now, []netip.AddrPort{s.inside})
	if got := s.machine.Result(); got.Kind() != Unknown || got.Observed4.IsValid() {
		t.Errorf("right after the move: %s, %v", got, got.Observed4)
	}
	s.run(26 * time.Second) // the keepalive, at the latest
	s.run(10 * time.Second)
	if got := s.machine.Result(); got.Kind() != Symmetric || got.Observed4.Addr() != s.nat.external {
		t.Errorf("after the move: %s, %v", got, got.Observed4)
	}
	s.run(5 * time.Minute)
	if got := s.machine.Result(); got.Kind() != Symmetric || !got.Confirmed {
		t.Errorf("later: %s, confirmed %v", got, got.Confirmed)
	}
}

// The router forgets its mappings now and then: counted, and no reason to think that it is symmetric.
func TestRebind(t *testing.T) {
	s := newSim(t, 1, private, clone(kinds[4].nat), baseX, baseY)
	s.register()
	s.run(5 * time.Second)
	for i := range uint16(5) {
		n := clone(kinds[4].nat)
		n.base = 50000 + i
		s.swap(n)
		s.run(20 * time.Minute)
		if got := s.machine.Result(); got.Kind() != PortRestricted || got.Rebinds != int(i)+1 || got.Observed4.Port() != n.base {
			t.Errorf("%s, %d rebinds of %d, %v", got, got.Rebinds, i+1, got.Observed4)
		}
	}
}

func TestUDPBlocked(t *testing.T) {
	s := newSim(t, 1, private, clone(kinds[4].nat), baseX)
	via := netip.AddrPortFrom(netip.MustParseAddr(baseX), mainPort)
	overTCP := Registration{Base: baseName(0), UDP: []netip.AddrPort{via}, Observed: netip.MustParseAddrPort("203.0.113.1:41000")}
	s.blocked = true
	s.machine.Registered(s.now, overTCP)
	s.run(5 * time.Second)
	if got := s.machine.Result(); got.UDPBlocked {
		t.Fatal("called blocked before the tests were over")
	}
	s.run(10 * time.Second)
	if got := s.machine.Result(); got.Kind() != UDPBlocked || got.String() != "udp blocked" || got.Traversable() {
		t.Fatalf("blocked: %s", got)
	}
	// No Base at all is no proof.
	s.machine.Lost(baseName(0))
	if got := s.machine.Result(); got.UDPBlocked {
		t.Error("blocked without a Base")
	}
	s.machine.Registered(s.now, overTCP)
	// UDP works again: the Base client registers by it.
	s.blocked = false
	s.register()
	s.run(30 * time.Second)
	if got := s.machine.Result(); got.Kind() != PortRestricted {
		t.Errorf("no longer blocked: %s", got)
	}
	// And is blocked again.
	s.machine.Lost(baseName(0))
	s.blocked = true
	s.queue.Clear()
	s.machine.Registered(s.now, overTCP)
	s.run(30 * time.Second)
	if got := s.machine.Result(); got.Kind() != UDPBlocked {
		t.Errorf("blocked again: %s", got)
	}
}

// A registration over TCP is good for the mapping only; when it moves to UDP, the filtering is found too.
func TestTCPFirst(t *testing.T) {
	s := newSim(t, 1, private, clone(kinds[4].nat), baseX, baseY)
	for i, b := range []string{baseX, baseY} {
		s.machine.Registered(s.now, Registration{Base: baseName(i), UDP: []netip.AddrPort{netip.MustParseAddrPort(b + ":5582")}, Alternate: 3478})
	}
	s.run(20 * time.Second)
	if got := s.machine.Result(); got.Kind() != Cone || got.UDPBlocked {
		t.Fatalf("over TCP: %s", got)
	}
	s.register()
	s.run(40 * time.Second)
	if got := s.machine.Result(); got.Kind() != PortRestricted {
		t.Errorf("over UDP: %s", got)
	}
}

// A Base that does not answer STUN, or dies during a filter test, spoils nothing.
func TestDeadBase(t *testing.T) {
	s := newSim(t, 1, private, &simNAT{mapping: MappingIndependent, filtering: FilteringAddress}, baseX, baseY)
	s.register()
	s.run(1200 * time.Millisecond) // in the midst of the round
	for _, b := range s.bases {
		b.dead = b.name == baseName(0)
	}
	s.machine.Lost(baseName(0))
	s.run(30 * time.Second)
	if got := s.machine.Result(); got.Filtering == FilteringAddressPort || got.Mapping == MappingDependent {
		t.Errorf("%s", got)
	}
}

func TestStranger(t *testing.T) {
	s := newSim(t, 1, private, clone(kinds[2].nat), baseX)
	s.machine.Stranger(netip.MustParseAddrPort("192.168.1.2:7")) // ourselves
	s.register()
	s.run(20 * time.Second)
	s.machine.Stranger(netip.MustParseAddrPort(baseX + ":7")) // no stranger
	if got := s.machine.Result().Kind(); got != AddressRestricted {
		t.Fatalf("%s", got)
	}
	s.machine.Stranger(netip.MustParseAddrPort("[::ffff:198.51.100.77]:999"))
	s.run(away)
	if got := s.machine.Result(); got.Kind() != FullCone || got.String() != "endpoint-independent mapping, endpoint-independent filtering (full cone)" {
		t.Errorf("%s", got)
	}
}

// A host with two uplinks is behind two NATs: what left by different local addresses is not compared.
func TestTwoUplinks(t *testing.T) {
	m, now := New(rand.NewPCG(1, 1)), time.Unix(1000, 0)
	local := []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("192.168.1.2")}
	m.LinksChanged(now, []netip.AddrPort{netip.AddrPortFrom(local[0], 5582), netip.AddrPortFrom(local[1], 5582)})
	for i, b := range []string{baseX, baseY} {
		m.Registered(now, Registration{Base: baseName(i), Via: netip.MustParseAddrPort(b + ":5582"), Observed: netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}), 5582)})
	}
	for m.Result().Measured.IsZero() {
		now = m.Next()
		for a, ok := m.Poll(now); ok; a, ok = m.Poll(now) {
			id, _ := stun.ParseRequest(a.Data)
			i := 0
			if a.To.Addr().String() == baseY {
				i = 1
			}
			m.Handle(now, stun.AppendSuccess(nil, id, netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}), 5582)), a.To, local[i])
		}
	}
	if got := m.Result().Mapping; got != MappingUnknown {
		t.Errorf("%v", got)
	}
}

func TestIPv6(t *testing.T) {
	for _, open := range []bool{true, false} {
		s := newSim(t, 1, "[2001:db8:1::2]:5582", nil, "2001:db8:ff::1")
		s.open = open
		if got := s.machine.Result().IPv6(); got != "unknown" {
			t.Fatal(got)
		}
		s.register()
		s.run(20 * time.Second)
		want := map[bool]string{true: "none", false: "firewalled"}[open]
		if got := s.machine.Result(); got.IPv6() != want || got.Kind() != None || got.Observed6 != s.inside {
			t.Errorf("%s, %s, %v", got.IPv6(), got.Kind(), got.Observed6)
		}
	}
	s := newSim(t, 1, "[fd00::2]:5582", &simNAT{mapping: MappingIndependent, external: netip.MustParseAddr("2001:db8:1::2")}, "2001:db8:ff::1", "2001:db8:ee::1")
	s.register()
	s.run(20 * time.Second)
	if got := s.machine.Result().IPv6(); got != "translated" {
		t.Error(got)
	}
	// Of a host with both, the kind is that of IPv4.
	s.machine.LinksChanged(s.now, []netip.AddrPort{s.inside, netip.MustParseAddrPort(private)})
	if got := s.machine.Result().Kind(); got != Unknown {
		t.Error(got)
	}
}

// Answers that are not ours change nothing.
func TestForgery(t *testing.T) {
	m, now := New(rand.NewPCG(1, 1)), time.Unix(1000, 0)
	x := netip.MustParseAddrPort(baseX + ":5582")
	m.LinksChanged(now, []netip.AddrPort{netip.MustParseAddrPort(private)})
	m.Registered(now, Registration{Base: baseName(0), Via: x, Observed: netip.MustParseAddrPort("203.0.113.1:5582"), Alternate: 3478})
	now = m.Next()
	var stunID, nonce [12]byte
	for a, ok := m.Poll(now); ok; a, ok = m.Poll(now) {
		if a.Data != nil {
			stunID, _ = stun.ParseRequest(a.Data)
		} else {
			nonce = a.Nonce
		}
	}
	before := m.Result()
	mapped := netip.MustParseAddrPort("203.0.113.1:5582")
	if m.Handle(now, stun.AppendSuccess(nil, stunID, mapped), netip.MustParseAddrPort("192.0.2.99:5582"), netip.Addr{}) ||
		m.Handle(now, stun.AppendSuccess(nil, [12]byte{1}, mapped), x, netip.Addr{}) ||
		m.Handle(now, stun.AppendRequest(nil, stunID), x, netip.Addr{}) || m.Handle(now, nil, x, netip.Addr{}) || m.Handle(now, []byte{1}, netip.AddrPort{}, netip.Addr{}) {
		t.Error("a forged message was taken for ours")
	}
	m.Handle(now, stun.AppendSuccess(nil, stunID, netip.MustParseAddrPort("[2001:db8::1]:5582")), x, netip.Addr{}) // of the wrong family
	m.FilterProbe(now, nonce, x)
	other := nonce
	other[0]++
	m.FilterProbe(now, other, netip.AddrPortFrom(x.Addr(), 3478))
	other = nonce
	other[11] = 9
	m.FilterProbe(now, other, netip.AddrPortFrom(x.Addr(), 3478))
	if got := m.Result(); got != before {
		t.Errorf("%+v, before %+v", got, before)
	}
	m.FilterProbe(now, nonce, netip.AddrPortFrom(x.Addr(), 3478))
	if got := m.Result().Filtering; got != FilteringAddress {
		t.Errorf("the true probe: %v", got)
	}
}

// Whatever happens, in whatever order: no panic, bounded tables and bounded traffic.
func FuzzMachine(f *testing.F) {
	f.Add([]byte{0, 0, 1, 4, 2, 9, 3, 1, 4, 200, 5, 7, 6, 3, 7, 100, 8, 1})
	f.Add([]byte{0, 0, 0, 1, 0, 2, 7, 20, 7, 255, 3, 0, 3, 1, 7, 255, 7, 255, 2, 1, 7, 255})
	f.Fuzz(func(t *testing.T, script []byte) {
		m, start := New(rand.NewPCG(1, 2)), time.Unix(1000, 0)
		now := start
		endpoint := func(b byte) netip.AddrPort {
			if b&0x80 != 0 {
				return netip.AddrPortFrom(netip.AddrFrom16([16]byte{0x20, 1, 15: b & 7}), uint16(b))
			}
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte{b << 3, 0, 2, b & 7}), uint16(b>>4)*1000)
		}
		var last []Action
		sent := 0
		for len(script) >= 2 && len(last) < 10000 {
			op, b := script[0], script[1]
			script = script[2:]
			switch op % 9 {
			case 0:
				m.Registered(now, Registration{Base: baseName(int(b & 15)), UDP: []netip.AddrPort{endpoint(b), endpoint(b ^ 0x80)}, Via: endpoint(b), Observed: endpoint(b >> 1), Alternate: uint16(b)})
			case 1:
				m.Lost(baseName(int(b & 15)))
			case 2:
				m.Observed(now, baseName(int(b&15)), endpoint(b))
			case 3:
				m.LinksChanged(now, []netip.AddrPort{endpoint(b), endpoint(b ^ 0x80), {}}[b&1:])
			case 4:
				m.Stranger(endpoint(b))
			case 5, 6:
				if len(last) == 0 {
					break
				}
				if a := last[int(b)%len(last)]; a.Data == nil {
					m.FilterProbe(now, a.Nonce, endpoint(b))
				} else if id, _ := stun.ParseRequest(a.Data); op%9 == 5 {
					m.Handle(now, stun.AppendSuccess(nil, id, endpoint(b)), a.To, netip.Addr{})
				} else {
					m.Handle(now, a.Data, a.To, netip.Addr{})
				}
			case 7:
				now = now.Add(time.Duration(b) * time.Second)
			case 8:
				if next := m.Next(); next.After(now) {
					now = next
				}
			}
			for i := 0; ; i++ {
				a, ok := m.Poll(now)
				if !ok {
					break
				}
				if i > 60 {
					t.Fatal("no end")
				}
				if a.Data != nil && !usable(a.To) {
					t.Fatalf("sends to %v", a.To)
				}
				sent++
				last = append(last, a)
			}
			if next := m.Next(); !next.IsZero() && !next.After(now) {
				t.Fatalf("at %v, the next poll is at %v", now, next)
			}
			_, _, _ = m.Result().Kind(), m.Result().String(), m.Result().IPv6()
			if len(m.bases) > maxBases || len(m.families[0].touched) > maxTouched {
				t.Fatal("a table grows")
			}
		}
		// Two families, at most 4*5+4+5+3 = 32 sends a round, a round in 15 s.
		if limit := 2 * 32 * (2 + int(now.Sub(start)/urgentPause)); sent > limit {
			t.Fatalf("%d sends in %v", sent, now.Sub(start))
		}
	})
}
