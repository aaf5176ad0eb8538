package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/engine"
	"github.com/hnet-robotics/hnet_bridge/overlay/health"
	"github.com/hnet-robotics/hnet_bridge/overlay/host"
	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/inet4"
	"github.com/hnet-robotics/hnet_bridge/overlay/netwatch"
	"github.com/hnet-robotics/hnet_bridge/overlay/statefile"
)

// ipv4Pause gathers what happens at once, so that a hundred peers that come up are one change of hnet0.
const ipv4Pause = 20 * time.Millisecond

// ipv4 keeps this node's IPv4 address inside the overlay and its peers': it feeds the machine that decides, and carries out what it decided.
type ipv4 struct {
	view atomic.Pointer[ipv4View]
	wake chan struct{}

	mu       sync.Mutex // of what comes in
	letters  map[netip.Addr]*ipv4Letter
	networks bool // what this host has of IPv4 may have changed
	mtus     map[netip.Addr]int
	routes   bool // an MTU changed

	// What follows belongs to the goroutine of watchIPv4.
	machine *inet4.Machine
	applied uint64
	saved   inet4.State
	warned  map[netip.Addr]bool
}

// ipv4View is what others may know, at any time.
type ipv4View struct {
	own    netip.Addr
	origin netip.Prefix // the range it is from
	peers  map[netip.Addr]netip.Addr
}

// ipv4Letter is what happened to one peer since the last look. Of messages only the last counts: each tells all.
type ipv4Letter struct {
	up, down, gone bool
	message        [inet4.MessageLen]byte
	said           bool
}

// ipv4File is STATE/inet4.json.
type ipv4File struct {
	Version int             `json:"version"`
	Address netip.Addr      `json:"address"`
	Settled bool            `json:"settled"`
	Left    []netip.Addr    `json:"left"`
	Peers   []ipv4PeerState `json:"peers"`
}

type ipv4PeerState struct {
	Peer netip.Addr `json:"peer"`
	IPv4 netip.Addr `json:"ipv4"`
}

const ipv4FileVersion = 1

func newIPv4() *ipv4 {
	x := &ipv4{
		wake: make(chan struct{}, 1), letters: make(map[netip.Addr]*ipv4Letter), mtus: make(map[netip.Addr]int), warned: make(map[netip.Addr]bool), networks: true,
	}
	x.view.Store(&ipv4View{})
	return x
}

// IPv4 returns this node's own IPv4 address inside the overlay, invalid if it has none. It may change; see api.EventIPv4.
func (n *Node) IPv4() netip.Addr { return n.ipv4.view.Load().own }

// ipv4Of returns a peer's IPv4 address, invalid if it has none that this node uses.
func (n *Node) ipv4Of(peer netip.Addr) netip.Addr { return n.ipv4.view.Load().peers[peer] }

// openIPv4 takes up the addresses of the last run. A file that is damaged is no reason to be without the network: addresses are agreed on anew.
func (n *Node) openIPv4() {
	var f ipv4File
	path := n.state("inet4.json")
	err := statefile.ReadJSON(path, &f)
	if err == nil && f.Version != ipv4FileVersion {
		err = statefile.Damaged(path, fmt.Sprintf("is of version %d", f.Version))
	}
	if err != nil {
		f = ipv4File{}
		if !errors.Is(err, fs.ErrNotExist) {
			n.log.Warn("the IPv4 addresses of the last run are not known", "err", err, "fix", "nothing to do: they are agreed on anew")
		}
	}
	saved := inet4.State{Address: f.Address, Settled: f.Settled, Left: f.Left}
	for _, p := range f.Peers {
		if _, listed := n.whitelist.Get(p.Peer); listed {
			saved.Peers = append(saved.Peers, inet4.PeerAddress{Peer: p.Peer, IPv4: p.IPv4})
		}
	}
	n.ipv4.machine = inet4.New(time.Now(), inet4.Config{Self: n.identity.Address(), Ranges: n.ipv4Ranges(), Saved: saved})
	n.ipv4.saved = saved
}

