package internet

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/hnet-robotics/hnet_bridge/test/internet/nat"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// Kind is what stands between a site's hosts and the Internet.
type Kind string

const (
	Public            Kind = "public"             // nothing: the hosts have public addresses of both families
	FullCone          Kind = "full cone"          // mapping and filtering independent of the other side
	AddressRestricted Kind = "address-restricted" // mapping independent, filtering by address
	PortRestricted    Kind = "port-restricted"    // mapping independent, filtering by address and port
	Symmetric         Kind = "symmetric"          // mapping and filtering by address and port; random ports
	LinuxNAT          Kind = "Linux NAT"          // the kernel's masquerade and nothing else: unasked packets reach the router itself
	LinuxNATFiltered  Kind = "Linux NAT filtered" // the same with an input filter, as OpenWrt has
	LinuxSymmetric    Kind = "Linux symmetric"    // the kernel's masquerade with random ports, with an input filter
	DoubleNAT         Kind = "double NAT"         // LinuxNATFiltered at home, behind a carrier's NAT: port-restricted, other ports, hairpin
	UDPBlocked        Kind = "UDP blocked"        // LinuxNATFiltered that forwards no UDP
	HTTPSOnly         Kind = "HTTPS only"         // LinuxNATFiltered that forwards TCP to port 443 and DNS alone
	ProxyOnly         Kind = "proxy only"         // nothing is forwarded; an HTTP proxy with CONNECT runs on the router
	IPv4Only          Kind = "IPv4 only"          // public IPv4 addresses behind a stateful firewall, no IPv6
	IPv6Only          Kind = "IPv6 only"          // public IPv6 addresses behind a stateful firewall, no IPv4
	UPnP              Kind = "UPnP"               // LinuxSymmetric whose router maps ports by UPnP IGD, NAT-PMP and PCP
)

// Kinds are all of them.
var Kinds = []Kind{Public, FullCone, AddressRestricted, PortRestricted, Symmetric, LinuxNAT, LinuxNATFiltered, LinuxSymmetric, DoubleNAT,
	UDPBlocked, HTTPSOnly, ProxyOnly, IPv4Only, IPv6Only, UPnP}

// Option changes a site from what its kind says.
type Option func(*options)

type options struct {
	isolated bool
	families []Family
	carrier  *Site
	nat      func(*nat.Config)
}

// Isolated gives each host of the site a segment of its own, as client isolation in a Wi-Fi does: two hosts reach each other through the
// NAT if it hairpins, and in no other way.
func Isolated() Option { return func(o *options) { o.isolated = true } }

// Hairpin makes the user-space NAT send packets from inside to one of its external ports back inside.
func Hairpin() Option { return NATConfig(func(c *nat.Config) { c.Hairpin = true }) }

// MappingTimeout sets how long the user-space NAT keeps an idle mapping; it is 2 minutes otherwise.
func MappingTimeout(d time.Duration) Option { return NATConfig(func(c *nat.Config) { c.Timeout = d }) }

// NATConfig changes the user-space NAT, of DoubleNAT the carrier's. Not its addresses.
func NATConfig(change func(*nat.Config)) Option {
	return func(o *options) {
		before := o.nat
		o.nat = func(c *nat.Config) {
			if before != nil {
				before(c)
			}
			change(c)
		}
	}
}

// Families gives a Public site the families named.
func Families(f ...Family) Option { return func(o *options) { o.families = f } }

// BehindCarrierOf puts a DoubleNAT site behind the same carrier's NAT as another.
func BehindCarrierOf(s *Site) Option { return func(o *options) { o.carrier = s } }

// Site is a network of one owner.
type Site struct {
	Kind   Kind
	Router *lab.Router // the site's own; nil for Public
	NAT    *NAT        // the user-space NAT, of DoubleNAT the carrier's; nil if the kernel translates alone
	Proxy  *Proxy      // of ProxyOnly
	Access *lab.LAN    // between the provider's router and the site's, or Public hosts. Degrade it for slow, lossy or narrow access
	UPnP   *lab.Process

	net       *Net
	name      string
	place     place
	options   options
	inside    netip.Prefix // of all segments
	lan       *lab.LAN     // nil until there is a host or if they are isolated
	segments  int
	outer     string // the site router's device
	rules     Ruleset
	carrier   *lab.LAN // between the home NATs and the carrier's
	rebound   int
	userSpace bool // NAT is on Router
}

