package netwatch

import (
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestGateways(t *testing.T) {
	inSandbox(t, func(t *testing.T) {
		if got, err := Gateways("hnet0"); err != nil || len(got) != 0 {
			t.Errorf("without routes: %+v, %v", got, err)
		}
		ip(t, "link add hnet0 type veth peer name h1")
		for _, device := range []string{"v0", "v1", "hnet0", "h1"} {
			ip(t, "link set "+device+" up")
		}
		ip(t, "address add 10.0.0.1/24 dev v0")
		ip(t, "address add 10.0.0.2/24 dev v0")
		ip(t, "address add 10.1.0.1/24 dev v1")
		ip(t, "address add 10.2.0.1/24 dev hnet0")
		ip(t, "-6 address add 2001:db8::1/64 dev v0 nodad")
		ip(t, "-6 address add 2001:db8:1::1/64 dev v1 nodad")
		v0, v1 := index(t, "v0"), index(t, "v1")
		zone := "%" + strconv.Itoa(v0)
		addr := netip.MustParseAddr
		compare := cmpopts.EquateComparable(netip.Addr{})

		ip(t, "route add default via 10.1.0.254 dev v1 metric 200")
		ip(t, "route add default via 10.0.0.254 dev v0 src 10.0.0.2 metric 100")
		ip(t, "route add default via 10.2.0.254 dev hnet0 metric 50")
		ip(t, "route add default dev v1 metric 300")
		ip(t, "route add 10.8.0.0/16 via 10.0.0.253")
		ip(t, "route add default via 10.0.0.252 table 100")
		ip(t, "route add unreachable default metric 9999")
		ip(t, "-6 route add default via fe80::9 dev v0 metric 2000")
		ip(t, "-6 route add default via 2001:db8:1::9 dev v1 metric 1000")
		want := []Gateway{
			{addr("10.0.0.254"), v0, addr("10.0.0.2"), 100},
			{addr("10.1.0.254"), v1, addr("10.1.0.1"), 200},
			{addr("2001:db8:1::9"), v1, addr("2001:db8:1::1"), 1000},
			{addr("fe80::9" + zone), v0, addr("2001:db8::1"), 2000},
		}
		settled(t, want[2:])
		got, err := Gateways("hnet0")
		if diff := cmp.Diff(want, got, compare); diff != "" || err != nil {
			t.Errorf("%v\n%s", err, diff)
		}
		if got, err := Gateways(""); err != nil || len(got) != 5 || got[0].Address != addr("10.2.0.254") {
			t.Errorf("without an excluded device: %+v, %v", got, err)
		}

		ip(t, "link set v1 down")
		got, err = Gateways("hnet0")
		for _, g := range got {
			if g.Interface == v1 {
				t.Errorf("by a device that is down: %+v", g)
			}
		}
		must(t, err)
		ip(t, "link set v1 up")
		ip(t, "route flush exact 0.0.0.0/0")
		ip(t, "route add default nexthop via 10.0.0.254 dev v0 nexthop via 10.0.0.253 dev v0")
		got, err = Gateways("hnet0")
		must(t, err)
		for i, want := range []string{"10.0.0.254", "10.0.0.253"} {
			if len(got) <= i || got[i].Address != addr(want) || got[i].Interface != v0 {
				t.Errorf("of two next hops: %+v", got)
			}
		}
		for i := range 2 * maxGateways {
			ip(t, "route add default via 10.0.0.254 dev v0 metric "+strconv.Itoa(500+i))
			ip(t, "route add default via 10.0.0."+strconv.Itoa(100+i)+" dev v0 metric "+strconv.Itoa(600+i))
		}
		if got, err = Gateways("hnet0"); err != nil || len(got) != maxGateways {
			t.Errorf("of many: %d, %v", len(got), err)
		}
	})
}

// settled waits until the kernel gives gateways their sources: a new IPv6 address counts a moment later.
func settled(t *testing.T, want []Gateway) {
	t.Helper()
	for until := time.Now().Add(5 * time.Second); time.Now().Before(until); time.Sleep(time.Millisecond) {
		missing := false
		for _, g := range want {
			missing = missing || g.source() != g.Source
		}
		if !missing {
			return
		}
	}
}

func BenchmarkGateways(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Gateways("hnet0"); err != nil {
			b.Fatal(err)
		}
	}
}
