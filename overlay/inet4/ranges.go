package inet4

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"
)

// DefaultRanges are tried in this order where the configuration names none; docs/adr/0030-ipv4-on-hnet0.md has the reasons.
var DefaultRanges = []netip.Prefix{
	netip.MustParsePrefix("198.19.0.0/16"),
	netip.MustParsePrefix("198.18.0.0/16"),
	netip.MustParsePrefix("250.94.0.0/16"),
}

// Bounds of a configured range, in bits: 14 hosts at the least, so that a clash finds a way out.
const (
	MinBits = 8
	MaxBits = 28
)

// private are the networks that a configured range may lie in: no address of the Internet is ever taken from it.
var private = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"),
	netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("240.0.0.0/4"),
}

// CheckRange tells what is wrong with a configured range, nil if nothing.
func CheckRange(p netip.Prefix) error {
	switch {
	case !p.IsValid() || !p.Addr().Is4():
		return fmt.Errorf("expected a range of IPv4 addresses such as 10.94.0.0/16")
	case p != p.Masked():
		return fmt.Errorf("expected a range without host bits: %s", p.Masked())
	case p.Bits() < MinBits || p.Bits() > MaxBits:
		return fmt.Errorf("expected a range of /%d to /%d, found %s", MinBits, MaxBits, p)
	}
	for _, inside := range private {
		if inside.Contains(p.Addr()) && p.Bits() >= inside.Bits() && !p.Contains(netip.AddrFrom4([4]byte{255, 255, 255, 255})) {
			return nil
		}
	}
	return fmt.Errorf("expected a range of private addresses, found %s, which has others' on the Internet", p)
}

// Candidate returns the i-th address that a node may take in a range: the range's first address plus
// the first four bytes of SHA-256("hnet ipv4 v1" ‖ overlay address ‖ i as 4 bytes) modulo its size. ok is false if that is no host's.
func Candidate(overlay netip.Addr, r netip.Prefix, i int) (a netip.Addr, ok bool) {
	text := []byte("hnet ipv4 v1")
	b := overlay.As16()
	text = append(text, b[:]...)
	text = binary.BigEndian.AppendUint32(text, uint32(i))
	sum := sha256.Sum256(text)
	first := r.Masked().Addr().As4()
	host := binary.BigEndian.Uint32(sum[:]) & (1<<(32-r.Bits()) - 1)
	a = netip.AddrFrom4(u32(binary.BigEndian.Uint32(first[:]) | host))
	return a, isHost(a, r)
}

// isHost tells a host's address in r from the first and the last one, and from those that end in 0 and 255, which old software takes for those.
func isHost(a netip.Addr, r netip.Prefix) bool {
	if !a.Is4() || !r.Contains(a) {
		return false
	}
	b := a.As4()
	mask := uint32(1)<<(32-r.Bits()) - 1
	host := binary.BigEndian.Uint32(b[:]) & mask
	return host != 0 && host != mask && b[3] != 0 && b[3] != 255
}

func u32(v uint32) (b [4]byte) {
	binary.BigEndian.PutUint32(b[:], v)
	return b
}

// Network is a part of the IPv4 address space that this host uses without the overlay: a network or an address of an interface, a route, a
// gateway, a Base.
type Network struct {
	Prefix netip.Prefix
	What   string // for people, such as "eth0" or "a route to wg0"
}

// leastBits tells a network from a default route, which VPNs write as two halves.
const leastBits = 8

// networks finds what of this host an address or a range clashes with.
type networks []Network

func (n networks) of(a netip.Addr) (Network, bool) {
	return n.overlapping(netip.PrefixFrom(a, a.BitLen()))
}

func (n networks) overlapping(p netip.Prefix) (Network, bool) {
	for _, x := range n {
		if x.Prefix.Bits() >= leastBits && x.Prefix.Overlaps(p) {
			return x, true
		}
	}
	return Network{}, false
}

// Possible reports whether an address can be a node's at all: one in a network that a range may lie in.
func Possible(a netip.Addr) bool {
	for _, p := range private {
		if p.Contains(a) && a != netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
			return true
		}
	}
	return false
}
