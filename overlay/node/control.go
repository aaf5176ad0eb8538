package node

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/base/client"
	"github.com/hnet-robotics/hnet_bridge/overlay/engine"
	"github.com/hnet-robotics/hnet_bridge/overlay/health"
	"github.com/hnet-robotics/hnet_bridge/overlay/hostnames"
	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/path"
	"github.com/hnet-robotics/hnet_bridge/overlay/whitelist"
)

var _ api.Controller = (*Node)(nil)

// Status implements api.Controller.
func (n *Node) Status(context.Context) (api.Status, error) {
	s := api.Status{
		Address: n.identity.Address(), IPv4: n.IPv4(), Hostname: ownName(), Interface: n.cfg.Interface, WhitelistEnabled: n.whitelist.Enabled(),
		NAT: string(n.nat.result().Kind()), Version: api.Version(), Bases: n.apiBases(), Warnings: []api.Warning{},
	}
	for _, w := range n.warnings.List() {
		s.Warnings = append(s.Warnings, api.Warning{Code: string(w.Code), Text: w.Text, Fix: w.Fix})
	}
	return s, nil
}

// ID implements api.Controller.
func (n *Node) ID(context.Context) (api.ID, error) {
	signing := n.identity.SigningKey()
	return api.ID{
		Address: n.identity.Address(), IPv4: n.IPv4(), Ed25519: base64.StdEncoding.EncodeToString(signing[:]), WireGuard: n.identity.PublicKey().String(),
	}, nil
}

// Peers implements api.Controller: the whitelisted peers and those that are let in while the whitelist is off, by name and address.
func (n *Node) Peers(context.Context) ([]api.Peer, error) {
	known := make(map[netip.Addr]engine.PeerStatus)
	for _, s := range n.engine.Peers() {
		known[s.Address] = s
	}
	peers := make([]api.Peer, 0, n.whitelist.Len())
	for _, a := range n.whitelist.Addresses() {
		s, ok := known[a]
		if !ok {
			s = engine.PeerStatus{Address: a}
		}
		delete(known, a)
		peers = append(peers, n.describe(s))
	}
	for _, s := range known {
		peers = append(peers, n.describe(s))
	}
	slices.SortFunc(peers, func(a, b api.Peer) int {
		return cmp.Or(cmp.Compare(a.Hostname, b.Hostname), a.Address.Compare(b.Address))
	})
	return peers, nil
}

// apiPeer describes one peer as it is now.
func (n *Node) apiPeer(a netip.Addr) api.Peer {
	s, ok := n.engine.Peer(a)
	if !ok {
		s = engine.PeerStatus{Address: a}
	}
	return n.describe(s)
}

var apiStates = map[engine.State]api.PeerState{
	engine.Idle: api.Idle, engine.Connecting: api.Connecting, engine.Connected: api.Connected, engine.Unreachable: api.Unreachable,
}

func (n *Node) describe(s engine.PeerStatus) api.Peer {
	_, listed := n.whitelist.Get(s.Address)
	p := api.Peer{
		Address: s.Address, IPv4: n.ipv4Of(s.Address), Hostname: n.hostnameOf(s.Address), State: apiStates[s.State], Path: api.PathNone,
		TxBytes: s.Tx, RxBytes: s.Rx, Whitelisted: listed, Paths: n.describePaths(s.Paths),
	}
	switch {
	case s.State != engine.Connected:
	case s.Path.Kind == path.RelayUDP:
		p.Path, p.Endpoint = api.PathRelayUDP, s.Path.Remote
	case s.Path.Kind == path.RelayTCP:
		p.Path, p.Endpoint = api.PathRelayTCP, s.Path.Remote
	case s.Path.Remote.IsValid():
		p.Path, p.Endpoint = api.PathDirect, s.Path.Remote
		if n.onLink(s.Path.Remote.Addr()) {
			p.Path = api.PathLAN
		}
	}
	if s.Measured {
		p.RTT = milliseconds(s.RTT)
		if s.Jitter > 0 {
			p.Jitter = milliseconds(s.Jitter)
		}
	}
	if s.LossKnown {
		p.Loss = api.Known(s.Loss)
	}
	if !s.LastHandshake.IsZero() {
		at := s.LastHandshake.Round(0)
		p.LastHandshake = &at
	}
	return p
}

