package engine

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/tun"
	"github.com/hnet-robotics/hnet_bridge/overlay/underlay"
)

// network is a simulated underlay: datagrams go from port to port through a filter, in virtual time.
type network struct {
	mu    sync.Mutex
	ports map[netip.AddrPort]*port
	// filter sees every datagram and says what becomes of it; nil delivers at once.
	filter   func(from, to netip.AddrPort, b []byte) []delivery
	filterMu sync.Mutex // held while it runs
	seen     []sighting
	flying   []flying   // by time of arrival
	landing  sync.Mutex // one at a time, in order
}

// delivery is one arrival of a datagram; a filter may return none, several, altered ones.
type delivery struct {
	after time.Duration
	from  netip.AddrPort
	to    netip.AddrPort
	b     []byte
}

type sighting struct {
	from, to netip.AddrPort
	at       time.Time
	b        []byte
}

func newNetwork() *network { return &network{ports: make(map[netip.AddrPort]*port)} }

func (n *network) setFilter(f func(from, to netip.AddrPort, b []byte) []delivery) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.filter = f
}

// count returns how many datagrams of this first byte went from one port.
func (n *network) count(from netip.AddrPort, first byte) (c int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.seen {
		if s.from == from && s.b[0] == first {
			c++
		}
	}
	return c
}

func (n *network) sightings() []sighting {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.seen)
}

// send delivers a train as a train as long as the filter leaves it whole, as UDP_GRO would.
func (n *network) send(from netip.AddrPort, m *underlay.Message) {
	size := m.Segment
	if size == 0 {
		size = len(m.Buf) - m.Headroom
	}
	var train []byte
	first := 0
	flush := func() {
		if len(train) > 0 {
			n.arrive(delivery{from: from, to: m.Remote, b: train}, first)
			train = nil
		}
	}
	for b := m.Buf; len(b) > 0; {
		stride := min(m.Headroom+size, len(b))
		d := bytes.Clone(b[m.Headroom:stride])
		b = b[stride:]
		n.mu.Lock()
		n.seen = append(n.seen, sighting{from, m.Remote, time.Now(), d})
		filter := n.filter
		n.mu.Unlock()
		if filter == nil {
			if train == nil {
				first = len(d)
			}
			train = append(train, d...)
			continue
		}
		n.filterMu.Lock()
		arrivals := filter(from, m.Remote, d)
		n.filterMu.Unlock()
		for _, x := range arrivals {
			n.later(x)
		}
	}
	flush()
}

func (n *network) later(x delivery) {
	if x.after <= 0 {
		n.arrive(x, len(x.b))
		return
	}
	// Timers of one moment fire in any order; each takes what is due first, so that datagrams of one delay keep theirs.
	n.mu.Lock()
	defer n.mu.Unlock()
	at := time.Now().Add(x.after)
	i, _ := slices.BinarySearchFunc(n.flying, at, func(f flying, at time.Time) int {
		if f.at.After(at) {
			return 1
		}
		return -1
	})
	n.flying = slices.Insert(n.flying, i, flying{at, x})
	time.AfterFunc(x.after, func() {
		n.landing.Lock()
		defer n.landing.Unlock()
		n.mu.Lock()
		f := n.flying[0]
		n.flying = n.flying[1:]
		n.mu.Unlock()
		n.arrive(f.delivery, len(f.b))
	})
}

type flying struct {
	at time.Time
	delivery
}

func (n *network) arrive(x delivery, segment int) {
	n.mu.Lock()
	p := n.ports[x.to]
	n.mu.Unlock()
	if p == nil {
		return
	}
	local, there := p.localOf(x.to)
	if !there {
		return
	}
	select {
	case p.in <- arrival{x.from, x.b, segment, local}:
	case <-p.done:
	default: // a full socket buffer loses datagrams
	}
}

type arrival struct {
	from    netip.AddrPort
	b       []byte
	segment int
	local   underlay.Source
}

// port is a simulated socket: it implements underlay.Socket.
type port struct {
	net  *network
	mu   sync.Mutex
	addr netip.AddrPort
	in   chan arrival
	done chan struct{}
	once sync.Once

	uplinks []simUplink
	routed  uint32 // the interface that routing chooses
}

// simUplink is one of several ways of a port to the network.
type simUplink struct {
	index uint32
	addr  netip.AddrPort
	gone  bool
}

// join gives a port another uplink; the first one is that of its address.
func (p *port) join(index uint32, addr string) {
	p.net.mu.Lock()
	defer p.net.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	u := simUplink{index: index, addr: netip.MustParseAddrPort(addr)}
	p.uplinks = append(p.uplinks, u)
	p.net.ports[u.addr] = p
}

