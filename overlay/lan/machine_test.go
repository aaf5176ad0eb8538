package lan

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/netwatch"
	"github.com/hnet-robotics/hnet_bridge/overlay/record"
)

var compareAddrs = cmpopts.EquateComparable(netip.AddrPort{}, netip.Addr{})

func TestSightingNamesTheEndpoint(t *testing.T) {
	s := newSimulation(t)
	a := s.start(1, 1, 1, map[int]string{7: "lan"})
	b := s.start(2, 2, 5, map[int]string{3: "lan"})
	s.until(time.Second, s.complete(true))
	var got []netip.AddrPort
	for _, x := range a.sightings {
		got = append(got, x.Endpoint)
		if x.Interface != 7 || x.Instance != b.machine.instance || x.Restarted || x.Record.Sequence != 5 || x.Record.Key != b.id.SigningKey() {
			t.Errorf("sighting %+v", x)
		}
	}
	want := []netip.AddrPort{netip.MustParseAddrPort("10.0.0.2:5582"), netip.MustParseAddrPort("[fe80::2%7]:5582")}
	less := func(a, b netip.AddrPort) bool { return a.Compare(b) < 0 }
	if diff := cmp.Diff(want, got, compareAddrs, cmpopts.SortSlices(less)); diff != "" {
		t.Error(diff)
	}
}

func TestNewcomerAmongMany(t *testing.T) {
	s := newSimulation(t)
	s.startMany(1, 30)
	s.until(2*time.Second, s.complete(true))
	s.run(20 * time.Second)
	before := make(map[*simHost]int)
	for _, h := range s.hosts {
		before[h] = h.sent
	}
	newcomer := s.start(50, 50, 1, map[int]string{1: "lan"})
	s.until(200*time.Millisecond, s.complete(true))
	s.run(800 * time.Millisecond)
	for h, n := range before {
		if answers := h.sent - n; answers > 2 {
			t.Errorf("%s answered the newcomer %d times", h.name, answers)
		}
	}
	if newcomer.sent > 6 {
		t.Errorf("the newcomer sent %d announcements", newcomer.sent)
	}
}

func TestRestartIsSeenAtOnce(t *testing.T) {
	s := newSimulation(t)
	a := s.start(1, 1, 1, map[int]string{1: "lan"})
	b := s.start(2, 2, 1, map[int]string{1: "lan"})
	for round := range uint64(6) {
		s.run([]time.Duration{45 * time.Second, 3 * time.Hour}[round%2])
		b.dead = true
		a.sightings = nil
		b = s.start(2, 2, 2+round, map[int]string{1: "lan"})
		s.until(100*time.Millisecond, func() bool { return len(a.sightings) > 0 })
		if first := a.sightings[0]; !first.Restarted || first.Instance != b.machine.instance || first.Record.Sequence != 2+round {
			t.Errorf("after restart %d: %+v", round, first)
		}
		s.run(time.Second)
		for _, later := range a.sightings[1:] {
			if later.Restarted {
				t.Errorf("one restart was told twice: %+v", later)
			}
		}
	}
	if len(a.clones) != 0 {
		t.Errorf("restarts were taken for clones: %v", a.clones)
	}
}

func TestOlderRecordIsIgnored(t *testing.T) {
	s := newSimulation(t)
	a := s.start(1, 1, 1, map[int]string{1: "lan"})
	b := s.start(2, 2, 10, map[int]string{1: "lan"})
	s.until(time.Second, s.complete(true))
	b.dead = true
	a.sightings = nil
	b = s.start(2, 2, 9, map[int]string{1: "lan"})
	s.run(time.Minute)
	if len(a.sightings) != 0 {
		t.Errorf("an older record was handed up: %+v", a.sightings)
	}
	if err := b.machine.SetRecord(s.now, signed(t, b.id, 11, endpointsOf(2)...)); err != nil {
		t.Fatal(err)
	}
	b.machine.Announce(s.now)
	b.arm()
	s.until(time.Second, func() bool { return len(a.sightings) > 0 })
	if got := a.sightings[0]; got.Record.Sequence != 11 || !got.Restarted {
		t.Errorf("got %+v, want the new record and the restart", got)
	}
}

