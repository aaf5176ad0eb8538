package client

import (
	"bytes"
	"net/netip"
	"slices"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/base/session"
	"github.com/hnet-robotics/hnet_bridge/overlay/base/wire"
	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
)

// reunion is the Base's: how long a client that registers anew may take to name its peers again before they are told that it is gone.
const reunion = 2 * time.Second

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
	old := b.clients[c.address]
	b.clients[c.address] = c
	if old == nil {
		return
	}
	// Its peers stay linked if it names them again.
	b.s.after(reunion, func() {
		if b.clients[c.address] != c {
			return
		}
		for _, a := range old.interests {
			if c.of[a] == 0 {
				b.tell(b.clients[a], c, false)
			}
		}
	})
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
