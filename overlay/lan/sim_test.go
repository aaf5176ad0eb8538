package lan

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/netwatch"
	"github.com/hnet-robotics/hnet_bridge/overlay/record"
	"github.com/hnet-robotics/hnet_bridge/test/virtual"
)

// simulation is a set of hosts on Ethernet segments in virtual time.
type simulation struct {
	t      *testing.T
	now    time.Time
	random *rand.Rand
	queue  virtual.Queue
	hosts  []*simHost

	lowData bool // of hosts started

	loss  float64                         // of each delivery
	delay time.Duration                   // each delivery takes a random time up to this, so datagrams overtake one another
	tap   func(from *simHost, d Datagram) // sees every datagram sent
}

type simHost struct {
	sim       *simulation
	name      string
	id        *identity.Identity
	machine   *Machine
	segments  map[int]string // by interface index
	sightings []seenAt
	clones    []Clone
	sent      int // announcements (not datagrams)
	bytes     int // sent and received, on an Ethernet
	last      []byte
	dead      bool
	next      time.Time // the tick that is in the queue
}

func newSimulation(t *testing.T) *simulation {
	return &simulation{
		t: t, now: time.Unix(1000, 0), random: rand.New(rand.NewPCG(1, 2)),
		delay: 2 * time.Millisecond,
	}
}

func (s *simulation) after(d time.Duration, do func()) { s.queue.At(s.now.Add(d), do) }

// run lets virtual time pass.
func (s *simulation) run(d time.Duration) { s.queue.Run(&s.now, d) }

// until lets virtual time pass until done, but no longer than the limit, and returns how long it took (to a 200th of the limit).
func (s *simulation) until(limit time.Duration, done func() bool) time.Duration {
	s.t.Helper()
	start := s.now
	for !done() {
		if s.now.Sub(start) >= limit {
			s.t.Fatalf("not done after %v", limit)
		}
		s.run(limit / 200)
	}
	return s.now.Sub(start)
}

func seed(n int) (b [32]byte) {
	binary.BigEndian.PutUint64(b[:], uint64(n))
	return b
}

// host4 and host6 are the addresses of host n on every link.
func host4(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}) }
func host6(n int) netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf("fe80::%x", n))
}

func endpointsOf(n int) []netip.AddrPort {
	return []netip.AddrPort{netip.AddrPortFrom(host6(n), 5582), netip.AddrPortFrom(host4(n), 5582)}
}

func testInterface(index, n int) netwatch.Interface {
	return netwatch.Interface{
		Index: index, Name: fmt.Sprintf("eth%d", index), MTU: 1500, Up: true, Multicast: true,
		Addrs: []netip.Prefix{netip.PrefixFrom(host4(n), 16), netip.PrefixFrom(host6(n), 64)},
	}
}

