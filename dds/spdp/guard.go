package spdp

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// Guard keeps whitelisted peers from speaking for participants that are not theirs. RTPS goes from participant to
// participant without the relay, and DDS believes every message's own word on whom it is of: a peer could say in the
// name of two neighbours on this host that they have ended, and they would part. The relay knows whose every prefix is.
//
// DDS also believes every word on where endpoints are, and sends their data there. So locators in what participants tell
// each other are masked unless they are the sender's on the overlay, both here and where they come from: addresses of its
// LAN do not leave a host, and no peer can have data sent past the overlay or to anybody else.
//
// The zero Guard lets everything pass as it is. Its methods may be called by several goroutines at once.
type Guard struct {
	owners atomic.Pointer[map[wire.GuidPrefix]netip.Addr]
	places atomic.Pointer[places]

	fragments fragments

	barred atomic.Uint64
	masked atomic.Uint64
	last   atomic.Pointer[netip.Addr] // whose was barred last
}

// places are the addresses of this host and of all peers on the overlay. They are not changed any more.
type places struct {
	own   place
	peers map[netip.Addr]netip.Addr // IPv4 by overlay addresses, of those that have one
}

// Barred counts the packets that were turned away, but those that only came too early.
func (g *Guard) Barred() uint64 { return g.barred.Load() }

// Masked counts the locators of peers that were taken out.
func (g *Guard) Masked() uint64 { return g.masked.Load() }

// settle tells where this host is, and its peers.
func (g *Guard) settle(own place, peers []Peer) {
	p := &places{own: own, peers: make(map[netip.Addr]netip.Addr, len(peers))}
	for _, peer := range peers {
		if peer.IPv4.Is4() {
			p.peers[peer.Address] = peer.IPv4
		}
	}
	g.places.Store(p)
	g.fragments.forget(func(a netip.Addr) bool {
		return slices.ContainsFunc(peers, func(p Peer) bool { return p.Address == a })
	})
}

// set replaces the table, which is not changed any more: to each prefix the overlay address of its host.
func (g *Guard) set(owners map[wire.GuidPrefix]netip.Addr) { g.owners.Store(&owners) }

// Admit says whether an IP packet of the peer may go on to hnet0. It is false for RTPS messages under a prefix that is of
// this host or of another peer, and for discovery data about such a one. What is not RTPS passes, and what is of prefixes
// that nobody is known to have; of a datagram in fragments the first alone is looked at. In discovery data that passes,
// locators that are not the peer's are masked in place, see [check.list].
func (g *Guard) Admit(peer netip.Addr, packet []byte) bool {
	message, cut, ok := rtpsIn(packet)
	if !ok {
		return true
	}
	c := check{guard: g, peer: peer, cut: cut, packet: packet, places: g.places.Load()}
	owners := g.owners.Load()
	if owners == nil && c.places == nil {
		return true
	}
	if owners != nil {
		c.owners = *owners
	}
	if c.message(message) {
		return true
	}
	if c.early {
		return false
	}
	g.barred.Add(1)
	if last := g.last.Load(); last == nil || *last != peer {
		who := peer
		g.last.Store(&who)
	}
	return false
}

// Depart masks in place, in discovery data that this host sends to a peer, the locators that are not its own on the overlay.
// Checksums must be complete before, and stay so. What cannot be read goes as it is.
func (g *Guard) Depart(peer netip.Addr, packet []byte) {
	places := g.places.Load()
	if places == nil {
		return
	}
	message, cut, ok := rtpsIn(packet)
	if !ok || len(message) == 0 {
		return
	}
	c := check{guard: g, peer: peer, out: true, cut: cut, packet: packet, places: places}
	c.message(message)
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
	guard  *Guard
	owners map[wire.GuidPrefix]netip.Addr
	places *places // nil: nothing is masked
	peer   netip.Addr
	out    bool // to the peer
	cut    bool // the message goes on in fragments not seen
	packet []byte

	// Of discovery data alone.
	mask   bool
	at     place  // whose locators stay
	udp    []byte // the datagram, or what is there of it
	masked uint64
	early  bool // a fragment has come before one that it depends on: nobody's fault
}

// settle finds out what is to be masked in a message, with which the packet ends.
func (c *check) settle(message []byte) {
	if c.places == nil {
		return
	}
	c.mask, c.udp = true, c.packet[len(c.packet)-len(message)-udpHeader:]
	if c.at = c.places.own; !c.out {
		c.at = place{six: c.peer, four: c.places.peers[c.peer]}
	}
	// An IPv4 packet's source has been checked, or is ours, and may be known there before it is here. What is masked once is not sent again.
	if c.packet[0]>>4 == 4 && !c.at.four.IsValid() {
		c.at.four = netip.AddrFrom4([4]byte(c.packet[12:16]))
	}
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
// headers; only discovery data and wishes where answers are to go are read.
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
			if w := writerOf(body); discovers(w) || w == wire.EntityParticipantMessageWriter {
				return c.discovery(b)
			}
		case wire.IDInfoReply, wire.IDInfoReplyIP4:
			return c.discovery(b)
		}
	}
	return true
}
