package portmap

import (
	"slices"
	"testing"

	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

func TestDefaultGateways(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	h, near, far := l.Host("h"), l.Host("near"), l.Host("far")
	l.LAN(lab.Link{}, h, near)
	second := l.LAN(lab.Link{}, h, far)
	ip := func(args ...string) { t.Helper(); h.Run(t, "ip", args...) }
	gateways := func(excluded string) (all []Gateway) {
		t.Helper()
		if err := h.Do(func() (err error) { all, err = DefaultGateways(excluded); return err }); err != nil {
			t.Fatal(err)
		}
		return all
	}
	expect := func(what, excluded string, want ...Gateway) {
		t.Helper()
		if got := gateways(excluded); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	at := func(addr, local, device string) Gateway { return Gateway{address(addr), address(local), device} }
	expect("no routes", "")

	ip("route", "add", "default", "via", "10.0.2.2", "dev", "lan1", "metric", "200")
	ip("route", "add", "default", "via", "10.0.1.2", "dev", "lan0", "metric", "100")
	ip("route", "add", "192.168.0.0/16", "via", "10.0.1.9")
	first, other := at("10.0.1.2", "10.0.1.1", "lan0"), at("10.0.2.2", "10.0.2.1", "lan1")
	expect("two", "", first, other)
	expect("one excluded", "lan0", other)

	ip("route", "replace", "default", "via", "10.0.1.2", "dev", "lan0", "metric", "100", "src", "10.0.2.1")
	expect("a source of its own", "lan1", at("10.0.1.2", "10.0.2.1", "lan0"))
	ip("route", "del", "default", "metric", "100")
	ip("route", "del", "default", "metric", "200")
	ip("route", "add", "default", "nexthop", "via", "10.0.1.2", "nexthop", "via", "10.0.2.2")
	expect("several next hops", "", first, other)
	second.Unplug(h)
	lab.Eventually(t, lookGap, "no carrier", func() error {
		if got := gateways(""); !slices.Equal(got, []Gateway{first}) {
			return errSilent
		}
		return nil
	})
	second.Plug(h)
	ip("route", "del", "default")
	ip("route", "add", "default", "dev", "lan0")
	ip("route", "add", "unreachable", "default", "metric", "7")
	expect("on the link, and nowhere", "")

	// A router of IPv6 comes with every address of the Internet, and no other.
	ip("route", "add", "default", "via", "fe80::9", "dev", "lan0")
	expect("no address", "")
	for _, a := range []string{"1", "2", "3", "4", "5"} {
		ip("address", "add", "2001:db8::"+a+"/64", "dev", "lan0")
	}
	ip("address", "add", "2001:db8::9/64", "dev", "lan0", "preferred_lft", "0")
	ip("address", "add", "2001:db8:2::1/64", "dev", "lan1")
	got := gateways("")
	if len(got) != maxLocal {
		t.Errorf("%v", got)
	}
	for _, g := range got {
		if g.Addr != address("fe80::9%lan0") || !globalUnicast.Contains(g.Local) || g.Local == address("2001:db8::9") || g.Interface != "lan0" {
			t.Errorf("%v", g)
		}
	}
}
