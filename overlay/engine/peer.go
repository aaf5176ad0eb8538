package engine

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/fragment"
	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/underlay"
	"github.com/hnet-robotics/hnet_bridge/overlay/wireguard"
)

// peer is one peer as the data path sees it. It comes into being with the first packet to it or the first handshake from it.
type peer struct {
	address netip.Addr
	listed  bool // on the whitelist; belongs to the table's lock
	used    atomic.Int64
	tx, rx  atomic.Uint64 // bytes of IP packets carried, both ways

	mu      sync.Mutex
	removed bool // no longer in the table; who still holds it must leave it alone
	key     identity.PublicKey
	psk     wireguard.PSK
	machine *wireguard.Peer // nil until the key is known
	allowed []netip.Prefix  // source addresses that may come out of its tunnel
	path    Path
	lanes   lanes
	// flushing says that a goroutine is emptying the lanes; who comes with a packet meanwhile waits on settled, so that order is kept.
	flushing bool
	settled  sync.Cond
	resume   time.Time // the carrier refused until then
	up       bool      // PeerUp was told
	failed   bool      // the last attempt at contact was given up
	wanted   time.Time // ContactWanted was told
	probes   prober
	pieces   fragment.Reassembler
	nextID   uint16 // of a fragmented packet

	armed     time.Time // belongs to the peer's lock and the schedule's
	heapIndex int
}

// adopt takes over what the Directory knows; it reports whether that gives a reason to try contact again. The peer's lock is held.
func (p *peer) adopt(e *Engine, c Contact) (changed bool) {
	e.peers.relist(p, c.Listed)
	if c.Key.IsZero() || p.removed {
		return false
	}
	if p.machine != nil && p.key == c.Key && p.psk == c.PSK {
		if c.Native {
			p.machine.SetNative()
		}
		return false
	}
	if p.machine != nil {
		p.machine.Forget()
	}
	p.key, p.psk = c.Key, c.PSK
	p.machine = wireguard.NewPeer(wireguard.PeerConfig{
		Local: e.local, Remote: c.Key, PSK: c.PSK, Native: c.Native,
		Indices: peerIndices{&e.peers, p}, Stamp: e.cfg.Stamp,
	})
	return true
}

// allows reports whether the peer may send packets with this source address.
func (p *peer) allows(source netip.Addr) bool {
	for _, prefix := range p.allowed {
		if prefix.Contains(source) {
			return true
		}
	}
	return false
}

