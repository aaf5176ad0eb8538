package node

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/base/client"
	"github.com/hnet-robotics/hnet_bridge/overlay/config"
	"github.com/hnet-robotics/hnet_bridge/overlay/engine"
	"github.com/hnet-robotics/hnet_bridge/overlay/health"
	"github.com/hnet-robotics/hnet_bridge/overlay/netwatch"
	"github.com/hnet-robotics/hnet_bridge/overlay/whitelist"
)

const (
	// lookPause is the least time from one look at a peer to the next: a path that flaps with every packet costs 50 looks a second.
	lookPause = 20 * time.Millisecond
	// unsettledPause is how often peers are looked at that are being contacted or do not answer.
	unsettledPause = time.Second
	// announceAgain is the least time between two announcements on the LAN for the sake of one peer that is not found; it doubles up to
	// announceRarely while that stays so: every 10 s would be 20 MB a day.
	announceAgain  = 10 * time.Second
	announceRarely = 10 * time.Minute
	// maxStrangers bounds those on the roster that the whitelist does not name; the engine itself keeps 1024.
	maxStrangers = 2048
)

// roster is what was last told of each peer: those on the whitelist of which there was any news, and others once they had a session. It belongs to
// watchPeers' goroutine.
type roster struct {
	peers     map[netip.Addr]*known
	unsettled map[netip.Addr]bool // of which it changes without an event how they stand
	strangers int                 // on the roster and not on the whitelist
	announced time.Time           // for the sake of a stranger
	refusals  refusals
}

// known is one peer as it was last told of.
type known struct {
	listed    bool
	added     bool // that it is known has been told
	state     api.PeerState
	path      api.Path
	endpoint  netip.AddrPort
	via       netip.Addr // the Base that relays, invalid if none does
	routeMTU  int        // of its own route, 0 = it has none
	announced time.Time
	pause     time.Duration // to the next announcement for its sake
	lines     ration
}

func newRoster() *roster {
	return &roster{peers: make(map[netip.Addr]*known), unsettled: make(map[netip.Addr]bool)}
}

// watchPeers is the node's event loop: it looks at peers of which there is news, and at those whose contact is not settled.
func (n *Node) watchPeers(ctx context.Context) {
	var tick <-chan time.Time
	for {
		if tick == nil && len(n.roster.unsettled) > 0 {
			tick = time.After(unsettledPause)
		}
		select {
		case <-ctx.Done():
			return
		case answer := <-n.alive:
			n.answer(answer)
			continue
		case <-n.inbox.ready:
			n.lookAt(ctx, n.inbox.take())
		case <-tick:
			tick = nil
			letters := make(map[netip.Addr]letter, len(n.roster.unsettled))
			for peer := range n.roster.unsettled {
				letters[peer] = letter{}
			}
			n.lookAt(ctx, letters)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(lookPause):
		}
	}
}

func (n *Node) lookAt(ctx context.Context, letters map[netip.Addr]letter) {
	for peer, l := range letters {
		select {
		case <-ctx.Done():
			return
		case answer := <-n.alive: // a long list on a slow disk is no reason to be taken for dead
			n.answer(answer)
		default:
		}
		n.look(time.Now(), peer, l)
	}
}

