package machine

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
	"github.com/hnet-robotics/hnet_bridge/test/virtual"
)

// simulation is a set of participants, each on a host of its own or several on one, on one Ethernet in virtual time.
type simulation struct {
	t      testing.TB
	now    time.Time
	queue  virtual.Queue
	random *rand.Rand
	nodes  []*simNode

	loss      float64       // of each delivery
	duplicate float64       // of each delivery
	delay     time.Duration // each delivery takes this and a random time up to it, so datagrams overtake one another
	cut       func(from, to *simNode) bool
	tap       func(from *simNode, d Datagram)
	budget    int // events left, against endless loops
}

type simNode struct {
	sim   *simulation
	name  string
	m     *Machine
	host  int
	index int
	dead  bool
	armed time.Time
	sent  int
	bytes int
}

func newSimulation(t testing.TB) *simulation {
	s := &simulation{
		t: t, now: time.Unix(1_700_000_000, 0), random: rand.New(rand.NewPCG(1, 2)), delay: 200 * time.Microsecond,
		budget: 20_000_000,
	}
	if *trace {
		s.traced()
	}
	return s
}

func (s *simulation) after(d time.Duration, do func()) { s.queue.At(s.now.Add(d), do) }

// run lets virtual time pass.
func (s *simulation) run(d time.Duration) {
	s.t.Helper()
	end := s.now.Add(d)
	for s.queue.Step(&s.now, end) {
		if s.budget--; s.budget < 0 {
			s.t.Fatal("the simulation does not come to rest")
		}
	}
	s.now = end
}

// until lets virtual time pass until done, at most limit, and returns how long it took.
func (s *simulation) until(limit time.Duration, what string, done func() bool) time.Duration {
	s.t.Helper()
	start := s.now
	for !done() {
		if s.now.Sub(start) >= limit {
			s.t.Fatalf("%s: not after %v", what, limit)
		}
		s.run(limit / 1000)
	}
	return s.now.Sub(start)
}

func hostAddr(host int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 0, byte(host >> 8), byte(host)})
}

