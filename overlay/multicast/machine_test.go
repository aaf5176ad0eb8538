package multicast

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/engine"
)

var _ engine.Multicast = (*Forwarder)(nil)

// pair is two machines that hear each other, in virtual time.
type pair struct {
	now  time.Time
	m    map[netip.Addr]*machine
	f    map[netip.Addr]*Forwarder
	loss float64
	rng  *rand.Rand
	sent int
}

func newPair() *pair {
	p := &pair{now: time.Unix(1e9, 0), m: map[netip.Addr]*machine{}, f: map[netip.Addr]*Forwarder{}, rng: rand.New(rand.NewPCG(1, 2))}
	for i, a := range []netip.Addr{own, peerA} {
		p.m[a], p.f[a] = newMachine(a, uint32(i+1)), NewForwarder()
	}
	p.m[own].setPeers(p.now, []Peer{{Address: peerA, IPv4: four, Connected: true}})
	p.m[peerA].setPeers(p.now, []Peer{{Address: own, IPv4: own4, Connected: true}})
	p.m[own].setIPv4(own4)
	p.m[peerA].setIPv4(four)
	return p
}

func (p *pair) run(d time.Duration) {
	for end := p.now.Add(d); !p.now.After(end); p.now = p.now.Add(10 * time.Millisecond) {
		for a, m := range p.m {
			if next := m.next(); !next.IsZero() && !next.After(p.now) {
				m.tick(p.now)
			}
			if t := m.table(); t != nil {
				p.f[a].table.Store(t)
			}
			out := m.out
			m.out = nil
			for _, d := range out {
				p.sent++
				if p.rng.Float64() >= p.loss && p.m[d.to] != nil {
					p.m[d.to].message(p.now, netip.AddrPortFrom(a, Port), d.payload)
				}
			}
		}
	}
}

// reaches is what peerA writes to hnet0 of a packet of ours.
func (p *pair) reaches(b []byte) (list []netip.Addr) {
	p.f[own].Outbound(p.now, b, func(to netip.Addr, c []byte) {
		for _, d := range p.f[to].Inbound(p.now, own, c) {
			h, _ := parse(d)
			list = append(list, h.group)
		}
	})
	return list
}

func TestMembership(t *testing.T) {
	p := newPair()
	p.loss = 0.3
	p.run(5 * time.Second)
	b := udp6(own, group, "x")
	if p.reaches(b) != nil {
		t.Error("sent to who has joined nothing")
	}
	p.m[peerA].setGroups(p.now, []netip.Addr{group})
	p.run(3 * time.Second)
	if got := p.reaches(b); !slices.Equal(got, []netip.Addr{group}) {
		t.Errorf("a member gets %v", got)
	}
	p.run(10 * time.Minute)
	if len(p.reaches(b)) != 1 {
		t.Error("a member was forgotten")
	}
	p.m[peerA].setGroups(p.now, nil)
	p.run(3 * time.Second)
	if p.reaches(b) != nil {
		t.Error("sent to who has left")
	}
	before := p.sent
	p.run(time.Hour)
	if p.sent != before {
		t.Errorf("%d datagrams of nobody", p.sent-before)
	}
	// One that vanishes is forgotten, one that comes back asks.
	p.loss = 0
	p.m[peerA].setGroups(p.now, []netip.Addr{group})
	p.run(time.Second)
	gone := p.m[peerA]
	delete(p.m, peerA)
	p.run(holdFor + time.Second)
	if n := len(p.f[own].table.Load().members); n != 0 {
		t.Errorf("%d members after silence", n)
	}
	p.m[peerA] = newMachine(peerA, 99)
	p.m[own].setGroups(p.now, []netip.Addr{group})
	p.run(30 * time.Second)
	p.m[peerA].setPeers(p.now, []Peer{{Address: own, Connected: true}})
	p.run(300 * time.Millisecond)
	if got := p.m[peerA].peers[own].groups; len(got) != 1 {
		t.Errorf("a newcomer knows %v", got)
	}
	// Off the whitelist, nothing goes and nothing comes.
	p.m[peerA] = gone
	p.run(15 * time.Second)
	if len(p.reaches(b)) != 1 {
		t.Error("not back")
	}
	p.m[peerA].setPeers(p.now, nil)
	p.run(20 * time.Millisecond)
	if p.reaches(b) != nil {
		t.Error("one off the whitelist was heard")
	}
	p.m[own].setPeers(p.now, nil)
	p.run(20 * time.Millisecond)
	p.f[own].Outbound(p.now, b, func(netip.Addr, []byte) { t.Error("sent to one off the whitelist") })
}

// TestSPDP: both vendors' groups reach whoever joined either, each under the group it joined.
func TestSPDP(t *testing.T) {
	for _, joined := range [][]netip.Addr{{cycloneSPDP}, {fastSPDP}, {cycloneSPDP, fastSPDP}} {
		p := newPair()
		p.m[peerA].setGroups(p.now, joined)
		p.run(time.Second)
		for _, to := range []netip.Addr{cycloneSPDP, fastSPDP} {
			got := p.reaches(udp6(own, to, "RTPS"))
			slices.SortFunc(got, netip.Addr.Compare)
			if !slices.Equal(got, joined) {
				t.Errorf("joined %v: what goes to %v comes as %v", joined, to, got)
			}
		}
	}
}

