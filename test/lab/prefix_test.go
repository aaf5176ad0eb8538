package lab

import (
	"net/netip"
	"strings"
	"testing"
)

func TestPrefixes(t *testing.T) {
	l := New(t)
	r, a, b := l.Router("r"), l.Host("a"), l.Host("b")
	lan := l.LAN(Link{}, Prefixes{IPv4: netip.MustParsePrefix("25.0.1.128/30"), IPv6: netip.MustParsePrefix("2001:db8:1::/64")}, r, a)
	if got := r.Addr4("lan0").String() + " " + a.Addr4("lan0").String() + " " + a.Addr6("lan0").String(); got != "25.0.1.129 25.0.1.130 2001:db8:1::2" {
		t.Errorf("addresses are %s", got)
	}
	a.Run(t, "ping", "-n", "-c1", "-W5", "2001:db8:1::1")
	if _, err := lan.attachAs(b, ""); err != nil {
		t.Errorf("a third address of a /30: %v", err) // the broadcast address, which the kernel takes
	}
	if _, err := lan.attachAs(l.Host("c"), ""); err == nil || !strings.Contains(err.Error(), "no address number 4") {
		t.Errorf("a fourth address of a /30: %v", err)
	}
	only := l.LAN(Link{}, Prefixes{IPv4: netip.MustParsePrefix("25.0.2.0/24")}, l.Host("d"), l.Host("e"))
	if on, err := only.ports[0].host.ipv6Off("lan0"); !on || err != nil {
		t.Errorf("IPv6 off: %v, %v", on, err)
	}
	for _, p := range []Prefixes{{}, {IPv4: netip.MustParsePrefix("2001:db8::/64")}, {IPv6: netip.MustParsePrefix("25.0.2.0/24")}} {
		if _, err := l.newLAN(Link{}, parts{prefixes: &p}); err == nil {
			t.Errorf("%v was accepted", p)
		}
	}
}

// A host that comes to another LAN with the device it had, and two default routes of which the better one counts.
func TestAttachAsAndRouteBy(t *testing.T) {
	l := New(t)
	r1, r2, h := l.Router("r1"), l.Router("r2"), l.Host("h")
	one, two := l.LAN(Link{}, r1, h), l.LAN(Link{}, r2)
	second := two.Attach(h)
	all := netip.MustParsePrefix("0.0.0.0/0")
	h.RouteBy(all, r2.Addr4("lan0"), second, 2000)
	way := func() string {
		return strings.Fields(h.Run(t, "ip", "route", "get", "25.0.0.1"))[2]
	}
	if got := way(); got != r1.Addr4("lan0").String() {
		t.Errorf("the way is by %s", got)
	}
	one.Detach(h)
	if got := way(); got != r2.Addr4("lan0").String() {
		t.Errorf("without the first LAN, the way is by %s", got)
	}
	three := l.LAN(Link{}, l.Router("r3"))
	if dev := three.AttachAs(h, "lan0"); dev != "lan0" || h.Addr4("lan0").String() != "10.0.3.2" {
		t.Errorf("%s has %v", dev, h.Addr4("lan0"))
	}
	if _, err := one.attachAs(h, "lan0"); err == nil {
		t.Error("a device name was given twice")
	}
}