// A peer that gets a second address family later has missed what was said there before.
func TestNewAddressIsAnswered(t *testing.T) {
	s := newSimulation(t)
	a := s.start(1, 1, 1, map[int]string{1: "lan"})
	b := s.start(2, 2, 1, map[int]string{1: "lan"})
	late := testInterface(1, 2)
	late.Addrs = late.Addrs[:1]
	b.machine.SetInterfaces(s.now, []netwatch.Interface{late})
	if err := b.machine.SetRecord(s.now, signed(t, b.id, 2, endpointsOf(2)[1])); err != nil {
		t.Fatal(err)
	}
	s.run(2 * sightingRepeat)
	a.sightings, b.sightings = nil, nil
	if err := b.machine.SetRecord(s.now, signed(t, b.id, 3, endpointsOf(2)...)); err != nil {
		t.Fatal(err)
	}
	b.machine.SetInterfaces(s.now, []netwatch.Interface{testInterface(1, 2)})
	b.arm()
	s.until(100*time.Millisecond, s.complete(true))
}

func TestOwnDatagramsAreIgnored(t *testing.T) {
	s := newSimulation(t)
	h := s.start(1, 1, 1, map[int]string{1: "lan", 2: "lan"})
	s.run(2 * time.Hour)
	if h.sent < 20 {
		t.Fatalf("only %d announcements sent", h.sent)
	}
	if len(h.sightings)+len(h.clones)+len(h.machine.peers)+len(h.machine.admit.sources) != 0 {
		t.Errorf("own announcements left a trace: %v %v", h.sightings, h.clones)
	}
}

func TestCloneOfOwnKey(t *testing.T) {
	s := newSimulation(t)
	a := s.start(1, 9, 1, map[int]string{1: "lan"})
	b := s.start(2, 9, 2, map[int]string{1: "lan"})
	s.run(time.Second)
	for _, c := range []struct {
		h     *simHost
		other int
	}{{a, 2}, {b, 1}} {
		if len(c.h.clones) != 1 {
			t.Fatalf("%s raised %d alarms, want 1", c.h.name, len(c.h.clones))
		}
		got := c.h.clones[0]
		if !got.Own || got.Address != c.h.id.Address() || got.Interface != 1 ||
			got.Source.Addr() != host4(c.other) && got.Source.Addr() != host6(c.other) {
			t.Errorf("%s raised %+v", c.h.name, got)
		}
		if len(c.h.sightings) != 0 {
			t.Errorf("%s had sightings of its own key: %+v", c.h.name, c.h.sightings)
		}
	}
}

func TestCloneOfPeer(t *testing.T) {
	s := newSimulation(t)
	watcher := s.start(1, 1, 1, map[int]string{1: "lan"})
	s.start(2, 9, 1, map[int]string{1: "lan"})
	s.run(40 * time.Second)
	s.start(3, 9, 2, map[int]string{1: "lan"})
	s.run(10 * time.Second)
	if len(watcher.clones) != 0 {
		t.Fatalf("an alarm that a restart would have raised too: %v", watcher.clones)
	}
	took := s.until(2*longest, func() bool { return len(watcher.clones) > 0 })
	t.Logf("noticed after %v", took)
	if got := watcher.clones[0]; got.Own || got.Address != identity.FromSeed(seed(9)).Address() {
		t.Errorf("got %+v", got)
	}
	for range 6 {
		before := len(watcher.clones)
		s.run(CloneMemory)
		if n := len(watcher.clones) - before; n < 1 || n > 12 {
			t.Errorf("%d alarms in %v while both live", n, CloneMemory)
		}
	}
	s.hosts[1].dead = true
	s.run(2 * longest) // what it signed last may still be proven
	before := len(watcher.clones)
	s.run(6 * CloneMemory)
	if n := len(watcher.clones) - before; n > 0 {
		t.Errorf("%d alarms after the clone has ended", n)
	}
}

