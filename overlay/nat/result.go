package nat

import (
	"net/netip"
	"time"
)

// Mapping is how a NAT chooses the outside endpoint of an inside one (RFC 4787 §4.1).
type Mapping uint8

// The mappings.
const (
	MappingUnknown     Mapping = iota
	MappingNone                // none: the outside endpoint is our own
	MappingIndependent         // one outside endpoint, whatever the destination
	MappingDependent           // another one for each destination address, or address and port
)

func (m Mapping) String() string {
	switch m {
	case MappingNone:
		return "no mapping"
	case MappingIndependent:
		return "endpoint-independent mapping"
	case MappingDependent:
		return "endpoint-dependent mapping"
	}
	return "mapping unknown"
}

// Filtering is what a NAT or firewall lets in (RFC 4787 §5).
type Filtering uint8

// The filterings, from lax to strict.
const (
	FilteringUnknown     Filtering = iota
	FilteringIndependent           // anything
	FilteringAddress               // from addresses that were sent to; perhaps more, see the package's comment
	FilteringAddressPort           // from endpoints that were sent to
)

func (f Filtering) String() string {
	switch f {
	case FilteringIndependent:
		return "endpoint-independent filtering"
	case FilteringAddress:
		return "address-dependent filtering"
	case FilteringAddressPort:
		return "address-and-port-dependent filtering"
	}
	return "filtering unknown"
}

// Hairpin says whether a datagram to our own outside endpoint comes back to us (RFC 4787 §6).
type Hairpin uint8

// The outcomes. Without a NAT, or with a dependent mapping, it stays unknown.
const (
	HairpinUnknown Hairpin = iota
	HairpinWorks
	HairpinFails
)

// Kind is the NAT in one stable word, for status.nat of the local API.
type Kind string

// The kinds.
const (
	Unknown           Kind = "unknown"            // not measured
	None              Kind = "none"               // no NAT; a firewall there may be
	FullCone          Kind = "full_cone"          // independent mapping, no filtering
	AddressRestricted Kind = "address_restricted" // independent mapping, filtering by address at the most
	PortRestricted    Kind = "port_restricted"    // independent mapping, filtering by address and port
	Cone              Kind = "cone"               // independent mapping, filtering unknown
	Symmetric         Kind = "symmetric"          // dependent mapping
	UDPBlocked        Kind = "udp_blocked"        // no UDP passes, TCP does
)

// Result is what is known now. It is comparable with ==; the zero Result knows nothing.
type Result struct {
	// Of IPv4.
	Mapping   Mapping
	Confirmed bool // by a whole round; a dependent mapping by two Bases, or by two rounds some minutes apart
	Filtering Filtering
	Hairpin   Hairpin

	// Of IPv6.
	Mapping6   Mapping
	Filtering6 Filtering

	Observed4, Observed6 netip.AddrPort // as the Base sees us that we have been registered with longest; invalid if not known
	Local4, Local6       bool           // there are local addresses of that family

	UDPBlocked bool      // a Base is reachable by TCP, none by UDP
	Rebinds    int       // how often the outside endpoint changed by itself, since the network is this one
	Measured   time.Time // when a round of IPv4 was last completed; zero if none was
}

// Kind is that of IPv4; of IPv6 on a host that has no IPv4.
func (r Result) Kind() Kind {
	mapping, filtering := r.Mapping, r.Filtering
	if !r.Local4 && mapping == MappingUnknown {
		mapping, filtering = r.Mapping6, r.Filtering6
	}
	switch {
	case r.UDPBlocked:
		return UDPBlocked
	case mapping == MappingNone:
		return None
	case mapping == MappingDependent:
		return Symmetric
	case mapping == MappingUnknown:
		return Unknown
	}
	switch filtering {
	case FilteringIndependent:
		return FullCone
	case FilteringAddress:
		return AddressRestricted
	case FilteringAddressPort:
		return PortRestricted
	}
	return Cone
}

// String says it for people who know NATs.
func (r Result) String() string {
	const independent = "endpoint-independent mapping, "
	switch r.Kind() {
	case UDPBlocked:
		return "udp blocked"
	case None:
		return "none"
	case FullCone:
		return independent + FilteringIndependent.String() + " (full cone)"
	case AddressRestricted:
		return independent + FilteringAddress.String() + " (address-restricted)"
	case PortRestricted:
		return independent + FilteringAddressPort.String() + " (port-restricted)"
	case Cone:
		return independent + FilteringUnknown.String()
	case Symmetric:
		return "symmetric"
	}
	return "unknown"
}

// IPv6 is what stands in front of the IPv6 socket: "unknown", "none", "firewalled" (a firewall that lets in answers only) or "translated".
func (r Result) IPv6() string {
	switch {
	case r.Mapping6 == MappingUnknown:
		return "unknown"
	case r.Mapping6 != MappingNone:
		return "translated"
	case r.Filtering6 == FilteringAddressPort:
		return "firewalled"
	}
	return "none"
}

// Traversable tells whether a peer can predict where to reach us: without a NAT, or with an independent mapping.
func (r Result) Traversable() bool {
	return !r.UDPBlocked && (r.Mapping == MappingNone || r.Mapping == MappingIndependent)
}
