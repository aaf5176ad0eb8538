package anywhere

import (
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
	"github.com/hnet-robotics/hnet_bridge/overlay/stun"
	"github.com/hnet-robotics/hnet_bridge/test/internet"
)

// liar is a Base that does what it should in form, and whatever it likes in substance.
type liar struct {
	id       *identity.Identity
	acceptor *session.Acceptor
	random   *rand.Rand
	send     func(b []byte, to netip.AddrPort)
	port     uint16 // the second one

	// All but the maps and the sessions is set before clients come.
	observed func(c *victimized, true netip.AddrPort) netip.AddrPort    // what a client is told of itself, and its peers of it
	records  func(to, of *victimized) [][]byte                          // what is passed for a peer's record
	relay    func(from, to *victimized, b []byte) [][]byte              // what comes out for what goes in; not to be kept
	mapped   func(at netip.AddrPort, second bool) (told netip.AddrPort) // what STUN says

	mu      sync.Mutex
	number  uint32
	clients map[uint32]*victimized
}

// victimized is a client of a liar.
type victimized struct {
	address  netip.Addr
	at       netip.AddrPort
	session  *session.Session
	index    uint32
	channels map[uint32]netip.Addr
	told     map[uint32]bool
	record   []byte   // of its own register
	captured [][]byte // what was relayed to it
}

func newLiar(seed byte) *liar {
	id := identity.FromSeed([32]byte{7, seed})
	return &liar{
		id: id, acceptor: session.NewAcceptor(id, nil), random: rand.New(rand.NewPCG(5, uint64(seed))), clients: make(map[uint32]*victimized),
		observed: func(_ *victimized, true netip.AddrPort) netip.AddrPort { return true },
		records:  func(_, of *victimized) [][]byte { return [][]byte{of.record} },
		relay:    func(_, _ *victimized, b []byte) [][]byte { return [][]byte{b} },
		mapped:   func(at netip.AddrPort, _ bool) netip.AddrPort { return at },
	}
}

// serve serves on a host until the end of the test.
func (l *liar) serve(t testing.TB, h *internet.Host) {
	t.Helper()
	at := h.Addrs()[0]
	main, second := listenUDP(t, h.Host, netip.AddrPortFrom(at, 5582)), listenUDP(t, h.Host, netip.AddrPortFrom(at, 3478))
	l.port = 3478
	l.send = func(b []byte, to netip.AddrPort) { main.WriteToUDPAddrPort(b, to) }
	stop := make(chan struct{})
	var done sync.WaitGroup
	for _, c := range []*net.UDPConn{main, second} {
		done.Go(func() {
			b := make([]byte, 1<<16)
			for {
				n, from, err := c.ReadFromUDPAddrPort(b)
				if err != nil {
					return
				}
				from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
				l.mu.Lock()
				if id, ok := stun.ParseRequest(b[:n]); ok {
					c.WriteToUDPAddrPort(stun.AppendSuccess(nil, id, l.mapped(from, c == second)), from)
				} else {
					l.arrived(b[:n], from)
				}
				l.mu.Unlock()
			}
		})
	}
	done.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			l.locked(l.flushAll)
		}
	})
	t.Cleanup(func() {
		close(stop)
		main.Close()
		second.Close()
		done.Wait()
	})
}

func (l *liar) flush(c *victimized) {
	for b := c.session.Poll(time.Now()); b != nil; b = c.session.Poll(time.Now()) {
		l.send(b, c.at)
	}
}

// arrived takes a datagram. The lock is held, here and below.
func (l *liar) arrived(b []byte, from netip.AddrPort) {
	now := time.Now()
	switch wire.TypeOf(b) {
	case wire.TypeHello:
		if cookie, err := l.acceptor.HandleHello(now, b, from); err == nil {
			l.send(cookie, from)
		}
	case wire.TypeRegister:
		l.register(now, b, from)
	case wire.TypeControl:
		h, _, err := wire.ParseControl(b)
		if c := l.clients[h.Index]; err == nil && c != nil {
			c.at = from
			_, _ = c.session.Receive(now, b, func(kind wire.Kind, body []byte) { l.said(now, c, kind, body) })
			l.flush(c)
		}
	case wire.TypeRelay:
		number, _, channel, _ := wire.ParseRelay(b)
		from := l.clients[number]
		if from == nil {
			return
		}
		to := l.of(from.channels[channel])
		if to == nil {
			return
		}
		for _, out := range l.relay(from, to, b[wire.RelayHeaderLen:]) {
			l.deliver(to, from.address, out)
		}
	}
}

