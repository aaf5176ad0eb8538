package engine

import (
	"net/netip"
	"slices"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/path"
	"github.com/hnet-robotics/hnet_bridge/overlay/underlay"
	"github.com/hnet-robotics/hnet_bridge/overlay/wireguard"
)

// Bounds of what is known of the ways to one peer.
const (
	maxRoutes   = 32
	maxRelays   = 4 // those that a handshake goes to when nothing else is known
	maxToldEnds = 16
	// sparesAgain is the least time between two times that CopiesWanted is told.
	sparesAgain = 20 * time.Second
	// relayBound is the MTU believed of a way by a relay: its far leg is beyond our sight, and 1420 passes nearly every link there is.
	relayBound = 1420
)

// routes are the ways to one of our own daemons: the machine chooses among them, the rest is how to send there. They belong to the peer's lock.
type routes struct {
	machine     *path.Machine // nil until the peer is known as one of our own
	known       []route
	told        []netip.AddrPort // where the peer itself says it is, from inside the tunnel
	mapping     path.Mapping     // of the NAT in front of the peer, in its own words
	silent      bool             // none answers
	asked       []path.Key       // where the initiations of this attempt went
	answered    []path.Key       // where the last responses went
	sparesAsked time.Time        // CopiesWanted was told
	sprayDue    bool             // port prediction waits for one of the NATs to be measured
}

// route is what a path needs besides its key.
type route struct {
	key   path.Key
	local underlay.Source
	bound int // the kernel's MTU toward it, 0 if unknown

	pacing *pacing // nil until data came by it
}

func (r *routes) find(k path.Key) *route {
	for i := range r.known {
		if r.known[i].key == k {
			return &r.known[i]
		}
	}
	return nil
}

// note returns the route of a key, made if there is none; the oldest but the one in use makes room.
func (r *routes) note(k path.Key, inUse path.Key) *route {
	if found := r.find(k); found != nil {
		return found
	}
	if len(r.known) >= maxRoutes {
		i := slices.IndexFunc(r.known, func(x route) bool { return x.key != inUse })
		r.known = slices.Delete(r.known, i, i+1)
	}
	r.known = append(r.known, route{key: k})
	return &r.known[len(r.known)-1]
}

// maxAsked bounds the ways of which it is remembered that a handshake message went there.
const maxAsked = 64

// ask notes where an initiation goes.
func (r *routes) ask(to []Path) {
	for _, x := range to {
		if k := x.key(); len(r.asked) < maxAsked && !slices.Contains(r.asked, k) {
			r.asked = append(r.asked, k)
		}
	}
}

// answer notes where a response goes.
func (r *routes) answer(to Path) {
	if len(r.answered) >= 4 {
		r.answered = slices.Delete(r.answered, 0, 1)
	}
	r.answered = append(r.answered, to.key())
}

// kindOfPath tells a relay from a neighbour on a link of ours and from a peer elsewhere.
func (e *Engine) kindOfPath(c Carrier, remote netip.Addr) path.Kind {
	if r, ok := c.(Relay); ok {
		if r.TCP() {
			return path.RelayTCP
		}
		return path.RelayUDP
	}
	if e.cfg.OnLink != nil && e.cfg.OnLink(remote) {
		return path.LAN
	}
	return path.Direct
}

// chooses reports whether the path machine chooses the peer's paths; for stock peers the last authentic datagram does, as WireGuard says.
func (p *peer) chooses() bool { return p.routes.machine != nil }

// native lets the path machine choose from now on. The peer's lock is held.
func (p *peer) native(e *Engine, now time.Time, c Contact) {
	if p.chooses() {
		return
	}
	p.routes.machine = path.New(nil)
	p.routes.machine.SetTTL(byte(e.hops.Load()))
	p.routes.machine.Enable(now, p.up)
	if p.path.valid() {
		p.path.Kind = e.kindOfPath(p.path.Carrier, p.path.Remote.Addr())
		r := p.routes.note(p.path.key(), p.path.key())
		r.local, r.bound = p.path.Local, p.path.MTU
		if p.machine != nil && p.machine.Session(now) != nil {
			p.routes.machine.Proved(now, p.path.key(), p.path.Kind, p.machine.HandshakeRTT())
		}
	}
	p.offer(e, now, c)
}

