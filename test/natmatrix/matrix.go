package main

import (
	"slices"
	"time"

	"github.com/hnet-robotics/hnet_bridge/test/internet"
)

// kinds are those whose pairs are tried, each with each and with itself.
var kinds = []internet.Kind{
	internet.Public, internet.FullCone, internet.AddressRestricted, internet.PortRestricted, internet.Symmetric, internet.LinuxNATFiltered,
	internet.LinuxNAT, internet.DoubleNAT, internet.UDPBlocked, internet.IPv6Only, internet.IPv4Only, internet.UPnP,
}

// Place says where the second robot of a pair is.
type Place string

const (
	elsewhere   Place = ""             // at a site of its own
	sameNAT     Place = "same NAT"     // at the first one's site, on a segment of its own: only the NAT's hairpin leads there
	sameCarrier Place = "same carrier" // behind a home NAT of its own and the first one's carrier's NAT
)

// Pair is two robots' places.
type Pair struct {
	A, B  internet.Kind
	Place Place
}

func (p Pair) String() string {
	s := string(p.A) + " – " + string(p.B)
	if p.Place != elsewhere {
		s += ", " + string(p.Place) + " (hairpin)"
	}
	return s
}

// pairs returns every pair once, those that share a NAT last.
func pairs() (all []Pair) {
	for i, a := range kinds {
		for _, b := range kinds[i:] {
			all = append(all, Pair{A: a, B: b})
		}
	}
	for _, k := range []internet.Kind{internet.FullCone, internet.AddressRestricted, internet.PortRestricted} {
		all = append(all, Pair{k, k, sameNAT})
	}
	return append(all, Pair{internet.DoubleNAT, internet.DoubleNAT, sameCarrier})
}

// The times that a direct path may take.
const (
	soon     = 3 * time.Second
	guessing = 40 * time.Second // one side's port has to be guessed
)

// Requirement is what a pair must reach besides being connected.
type Requirement struct {
	Direct time.Duration // both ways direct within this time; 0 = may stay relayed
	Why    string        // why it may stay relayed
}

func (p Pair) requirement() Requirement {
	switch {
	case p.A == internet.UDPBlocked || p.B == internet.UDPBlocked:
		return Requirement{Why: "no UDP on one side"}
	case !slices.ContainsFunc(families(p.A), func(f internet.Family) bool { return slices.Contains(families(p.B), f) }):
		return Requirement{Why: "no common address family"}
	case symmetric(p.A) && symmetric(p.B):
		return Requirement{Why: "both ports depend on the destination"}
	case symmetric(p.A) || symmetric(p.B):
		return Requirement{Direct: guessing}
	}
	return Requirement{Direct: soon}
}

func families(k internet.Kind) []internet.Family {
	switch k {
	case internet.Public:
		return []internet.Family{internet.IPv4, internet.IPv6}
	case internet.IPv6Only:
		return []internet.Family{internet.IPv6}
	}
	return []internet.Family{internet.IPv4}
}

// symmetric tells whether the external port depends on the destination and cannot be mapped.
func symmetric(k internet.Kind) bool { return k == internet.Symmetric || k == internet.LinuxSymmetric }
