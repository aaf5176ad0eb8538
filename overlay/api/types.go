// Package api is hnetd's local interface: HTTP/1.1 and JSON over the Unix socket RUN/hnetd.sock.
// It holds the types, the server that hnetd runs on a [Controller], and the [Client] that everything else uses.
//
// The JSON is a contract: fields are added, never renamed or given another meaning. A number that is not known is null.
package api

import (
	"net/netip"
	"time"
)

// Status is what the node knows of itself.
type Status struct {
	Address          netip.Addr `json:"address"`
	Hostname         string     `json:"hostname"`
	Interface        string     `json:"interface"`
	WhitelistEnabled bool       `json:"whitelist_enabled"`
	NAT              string     `json:"nat"` // kind of NAT in front of this node, "unknown" until measured
	Version          string     `json:"version"`
	Bases            []Base     `json:"bases"`
	Warnings         []Warning  `json:"warnings"`
	IPv4             netip.Addr `json:"ipv4"` // own address inside the overlay, "" if there is none; it may change
}

// BaseState says how this node stands with a Base.
type BaseState string

// The states of a Base.
const (
	BaseRegistered  BaseState = "registered"
	BaseConnecting  BaseState = "connecting"
	BaseUnreachable BaseState = "unreachable"
	BaseStandby     BaseState = "standby" // known, and others are nearer
)

// Base is one Base server as this node sees it.
type Base struct {
	Address   netip.Addr `json:"address"`
	Host      string     `json:"host"`
	Transport string     `json:"transport"` // udp, tcp or none
	State     BaseState  `json:"state"`
	RTT       *float64   `json:"rtt_ms"` // milliseconds
}

// Warning is a condition that someone should mend: Text says what is wrong, Fix what to do about it.
type Warning struct {
	Code string `json:"code"` // stable, snake_case
	Text string `json:"text"`
	Fix  string `json:"fix"`
}

// PeerState says whether traffic can flow to a peer.
type PeerState string

// The states of a peer.
const (
	Connected   PeerState = "connected"
	Connecting  PeerState = "connecting"
	Idle        PeerState = "idle"
	Unreachable PeerState = "unreachable"
)

// Path is the kind of way this node's packets take to a peer.
type Path string

// The kinds of path.
const (
	PathLAN      Path = "lan"
	PathDirect   Path = "direct"
	PathRelayUDP Path = "relay_udp"
	PathRelayTCP Path = "relay_tcp"
	PathNone     Path = "none"
)

// Peer is one peer. Path and Endpoint are this node's outgoing leg.
type Peer struct {
	Address       netip.Addr     `json:"address"`
	Hostname      string         `json:"hostname"`
	State         PeerState      `json:"state"`
	Path          Path           `json:"path"`
	Endpoint      netip.AddrPort `json:"endpoint"` // "" if there is none
	RTT           *float64       `json:"rtt_ms"`
	Jitter        *float64       `json:"jitter_ms"`
	Loss          *float64       `json:"loss"` // 0..1
	TxBytes       uint64         `json:"tx_bytes"`
	RxBytes       uint64         `json:"rx_bytes"`
	LastHandshake *time.Time     `json:"last_handshake"` // RFC 3339
	Whitelisted   bool           `json:"whitelisted"`
	IPv4          netip.Addr     `json:"ipv4"`            // its address inside the overlay, "" if it has none that this node uses
	Paths         []PeerPath     `json:"paths,omitempty"` // all that were tried lately; left out if there are none, as for stock WireGuard peers
}

// PathState says how one way to a peer does.
type PathState string

// The states of a path.
const (
	PathUntried  PathState = "untried"  // no answer yet
	PathAlive    PathState = "alive"    // answers
	PathDoubtful PathState = "doubtful" // answered, and does not at the moment
	PathDead     PathState = "dead"     // does not answer
)