// offer tells the path machine where the peer may be by now. The peer's lock is held.
func (p *peer) offer(e *Engine, now time.Time, c Contact) {
	if !p.chooses() {
		return
	}
	list := make([]path.Candidate, 0, len(c.Candidates)+len(c.Relays)+len(p.routes.told))
	seen := make(map[netip.AddrPort]bool, cap(list))
	for _, remote := range slices.Concat(c.Candidates, p.routes.told) {
		s := e.socketFor(remote.Addr())
		if s == nil || !usable(remote) || seen[remote] {
			continue
		}
		seen[remote] = true
		candidate := path.Candidate{Key: path.Key{Carrier: direct{socket: s}, Remote: remote}, Kind: e.kindOfPath(direct{socket: s}, remote.Addr())}
		if r := p.routes.find(candidate.Key); r != nil {
			candidate.Bound, candidate.Uplink = r.bound, r.local.Interface
		}
		list = append(list, candidate)
	}
	if at := p.path; at.valid() && !at.relayed() && !seen[at.Remote] {
		// It is known from what came over it alone, and the kernel has a word to say on its MTU.
		if r := p.routes.find(at.key()); r != nil && r.bound > 0 {
			list = append(list, path.Candidate{Key: at.key(), Kind: at.Kind, Bound: r.bound})
		}
	}
	list = append(list, p.spares(e, list)...)
	for _, r := range c.Relays {
		list = append(list, path.Candidate{
			Key: path.Key{Carrier: r, Remote: r.Endpoint()}, Kind: e.kindOfPath(r, r.Endpoint().Addr()), Bound: relayBound,
		})
	}
	p.routes.machine.SetCandidates(now, list)
}

// pathOf turns the machine's choice into a path.
func (p *peer) pathOf(e *Engine, k path.Key, kind path.Kind, mtu int) Path {
	c, ok := k.Carrier.(Carrier)
	if !ok {
		return Path{}
	}
	x := Path{Carrier: c, Kind: kind, Remote: k.Remote, MTU: mtu}
	if r := p.routes.find(k); r != nil {
		x.Local, x.pacing = r.local, r.pacing
	}
	return x
}

// choose takes over the machine's choice; news says that it is another path than before, or carries other sizes. The peer's lock is held.
func (p *peer) choose(e *Engine, now time.Time) (news bool) {
	k, kind, mtu, ok := p.routes.machine.Best()
	p.routes.silent = p.routes.machine.Silent()
	if !ok {
		if p.path.relayed() {
			p.path = Path{} // withdrawn: what is sealed for it would be lost, and what waits may find another
		}
		return false // a direct one stays: nothing better is known
	}
	p.goOn()
	if p.path.valid() && p.path.key() == k {
		news = p.path.MTU != mtu
		p.path.MTU, p.path.Kind = mtu, kind
		return news
	}
	before := p.path
	p.path = p.pathOf(e, k, kind, mtu)
	p.inherit(now, before)
	return true
}

// goOn has what waits sent, if it is a path that it waits for: there is one now. The peer's lock is held.
func (p *peer) goOn() {
	if !p.path.valid() && !p.lanes.Empty() {
		p.resume = time.Now()
	}
}

// arrived takes note of the way that authentic, new datagrams came. The peer's lock is held.
func (p *peer) arrived(e *Engine, now time.Time, c Carrier, m *underlay.Message) (moved bool) {
	if !p.chooses() {
		return p.roam(e.unbound(c, m.Remote.Addr()), m)
	}
	if p.path.Remote == m.Remote && p.path.Carrier == c {
		if p.path.Local != m.Local {
			p.path.Local = m.Local
			p.routes.machine.Leaves(now, p.path.key(), m.Local.Interface, bound(c))
		}
		p.routes.machine.Arrived(now, p.path.key(), p.path.Kind)
		return false
	}
	k := path.Key{Carrier: c, Remote: m.Remote}
	r := p.routes.note(k, p.path.key())
	news := r.local != m.Local
	r.local = m.Local
	kind := e.kindOfPath(c, m.Remote.Addr())
	p.routes.machine.Arrived(now, k, kind)
	if news {
		p.routes.machine.Leaves(now, k, m.Local.Interface, bound(c))
	}
	moved = p.choose(e, now)
	if !p.path.valid() {
		// Nothing is proved yet, and somewhere the first answer must go.
		p.goOn()
		p.path, moved = p.pathOf(e, k, kind, 0), true
	}
	return moved
}