// next returns when the peer's timers are due, zero if never.
func (p *peer) next() time.Time {
	next := p.resume
	earlier := func(t time.Time) {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	earlier(p.probes.at)
	earlier(p.lanes.next())
	earlier(p.pieces.Next())
	if p.machine != nil {
		earlier(p.machine.Next())
	}
	return next
}

// peerFor returns the peer of an overlay address, making it if the Directory lets it in; nil if not.
func (e *Engine) peerFor(address netip.Addr) *peer {
	if p := e.peers.get(address); p != nil {
		return p
	}
	contact, ok := e.cfg.Directory.ByAddress(address)
	if !ok {
		return nil
	}
	return e.addPeer(contact)
}

func (e *Engine) addPeer(c Contact) *peer {
	p := &peer{address: c.Address, listed: c.Listed, allowed: []netip.Prefix{netip.PrefixFrom(c.Address, c.Address.BitLen())}}
	p.settled.L = &p.mu
	p.used.Store(time.Now().UnixNano())
	p.adopt(e, c)
	p, crowded := e.peers.add(p)
	if crowded {
		if oldest := e.peers.oldestStranger(); oldest != nil && oldest != p {
			e.remove(oldest)
		}
	}
	// Whoever left the whitelist after the Directory was asked, and before the peer could be found in the table, must not stay.
	if _, ok := e.cfg.Directory.ByAddress(c.Address); !ok {
		e.remove(p)
	}
	return p
}

// with runs f under the peer's lock and carries out what its machine asks for.
func (e *Engine) with(p *peer, f func(now time.Time) wireguard.Todo) {
	now := time.Now()
	p.mu.Lock()
	a := e.react(p, now, f(now))
	p.mu.Unlock()
	e.controlMu.Lock()
	defer e.controlMu.Unlock()
	e.perform(now, p, a, e.control)
	e.control.flush()
}

// tick runs a peer's timers.
func (e *Engine) tick(p *peer) {
	e.with(p, func(now time.Time) (todo wireguard.Todo) {
		e.timers.cancel(p)
		e.stats.LaneOverflow.Add(uint64(p.lanes.expire(now, &e.waiting)))
		held := p.pieces.Bytes()
		p.pieces.Expire(now)
		e.joining.used.Add(int64(p.pieces.Bytes() - held))
		if p.machine == nil {
			p.probes.stop()
			p.resume = time.Time{}
			return 0
		}
		if !p.resume.IsZero() && !now.Before(p.resume) {
			p.resume = time.Time{}
			todo |= wireguard.Flush
		}
		return todo | p.machine.Tick(now)
	})
}

// action is what is left to do for a peer once its lock is given back.
type action struct {
	handshake []byte // to be sent to every endpoint in to
	to        []netip.AddrPort
	from      underlay.Source
	keepalive bool
	hello     bool
	probe     []byte
	flush     bool
	events    []Event
}

// react turns what the machine asks for into an action and arms the timers. The peer's lock is held.
func (e *Engine) react(p *peer, now time.Time, todo wireguard.Todo) (a action) {
	if p.machine != nil {
		if todo&wireguard.Flush != 0 {
			p.failed = false
			p.probes.lost = 0 // a handshake proves the path both ways
			if p.machine.Session(now) != nil && !p.up {
				p.up = true
				a.events = append(a.events, Event{Type: PeerUp, Peer: p.address, Path: p.path})
			}
			a.flush, a.hello = true, p.machine.Native()
		}
		if todo&wireguard.GiveUp != 0 {
			p.failed = true
			e.stats.LaneOverflow.Add(uint64(p.lanes.clear(&e.waiting)))
		}
		if todo&(wireguard.Down|wireguard.GiveUp) != 0 {
			p.probes.stop()
			if p.up {
				p.up = false
				a.events = append(a.events, Event{Type: PeerDown, Peer: p.address})
			}
		}
		if due, lost := p.probes.due(now); due {
			if p.machine.Native() && p.machine.Session(now) != nil {
				a.probe = p.probes.make(now)
				if lost {
					todo |= p.machine.Contact(now)
				}
			} else {
				p.probes.stop()
			}
		}
		if todo&wireguard.Initiate != 0 {
			e.initiate(p, now, &a)
		}
		a.keepalive = todo&wireguard.Keepalive != 0
	}
	e.timers.arm(p, p.next())
	return a
}

// initiate adds an initiation to a: to the path while it is believed in, to every candidate when there is none or it brought no answer.
func (e *Engine) initiate(p *peer, now time.Time, a *action) {
	message, err := p.machine.Initiation(now)
	if err != nil {
		e.cfg.Log.Error("a handshake could not be made", "peer", p.address, "err", err)
		return
	}
	a.handshake = message
	attempts, _ := p.machine.Handshaking()
	if p.path.valid() {
		a.to, a.from = append(a.to, p.path.Remote), p.path.Local
	}
	if !p.path.valid() || attempts > 0 || p.probes.silent() {
		a.from = underlay.Source{}
		if contact, ok := e.cfg.Directory.ByAddress(p.address); ok {
			for _, c := range contact.Candidates {
				if usable(c) && !(p.path.valid() && c == p.path.Remote) {
					a.to = append(a.to, c)
				}
			}
		}
		if attempts > 0 || len(a.to) == 0 {
			e.want(p)
		}
	}
}

// want tells, at most once a second, that better knowledge of the peer is wanted. The peer's lock is held; Notify must not block.
func (e *Engine) want(p *peer) {
	if now := time.Now(); p.wanted.IsZero() || now.Sub(p.wanted) >= time.Second {
		p.wanted = now
		e.cfg.Notify(Event{Type: ContactWanted, Peer: p.address})
	}
}

// perform carries out an action. The caller flushes out.
func (e *Engine) perform(now time.Time, p *peer, a action, out *outbound) {
	for _, remote := range a.to {
		if s := e.socketFor(remote.Addr()); s != nil && a.handshake != nil {
			out.raw(Path{Carrier: direct{s}, Remote: remote, Local: a.from}, a.handshake)
		}
	}
	sent := false
	if a.flush {
		var todo wireguard.Todo
		sent, todo = e.flushLanes(now, p, out)
		e.follow(now, p, todo, out)
	}
	switch {
	case a.hello:
		out.inner(now, p, hello())
	case a.keepalive && !sent:
		out.inner(now, p, nil)
	}
	if a.probe != nil {
		out.inner(now, p, a.probe)
	}
	for _, event := range a.events {
		e.cfg.Notify(event)
	}
}

// follow carries out what the machine asked for while an action was being performed.
func (e *Engine) follow(now time.Time, p *peer, todo wireguard.Todo, out *outbound) {
	if todo == 0 {
		return
	}
	p.mu.Lock()
	a := e.react(p, now, todo)
	p.mu.Unlock()
	e.perform(now, p, a, out)
}

// flushLanes sends what waits for the peer, the most urgent first, until nothing is left or the carrier refuses.
func (e *Engine) flushLanes(now time.Time, p *peer, out *outbound) (sent bool, todo wireguard.Todo) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.flushing {
		return false, 0
	}
	p.flushing = true
	defer func() {
		p.flushing = false
		p.settled.Broadcast()
	}()
	e.stats.LaneOverflow.Add(uint64(p.lanes.expire(now, &e.waiting)))
	for p.machine != nil {
		superpacket, lane := p.lanes.front()
		if superpacket == nil {
			break
		}
		k, more := p.admit(now, len(superpacket))
		todo |= more
		if k == nil {
			e.timers.arm(p, p.next())
			break
		}
		p.lanes.take(lane, &e.waiting)
		path := p.path
		p.mu.Unlock()
		out.seal(p, k, path, superpacket)
		p.mu.Lock()
		sent = true
	}
	if sent {
		// What comes from the device now must not overtake what is sealed but not sent.
		p.mu.Unlock()
		out.flush()
		p.mu.Lock()
	}
	return sent, todo
}

// refusedAtLeast keeps a carrier that names a moment gone by from being asked in a circle.
const refusedAtLeast = time.Millisecond

// admit returns the key pair to seal bytes with, nil if they must wait: for a session, which todo then asks for, or because the path refuses
// them until p.resume. The peer has a machine and its lock is held.
func (p *peer) admit(now time.Time, bytes int) (k *wireguard.Keypair, todo wireguard.Todo) {
	if p.machine.Session(now) != nil {
		if !p.path.valid() {
			return nil, 0
		}
		if until, refused := p.path.Carrier.Refuse(now, bytes); refused {
			p.resume = now.Add(max(until.Sub(now), refusedAtLeast))
			return nil, 0
		}
		p.probes.traffic(now)
	}
	return p.machine.Send(now, false)
}