func milliseconds(d time.Duration) *float64 { return api.Known(float64(d) / float64(time.Millisecond)) }

var pathStates = map[path.State]api.PathState{
	path.Untried: api.PathUntried, path.Alive: api.PathAlive, path.Doubtful: api.PathDoubtful, path.Dead: api.PathDead,
}

// describePaths lists the ways to a peer, the best kind first.
func (n *Node) describePaths(paths []engine.PathStatus) []api.PeerPath {
	list := make([]api.PeerPath, 0, len(paths))
	for _, s := range paths {
		p := api.PeerPath{Path: pathKinds[s.Kind], Endpoint: s.Key.Remote, State: pathStates[s.State], Selected: s.Selected, MTU: s.MTU}
		if s.RTT > 0 {
			p.RTT, p.Jitter = milliseconds(s.RTT), milliseconds(s.Jitter)
		}
		if s.LossKnown {
			p.Loss = api.Known(s.Loss)
		}
		p.Copies, p.Spare, p.Interface = s.Copies, s.Spare, n.interfaceName(s.Uplink)
		if s.Rate > 0 {
			p.Limit, p.Queueing = api.Known(s.Rate*8/1e6), milliseconds(s.Queueing)
		}
		list = append(list, p)
	}
	slices.SortStableFunc(list, func(a, b api.PeerPath) int { return cmp.Compare(pathRank[a.Path], pathRank[b.Path]) })
	return list
}

// interfaceName returns the name of an interface, "" if there is none of that index.
func (n *Node) interfaceName(index uint32) string {
	if index != 0 {
		for _, i := range n.watcher.Snapshot() {
			if uint32(i.Index) == index {
				return i.Name
			}
		}
	}
	return ""
}

var pathRank = map[api.Path]int{api.PathLAN: 0, api.PathDirect: 1, api.PathRelayUDP: 2, api.PathRelayTCP: 3}

// onLink tells a neighbour on one of our links from a host beyond a router.
func (n *Node) onLink(remote netip.Addr) bool {
	if remote.IsLinkLocalUnicast() {
		return true
	}
	for _, i := range n.watcher.Snapshot() {
		for _, prefix := range i.Addrs {
			if prefix.Contains(remote) && i.Name != n.cfg.Interface {
				return true
			}
		}
	}
	return false
}

// Whitelist implements api.Controller.
func (n *Node) Whitelist(context.Context) (api.Whitelist, error) {
	w := api.Whitelist{Enabled: n.whitelist.Enabled(), Entries: make([]api.WhitelistEntry, 0, n.whitelist.Len())}
	for e := range n.whitelist.All() {
		w.Entries = append(w.Entries, apiEntry(e))
	}
	return w, nil
}

func apiEntry(e whitelist.Entry) api.WhitelistEntry {
	a := api.WhitelistEntry{Address: e.Address, Hostname: e.Hostname, Source: string(e.Source)}
	if !e.Key.IsZero() {
		a.Key = e.Key.String()
	}
	return a
}

// refusal gives a reason of the whitelist or the names to refuse a change its code. That the disk refused is a failure and stays as it is.
func refusal(err error, code string) error {
	if errno := syscall.Errno(0); errors.As(err, &errno) {
		return err
	}
	for _, reason := range []error{whitelist.ErrNotFound, hostnames.ErrNotFound} {
		if errors.Is(err, reason) {
			code = api.CodeNotFound
		}
	}
	for _, reason := range []error{whitelist.ErrKey, whitelist.ErrStatic, whitelist.ErrTaken, whitelist.ErrFull, hostnames.ErrTaken, hostnames.ErrFull} {
		if errors.Is(err, reason) {
			code = api.CodeConflict
		}
	}
	return &api.Error{Code: code, Text: err.Error()}
}

