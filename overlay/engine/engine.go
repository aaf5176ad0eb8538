// Package engine carries IP packets between hnet0 and the peers: the way from the TUN device to the UDP socket and back, each run to
// completion in the goroutine that read the batch.
//
//	tun.Device -> outbound -> peer lanes (only while there is no session or path, or the path takes no more) -> seal -> train -> carrier -> underlay.Socket
//	underlay.Socket -> demultiplex -> open -> replay window -> allowed prefixes -> tun.Coalescer -> tun.Device
//
// The protocol's decisions are the wireguard package's; who may talk is the Directory's. The engine owns the peer table, the paths in use, their
// pacing and the lanes.
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hnet-robotics/hnet_bridge/overlay/fragment"
	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/lane"
	"github.com/hnet-robotics/hnet_bridge/overlay/path"
	"github.com/hnet-robotics/hnet_bridge/overlay/tun"
	"github.com/hnet-robotics/hnet_bridge/overlay/underlay"
	"github.com/hnet-robotics/hnet_bridge/overlay/wireguard"
)

// Contact is what the node knows of a peer that may talk to it.
type Contact struct {
	Address netip.Addr
	// Key is zero until it has been learned.
	Key identity.PublicKey
	PSK wireguard.PSK
	// Candidates are endpoints at which the peer may be; the first handshake goes to all of them and the first answer decides.
	Candidates []netip.AddrPort
	// Observed are those of them at which a Base saw the peer, Named those that its own record names: only what is both is sought by guessing ports.
	Observed, Named []netip.AddrPort
	// Relays are ways by a Base, or by a peer that relays; the best first.
	Relays []Relay
	// Native says that the peer is one of our daemons, known by its signed record.
	Native bool
	// Listed says that the whitelist names the peer; others are let in only while the whitelist is off, and may be evicted.
	Listed bool
}

// Directory answers who may talk. Its methods must not block and must not call the Engine.
type Directory interface {
	ByAddress(netip.Addr) (Contact, bool)
	// ByKey is asked for every authentic handshake; the contact's Key must be key.
	ByKey(key identity.PublicKey) (Contact, bool)
}

// EventType says what an Event tells.
type EventType uint8

// The events.
const (
	// PeerUp: a session exists and the peer answers.
	PeerUp EventType = iota
	// PeerDown: the last session's keys were erased, nobody answered, or the peer left the whitelist.
	PeerDown
	// PathChanged: the peer is reached through Path from now on.
	PathChanged
	// ContactWanted: packets wait for a peer whose key or endpoint is not known, or nobody answers at the known ones.
	ContactWanted
	// Refused: a handshake came from a key that the Directory does not let in.
	Refused
	// TooLarge: a datagram was larger than the path can carry.
	TooLarge
	// CopiesWanted: traffic with the peer goes on two paths, and this host has uplinks that routing does not choose: SetSpareEndpoints is to tell where
	// it may be found by them. It comes every 20 s as long as that is so.
	CopiesWanted
)

// Event is something that happened to a peer.
type Event struct {
	Type EventType
	Peer netip.Addr
	Path Path
}

// Own takes the datagrams of our own types and of STUN. Its methods are called in the sockets' loops: they must neither block nor keep what
// they are given.
type Own interface {
	// Train may take a whole train, as a relay for others does; what it does not take is given on datagram by datagram.
	Train(now time.Time, m *underlay.Message, s underlay.Socket) (taken bool)
	// Relayed finds the carrier that a datagram came by and takes the relay's header off; nil if it is none that a relay of ours sent.
	Relayed(b []byte, from netip.AddrPort) (via Relay, inner []byte)
	// Control takes all others.
	Control(now time.Time, b []byte, from netip.AddrPort, local underlay.Source)
}

