package spdp

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// Guard keeps whitelisted peers from speaking for participants that are not theirs. RTPS goes from participant to
// participant without the relay, and DDS believes every message's own word on whom it is of: a peer could say in the
// name of two neighbours on this host that they have ended, and they would part. The relay knows whose every prefix is.
//
// The zero Guard lets everything pass. Its methods may be called by several goroutines at once.
type Guard struct {
	owners atomic.Pointer[map[wire.GuidPrefix]netip.Addr]
	barred atomic.Uint64
	last   atomic.Pointer[netip.Addr] // whose was barred last
}

// Barred counts the packets that were turned away.
func (g *Guard) Barred() uint64 { return g.barred.Load() }

// set replaces the table, which is not changed any more: to each prefix the overlay address of its host.
func (g *Guard) set(owners map[wire.GuidPrefix]netip.Addr) { g.owners.Store(&owners) }

// Admit says whether an IP packet of the peer may go on to hnet0. It is false for RTPS messages under a prefix that is of
// this host or of another peer, and for discovery data about such a one. What is not RTPS passes, and what is of prefixes
// that nobody is known to have; of a datagram in fragments the first alone is looked at.
func (g *Guard) Admit(peer netip.Addr, packet []byte) bool {
	message, cut, ok := rtpsIn(packet)
	if !ok {
		return true
	}
	owners := g.owners.Load()
	if owners == nil {
		return true
	}
	c := check{owners: *owners, peer: peer, cut: cut}
	if c.message(message) {
		return true
	}
	g.barred.Add(1)
	if last := g.last.Load(); last == nil || *last != peer {
		who := peer
		g.last.Store(&who)
	}
	return false
}

const (
	udpHeader = 8
	// leastFragment is what the first fragment of a UDP datagram has to have of its payload: nobody cuts that small but to
	// hide what it is.
	leastFragment = 512

	protocolUDP         = 17
	protocolHopByHop    = 0
	protocolRouting     = 43
	protocolFragment    = 44
	protocolDestination = 60
	maxExtensions       = 8
)

// rtpsIn is the RTPS message in an IP packet, or what the first fragment has of it; then it is cut. For a packet that hides
// whether it is any, it is an empty message.
func rtpsIn(b []byte) (message []byte, cut, ok bool) {
	if len(b) < 20 {
		return nil, false, false
	}
	var next byte
	switch b[0] >> 4 {
	case 6:
		if len(b) < 40 {
			return nil, false, false
		}
		next, b = b[6], b[40:]
		for n := 0; next == protocolHopByHop || next == protocolRouting || next == protocolDestination || next == protocolFragment; n++ {
			if len(b) < 8 || n == maxExtensions {
				return nil, false, true
			}
			length := 8
			if next != protocolFragment {
				length += 8 * int(b[1])
			} else {
				place := binary.BigEndian.Uint16(b[2:])
				if place>>3 != 0 {
					return nil, false, false
				}
				cut = place&1 != 0
			}
			if length > len(b) {
				return nil, false, true
			}
			next, b = b[0], b[length:]
		}
	case 4:
		length := int(b[0]&15) * 4
		if length < 20 || length > len(b) {
			return nil, false, false
		}
		place := binary.BigEndian.Uint16(b[6:])
		if place&0x1fff != 0 {
			return nil, false, false
		}
		cut = place&0x2000 != 0
		next, b = b[9], b[length:]
	default:
		return nil, false, false
	}
	if next != protocolUDP {
		return nil, false, false
	}
	if cut && len(b) < udpHeader+leastFragment {
		return nil, false, true
	}
	if len(b) < udpHeader+wire.HeaderLen || string(b[udpHeader:udpHeader+4]) != "RTPS" {
		return nil, false, false
	}
	return b[udpHeader:], cut, true
}

// check is the look at one message.
type check struct {
	owners map[wire.GuidPrefix]netip.Addr
	peer   netip.Addr
	cut    bool // the message goes on in fragments not seen
}

// own says that a prefix is not somebody else's.
func (c *check) own(p wire.GuidPrefix) bool {
	owner, known := c.owners[p]
	return !known || owner == c.peer
}

const (
	submessageHeader = 4
	infoSourceLen    = 20
	dataWriter       = 8 // where DATA and DATA_FRAG name their writer
)