// Site adds a site.
func (n *Net) Site(name string, kind Kind, opts ...Option) *Site {
	n.t.Helper()
	s := &Site{Kind: kind, net: n, name: name}
	for _, o := range opts {
		o(&s.options)
	}
	families := []Family{IPv4}
	switch kind {
	case Public:
		families = s.options.families
	case IPv6Only:
		families = []Family{IPv6}
	}
	s.place = n.place(families...)
	s.inside = s.place.inside4
	if c := s.options.carrier; c != nil {
		if kind != DoubleNAT || c.carrier == nil {
			n.t.Fatalf("internet: %s: only a DoubleNAT site can be behind the carrier of another", name)
		}
		s.carrier, s.NAT, s.Access = c.carrier, c.NAT, c.Access
	} else {
		var provider *lab.Router
		provider, s.Access = n.provider(name+"-isp", s.place)
		if kind == DoubleNAT {
			s.addCarrier(provider)
		}
		if kind == IPv4Only || kind == IPv6Only {
			s.inside = s.place.routed4
			if kind == IPv6Only {
				s.inside = s.place.routed6
				provider.Route(s.inside, second(s.place.access6))
			} else {
				provider.Route(s.inside, second(s.place.access4))
			}
		}
	}
	if kind != Public {
		s.addRouter()
	}
	return s
}

// addCarrier makes the provider's router a carrier's NAT.
func (s *Site) addCarrier(provider *lab.Router) {
	s.net.t.Helper()
	s.carrier = s.net.lab.LAN(lab.Link{}, lab.Prefixes{IPv4: s.place.carrier4}, provider)
	s.Access = s.carrier
	c := s.natConfig(nat.Config{External: first(s.place.access4), Inside: s.place.carrier4, Filtering: nat.AddressAndPort, Ports: nat.Random, Hairpin: true})
	// Its external address is that on the access network, where nobody else is; the way out is the link to the core.
	s.NAT = startNAT(s.net.t, provider, "lan0", c)
	s.addInside(provider, "lan2")
}

func (s *Site) natConfig(c nat.Config) nat.Config {
	c.Seed = uint64(s.place.number)
	if s.options.nat != nil {
		s.options.nat(&c)
	}
	return c
}

func (s *Site) addInside(r *lab.Router, dev string) {
	s.net.t.Helper()
	link, err := r.Netlink().LinkByName(dev)
	var addrs []netlink.Addr
	if err == nil {
		addrs, err = r.Netlink().AddrList(link, netlink.FAMILY_V4)
	}
	if err == nil && len(addrs) == 0 {
		err = fmt.Errorf("it has no IPv4 address")
	}
	if err == nil {
		own, _ := netip.AddrFromSlice(addrs[0].IP)
		bits, _ := addrs[0].Mask.Size()
		err = s.NAT.addInside(dev, netip.PrefixFrom(own.Unmap(), bits))
	}
	if err != nil {
		s.net.t.Fatalf("internet: %s of %s: %v", dev, r.Name(), err)
	}
}

// addRouter adds the site's own router.
func (s *Site) addRouter() {
	t := s.net.t
	t.Helper()
	r := s.net.lab.Router(s.name + "-nat")
	s.Router = r
	at := s.Access
	if s.carrier != nil {
		at = s.carrier
	}
	s.outer = at.Attach(r)
	external := netip.Addr{}
	if s.Kind == IPv6Only {
		r.Route(default6, first(s.place.access6))
	} else {
		external = r.Addr4(s.outer)
		gateway := s.place.access4
		if s.carrier != nil {
			gateway = netip.PrefixFrom(external, 24)
		}
		r.Route(default4, first(gateway))
	}
	user := func(mapping, filtering nat.Dependence, ports nat.Allocation) {
		c := nat.Config{External: external, Inside: s.inside, Mapping: mapping, Filtering: filtering, Ports: ports}
		s.NAT, s.userSpace = startNAT(t, r, s.outer, s.natConfig(c)), true
	}
	s.rules = Ruleset{Outer: s.outer, Inside: s.inside.String(), Masquerade: true, DropInput: true}
	switch s.Kind {
	case FullCone:
		user(nat.Independent, nat.Independent, nat.Preserve)
	case AddressRestricted:
		user(nat.Independent, nat.Address, nat.Preserve)
	case PortRestricted:
		user(nat.Independent, nat.AddressAndPort, nat.Preserve)
	case Symmetric:
		user(nat.AddressAndPort, nat.AddressAndPort, nat.Random)
	case LinuxNAT:
		s.rules.DropInput = false
	case LinuxNATFiltered, DoubleNAT:
	case LinuxSymmetric:
		s.rules.Random = true
	case UDPBlocked:
		s.rules.DropUDP = true
	case HTTPSOnly:
		s.rules.HTTPSOnly = true
	case ProxyOnly:
		s.rules.None = true
	case IPv4Only:
		s.rules = Ruleset{Outer: s.outer, DropInput: true, IPv4Drop: true}
	case IPv6Only:
		s.rules = Ruleset{Outer: s.outer, DropInput: true, IPv6Drop: true}
	case UPnP:
		s.rules.Random, s.rules.UPnP = true, true
	default:
		t.Fatalf("internet: %s: no such kind of site: %q", s.name, s.Kind)
	}
	if !s.userSpace {
		r.Rules(t, s.rules.String())
	}
	if !s.options.isolated {
		s.lan = s.newSegment(s.inside)
	}
	switch s.Kind {
	case ProxyOnly:
		s.Proxy = startProxy(t, r, first(s.inside), s.net.lookup)
	case UPnP:
		s.UPnP = startUPnP(t, r, s.outer, "lan1", s.inside, s.place.number)
	}
}

