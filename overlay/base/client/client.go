package client

import (
	crand "crypto/rand"
	"encoding/binary"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/base/wire"
	"github.com/hnet-robotics/hnet_bridge/overlay/underlay"
)

// filterWithin is how long after a FilterTest its probe is taken.
const filterWithin = 10 * time.Second

// Client keeps registrations with the nearest Bases and Relays to the peers that are there. Its methods are safe for concurrent use, before and during
// Run, and do not wait for the network.
type Client struct {
	cfg    Config
	inbox  *inbox
	dialer dialer

	filterUntil atomic.Int64 // Unix nanoseconds
	mu          sync.Mutex
	machine     *machine

	// Of the goroutine in Run alone:
	sampled time.Time
	dials   map[uint64]func() // cancels a connection that is being made
	dialing map[netip.Addr]int
}

// New returns a Client that sends nothing until it runs and has Bases and a record.
func New(cfg Config) *Client {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Resolve == nil {
		cfg.Resolve = lookup
	}
	if cfg.Dial == nil {
		cfg.Dial = (&net.Dialer{}).DialContext
	}
	if cfg.Deliver == nil {
		cfg.Deliver = func(*Relay, []byte) {}
	}
	c := &Client{
		cfg: cfg, inbox: newInbox(), dialer: dialer{dial: cfg.Dial, proxy: cfg.Proxy},
		dials: make(map[uint64]func()), dialing: make(map[netip.Addr]int),
	}
	c.machine = newMachine(machineConfig{
		identity: cfg.Identity, random: crand.Reader, seed: systemRandom{}, usable: cfg.Usable, relay: cfg.Relay, wake: c.inbox.poke, lowData: cfg.LowData,
	})
	return c
}

// systemRandom is the operating system's source of randomness.
type systemRandom struct{}

func (systemRandom) Uint64() uint64 {
	var b [8]byte
	_, _ = crand.Read(b[:])
	return binary.NativeEndian.Uint64(b[:])
}

// change changes the machine; Run does what follows from it.
func (c *Client) change(do func(m *machine, now time.Time)) {
	c.mu.Lock()
	do(c.machine, time.Now())
	c.mu.Unlock()
	c.inbox.poke()
}

// SetServers sets the known Bases, those of the configuration first. What stays keeps its registration. Those without an address of a node, named
// twice or beyond 48 are passed over.
func (c *Client) SetServers(servers []Server) {
	c.change(func(m *machine, now time.Time) { m.setServers(now, servers) })
}

// SetRecord sets our own signed contact record, which is told to all registered Bases. Without one nothing is registered. It fails if the record is bad
// or not this identity's own.
func (c *Client) SetRecord(signed []byte) (err error) {
	c.change(func(m *machine, _ time.Time) { err = m.setRecord(signed) })
	return err
}

// SetInterests sets the peers that are looked for, the whole set, at most 10,000 in order of importance. Channels stay for those who stay.
func (c *Client) SetInterests(peers []netip.Addr) {
	c.change(func(m *machine, _ time.Time) { m.setInterests(peers) })
}

// Want tells that contact with peer is wanted now: unless it is here, it is looked for at all known Bases for 60 s, whether it is one of the interests
// or not.
func (c *Client) Want(peer netip.Addr) {
	c.change(func(m *machine, now time.Time) { m.want(now, peer) })
}

// LinksChanged tells that addresses or routes of this host changed: registrations are moved or made anew at once.
func (c *Client) LinksChanged() {
	c.change(func(m *machine, now time.Time) { m.linksChanged(now) })
}

// Suspect tells that a relay through base seems dead: it is asked at once.
func (c *Client) Suspect(base netip.Addr) {
	c.change(func(m *machine, now time.Time) { m.suspect(now, base) })
}

// FilterTest asks base to send a filter probe with nonce from its alternate port to the endpoint that it observed; a FilterProbe event follows if the
// probe arrives. It fails if base is not registered with over UDP.
func (c *Client) FilterTest(base netip.Addr, nonce [12]byte) (err error) {
	c.filterUntil.Store(time.Now().Add(filterWithin).UnixNano())
	c.change(func(m *machine, now time.Time) { err = m.filterTest(now, base, nonce) })
	return err
}

// Control takes a datagram of types 0x41, 0x43, 0x45, 0x4a and 0x4b that arrived on a main socket; others are passed over. It does not block and keeps
// nothing of b.
func (c *Client) Control(now time.Time, b []byte, from netip.AddrPort, _ underlay.Source) {
	from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
	switch wire.TypeOf(b) {
	case wire.TypeCookie, wire.TypeWelcome, wire.TypeBaseControl, wire.TypeUnknown:
		if !c.machine.known.has(from) {
			return
		}
	case wire.TypeFilterProbe:
		if now.UnixNano() > c.filterUntil.Load() {
			return
		}
	default:
		return
	}
	c.inbox.datagram(b, from)
}

// Relayed returns the Relay that a datagram of type 0x49 on a main socket came by, and the datagram it carries, which is part of b; nil if there is
// none. It takes no lock and allocates nothing.
func (c *Client) Relayed(b []byte, from netip.AddrPort) (carrier *Relay, inner []byte) {
	return c.machine.ways.relayed(b, from, nil)
}

// Relays returns the live carriers to a peer, the best first: UDP before TCP, nearer Bases before others.
func (c *Client) Relays(peer netip.Addr) []*Relay {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.machine.relays(time.Now(), peer)
}

// Status tells of all known Bases, in the order of SetServers.
func (c *Client) Status() []Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.machine.status()
}

// Home returns the Bases that are kept registered, the best first, at most record.MaxBases: what our contact record should name.
func (c *Client) Home() []netip.Addr {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.machine.home()
}