// message says whether all of a message is the peer's to say. User data costs a look at the prefix and the submessages'
// headers; only discovery data is read.
func (c *check) message(b []byte) bool {
	if len(b) < wire.HeaderLen || !c.own(wire.GuidPrefix(b[8:20])) {
		return false
	}
	for rest := b[wire.HeaderLen:]; len(rest) >= submessageHeader; {
		id, flags := wire.SubmessageID(rest[0]), rest[1]
		order := binary.ByteOrder(binary.BigEndian)
		if flags&1 != 0 {
			order = binary.LittleEndian
		}
		length := int(order.Uint16(rest[2:]))
		rest = rest[submessageHeader:]
		if length == 0 && id != wire.IDPad && id != wire.IDInfoTS || length > len(rest) {
			length = len(rest) // to the end, or to that of the fragment
		}
		body := rest[:length]
		rest = rest[length:]
		switch id {
		case wire.IDInfoSrc:
			if len(body) < infoSourceLen || !c.own(wire.GuidPrefix(body[8:20])) {
				return false
			}
		case wire.IDData, wire.IDDataFrag:
			if len(body) < dataWriter+4 {
				return false
			}
			switch wire.EntityID(binary.BigEndian.Uint32(body[dataWriter:])) {
			case wire.EntitySPDPWriter, wire.EntitySEDPPublicationsWriter, wire.EntitySEDPSubscriptionsWriter, wire.EntitySEDPTopicsWriter,
				wire.EntityParticipantMessageWriter:
				return c.discovery(b)
			}
		}
	}
	return true
}

var readers = sync.Pool{New: func() any { return new(wire.MessageReader) }}

// discovery reads a message with discovery data. What cannot be read, nobody else shall read in another way.
func (c *check) discovery(b []byte) bool {
	r := readers.Get().(*wire.MessageReader)
	defer readers.Put(r)
	if r.Reset(b) != nil {
		return false
	}
	for s, ok := r.Next(); ok; s, ok = r.Next() {
		if !c.own(r.Source().Prefix) {
			return false
		}
		switch d := s.(type) {
		case *wire.Data:
			if !c.sample(d.Writer, d.InlineQoS, d.Payload) {
				return false
			}
		case *wire.DataFrag:
			if d.FirstFragment == 1 && !c.beginning(d) {
				return false
			}
		}
	}
	return c.cut || r.Err() == nil
}

// sample says whether a sample of a discovery writer is about participants and endpoints of the peer's.
func (c *check) sample(writer wire.EntityID, qos wire.ParameterList, payload []byte) bool {
	switch writer {
	case wire.EntityParticipantMessageWriter: // a prefix and what it asserts (9.6.3.1)
		return len(payload) < 4+prefixLen || c.own(wire.GuidPrefix(payload[4:4+prefixLen]))
	case wire.EntitySPDPWriter, wire.EntitySEDPPublicationsWriter, wire.EntitySEDPSubscriptionsWriter, wire.EntitySEDPTopicsWriter:
	default:
		return true
	}
	if !c.list(qos) {
		return false
	}
	if len(payload) == 0 {
		return true
	}
	list, err := wire.ParseParameterPayload(payload)
	if err != nil { // a bare key perhaps
		return len(payload) >= 4+prefixLen && c.own(wire.GuidPrefix(payload[4:4+prefixLen]))
	}
	return c.list(list)
}

// beginning looks at the first fragment of a sample, as far as it goes.
func (c *check) beginning(d *wire.DataFrag) bool {
	switch d.Writer {
	case wire.EntitySPDPWriter, wire.EntitySEDPPublicationsWriter, wire.EntitySEDPSubscriptionsWriter, wire.EntitySEDPTopicsWriter:
	default:
		return true
	}
	if !c.list(d.InlineQoS) {
		return false
	}
	list, err := wire.ParseParameterPayload(d.Payload)
	return err == nil && c.parameters(list)
}

// list says whether all that a parameter list names is the peer's.
func (c *check) list(l wire.ParameterList) bool {
	if l.Empty() {
		return true
	}
	cursor := l.Parameters()
	return c.all(&cursor) && cursor.Err() == nil
}

// parameters is list for one that may be cut off.
func (c *check) parameters(l wire.ParameterList) bool {
	cursor := l.Parameters()
	return c.all(&cursor)
}

func (c *check) all(cursor *wire.ParameterCursor) bool {
	for p, ok := cursor.Next(); ok; p, ok = cursor.Next() {
		switch p.ID &^ wire.PIDMustUnderstand {
		case wire.PIDParticipantGUID, wire.PIDEndpointGUID, wire.PIDKeyHash:
			if len(p.Value) < prefixLen || !c.own(wire.GuidPrefix(p.Value[:prefixLen])) {
				return false
			}
		}
	}
	return true
}
