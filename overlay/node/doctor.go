package node

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/base/client"
	"github.com/hnet-robotics/hnet_bridge/overlay/config"
	"github.com/hnet-robotics/hnet_bridge/overlay/doctor"
	"github.com/hnet-robotics/hnet_bridge/overlay/engine"
	"github.com/hnet-robotics/hnet_bridge/overlay/nat"
	"github.com/hnet-robotics/hnet_bridge/overlay/path"
	"github.com/hnet-robotics/hnet_bridge/overlay/portmap"
)

// What a diagnosis of a peer may take: contact is tried, for less long if nobody has ever heard of the peer, then a probe is sent.
const (
	doctorContact = 4 * time.Second
	doctorLookOut = time.Second // LAN discovery takes no longer
	doctorProbe   = 2 * time.Second
)

// Doctor implements api.Controller.
func (n *Node) Doctor(ctx context.Context, peer netip.Addr) (api.Diagnosis, error) {
	var p *doctor.Peer
	if peer.IsValid() {
		p = n.examine(ctx, peer)
		if err := ctx.Err(); err != nil {
			return api.Diagnosis{}, err
		}
	}
	f := n.findings(time.Now())
	f.Peer = p
	return doctor.Diagnose(f), nil
}

// findings is what there is to know of the node itself.
func (n *Node) findings(now time.Time) doctor.Findings {
	f := doctor.Findings{
		Address: n.identity.Address(), Port: n.port, Whitelist: n.whitelist.Enabled(), Warnings: n.warnings.List(),
		NAT: n.nat.result(), Clock: doctor.Clock{Wall: now.Round(0), Lead: n.clock.Now().Sub(now.Round(0))},
		Links: doctor.Links{Known: true}, UDP4: doctor.ReachAbsent, UDP6: doctor.ReachAbsent,
		PortMapping: doctor.PortMapping{Enabled: n.mapper != nil},
	}
	for _, i := range n.watcher.Snapshot() {
		if !i.Up || i.Loopback || i.Name == n.cfg.Interface {
			continue
		}
		for _, prefix := range i.Addrs {
			switch a := prefix.Addr(); {
			case a.IsLinkLocalUnicast():
				f.Links.LinkLocal++
			case a.Is4():
				f.Links.IPv4++
				f.UDP4 = doctor.ReachUnknown
			default:
				f.Links.IPv6++
				f.UDP6 = doctor.ReachUnknown
			}
		}
	}
	for _, s := range n.bases.Status() {
		b := doctor.Base{Address: s.Address, Host: s.Host, State: baseStates[s.State], Transport: string(s.Transport), RTT: s.RTT, LastError: s.Err}
		if i := slices.IndexFunc(n.cfg.Bases, func(c config.Base) bool { return c.Address == s.Address }); i >= 0 {
			b.UDP, b.TCP = n.cfg.Bases[i].UDP, n.cfg.Bases[i].TCP
		}
		f.Bases = append(f.Bases, b)
		if b.State == api.BaseRegistered && b.Transport == "udp" {
			reach(&f, s.Endpoint)
		}
	}
	if f.NAT.Mapping != nat.MappingUnknown {
		f.UDP4 = doctor.ReachWorks
	}
	if f.NAT.Mapping6 != nat.MappingUnknown {
		f.UDP6 = doctor.ReachWorks
	}
	if n.mapper != nil {
		f.PortMapping = portMapping(n.mapper.Status())
	}
	return f
}

// reach notes that UDP works with an endpoint.
func reach(f *doctor.Findings, e netip.AddrPort) {
	switch {
	case e.Addr().Unmap().Is4():
		f.UDP4 = doctor.ReachWorks
	case e.IsValid():
		f.UDP6 = doctor.ReachWorks
	}
}

// portMapping says in short what came of asking routers: the best mapping, or why there is none.
func portMapping(r portmap.Report) doctor.PortMapping {
	m := doctor.PortMapping{Enabled: true, Done: len(r.Answers) > 0}
	for _, x := range r.Mappings {
		if x.External.Addr().Is4() && (!m.External.IsValid() || m.Double && !x.Double) {
			m.External, m.Protocol, m.Double = x.External, x.Protocol, x.Double
		}
	}
	for _, a := range r.Answers {
		if m.Why == "" && a.Result == portmap.Refused {
			m.Why = a.Protocol + ": " + a.Why
		}
	}
	return m
}

