// Package record is the contact record: what a peer must know to reach a node, signed by that node
// (docs/protocol.md, Contact record).
package record

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
)

const (
	// MaxEndpoints and MaxBases bound the lists of a record.
	MaxEndpoints = 16
	MaxBases     = 4
	// MaxLifetime bounds how long a receiver may use a record, counted from receipt. The least is MinLifetime.
	MaxLifetime = 24 * time.Hour
	MinLifetime = time.Second
)

// Record says how to reach the node that signed it.
type Record struct {
	Key       identity.SigningKey // of the node
	Sequence  uint64              // the record with the greatest counts; see package clock
	Lifetime  time.Duration       // whole seconds from receipt, MinLifetime to MaxLifetime
	Endpoints []netip.AddrPort    // the best first; each passes CheckEndpoint, none twice
	Bases     []netip.Addr        // overlay addresses of the home Bases, the best first, none twice
	Relay     bool                // the node relays for peers that it whitelists
}

// PublicKey is the WireGuard key of the node, zero if Key is not valid. Key of a parsed record is.
func (r Record) PublicKey() identity.PublicKey {
	k, err := r.Key.WireGuard()
	if err != nil {
		return identity.PublicKey{}
	}
	return k
}

// Address is the overlay address of the node, invalid if Key is not valid.
func (r Record) Address() netip.Addr {
	k := r.PublicKey()
	if k.IsZero() {
		return netip.Addr{}
	}
	return k.Address()
}

// check holds for every record that is signed or accepted, apart from its key.
func (r *Record) check() error {
	switch {
	case r.Lifetime < MinLifetime || r.Lifetime > MaxLifetime || r.Lifetime%time.Second != 0:
		return fmt.Errorf("lifetime %v is not whole seconds from %v to %v", r.Lifetime, MinLifetime, MaxLifetime)
	case len(r.Endpoints) > MaxEndpoints:
		return fmt.Errorf("%d endpoints, %d at most", len(r.Endpoints), MaxEndpoints)
	case len(r.Bases) > MaxBases:
		return fmt.Errorf("%d Bases, %d at most", len(r.Bases), MaxBases)
	}
	for i, e := range r.Endpoints {
		if err := CheckEndpoint(e); err != nil {
			return err
		}
		if slices.Contains(r.Endpoints[:i], e) {
			return fmt.Errorf("endpoint %v is there twice", e)
		}
	}
	for i, b := range r.Bases {
		if err := identity.CheckAddress(b); err != nil {
			return fmt.Errorf("bad Base: %w", err)
		}
		if slices.Contains(r.Bases[:i], b) {
			return fmt.Errorf("the Base %v is there twice", b)
		}
	}
	return nil
}

// CheckEndpoint reports why e cannot be an endpoint of a record: it has no port, or its address is a zoned, mapped,
// loopback, unspecified, multicast or broadcast one or inside identity.Prefix. Link-local addresses pass; on which link
// they hold is the receiver's to know.
func CheckEndpoint(e netip.AddrPort) error {
	a := e.Addr()
	var why string
	switch {
	case !a.IsValid():
		why = "it has no address"
	case e.Port() == 0:
		why = "it has no port"
	case a.Zone() != "":
		why = "a zone means nothing to others"
	case a.Is4In6():
		why = "an IPv4 address must be given as such"
	case a.IsLoopback() || a.IsUnspecified() || a.IsMulticast() || thisNetwork.Contains(a) || a == broadcast:
		why = "no datagram to that address can reach one node elsewhere"
	case identity.Prefix.Contains(a):
		why = "an address of the overlay cannot carry the overlay"
	default:
		return nil
	}
	return fmt.Errorf("bad endpoint %v: %s", e, why)
}

var (
	thisNetwork = netip.MustParsePrefix("0.0.0.0/8")
	broadcast   = netip.MustParseAddr("255.255.255.255")

	errSignature = errors.New("bad contact record: its signature is not that of its key")
)