// route has routing choose an interface.
func (p *port) route(index uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.routed = index
}

// leave takes an uplink away, or gives it back.
func (p *port) leave(index uint32, gone bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.uplinks {
		if p.uplinks[i].index == index {
			p.uplinks[i].gone = gone
		}
	}
}

func (p *port) localOf(to netip.AddrPort) (s underlay.Source, there bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, u := range p.uplinks {
		if u.addr == to {
			return underlay.Source{Addr: to.Addr(), Interface: u.index}, !u.gone
		}
	}
	return s, true
}

var errNoDevice = errors.New("no such device")

// from is the address that a message leaves from, as the kernel and underlay.UDP choose it.
func (p *port) from(m *underlay.Message) (netip.AddrPort, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.uplinks) == 0 {
		return p.addr, nil
	}
	for _, index := range []uint32{m.Local.Interface, p.routed} {
		for _, u := range p.uplinks {
			if u.index == index && !u.gone {
				return u.addr, nil
			}
		}
		if m.Bound {
			break
		}
	}
	return netip.AddrPort{}, errNoDevice
}

func (n *network) listen(addr string) *port {
	p := &port{net: n, addr: netip.MustParseAddrPort(addr), in: make(chan arrival, 4096), done: make(chan struct{})}
	n.mu.Lock()
	n.ports[p.addr] = p
	n.mu.Unlock()
	return p
}

// move gives the port another address, as roaming does.
func (p *port) move(addr string) {
	p.net.mu.Lock()
	defer p.net.mu.Unlock()
	delete(p.net.ports, p.address())
	p.mu.Lock()
	p.addr = netip.MustParseAddrPort(addr)
	p.mu.Unlock()
	p.net.ports[netip.MustParseAddrPort(addr)] = p
}

func (p *port) address() netip.AddrPort {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.addr
}

func (p *port) ReadBatch(ms []underlay.Message) (int, error) {
	select {
	case a := <-p.in:
		ms[0].N = copy(ms[0].Buf, a.b)
		ms[0].Segment = a.segment
		ms[0].Remote = a.from
		ms[0].Local = a.local
		return 1, nil
	case <-p.done:
		return 0, net.ErrClosed
	}
}

func (p *port) WriteBatch(ms []underlay.Message) (int, error) {
	select {
	case <-p.done:
		return 0, net.ErrClosed
	default:
	}
	for i := range ms {
		from, err := p.from(&ms[i])
		if err != nil {
			return i, err
		}
		p.net.send(from, &ms[i])
	}
	return len(ms), nil
}

func (p *port) LocalPort() uint16 { return p.address().Port() }
func (p *port) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

// device is a simulated hnet0.
type device struct {
	in   chan []byte // packets the host sends
	out  chan []byte // packets the host receives, cut
	done chan struct{}
	once sync.Once
}

func newDevice() *device {
	return &device{in: make(chan []byte, 4096), out: make(chan []byte, 65536), done: make(chan struct{})}
}

func (d *device) ReadBatch(b []byte, ends []int) (n int, err error) {
	used := 0
	take := func(p []byte) {
		if p[0]>>4 == 6 { // else it comes with a header of its own
			clear(b[used : used+tun.HeaderLen])
			used += tun.HeaderLen
		}
		used += copy(b[used:], p)
		ends[n] = used
		n++
	}
	select {
	case p := <-d.in:
		take(p)
	case <-d.done:
		return 0, os.ErrClosed
	}
	for n < len(ends) && len(b)-used > tun.MaxPacket+tun.HeaderLen {
		select {
		case p := <-d.in:
			take(p)
		default:
			return n, nil
		}
	}
	return n, nil
}

func (d *device) Write(parts [][]byte) error {
	super := slices.Concat(parts...)
	var s tun.Splitter
	if err := s.Reset(super); err != nil {
		return err
	}
	for s.Next() {
		select {
		case d.out <- bytes.Clone(s.Packet()):
		case <-d.done:
			return os.ErrClosed
		}
	}
	return nil
}

func (d *device) USO() bool { return true }
func (d *device) Close() error {
	d.once.Do(func() { close(d.done) })
	return nil
}

// contacts is a Directory for tests.
type contacts struct {
	mu   sync.Mutex
	m    map[netip.Addr]Contact
	open bool
	// afterByKey runs when ByKey has decided to let a key in.
	afterByKey func()
}

func (c *contacts) put(x Contact) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil {
		c.m = make(map[netip.Addr]Contact)
	}
	x.Listed = true
	c.m[x.Address] = x
}

func (c *contacts) drop(a netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.m, a)
}