func TestIPv4Groups(t *testing.T) {
	p := newPair()
	g := netip.MustParseAddr("239.255.0.1")
	p.m[peerA].setGroups(p.now, []netip.Addr{g})
	p.run(time.Second)
	if got := p.reaches(udp4(own4, g)); len(got) != 1 || got[0] != g {
		t.Errorf("%v", got)
	}
	if got := p.reaches(udp4(four, g)); got != nil {
		t.Errorf("under a peer's address: %v", got)
	}
}

// TestRefused: what a peer may not send is not written, and neither is what this host should not.
func TestRefused(t *testing.T) {
	icmp := udp6(peerA, group, "x")
	icmp[6] = protocolICMPv6
	hopless := udp6(peerA, group, "x")
	hopless[7] = 0
	options := udp6(peerA, group, "x")
	options[6] = 60
	f := NewForwarder()
	if f.Inbound(time.Now(), peerA, udp6(peerA, group, "x")) != nil {
		t.Error("passed before it knows anything")
	}
	all := []netip.Addr{group, netip.MustParseAddr("ff02::1"), fastSPDP}
	m := newMachine(own, 1)
	m.joined = all // as if the kernel's list were not filtered
	m.setPeers(time.Now(), []Peer{{Address: peerA, IPv4: four, Connected: true}})
	f.table.Store(m.table())
	for name, c := range map[string]struct {
		packet []byte
		want   int
	}{
		"honest": {udp6(peerA, group, "x"), 1}, "translated": {udp6(peerA, cycloneSPDP, "x"), 1},
		"of another": {udp6(peerB, group, "x"), 0}, "of ours": {udp6(own, group, "x"), 0}, "to all nodes": {udp6(peerA, netip.MustParseAddr("ff02::1"), "x"), 0},
		"not joined": {udp6(peerA, netip.MustParseAddr("ff05::9"), "x"), 0}, "ICMPv6": {icmp, 0}, "no hops left": {hopless, 0}, "options": {options, 0},
		"cut off": {udp6(peerA, group, "x")[:44], 0}, "to one host": {udp6(peerA, own, "x"), 0}, "nothing": {nil, 0},
	} {
		if got := f.Inbound(time.Now(), peerA, c.packet); len(got) != c.want {
			t.Errorf("%s: %d written", name, len(got))
		}
	}
	if f.Inbound(time.Now(), peerB, udp6(peerB, group, "x")) != nil {
		t.Error("a stranger's was written")
	}
	// A report is not carried, but looked after.
	f.Outbound(time.Now(), icmp, func(netip.Addr, []byte) { t.Error("MLD was carried") })
	if len(f.changed) != 1 {
		t.Error("nobody was told of a report")
	}
}

func TestLimits(t *testing.T) {
	p := newPair()
	p.m[peerA].setGroups(p.now, []netip.Addr{group})
	p.run(time.Second)
	b := udp6(own, group, "x")
	n := 0
	for range 10 * peerPackets {
		n += len(p.reaches(b))
	}
	if n != 2*peerPackets {
		t.Errorf("%d at once, want %d", n, 2*peerPackets)
	}
	p.now = p.now.Add(time.Second)
	n = 0
	for range 10 * peerPackets {
		n += len(p.reaches(b))
	}
	if n < peerPackets-1 || n > peerPackets+1 {
		t.Errorf("%d a second later, want %d", n, peerPackets)
	}
	// Many peers together.
	f := NewForwarder()
	m := newMachine(own, 1)
	m.setGroups(p.now, []netip.Addr{group})
	var list []Peer
	for i := range 50 {
		list = append(list, Peer{Address: netip.AddrFrom16([16]byte{0: 0xfc, 1: 0x94, 15: byte(i + 10)}), Connected: true})
	}
	m.setPeers(p.now, list)
	for _, q := range m.peers {
		q.groups = []netip.Addr{group}
	}
	f.table.Store(m.table())
	n = 0
	for range 1000 {
		f.Outbound(p.now, b, func(netip.Addr, []byte) { n++ })
	}
	if n != 2*nodePackets {
		t.Errorf("%d copies at once, want %d", n, 2*nodePackets)
	}
}

// TestHostileLists: a peer's list is bounded, and only its daemon speaks for it.
func TestHostileLists(t *testing.T) {
	p := newPair()
	p.run(time.Second)
	m := p.m[own]
	list := (&message{run: 5, counter: 1, groups: []netip.Addr{group}}).append(nil)
	for _, from := range []netip.AddrPort{netip.AddrPortFrom(peerA, 999), netip.AddrPortFrom(peerB, Port)} {
		m.message(p.now, from, list)
	}
	m.message(p.now, netip.AddrPortFrom(peerA, Port), list[:20])
	if m.peers[peerA].groups != nil {
		t.Error("a stranger's list was taken")
	}
	for i := range 1000 {
		m.message(p.now, netip.AddrPortFrom(peerA, Port), (&message{ask: true, run: 5, counter: uint32(i + 1), groups: []netip.Addr{group}}).append(nil))
	}
	if c := m.peers[peerA].counter; c > 20 {
		t.Errorf("%d lists at once were taken", c)
	}
	before := p.sent
	p.run(time.Second)
	if n := p.sent - before; n > 12 {
		t.Errorf("%d answers in a second", n)
	}
}
