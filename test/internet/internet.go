// Package internet builds a small Internet in a lab: a core router, public hosts for Base servers, and sites behind every kind of NAT,
// firewall and proxy that robots are found behind.
//
//	l := lab.New(t)
//	net := internet.New(t, l)
//	base := net.Base("base1")
//	home, office := net.Site("home", internet.PortRestricted), net.Site("office", internet.Symmetric)
//	a, b := home.Host("robot1"), office.Host("robot2")
//
// # What it looks like
//
//	robot - NAT - provider - core - provider - NAT - robot
//	                          |
//	                        Base
//
// So a packet from robot to robot passes five routers, one to a Base three, and one with a TTL of 2, 3 or 4 dies between the NATs. With a
// carrier's NAT (DoubleNAT) it is the provider's router that translates a second time.
//
// # Addresses
//
// Sites and Bases have addresses that software takes for public: 25.0.0.0/8 and 2001:db8::/32. (The IPv4 blocks for documentation and
// benchmarks are not: miniupnpd maps no port on them. Nothing leaves the namespaces.) Number n of both together, from 1, has 25.x.y.0/24 and
// 2001:db8:n::/48 with n = 256x + y; behind a NAT is 192.168.n.0/24, behind a carrier's 100.64.n.0/24. Links to the core have addresses of
// 198.18.0.0/15. Sites have IPv4 alone, so that the NAT is what is tested; Public has both families, IPv6Only IPv6 alone. Bases have both.
//
// Names of Bases are in /etc/hosts of every host; there is no DNS.
package internet

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// Net is an Internet. Its methods belong to one goroutine, and fail the test when something cannot be had.
type Net struct {
	t    lab.TB
	lab  *lab.Lab
	core *lab.Router

	number int
	hosts  []*Host
	names  map[string][]netip.Addr
}

// maxPlaces bounds the sites and Bases of one Net: LANs inside are 192.168.n.0/24.
const maxPlaces = 250

// New adds an Internet to a lab.
func New(t lab.TB, l *lab.Lab) *Net {
	t.Helper()
	return &Net{t: t, lab: l, core: l.Router("core"), names: map[string][]netip.Addr{}}
}

// Core returns the router that all packets between sites and Bases pass.
func (n *Net) Core() *lab.Router { return n.core }

// Base adds a host with public addresses, IPv4 and IPv6 unless one family is named, right behind the core router. Other hosts find it by
// its name.
func (n *Net) Base(name string, families ...Family) *Host {
	n.t.Helper()
	p := n.place(families...)
	h := n.newHost(name)
	segment := n.lab.LAN(lab.Link{}, lab.Prefixes{IPv4: p.pub4, IPv6: p.access6}, n.core)
	h.uplinks = []*uplink{{lan: segment, dev: segment.Attach(h.Host)}}
	n.names[name] = h.Addrs()
	for _, other := range n.hosts {
		n.writeNames(other)
	}
	return h
}

// Family is an IP version; no family at all in a list means both.
type Family int

const (
	IPv4 Family = 4
	IPv6 Family = 6
)

func has(families []Family, f Family) bool {
	for _, x := range families {
		if x == f {
			return true
		}
	}
	return len(families) == 0
}

// place is the addresses of one site or Base. Those of a family that it has not got are invalid.
type place struct {
	number           int
	pub4             netip.Prefix // whole; between provider and site its first half
	access4, routed4 netip.Prefix
	back4, back6     netip.Prefix // between core and provider
	site6            netip.Prefix // whole
	access6, routed6 netip.Prefix
	inside4          netip.Prefix // behind a NAT
	carrier4         netip.Prefix // between a home NAT and a carrier's
}

func (n *Net) place(families ...Family) (p place) {
	n.t.Helper()
	if n.number == maxPlaces {
		n.t.Fatalf("internet: more than %d sites and Bases", maxPlaces)
	}
	n.number++
	p.number = n.number
	x, y := byte(n.number>>8), byte(n.number)
	p.inside4 = prefix4(192, 168, y, 0, 24)
	if has(families, IPv4) {
		p.pub4, p.access4, p.routed4 = prefix4(25, x, y, 0, 24), prefix4(25, x, y, 0, 25), prefix4(25, x, y, 128, 25)
		p.back4 = prefix4(198, 18, x<<2|y>>6, y<<2, 30)
		p.carrier4 = prefix4(100, 64|x>>2, y, 0, 24)
	}
	if has(families, IPv6) {
		p.site6, p.back6, p.access6, p.routed6 = prefix6(x, y, 0, 48), prefix6(x, y, 0, 64), prefix6(x, y, 1, 64), prefix6(x, y, 2, 64)
	}
	return p
}

func prefix4(a, b, c, d byte, bits int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{a, b, c, d}), bits)
}

func prefix6(x, y, subnet byte, bits int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0x20, 1: 0x01, 2: 0x0d, 3: 0xb8, 4: x, 5: y, 7: subnet}), bits)
}

var (
	default4 = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	default6 = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
)

// first and second return the address of the first and second member of a LAN.
func first(p netip.Prefix) netip.Addr  { return p.Masked().Addr().Next() }
func second(p netip.Prefix) netip.Addr { return first(p).Next() }

// provider adds the router between the core and a site's access network, on which it is the first member.
func (n *Net) provider(name string, p place) (*lab.Router, *lab.LAN) {
	n.t.Helper()
	r := n.lab.Router(name)
	n.lab.LAN(lab.Link{}, lab.Prefixes{IPv4: p.back4, IPv6: p.back6}, n.core, r)
	for _, x := range []struct{ back, site, all netip.Prefix }{{p.back4, p.pub4, default4}, {p.back6, p.site6, default6}} {
		if x.back.IsValid() {
			n.core.Route(x.site, second(x.back))
			r.Route(x.all, first(x.back))
		}
	}
	return r, n.lab.LAN(lab.Link{}, lab.Prefixes{IPv4: p.access4, IPv6: p.access6}, r)
}

// lookup knows the Bases' names.
func (n *Net) lookup(name string) []netip.Addr { return n.names[name] }

// writeNames puts the Bases' names into a host's /etc/hosts. Lines that others wrote stay.
func (n *Net) writeNames(h *Host) {
	n.t.Helper()
	const mark = "\t# internet"
	path := h.Path("/etc/hosts")
	old, err := os.ReadFile(path)
	if err != nil {
		n.t.Fatalf("internet: %v", err)
	}
	var b strings.Builder
	for line := range strings.Lines(string(old)) {
		if !strings.HasSuffix(strings.TrimSuffix(line, "\n"), mark) {
			b.WriteString(line)
		}
	}
	for name, addrs := range n.names {
		for _, a := range addrs {
			fmt.Fprintf(&b, "%s\t%s%s\n", a, name, mark)
		}
	}
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		n.t.Fatalf("internet: %v", err)
	}
}

// setSysctl writes settings like "net/ipv4/ip_forward=1" of the network namespace that the calling thread is in.
func setSysctl(settings ...string) error {
	for _, s := range settings {
		key, value, _ := strings.Cut(s, "=")
		if err := os.WriteFile(filepath.Join("/proc/sys", key), []byte(value), 0); err != nil {
			return fmt.Errorf("cannot set sysctl %s: %w", s, err)
		}
	}
	return nil
}

func rule(priority, table int) *netlink.Rule {
	r := netlink.NewRule()
	r.Family, r.Priority, r.Table = unix.AF_INET, priority, table
	return r
}

func ipNet(p netip.Prefix) *net.IPNet {
	p = p.Masked()
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