func TestInterfaces(t *testing.T) {
	lan := testInterface(1, 1)
	with := func(change func(*netwatch.Interface)) netwatch.Interface {
		i := testInterface(1, 1)
		change(&i)
		return i
	}
	for _, c := range []struct {
		name string
		i    netwatch.Interface
		want []netip.Addr
	}{
		{"a LAN", lan, []netip.Addr{host4(1), host6(1)}},
		{"IPv4 alone", with(func(i *netwatch.Interface) { i.Addrs = i.Addrs[:1] }), []netip.Addr{host4(1)}},
		{"IPv6 link-local alone", with(func(i *netwatch.Interface) { i.Addrs = i.Addrs[1:] }), []netip.Addr{host6(1)}},
		{"down", with(func(i *netwatch.Interface) { i.Up = false }), nil},
		{"loopback", with(func(i *netwatch.Interface) { i.Loopback = true }), nil},
		{"point-to-point", with(func(i *netwatch.Interface) { i.PointToPoint = true }), nil},
		{"without multicast", with(func(i *netwatch.Interface) { i.Multicast = false }), nil},
		{"the overlay device", with(func(i *netwatch.Interface) { i.Name = "hnet0" }), nil},
		{"an address of the overlay", with(func(i *netwatch.Interface) {
			i.Addrs = append(i.Addrs, netip.MustParsePrefix("fc94::1/128"))
		}), nil},
		{"addresses that the record does not name", testInterface(1, 2), nil},
		{"no address", with(func(i *netwatch.Interface) { i.Addrs = nil }), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			now := time.Unix(1000, 0)
			id := identity.FromSeed(seed(1))
			m := machine(t, 1, id)
			if !m.Next().IsZero() {
				t.Error("a machine without interface and record wants to be called")
			}
			if err := m.SetRecord(now, signed(t, id, 1, endpointsOf(1)...)); err != nil {
				t.Fatal(err)
			}
			m.SetInterfaces(now, []netwatch.Interface{c.i})
			var got []netip.Addr
			for _, d := range m.Tick(now) {
				got = append(got, d.Source)
			}
			if diff := cmp.Diff(c.want, got, compareAddrs); diff != "" {
				t.Error(diff)
			}
			if (len(c.want) == 0) != m.Next().IsZero() {
				t.Errorf("next tick %v", m.Next())
			}
		})
	}
}

func TestInterfaceChanges(t *testing.T) {
	now := time.Unix(1000, 0)
	id := identity.FromSeed(seed(1))
	m := machine(t, 1, id)
	announcements := func(d time.Duration) (at []time.Duration) {
		start := now
		for next := m.Next(); !next.IsZero() && next.Sub(start) <= d; next = m.Next() {
			if next.After(now) {
				now = next
			}
			if len(m.Tick(now)) > 0 {
				at = append(at, now.Sub(start))
			}
		}
		now = start.Add(d)
		return at
	}
	burstTimes := []time.Duration{0, 150 * time.Millisecond, 500 * time.Millisecond}

	m.SetInterfaces(now, []netwatch.Interface{testInterface(1, 1)})
	if got := announcements(time.Second); got != nil {
		t.Errorf("announced without a record: %v", got)
	}
	if err := m.SetRecord(now, signed(t, id, 1, endpointsOf(1)...)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(burstTimes, announcements(10*time.Second)); diff != "" {
		t.Errorf("with a record: %s", diff)
	}
	m.SetInterfaces(now, []netwatch.Interface{testInterface(1, 1)})
	if got := announcements(10 * time.Second); got != nil {
		t.Errorf("announced without a change: %v", got)
	}
	changed := testInterface(1, 1)
	changed.Addrs = append(changed.Addrs, netip.MustParsePrefix("192.168.3.4/24"))
	m.SetInterfaces(now, []netwatch.Interface{changed})
	if diff := cmp.Diff(burstTimes, announcements(10*time.Second)); diff != "" {
		t.Errorf("with another address: %s", diff)
	}
	m.SetInterfaces(now, []netwatch.Interface{changed, testInterface(2, 1)})
	if diff := cmp.Diff(burstTimes, announcements(5*time.Second)); diff != "" {
		t.Errorf("with another interface: %s", diff)
	}
	m.Announce(now)
	if diff := cmp.Diff([]time.Duration{0}, announcements(time.Second)); diff != "" {
		t.Errorf("asked for: %s", diff)
	}
	if err := m.SetRecord(now, signed(t, id, 2, endpointsOf(1)...)); err != nil {
		t.Fatal(err)
	}
	if got := announcements(time.Second); got != nil {
		t.Errorf("renewed record: %v", got)
	}
	if err := m.SetRecord(now, signed(t, id, 3, append(endpointsOf(1), netip.MustParseAddrPort("203.0.113.5:5582"))...)); err != nil {
		t.Fatal(err)
	}
	if got := announcements(time.Second); got != nil {
		t.Errorf("another endpoint elsewhere: %v", got)
	}
	based := record.Record{Sequence: 4, Lifetime: time.Hour, Endpoints: endpointsOf(1), Bases: []netip.Addr{identity.FromSeed(seed(7)).Address()}}
	withBase, err := based.Sign(id)
	if err == nil {
		err = m.SetRecord(now, withBase)
	}
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]time.Duration{0}, announcements(time.Second)); diff != "" {
		t.Errorf("another Base: %s", diff)
	}
	moved := endpointsOf(1)
	moved[0] = netip.AddrPortFrom(moved[0].Addr(), 6000)
	if err := m.SetRecord(now, signed(t, id, 5, moved...)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(burstTimes, announcements(5*time.Second)); diff != "" {
		t.Errorf("another endpoint on the link: %s", diff)
	}
	// An owner that calls without end, and a link that flaps without end, stay within the rate.
	for range 1000 {
		m.Announce(now)
		m.SetInterfaces(now, nil)
		m.SetInterfaces(now, []netwatch.Interface{changed})
		m.Retry(now, 1)
	}
	if got := announcements(10 * time.Second); len(got) > answersBurst+10*answersPerSecond {
		t.Errorf("%d announcements in 10 s", len(got))
	}
	m.SetInterfaces(now, nil)
	if !m.Next().IsZero() || len(m.links)+len(m.admit.sources) != 0 {
		t.Error("an interface that is gone left a trace")
	}
}