// Config is what an Engine is made from. All fields but IPv4 or IPv6 (one of them), Notify, OnLink, Route, Unpaced, LowData,
// Scout, Own, Admit, Depart, IPv4Message,
// Inspect, Multicast and Log must be set.
type Config struct {
	Identity  *identity.Identity
	Device    tun.Device
	IPv4      underlay.Socket
	IPv6      underlay.Socket
	Directory Directory
	// Excluded is the index of the Device's own interface: what arrives through it is never underlay.
	Excluded uint32
	// Stamp gives the timestamps of handshakes; see wireguard.PeerConfig.
	Stamp func() time.Time
	// OffersAES says whether this machine wants AES-256-GCM with daemons that want it too.
	OffersAES bool
	// Notify is told of events; it must neither block nor call the Engine.
	Notify func(Event)
	// OnLink reports whether an underlay address is on a link of this host. It may be nil, and must neither block nor call the Engine.
	OnLink func(netip.Addr) bool
	// Route returns the index of the interface by which the kernel sends to an underlay address, 0 if it does not know; see SetUplinks. nil has the host
	// taken for one with a single uplink. It is called in the sockets' loops and must be quick.
	Route func(netip.Addr) uint32
	// Unpaced has no path held to what it takes without a queue. The peers are told what they need to hold back all the same.
	Unpaced bool
	// LowData has the peers told more rarely.
	LowData bool
	// Scout opens one of the many light sockets of port prediction, of the family of a remote; nil = no port prediction.
	Scout func(remote netip.Addr) (underlay.Socket, error)
	// Own takes what arrives on the sockets and is neither WireGuard's nor a relayed datagram; nil throws it away.
	Own Own
	// Admit says whether an IP packet of a peer, whose source has been checked, may go on to hnet0, the Inspector and Multicast; nil lets all pass. It is
	// called in the sockets' loops, several at once, and must not block or keep the packet. It may change what is behind the packet's IP header, in
	// place, if checksums stay right.
	Admit func(peer netip.Addr, packet []byte) bool
	// Depart sees each IP packet of this host to a peer, with complete checksums, just before it is sealed, and may change it as Admit may; nil leaves
	// them as they are. It is called by all that send, several at once, and must neither block nor keep the packet.
	Depart func(peer netip.Addr, packet []byte)
	// IPv4Message takes what peers say inside the tunnel of IPv4 addresses, see package inet4; nil throws it away. It is called in the sockets' loops and
	// must neither block nor keep what it is given.
	IPv4Message func(now time.Time, peer netip.Addr, message []byte)
	// Inspect makes the Inspector of one goroutine; it is called by each that carries packets. nil = nobody looks.
	Inspect func() Inspector
	// Multicast decides what becomes of multicast packets; nil = they are dropped.
	Multicast Multicast
	Log       *slog.Logger
}

// Engine is the data path of one node.
type Engine struct {
	cfg     Config
	local   *wireguard.Local
	address netip.Addr
	peers   table
	timers  schedule
	stats   Stats

	gateMu sync.Mutex
	gate   *wireguard.Gate

	// control is the sealing context of whatever is sent outside the device's and the sockets' loops.
	controlMu sync.Mutex
	control   *outbound

	spareEnds  atomic.Pointer[[]netip.AddrPort] // where by uplinks that routing does not choose
	ends       atomic.Pointer[ends]             // where this node may be found
	ipv4       atomic.Pointer[ipv4Table]
	hops       atomic.Int32 // routers between this node and its Base
	uplinks    atomic.Pointer[uplinks]
	waiting    lane.Budget  // of all lanes
	joining    atomic.Int64 // bytes of all packets in reassembly
	echoes     echoes
	deliveries deliveries
	quota      quota
	sprays     sprays
	unreach    limiter
	refusals   limiter
}

// Stats counts what the engine threw away, by reason.
type Stats struct {
	Unknown      atomic.Uint64 // datagrams of no known protocol
	Malformed    atomic.Uint64 // authentic messages whose content was not a valid packet
	Unauthentic  atomic.Uint64 // messages that failed authentication or named an unknown session
	Replayed     atomic.Uint64 // messages that came before or too late
	Copies       atomic.Uint64 // messages that came twice because the peer sends them on two paths
	Refused      atomic.Uint64 // handshakes of keys that are not let in
	Spoofed      atomic.Uint64 // packets from or to addresses that are not the peer's or ours
	Denied       atomic.Uint64 // packets of this host to addresses that the whitelist does not name
	Barred       atomic.Uint64 // packets of peers that Config.Admit turned away
	Signalled    atomic.Uint64 // segments of TCP dropped, or marked, because a queue that nobody else keeps short was too long
	LaneOverflow atomic.Uint64 // packets that waited too long or for which there was no room to wait
	SendErrors   atomic.Uint64 // trains that the kernel did not take
	WriteErrors  atomic.Uint64 // packets that hnet0 did not take
}