func (n *Node) ipv4Ranges() []netip.Prefix {
	switch {
	case n.cfg.IPv4.Off:
		return nil
	case n.cfg.IPv4.Range.IsValid():
		return []netip.Prefix{n.cfg.IPv4.Range}
	}
	return inet4.DefaultRanges
}

// ipv4Message takes a message of a peer from the engine, and must not wait.
func (n *Node) ipv4Message(_ time.Time, peer netip.Addr, b []byte) {
	if len(b) < inet4.MessageLen {
		return
	}
	n.ipv4.post(peer, func(l *ipv4Letter) { l.message, l.said = [inet4.MessageLen]byte(b), true })
}

// ipv4Event takes an event of the engine, and must not wait.
func (n *Node) ipv4Event(e engine.Event) {
	switch e.Type {
	case engine.PeerUp:
		n.ipv4.post(e.Peer, func(l *ipv4Letter) { l.up, l.down = true, false })
	case engine.PeerDown:
		n.ipv4.post(e.Peer, func(l *ipv4Letter) { l.up, l.down, l.said = false, true, false })
	}
	// An underlay endpoint inside a range must never be led into the overlay.
	a := e.Path.Remote.Addr().Unmap()
	if e.Type != engine.Refused && slices.ContainsFunc(n.ipv4Ranges(), func(r netip.Prefix) bool { return r.Contains(a) }) {
		n.ipv4.linksChanged()
	}
}

func (x *ipv4) post(peer netip.Addr, f func(*ipv4Letter)) {
	x.mu.Lock()
	defer x.mu.Unlock()
	l := x.letters[peer]
	if l == nil {
		if len(x.letters) >= maxLetters {
			return
		}
		l = &ipv4Letter{}
		x.letters[peer] = l
	}
	f(l)
	x.rouse()
}

func (x *ipv4) rouse() {
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

// forget drops a peer that may not talk any more.
func (x *ipv4) forget(peer netip.Addr) {
	x.mu.Lock()
	delete(x.mtus, peer)
	x.mu.Unlock()
	x.post(peer, func(l *ipv4Letter) { *l = ipv4Letter{gone: true} })
}

// linksChanged has what this host has of IPv4 looked at anew.
func (x *ipv4) linksChanged() {
	x.mu.Lock()
	x.networks = true
	x.mu.Unlock()
	x.rouse()
}

// setMTU tells the MTU of a peer's own route, 0 = it has none.
func (x *ipv4) setMTU(peer netip.Addr, mtu int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.mtus[peer] == mtu {
		return
	}
	if x.mtus[peer] = mtu; mtu == 0 {
		delete(x.mtus, peer)
	}
	x.routes = true
	x.rouse()
}

// startIPv4 gives hnet0 its IPv4 address before the node is ready: programs that start then look at the interfaces once.
func (n *Node) startIPv4() {
	if n.cfg.IPv4.Off {
		n.setIPv4(host.IPv4Spec{}) // what an earlier run left
	}
	n.turnIPv4(time.Now())
}

// watchIPv4 is the loop around the machine.
func (n *Node) watchIPv4(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.ipv4.wake:
		case <-timer.C:
		}
		n.turnIPv4(time.Now())
		next := time.Hour
		if at := n.ipv4.machine.Next(); !at.IsZero() {
			next = max(time.Until(at), 0)
		}
		timer.Reset(max(next, ipv4Pause))
		select {
		case <-ctx.Done():
			return
		case <-time.After(ipv4Pause):
		}
	}
}

// turnIPv4 gives the machine what happened, and the world what it made of it.
func (n *Node) turnIPv4(now time.Time) {
	x := n.ipv4
	x.mu.Lock()
	letters, networks, routes := x.letters, x.networks, x.routes
	x.letters, x.networks, x.routes = make(map[netip.Addr]*ipv4Letter), false, false
	x.mu.Unlock()
	m := x.machine
	if networks && !n.cfg.IPv4.Off {
		m.SetNetworks(now, n.takenIPv4())
	}
	for peer, l := range letters {
		if l.gone {
			m.Forget(now, peer)
		}
		if l.down {
			m.Down(peer)
		}
		if l.up {
			m.Up(now, peer)
		}
		if _, may := (directory{n}).ByAddress(peer); l.said && may {
			if err := m.Receive(now, peer, l.message[:]); err != nil {
				n.engine.Stats().Malformed.Add(1)
			}
		}
	}
	if at := m.Next(); !at.IsZero() && !at.After(now) {
		m.Tick(now)
	}
	if routes || m.Version() != x.applied {
		x.applied = m.Version()
		n.applyIPv4()
	}
	for _, o := range m.Outgoing() {
		n.engine.SendInner(o.Peer, o.Message.Append(nil))
	}
}