func (c *contacts) ByAddress(a netip.Addr) (Contact, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if x, ok := c.m[a]; ok {
		return x, true
	}
	return Contact{Address: a}, c.open
}

func (c *contacts) ByKey(k identity.PublicKey) (Contact, bool) {
	if x, ok := c.ByAddress(k.Address()); ok {
		x.Key = k
		if c.afterByKey != nil {
			c.afterByKey()
		}
		return x, true
	}
	return Contact{}, false
}

// node is one simulated host of ours.
type node struct {
	*Engine
	id     *identity.Identity
	device *device
	port   *port
	known  *contacts
	mu     sync.Mutex
	events []Event
	stop   func()
}

type nodeOption func(*Config)

func withAES(c *Config) { c.OffersAES = true }

func testIdentity(n byte) *identity.Identity {
	return identity.FromSeed([32]byte{n, 1, 2, 3})
}

func newNode(t testing.TB, n *network, number byte, addr string, opts ...nodeOption) *node {
	t.Helper()
	x := &node{id: testIdentity(number), device: newDevice(), port: n.listen(addr), known: &contacts{}}
	var mu sync.Mutex
	var last time.Time
	c := Config{
		Identity: x.id, Device: x.device, Directory: x.known,
		Stamp: func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			if now := time.Now(); now.Sub(last) < 1<<24 {
				last = last.Add(1 << 24)
			} else {
				last = now
			}
			return last
		},
		Notify: func(e Event) {
			x.mu.Lock()
			defer x.mu.Unlock()
			x.events = append(x.events, e)
		},
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	if x.port.addr.Addr().Is4() {
		c.IPv4 = x.port
	} else {
		c.IPv6 = x.port
	}
	for _, o := range opts {
		o(&c)
	}
	var err error
	if x.Engine, err = New(c); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- x.Engine.Run(ctx) }()
	x.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("engine: %v", err)
		}
	})
	t.Cleanup(x.stop)
	return x
}

// knows makes x whitelist y; with an endpoint if at is not empty.
func (x *node) knows(y *node, at ...string) {
	c := Contact{Address: y.id.Address(), Key: y.id.PublicKey(), Native: true}
	for _, a := range at {
		c.Candidates = append(c.Candidates, netip.MustParseAddrPort(a))
	}
	x.known.put(c)
}

func (x *node) happened(kind EventType) (n int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, e := range x.events {
		if e.Type == kind {
			n++
		}
	}
	return n
}

// udpPacket builds an IPv6 UDP packet of total bytes whose payload tells number.
func udpPacket(from, to netip.Addr, number uint32, total int) []byte {
	b := make([]byte, max(total, 40))
	b[0] = 0x60
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
	b[6], b[7] = 17, 64
	if len(b) < 48 {
		b[6] = 59 // no next header
	}
	copy(b[8:], from.AsSlice())
	copy(b[24:], to.AsSlice())
	if len(b) >= 48 {
		binary.BigEndian.PutUint16(b[40:], 5000)
		binary.BigEndian.PutUint16(b[42:], 7)
		binary.BigEndian.PutUint16(b[44:], uint16(len(b)-40))
		for i := 48; i < len(b); i++ {
			b[i] = byte(number) + byte(i)
		}
		if len(b) >= 52 {
			binary.BigEndian.PutUint32(b[48:], number)
		}
		sum := udpChecksum(b)
		if sum == 0 {
			sum = 0xffff
		}
		binary.BigEndian.PutUint16(b[46:], sum)
	}
	return b
}

// udpChecksum is the naive sum over pseudo header and datagram.
func udpChecksum(b []byte) uint16 {
	sum := uint32(len(b)-40) + 17
	for i := 8; i < len(b); i += 2 {
		if i == 46 {
			continue
		}
		sum += uint32(b[i]) << 8
		if i+1 < len(b) {
			sum += uint32(b[i+1])
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

func (x *node) send(b []byte) { x.device.in <- b }

// received returns what came out of hnet0 once everything has settled.
func (x *node) received() (got [][]byte) {
	synctest.Wait()
	for {
		select {
		case b := <-x.device.out:
			got = append(got, b)
		default:
			return got
		}
	}
}

func mustReceive(t *testing.T, x *node, want ...[]byte) {
	t.Helper()
	got := x.received()
	if len(got) != len(want) {
		t.Fatalf("received %d packets, want %d", len(got), len(want))
	}
	for i := range got {
		if !bytes.Equal(got[i], want[i]) {
			t.Fatalf("packet %d of %d differs: got %d bytes, want %d", i, len(want), len(got[i]), len(want[i]))
		}
	}
}