// newSegment adds a network inside, with the router as its first member.
func (s *Site) newSegment(p netip.Prefix) *lab.LAN {
	s.net.t.Helper()
	prefixes := lab.Prefixes{IPv4: p}
	if p.Addr().Is6() {
		prefixes = lab.Prefixes{IPv6: p}
	}
	lan := s.net.lab.LAN(lab.Link{}, prefixes)
	dev := lan.Attach(s.Router)
	if s.userSpace {
		s.addInside(s.Router, dev)
	}
	return lan
}

// segment returns where the next host is plugged in.
func (s *Site) segment() *lab.LAN {
	s.net.t.Helper()
	switch {
	case s.Router == nil:
		return s.Access
	case s.lan != nil:
		return s.lan
	}
	// Isolated: the inside network in pieces of 8 addresses.
	a := s.inside.Masked().Addr().AsSlice()
	if s.segments == 16 || !s.inside.Addr().Is4() {
		s.net.t.Fatalf("internet: %s: isolation is for up to 16 IPv4 hosts", s.name)
	}
	a[3] += byte(s.segments * 8)
	s.segments++
	piece, _ := netip.AddrFromSlice(a)
	return s.newSegment(netip.PrefixFrom(piece, 29))
}

// LAN is the network that the site's hosts share; nil if they are isolated.
func (s *Site) LAN() *lab.LAN {
	if s.Router == nil {
		return s.Access
	}
	return s.lan
}

// Rebind makes the site's NAT forget all mappings, and of DoubleNAT the carrier's too, as a router does that starts anew. What then comes
// from inside gets other external ports than before. Port mappings made by UPnP, NAT-PMP or PCP are gone too.
func (s *Site) Rebind() {
	t := s.net.t
	t.Helper()
	if s.NAT != nil {
		s.NAT.Rebind()
	}
	if s.Router == nil || s.userSpace || !s.rules.Masquerade {
		return
	}
	// Without a range the kernel would preserve ports, that is give the old ones again.
	s.rebound++
	first := 10000 + s.rebound%5*10000
	s.rules.Ports = fmt.Sprintf("%d-%d", first, first+9999)
	if s.UPnP != nil {
		s.UPnP.Stop()
	}
	s.Router.Rules(t, s.rules.String())
	s.FlushConntrack()
	if s.UPnP != nil {
		s.UPnP = startUPnP(t, s.Router, s.outer, "lan1", s.inside, s.place.number)
	}
}

// FlushConntrack makes the kernel of the site's router forget all connections. Unlike after Rebind, ports are preserved as before.
func (s *Site) FlushConntrack() {
	s.net.t.Helper()
	err := s.Router.Do(func() error {
		return netlink.ConntrackTableFlush(netlink.ConntrackTable)
	})
	if err != nil {
		s.net.t.Fatalf("internet: connection tracking of %s: %v", s.Router.Name(), err)
	}
}

// ConntrackTimeout sets how long the kernel of the site's router remembers idle UDP conversations.
func (s *Site) ConntrackTimeout(d time.Duration) {
	s.net.t.Helper()
	seconds := int(max(d, time.Second) / time.Second)
	err := s.Router.Do(func() error {
		return setSysctl(fmt.Sprintf("net/netfilter/nf_conntrack_udp_timeout=%d", seconds),
			fmt.Sprintf("net/netfilter/nf_conntrack_udp_timeout_stream=%d", seconds))
	})
	if err != nil {
		s.net.t.Fatalf("internet: connection tracking of %s: %v", s.Router.Name(), err)
	}
}
