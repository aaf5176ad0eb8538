package client

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/base/wire"
	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/record"
	"github.com/hnet-robotics/hnet_bridge/overlay/underlay"
	"github.com/hnet-robotics/hnet_bridge/test/virtual"
)

// simulation is a client machine, or several, and Bases in virtual time.
type simulation struct {
	t      testing.TB
	now    time.Time
	random *rand.Rand
	queue  virtual.Queue
	bases  []*simBase
	nodes  []*simNode
	loss   float64
	double float64 // chance that a datagram arrives twice
}

func newSimulation(t testing.TB) *simulation {
	return &simulation{t: t, now: time.Unix(1_000_000, 0), random: rand.New(rand.NewPCG(1, 2))}
}

func (s *simulation) after(d time.Duration, do func()) { s.queue.At(s.now.Add(d), do) }

// run lets virtual time pass.
func (s *simulation) run(d time.Duration) {
	s.t.Helper()
	end, last, steps := s.now.Add(d), s.now, 0
	for s.queue.Step(&s.now, end) {
		if s.now.After(last) {
			last, steps = s.now, 0
		}
		if steps++; steps > 20_000 {
			s.t.Fatalf("it spins at %v", s.now)
		}
	}
	s.now = end
}

// until lets virtual time pass until done, but no longer than the limit, and returns how long it took, to the millisecond or a 10,000th of the limit.
func (s *simulation) until(limit time.Duration, what string, done func() bool) time.Duration {
	s.t.Helper()
	start := s.now
	for !done() {
		if s.now.Sub(start) >= limit {
			s.t.Fatalf("%s: not within %v", what, limit)
		}
		s.run(max(time.Millisecond, limit/10_000))
	}
	return s.now.Sub(start)
}

func testIdentity(n int) *identity.Identity {
	var seed [32]byte
	binary.BigEndian.PutUint64(seed[:], uint64(n))
	return identity.FromSeed(seed)
}

// chacha makes the randomness of a test repeatable.
func chacha(n int) io.Reader {
	var seed [32]byte
	binary.BigEndian.PutUint64(seed[:], uint64(n))
	return rand.NewChaCha8(seed)
}

// simNode is one client.
type simNode struct {
	s      *simulation
	id     *identity.Identity
	m      *machine
	addr   netip.AddrPort // as Bases see it
	noUDP  bool           // a firewall drops all UDP
	noTCP  bool
	mute   wire.Type // datagrams of this type that it sends are lost
	events []Event
	logs   []string
	bytes  int // on the wire over UDP, both ways, IPv4 headers included
	count  int
	names  map[string][]netip.Addr
	dnsIn  time.Duration // how long a lookup takes; negative = for ever
	looks  int
	conns  map[uint64]*simConn
	sent   []string // types of datagrams sent, with their destination
	timer  time.Time
	relayd []underlay.Message
}

func (s *simulation) node(n int, low bool) *simNode {
	d := &simNode{s: s, id: testIdentity(1000 + n), addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(n)}), 5582),
		names: make(map[string][]netip.Addr), conns: make(map[uint64]*simConn)}
	d.m = newMachine(machineConfig{
		identity: d.id, random: chacha(n), seed: rand.NewPCG(uint64(n), 1), lowData: low, wake: func() {},
		relay: func(ms []underlay.Message) (int, error) {
			for _, m := range ms {
				d.transmit(m.Remote, bytes.Clone(m.Buf))
			}
			return len(ms), nil
		},
	})
	if err := d.m.setRecord(d.signed(1)); err != nil {
		s.t.Fatal(err)
	}
	s.nodes = append(s.nodes, d)
	return d
}

func (d *simNode) signed(sequence uint64) []byte {
	r := record.Record{Sequence: sequence, Lifetime: time.Hour, Endpoints: []netip.AddrPort{d.addr}}
	b, err := r.Sign(d.id)
	if err != nil {
		d.s.t.Fatal(err)
	}
	return b
}

// servers makes the Bases known.
func (d *simNode) servers(bases ...*simBase) {
	var list []Server
	for _, b := range bases {
		list = append(list, b.server)
	}
	d.m.setServers(d.s.now, list)
	d.turn()
}

// calm fails the test if the machine was ticked more often than it arrives or sends something, which would be a spin.
func (d *simNode) calm(since, limit int) {
	d.s.t.Helper()
	if n := d.m.ticks - since; n > limit {
		d.s.t.Errorf("%d ticks, %d at most", n, limit)
	}
}

// turn does what Run does.
func (d *simNode) turn() {
	d.m.tick(d.s.now)
	for _, a := range d.m.actions() {
		d.perform(a)
	}
	next := d.m.next(d.s.now)
	if next.IsZero() || next.Equal(d.timer) && next.After(d.s.now) {
		return
	}
	d.timer = next
	d.s.after(max(next.Sub(d.s.now), time.Millisecond), func() {
		if d.timer.Equal(next) {
			d.timer = time.Time{}
			d.turn()
		}
	})
}

func (d *simNode) perform(a action) {
	switch a.kind {
	case actSend:
		d.transmit(a.to, a.payload)
	case actFrame:
		a.stream.control(a.payload)
	case actResolve:
		d.looks++
		if d.dnsIn < 0 {
			return
		}
		d.s.after(d.dnsIn, func() {
			var err error
			addrs := slices.Clone(d.names[a.host])
			if addrs == nil {
				err = fmt.Errorf("looking up %s: no such host", a.host)
			}
			d.m.resolved(d.s.now, a.base, a.host, addrs, err)
			d.turn()
		})
	case actDial:
		d.connect(a)
	case actHangUp:
		if c := d.conns[a.dial]; c != nil {
			c.close()
		}
	case actEvent:
		d.events = append(d.events, a.event)
	case actLog:
		d.logs = append(d.logs, a.text)
	}
}