// WhitelistAdd implements api.Controller. The peer is contacted at once if it is known where it is, so that the first packet finds a session.
func (n *Node) WhitelistAdd(_ context.Context, add api.WhitelistAdd) (api.WhitelistEntry, error) {
	e := whitelist.Entry{Address: add.Address, Hostname: add.Hostname, Endpoint: add.Endpoint, Source: whitelist.SourceLocal}
	if add.Key != "" {
		key, err := identity.ParsePublicKey(add.Key)
		if err != nil {
			return api.WhitelistEntry{}, &api.Error{Code: api.CodeBadRequest, Text: err.Error()}
		}
		e.Key = key
		if !e.Address.IsValid() {
			e.Address = key.Address()
		}
	}
	if len(add.PSK) == 32 {
		e.PSK = (*[32]byte)(add.PSK)
	}
	n.editing.Lock()
	defer n.editing.Unlock()
	if e.Address == n.identity.Address() {
		return api.WhitelistEntry{}, &api.Error{Code: api.CodeConflict, Text: e.Address.String() + " is this node itself", Fix: "'hnet id' on the other node shows its address"}
	}
	if own := ownName(); e.Hostname != "" && strings.EqualFold(e.Hostname, own) {
		return api.WhitelistEntry{}, &api.Error{Code: api.CodeConflict, Text: own + " is this host's own name", Fix: "give the peer another with --hostname, or leave it out"}
	}
	if name, ok := n.names.Lookup(e.Hostname); ok && name.Address != e.Address {
		return api.WhitelistEntry{}, &api.Error{Code: api.CodeConflict, Text: fmt.Sprintf("the name %s belongs to %s", name.Name, name.Address), Fix: "remove it first: hnet host rm " + name.Name}
	}
	old, listed := n.whitelist.Get(e.Address)
	stored, err := n.whitelist.Add(e)
	if err != nil {
		return api.WhitelistEntry{}, refusal(err, api.CodeBadRequest)
	}
	if stored.Endpoint != old.Endpoint {
		n.contacts.Resolved(stored.Address, nil) // where the old hint led is no place to look any more
		n.warnings.Clear(health.Endpoint, stored.Address.String())
	}
	n.lookups.forget(stored.Address)
	n.writeHosts()
	what := newEntry
	if !listed {
		what |= listedAnew
	}
	n.inbox.put(stored.Address, what, netip.AddrPort{})
	n.publish(api.EventWhitelist, stored.Address, "added")
	if stored.Hostname != old.Hostname {
		n.publish(api.EventHosts, netip.Addr{}, stored.Hostname+" added")
	}
	n.wanted()
	n.bases.Want(stored.Address)
	n.engine.Refresh(stored.Address)
	n.resolve(stored, true)
	if n.lan != nil {
		for _, s := range n.lan.Lookup(stored.Address) {
			n.learn(stored.Address, s)
		}
	}
	if entry, ok := n.whitelist.Get(stored.Address); ok {
		stored = entry
		if len(n.contacts.Candidates(time.Now(), stored.Address)) > 0 {
			_ = n.engine.Connect(stored.Address) // on the whitelist by now
		}
	}
	return apiEntry(stored), nil
}

// WhitelistRemove implements api.Controller: the session ends before it returns.
func (n *Node) WhitelistRemove(ctx context.Context, a netip.Addr) (api.WhitelistEntry, error) {
	if e, ok := n.whitelist.Get(a); ok && e.Source != whitelist.SourceConfig && n.opt.Leaving != nil {
		n.opt.Leaving(ctx, a)
	}
	n.editing.Lock()
	defer n.editing.Unlock()
	e, err := n.whitelist.Remove(a)
	if err != nil {
		return api.WhitelistEntry{}, refusal(err, api.CodeConflict)
	}
	n.wanted()
	if n.relay != nil {
		n.relay.server.Review()
	}
	n.engine.Refresh(a)
	n.forget(a)
	n.writeHosts()
	n.inbox.put(a, newEntry, netip.AddrPort{})
	n.publish(api.EventWhitelist, a, "removed")
	if e.Hostname != "" {
		n.publish(api.EventHosts, netip.Addr{}, e.Hostname+" removed")
	}
	return apiEntry(e), nil
}

