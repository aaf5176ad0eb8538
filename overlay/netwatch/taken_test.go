package netwatch

import (
	"net/netip"
	"slices"
	"testing"
)

func TestTakenIPv4(t *testing.T) {
	inSandbox(t, func(t *testing.T) {
		ip(t, "link set v0 up")
		ip(t, "link set v1 up")
		ip(t, "address add 10.0.0.1/24 dev v0")
		ip(t, "address add 10.5.5.5 peer 10.6.6.6 dev v0")
		ip(t, "address add 198.19.0.1/16 dev v1")
		ip(t, "route add default via 10.0.0.9")
		ip(t, "route add 10.8.0.0/16 via 10.0.0.9")
		ip(t, "route add unreachable 10.9.0.0/16")
		ip(t, "route add 10.10.0.0/16 dev v0 table 52")
		ip(t, "route add 10.11.0.0/16 dev v1")
		ip(t, "route add 10.12.0.0/16 nexthop via 10.0.0.7 nexthop via 10.0.0.8")
		got, err := TakenIPv4("v1")
		must(t, err)
		for _, want := range []Taken{
			{netip.MustParsePrefix("127.0.0.0/8"), "lo"}, {netip.MustParsePrefix("10.0.0.0/24"), "v0"}, {netip.MustParsePrefix("10.6.6.6/32"), "v0"},
			{netip.MustParsePrefix("0.0.0.0/0"), "v0"}, {netip.MustParsePrefix("10.0.0.9/32"), "v0"}, {netip.MustParsePrefix("10.8.0.0/16"), "v0"},
			{netip.MustParsePrefix("10.9.0.0/16"), ""}, {netip.MustParsePrefix("10.10.0.0/16"), "v0"}, {netip.MustParsePrefix("10.12.0.0/16"), "v0"},
		} {
			if !slices.Contains(got, want) {
				t.Errorf("%v is missing in %v", want, got)
			}
		}
		for _, x := range got {
			if x.By == "v1" || x.Prefix.Contains(netip.MustParseAddr("198.19.0.1")) && x.Prefix.Bits() > 0 {
				t.Errorf("%v is the excluded interface's", x)
			}
		}
	})
}
