package nat

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/stun"
	"github.com/hnet-robotics/hnet_bridge/test/virtual"
)

// simNAT is a NAT in virtual time. What it remembers of a destination lasts for memory after the last packet to it.
type simNAT struct {
	mapping   Mapping
	filtering Filtering
	hairpin   bool
	// clash makes it a Linux router without a firewall: what comes in uninvited takes the place of what would go out, for 30 s.
	clash    bool
	external netip.Addr
	memory   time.Duration

	base     uint16 // first outside port
	ports    map[netip.AddrPort]uint16
	sent     map[netip.AddrPort]time.Time
	poisoned map[netip.AddrPort]time.Time
}

// sim is one host behind a NAT, with some Bases beyond it.
type sim struct {
	t       *testing.T
	now     time.Time
	random  *rand.Rand
	queue   virtual.Queue
	machine *Machine
	inside  netip.AddrPort
	nat     *simNAT // of the inside host; nil = none
	open    bool    // without a NAT: no firewall
	bases   map[netip.AddrPort]*simBase
	loss    float64
	blocked bool // UDP
	sent    int
	to      map[netip.AddrPort]int
}

type simBase struct {
	name      netip.Addr
	addr      netip.Addr
	alternate uint16
	seen      netip.AddrPort
	dead      bool
}

const mainPort = 5582

func newSim(t *testing.T, seed uint64, inside string, nat *simNAT, bases ...string) *sim {
	s := &sim{
		t: t, now: time.Unix(1000, 0), random: rand.New(rand.NewPCG(seed, 7)), machine: New(rand.NewPCG(seed, 9)),
		inside: netip.MustParseAddrPort(inside), bases: make(map[netip.AddrPort]*simBase), to: make(map[netip.AddrPort]int),
	}
	s.swap(nat)
	for i, b := range bases {
		addr := netip.MustParseAddr(b)
		base := &simBase{name: baseName(i), addr: addr, alternate: 3478}
		s.bases[netip.AddrPortFrom(addr, mainPort)] = base
		s.bases[netip.AddrPortFrom(addr, base.alternate)] = base
	}
	s.machine.LinksChanged(s.now, []netip.AddrPort{s.inside})
	return s
}

func baseName(i int) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfc, 1: 0x94, 15: byte(i + 1)})
}

// swap puts another NAT, with an empty memory, in front of the host.
func (s *sim) swap(nat *simNAT) {
	if s.nat = nat; nat == nil {
		return
	}
	nat.ports, nat.sent, nat.poisoned = make(map[netip.AddrPort]uint16), make(map[netip.AddrPort]time.Time), make(map[netip.AddrPort]time.Time)
	if !nat.external.IsValid() {
		nat.external = netip.MustParseAddr("203.0.113.1")
	}
	if nat.memory == 0 {
		nat.memory = 3 * time.Minute
	}
	if nat.base == 0 {
		nat.base = mainPort
	}
}

// out translates a datagram to dst.
func (n *simNAT) out(now time.Time, dst netip.AddrPort) netip.AddrPort {
	key := netip.AddrPort{}
	if at, ok := n.poisoned[dst]; n.mapping == MappingDependent || ok && now.Sub(at) < 30*time.Second || ok && n.ports[dst] != 0 {
		key = dst
	}
	if at, ok := n.sent[dst]; key.IsValid() && ok && now.Sub(at) >= n.memory {
		delete(n.ports, dst)
		delete(n.poisoned, dst)
		if n.mapping != MappingDependent {
			key = netip.AddrPort{}
		}
	}
	if n.ports[key] == 0 {
		n.ports[key] = n.base + uint16(len(n.ports))
	}
	n.sent[dst] = now
	return netip.AddrPortFrom(n.external, n.ports[key])
}

// in tells whether a datagram from src to an outside port comes in.
func (n *simNAT) in(now time.Time, src netip.AddrPort, port uint16) bool {
	for key, p := range n.ports {
		if p != port {
			continue
		}
		for dst, at := range n.sent {
			remembered := now.Sub(at) < n.memory && (!key.IsValid() || key == dst)
			if remembered && (n.filtering == FilteringIndependent || dst.Addr() == src.Addr() && (n.filtering == FilteringAddress || dst == src)) {
				return true
			}
		}
	}
	if at, ok := n.sent[src]; n.clash && (!ok || now.Sub(at) >= n.memory) {
		n.poisoned[src] = now
	}
	return false
}

