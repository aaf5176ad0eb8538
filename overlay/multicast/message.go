package multicast

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

const (
	// Port is where daemons tell each other their groups.
	Port = 5585

	kindGroups      = 1
	protocolVersion = 1
	flagAsk         = 1
	messageLen      = 16
	groupLen        = 16
	// MaxMessage bounds a datagram between daemons, in bytes.
	MaxMessage = messageLen + MaxGroups*groupLen
)

var errMessage = errors.New("not a list of multicast groups")

// message is one daemon's list of groups.
type message struct {
	ask          bool
	run, counter uint32
	groups       []netip.Addr
}

func (m *message) append(dst []byte) []byte {
	var flags byte
	if m.ask {
		flags = flagAsk
	}
	dst = append(dst, kindGroups, protocolVersion, flags, 0)
	dst = binary.BigEndian.AppendUint32(dst, m.run)
	dst = binary.BigEndian.AppendUint32(dst, m.counter)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(m.groups)))
	dst = append(dst, 0, 0)
	for _, g := range m.groups {
		b := g.As16()
		dst = append(dst, b[:]...)
	}
	return dst
}

// parseMessage reads a datagram. Groups that are not carried are left out.
func parseMessage(b []byte) (m message, err error) {
	if len(b) < messageLen || len(b) > MaxMessage || b[0] != kindGroups || b[1] != protocolVersion {
		return m, errMessage
	}
	m.ask = b[2]&flagAsk != 0
	m.run, m.counter = binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:])
	if int(binary.BigEndian.Uint16(b[12:]))*groupLen != len(b)-messageLen {
		return message{}, errMessage
	}
	for b = b[messageLen:]; len(b) > 0; b = b[groupLen:] {
		m.groups = add(m.groups, netip.AddrFrom16([16]byte(b)).Unmap())
	}
	return m, nil
}
