package netwatch

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestUplinks(t *testing.T) {
	inSandbox(t, func(t *testing.T) {
		if got, err := Uplinks("hnet0"); err != nil || len(got) != 0 {
			t.Errorf("without routes: %+v, %v", got, err)
		}
		ip(t, "link add hnet0 type veth peer name h1")
		ip(t, "tuntap add dev tunnel mode tun")
		for _, device := range []string{"v0", "v1", "hnet0", "h1", "tunnel"} {
			ip(t, "link set "+device+" up")
		}
		ip(t, "address add 10.0.0.1/24 dev v0")
		ip(t, "address add 10.1.0.1/24 dev v1")
		ip(t, "address add 10.2.0.1/24 dev hnet0")
		ip(t, "address add 10.3.0.1/24 dev tunnel")
		ip(t, "-6 address add 2001:db8:1::1/64 dev v1 nodad")
		ip(t, "route add default dev v1 metric 200")
		ip(t, "route add default via 10.0.0.254 dev v0 metric 100")
		ip(t, "route add default via 10.2.0.254 dev hnet0 metric 50")
		ip(t, "route add default dev tunnel metric 20")
		ip(t, "route add unreachable default metric 9999")
		ip(t, "route add 10.8.0.0/16 via 10.0.0.253")
		ip(t, "-6 route add default via 2001:db8:1::9 dev v1 metric 1000")
		v0, v1 := index(t, "v0"), index(t, "v1")
		addr := netip.MustParseAddr
		want := []Uplink{{v0, addr("10.0.0.1"), netip.Addr{}}, {v1, addr("10.1.0.1"), addr("2001:db8:1::1")}}
		check := func(want []Uplink) {
			t.Helper()
			var diff string
			for until := time.Now().Add(5 * time.Second); time.Now().Before(until); time.Sleep(time.Millisecond) {
				got, err := Uplinks("hnet0")
				must(t, err)
				if diff = cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff == "" {
					return
				}
			}
			t.Error(diff)
		}
		check(want)
		ip(t, "route del default dev v0")
		check(want[1:])
	})
}
