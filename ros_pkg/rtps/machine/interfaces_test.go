package machine

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// TestStranded: only who may have lost the way to us is told to forget us.
func TestStranded(t *testing.T) {
	prefixes := func(s string) (out []netip.Prefix) {
		for _, f := range strings.Fields(s) {
			out = append(out, netip.MustParsePrefix(f))
		}
		return out
	}
	const cyclone, fast = true, false
	for name, test := range map[string]struct {
		cyclone          bool
		kept, lost, peer string
		want             bool
	}{
		"hnet0 goes, neighbour on the LAN":              {fast, "10.0.0.1/24", "fc94::1/16 198.19.1.1/15", "10.0.0.2", false},
		"the same, Cyclone":                             {cyclone, "10.0.0.1/24", "fc94::1/16 198.19.1.1/15", "10.0.0.2", false},
		"hnet0 goes, neighbour on LAN and overlay":      {fast, "10.0.0.1/24", "198.19.1.1/15", "10.0.0.2 198.19.1.2", false},
		"hnet0 goes, on this host":                      {fast, "10.0.0.1/24", "fc94::1/16 198.19.1.1/15", "10.0.0.1 198.19.1.1", false},
		"hnet0 goes, Cyclone may have taken it":         {cyclone, "10.0.0.1/24", "198.19.1.1/15", "10.0.0.2 198.19.1.2", true},
		"hnet0 goes, peer in the overlay alone":         {fast, "10.0.0.1/24", "fc94::1/16", "fc94::2", true},
		"another lease of DHCP":                         {fast, "", "10.0.0.1/24", "10.0.0.2", true},
		"another lease of DHCP beside hnet0":            {fast, "fc94::1/16", "10.0.0.1/24", "10.0.0.2", true},
		"another lease of DHCP beside hnet0, this host": {cyclone, "198.19.1.1/15", "10.0.0.1/24", "10.0.0.1", true},
		"beyond a router, one of two":                   {cyclone, "10.0.0.1/24", "10.0.1.1/24", "192.168.0.1", true},
		"beyond a router, the other family":             {cyclone, "10.0.0.1/24", "2001:db8::1/64", "192.168.0.1", false},
	} {
		p := &ParticipantInfo{Vendor: wire.VendorFastDDS}
		if test.cyclone {
			p.Vendor = wire.VendorCyclone
		}
		for _, f := range strings.Fields(test.peer) {
			p.Unicast = append(p.Unicast, netip.AddrPortFrom(netip.MustParseAddr(f), 7411))
		}
		if got := stranded(p, prefixes(test.kept), prefixes(test.lost)); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
		p.Vendor = wire.VendorUnknown
		if stranded(p, prefixes(test.kept), prefixes(test.lost)) {
			t.Errorf("%s: whoever follows our address is troubled", name)
		}
	}
}
