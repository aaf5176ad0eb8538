package hnet

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/hnet_bridge"
)

// eventRefused tells of a stranger who asked for contact: the peer has the address, and where it asked from.
const eventRefused = api.EventPeerRefused

// Tracker finds out what happened to peers, from the daemon's events and from its lists of peers: those also tell what happened while nobody
// listened. It holds as many peers as the daemon lists. It is for one goroutine.
type Tracker struct {
	peers  map[netip.Addr]*tracked
	primed bool // the first list tells what is, not what happened
}

type tracked struct {
	hostname    string
	state       api.PeerState
	path        api.Path
	endpoint    netip.AddrPort
	whitelisted bool
	since       time.Time // in this state
	listed      bool      // in the list that is being looked at
}

// Since tells when a peer came into its present state, as far as this tracker saw it.
func (t *Tracker) Since(peer netip.Addr) time.Time {
	if k := t.peers[peer]; k != nil {
		return k.since
	}
	return time.Time{}
}

// List takes all peers as they are now and returns what happened.
func (t *Tracker) List(now time.Time, peers []api.Peer) (events []*hnet_bridge.PeerEvent) {
	for _, k := range t.peers {
		k.listed = false
	}
	for i := range peers {
		events = append(events, t.see(now, &peers[i])...)
		t.peers[peers[i].Address].listed = true
	}
	for a, k := range t.peers {
		if !k.listed {
			events = append(events, t.remove(now, a, nil)...)
		}
	}
	if !t.primed {
		t.primed = true
		return nil
	}
	return events
}

// Event takes one event of the daemon and returns what it means.
func (t *Tracker) Event(e *api.Event) (events []*hnet_bridge.PeerEvent) {
	if e.Peer == nil || !e.Peer.Address.IsValid() {
		return nil
	}
	p := e.Peer
	switch e.Type {
	case eventRefused:
		detail := name(p) + " asked for contact and is not in the whitelist"
		if p.Endpoint.IsValid() {
			detail += ", from " + p.Endpoint.String()
		}
		return []*hnet_bridge.PeerEvent{peerEvent(e.Time, hnet_bridge.PeerEventTypeRefused, p, detail)}
	case api.EventPeerRemoved:
		return t.remove(e.Time, p.Address, p)
	case api.EventPeerAdded, api.EventPeerState, api.EventPeerPath, api.EventWhitelist:
		if e.Type == api.EventWhitelist && !p.Whitelisted && t.peers[p.Address] == nil {
			return nil // its removal from the list came first
		}
		return t.see(e.Time, p)
	}
	return nil
}

// see compares a peer with what was known of it.
func (t *Tracker) see(now time.Time, p *api.Peer) (events []*hnet_bridge.PeerEvent) {
	tell := func(kind uint8, detail string) {
		events = append(events, peerEvent(now, kind, p, detail))
	}
	k := t.peers[p.Address]
	if k == nil {
		k = &tracked{state: api.Idle, since: now}
		if t.peers == nil {
			t.peers = make(map[netip.Addr]*tracked)
		}
		t.peers[p.Address] = k
		tell(hnet_bridge.PeerEventTypeAdded, name(p)+" is known")
	}
	who := name(p)
	if p.Hostname == "" && k.hostname != "" && !p.Whitelisted { // whom the whitelist no longer knows has no name there
		who = k.hostname
	}
	if p.Whitelisted != k.whitelisted {
		if p.Whitelisted {
			tell(hnet_bridge.PeerEventTypeWhitelisted, name(p)+" is in the whitelist")
		} else {
			tell(hnet_bridge.PeerEventTypeUnwhitelisted, who+" is no longer in the whitelist")
		}
	}
	up, was := p.State == api.Connected, k.state == api.Connected
	switch {
	case up && !was:
		tell(hnet_bridge.PeerEventTypeUp, name(p)+" is up"+way(p))
	case was && !up:
		tell(hnet_bridge.PeerEventTypeDown, fmt.Sprintf("%s is down: %s", who, stateWords(p.State)))
	case up && p.Endpoint.IsValid() && (p.Path != k.path || p.Endpoint != k.endpoint):
		tell(hnet_bridge.PeerEventTypePathChanged, fmt.Sprintf("%s has another path%s, before %s", name(p), way(p), pathWords(k.path)))
	}
	if p.State != k.state {
		k.since = now
	}
	if p.Hostname != "" || p.Whitelisted {
		k.hostname = p.Hostname
	}
	k.state, k.whitelisted = p.State, p.Whitelisted
	k.path, k.endpoint = p.Path, p.Endpoint
	return events
}

// remove takes a peer that is gone out of the list; p is what the daemon said of it last, nil if nothing.
func (t *Tracker) remove(now time.Time, a netip.Addr, p *api.Peer) (events []*hnet_bridge.PeerEvent) {
	k := t.peers[a]
	if k == nil {
		return nil
	}
	if p == nil {
		p = &api.Peer{Address: a, Hostname: k.hostname}
	}
	last := *p
	if last.Hostname == "" {
		last.Hostname = k.hostname
	}
	last.State, last.Path, last.Endpoint, last.Whitelisted = api.Idle, api.PathNone, netip.AddrPort{}, false
	events = append(t.see(now, &last), peerEvent(now, hnet_bridge.PeerEventTypeRemoved, &last, name(&last)+" is not in the list any more"))
	delete(t.peers, a)
	return events
}

func peerEvent(at time.Time, kind uint8, p *api.Peer, detail string) *hnet_bridge.PeerEvent {
	return &hnet_bridge.PeerEvent{Header: header(at), Type: kind, Peer: PeerMessage(p), Detail: detail}
}

// daemonEvent tells that the daemon answers, or that it does not and why.
func daemonEvent(at time.Time, up bool, detail string) *hnet_bridge.PeerEvent {
	e := &hnet_bridge.PeerEvent{Header: header(at), Type: hnet_bridge.PeerEventTypeDaemonDown, Peer: unknownPeer(), Detail: detail}
	if up {
		e.Type = hnet_bridge.PeerEventTypeDaemonUp
	}
	return e
}

// name is what people call a peer.
func name(p *api.Peer) string {
	if p.Hostname != "" {
		return p.Hostname
	}
	return text(p.Address)
}

func way(p *api.Peer) string {
	if !p.Endpoint.IsValid() {
		return ""
	}
	return fmt.Sprintf(": %s, %s", pathWords(p.Path), p.Endpoint)
}

func pathWords(p api.Path) string {
	switch p {
	case api.PathLAN:
		return "over the LAN"
	case api.PathDirect:
		return "direct"
	case api.PathRelayUDP:
		return "through a Base, by UDP"
	case api.PathRelayTCP:
		return "through a Base, by TCP"
	case api.PathNone, "":
		return "no path"
	}
	return string(p)
}

func stateWords(s api.PeerState) string {
	switch s {
	case api.Connected:
		return "connected"
	case api.Connecting:
		return "a way to it is being sought"
	case api.Idle:
		return "there is nothing to send"
	case api.Unreachable:
		return "no way to it was found"
	}
	return string(s)
}
