package server

import (
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/base/session"
	"github.com/hnet-robotics/hnet_bridge/overlay/base/wire"
	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/record"
	"github.com/hnet-robotics/hnet_bridge/overlay/underlay"
)

// epoch is when simulated servers start.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// identityOf makes the identity of a number.
func identityOf(n int) *identity.Identity {
	var seed [32]byte
	binary.BigEndian.PutUint64(seed[:], uint64(n))
	return identity.FromSeed(seed)
}

// endpointOf gives each number an endpoint in a /24 of its own.
func endpointOf(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{byte(10 + n>>16), byte(n >> 8), byte(n), 1}), 5582)
}

// signedRecord is a contact record of id.
func signedRecord(t testing.TB, id *identity.Identity, sequence uint64) []byte {
	t.Helper()
	r := record.Record{Sequence: sequence, Lifetime: time.Hour, Endpoints: []netip.AddrPort{netip.MustParseAddrPort("192.168.1.2:5582")}}
	b, err := r.Sign(id)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// wireSocket is a UDP socket whose datagrams are collected.
type wireSocket struct {
	mu   sync.Mutex
	sent []underlay.Message
	port uint16
	full bool
}

func (w *wireSocket) ReadBatch([]underlay.Message) (int, error) { return 0, net.ErrClosed }
func (w *wireSocket) LocalPort() uint16                         { return w.port }
func (w *wireSocket) Close() error                              { return nil }
func (w *wireSocket) WriteBatch(ms []underlay.Message) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.full {
		return 0, underlay.ErrFull
	}
	for _, m := range ms {
		m.Buf = slices.Clone(m.Buf)
		w.sent = append(w.sent, m)
	}
	return len(ms), nil
}

func (w *wireSocket) take() []underlay.Message {
	w.mu.Lock()
	defer w.mu.Unlock()
	sent := w.sent
	w.sent = nil
	return sent
}

// sim is a server without goroutines, in virtual time, and its clients.
type sim struct {
	t       testing.TB
	s       *Server
	now     time.Time
	sock    *wireSocket
	other   *wireSocket // alternate port
	pump    *pump
	clients map[netip.AddrPort]*simClient
	stray   []underlay.Message
}

func newSim(t testing.TB, limits Limits, admit func(netip.Addr) bool) *sim {
	t.Helper()
	s, err := newServer(Config{Identity: identityOf(1 << 30), Admit: admit, Limits: limits}, epoch)
	if err != nil {
		t.Fatal(err)
	}
	s.inline = true
	x := &sim{t: t, s: s, now: epoch, sock: &wireSocket{port: 5582}, other: &wireSocket{port: 3478}, clients: map[netip.AddrPort]*simClient{}}
	s.alternate.Store(&Sockets{IPv4: x.other, IPv6: x.other})
	x.pump = &pump{e: &s.egress}
	return x
}

// arrive brings the server a datagram.
func (x *sim) arrive(from netip.AddrPort, b []byte) {
	x.train(from, b, 0)
}

func (x *sim) train(from netip.AddrPort, b []byte, segment int) {
	m := underlay.Message{Buf: slices.Clone(b), N: len(b), Segment: segment, Remote: from, TTL: 60}
	x.s.Handle(x.now, &m, m.Buf[:m.N], x.sock)
}

// deliver moves datagrams until none is under way.
func (x *sim) deliver() {
	x.t.Helper()
	for range 10_000 {
		x.s.Tick(x.now)
		x.pumpAll()
		sent := append(x.sock.take(), x.other.take()...)
		if len(sent) == 0 {
			return
		}
		for _, m := range sent {
			c := x.clients[m.Remote]
			if c == nil {
				x.stray = append(x.stray, m)
				continue
			}
			size := m.Segment
			if size == 0 {
				size = len(m.Buf)
			}
			for b := range slices.Chunk(m.Buf, size) {
				c.receive(b)
			}
		}
	}
	x.t.Fatal("it does not come to rest")
}

func (x *sim) pumpAll() {
	for {
		x.s.egress.next(x.s.nano(x.now), &x.pump.batch)
		if x.pump.posted+x.pump.relayed == 0 {
			return
		}
		x.pump.send(func() int64 { return x.s.nano(x.now) })
	}
}

// sleep lets time pass.
func (x *sim) sleep(d time.Duration) {
	x.t.Helper()
	end := x.now.Add(d)
	for x.now.Before(end) {
		x.now = x.now.Add(min(250*time.Millisecond, end.Sub(x.now)))
		for _, c := range x.clients {
			c.poll()
		}
		x.deliver()
	}
}

// simClient is the client's side, on the session package.
type simClient struct {
	x          *sim
	id         *identity.Identity
	at         netip.AddrPort
	signed     []byte
	handshake  *session.Client
	session    *session.Session
	welcome    wire.WelcomePayload
	peers      []wire.Peer
	relayed    [][]byte
	pongs      []wire.Pong
	probes     int
	unknown    int
	drained    bool
	closed     bool
	silent     bool // sends no acknowledgements
	mute       bool // does not answer the Base's pings
	hold       bool // does not answer the welcome
	registered []byte
}