func simInterfaces(host int) []Interface {
	return []Interface{
		{Index: 1, Name: "lo", Loopback: true, Addrs: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8")}},
		{Index: 2, Name: "eth0", Multicast: true, Addrs: []netip.Prefix{netip.PrefixFrom(hostAddr(host), 16)}},
	}
}

func prefixOf(n int) (p wire.GuidPrefix) {
	p[0], p[1] = 1, 0x68
	binary.BigEndian.PutUint32(p[8:], uint32(n))
	return p
}

// start starts a participant on a host of its own.
func (s *simulation) start(change ...func(*Config)) *simNode {
	n := len(s.nodes) + 1
	return s.startOn(n, 0, change...)
}

func (s *simulation) startOn(host, index int, change ...func(*Config)) *simNode {
	n := len(s.nodes) + 1
	c := Config{
		Prefix: prefixOf(n), Name: fmt.Sprint("node", n), Multicast: true, Ports: WellKnown(0, index), Index: index,
		Random: rand.New(rand.NewPCG(uint64(n), 7)),
	}
	for _, f := range change {
		f(&c)
	}
	node := &simNode{sim: s, name: c.Name, m: New(c), host: host, index: index}
	s.nodes = append(s.nodes, node)
	node.do(func() {
		node.m.SetInterfaces(s.now, simInterfaces(host))
		node.m.Start(s.now)
	})
	return node
}

// do calls into the machine and sends what follows.
func (n *simNode) do(f func()) {
	f()
	n.flush()
}

func (n *simNode) flush() {
	out := n.m.Take()
	for _, d := range out.Datagrams {
		n.sent++
		n.bytes += len(d.Payload)
		if len(d.Payload) > 1400 && d.To.Addr() != hostAddr(n.host) && !d.To.Addr().IsLoopback() {
			n.sim.t.Fatalf("%s sends %d bytes to %v", n.name, len(d.Payload), d.To)
		}
		if n.sim.tap != nil {
			n.sim.tap(n, d)
		}
		n.sim.carry(n, d)
	}
	calls := make([]Call, len(out.Calls))
	copy(calls, out.Calls)
	out.Release()
	for i := range calls {
		calls[i].Do()
	}
	n.arm()
}

func (n *simNode) arm() {
	next := n.m.Next()
	if n.dead || next.IsZero() || !n.armed.IsZero() && !next.Before(n.armed) {
		return
	}
	n.armed = next
	n.sim.after(max(0, next.Sub(n.sim.now)), func() {
		if n.dead || !n.armed.Equal(next) {
			return
		}
		n.armed = time.Time{}
		n.do(func() { n.m.Tick(n.sim.now) })
	})
}

// carry delivers a datagram to whom it reaches.
func (s *simulation) carry(from *simNode, d Datagram) {
	source := netip.AddrPortFrom(hostAddr(from.host), from.m.config.Ports.User)
	if d.To.Addr().IsLoopback() {
		source = netip.AddrPortFrom(d.To.Addr(), source.Port())
	}
	var b []byte
	for _, to := range s.nodes {
		if to == from || to.dead {
			continue
		}
		switch {
		case d.To.Addr().IsMulticast():
			if d.Interface != 2 || d.To.Port() != to.m.config.Ports.Multicast {
				continue
			}
		case d.To.Addr().IsLoopback() && to.host != from.host, !d.To.Addr().IsLoopback() && d.To.Addr() != hostAddr(to.host):
			continue
		case d.To.Port() != to.m.config.Ports.Meta && d.To.Port() != to.m.config.Ports.User:
			continue
		}
		if to.host != from.host && s.random.Float64() < s.loss || s.cut != nil && s.cut(from, to) {
			continue
		}
		if b == nil {
			b = append([]byte(nil), d.Payload...)
		}
		copies := 1
		if s.random.Float64() < s.duplicate {
			copies = 2
		}
		for range copies {
			delay := time.Duration(0)
			if s.delay > 0 {
				delay = s.delay + time.Duration(s.random.Int64N(int64(s.delay)))
			}
			s.after(delay, func() {
				if !to.dead {
					to.do(func() {
						to.m.HandleDatagram(s.now, b, Arrival{From: source, Local: d.To, Interface: 2})
					})
				}
			})
		}
	}
}

// kill ends a participant without a word.
func (n *simNode) kill() { n.dead = true }

// leave ends it with a farewell.
func (n *simNode) leave() {
	n.do(func() { n.m.Farewell(n.sim.now) })
	n.dead = true
}

func reliableQoS() QoS { return QoS{Reliability: Reliable, History: KeepAll} }

// sink is a reader that remembers.
type sink struct {
	*Reader
	node    *simNode
	samples []Sample
	matches int
	refusal string
}

func (n *simNode) reader(topic string, q QoS) *sink {
	n.sim.t.Helper()
	k := &sink{node: n}
	var err error
	n.do(func() {
		k.Reader, err = n.m.NewReader(n.sim.now, ReaderConfig{
			Topic: topic, Type: "T", QoS: q,
			Deliver: func(s Sample) { k.samples = append(k.samples, s) },
			Matched: func(_ Endpoint, on bool) {
				if on {
					k.matches++
				} else {
					k.matches--
				}
			},
			Incompatible: func(_ Endpoint, policy string) { k.refusal = policy },
		})
	})
	if err != nil {
		n.sim.t.Fatal(err)
	}
	return k
}

type spring struct {
	*Writer
	node    *simNode
	matches int
	refusal string
}

func (n *simNode) writer(topic string, q QoS, change ...func(*WriterConfig)) *spring {
	n.sim.t.Helper()
	g := &spring{node: n}
	c := WriterConfig{
		Topic: topic, Type: "T", QoS: q, MaxSamples: 1 << 20,
		Matched: func(_ Endpoint, on bool) {
			if on {
				g.matches++
			} else {
				g.matches--
			}
		},
		Incompatible: func(_ Endpoint, policy string) { g.refusal = policy },
	}
	for _, f := range change {
		f(&c)
	}
	var err error
	n.do(func() { g.Writer, err = n.m.NewWriter(n.sim.now, c) })
	if err != nil {
		n.sim.t.Fatal(err)
	}
	return g
}

// write writes number i in n bytes.
func (g *spring) write(i, n int, o ...WriteOptions) wire.SequenceNumber {
	g.node.sim.t.Helper()
	b := numbered(i, n)
	o = append(o, WriteOptions{})
	var seq wire.SequenceNumber
	var err error
	g.node.do(func() { seq, err = g.Writer.Write(g.node.sim.now, b, &o[0]) })
	if err != nil {
		g.node.sim.t.Fatal(err)
	}
	return seq
}

// numbered is a payload that can be checked.
func numbered(i, n int) []byte {
	b := make([]byte, max(n, 8))
	for j := range b {
		b[j] = byte(i + j*7 + j>>8)
	}
	binary.LittleEndian.PutUint32(b, 0x0100)
	binary.LittleEndian.PutUint32(b[4:], uint32(i))
	return b
}

// expect checks that a reader has exactly the numbers from..to, in order and unharmed.
func (k *sink) expect(from, to, n int) {
	k.node.sim.t.Helper()
	if len(k.samples) != to-from+1 {
		k.node.sim.t.Fatalf("%s has %d samples, not %d", k.node.name, len(k.samples), to-from+1)
	}
	for i, s := range k.samples {
		// What is not fragmented comes with its padding, which only CDR can tell from the rest.
		if want := numbered(from+i, n); len(s.Payload)-len(want) > 3 || !bytes.HasPrefix(s.Payload, want) {
			k.node.sim.t.Fatalf("%s: sample %d is not number %d or was harmed (%d bytes)", k.node.name, i, from+i, len(s.Payload))
		}
	}
}