// applyIPv4 brings the data path, hnet0, the state and the warnings up to date.
func (n *Node) applyIPv4() {
	x := n.ipv4
	own, origin := x.machine.Address()
	view := &ipv4View{own: own, origin: origin, peers: x.machine.Peers()}
	before := x.view.Load()
	n.engine.SetIPv4(own, view.peers)
	if !n.cfg.IPv4.Off {
		n.setIPv4(n.ipv4Spec(view))
	}
	x.view.Store(view)
	n.saveIPv4()
	n.warnIPv4(own)
	if own != before.own {
		n.log.Info("the IPv4 address inside the overlay", "ipv4", text(own), "before", text(before.own))
		n.publish(api.EventIPv4, netip.Addr{}, text(own))
	}
	for peer, a := range view.peers {
		if before.peers[peer] != a {
			n.publish(api.EventIPv4, peer, text(a))
		}
	}
	for peer := range before.peers {
		if _, still := view.peers[peer]; !still {
			n.publish(api.EventIPv4, peer, text(netip.Addr{}))
		}
	}
}

// text is an address for people and events, "" for none.
func text(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

func (n *Node) ipv4Spec(v *ipv4View) (s host.IPv4Spec) {
	if !v.own.IsValid() {
		return s
	}
	s.Address, s.RouteRange = netip.PrefixFrom(v.own, v.origin.Bits()), n.ipv4.machine.RangeFree()
	n.ipv4.mu.Lock()
	defer n.ipv4.mu.Unlock()
	for peer, a := range v.peers {
		s.Peers = append(s.Peers, host.IPv4Peer{Address: a, MTU: n.ipv4.mtus[peer]})
	}
	return s
}

func (n *Node) setIPv4(s host.IPv4Spec) {
	if n.goingDown.Load() {
		return
	}
	n.warnings.Set(n.opt.Host.SetIPv4(n.cfg.Interface, s), health.Warning{Code: health.IPv4Device,
		Fix: "IPv6 works all the same; look at 'ip -4 addr show dev " + n.cfg.Interface + "', or set 'ipv4: off'"})
}

// saveIPv4 stores what is to outlive the daemon, if it changed.
func (n *Node) saveIPv4() {
	if n.cfg.IPv4.Off {
		return
	}
	s := n.ipv4.machine.Save(func(peer netip.Addr) bool { _, listed := n.whitelist.Get(peer); return listed })
	if reflect.DeepEqual(s, n.ipv4.saved) {
		return
	}
	f := ipv4File{Version: ipv4FileVersion, Address: s.Address, Settled: s.Settled, Left: s.Left, Peers: make([]ipv4PeerState, 0, len(s.Peers))}
	for _, p := range s.Peers {
		f.Peers = append(f.Peers, ipv4PeerState{Peer: p.Peer, IPv4: p.IPv4})
	}
	err := statefile.WriteJSON(n.state("inet4.json"), f, 0o600)
	if err == nil {
		n.ipv4.saved = s
	}
	n.warnings.Set(err, health.Warning{Code: health.IPv4File, Fix: "make " + n.opt.Paths.State + " writable: the IPv4 address may be another after a restart"})
}

// warnIPv4 tells what is in the way of IPv4.
func (n *Node) warnIPv4(own netip.Addr) {
	blocker, blocked := n.ipv4.machine.Blocker()
	if !own.IsValid() && !n.cfg.IPv4.Off {
		cause := "all addresses of the range are taken by peers"
		if blocked {
			cause = fmt.Sprintf("this host has %s at %s", blocker.Prefix, blocker.What)
		}
		n.warnings.Raise(health.Warning{Code: health.IPv4Range, Text: "there is no free IPv4 address for " + n.cfg.Interface + ": " + cause,
			Fix: "set 'ipv4: RANGE' to one that is free on all hosts, such as 10.94.0.0/16, or 'ipv4: off'"})
	} else {
		n.warnings.Clear(health.IPv4Range, "")
	}
	now := make(map[netip.Addr]bool)
	for _, p := range n.ipv4.machine.Problems() {
		now[p.Peer] = true
		n.warnings.Raise(health.Warning{Code: health.IPv4Peer, Subject: p.Peer.String(), Text: n.ipv4Problem(p), Fix: ipv4Fix(p)})
	}
	for peer := range n.ipv4.warned {
		if !now[peer] {
			n.warnings.Clear(health.IPv4Peer, peer.String())
		}
	}
	n.ipv4.warned = now
}

func (n *Node) ipv4Problem(p inet4.Problem) string {
	name := n.nameOf(p.Peer)
	switch {
	case p.Ours && p.Verdict == inet4.NetworkClash:
		return fmt.Sprintf("no IPv4 with %s: its address %s lies in %s, which this host has at %s", name, p.IPv4, p.Clash.Prefix, p.Clash.What)
	case p.Ours && p.Verdict == inet4.OtherRange:
		return fmt.Sprintf("no IPv4 with %s: its address %s is in no range that this node takes addresses from", name, p.IPv4)
	case p.Ours:
		return fmt.Sprintf("no IPv4 with %s: its address %s is another node's", name, p.IPv4)
	case p.Verdict == inet4.NetworkClash:
		return fmt.Sprintf("no IPv4 with %s: this node's address %s lies in %s, a network of that host", name, p.IPv4, p.Clash.Prefix)
	case p.Verdict == inet4.OtherRange:
		return fmt.Sprintf("no IPv4 with %s: this node's address %s is in no range that it takes addresses from", name, p.IPv4)
	}
	return fmt.Sprintf("no IPv4 with %s: it knows another node with the address %s", name, p.IPv4)
}

func ipv4Fix(p inet4.Problem) string {
	switch p.Verdict {
	case inet4.NetworkClash:
		return "IPv6 works all the same; for IPv4 set 'ipv4: RANGE' on all hosts to a range that is free on all"
	case inet4.OtherRange:
		return "set the same 'ipv4' on both hosts"
	}
	return "wait: the younger of the two takes another address; if it does not, see that no host runs with a copy of another's identity"
}

// takenIPv4 is what this host has of IPv4 besides the overlay: networks, routes, and the endpoints of Bases and peers, wherever they are.
func (n *Node) takenIPv4() (list []inet4.Network) {
	taken, err := netwatch.TakenIPv4(n.cfg.Interface)
	if err != nil {
		n.log.Warn("what this host has of IPv4 is not known", "err", err, "fix", "it is looked at again when a link or a route changes")
	}
	for _, t := range taken {
		what := t.By
		if what == "" {
			what = "a route without interface"
		}
		list = append(list, inet4.Network{Prefix: t.Prefix, What: what})
	}
	single := func(a netip.Addr, what string) {
		if a = a.Unmap(); a.Is4() && inet4.Possible(a) {
			list = append(list, inet4.Network{Prefix: netip.PrefixFrom(a, a.BitLen()), What: what})
		}
	}
	for _, b := range n.cfg.Bases {
		if a, err := netip.ParseAddr(b.Host); err == nil {
			single(a, "a Base")
		}
	}
	for _, b := range n.bases.Status() {
		single(b.Endpoint.Addr(), "a Base")
	}
	for _, p := range n.engine.Peers() {
		single(p.Path.Remote.Addr(), "an endpoint of "+n.nameOf(p.Address))
	}
	for e := range n.whitelist.All() {
		if e.Endpoint == "" {
			continue
		}
		if a, err := netip.ParseAddrPort(e.Endpoint); err == nil && !identity.Prefix.Contains(a.Addr()) {
			single(a.Addr(), "an endpoint of "+n.nameOf(e.Address))
		}
	}
	return list
}