// examine tries contact with a peer and says what came of it.
func (n *Node) examine(ctx context.Context, peer netip.Addr) *doctor.Peer {
	p := &doctor.Peer{Address: peer, Hostname: n.hostnameOf(peer)}
	var entryKey bool
	if e, listed := n.whitelist.Get(peer); listed {
		p.Whitelisted, entryKey = true, !e.Key.IsZero()
	}
	if n.mayTalk(peer) == nil {
		p.Handshake.Tried = true
		patience := doctorContact
		if len(n.contacts.Candidates(time.Now(), peer)) == 0 && len(n.bases.Status()) == 0 {
			patience = doctorLookOut
		}
		trying, cancel := context.WithTimeout(ctx, patience)
		if _, err := n.Connect(trying, peer); err == nil {
			_, _ = n.Ping(ctx, peer, doctorProbe) // an old session says nothing about now; the state tells afterwards
		}
		cancel()
	}
	s, _ := n.engine.Peer(peer)
	seen := n.apiPeer(peer)
	p.State, p.Path = seen.State, seen.Path
	p.KeyKnown = entryKey || !s.Key.IsZero()
	p.MTU = s.Path.MTU
	if s.Mapping == path.Dependent {
		p.NAT = nat.Symmetric
	}
	p.RTT, p.Loss, p.LossKnown = s.RTT, s.Loss, s.LossKnown
	if !s.LastHandshake.IsZero() {
		p.Handshake.Ever, p.Handshake.Ago = true, time.Since(s.LastHandshake)
	}
	p.OnLAN = n.lan != nil && len(n.lan.Lookup(peer)) > 0
	if relays := n.bases.Relays(peer); len(relays) > 0 {
		p.AtBase = relays[0].Base()
	}
	if r, ok := s.Path.Carrier.(*client.Relay); ok && (p.Path == api.PathRelayUDP || p.Path == api.PathRelayTCP) {
		p.Via = r.Base()
	}
	p.Candidates = n.examined(peer, p, s.Paths)
	return p
}

var pathKinds = map[path.Kind]api.Path{
	path.LAN: api.PathLAN, path.Direct: api.PathDirect, path.RelayUDP: api.PathRelayUDP, path.RelayTCP: api.PathRelayTCP,
}

// examined says how each endpoint of a peer did: as the path selection saw it, or else as far as the state of the peer tells.
func (n *Node) examined(peer netip.Addr, p *doctor.Peer, paths []engine.PathStatus) (list []doctor.Candidate) {
	for _, s := range paths {
		if s.Uplink != 0 && s.State != path.Alive && !s.Selected {
			continue // not tried, for there is no need of it
		}
		c := doctor.Candidate{Endpoint: s.Key.Remote, Path: pathKinds[s.Kind], RTT: s.RTT}
		switch {
		case s.Selected && p.State == api.Connected:
			c.Outcome = doctor.InUse
		case s.State == path.Alive:
			c.Outcome = doctor.Answers
		case s.State == path.Dead, s.State == path.Doubtful, p.Handshake.Tried:
			c.Outcome = doctor.Silent
		}
		list = append(list, c)
	}
	for _, e := range n.contacts.Candidates(time.Now(), peer) {
		if slices.ContainsFunc(list, func(c doctor.Candidate) bool {
			return c.Endpoint == e && (c.Path == api.PathLAN || c.Path == api.PathDirect)
		}) {
			continue
		}
		c := doctor.Candidate{Endpoint: e, Path: api.PathDirect}
		if n.onLink(e.Addr()) {
			c.Path = api.PathLAN
		}
		switch s, _ := n.engine.Peer(peer); {
		case p.State == api.Connected && s.Path.Remote == e:
			c.Outcome = doctor.InUse
		case p.Handshake.Tried && p.State != api.Connected:
			c.Outcome = doctor.Silent
		}
		list = append(list, c)
	}
	return list
}
