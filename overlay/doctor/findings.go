// Package doctor turns what was measured into one plain cause and one fix. It is pure: [Diagnose] looks at [Findings] and nothing else.
package doctor

import (
	"net/netip"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/health"
	"github.com/hnet-robotics/hnet_bridge/overlay/nat"
)

// Findings is everything that was measured. What is not known stays zero: it leads to no cause.
type Findings struct {
	Address netip.Addr // of this node
	Port    uint16     // its UDP port, 0 = not known

	Links       Links
	Clock       Clock
	NAT         nat.Result
	UDP4, UDP6  Reach
	PortMapping PortMapping
	Bases       []Base // as configured
	// BasesUnused: this version or configuration makes no use of Bases, so that their states mean nothing.
	BasesUnused bool
	Whitelist   bool // it is enabled
	DDS         *DDS // nil = not looked at
	Warnings    []health.Warning
	Peer        *Peer // nil = the node alone
}

// Links are the host's own addresses, those of the overlay and of loopback left out.
type Links struct {
	Known      bool
	IPv4, IPv6 int // addresses; of IPv6 global ones
	LinkLocal  int
}

// Clock is what is known of the host's clock.
type Clock struct {
	Wall time.Time // as it is; zero = not looked at
	// Lead is how far the timestamps of handshakes and records are ahead of Wall, since earlier runs gave out such late ones.
	Lead time.Duration
	// Offset is Wall less the time as Bases or peers tell it, if OffsetKnown. Negative: the clock is behind.
	Offset      time.Duration
	OffsetKnown bool
	// ReserveLost says that the record of timestamps in use was damaged or could not be stored: after a clock that went back, peers refuse this node.
	ReserveLost bool
}

// Reach says whether UDP of one address family passes.
type Reach uint8

// The outcomes.
const (
	ReachUnknown Reach = iota
	ReachWorks
	ReachBlocked // nothing comes back
	ReachAbsent  // there is no address of that family
)

// PortMapping is what came of asking routers to let our port in.
type PortMapping struct {
	Enabled  bool
	Done     bool           // every router was asked
	External netip.AddrPort // invalid = none
	Protocol string         // "pcp", "nat-pmp", "upnp"
	Double   bool           // External is not an address of the Internet: the provider translates again
	Why      string         // it failed, one line
}

// Base is one configured Base.
type Base struct {
	Address   netip.Addr
	Host      string
	UDP, TCP  uint16 // 0 = not by that
	State     api.BaseState
	Transport string // udp, tcp or none
	RTT       time.Duration
	LastError string // one line, "" = none
}

// DDS is what is the matter with the DDS profile that programs use; Problem "" = nothing.
type DDS struct{ Problem, Fix string }

// Peer is what is known of one peer and the way to it.
type Peer struct {
	Address  netip.Addr
	Hostname string

	Whitelisted bool // here
	KeyKnown    bool
	State       api.PeerState
	Path        api.Path
	Via         netip.Addr // the Base that relays, invalid if none or not known
	RTT         time.Duration
	Loss        float64 // 0..1
	LossKnown   bool
	// MTU is the largest IP packet of the underlay that passes on the path in use, 0 = not known.
	MTU int
	// NAT is the kind that the peer says is in front of it, "" = not known.
	NAT nat.Kind

	OnLAN bool // heard on a link within the last minutes
	// AtBase is a Base at which the peer is registered and asks for this node; invalid = none is known. Base servers tell no more than that.
	AtBase netip.Addr

	Handshake  Handshake
	Candidates []Candidate
}

// Handshake is how the last ones with the peer went.
type Handshake struct {
	Tried bool // this time, or lately
	Ago   time.Duration
	Ever  bool // one was completed in this run of the daemon, Ago ago
}

// Candidate is one place where the peer may be.
type Candidate struct {
	Endpoint netip.AddrPort
	Path     api.Path
	Outcome  Outcome
	RTT      time.Duration // 0 = not measured
	Detail   string        // more about the outcome, one line or ""
}

// Outcome is what came of trying a candidate.
type Outcome uint8

// The outcomes.
const (
	Untried Outcome = iota
	Silent          // tried, nothing came back
	Refused         // the kernel or a router said that it leads nowhere
	Answers
	InUse
)