func signed(t *testing.T, id *identity.Identity, sequence uint64, endpoints ...netip.AddrPort) []byte {
	t.Helper()
	r := record.Record{Sequence: sequence, Lifetime: time.Hour, Endpoints: endpoints}
	b, err := r.Sign(id)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// machine makes the nth host's machine without a network.
func machine(t *testing.T, n int, id *identity.Identity) *Machine {
	return NewMachine(id, "hnet0", false, rand.NewChaCha8(seed(1_000_000+n)))
}

// start starts a daemon with the identity of seed number key on a host with the addresses of number n.
func (s *simulation) start(n, key int, sequence uint64, segments map[int]string) *simHost {
	s.t.Helper()
	id := identity.FromSeed(seed(key))
	h := &simHost{
		sim: s, name: fmt.Sprint("host", n), id: id, segments: segments,
		machine: machine(s.t, n+len(s.hosts)*10_000, id),
	}
	h.machine.lowData = s.lowData
	s.hosts = append(s.hosts, h)
	if err := h.machine.SetRecord(s.now, signed(s.t, id, sequence, endpointsOf(n)...)); err != nil {
		s.t.Fatal(err)
	}
	var interfaces []netwatch.Interface
	for index := range segments {
		interfaces = append(interfaces, testInterface(index, n))
	}
	h.machine.SetInterfaces(s.now, interfaces)
	h.arm()
	return h
}

func (s *simulation) startMany(first, n int) {
	for i := range n {
		s.start(first+i, first+i, 1, map[int]string{1: "lan"})
	}
}

// arm puts the next tick into the queue.
func (h *simHost) arm() {
	next := h.machine.Next()
	if next.IsZero() || !h.next.IsZero() && !next.Before(h.next) {
		return
	}
	h.next = next
	h.sim.after(max(0, next.Sub(h.sim.now)), func() {
		if h.dead || !h.next.Equal(next) {
			return
		}
		h.next = time.Time{}
		out := h.machine.Tick(h.sim.now)
		if next := h.machine.Next(); !next.IsZero() && !next.After(h.sim.now) {
			h.sim.t.Fatalf("%s: next tick at %v is not after this one at %v", h.name, next, h.sim.now)
		}
		for _, d := range out {
			if a, ok := parse(d.Payload); !ok || a.notice == (len(d.Payload) == Size) {
				h.sim.t.Fatalf("announcement of %d bytes", len(d.Payload))
			}
			h.bytes += wireSize(d)
			if len(h.last) == 0 || &h.last[0] != &d.Payload[0] {
				h.sent++
				h.last = d.Payload
			}
			if h.sim.tap != nil {
				h.sim.tap(h, d)
			}
			h.sim.multicast(h.segments[d.Interface], netip.AddrPortFrom(d.Source, Port), d.Payload)
		}
		h.arm()
	})
}

// wireSize is the length of a datagram with Ethernet, IP and UDP headers.
func wireSize(d Datagram) int {
	if d.Source.Is6() {
		return 14 + 40 + 8 + len(d.Payload)
	}
	return 14 + 20 + 8 + len(d.Payload)
}

// multicast delivers a datagram to everybody on a segment, its sender too.
func (s *simulation) multicast(segment string, src netip.AddrPort, b []byte) {
	for _, h := range s.hosts {
		for index, on := range h.segments {
			if on != segment || h.dead || s.random.Float64() < s.loss {
				continue
			}
			s.after(time.Duration(s.random.Int64N(int64(s.delay))), func() { h.receive(index, src, b) })
		}
	}
}

func (h *simHost) receive(index int, src netip.AddrPort, b []byte) {
	if h.dead {
		return
	}
	if !slices.ContainsFunc(h.machine.links[index].sources, func(a netip.Addr) bool { return a == src.Addr() }) {
		h.bytes += wireSize(Datagram{Source: src.Addr(), Payload: b})
	}
	sighting, clone := h.machine.HandleDatagram(h.sim.now, index, src, b)
	if sighting != nil {
		h.sightings = append(h.sightings, seenAt{Sighting: *sighting, at: h.sim.now})
	}
	if clone != nil {
		h.clones = append(h.clones, *clone)
	}
	h.arm()
}

// seen counts the peers that h had a sighting of, by each family or by any.
func (h *simHost) seen(eachFamily bool) int {
	type view struct {
		key identity.SigningKey
		six bool
	}
	views := make(map[view]bool)
	for _, s := range h.sightings {
		views[view{s.Record.Key, s.Endpoint.Addr().Is6() && eachFamily}] = true
	}
	if eachFamily {
		return len(views) / 2
	}
	return len(views)
}

// complete returns a condition: every living host has seen every other one.
func (s *simulation) complete(eachFamily bool) func() bool {
	return func() bool {
		living := 0
		for _, h := range s.hosts {
			if !h.dead {
				living++
			}
		}
		for _, h := range s.hosts {
			if !h.dead && h.seen(eachFamily) < living-1 {
				return false
			}
		}
		return true
	}
}

// check fails the test if a table of any machine has outgrown its bound.
func (s *simulation) check() {
	s.t.Helper()
	for _, h := range s.hosts {
		if n := len(h.machine.peers); n > maxPeers {
			s.t.Errorf("%s remembers %d peers", h.name, n)
		}
		if n := len(h.machine.admit.sources); n > 2*maxSources {
			s.t.Errorf("%s remembers %d sources", h.name, n)
		}
		for _, l := range h.machine.links {
			if n := len(l.voices); n > maxProven+maxUnproven {
				s.t.Errorf("%s hears %d voices", h.name, n)
			}
			if n := len(l.wanted); n > maxWanted {
				s.t.Errorf("%s has %d announcements waiting", h.name, n)
			}
		}
	}
}

func testInterfaces() []netwatch.Interface { return []netwatch.Interface{testInterface(1, 1)} }
