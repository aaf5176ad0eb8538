package engine

import (
	"net/netip"
	"slices"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/path"
	"github.com/hnet-robotics/hnet_bridge/overlay/underlay"
)

// Uplink is an interface of this host with a default route of its own.
type Uplink struct {
	Interface uint32
	// IPv4 and IPv6 are the host's source addresses by it; one is invalid where the uplink does not carry that family.
	IPv4, IPv6 netip.Addr
}

// source is the local end of datagrams by it, invalid if it does not carry the family of remote.
func (u Uplink) source(remote netip.Addr) (s underlay.Source, ok bool) {
	a := u.IPv6
	if remote.Is4() {
		a = u.IPv4
	}
	return underlay.Source{Addr: a, Interface: u.Interface}, a.IsValid()
}

// Bounds of what is made of uplinks: a host has two or three, and a peer one or two endpoints that are worth a second path.
const (
	maxUplinks      = 4
	maxSparesByPeer = 4
)

// uplinks are the ways out of a host that has several. A path by the one that the kernel's routing chooses has the plain socket for its Carrier and
// goes where routing goes; paths by the others are bound to their interface. There are none of a host with one uplink.
type uplinks struct{ ways []way }

type way struct {
	Uplink
	ipv4, ipv6 Carrier // the main sockets, bound to the interface; nil if there is no such socket
}

// by returns the carrier bound to an interface, nil if that is no uplink for the family of remote.
func (u *uplinks) by(index uint32, remote netip.Addr) Carrier {
	if u == nil || index == 0 {
		return nil
	}
	for i := range u.ways {
		if w := &u.ways[i]; w.Interface == index {
			return w.carrier(remote)
		}
	}
	return nil
}

func (w *way) carrier(remote netip.Addr) Carrier {
	if _, ok := w.source(remote); !ok {
		return nil
	}
	if remote.Is4() {
		return w.ipv4
	}
	return w.ipv6
}

// SetUplinks tells the interfaces with default routes of their own, 4 at the most; Config.Route must know of the change already. A path that ran by
// routing goes on by its own interface when routing turned away from that, and the other way round. LinksChanged is to be called next.
func (e *Engine) SetUplinks(list []Uplink) {
	var u *uplinks
	if list = list[:min(len(list), maxUplinks)]; len(list) > 1 && e.cfg.Route != nil {
		u = &uplinks{}
		for _, x := range list {
			w := way{Uplink: x}
			if e.cfg.IPv4 != nil {
				w.ipv4 = direct{e.cfg.IPv4, x.Interface}
			}
			if e.cfg.IPv6 != nil {
				w.ipv6 = direct{e.cfg.IPv6, x.Interface}
			}
			u.ways = append(u.ways, w)
		}
	}
	if old := e.uplinks.Swap(u); old == nil && u == nil {
		return
	}
	for _, p := range e.peers.all() {
		now := time.Now()
		p.mu.Lock()
		moved := p.rehome(e, now, u)
		event := Event{Type: PathChanged, Peer: p.address, Path: p.path}
		p.mu.Unlock()
		if moved {
			e.cfg.Notify(event)
		}
	}
}

// carrierOf is the carrier of a datagram that a main socket brought: the socket, or the socket bound to the interface where the datagram came, if
// routing would answer by another one.
func (in *inbound) carrierOf(m *underlay.Message) Carrier {
	u := in.e.uplinks.Load()
	if u == nil || !in.main {
		return in.home
	}
	at := arrivedAt{u, m.Remote.Addr(), m.Local.Interface}
	if at != in.at {
		in.at, in.atCarrier = at, in.home
		if c := u.by(at.index, at.remote); c != nil && !in.e.routed(at.remote, at.index) {
			in.atCarrier = c
		}
	}
	return in.atCarrier
}

// arrivedAt is what the carrier of a datagram depends on.
type arrivedAt struct {
	uplinks *uplinks
	remote  netip.Addr
	index   uint32
}

// routed reports whether routing would send to remote by an interface; so it is taken to be while that is not known.
func (e *Engine) routed(remote netip.Addr, index uint32) bool {
	if e.cfg.OnLink != nil && e.cfg.OnLink(remote) {
		return true
	}
	r := e.cfg.Route(remote)
	return r == 0 || r == index
}