func (x *sim) client(n int) *simClient {
	x.t.Helper()
	return x.clientAt(n, endpointOf(n))
}

func (x *sim) clientAt(n int, at netip.AddrPort) *simClient {
	c := &simClient{x: x, id: identityOf(n), at: at}
	c.signed = signedRecord(x.t, c.id, 1)
	x.clients[at] = c
	return c
}

// register makes a new session.
func (c *simClient) register() *simClient {
	c.x.t.Helper()
	var err error
	c.handshake, err = session.NewClient(session.ClientConfig{Identity: c.id, Base: c.x.s.cfg.Identity.Address(), Index: rand.Uint32()})
	if err != nil {
		c.x.t.Fatal(err)
	}
	c.session = nil
	c.x.arrive(c.at, c.handshake.Hello(c.x.now))
	c.x.deliver()
	return c
}

func (c *simClient) move(to netip.AddrPort) {
	delete(c.x.clients, c.at)
	c.at = to
	c.x.clients[to] = c
}

func (c *simClient) receive(b []byte) {
	t := c.x.t
	switch wire.TypeOf(b) {
	case wire.TypeCookie:
		register, _, err := c.handshake.HandleCookie(c.x.now, b, c.signed)
		if err != nil {
			t.Fatal(err)
		}
		c.registered = slices.Clone(register)
		c.x.arrive(c.at, register)
	case wire.TypeWelcome:
		s, w, err := c.handshake.HandleWelcome(c.x.now, b)
		if err != nil {
			return
		}
		c.session, c.welcome = s, w
		if !c.hold {
			c.ping()
		}
	case wire.TypeBaseControl:
		if c.session == nil || c.silent {
			return
		}
		_, err := c.session.Receive(c.x.now, b, func(kind wire.Kind, body []byte) {
			switch kind {
			case wire.KindPeer:
				p, err := wire.ParsePeer(body)
				if err != nil {
					t.Error(err)
				}
				p.Signed = slices.Clone(p.Signed)
				c.peers = append(c.peers, p)
			case wire.KindPing:
				// The Base asks whether this is the client's endpoint.
				if p, err := wire.ParsePing(body); err == nil && !c.mute {
					c.x.arrive(c.at, c.session.Unsequenced(c.x.now, wire.KindPong, wire.Pong{Opaque: p.Opaque}.Append(nil)))
				}
			case wire.KindPong:
				p, err := wire.ParsePong(body)
				if err != nil {
					t.Error(err)
				}
				c.pongs = append(c.pongs, p)
			case wire.KindDrain:
				c.drained = true
			case wire.KindClose:
				c.closed = true
			}
		})
		if err != nil {
			return
		}
		c.poll()
	case wire.TypeRelayed:
		index, channel, _ := wire.ParseRelayed(b)
		if c.session == nil || index != c.session.Local() {
			t.Errorf("relayed to index %d", index)
		}
		c.relayed = append(c.relayed, append([]byte{byte(channel)}, b[wire.RelayHeaderLen:]...))
	case wire.TypeFilterProbe:
		c.probes++
	case wire.TypeUnknown:
		c.unknown++
	default:
		t.Errorf("the client gets %d bytes, type %#x", len(b), b[0])
	}
}

func (c *simClient) poll() {
	if c.session == nil || c.silent {
		return
	}
	for b := c.session.Poll(c.x.now); b != nil; b = c.session.Poll(c.x.now) {
		c.x.arrive(c.at, b)
	}
}

func (c *simClient) say(kind wire.Kind, body []byte) {
	if b := c.session.Unsequenced(c.x.now, kind, body); b != nil {
		c.x.arrive(c.at, b)
	}
}

func (c *simClient) ping() { c.say(wire.KindPing, wire.Ping{Opaque: [8]byte{7}}.Append(nil)) }

func (c *simClient) queue(kind wire.Kind, body []byte) {
	c.x.t.Helper()
	if err := c.session.Queue(kind, body); err != nil {
		c.x.t.Fatal(err)
	}
	c.poll()
	c.x.deliver()
}

func (c *simClient) interest(channel uint32, in *simClient) {
	c.x.t.Helper()
	c.queue(wire.KindInterest, wire.Interest{Links: []wire.Link{{Channel: channel, Address: in.id.Address()}}}.Append(nil))
}

// relay sends datagrams of equal size on a channel as one train.
func (c *simClient) relay(channel uint32, datagrams ...string) {
	var b []byte
	for _, d := range datagrams {
		var header [wire.RelayHeaderLen]byte
		wire.PutRelay(header[:], c.welcome.Session, c.welcome.Token, channel)
		b = append(append(b, header[:]...), d...)
	}
	segment := 0
	if len(datagrams) > 1 {
		segment = wire.RelayHeaderLen + len(datagrams[0])
	}
	c.x.train(c.at, b, segment)
	c.x.deliver()
}
