package path

import (
	"net/netip"
	"strconv"
	"time"
)

// Kind is what sort of path it is. A smaller one is preferred, whatever the round-trip times.
type Kind uint8

// The kinds, in order of preference.
const (
	LAN      Kind = iota // on a link both are attached to
	Direct               // from host to host, through NATs perhaps
	RelayUDP             // through a Base, reached by UDP
	RelayTCP             // through a Base, reached by TCP
)

// Relayed reports whether a Base carries the traffic.
func (k Kind) Relayed() bool { return k >= RelayUDP }

func (k Kind) String() string {
	switch k {
	case LAN:
		return "lan"
	case Direct:
		return "direct"
	case RelayUDP:
		return "relay_udp"
	case RelayTCP:
		return "relay_tcp"
	}
	return "kind " + strconv.Itoa(int(k))
}

// Key is a path's identity. Carrier is the socket or relay that carries it: any comparable value (one that is not panics), best a pointer, since
// it is compared for every train. Remote is never IPv4-mapped; two relays are told apart by their Carriers.
type Key struct {
	Carrier any
	Remote  netip.AddrPort
}

// Candidate is a path that might work.
type Candidate struct {
	Key
	Kind Kind
	// Bound is the largest IP packet in bytes that the kernel would send toward Remote, 0 if unknown.
	Bound int
	// Uplink is the interface of this host that the path leaves by, 0 if unknown. Paths by two of them are disjoint.
	Uplink uint32
	// Spare marks a path by an uplink that the host's routing does not choose, such as LTE beside Wi-Fi: it carries copies, and all traffic when nothing
	// else is alive. It is probed only when there is a use for it.
	Spare bool
}

// Flags of a probe, which travel in it.
const (
	// FlagSelected says that the prober sends its traffic over the path that the probe came by.
	FlagSelected byte = 1 << iota
	// FlagMoved says that the prober has just lost the path it used: its address or its NAT's may be another now.
	FlagMoved
	// FlagSpare says that the path that the probe came by is one of the prober's Spare ones.
	FlagSpare
	// FlagCopies says that the prober sends some of its traffic on two paths: the peer keeps two alive, and expects copies.
	FlagCopies
)

// Probe is a probe to be sent.
type Probe struct {
	Key  Key
	Kind Kind
	// Sequence is unguessable, so that only who received the probe can answer it.
	Sequence uint32
	// Size is the length in bytes of the IP packet that the probe is padded to, headers of the carrier's first leg included; 0 = no padding.
	Size int
	// DF says that it must not be fragmented on its way.
	DF bool
	// TTL is the hop limit, 0 = the system's.
	TTL byte
	// Flags are FlagSelected, FlagMoved, FlagSpare, FlagCopies.
	Flags byte
}

// Signal is what two machines tell each other inside the tunnel, over whatever path they have, with the sender's endpoints and Mapping. See the
// package comment for the order of things.
type Signal uint8

// The signals. Their numbers travel.
const (
	NoSignal     Signal = iota
	SignalOffer         // my openers are out: open, then probe, then answer
	SignalAnswer        // mine are out too: probe
	SignalSpray         // punching brought nothing: predict ports, if the NATs are of the kinds for it
)

// Output is one thing to be done: a signal to be sent to the peer if Signal is not NoSignal, else a probe to be sent.
type Output struct {
	Signal Signal
	Probe  Probe
}

// State is how a path is doing.
type State uint8

// The states.
const (
	Untried  State = iota // no answer yet, nothing known against it
	Alive                 // answered, and nothing known against it since
	Doubtful              // answered before, does not at the moment or may not any more
	Dead                  // probes in a row went unanswered
)

func (s State) String() string {
	switch s {
	case Untried:
		return "untried"
	case Alive:
		return "alive"
	case Doubtful:
		return "doubtful"
	case Dead:
		return "dead"
	}
	return "state " + strconv.Itoa(int(s))
}

// Status is what is known of a path.
type Status struct {
	Key      Key
	Kind     Kind
	State    State
	Selected bool          // carries the traffic
	Copies   bool          // carries the copies of what is sent twice
	Spare    bool          // by an uplink that this host or the peer keeps for copies and for need
	RTT      time.Duration // smoothed (RFC 6298), 0 if never measured
	Jitter   time.Duration // mean deviation of the RTT
	// Loss is the share of the last 32 probes (fewer at first) that brought no answer within lossAfter, 0 to 1.
	Loss      float64
	LossKnown bool
	// MTU is the largest IP packet in bytes known to arrive, 0 if unknown; Searched says that larger ones were tried.
	MTU      int
	Searched bool
}
