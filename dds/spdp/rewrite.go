package spdp

import (
	"fmt"
	"net/netip"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// Old forms of locators, which no library sends any more and some may still read (9.6.2.2.2).
const (
	pidMetatrafficMulticastIP   wire.PID = 0x000b
	pidDefaultUnicastIP         wire.PID = 0x000c
	pidMetatrafficUnicastPort   wire.PID = 0x000d
	pidDefaultUnicastPort       wire.PID = 0x000e
	pidMulticastIP              wire.PID = 0x0011
	pidMetatrafficUnicastIP     wire.PID = 0x0045
	pidMetatrafficMulticastPort wire.PID = 0x0046
)

// place is a host's addresses on the overlay.
type place struct {
	six  netip.Addr
	four netip.Addr // not valid: none
}

// has says whether an address is one of the place's.
func (h place) has(a netip.Addr) bool { return a.IsValid() && (a == h.six || a == h.four) }

// of is where a socket is reached.
func (h place) of(s Socket) netip.AddrPort {
	if s.IPv4 {
		return netip.AddrPortFrom(h.four, s.Port)
	}
	return netip.AddrPortFrom(h.six, s.Port)
}

// families are those of IP by which a participant is reached.
type families uint8

const (
	viaSix families = 1 << iota
	viaFour
)

// leastPort keeps announcements from being aimed at the ports of system services.
const leastPort = 1024

// find is the port of a locator at the place, and by which family; none if it is elsewhere.
func (h place) find(l wire.Locator) (uint16, families) {
	a, ok := l.AddrPort()
	switch {
	case !ok || a.Port() < leastPort:
		return 0, 0
	case a.Addr() == h.six:
		return a.Port(), viaSix
	case a.Addr() == h.four:
		return a.Port(), viaFour
	}
	return 0, 0
}

// described is what the relay needs to know of an announcement.
type described struct {
	wire.ParticipantData
	meta   netip.AddrPort // where it is reached for discovery, at an overlay address; by IPv6 if it can be
	via    families
	domain uint16
	ok     bool // domain is known
}

// describe reads an announcement of a participant at a place. One that cannot be reached there is an error.
func describe(payload []byte, h place) (described, error) {
	d := described{}
	var err error
	if d.ParticipantData, err = wire.ParseParticipant(payload); err != nil {
		return described{}, err
	}
	for _, l := range d.MetatrafficUnicast {
		port, via := h.find(l)
		if via == 0 || d.via&via != 0 {
			continue
		}
		if d.via |= via; via == viaSix {
			d.meta = netip.AddrPortFrom(h.six, port)
		} else if !d.meta.IsValid() {
			d.meta = netip.AddrPortFrom(h.four, port)
		}
	}
	if d.via == 0 {
		return described{}, fmt.Errorf("participant %s has no discovery port at the overlay address", d.GUID.Prefix)
	}
	d.domain, d.ok = domainOf(&d.ParticipantData, d.meta.Port())
	return d, nil
}

// domainOf is the domain that the announcement names, or else the one whose well-known port it listens on (9.6.1.1).
func domainOf(d *wire.ParticipantData, meta uint16) (uint16, bool) {
	if d.HasDomainID {
		return uint16(d.DomainID), d.DomainID <= maxDomain
	}
	for _, l := range d.MetatrafficMulticast {
		if domain, offset := portRule(l.Port); offset == 0 {
			return domain, true
		}
	}
	domain, offset := portRule(uint32(meta))
	return domain, offset >= 10 && offset%2 == 0
}

// portRule is the domain that a port belongs to, and its place there; -1 if it belongs to none.
func portRule(port uint32) (domain uint16, offset int) {
	if port < 7400 || port > 0xffff {
		return 0, -1
	}
	return uint16((port - 7400) / 250), int((port - 7400) % 250)
}

// translate moves the IPv4 locators of a peer's announcement to the address that the peer has here; others stay.
func (h place) translate(l wire.Locator) wire.Locator {
	if a, ok := l.AddrPort(); ok && a.Addr().Is4() && h.four.IsValid() {
		return wire.LocatorFrom(netip.AddrPortFrom(h.four, a.Port()))
	}
	return l
}

// rewrite copies an announcement with no locators but UDP ones at the place. An error says that too little is left, or
// too much to send.
func rewrite(payload []byte, h place) ([]byte, error) {
	return rewriteBy(payload, h, func(l wire.Locator) wire.Locator { return l })
}

func rewriteBy(payload []byte, h place, change func(wire.Locator) wire.Locator) ([]byte, error) {
	list, err := wire.ParseParameterPayload(payload)
	if err != nil {
		return nil, err
	}
	w := wire.NewParameterWriter(make([]byte, 0, min(len(payload), maxPayload+64)), list.BigEndian)
	w.Encapsulation()
	var meta, user int
	var metaVia, userVia families
	c := list.Parameters()
	for p, ok := c.Next(); ok; p, ok = c.Next() {
		switch p.ID {
		case wire.PIDMetatrafficUnicastLocator, wire.PIDDefaultUnicastLocator:
			l, ok := p.Locator()
			if !ok {
				continue
			}
			l = change(l)
			_, via := h.find(l)
			if via == 0 {
				continue
			}
			count, all := &user, &userVia
			if p.ID == wire.PIDMetatrafficUnicastLocator {
				count, all = &meta, &metaVia
			}
			if *count++; *count <= maxLocators {
				w.Locator(p.ID, l)
				*all |= via
			}
		case wire.PIDUnicastLocator, wire.PIDMulticastLocator, wire.PIDMetatrafficMulticastLocator, wire.PIDDefaultMulticastLocator,
			pidMetatrafficMulticastIP, pidDefaultUnicastIP, pidMetatrafficUnicastPort, pidDefaultUnicastPort, pidMulticastIP,
			pidMetatrafficUnicastIP, pidMetatrafficMulticastPort:
		default:
			w.Raw(p.ID, p.Value)
		}
	}
	if err := c.Err(); err != nil {
		return nil, err
	}
	w.Sentinel()
	switch b := w.Bytes(); {
	case metaVia&userVia == 0:
		return nil, fmt.Errorf("the participant cannot be reached at %s", h.six)
	case len(b) > maxPayload:
		return nil, fmt.Errorf("an announcement of %d bytes is longer than %d, shorten the participant's name, user data or properties", len(b), maxPayload)
	default:
		return b, nil
	}
}

// maxLocators is how many ports a participant may have at its address, of each kind.
const maxLocators = 4