// spares lists the candidates by uplinks that routing does not choose, for endpoints that are not on a link of ours: the one in use, public ones, others.
func (p *peer) spares(e *Engine, candidates []path.Candidate) (spares []path.Candidate) {
	u := e.uplinks.Load()
	if u == nil {
		return nil
	}
	worth := func(c path.Candidate) int {
		switch {
		case p.path.valid() && c.Remote == p.path.Remote:
			return 0
		case !c.Remote.Addr().IsPrivate():
			return 1
		}
		return 2
	}
	plain := slices.DeleteFunc(slices.Clone(candidates), func(c path.Candidate) bool {
		_, ok := c.Carrier.(direct)
		return !ok || c.Kind != path.Direct
	})
	slices.SortStableFunc(plain, func(a, b path.Candidate) int { return worth(a) - worth(b) })
	for _, c := range plain {
		remote := c.Remote.Addr()
		for i := range u.ways {
			w := &u.ways[i]
			carrier := w.carrier(remote)
			if carrier == nil || e.routed(remote, w.Interface) || len(spares) >= maxSparesByPeer {
				continue
			}
			k := path.Key{Carrier: carrier, Remote: c.Remote}
			p.routes.note(k, p.path.key()).local, _ = w.source(remote)
			spares = append(spares, path.Candidate{Key: k, Kind: path.Direct, Uplink: w.Interface, Spare: true})
		}
	}
	return spares
}

// bySpares adds the ways to an endpoint by the uplinks that routing does not choose, for a handshake that the others did not carry.
func (a *action) bySpares(e *Engine, remote netip.AddrPort) {
	u := e.uplinks.Load()
	if u == nil {
		return
	}
	for i := range u.ways {
		w := &u.ways[i]
		if c := w.carrier(remote.Addr()); c != nil && !e.routed(remote.Addr(), w.Interface) {
			local, _ := w.source(remote.Addr())
			a.also(Path{Carrier: c, Remote: remote, Local: local})
		}
	}
}

// also has the handshake go by one more path, unless it does already.
func (a *action) also(x Path) {
	if !slices.ContainsFunc(a.to, func(y Path) bool { return x.key() == y.key() }) {
		a.to = append(a.to, x)
	}
}

// rehome gives paths the carriers that they have by now: what routing left goes on bound to its interface, what routing took up runs by routing.
// The peer's lock is held.
func (p *peer) rehome(e *Engine, now time.Time, u *uplinks) (moved bool) {
	if !p.chooses() {
		return false
	}
	for _, bound := range []bool{false, true} { // what routing leaves makes room for what it takes up
		for _, r := range slices.Clone(p.routes.known) {
			d, ok := r.key.Carrier.(direct)
			if !ok || (d.uplink != 0) != bound || !e.isMain(d.socket) {
				continue
			}
			remote := r.key.Remote.Addr()
			switch {
			case !bound:
				if at := p.localOf(r).Interface; u.by(at, remote) != nil && !e.routed(remote, at) {
					c := u.by(at, remote)
					p.rename(now, r.key, path.Key{Carrier: c, Remote: r.key.Remote})
				}
			case u.by(d.uplink, remote) == nil && e.cfg.Route(remote) != d.uplink:
				p.withdraw(now, r.key)
			case u == nil || e.routed(remote, d.uplink):
				p.rename(now, r.key, path.Key{Carrier: e.plain(remote), Remote: r.key.Remote})
			}
		}
	}
	if contact, ok := e.cfg.Directory.ByAddress(p.address); ok {
		p.offer(e, now, contact)
	}
	return p.choose(e, now)
}

func (e *Engine) isMain(s underlay.Socket) bool { return s == e.cfg.IPv4 || s == e.cfg.IPv6 }

// plain is the carrier that goes where routing goes.
func (e *Engine) plain(remote netip.Addr) Carrier { return direct{socket: e.socketFor(remote)} }

// bound reports whether a carrier sends by one interface or not at all.
func bound(c Carrier) bool {
	d, ok := c.(direct)
	return ok && d.uplink != 0
}

// unbound is a carrier for who cannot choose among several: one that goes where routing goes.
func (e *Engine) unbound(c Carrier, remote netip.Addr) Carrier {
	if bound(c) {
		return e.plain(remote)
	}
	return c
}

// rename gives one path another key. The peer's lock is held.
func (p *peer) rename(now time.Time, from, to path.Key) {
	r := &p.routes
	r.machine.Rename(now, from, to)
	r.known = slices.DeleteFunc(r.known, func(x route) bool { return x.key == to })
	if x := r.find(from); x != nil {
		x.key = to
	}
	switch {
	case !p.path.valid():
	case p.path.key() == from:
		p.path.Carrier = to.Carrier.(Carrier)
	case p.path.key() == to:
		p.path.Local, p.path.pacing = underlay.Source{}, nil // it went; traffic follows what came in its place
		if x := r.find(to); x != nil {
			p.path.Local, p.path.pacing = x.local, x.pacing
		}
	}
}

// localOf is the local end that a path has by now. The peer's lock is held.
func (p *peer) localOf(r route) underlay.Source {
	if p.path.valid() && p.path.key() == r.key {
		return p.path.Local
	}
	return r.local
}

// withdraw forgets a path whose interface is no uplink any more. The peer's lock is held.
func (p *peer) withdraw(now time.Time, k path.Key) {
	p.routes.machine.Remove(now, k)
	p.routes.known = slices.DeleteFunc(p.routes.known, func(x route) bool { return x.key == k })
}