// PeerPath is one way to a peer.
type PeerPath struct {
	Path     Path           `json:"path"`
	Endpoint netip.AddrPort `json:"endpoint"` // of the peer, or of the relay
	State    PathState      `json:"state"`
	Selected bool           `json:"selected"` // carries the traffic
	RTT      *float64       `json:"rtt_ms"`
	Jitter   *float64       `json:"jitter_ms"`
	Loss     *float64       `json:"loss"` // 0..1, of the last 32 probes
	MTU      int            `json:"mtu"`  // largest IP packet of the underlay known to pass, 0 if unknown
	// Interface is the one that the path is bound to, "" if it goes where this host's routing says.
	Interface string `json:"interface,omitempty"`
	Spare     bool   `json:"spare,omitempty"`  // by an uplink kept for copies, and for when nothing else works, here or at the peer
	Copies    bool   `json:"copies,omitempty"` // carries the copies of what is sent on two paths
	// Limit is what the path is held to so that no queue stands on it, in Mbit/s, nil while it is not held back; Queueing how long datagrams wait on
	// their way all the same.
	Limit    *float64 `json:"limit_mbit,omitempty"`
	Queueing *float64 `json:"queueing_ms,omitempty"`
}

// Whitelist is the list of who may talk to this node.
type Whitelist struct {
	Enabled bool             `json:"enabled"`
	Entries []WhitelistEntry `json:"entries"`
}

// WhitelistEntry is one whitelisted peer. Key is its WireGuard key in base64, "" until it is learned.
type WhitelistEntry struct {
	Address  netip.Addr `json:"address"`
	Hostname string     `json:"hostname"`
	Key      string     `json:"key"`
	Source   string     `json:"source"` // local, config or dashboard
}

// HostEntry is one name.
type HostEntry struct {
	Name    string     `json:"name"`
	Address netip.Addr `json:"address"`
	Source  string     `json:"source"`
}

// ID is an identity's public side. Keys are in base64; Ed25519 is "" for a stock WireGuard key.
type ID struct {
	Address   netip.Addr `json:"address"`
	Ed25519   string     `json:"ed25519"`
	WireGuard string     `json:"wireguard"`
	IPv4      netip.Addr `json:"ipv4,omitzero"` // of this node, inside the overlay; left out if there is none
}

// WhitelistAdd asks for a peer to be let in. Either Address or Key is given; fields left empty keep what an
// existing entry has.
type WhitelistAdd struct {
	Address  netip.Addr `json:"address,omitzero"`
	Key      string     `json:"key,omitempty"`      // WireGuard key, base64
	Hostname string     `json:"hostname,omitempty"` // RFC 1123
	Endpoint string     `json:"endpoint,omitempty"` // host:port, a hint
	PSK      []byte     `json:"psk,omitempty"`      // 32 bytes, base64 on the wire
}

// HostAdd asks for a name.
type HostAdd struct {
	Name    string     `json:"name"`
	Address netip.Addr `json:"address"`
}

// PingResult is one answered ping through the tunnel.
type PingResult struct {
	RTT      float64        `json:"rtt_ms"`
	Path     Path           `json:"path"`
	Endpoint netip.AddrPort `json:"endpoint"`
}

// EventType says what an [Event] tells. Readers skip types they do not know.
type EventType string

// The types of events. Those about one peer carry it as it is after the change.
const (
	EventPeerAdded   EventType = "peer_added"   // a peer is known that was not
	EventPeerRemoved EventType = "peer_removed" // a peer is gone from the list
	EventPeerState   EventType = "peer_state"   // its state changed
	EventPeerPath    EventType = "peer_path"    // its path or endpoint changed
	EventPeerRefused EventType = "peer_refused" // a node that may not talk asked for contact; Peer has its address and endpoint alone
	EventWhitelist   EventType = "whitelist"    // the whitelist changed
	EventHosts       EventType = "hosts"        // the names changed
	EventIPv4        EventType = "ipv4"         // an IPv4 address inside the overlay changed: that of the peer, or this node's own; Detail is the new one
	EventBase        EventType = "base"         // a Base's state changed
	EventWarning     EventType = "warning"      // a warning appeared or went
	EventOverflow    EventType = "overflow"     // the reader was too slow: the last event of this stream
)

// Event is one thing that happened.
type Event struct {
	Time   time.Time `json:"time"`
	Type   EventType `json:"type"`
	Peer   *Peer     `json:"peer"` // null if it is not about one peer
	Detail string    `json:"detail"`
}

// Known returns a pointer to v, for the numbers that are null while unknown.
func Known(v float64) *float64 { return &v }
