package client

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/record"
	"github.com/hnet-robotics/hnet_bridge/overlay/underlay"
)

// Server is a Base that may be used. Its overlay address pins its identity; the rest says where it may be found.
type Server struct {
	Address netip.Addr // overlay address
	Host    string     // DNS name or IP address; empty if only Endpoints are known
	UDP     uint16     // port at Host; 0 = not by UDP
	TCP     uint16     // port at Host; 0 = not by TCP
	// Endpoints are UDP endpoints known otherwise, as those that the record of a peer that relays names. At most maxEndpoints are tried.
	Endpoints []netip.AddrPort
}

// Config says what a Client needs. Identity, Send, Relay and Notify are required. The callbacks may be called from several goroutines at once.
type Config struct {
	Identity *identity.Identity
	Log      *slog.Logger // nil = silent

	// Send sends one datagram from the main socket of its family. It keeps nothing of b. An error is taken for a loss.
	Send func(to netip.AddrPort, b []byte) error
	// Relay sends trains with their relay headers written from the main socket of the family of their Remote; see underlay.Socket.WriteBatch.
	Relay func([]underlay.Message) (n int, err error)
	// Deliver takes a datagram that was relayed over TCP; those that come by UDP the caller hands in itself, see Client.Relayed. It must not keep inner
	// and delays only that Base while it runs. nil = no relaying over TCP.
	Deliver func(carrier *Relay, inner []byte)
	// Notify must not block; it is called from the goroutine of Run, in order, and may call any method of the Client.
	Notify func(Event)

	// Resolve looks up a DNS name; nil = the resolver of package net.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	// Dial opens TCP connections outside the overlay; nil = a net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Proxy names the HTTP proxy (http://user:password@host:port) that leads to a host by CONNECT; nil, or a nil URL = none.
	Proxy func(host string, port uint16) (*url.URL, error)
	// Usable reports whether an underlay address may be used at all: it is not inside the overlay nor routed through it. nil = all are.
	Usable func(netip.Addr) bool
	// LowData keeps one Base warm in place of two, and asks it and measures the others more rarely.
	LowData bool
}

// Transport is how a Base is reached.
type Transport string

// The transports of a Base.
const (
	UDP  Transport = "udp"
	TCP  Transport = "tcp"
	None Transport = "none"
)

// EventType is what an Event tells.
type EventType uint8

const (
	// Registered: Base took our registration, by Transport. Also when it moved from TCP to UDP or the Base had forgotten us.
	Registered EventType = iota + 1
	// Lost: Base does not know us any more: it failed, drained, or is not needed. All Relays through it are withdrawn.
	Lost
	// PeerHere: Peer and we ask for each other at Base, or something about it changed: its record, its observed endpoint, or the Relay to it, since the
	// registration was renewed (the last one is withdrawn).
	PeerHere
	// PeerGone: Peer is no longer to be reached through Base: its Relay is withdrawn, or about to be, since the Base is going to end. Also for each
	// peer of a Base that is Lost, before that.
	PeerGone
	// ObservedChanged: Base sees us from another endpoint than before, or at another distance.
	ObservedChanged
	// IdentityInUse: Base forgets this node again and again, because another host registers with its identity.
	IdentityInUse
	// FilterProbe: an answer to Client.FilterTest arrived, from another port of the Base.
	FilterProbe
)

// Event is news from a Base. Fields that Type does not name are zero.
type Event struct {
	Type EventType
	Base netip.Addr // overlay address of the Base

	// Registered, ObservedChanged.
	Transport     Transport
	Endpoint      netip.AddrPort // of the Base
	Observed      netip.AddrPort // how the Base sees our main UDP socket (UDP) or our connection (TCP); for PeerHere, how it sees the peer's main UDP socket, invalid if that is on TCP
	Hops          byte           // routers between, guessed from the TTL; 255 = unknown
	AlternatePort uint16         // answers STUN at the address of Endpoint; 0 = none
	RTT           time.Duration

	// PeerHere, PeerGone.
	Peer   netip.Addr
	Signed []byte        // the newest contact record known for Peer, verified to be its own; not to be changed
	Record record.Record // what Signed says
	Relay  *Relay        // the carrier to Peer through Base (PeerHere)

	// FilterProbe.
	Nonce [12]byte
	From  netip.AddrPort
}

// State is what a Base is to us.
type State string

// The states of a Base.
const (
	StateRegistered  State = "registered"  // it keeps our registration
	StateConnecting  State = "connecting"  // a registration is wanted and under way
	StateUnreachable State = "unreachable" // it did not answer when last asked
	StateStandby     State = "standby"     // known and not needed now
)

// Status is one known Base.
type Status struct {
	Address   netip.Addr
	Host      string
	Transport Transport
	State     State
	RTT       time.Duration  // 0 if never measured
	Endpoint  netip.AddrPort // in use; invalid if none
	Observed  netip.AddrPort // how the Base sees us; invalid if not registered
	Err       string         // why it is not registered, as far as known
}
