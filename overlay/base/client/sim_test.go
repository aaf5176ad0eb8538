package client

import (
	"bytes"
	"container/heap"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/base/session"
	"github.com/hnet-robotics/hnet_bridge/overlay/base/wire"
	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/record"
	"github.com/hnet-robotics/hnet_bridge/overlay/underlay"
)

// simulation is a client machine, or several, and Bases in virtual time.
type simulation struct {
	t      testing.TB
	now    time.Time
	random *rand.Rand
	events eventQueue
	order  int
	bases  []*simBase
	nodes  []*simNode
	loss   float64
	double float64 // chance that a datagram arrives twice
}

type event struct {
	at    time.Time
	order int
	do    func()
}

type eventQueue []event

func (q eventQueue) Len() int { return len(q) }
func (q eventQueue) Less(i, j int) bool {
	return q[i].at.Before(q[j].at) || q[i].at.Equal(q[j].at) && q[i].order < q[j].order
}
func (q eventQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *eventQueue) Push(x any)   { *q = append(*q, x.(event)) }
func (q *eventQueue) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

func newSimulation(t testing.TB) *simulation {
	return &simulation{t: t, now: time.Unix(1_000_000, 0), random: rand.New(rand.NewPCG(1, 2))}
}

func (s *simulation) after(d time.Duration, do func()) {
	s.order++
	heap.Push(&s.events, event{s.now.Add(d), s.order, do})
}

// run lets virtual time pass.
func (s *simulation) run(d time.Duration) {
	s.t.Helper()
	end := s.now.Add(d)
	steps := 0
	for len(s.events) > 0 && !s.events[0].at.After(end) {
		e := heap.Pop(&s.events).(event)
		if e.at.After(s.now) {
			steps = 0
		}
		if steps++; steps > 20_000 {
			s.t.Fatalf("it spins at %v", s.now)
		}
		s.now = e.at
		e.do()
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
	if d.noUDP {
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

// simBase is a Base made of session's half.
type simBase struct {
	s        *simulation
	id       *identity.Identity
	server   Server
	addr     netip.AddrPort
	delay    time.Duration // one way
	acceptor *session.Acceptor
	clients  map[netip.Addr]*simClient // confirmed
	pending  map[netip.Addr]*simClient
	number   uint32
	max      uint16
	dead     bool // swallows everything
	noUDP    bool
	garbage  bool // answers with noise
	rate     uint32
	seen     map[wire.Type]int
	out      func(p []byte, to netip.AddrPort, conn *simConn) // in place of the simulated network
}

type simClient struct {
	s         *session.Session
	index     uint32
	token     uint32
	session   uint32
	address   netip.Addr
	signed    []byte
	ephemeral [32]byte
	from      netip.AddrPort
	conn      *simConn
	node      *simNode
	interests map[uint32]netip.Addr
	of        map[netip.Addr]uint32
	polled    bool
}

// base makes a Base that is delay away.
func (s *simulation) base(n int, delay time.Duration) *simBase {
	id := testIdentity(n)
	addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(n)}), 5582)
	b := &simBase{
		s: s, id: id, addr: addr, delay: delay, max: 10_000, number: uint32(n) << 16,
		server: Server{Address: id.Address(), Host: addr.Addr().String(), UDP: addr.Port(), TCP: 443},
	}
	b.restart()
	s.bases = append(s.bases, b)
	return b
}

// restart makes the Base forget everything.
func (b *simBase) restart() {
	for _, c := range b.clients {
		if c.conn != nil {
			b.hangUp(c.conn)
		}
	}
	b.acceptor = session.NewAcceptor(b.id, chacha(int(b.number)))
	b.clients, b.pending = make(map[netip.Addr]*simClient), make(map[netip.Addr]*simClient)
	b.seen = make(map[wire.Type]int)
	b.dead = false
}

