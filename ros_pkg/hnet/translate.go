package hnet

import (
	"math"
	"net/netip"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/builtin_interfaces"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/hnet_bridge"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/std_msgs"
)

// header has the time at which something was so. The overlay is in no frame.
func header(at time.Time) std_msgs.Header {
	return std_msgs.Header{Stamp: builtin_interfaces.FromTime(at)}
}

var peerStates = map[api.PeerState]uint8{
	api.Connected:   hnet_bridge.PeerStateConnected,
	api.Connecting:  hnet_bridge.PeerStateConnecting,
	api.Idle:        hnet_bridge.PeerStateIdle,
	api.Unreachable: hnet_bridge.PeerStateUnreachable,
}

var peerPaths = map[api.Path]uint8{
	api.PathNone:     hnet_bridge.PeerPathNone,
	api.PathLAN:      hnet_bridge.PeerPathLAN,
	api.PathDirect:   hnet_bridge.PeerPathDirect,
	api.PathRelayUDP: hnet_bridge.PeerPathRelayUDP,
	api.PathRelayTCP: hnet_bridge.PeerPathRelayTCP,
}

var baseStates = map[api.BaseState]uint8{
	api.BaseRegistered:  hnet_bridge.BaseStateRegistered,
	api.BaseConnecting:  hnet_bridge.BaseStateConnecting,
	api.BaseUnreachable: hnet_bridge.BaseStateUnreachable,
	api.BaseStandby:     hnet_bridge.BaseStateStandby,
}

// PeerMessage translates a peer. A state or path of a later daemon becomes UNKNOWN or NONE.
func PeerMessage(p *api.Peer) hnet_bridge.Peer {
	m := hnet_bridge.Peer{
		Address:     text(p.Address),
		Hostname:    p.Hostname,
		State:       peerStates[p.State],
		Path:        peerPaths[p.Path],
		RTT:         seconds(p.RTT),
		Jitter:      seconds(p.Jitter),
		Loss:        number(p.Loss),
		TxBytes:     p.TxBytes,
		RxBytes:     p.RxBytes,
		Whitelisted: p.Whitelisted,
	}
	if p.Endpoint.IsValid() {
		m.Endpoint = p.Endpoint.String()
	}
	if p.LastHandshake != nil {
		m.LastHandshake = builtin_interfaces.FromTime(*p.LastHandshake)
	}
	return m
}

// unknownPeer is the peer of an event that is about none.
func unknownPeer() hnet_bridge.Peer {
	return hnet_bridge.Peer{RTT: math.NaN(), Jitter: math.NaN(), Loss: math.NaN()}
}

// PeersMessage translates the peers as they were at a time.
func PeersMessage(at time.Time, peers []api.Peer) *hnet_bridge.PeerArray {
	m := &hnet_bridge.PeerArray{Header: header(at), Peers: make([]hnet_bridge.Peer, len(peers))}
	for i := range peers {
		m.Peers[i] = PeerMessage(&peers[i])
	}
	return m
}

// StatusMessage translates what the node knew of itself at a time.
func StatusMessage(at time.Time, s *api.Status) *hnet_bridge.Status {
	m := &hnet_bridge.Status{
		Header:           header(at),
		Address:          text(s.Address),
		Hostname:         s.Hostname,
		Interface:        s.Interface,
		WhitelistEnabled: s.WhitelistEnabled,
		NAT:              s.NAT,
		Version:          s.Version,
		Bases:            make([]hnet_bridge.Base, len(s.Bases)),
		Warnings:         make([]hnet_bridge.Warning, len(s.Warnings)),
	}
	for i := range s.Bases {
		b := &s.Bases[i]
		m.Bases[i] = hnet_bridge.Base{Address: text(b.Address), Host: b.Host, Transport: b.Transport, State: baseStates[b.State], RTT: seconds(b.RTT)}
	}
	for i, w := range s.Warnings {
		m.Warnings[i] = hnet_bridge.Warning{Code: w.Code, Text: w.Text, Fix: w.Fix}
	}
	return m
}

// WhitelistMessages translates the entries of the whitelist.
func WhitelistMessages(entries []api.WhitelistEntry) []hnet_bridge.WhitelistEntry {
	m := make([]hnet_bridge.WhitelistEntry, len(entries))
	for i, e := range entries {
		m[i] = hnet_bridge.WhitelistEntry{Address: text(e.Address), Hostname: e.Hostname, Key: e.Key, Source: e.Source}
	}
	return m
}

// HostnameMessages translates the names.
func HostnameMessages(entries []api.HostEntry) []hnet_bridge.HostnameEntry {
	m := make([]hnet_bridge.HostnameEntry, len(entries))
	for i, e := range entries {
		m[i] = hnet_bridge.HostnameEntry{Name: e.Name, Address: text(e.Address), Source: e.Source}
	}
	return m
}

// text is "" for no address.
func text(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// seconds are NaN if the milliseconds are not known.
func seconds(ms *float64) float64 { return number(ms) / 1000 }

func number(v *float64) float64 {
	if v == nil {
		return math.NaN()
	}
	return *v
}
