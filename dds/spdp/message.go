package spdp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/fnv"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// MaxMessage bounds a datagram between daemons, in bytes: it fits the overlay's smallest path.
const MaxMessage = 1200

const (
	protocolVersion = 1

	kindDigest   = 1
	kindAnnounce = 2
	kindWant     = 3
	kindSame     = 4

	flagComplete = 1
	flagSame     = 2

	prefixLen   = 12
	headerLen   = 24
	digestLen   = headerLen + 4 + 2*prefixLen
	entryLen    = prefixLen + 4
	announceLen = headerLen + 32
	sameLen     = headerLen + 8

	maxEntries = (MaxMessage - digestLen) / entryLen
	maxWanted  = 90
	maxPayload = MaxMessage - announceLen
	maxDomain  = 232
)

var errMessage = errors.New("not a message of the discovery relay")

// session is one daemon's memory of a peer, from when it began to when it ended everything of that peer's: in the upper
// half random for a run of the daemon, in the lower counting up. 0 is none.
type session uint64

// sameRun says that two sessions are of one run of a daemon.
func (s session) sameRun(other session) bool { return s>>32 == other>>32 }

// message is any of the four, as the kind says.
type message struct {
	kind    byte
	session session // the sender's
	counter uint32
	heard   session // the receiver's, as far as the sender knows

	complete    bool // digest
	same        bool // its sender reads kindSame
	first, last wire.GuidPrefix
	entries     []byte // entryLen each

	announce announcement

	wanted []byte // prefixLen each; none: the digest itself

	sum uint64 // of what the digest would list
}

// sumOf is what an entry adds to the sum of a digest.
func sumOf(entry []byte) uint64 {
	h := fnv.New64a()
	h.Write(entry)
	return h.Sum64()
}

// announcement is one participant on its way between daemons.
type announcement struct {
	prefix   wire.GuidPrefix
	revision uint32
	sn       wire.SequenceNumber
	version  wire.ProtocolVersion
	vendor   wire.VendorID
	domain   uint16
	release  Release
	payload  []byte
}

// parseMessage reads a datagram; the result's slices are the datagram's.
func parseMessage(b []byte) (m message, err error) {
	if len(b) < headerLen || len(b) > MaxMessage || b[1] != protocolVersion {
		return message{}, errMessage
	}
	m.kind, m.session, m.counter = b[0], session(binary.BigEndian.Uint64(b[4:])), binary.BigEndian.Uint32(b[12:])
	m.heard = session(binary.BigEndian.Uint64(b[16:]))
	if m.session == 0 {
		return message{}, errMessage
	}
	b = b[headerLen:]
	switch m.kind {
	case kindDigest:
		if len(b) < digestLen-headerLen || (len(b)-(digestLen-headerLen))%entryLen != 0 {
			return message{}, errMessage
		}
		m.complete, m.same = b[0]&flagComplete != 0, b[0]&flagSame != 0
		m.first, m.last = wire.GuidPrefix(b[4:16]), wire.GuidPrefix(b[16:28])
		m.entries = b[digestLen-headerLen:]
		before := m.first[:]
		for i := 0; i < len(m.entries); i += entryLen {
			p := m.entries[i : i+prefixLen]
			if c := bytes.Compare(before, p); c > 0 || c == 0 && i > 0 || bytes.Compare(p, m.last[:]) > 0 {
				return message{}, errMessage
			}
			before = p
		}
	case kindAnnounce:
		if len(b) <= announceLen-headerLen {
			return message{}, errMessage
		}
		m.announce = announcement{
			prefix: wire.GuidPrefix(b[:12]), revision: binary.BigEndian.Uint32(b[12:]),
			sn:      wire.SequenceNumber(binary.BigEndian.Uint64(b[16:])),
			version: wire.ProtocolVersion(b[24:26]), vendor: wire.VendorID(b[26:28]),
			domain: binary.BigEndian.Uint16(b[28:]), release: Release(b[30]), payload: b[announceLen-headerLen:],
		}
		a := &m.announce
		if a.sn < 1 || a.domain > maxDomain || a.version[0] != 2 || a.release > Iron || a.prefix == wire.PrefixUnknown {
			return message{}, errMessage
		}
	case kindWant:
		m.wanted = b
		if len(m.wanted)%prefixLen != 0 || len(m.wanted) > maxWanted*prefixLen {
			return message{}, errMessage
		}
	case kindSame:
		if len(b) != sameLen-headerLen {
			return message{}, errMessage
		}
		m.sum = binary.BigEndian.Uint64(b)
	default:
		return message{}, errMessage
	}
	return m, nil
}

func (m *message) entry(i int) (wire.GuidPrefix, uint32) {
	e := m.entries[i*entryLen:]
	return wire.GuidPrefix(e[:prefixLen]), binary.BigEndian.Uint32(e[prefixLen:])
}

// append writes the message.
func (m *message) append(dst []byte) []byte {
	dst = append(dst, m.kind, protocolVersion, 0, 0)
	dst = binary.BigEndian.AppendUint64(dst, uint64(m.session))
	dst = binary.BigEndian.AppendUint32(dst, m.counter)
	dst = binary.BigEndian.AppendUint64(dst, uint64(m.heard))
	switch m.kind {
	case kindDigest:
		var flags byte
		if m.complete {
			flags = flagComplete
		}
		if m.same {
			flags |= flagSame
		}
		dst = append(dst, flags, 0, 0, 0)
		dst = append(append(dst, m.first[:]...), m.last[:]...)
		dst = append(dst, m.entries...)
	case kindAnnounce:
		a := &m.announce
		dst = append(dst, a.prefix[:]...)
		dst = binary.BigEndian.AppendUint32(dst, a.revision)
		dst = binary.BigEndian.AppendUint64(dst, uint64(a.sn))
		dst = append(dst, a.version[0], a.version[1], a.vendor[0], a.vendor[1])
		dst = binary.BigEndian.AppendUint16(dst, a.domain)
		dst = append(dst, byte(a.release), 0)
		dst = append(dst, a.payload...)
	case kindWant:
		dst = append(dst, m.wanted...)
	case kindSame:
		dst = binary.BigEndian.AppendUint64(dst, m.sum)
	}
	return dst
}