func (b *simBase) hangUp(c *simConn) {
	c.cross(func() {
		if !c.closed {
			c.closed = true
			c.d.m.hungUp(b.s.now, c.dial, "hung up")
			c.d.turn()
		}
	})
}

func (b *simBase) hungUp(c *simConn) {
	for a, client := range b.clients {
		if client.conn == c {
			b.gone(client)
			delete(b.clients, a)
		}
	}
}

// send brings a message to where a client is.
func (b *simBase) send(p []byte, to netip.AddrPort, conn *simConn) {
	if p == nil || b.dead {
		return
	}
	if b.garbage {
		p = slices.Clone(p)
		for i := 1; i < len(p); i++ {
			p[i] ^= byte(b.s.random.Uint32())
		}
	}
	if b.out != nil {
		b.out(p, to, conn)
		return
	}
	if conn == nil {
		b.s.cross(b.delay, func() { b.s.receive(p, b.addr, to) })
		return
	}
	conn.cross(func() {
		if !conn.closed {
			conn.d.m.frame(b.s.now, conn.dial, p)
			conn.d.turn()
		}
	})
}

func (b *simBase) arrive(p []byte, from netip.AddrPort, conn *simConn, d *simNode) {
	if b.dead {
		return
	}
	now := b.s.now
	b.seen[wire.TypeOf(p)]++
	switch wire.TypeOf(p) {
	case wire.TypeHello:
		cookie, err := b.acceptor.HandleHello(now, p, from)
		if err != nil {
			b.s.t.Fatal(err)
		}
		b.send(cookie, from, conn)
	case wire.TypeRegister:
		ephemeral, err := b.acceptor.Check(now, p, from)
		if err != nil {
			return
		}
		for _, c := range b.pending {
			if c.ephemeral == ephemeral {
				b.send(c.s.Welcome(), from, conn)
				return
			}
		}
		for _, c := range b.clients {
			if c.ephemeral == ephemeral {
				return
			}
		}
		r, err := b.acceptor.HandleRegister(now, p, from)
		if err != nil {
			b.s.t.Errorf("register: %v", err)
			return
		}
		b.number++
		c := &simClient{index: r.Index, token: b.number * 7, session: b.number, address: r.Key.Address(), signed: r.Signed, ephemeral: ephemeral,
			from: from, conn: conn, node: d, interests: make(map[uint32]netip.Addr), of: make(map[netip.Addr]uint32)}
		welcome, s, err := r.Accept(now, wire.WelcomePayload{Session: c.session, Token: c.token, Observed: from, Hops: 3, AlternatePort: 3478,
			Keep: 150 * time.Second, MaxInterests: b.max, RelayRate: b.rate})
		if err != nil {
			b.s.t.Fatal(err)
		}
		c.s = s
		b.pending[c.address] = c
		b.send(welcome, from, conn)
	case wire.TypeControl:
		h, _, _ := wire.ParseControl(p)
		c := b.find(h.Index)
		if c == nil {
			if u, ok := wire.UnknownTo(p); ok && conn == nil {
				b.send(u.Append(nil), from, nil)
			}
			return
		}
		newest, err := c.s.Receive(now, p, func(kind wire.Kind, body []byte) { b.message(c, kind, body, from) })
		if err != nil {
			return
		}
		if newest {
			c.from = from
		}
		b.poll(c)
	case wire.TypeRelay:
		session, token, channel, _ := wire.ParseRelay(p)
		c := b.find(session)
		if c == nil || c.token != token || c.from != from {
			if u, ok := wire.UnknownTo(p); ok && conn == nil {
				b.send(u.Append(nil), from, nil)
			}
			return
		}
		if other := b.clients[c.interests[channel]]; other != nil && other.of[c.address] != 0 {
			out := bytes.Clone(p)
			wire.PutRelayed(out, other.index, other.of[c.address])
			b.send(out, other.from, other.conn)
		}
	}
}

