package machine

import (
	"net/netip"
	"slices"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// maxAnnounced is how many addresses of a family are announced. Fast DDS keeps four locators by default.
const maxAnnounced = 4

// SetInterfaces says which interfaces there are. Others are told at once if that changes where we are reached.
func (m *Machine) SetInterfaces(now time.Time, all []Interface) {
	m.given = slices.Clone(all)
	m.links = m.links[:0]
	clear(m.ownAddrs)
	var loopback []Interface
	outside := false
	for _, l := range all {
		for _, p := range l.Addrs {
			m.ownAddrs[p.Addr().WithZone("")] = true
		}
		switch {
		case l.Loopback:
			loopback = append(loopback, l)
		case !m.config.Localhost && len(l.Addrs) > 0:
			m.links = append(m.links, l)
			outside = outside || slices.ContainsFunc(l.Addrs, func(p netip.Prefix) bool { return !p.Addr().IsLinkLocalUnicast() })
		}
	}
	// On loopback the participants of a host without a network find each other.
	if m.config.Localhost || !outside {
		for _, l := range loopback {
			l.Multicast = true // for all that the flag of Linux says
			m.links = append(m.links, l)
		}
	}
	addrs := m.addresses()
	before := slices.Clone(m.userTo)
	m.userTo, m.metaTo = m.userTo[:0:0], m.metaTo[:0:0]
	for _, a := range addrs {
		m.userTo = append(m.userTo, netip.AddrPortFrom(a, m.config.Ports.User))
		m.metaTo = append(m.metaTo, netip.AddrPortFrom(a, m.config.Ports.Meta))
	}
	own := *m.own
	own.Unicast, own.Meta = m.userTo, m.metaTo
	m.own = &own
	for _, w := range m.writers {
		w.endpoint = w.endpoint.of(m.own)
	}
	for _, r := range m.readers {
		r.endpoint = r.endpoint.of(m.own)
	}
	for _, r := range m.participants {
		r.local = m.mine(r.origin)
		r.route(now)
	}
	if !slices.Equal(before, m.userTo) || !m.announce.made {
		m.makeAnnouncement()
	}
	// While there is no address at all nobody can be told: between an old one and a new one there may be none.
	if m.config.Localhost || slices.ContainsFunc(m.userTo, func(a netip.AddrPort) bool { return !a.Addr().IsLoopback() }) {
		var kept, lost []netip.Prefix
		for _, p := range m.known {
			if slices.Contains(addrs, p.Addr()) {
				kept = append(kept, p)
			} else {
				lost = append(lost, p)
			}
		}
		if len(lost) > 0 {
			m.reintroduce(now, kept, lost)
		}
		m.known = m.networks(addrs)
	}
	m.hurry(now)
}

// networks returns announced addresses, each with the length of its network.
func (m *Machine) networks(addrs []netip.Addr) (out []netip.Prefix) {
	for _, l := range m.links {
		for _, p := range l.Addrs {
			if a := p.Addr().WithZone(""); slices.Contains(addrs, a) {
				out = append(out, netip.PrefixFrom(a, p.Bits()))
			}
		}
	}
	return out
}

// reintroduce makes those forget us who would go on sending to addresses that we no longer have: Cyclone DDS and Fast DDS keep
// the locators that they learned first, for good. It costs them what is under way and what is volatile, so nobody else is troubled: hnet0 comes and goes with its daemon.
func (m *Machine) reintroduce(now time.Time, kept, lost []netip.Prefix) {
	for _, r := range m.participants {
		if !stranded(r.info, kept, lost) {
			continue
		}
		m.farewell()
		m.post(r.metaWide)
		m.announcement()
		m.post(r.metaWide)
		m.unmatchProtocol(r)
		m.matchProtocol(now, r)
	}
}

// stranded tells whether a participant may be left without a way to us when we keep some of the addresses that it knows, and lose others. What is on a network of its own
// is the way it takes: Fast DDS sends to all addresses, Cyclone DDS chooses one.
func stranded(p *ParticipantInfo, kept, lost []netip.Prefix) bool {
	if p.Vendor != wire.VendorCyclone && p.Vendor != wire.VendorFastDDS {
		return false
	}
	near := func(ours []netip.Prefix) bool {
		return slices.ContainsFunc(ours, func(o netip.Prefix) bool {
			return slices.ContainsFunc(p.Unicast, func(a netip.AddrPort) bool { return o.Contains(a.Addr().WithZone("")) })
		})
	}
	if near(kept) {
		return p.Vendor == wire.VendorCyclone && near(lost)
	}
	return slices.ContainsFunc(lost, func(o netip.Prefix) bool {
		return slices.ContainsFunc(p.Unicast, func(a netip.AddrPort) bool { return a.Addr().Is4() == o.Addr().Is4() })
	})
}

// of returns the endpoint with newer knowledge of its participant. Others may be reading the old one.
func (e *Endpoint) of(p *ParticipantInfo) *Endpoint {
	c := *e
	c.Participant = p
	return &c
}

// addresses returns what to announce: IPv4 first, without what only this link or host can use unless there is nothing
// else.
func (m *Machine) addresses() []netip.Addr {
	var v4, v6, linkLocal, lo []netip.Addr
	for _, l := range m.links {
		for _, p := range l.Addrs {
			a := p.Addr().WithZone("")
			switch {
			case a.IsLoopback():
				lo = append(lo, a)
			case a.IsLinkLocalUnicast():
				linkLocal = append(linkLocal, a)
			case a.Is4():
				v4 = append(v4, a)
			default:
				v6 = append(v6, a)
			}
		}
	}
	if len(v4)+len(v6) == 0 {
		if len(linkLocal) > 0 && !m.config.Localhost {
			return append(linkLocal[:min(len(linkLocal), maxAnnounced)], lo...)
		}
		return lo[:min(len(lo), maxAnnounced)]
	}
	return slices.Concat(v4[:min(len(v4), maxAnnounced)], v6[:min(len(v6), maxAnnounced)])
}

func locators(list []netip.AddrPort) []wire.Locator {
	var all []wire.Locator
	for _, a := range list {
		all = append(all, wire.LocatorFrom(a))
	}
	return all
}

// Changed reports whether interfaces are others than those that SetInterfaces was given last.
func (m *Machine) Changed(all []Interface) bool {
	return !slices.EqualFunc(m.given, all, func(a, b Interface) bool {
		return a.Index == b.Index && a.Name == b.Name && a.Loopback == b.Loopback && a.Multicast == b.Multicast && slices.Equal(a.Addrs, b.Addrs)
	})
}