// transmit brings a datagram of the node to the Base at an endpoint.
func (d *simNode) transmit(to netip.AddrPort, b []byte) {
	d.bytes += 28 + len(b)
	d.count++
	d.sent = append(d.sent, fmt.Sprintf("%#x %v", b[0], to))
	if d.noUDP || wire.TypeOf(b) == d.mute {
		return
	}
	from := d.addr
	for _, base := range d.s.bases {
		if base.addr == to && !base.noUDP {
			d.s.cross(base.delay, func() { base.arrive(b, from, nil, d) })
		}
	}
}

// cross takes a datagram over the network, or not, or twice.
func (s *simulation) cross(delay time.Duration, do func()) {
	n := 1
	if s.random.Float64() < s.double {
		n = 2
	}
	for range n {
		if s.random.Float64() >= s.loss {
			s.after(delay+time.Duration(s.random.Int64N(int64(time.Millisecond))), do)
		}
	}
}

// receive brings a datagram of a Base to the node that has the endpoint.
func (s *simulation) receive(b []byte, from, to netip.AddrPort) {
	for _, d := range s.nodes {
		if d.addr != to || d.noUDP {
			continue
		}
		d.bytes += 28 + len(b)
		d.count++
		if wire.TypeOf(b) == wire.TypeRelayed {
			if r, inner := d.m.ways.relayed(b, from, nil); r != nil {
				d.relayd = append(d.relayd, underlay.Message{Buf: bytes.Clone(inner)})
			}
			continue
		}
		if d.m.known.has(from) {
			d.m.datagram(s.now, b, from)
			d.turn()
		}
	}
}

// simConn is a TLS connection.
type simConn struct {
	d      *simNode
	base   *simBase
	dial   uint64
	closed bool
	last   time.Time // what was sent later arrives later
}

func (c *simConn) cross(do func()) {
	at := c.d.s.now.Add(c.base.delay)
	if !at.After(c.last) {
		at = c.last.Add(time.Microsecond)
	}
	c.last = at
	c.d.s.after(at.Sub(c.d.s.now), do)
}

func (c *simConn) control(b []byte) {
	c.cross(func() {
		if !c.closed {
			c.base.arrive(b, netip.AddrPortFrom(c.d.addr.Addr(), 40000), c, c.d)
		}
	})
}

func (c *simConn) relay(trains []underlay.Message) {
	for _, m := range trains {
		c.control(bytes.Clone(m.Buf))
	}
}

func (c *simConn) waiting() int { return 0 }

func (c *simConn) close() {
	if !c.closed {
		c.closed = true
		c.base.hungUp(c)
	}
}

func (d *simNode) connect(a action) {
	fail := func(in time.Duration, why string) {
		d.s.after(in, func() { d.m.hungUp(d.s.now, a.dial, why); d.turn() })
	}
	if len(a.addrs) == 0 {
		fail(0, "no address")
		return
	}
	for _, b := range d.s.bases {
		if b.addr.Addr() != a.addrs[0] {
			continue
		}
		if d.noTCP || b.dead {
			fail(dialTimeout, "timeout")
			return
		}
		c := &simConn{d: d, base: b, dial: a.dial}
		d.conns[a.dial] = c
		d.s.after(4*b.delay, func() {
			if !c.closed && d.m.connected(d.s.now, a.dial, c, netip.AddrPortFrom(b.addr.Addr(), a.port)) {
				d.turn()
			}
		})
		return
	}
	fail(time.Second, "no route")
}

// registered returns which Bases the node is registered with, by its own opinion.
func (d *simNode) registered() (out []*simBase) {
	for _, b := range d.s.bases {
		if x := d.m.base(b.id.Address()); x != nil && x.cur != nil {
			out = append(out, b)
		}
	}
	return out
}

func (d *simNode) at(bases ...*simBase) bool {
	r := d.registered()
	if len(r) != len(bases) {
		return false
	}
	for _, b := range bases {
		if !slices.Contains(r, b) {
			return false
		}
	}
	return true
}

// over returns the transport to a Base.
func (d *simNode) over(b *simBase) Transport {
	for _, s := range d.m.status() {
		if s.Address == b.id.Address() {
			return s.Transport
		}
	}
	return ""
}

// told counts the events of a type, about a Base if given, and a peer if given.
func (d *simNode) told(t EventType, b *simBase, peer *simNode) (n int) {
	for _, e := range d.events {
		if e.Type == t && (b == nil || e.Base == b.id.Address()) && (peer == nil || e.Peer == peer.id.Address()) {
			n++
		}
	}
	return n
}

func (d *simNode) interests(peers ...*simNode) {
	var list []netip.Addr
	for _, p := range peers {
		list = append(list, p.id.Address())
	}
	d.m.setInterests(list)
	d.turn()
}

func (d *simNode) want(p *simNode) {
	d.m.want(d.s.now, p.id.Address())
	d.turn()
}

func (d *simNode) relays(p *simNode) []*Relay { return d.m.relays(d.s.now, p.id.Address()) }

// say sends a datagram by a Relay.
func (d *simNode) say(r *Relay, text string) error {
	b := append(make([]byte, wire.RelayHeaderLen), text...)
	_, err := r.Send([]underlay.Message{{Buf: b, Headroom: wire.RelayHeaderLen, Segment: len(text)}})
	d.m.used(d.s.now, r.way, true, false)
	d.turn()
	return err
}
