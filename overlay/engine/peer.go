package engine

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/fragment"
	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/lane"
	"github.com/hnet-robotics/hnet_bridge/overlay/path"
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
	routes  routes
	lanes   lane.Queues
	// flushing says that a goroutine is emptying the lanes; who comes with a packet meanwhile waits on settled, so that order is kept.
	flushing bool
	settled  sync.Cond
	resume   time.Time // the carrier refused until then
	resumed  bool      // that moment has come, and what waits is to be tried again
	up       bool      // PeerUp was told
	failed   bool      // the last attempt at contact was given up
	wanted   time.Time // ContactWanted was told
	pieces   fragment.Reassembler
	nextID   uint16 // of a fragmented packet

	paceUntil time.Time // the limit of an idle peer's path is remembered until then

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
			p.native(e, time.Now(), c)
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
	if c.Native {
		p.native(e, time.Now(), c)
	}
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
	earlier(p.lanes.Next())
	earlier(p.pieces.Next())
	earlier(p.paceUntil)
	if p.machine != nil {
		earlier(p.machine.Next())
		if p.chooses() && p.up {
			earlier(p.routes.machine.Next())
		}
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
	// What the Directory learned after it was asked, and before the peer could be found in the table, was told to nobody: a key, or that the
	// peer left the whitelist and must not stay.
	now, ok := e.cfg.Directory.ByAddress(c.Address)
	if !ok {
		e.remove(p)
		return p
	}
	p.mu.Lock()
	p.adopt(e, now)
	p.offer(e, time.Now(), now)
	p.mu.Unlock()
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

// tick runs the peer's timers. The peer's lock is held.
func (p *peer) tick(e *Engine, now time.Time) wireguard.Todo {
	e.timers.cancel(p)
	e.lost(p.lanes.Expire(now, &e.waiting))
	held := p.pieces.Bytes()
	p.pieces.Expire(now)
	e.joining.Add(int64(p.pieces.Bytes() - held))
	if !p.paceUntil.IsZero() && !now.Before(p.paceUntil) {
		p.rest(now)
	}
	if p.machine == nil {
		p.resume = time.Time{}
		return 0
	}
	if !p.resume.IsZero() && !now.Before(p.resume) {
		p.resume, p.resumed = time.Time{}, true
	}
	return p.machine.Tick(now)
}

// attended reports whether the peer's timers are looked at soon enough whatever a packet that was let through has set: the least is some seconds, and a
// path in use is probed every second. Not to look at them with every packet is worth a tenth of what a packet of
// 1,200 bytes costs (BenchmarkOutbound). The peer's lock is held.
func (p *peer) attended(now time.Time) bool {
	return !p.resumed && !p.armed.IsZero() && p.armed.Sub(now) < 2*time.Second
}

// action is what is left to do for a peer once its lock is given back.
type action struct {
	handshake []byte // to be sent on every path in to
	to        []Path
	keepalive bool
	hello     bool
	outputs   []path.Output
	flush     bool
	events    []Event
}

// react turns what the machine asks for into an action and arms the timers. The peer's lock is held.
func (e *Engine) react(p *peer, now time.Time, todo wireguard.Todo) (a action) {
	if p.machine != nil {
		a.flush, p.resumed = p.resumed, false
		if todo&wireguard.Flush != 0 {
			p.failed = false
			if p.machine.Session(now) != nil && !p.up {
				p.up = true
				a.events = append(a.events, Event{Type: PeerUp, Peer: p.address, Path: p.path})
			}
			if p.machine.Native() {
				contact, _ := e.cfg.Directory.ByAddress(p.address)
				p.native(e, now, contact)
				p.routes.machine.Enable(now, p.up)
			}
			a.flush, a.hello = true, p.machine.Native()
		}
		if todo&wireguard.GiveUp != 0 {
			p.failed = true
			e.lost(p.lanes.Clear(&e.waiting))
		}
		if todo&(wireguard.Down|wireguard.GiveUp) != 0 && p.up {
			p.up = false
			if p.chooses() {
				p.routes.machine.Enable(now, false)
			}
			a.events = append(a.events, Event{Type: PeerDown, Peer: p.address})
		}
		switch {
		case !p.chooses() || !p.up:
		case p.machine.Session(now) == nil:
			p.routes.machine.Enable(now, false) // nothing could be sealed
		default:
			todo |= p.probesDue(e, now, &a)
		}
		if todo&wireguard.Initiate != 0 {
			e.initiate(p, now, &a)
		}
		a.keepalive = todo&wireguard.Keepalive != 0
	}
	e.timers.arm(p, p.next())
	return a
}

// initiate adds an initiation to a: on the path while it is believed in, on every way that may lead to the peer when there is none or it
// brought no answer. Without any way there is none to be made: to want a peer costs next to nothing until it may be found somewhere.
func (e *Engine) initiate(p *peer, now time.Time, a *action) {
	attempts, _ := p.machine.Handshaking()
	if attempts == 0 {
		p.routes.asked = p.routes.asked[:0]
	}
	if p.path.valid() {
		a.to = append(a.to, p.path)
	}
	if !p.path.valid() || attempts > 0 || p.routes.silent {
		if contact, ok := e.cfg.Directory.ByAddress(p.address); ok {
			e.everywhere(p, contact, attempts, a)
		}
		if attempts > 0 || len(a.to) == 0 {
			e.want(p)
		}
	}
	if len(a.to) == 0 {
		p.machine.Postpone(now)
		return
	}
	message, err := p.machine.Initiation(now)
	if err != nil {
		e.cfg.Log.Error("a handshake could not be made", "peer", p.address, "err", err)
	}
	if message == nil { // also when the indices have run out
		a.to = nil
		return
	}
	a.handshake = message
	p.routes.ask(a.to)
}

// relayFirst is how many attempts go by relays and to neighbours alone, if there is a relay: what comes unasked from beyond makes some NATs give
// the peer another port when it answers (see package path), and then no punching helps.
const relayFirst = 2

// everywhere adds all ways to a peer but its path, and takes the local end from that: it may be what is wrong.
func (e *Engine) everywhere(p *peer, c Contact, attempts int, a *action) {
	for i := range a.to {
		a.to[i].Local = underlay.Source{}
	}
	byRelay := len(c.Relays) > 0 && attempts < relayFirst
	each := make(map[netip.Addr]int)
	now := time.Now()
	list := slices.Clone(c.Candidates)
	for _, remote := range p.routes.told {
		if !slices.Contains(list, remote) {
			list = append(list, remote)
		}
	}
	for i := range list {
		remote := list[(i+attempts)%len(list)] // not always the same ones of an address with many
		s := e.socketFor(remote.Addr())
		if s == nil || !usable(remote) || each[remote.Addr()] >= perAddress {
			continue
		}
		kind := e.kindOfPath(direct{socket: s}, remote.Addr())
		if (kind == path.LAN || !byRelay) && e.quota.take(now, remote.Addr()) {
			if !p.path.valid() || remote != p.path.Remote { // that one is asked anyway
				each[remote.Addr()]++
			}
			a.also(Path{Carrier: direct{socket: s}, Remote: remote})
			if kind == path.Direct && attempts > 0 {
				a.bySpares(e, remote)
			}
		}
	}
	for _, r := range c.Relays[:min(len(c.Relays), maxRelays)] {
		if p.path.Carrier != Carrier(r) {
			a.to = append(a.to, Path{Carrier: r, Kind: e.kindOfPath(r, r.Endpoint().Addr()), Remote: r.Endpoint()})
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
	for _, x := range a.to {
		out.raw(x, a.handshake)
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
	for _, x := range a.outputs {
		out.output(now, p, x)
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
