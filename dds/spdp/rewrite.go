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

// described is what the relay needs to know of an announcement.
type described struct {
	wire.ParticipantData
	meta   netip.AddrPort // where it is reached for discovery, at the overlay address
	domain uint16
	ok     bool // domain is known
}

// leastPort keeps announcements from being aimed at the ports of system services.
const leastPort = 1024

// at finds the port of a locator at the overlay address.
func at(l wire.Locator, addr netip.Addr) (uint16, bool) {
	a, ok := l.AddrPort()
	return a.Port(), ok && a.Addr() == addr && a.Port() >= leastPort
}

// describe reads an announcement of a participant of the host with this overlay address. One that cannot be reached
// there is an error.
func describe(payload []byte, addr netip.Addr) (described, error) {
	d := described{}
	var err error
	if d.ParticipantData, err = wire.ParseParticipant(payload); err != nil {
		return described{}, err
	}
	for _, l := range d.MetatrafficUnicast {
		if port, ok := at(l, addr); ok {
			d.meta = netip.AddrPortFrom(addr, port)
			break
		}
	}
	if !d.meta.IsValid() {
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

// rewrite copies an announcement with no locators but UDP ones at the overlay address. An error says that too little
// is left, or too much to send.
func rewrite(payload []byte, addr netip.Addr) ([]byte, error) {
	list, err := wire.ParseParameterPayload(payload)
	if err != nil {
		return nil, err
	}
	w := wire.NewParameterWriter(make([]byte, 0, min(len(payload), maxPayload+64)), list.BigEndian)
	w.Encapsulation()
	meta, user := 0, 0
	c := list.Parameters()
	for p, ok := c.Next(); ok; p, ok = c.Next() {
		switch p.ID {
		case wire.PIDMetatrafficUnicastLocator, wire.PIDDefaultUnicastLocator:
			l, ok := p.Locator()
			if !ok {
				continue
			}
			if _, ok := at(l, addr); !ok {
				continue
			}
			count := &user
			if p.ID == wire.PIDMetatrafficUnicastLocator {
				count = &meta
			}
			if *count++; *count <= maxLocators {
				w.Locator(p.ID, l)
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
	case meta == 0 || user == 0:
		return nil, fmt.Errorf("the participant cannot be reached at %s", addr)
	case len(b) > maxPayload:
		return nil, fmt.Errorf("an announcement of %d bytes is longer than %d, shorten the participant's name, user data or properties", len(b), maxPayload)
	default:
		return b, nil
	}
}

// maxLocators is how many ports a participant may have at its address, of each kind.
const maxLocators = 4
