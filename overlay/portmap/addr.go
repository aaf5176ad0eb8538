package portmap

import (
	"net/netip"

	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
)

// notInternet are the networks, besides those that netip knows, whose addresses nobody on the Internet can send to.
var notInternet = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"), // between a provider's NAT and its customers, RFC 6598
	netip.MustParsePrefix("192.0.0.0/24"),  // DS-Lite, RFC 6333
	identity.Prefix,
}

// double tells whether an outer address lies behind another NAT.
func double(external netip.Addr) bool {
	external = external.Unmap()
	if !external.IsGlobalUnicast() || external.IsPrivate() {
		return true
	}
	for _, p := range notInternet {
		if p.Contains(external) {
			return true
		}
	}
	return false
}