func (b *simBase) find(number uint32) *simClient {
	for _, c := range b.clients {
		if c.session == number {
			return c
		}
	}
	for _, c := range b.pending {
		if c.session == number {
			return c
		}
	}
	return nil
}

// confirm makes a pending session the one in force.
func (b *simBase) confirm(c *simClient) {
	if b.pending[c.address] != c {
		return
	}
	delete(b.pending, c.address)
	if old := b.clients[c.address]; old != nil {
		b.gone(old)
	}
	b.clients[c.address] = c
}

func (b *simBase) message(c *simClient, kind wire.Kind, body []byte, from netip.AddrPort) {
	b.confirm(c)
	switch kind {
	case wire.KindPing:
		p, err := wire.ParsePing(body)
		if err != nil {
			b.s.t.Error(err)
		}
		b.send(c.s.Unsequenced(b.s.now, wire.KindPong, wire.Pong{Opaque: p.Opaque, Observed: from, Hops: 3}.Append(nil)), from, c.conn)
	case wire.KindInterest:
		i, err := wire.ParseInterest(body)
		if err != nil {
			b.s.t.Error(err)
		}
		for _, l := range i.Links {
			if c.of[l.Address] != 0 || c.interests[l.Channel].IsValid() {
				b.s.t.Errorf("%v on channel %d is told twice", l.Address, l.Channel)
			}
			c.interests[l.Channel], c.of[l.Address] = l.Address, l.Channel
			b.meet(c, b.clients[l.Address])
		}
		if len(c.interests) > int(b.max) {
			b.s.t.Errorf("%d interests, %d are taken", len(c.interests), b.max)
		}
	case wire.KindUninterest:
		u, err := wire.ParseUninterest(body)
		if err != nil {
			b.s.t.Error(err)
		}
		for _, channel := range u.Channels {
			other := b.clients[c.interests[channel]]
			delete(c.of, c.interests[channel])
			delete(c.interests, channel)
			b.tell(other, c, false)
		}
	case wire.KindRecord:
		c.signed = bytes.Clone(body)
		for _, a := range c.interests {
			b.tell(b.clients[a], c, true)
		}
	case wire.KindClose:
		b.gone(c)
		delete(b.clients, c.address)
	}
}

// meet tells both of a new link.
func (b *simBase) meet(c, other *simClient) {
	if other == nil || other == c || c.of[other.address] == 0 || other.of[c.address] == 0 {
		return
	}
	b.tell(c, other, true)
	b.tell(other, c, true)
}

// tell tells c of other.
func (b *simBase) tell(c, other *simClient, here bool) {
	if c == nil || c.of[other.address] == 0 || here && other.of[c.address] == 0 {
		return
	}
	p := wire.Peer{Channel: c.of[other.address], Here: here}
	if here {
		p.Signed = other.signed
		if other.conn == nil {
			p.Observed = other.from
		}
	}
	if err := c.s.Queue(wire.KindPeer, p.Append(nil)); err != nil {
		b.s.t.Error(err)
	}
	b.poll(c)
}

func (b *simBase) gone(c *simClient) {
	for _, a := range c.interests {
		b.tell(b.clients[a], c, false)
	}
}

// poll sends what a session has to send, now and later.
func (b *simBase) poll(c *simClient) {
	for p := c.s.Poll(b.s.now); p != nil; p = c.s.Poll(b.s.now) {
		b.send(p, c.from, c.conn)
	}
	if next := c.s.Next(); !next.IsZero() && !c.polled {
		c.polled = true
		b.s.after(max(next.Sub(b.s.now), time.Millisecond), func() {
			c.polled = false
			if b.find(c.session) == c {
				b.poll(c)
			}
		})
	}
}

// drain announces the end.
func (b *simBase) drain(seconds uint16) {
	for _, c := range b.clients {
		b.send(c.s.Unsequenced(b.s.now, wire.KindDrain, wire.Drain{Seconds: seconds}.Append(nil)), c.from, c.conn)
	}
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