// WhitelistEnable implements api.Controller.
func (n *Node) WhitelistEnable(_ context.Context, enabled bool) error {
	n.editing.Lock()
	defer n.editing.Unlock()
	if err := n.whitelist.SetEnabled(enabled); err != nil {
		return err
	}
	n.warnOpen(!enabled)
	n.engine.RefreshAll()
	n.inbox.put(netip.Addr{}, newEntry, netip.AddrPort{}) // strangers may be gone
	detail := "enabled"
	if !enabled {
		detail = "disabled"
	}
	n.publish(api.EventWhitelist, netip.Addr{}, detail)
	return nil
}

func (n *Node) warnOpen(open bool) {
	if !open {
		n.warnings.Clear(health.WhitelistOff, "")
		return
	}
	n.warnings.Raise(health.Warning{Code: health.WhitelistOff,
		Text: "the whitelist is off: any node that reaches this one may talk to it", Fix: "hnet whitelist enable"})
}

// Hosts implements api.Controller.
func (n *Node) Hosts(context.Context) ([]api.HostEntry, error) {
	hosts := []api.HostEntry{}
	for _, name := range n.allNames() {
		hosts = append(hosts, apiHost(name))
	}
	slices.SortFunc(hosts, func(a, b api.HostEntry) int { return cmp.Compare(a.Name, b.Name) })
	return hosts, nil
}

func apiHost(name hostnames.Name) api.HostEntry {
	return api.HostEntry{Name: name.Name, Address: name.Address, Source: name.Source}
}

// HostAdd implements api.Controller.
func (n *Node) HostAdd(_ context.Context, add api.HostAdd) (api.HostEntry, error) {
	n.editing.Lock()
	defer n.editing.Unlock()
	for e := range n.whitelist.All() {
		if e.Hostname != "" && e.Hostname == strings.ToLower(add.Name) && e.Address != add.Address {
			return api.HostEntry{}, &api.Error{Code: api.CodeConflict, Text: fmt.Sprintf("the name %s belongs to the whitelisted peer %s", e.Hostname, e.Address),
				Fix: fmt.Sprintf("give that peer another: hnet whitelist add %s --hostname NAME", e.Address)}
		}
	}
	name, err := n.names.Add(hostnames.Name{Name: add.Name, Address: add.Address, Source: string(whitelist.SourceLocal)})
	if err != nil {
		return api.HostEntry{}, refusal(err, api.CodeBadRequest)
	}
	n.writeHosts()
	n.publish(api.EventHosts, netip.Addr{}, name.Name+" added")
	return apiHost(name), nil
}

// HostRemove implements api.Controller.
func (n *Node) HostRemove(_ context.Context, name string) (api.HostEntry, error) {
	n.editing.Lock()
	defer n.editing.Unlock()
	removed, err := n.names.Remove(name)
	if err != nil {
		return api.HostEntry{}, refusal(err, api.CodeBadRequest)
	}
	n.writeHosts()
	n.publish(api.EventHosts, netip.Addr{}, removed.Name+" removed")
	return apiHost(removed), nil
}

// Resolve implements api.Controller.
func (n *Node) Resolve(_ context.Context, s string) (api.HostEntry, error) {
	own := ownName()
	if a, err := netip.ParseAddr(s); err == nil {
		name := n.hostnameOf(a)
		if a == n.identity.Address() {
			name = own
		}
		return api.HostEntry{Name: name, Address: a}, nil
	}
	for _, name := range n.allNames() {
		if strings.EqualFold(name.Name, s) {
			return apiHost(name), nil
		}
	}
	if own != "" && strings.EqualFold(own, s) {
		return api.HostEntry{Name: own, Address: n.identity.Address(), Source: string(whitelist.SourceLocal)}, nil
	}
	return api.HostEntry{}, &api.Error{Code: api.CodeNotFound, Text: "no peer or host is called " + s, Fix: "'hnet host ls' shows the names"}
}

