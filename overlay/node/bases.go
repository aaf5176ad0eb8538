package node

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/base/client"
	"github.com/hnet-robotics/hnet_bridge/overlay/engine"
	"github.com/hnet-robotics/hnet_bridge/overlay/health"
	"github.com/hnet-robotics/hnet_bridge/overlay/nat"
	"github.com/hnet-robotics/hnet_bridge/overlay/underlay"
)

// maxNews bounds what Bases have told and was not looked at: as many peers as a whitelist holds, at two Bases.
const maxNews = 1 << 15

// baseNews keeps what Bases tell until the event loop of the Bases takes it.
type baseNews struct {
	ready chan struct{}
	mu    sync.Mutex
	list  []client.Event
}

func (b *baseNews) put(e client.Event) {
	b.mu.Lock()
	if len(b.list) < maxNews {
		b.list = append(b.list, e)
	}
	b.mu.Unlock()
	select {
	case b.ready <- struct{}{}:
	default:
	}
}

func (b *baseNews) take() []client.Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := b.list
	b.list = nil
	return list
}

// openBases makes the client of the Bases. It does nothing before Run.
func (n *Node) openBases() {
	n.baseNews.ready = make(chan struct{}, 1)
	n.bases = client.New(client.Config{
		Identity: n.identity, Log: n.log,
		Send: func(to netip.AddrPort, b []byte) error { return n.sendMain(to, b) },
		Relay: func(trains []underlay.Message) (int, error) {
			s := n.sockets.of(trains[0].Remote.Addr())
			if s == nil {
				return 0, errNoSocket
			}
			return s.WriteBatch(trains)
		},
		Deliver: func(r *client.Relay, inner []byte) { n.engine.Deliver(r, inner) },
		Notify:  n.baseNews.put,
		Proxy:   n.cfg.ProxyFor,
		Usable:  func(a netip.Addr) bool { return !n.throughOverlay(a) },
		LowData: n.cfg.LowData,
	})
}

// sendMain sends one datagram from the main socket of its family.
func (n *Node) sendMain(to netip.AddrPort, b []byte) error {
	s := n.sockets.of(to.Addr())
	if s == nil {
		return errNoSocket
	}
	_, err := s.WriteBatch([]underlay.Message{{Buf: b, Remote: to}})
	return err
}

// servers are the Bases of the configuration, and the peers that relay and are trusted to.
func (n *Node) servers() []client.Server {
	list := make([]client.Server, 0, len(n.cfg.Bases))
	for _, b := range n.cfg.Bases {
		list = append(list, client.Server{Address: b.Address, Host: b.Host, UDP: b.UDP, TCP: b.TCP})
	}
	for e := range n.whitelist.All() {
		if !e.Relay && !n.relaying.has(e.Address) {
			continue
		}
		endpoints := n.contacts.Candidates(time.Now(), e.Address)
		if len(endpoints) > 0 && !slices.ContainsFunc(list, func(s client.Server) bool { return s.Address == e.Address }) {
			list = append(list, client.Server{Address: e.Address, Endpoints: endpoints})
		}
	}
	return list
}

// relaying are the whitelisted peers whose records say that they relay.
type relaying struct {
	mu    sync.Mutex
	peers map[netip.Addr]bool
}

func (r *relaying) has(peer netip.Addr) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.peers[peer]
}

// set reports whether that is news.
func (r *relaying) set(peer netip.Addr, on bool) (news bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.peers == nil {
		r.peers = make(map[netip.Addr]bool)
	}
	news = r.peers[peer] != on
	if on {
		r.peers[peer] = true
	} else {
		delete(r.peers, peer)
	}
	return news
}

// wanted tells the Bases whom this node wants to meet.
func (n *Node) wanted() {
	n.bases.SetInterests(n.whitelist.Addresses())
	n.setServers()
}

// setServers tells the client of the Bases which there are. One at a time: else who asked the whitelist before a peer left it could be the last to
// tell, and the peer relay on.
func (n *Node) setServers() {
	n.serving.Lock()
	defer n.serving.Unlock()
	n.bases.SetServers(n.servers())
}

// watchBases is the event loop of what Bases tell.
func (n *Node) watchBases(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.baseNews.ready:
		}
		for _, e := range n.baseNews.take() {
			if ctx.Err() != nil {
				return
			}
			n.baseTold(time.Now(), e)
		}
	}
}