// answered takes note of a way that a handshake message came by which answers one of ours. It works in both directions if what was answered
// went there, too: its source alone may be forged. The peer's lock is held.
func (p *peer) answered(e *Engine, now time.Time, at Path, sent []path.Key) (moved bool) {
	if p.chooses() && !slices.Contains(sent, at.key()) {
		return p.arrived(e, now, at.Carrier, &underlay.Message{Remote: at.Remote, Local: at.Local})
	}
	return p.proved(e, now, at)
}

// proved takes note of a way that works in both directions. The peer's lock is held.
func (p *peer) proved(e *Engine, now time.Time, at Path) (moved bool) {
	if p.chooses() && at.Remote.IsValid() && !at.relayed() {
		e.quota.heard(now, at.Remote.Addr())
	}
	if !p.chooses() {
		at.Carrier = e.unbound(at.Carrier, at.Remote.Addr())
		moved = p.path.Remote != at.Remote || p.path.Carrier != at.Carrier
		if moved {
			p.path = at
		}
		return moved
	}
	p.routes.note(at.key(), p.path.key()).local = at.Local
	p.routes.machine.Proved(now, at.key(), e.kindOfPath(at.Carrier, at.Remote.Addr()), p.machine.HandshakeRTT())
	p.routes.machine.Leaves(now, at.key(), at.Local.Interface, bound(at.Carrier))
	return p.choose(e, now)
}

// relinked forgets the source of a path that is not what it was: it can swallow what is sent from it without an error, or keep traffic on the
// worse of two uplinks. It reports whether the path is dead; a relay is not, since another source leads there as well. The peer's lock is held.
func (p *peer) relinked(e *Engine, k path.Key, judge func(Path) Fate) (dead bool) {
	at := p.pathOf(e, k, 0, 0)
	inUse := p.path.valid() && p.path.key() == k
	if inUse {
		at.Local = p.path.Local
	}
	fate := judge(at)
	if c, ok := k.Carrier.(Carrier); fate == Stands || fate == Rerouted && ok && bound(c) {
		return false
	}
	if r := p.routes.find(k); r != nil {
		r.local, r.bound, r.pacing = underlay.Source{}, 0, nil
	}
	if inUse {
		p.path.Local, p.path.pacing = underlay.Source{}, nil
	}
	_, relay := k.Carrier.(Relay)
	return fate == Lost && !relay
}

// roam makes the endpoint that an authentic, new message came from the path of a stock peer. The peer's lock is held.
func (p *peer) roam(c Carrier, m *underlay.Message) (moved bool) {
	if p.path.Remote == m.Remote && p.path.Carrier == c {
		p.path.Local = m.Local
		return false
	}
	p.path = Path{Carrier: c, Remote: m.Remote, Local: m.Local}
	return true
}

// probesDue collects what the path machine wants sent, and follows its choice. The peer's lock is held; it has a session.
func (p *peer) probesDue(e *Engine, now time.Time, a *action) (todo wireguard.Todo) {
	wasSilent := p.routes.silent
	m := p.routes.machine
	m.Tick(now)
	if m.Awake() {
		p.paceUntil = time.Time{}
	} else {
		p.rest(now)
	}
	if e.uplinks.Load() != nil && m.Twofold(now) && now.Sub(p.routes.sparesAsked) >= sparesAgain {
		p.routes.sparesAsked = now
		a.events = append(a.events, Event{Type: CopiesWanted, Peer: p.address})
	}
	for len(a.outputs) < maxProbesAtOnce {
		output, ok := m.Poll(now)
		if !ok {
			break
		}
		a.outputs = append(a.outputs, output)
	}
	if p.choose(e, now) {
		a.events = append(a.events, Event{Type: PathChanged, Peer: p.address, Path: p.path})
	}
	if p.routes.silent && !wasSilent {
		todo = p.machine.Contact(now) // the peer may have lost its keys: only a handshake tells
	}
	return todo
}