// Ping implements api.Controller.
func (n *Node) Ping(ctx context.Context, peer netip.Addr, timeout time.Duration) (api.PingResult, error) {
	if err := n.mayTalk(peer); err != nil {
		return api.PingResult{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	rtt, err := n.engine.Ping(ctx, peer)
	if errors.Is(err, context.DeadlineExceeded) {
		return api.PingResult{}, n.noAnswer(peer, "did not answer")
	}
	if err != nil {
		return api.PingResult{}, err
	}
	p := n.apiPeer(peer)
	return api.PingResult{RTT: float64(rtt) / float64(time.Millisecond), Path: p.Path, Endpoint: p.Endpoint}, nil
}

func (n *Node) mayTalk(peer netip.Addr) error {
	if peer == n.identity.Address() {
		return &api.Error{Code: api.CodeBadRequest, Text: peer.String() + " is this node itself", Fix: "name another peer; 'hnet peers' lists them"}
	}
	if _, ok := (directory{n}).ByAddress(peer); !ok {
		return &api.Error{Code: api.CodeNotFound, Text: peer.String() + " is not on the whitelist", Fix: "hnet whitelist add " + peer.String()}
	}
	return nil
}

// noAnswer says what is most likely the matter with a silent peer.
func (n *Node) noAnswer(peer netip.Addr, what string) error {
	fix := "see that the peer runs, and has this node on its whitelist: hnet whitelist add " + n.identity.Address().String()
	withBase := slices.ContainsFunc(n.bases.Status(), func(s client.Status) bool { return s.State == client.StateRegistered })
	e, listed := n.whitelist.Get(peer)
	switch {
	case withBase && len(n.contacts.Candidates(time.Now(), peer)) == 0:
		fix += "; 'hnet doctor " + n.nameOf(peer) + "' looks further"
	case listed && e.Key.IsZero(): // without it no handshake can be made, wherever the peer is
		fix = "it was not seen on this LAN: see that it runs hnetd on the same link, or add it by the key that 'hnet id' shows there: hnet whitelist add KEY --endpoint HOST:PORT"
	case len(n.contacts.Candidates(time.Now(), peer)) == 0:
		fix = "it was not seen on this LAN: see that it runs hnetd on the same link, or give its endpoint: hnet whitelist add " + peer.String() + " --endpoint HOST:PORT"
	}
	return &api.Error{Code: api.CodeTimeout, Text: n.nameOf(peer) + " " + what, Fix: fix}
}

// contactAgain is how often Connect asks anew while nothing happens.
const contactAgain = time.Second

// Connect implements api.Controller.
func (n *Node) Connect(ctx context.Context, peer netip.Addr) (api.Peer, error) {
	if err := n.mayTalk(peer); err != nil {
		return api.Peer{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events := n.hub.Subscribe(ctx)
	again := time.NewTicker(contactAgain)
	defer again.Stop()
	for {
		if err := n.engine.Connect(peer); err != nil {
			return api.Peer{}, &api.Error{Code: api.CodeNotFound, Text: err.Error()}
		}
		if p := n.apiPeer(peer); p.State == api.Connected {
			return p, nil
		}
	wait:
		for {
			select {
			case <-ctx.Done():
				return api.Peer{}, n.noAnswer(peer, "could not be reached in time")
			case e, ok := <-events:
				if !ok {
					events = nil
				} else if e.Peer != nil && e.Peer.Address == peer {
					break wait
				}
			case <-again.C:
				break wait
			}
		}
	}
}

// Subscribe implements api.Controller.
func (n *Node) Subscribe(ctx context.Context) <-chan api.Event { return n.hub.Subscribe(ctx) }

// Down implements api.Controller.
func (n *Node) Down(context.Context) error {
	n.editing.Lock()
	defer n.editing.Unlock()
	n.goingDown.Store(true)
	if err := n.opt.Host.RemoveDevice(n.cfg.Interface); err != nil {
		n.goingDown.Store(false)
		return err
	}
	n.writeHosts() // none, now that it goes down
	n.log.Info("the interface was removed, as asked", "interface", n.cfg.Interface)
	n.stop(errDown)
	return nil
}