func (l *liar) register(now time.Time, b []byte, from netip.AddrPort) {
	r, err := l.acceptor.HandleRegister(now, b, from)
	if err != nil {
		return
	}
	for _, known := range l.clients {
		if known.session.RegisteredBy(r.Ephemeral) {
			l.send(known.session.Welcome(), from)
			return
		}
	}
	l.number++
	c := &victimized{address: r.Key.Address(), at: from, index: r.Index, record: r.Signed, channels: make(map[uint32]netip.Addr), told: make(map[uint32]bool)}
	welcome, s, err := r.Accept(now, wire.WelcomePayload{
		Session: l.number, Token: l.random.Uint32(), Observed: l.observed(c, from), Hops: 3, AlternatePort: l.port, Keep: 150 * time.Second, MaxInterests: 1000,
	})
	if err != nil {
		return
	}
	c.session = s
	l.clients[l.number] = c
	l.send(welcome, from)
}

// of is the newest registration of a node.
func (l *liar) of(address netip.Addr) (newest *victimized) {
	most := uint32(0)
	for number, c := range l.clients {
		if c.address == address && number >= most {
			most, newest = number, c
		}
	}
	return newest
}

func (l *liar) said(now time.Time, c *victimized, kind wire.Kind, body []byte) {
	switch kind {
	case wire.KindPing:
		if p, err := wire.ParsePing(body); err == nil {
			l.send(c.session.Unsequenced(now, wire.KindPong, wire.Pong{Opaque: p.Opaque, Observed: l.observed(c, c.at), Hops: 3}.Append(nil)), c.at)
		}
	case wire.KindRecord:
		c.record = slices.Clone(body)
		for _, other := range l.clients {
			l.introduce(other, c, true)
		}
	case wire.KindInterest:
		m, err := wire.ParseInterest(body)
		if err != nil {
			return
		}
		for _, link := range m.Links {
			c.channels[link.Channel] = link.Address
			if other := l.of(link.Address); other != nil {
				l.introduce(c, other, false)
				l.introduce(other, c, false)
			}
		}
	}
}

// introduce tells a client of another whom it asks for.
func (l *liar) introduce(to, of *victimized, again bool) {
	channel := channelTo(to, of.address)
	if channel == 0 || to.told[channel] && !again {
		return
	}
	to.told[channel] = true
	for _, signed := range l.records(to, of) {
		_ = to.session.Queue(wire.KindPeer, wire.Peer{Channel: channel, Here: true, Observed: l.observed(of, of.at), Signed: signed}.Append(nil))
	}
	l.flush(to)
}

func channelTo(c *victimized, address netip.Addr) uint32 {
	for channel, a := range c.channels {
		if a == address {
			return channel
		}
	}
	return 0
}

// deliver sends a client something as if another had relayed it.
func (l *liar) deliver(to *victimized, as netip.Addr, b []byte) {
	channel := channelTo(to, as)
	if channel == 0 {
		return
	}
	framed := make([]byte, wire.RelayHeaderLen, wire.RelayHeaderLen+len(b))
	wire.PutRelayed(framed, to.index, channel)
	l.send(append(framed, b...), to.at)
}

// later is deliver after a while. It keeps b.
func (l *liar) later(d time.Duration, from, to *victimized, b []byte) {
	time.AfterFunc(d, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.deliver(to, from.address, b)
	})
}

func (l *liar) locked(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

func (l *liar) flushAll() {
	for _, c := range l.clients {
		l.flush(c)
	}
}