func (s *sim) after(d time.Duration, do func()) { s.queue.At(s.now.Add(d), do) }

func (s *sim) delay() time.Duration {
	return 20*time.Millisecond + time.Duration(s.random.IntN(40))*time.Millisecond
}

// run lets virtual time pass.
func (s *sim) run(d time.Duration) {
	end := s.now.Add(d)
	for {
		s.act()
		next := s.machine.Next()
		due := !next.IsZero() && !next.After(end)
		if !due {
			next = end
		}
		switch {
		case s.queue.Step(&s.now, next):
		case due:
			if next.After(s.now) {
				s.now = next
			}
		default:
			s.now = end
			return
		}
	}
}

func (s *sim) act() {
	for n := 0; ; n++ {
		if n > 100 {
			s.t.Fatal("the machine does not come to an end")
		}
		a, ok := s.machine.Poll(s.now)
		if !ok {
			return
		}
		if a.Data != nil {
			s.send(a.To, a.Data)
			continue
		}
		// A control message of the session: repeated until it arrives.
		d := s.delay()
		for s.random.Float64() < s.loss {
			d += 250 * time.Millisecond
		}
		s.after(d, func() { s.filterTest(a) })
	}
}

func (s *sim) filterTest(a Action) {
	for _, b := range s.bases {
		if b.name == a.Base && !b.dead {
			src := netip.AddrPortFrom(b.addr, proberPort)
			s.deliver(src, b.seen, func() { s.machine.FilterProbe(s.now, a.Nonce, src) })
			return
		}
	}
}

// send is a datagram from the host's main socket.
func (s *sim) send(to netip.AddrPort, b []byte) {
	s.sent++
	s.to[to]++
	src := s.inside
	if s.nat != nil {
		src = s.nat.out(s.now, to)
	}
	if s.blocked || s.random.Float64() < s.loss {
		return
	}
	id, ok := stun.ParseRequest(b)
	if !ok {
		s.t.Fatalf("sent % x", b)
	}
	if to == src {
		if s.nat != nil && s.nat.hairpin {
			s.after(s.delay(), func() { s.machine.Handle(s.now, b, src, s.inside.Addr()) })
		}
		return
	}
	base := s.bases[to]
	if base == nil || base.dead {
		return
	}
	s.after(s.delay(), func() {
		s.deliver(to, src, func() { s.machine.Handle(s.now, stun.AppendSuccess(nil, id, src), to, s.inside.Addr()) })
	})
}

// deliver is a datagram to the host.
func (s *sim) deliver(src, dst netip.AddrPort, arrive func()) {
	d := s.delay()
	if s.blocked || s.random.Float64() < s.loss {
		return
	}
	s.after(d, func() {
		switch {
		case s.nat != nil && (dst.Addr() != s.nat.external || !s.nat.in(s.now, src, dst.Port())):
		case s.nat == nil && dst != s.inside:
		case s.nat == nil && !s.open && s.to[src] == 0 && src.Port() != mainPort: // a stateful firewall
		default:
			arrive()
		}
	})
}

// register makes the host register with its Bases, the i-th after i times 100 ms, and keep that alive.
func (s *sim) register() {
	done := make(map[*simBase]bool)
	for i := range len(s.bases) / 2 {
		for _, b := range s.bases {
			if b.name == baseName(i) && !done[b] {
				done[b] = true
				s.after(time.Duration(i)*100*time.Millisecond, func() { s.keep(b, true) })
			}
		}
	}
}

func (s *sim) keep(b *simBase, first bool) {
	via := netip.AddrPortFrom(b.addr, mainPort)
	before := b.seen
	b.seen = s.inside
	if s.nat != nil {
		b.seen = s.nat.out(s.now, via)
	}
	switch {
	case first:
		s.machine.Registered(s.now, Registration{Base: b.name, Via: via, Observed: b.seen, Alternate: b.alternate})
	case b.seen != before:
		s.machine.Observed(s.now, b.name, b.seen)
	}
	s.after(25*time.Second, func() { s.keep(b, false) })
}

// proberPort is where a Base's filter probes come from.
const proberPort = 40001