// Alive returns nil if the event loop turns and the data path gives way to it, and ctx's error if they do not before it ends.
func (n *Node) Alive(ctx context.Context) error {
	answer := make(chan struct{})
	select {
	case n.alive <- answer:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-answer:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (n *Node) answer(alive chan<- struct{}) {
	n.engine.States(func(netip.Addr, engine.State) {}) // takes every lock of the data path
	close(alive)
}

// look brings what others know of a peer up to date: the log, the event streams, the contact book, the kernel's routes. The zero peer is all
// strangers.
func (n *Node) look(now time.Time, peer netip.Addr, l letter) {
	if !peer.IsValid() {
		n.sweep(now)
		return
	}
	status, present := n.engine.Peer(peer)
	status.Address = peer
	entry, listed := n.whitelist.Get(peer)
	if l.news&refused != 0 && !listed && n.roster.refusals.news(now, peer) {
		n.log.Info("a node that is not on the whitelist asked for contact", "address", peer, "endpoint", l.from,
			"fix", fmt.Sprintf("if it is yours: hnet whitelist add %s", peer))
		n.hub.Publish(api.Event{Time: now, Type: api.EventPeerRefused, Detail: "it is not on the whitelist",
			Peer: &api.Peer{Address: peer, State: api.Idle, Path: api.PathNone, Endpoint: l.from}})
	}
	k := n.roster.peers[peer]
	switch {
	case !listed && !present && k == nil && l.news&(newEntry|listedAnew) == newEntry:
		n.dropped(peer) // there never was any other news of it
		return
	case !listed && !present:
		n.gone(now, peer)
		return
	case k == nil && (listed || status.State == engine.Connected):
		k = n.enrol(now, peer, listed)
	}
	if k != nil && !k.added && (!listed || l.news&listedAnew != 0) {
		k.added = true
		n.publish(api.EventPeerAdded, peer, "")
	}
	if l.news&contactWanted != 0 {
		n.seek(now, k, entry)
	}
	if k == nil {
		return
	}
	n.relist(k, listed)
	n.suspect(k, status)
	up := status.State == engine.Connected && (l.news&cameUp != 0 || k.state != api.Connected || k.endpoint != status.Path.Remote)
	outside := true
	if up || l.news&newPath != 0 {
		outside = n.measure(peer, status.Path)
	}
	if l.news&wentDown != 0 {
		n.contacts.Disconnected(peer)
	}
	if up {
		if listed {
			n.remember(entry, status, outside)
		}
	}
	if status.State == engine.Connected && (up || l.news&newPath != 0) {
		n.setPeerRoute(peer, k, status)
	}
	n.tell(now, peer, k, n.describe(status), status)
}

// suspect has a Base asked for a sign of life when a peer's path went from it to another Base: it may be dead, and that is found sooner so.
func (n *Node) suspect(k *known, s engine.PeerStatus) {
	was := k.via
	k.via = netip.Addr{}
	if r, ok := s.Path.Carrier.(*client.Relay); ok {
		k.via = r.Base()
		if was.IsValid() && was != k.via {
			n.bases.Suspect(was)
		}
	}
}

// enrol puts a peer on the roster. That is no news of those that were on the whitelist when the node started.
func (n *Node) enrol(now time.Time, peer netip.Addr, listed bool) *known {
	if n.roster.strangers >= maxStrangers {
		n.sweep(now)
	}
	k := &known{listed: listed, state: api.Idle, path: api.PathNone}
	if !listed {
		n.roster.strangers++
	}
	n.roster.peers[peer] = k
	return k
}

// sweep takes the strangers off the roster whom the engine let go, which it does not tell of those that had no session.
func (n *Node) sweep(now time.Time) {
	for peer, k := range n.roster.peers {
		if _, present := n.engine.Peer(peer); !present && !k.listed {
			n.gone(now, peer)
		}
	}
}

// relist notes whether the whitelist names a peer on the roster.
func (n *Node) relist(k *known, listed bool) {
	switch {
	case k.listed && !listed:
		n.roster.strangers++
	case !k.listed && listed:
		n.roster.strangers--
	}
	k.listed = listed
}

// gone takes a peer off the roster that may not talk any more, with all that was kept for it.
func (n *Node) gone(now time.Time, peer netip.Addr) {
	k := n.roster.peers[peer]
	if k == nil {
		return
	}
	n.relist(k, true)
	delete(n.roster.peers, peer)
	delete(n.roster.unsettled, peer)
	if k.routeMTU != 0 {
		if err := n.opt.Host.SetPeerRoute(n.cfg.Interface, peer, 0); err != nil && !n.goingDown.Load() {
			n.log.Warn("the route of a peer that is gone could not be removed", "peer", peer, "err", err,
				"fix", "ip -6 route del "+peer.String()+" dev "+n.cfg.Interface)
		}
	}
	if k.state == api.Connected {
		n.line(now, k, "peer is down", "peer", peer, "cause", "it may not talk to this node any more")
	}
	n.dropped(peer)
}

// dropped forgets a peer that may not talk any more, and says so.
func (n *Node) dropped(peer netip.Addr) {
	n.forget(peer)
	n.publish(api.EventPeerRemoved, peer, "")
}

// forget drops what the node keeps of a peer besides the roster.
func (n *Node) forget(peer netip.Addr) {
	n.contacts.Forget(peer)
	n.lookups.forget(peer)
	n.runs.forget(peer)
	n.ipv4.forget(peer)
	n.relaying.set(peer, false)
	for _, code := range []health.Code{health.Endpoint, health.OverlayInside, health.PeerRoute, health.PeerKey, health.PeerCopy, health.IPv4Peer} {
		n.warnings.Clear(code, peer.String())
	}
}

// seek does what may help to find a peer: whoever hears an announcement announces itself in turn, and a name may mean another address by now.
// k and entry are zero for a stranger.
func (n *Node) seek(now time.Time, k *known, entry whitelist.Entry) {
	last, pause := &n.roster.announced, announceAgain
	if k != nil {
		last, pause = &k.announced, max(k.pause, announceAgain)
	}
	if n.lan != nil && now.Sub(*last) >= pause {
		*last = now
		if k != nil {
			k.pause = min(2*pause, announceRarely)
		}
		n.lan.Announce()
	}
	if entry.Address.IsValid() {
		n.bases.Want(entry.Address)
	}
	n.resolve(entry, false)
}

// remember keeps what a session has proved of a whitelisted peer: its key and, if its path leads outside the overlay, where it is.
func (n *Node) remember(entry whitelist.Entry, s engine.PeerStatus, outside bool) {
	if entry.Key.IsZero() && !s.Key.IsZero() {
		n.pinned(entry.Address, n.whitelist.Pin(entry.Address, s.Key))
	}
	switch {
	case s.Path.Kind.Relayed():
		n.contacts.Connected(entry.Address, netip.AddrPort{})
	case s.Path.Remote.IsValid() && outside:
		n.contacts.Connected(entry.Address, s.Path.Remote)
	}
}

// pinned tells the outcome of storing a peer's key.
func (n *Node) pinned(peer netip.Addr, err error) {
	if _, listed := n.whitelist.Get(peer); !listed {
		return // it was removed meanwhile
	}
	n.warnings.Set(err, health.Warning{Code: health.PeerKey, Subject: peer.String(), Fix: "make " + n.opt.Paths.State + " writable"})
	if err == nil {
		n.publish(api.EventWhitelist, peer, "key learned")
	}
}

// tell logs and publishes how a peer stands, if that has changed. p describes s.
func (n *Node) tell(now time.Time, peer netip.Addr, k *known, p api.Peer, s engine.PeerStatus) {
	if p.State == api.Connecting || p.State == api.Unreachable && !s.GivenUp {
		n.roster.unsettled[peer] = true
	} else {
		delete(n.roster.unsettled, peer)
	}
	was := *k
	if p.State == api.Connected {
		k.pause = 0
	}
	k.state, k.path, k.endpoint = p.State, p.Path, p.Endpoint
	if p.State != was.state {
		switch {
		case p.State == api.Connected:
			n.line(now, k, "peer is up", "peer", n.nameOf(peer), "path", p.Path, "endpoint", p.Endpoint)
		case was.state == api.Connected:
			n.line(now, k, "peer is down", "peer", n.nameOf(peer))
		}
		n.hub.Publish(api.Event{Time: now, Type: api.EventPeerState, Peer: &p, Detail: string(p.State)})
	}
	if p.Endpoint.IsValid() && (p.Endpoint != was.endpoint || p.Path != was.path) {
		if was.state == api.Connected {
			n.line(now, k, "peer has another path", "peer", n.nameOf(peer), "path", p.Path, "endpoint", p.Endpoint, "before", was.endpoint)
		}
		n.hub.Publish(api.Event{Time: now, Type: api.EventPeerPath, Peer: &p, Detail: p.Endpoint.String()})
	}
}

// line logs what happened to one peer, within its ration.
func (n *Node) line(now time.Time, k *known, text string, args ...any) {
	left, ok := k.lines.take(now)
	if !ok {
		return
	}
	if left > 0 {
		args = append(args, "not_told", left)
	}
	n.log.Info(text, args...)
}

// measure asks the kernel for the way to a path's remote: how large a datagram may be, and that it does not lead through the overlay itself,
// which it reports.
func (n *Node) measure(peer netip.Addr, p engine.Path) (outside bool) {
	if !p.Remote.IsValid() || p.Kind.Relayed() {
		return true
	}
	subject := peer.String()
	r, err := netwatch.RouteTo(p.Remote.Addr())
	if err != nil {
		return true // there is no way at the moment: the path's probes find that out
	}
	if r.Interface == n.device.Index {
		n.warnings.Raise(health.Warning{Code: health.OverlayInside, Subject: subject,
			Text: fmt.Sprintf("the endpoint %s of peer %s is routed through %s itself", p.Remote, n.nameOf(peer), n.cfg.Interface),
			Fix:  "remove the route that leads there (ip route get " + p.Remote.Addr().WithZone("").String() + " shows it)"})
		return false
	}
	n.warnings.Clear(health.OverlayInside, subject)
	n.engine.SetPathMTU(peer, p.Remote, r.MTU)
	return true
}

// setPeerRoute gives the peer a route of its own with the MTU that its path carries whole, or the configured one, if that is above the default
// route's. It stays until the path carries less or the peer is gone; those of an earlier run went when the device was adopted.
func (n *Node) setPeerRoute(peer netip.Addr, k *known, s engine.PeerStatus) {
	mtu := n.cfg.MTU
	if mtu == 0 && s.Native && !s.Path.Kind.Relayed() {
		mtu = min(s.Whole, n.deviceMTU())
	}
	if mtu <= config.MinMTU {
		mtu = 0
	}
	if mtu == k.routeMTU || n.goingDown.Load() {
		return
	}
	err := n.opt.Host.SetPeerRoute(n.cfg.Interface, peer, mtu)
	if err == nil {
		k.routeMTU = mtu
		n.ipv4.setMTU(peer, mtu)
	}
	n.warnings.Set(err, health.Warning{Code: health.PeerRoute, Subject: peer.String(),
		Fix: "traffic flows with the default MTU of 1280; look at 'ip -6 route show dev " + n.cfg.Interface + "'"})
}

// publish tells the event streams. peer is the zero Addr if it is not about one.
func (n *Node) publish(kind api.EventType, peer netip.Addr, detail string) {
	e := api.Event{Time: time.Now(), Type: kind, Detail: detail}
	if peer.IsValid() {
		p := n.apiPeer(peer)
		e.Peer = &p
	}
	n.hub.Publish(e)
}

// Bounds of what is logged of one peer: linesAtOnce in linesPause.
const (
	linesAtOnce = 5
	linesPause  = time.Minute
)

// ration bounds the log lines of one peer.
type ration struct {
	since         time.Time
	used, skipped int
}

// take reports whether a line may be logged now, and how many were not before it.
func (r *ration) take(now time.Time) (left int, ok bool) {
	if now.Sub(r.since) >= linesPause {
		r.since, r.used = now, 0
	}
	if r.used >= linesAtOnce {
		r.skipped++
		return 0, false
	}
	r.used++
	left, r.skipped = r.skipped, 0
	return left, true
}

// maxRefusals bounds the strangers that are told of in one refusalPause, each once: whoever makes keys can be any number of them.
const (
	maxRefusals  = 16
	refusalPause = time.Minute
)

// refusals remembers which strangers were told of lately.
type refusals struct {
	since time.Time
	told  map[netip.Addr]bool
}

func (r *refusals) news(now time.Time, a netip.Addr) bool {
	if now.Sub(r.since) >= refusalPause {
		r.since, r.told = now, make(map[netip.Addr]bool)
	}
	if r.told[a] || len(r.told) >= maxRefusals {
		return false
	}
	r.told[a] = true
	return true
}