func (n *Node) baseTold(now time.Time, e client.Event) {
	switch e.Type {
	case client.Registered, client.ObservedChanged:
		n.registered(now, e)
	case client.Lost:
		n.nat.do(func(m *nat.Machine) { m.Lost(e.Base) })
		n.spares.setBase(e.Base, netip.AddrPort{})
		home := n.bases.Home()
		moved := len(home) > 0 && n.where.home(home)
		if n.where.unobserve(e.Base) || moved {
			n.announceSelf()
		}
		n.publish(api.EventBase, netip.Addr{}, e.Base.String()+" lost")
	case client.PeerHere:
		n.met(now, e)
	case client.PeerGone:
		n.engine.Refresh(e.Peer)
	case client.IdentityInUse:
		w := health.Warning{Code: health.IdentityCopy,
			Text: fmt.Sprintf("another host uses this node's identity %s and takes its place at Base %s, probably a copied disk image", n.identity.Address(), e.Base),
			Fix:  fmt.Sprintf("on the copy: 'hnet down', move %s/identity away, start hnetd again (it gets a new address to whitelist)", n.opt.Paths.State)}
		n.warnings.Raise(w)
		n.clones.see(now, w)
	case client.FilterProbe:
		n.nat.do(func(m *nat.Machine) { m.FilterProbe(now, e.Nonce, e.From) })
	}
}

// registered takes over how a Base sees this node.
func (n *Node) registered(now time.Time, e client.Event) {
	udp := e.Transport == client.UDP
	if e.Type == client.Registered {
		n.publish(api.EventBase, netip.Addr{}, e.Base.String()+" registered")
	}
	r := nat.Registration{Base: e.Base, Alternate: e.AlternatePort}
	if port := n.udpPortOf(e.Base); !udp && port != 0 && e.Endpoint.IsValid() {
		r.UDP = []netip.AddrPort{netip.AddrPortFrom(e.Endpoint.Addr(), port)} // where it should have been
	}
	if udp {
		n.spares.setBase(e.Base, e.Endpoint)
		r.UDP, r.Via, r.Observed = []netip.AddrPort{e.Endpoint}, e.Endpoint, e.Observed
		if e.Hops != unknownHops {
			n.engine.SetHops(n.where.far(e.Base, int(e.Hops), e.Observed))
		}
	}
	n.nat.do(func(m *nat.Machine) {
		if e.Type == client.ObservedChanged {
			m.Observed(now, e.Base, r.Observed)
		} else {
			m.Registered(now, r)
		}
	})
	moved := false
	if udp {
		moved = n.where.observe(e.Base, e.Observed)
	} else {
		moved = n.where.unobserve(e.Base)
	}
	if n.where.home(n.bases.Home()) || moved {
		n.announceSelf()
	}
}

// udpPortOf is the configured UDP port of a Base, 0 if it has none.
func (n *Node) udpPortOf(base netip.Addr) uint16 {
	for _, b := range n.cfg.Bases {
		if b.Address == base {
			return b.UDP
		}
	}
	return 0
}

// unknownHops is what a Base says when it cannot tell how far away this node is.
const unknownHops = 255

// met takes over what a Base tells of a peer that wants this node as this node wants it.
func (n *Node) met(now time.Time, e client.Event) {
	entry, listed := n.whitelist.Get(e.Peer)
	if !listed {
		return
	}
	if entry.SigningKey.IsZero() {
		n.pinned(e.Peer, n.whitelist.PinSigning(e.Peer, e.Record.Key))
	}
	named := slices.DeleteFunc(slices.Clone(e.Record.Endpoints), func(x netip.AddrPort) bool {
		return x.Addr().IsLinkLocalUnicast() || n.where.isOwn(x)
	})
	n.contacts.Met(now, e.Peer, e.Base, named, e.Observed, e.Record.Lifetime)
	if n.relaying.set(e.Peer, e.Record.Relay) || e.Record.Relay {
		n.setServers()
	}
	n.engine.Refresh(e.Peer)
}

// relaysOf are the ways to a peer through Bases, as the engine wants them.
func (n *Node) relaysOf(peer netip.Addr) []engine.Relay {
	relays := n.bases.Relays(peer)
	list := make([]engine.Relay, 0, len(relays))
	for _, r := range relays {
		if r.Base() != peer { // a peer that relays is no way to itself
			list = append(list, r)
		}
	}
	return list
}

var baseStates = map[client.State]api.BaseState{
	client.StateRegistered: api.BaseRegistered, client.StateConnecting: api.BaseConnecting, client.StateUnreachable: api.BaseUnreachable,
	client.StateStandby: api.BaseStandby,
}

// apiBases describes the Bases.
func (n *Node) apiBases() []api.Base {
	list := []api.Base{}
	for _, s := range n.bases.Status() {
		b := api.Base{Address: s.Address, Host: s.Host, Transport: string(s.Transport), State: baseStates[s.State]}
		if s.RTT > 0 {
			b.RTT = api.Known(float64(s.RTT) / float64(time.Millisecond))
		}
		list = append(list, b)
	}
	return list
}
