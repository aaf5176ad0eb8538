package identity

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
)

// Prefix holds the address of every node, and nothing of the underlay.
var Prefix = netip.MustParsePrefix("fc94::/16")

const addressLabel = "hnet address v1"

// Address is fc94 followed by the first 14 bytes of SHA-256("hnet address v1" || k) (docs/protocol.md, Address).
func (k PublicKey) Address() netip.Addr {
	sum := sha256.Sum256(append([]byte(addressLabel), k[:]...))
	a := Prefix.Addr().As16()
	copy(a[Prefix.Bits()/8:], sum[:])
	return netip.AddrFrom16(a)
}

// CheckAddress reports why a cannot be the address of a node. It accepts exactly the addresses of Prefix, without a zone.
func CheckAddress(a netip.Addr) error {
	switch {
	case !a.IsValid():
		return fmt.Errorf("no address given: a node's address lies in %v", Prefix)
	case a.Zone() != "":
		return fmt.Errorf("%v is not the address of a node: leave out the zone", a)
	case !Prefix.Contains(a):
		return fmt.Errorf("%v is not the address of a node: those lie in %v", a, Prefix)
	}
	return nil
}

// ParseAddress reads the address of a node as users write it; see CheckAddress.
func ParseAddress(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%q is not an address: a node's address looks like fc94:1:2:3:4:5:6:7", s)
	}
	return a, CheckAddress(a)
}