// New makes an engine; Run starts it.
func New(c Config) (*Engine, error) {
	if c.IPv4 == nil && c.IPv6 == nil {
		return nil, errors.New("the engine has no socket: neither IPv4 nor IPv6 could be opened")
	}
	if c.Notify == nil {
		c.Notify = func(Event) {}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	e := &Engine{
		cfg:     c,
		local:   wireguard.NewLocal(c.Identity.PrivateKey(), c.Identity.PublicKey(), c.OffersAES),
		address: c.Identity.Address(),
		gate:    wireguard.NewGate(c.Identity.PublicKey()),
		echoes:  newEchoes(),
	}
	e.peers.init()
	e.timers.init()
	e.control = newOutbound(e)
	return e, nil
}

// Run moves packets until ctx ends or the device or a socket fails for good. It closes the device and the sockets, and returns nil when ctx ended.
func (e *Engine) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	e.sprays.begin(ctx)
	defer e.sprays.end()
	g.Go(func() error { return e.deviceLoop() })
	for _, s := range []underlay.Socket{e.cfg.IPv4, e.cfg.IPv6} {
		if s != nil {
			g.Go(func() error { return e.socketLoop(s) })
		}
	}
	g.Go(func() error { e.timerLoop(ctx); return nil })
	g.Go(func() error {
		<-ctx.Done()
		e.cfg.Device.Close()
		for _, s := range []underlay.Socket{e.cfg.IPv4, e.cfg.IPv6} {
			if s != nil {
				s.Close()
			}
		}
		return ctx.Err()
	})
	if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// Stats returns the engine's counters; they may be read at any time.
func (e *Engine) Stats() *Stats { return &e.stats }

// Connect begins contact with a peer if there is no session, as the first packet to it would.
func (e *Engine) Connect(address netip.Addr) error {
	return e.contact(address, false)
}

// Renew begins a handshake with a peer even if there is a session, because the peer restarted or may have moved.
func (e *Engine) Renew(address netip.Addr) error {
	return e.contact(address, true)
}

func (e *Engine) contact(address netip.Addr, renew bool) error {
	p := e.peerFor(address)
	if p == nil {
		return fmt.Errorf("%s is not on the whitelist: add it with 'hnet whitelist add %s'", address, address)
	}
	e.with(p, func(now time.Time) wireguard.Todo {
		if p.machine == nil {
			e.want(p)
			return 0
		}
		if !renew && p.machine.Session(now) != nil {
			return 0
		}
		return p.machine.Contact(now)
	})
	return nil
}

// Refresh tells that the Directory's answer for a peer changed: its key was learned, its endpoints or its pre-shared key
// changed, or it may not talk any more, which ends its session at once.
func (e *Engine) Refresh(address netip.Addr) {
	p := e.peers.get(address)
	if p == nil {
		return
	}
	contact, allowed := e.cfg.Directory.ByAddress(address)
	if !allowed {
		e.remove(p)
		return
	}
	e.with(p, func(now time.Time) wireguard.Todo {
		changed := p.adopt(e, contact)
		p.offer(e, now, contact)
		waits := !p.lanes.Empty()
		if p.machine == nil || (p.machine.Session(now) != nil && !p.routes.silent) {
			return 0
		}
		if _, handshaking := p.machine.Handshaking(); !changed && !waits && !handshaking {
			return 0
		}
		return p.machine.Contact(now)
	})
}

// RefreshAll does what Refresh does for every peer in the table, as when the whitelist is switched on or off.
func (e *Engine) RefreshAll() {
	for _, p := range e.peers.all() {
		e.Refresh(p.address)
	}
}

// SetPathMTU tells how large an IP packet of the underlay the kernel would send to remote, in bytes; 0 is unknown. It bounds what is tried
// on the peer's path there.
func (e *Engine) SetPathMTU(address netip.Addr, remote netip.AddrPort, mtu int) {
	p := e.peers.get(address)
	if p == nil {
		return
	}
	contact, _ := e.cfg.Directory.ByAddress(address)
	e.with(p, func(now time.Time) wireguard.Todo {
		if d, ok := p.path.Carrier.(direct); !ok || d.uplink != 0 || p.path.Remote != remote {
			return 0 // the kernel tells of the interface that its routing chooses
		}
		if !p.chooses() {
			p.path.MTU = mtu
			return 0
		}
		r := p.routes.note(p.path.key(), p.path.key())
		r.local, r.bound = p.path.Local, mtu
		p.offer(e, now, contact) // what follows from it is chosen, and told, by react
		return 0
	})
}

// Fate is what a change of interfaces or routes means for a path.
type Fate uint8

// The fates.
const (
	Stands   Fate = iota // as before
	Rerouted             // the kernel would send by another interface now
	Lost                 // its local end is gone
)

// LinksChanged tells that this host's interfaces or routes changed; judge says what that means for a path. What else there is takes over at
// once from what is lost, and everything is tried anew.
func (e *Engine) LinksChanged(judge func(Path) Fate) {
	for _, p := range e.peers.all() {
		contact, allowed := e.cfg.Directory.ByAddress(p.address)
		if !allowed {
			continue
		}
		e.with(p, func(now time.Time) wireguard.Todo {
			if !p.chooses() || !p.up {
				return 0
			}
			p.routes.machine.LinksChanged(now, func(k path.Key) bool { return p.relinked(e, k, judge) })
			p.offer(e, now, contact)
			return 0
		})
	}
}

// remove ends a peer: its session, its lanes, its place in the table.
func (e *Engine) remove(p *peer) {
	e.peers.remove(p)
	p.mu.Lock()
	up := p.up
	p.up, p.removed = false, true
	if p.machine != nil {
		p.machine.Forget()
		p.machine = nil
	}
	p.lanes.Clear(&e.waiting)
	e.joining.Add(int64(-p.pieces.Bytes()))
	p.pieces = fragment.Reassembler{}
	p.routes = routes{}
	p.resume, p.paceUntil = time.Time{}, time.Time{}
	p.path.pacing = nil
	e.timers.cancel(p)
	p.mu.Unlock()
	if up {
		e.cfg.Notify(Event{Type: PeerDown, Peer: p.address})
	}
}

// socketFor returns the socket of a remote's family, nil if there is none.
func (e *Engine) socketFor(remote netip.Addr) underlay.Socket {
	if remote.Is4() {
		return e.cfg.IPv4
	}
	return e.cfg.IPv6
}

// closed reports whether a read or write error means that Run is ending.
func closed(err error) bool { return errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrClosed) }
