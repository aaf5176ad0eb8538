package internet

import (
	"net/netip"

	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// Host is a machine with one or more uplinks.
type Host struct {
	*lab.Host
	net     *Net
	uplinks []*uplink
}

// uplink is a way to the Internet. The first in Host.uplinks is used while it has a carrier, then the next.
type uplink struct {
	site   *Site // nil for a Base
	lan    *lab.LAN
	dev    string
	metric int
}

// metricStep is the difference of the metrics of two uplinks' default routes. It is more than the kernel's default for IPv6, which is the
// metric of the first.
const metricStep = 2000

func (n *Net) newHost(name string) *Host {
	n.t.Helper()
	h := &Host{Host: n.lab.Host(name), net: n}
	// As network managers have it: a link without carrier is no way out.
	err := h.Do(func() error {
		return setSysctl("net/ipv4/conf/all/ignore_routes_with_linkdown=1", "net/ipv4/conf/default/ignore_routes_with_linkdown=1",
			"net/ipv6/conf/all/ignore_routes_with_linkdown=1", "net/ipv6/conf/default/ignore_routes_with_linkdown=1")
	})
	if err != nil {
		n.t.Fatalf("internet: %s: %v", name, err)
	}
	n.hosts = append(n.hosts, h)
	n.writeNames(h)
	return h
}

// Host adds a host to the site.
func (s *Site) Host(name string) *Host {
	s.net.t.Helper()
	h := s.net.newHost(name)
	h.Connect(s)
	return h
}

// Connect gives the host another uplink, to a site (LTE beside Wi-Fi). It is used while those before it have no carrier.
func (h *Host) Connect(s *Site) {
	h.net.t.Helper()
	u := &uplink{site: s, lan: s.segment(), metric: len(h.uplinks) * metricStep}
	u.dev = u.lan.Attach(h.Host)
	h.uplinks = append(h.uplinks, u)
	h.defaultRoutes(u)
}

// Move takes the host from one site to another, as a robot does that leaves one Wi-Fi for the next: the device stays, and with it what is
// bound to it by name; addresses, gateway and connections do not.
func (h *Host) Move(from, to *Site) {
	h.net.t.Helper()
	u := h.uplink(from)
	u.lan.Detach(h.Host)
	u.site, u.lan = to, to.segment()
	u.lan.AttachAs(h.Host, u.dev)
	h.defaultRoutes(u)
}

// Unplug takes the carrier from the host's uplink to a site; Plug gives it back.
func (h *Host) Unplug(s *Site) { h.net.t.Helper(); h.uplink(s).lan.Unplug(h.Host) }

// Plug ends what Unplug did and waits until the addresses are usable.
func (h *Host) Plug(s *Site) { h.net.t.Helper(); h.uplink(s).lan.Plug(h.Host) }

// Cut stops all frames of the host's uplink to a site without a sign; Restore ends that.
func (h *Host) Cut(s *Site) { h.net.t.Helper(); h.uplink(s).lan.Cut(h.Host) }

// Restore ends what Cut did.
func (h *Host) Restore(s *Site) { h.net.t.Helper(); h.uplink(s).lan.Restore(h.Host) }

// Device returns the name of the host's device toward a site; with nil, of its first.
func (h *Host) Device(s *Site) string { h.net.t.Helper(); return h.uplink(s).dev }

func (h *Host) uplink(s *Site) *uplink {
	h.net.t.Helper()
	for _, u := range h.uplinks {
		if u.site == s || s == nil {
			return u
		}
	}
	h.net.t.Fatalf("internet: %s is not connected to %s", h.Name(), s.name)
	return nil
}

// Addrs returns the host's addresses that are not link-local, of all uplinks, IPv4 first.
func (h *Host) Addrs() []netip.Addr {
	h.net.t.Helper()
	var v4, v6 []netip.Addr
	for _, u := range h.uplinks {
		link, err := h.Netlink().LinkByName(u.dev)
		if err != nil {
			h.net.t.Fatalf("internet: %s of %s: %v", u.dev, h.Name(), err)
		}
		list, err := h.Netlink().AddrList(link, 0)
		if err != nil {
			h.net.t.Fatalf("internet: addresses of %s: %v", h.Name(), err)
		}
		for _, x := range list {
			a, _ := netip.AddrFromSlice(x.IP)
			switch a = a.Unmap(); {
			case a.Is4():
				v4 = append(v4, a)
			case !a.IsLinkLocalUnicast():
				v6 = append(v6, a)
			}
		}
	}
	return append(v4, v6...)
}

// defaultRoutes sends what goes nowhere else by an uplink. Its gateway is the first member of the network, whose prefix the host's address has.
func (h *Host) defaultRoutes(u *uplink) {
	h.net.t.Helper()
	link, err := h.Netlink().LinkByName(u.dev)
	if err != nil {
		h.net.t.Fatalf("internet: %s of %s: %v", u.dev, h.Name(), err)
	}
	list, err := h.Netlink().AddrList(link, 0)
	if err != nil {
		h.net.t.Fatalf("internet: addresses of %s: %v", h.Name(), err)
	}
	for _, x := range list {
		a, _ := netip.AddrFromSlice(x.IP)
		bits, _ := x.Mask.Size()
		switch p := netip.PrefixFrom(a.Unmap(), bits); {
		case p.Addr().Is4():
			h.RouteBy(default4, first(p), u.dev, u.metric)
		case !p.Addr().IsLinkLocalUnicast():
			h.RouteBy(default6, first(p), u.dev, u.metric)
		}
	}
}