func TestRetry(t *testing.T) {
	now := time.Unix(1000, 0)
	id := identity.FromSeed(seed(1))
	m := machine(t, 1, id)
	m.SetInterfaces(now, []netwatch.Interface{testInterface(1, 1)})
	if err := m.SetRecord(now, signed(t, id, 1, endpointsOf(1)...)); err != nil {
		t.Fatal(err)
	}
	for end := now.Add(time.Second); m.Next().Before(end); {
		now = m.Next()
		m.Tick(now)
	}
	m.Retry(now, 1)
	m.Retry(now, 1)
	m.Retry(now, 99)
	if want := now.Add(retryDelay); !m.Next().Equal(want) {
		t.Errorf("next tick %v, want %v", m.Next(), want)
	}
}

func TestSetRecordRefuses(t *testing.T) {
	id := identity.FromSeed(seed(1))
	m := machine(t, 1, id)
	good := signed(t, id, 1, endpointsOf(1)...)
	broken := bytes.Clone(good)
	broken[len(broken)-1] ^= 1
	for name, b := range map[string][]byte{
		"empty":               nil,
		"too long":            make([]byte, MaxRecord+1),
		"broken signature":    broken,
		"of another identity": signed(t, identity.FromSeed(seed(2)), 1, endpointsOf(1)...),
	} {
		if err := m.SetRecord(time.Unix(1000, 0), b); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	var many []netip.AddrPort
	for i := range 16 {
		many = append(many, netip.AddrPortFrom(host6(i+1), 5582))
	}
	if err := m.SetRecord(time.Unix(1000, 0), signed(t, id, 2, many...)); err != nil {
		t.Errorf("record with as many endpoints as there may be: %v", err)
	}
}

func TestLookup(t *testing.T) {
	s := newSimulation(t)
	a := s.start(1, 1, 1, map[int]string{1: "lan"})
	b := s.start(2, 2, 1, map[int]string{1: "lan"})
	s.until(time.Second, s.complete(true))
	found := a.machine.Lookup(s.now, b.id.Address())
	if len(found) != 2 || found[0].Endpoint == found[1].Endpoint || found[0].Record.Key != b.id.SigningKey() {
		t.Errorf("found %+v", found)
	}
	if got := a.machine.Lookup(s.now, a.id.Address()); got != nil {
		t.Errorf("found itself: %+v", got)
	}
	b.dead = true
	s.run(sightingLife - time.Minute)
	if got := a.machine.Lookup(s.now, b.id.Address()); len(got) != 2 {
		t.Errorf("after a while: %+v", got)
	}
	s.run(2 * time.Minute)
	if got := a.machine.Lookup(s.now, b.id.Address()); got != nil {
		t.Errorf("after %v: %+v", sightingLife+time.Minute, got)
	}
}
