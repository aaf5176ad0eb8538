package spdp

import (
	"encoding/binary"
	"sync"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// discovers says that what a writer has are parameter lists of participants, endpoints or topics.
func discovers(writer wire.EntityID) bool {
	switch writer {
	case wire.EntitySPDPWriter, wire.EntitySEDPPublicationsWriter, wire.EntitySEDPSubscriptionsWriter, wire.EntitySEDPTopicsWriter:
		return true
	}
	return false
}

// writerOf is whom a DATA or DATA_FRAG of at least dataWriter+4 bytes is of.
func writerOf(body []byte) wire.EntityID {
	return wire.EntityID(binary.BigEndian.Uint32(body[dataWriter:]))
}

var readers = sync.Pool{New: func() any { return new(wire.MessageReader) }}

// discovery reads a message with discovery data. What cannot be read, nobody else shall read in another way.
func (c *check) discovery(b []byte) bool {
	c.settle(b)
	defer func() {
		if !c.out && c.masked > 0 {
			c.guard.masked.Add(c.masked)
		}
	}()
	open := false // the last submessage goes on, and is read up to where it is cut
	if c.cut {
		if last := beyond(b); last != nil {
			length := [2]byte(last[2:4])
			last[2], last[3] = 0, 0 // to the end
			defer copy(last[2:4], length[:])
			open = true
		}
	}
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
			whole := !open || len(d.Payload) == 0 || &d.Payload[len(d.Payload)-1] != &b[len(b)-1]
			if !c.sample(d, whole) {
				return false
			}
		case *wire.DataFrag:
			if discovers(d.Writer) && !c.fragment(r.Source().Prefix, d) {
				return false
			}
		case *wire.InfoReply:
			if !c.answers(d.Unicast) || !c.answers(d.Multicast) {
				return false
			}
		}
	}
	return r.Err() == nil || c.cut && !open
}

// beyond is the submessage of a cut message that begins in it and does not end there, if it is a DATA with discovery data
// or a DATA_FRAG with such; otherwise nil.
func beyond(b []byte) []byte {
	for rest := b[wire.HeaderLen:]; len(rest) >= submessageHeader; {
		id, order := wire.SubmessageID(rest[0]), binary.ByteOrder(binary.BigEndian)
		if rest[1]&1 != 0 {
			order = binary.LittleEndian
		}
		length := int(order.Uint16(rest[2:]))
		if length == 0 && id != wire.IDPad && id != wire.IDInfoTS {
			length = len(rest) // all that will come
		}
		if body := rest[submessageHeader:]; length > len(body) {
			if (id == wire.IDData || id == wire.IDDataFrag) && len(body) >= dataWriter+4 && discovers(writerOf(body)) {
				return rest
			}
			return nil
		}
		rest = rest[submessageHeader+length:]
	}
	return nil
}

// sample says whether a sample of a discovery writer is about participants and endpoints of the peer's.
func (c *check) sample(d *wire.Data, whole bool) bool {
	if d.Writer == wire.EntityParticipantMessageWriter { // a prefix and what it asserts (9.6.3.1)
		return len(d.Payload) < 4+prefixLen || c.own(wire.GuidPrefix(d.Payload[4:4+prefixLen]))
	}
	if !discovers(d.Writer) {
		return true
	}
	if !c.list(d.InlineQoS, true) {
		return false
	}
	if len(d.Payload) == 0 {
		return true
	}
	list, err := wire.ParseParameterPayload(d.Payload)
	if err != nil { // a bare key perhaps
		return d.Content == wire.KeyContent && len(d.Payload) >= 4+prefixLen && c.own(wire.GuidPrefix(d.Payload[4:4+prefixLen]))
	}
	return c.list(list, whole)
}

// answers says whether answers are wanted where they may go.
func (c *check) answers(l wire.LocatorList) bool {
	for i := range l.Len() {
		if c.mask && !c.at.holds(l.At(i)) {
			return false
		}
	}
	return true
}

// list says whether all that a parameter list names is the peer's, up to where it is cut if it is not whole. On the way
// locators that are not are masked: each becomes padding of its length (9.6.2.2.2), as if it had not been said. An endpoint
// without any is reached where its participant is.
func (c *check) list(l wire.ParameterList, whole bool) bool {
	if l.Empty() {
		return true
	}
	left, ok := c.walk(l, 0)
	return ok && (left == listOver || !whole)
}

// listOver is where a list is after its sentinel: nothing more counts.
const listOver = ^uint32(0)

// walk is list for a piece of one that begins so many bytes before the end of a parameter, and returns where that is after
// the piece. A locator of which the piece has only the beginning is masked unseen.
func (c *check) walk(l wire.ParameterList, left uint32) (uint32, bool) {
	b := l.Bytes
	if left >= uint32(len(b)) {
		if left != listOver {
			left -= uint32(len(b))
		}
		return left, true
	}
	order := binary.ByteOrder(binary.LittleEndian)
	if l.BigEndian {
		order = binary.BigEndian
	}
	for b = b[left:]; len(b) >= parameterHeader; {
		id, length := wire.PID(order.Uint16(b)), int(order.Uint16(b[2:]))
		if id == wire.PIDSentinel {
			return listOver, true
		}
		if length&3 != 0 {
			return 0, false
		}
		beyond := max(0, length-(len(b)-parameterHeader))
		p := b[:parameterHeader+length-beyond]
		b = b[len(p):]
		switch id &^= wire.PIDMustUnderstand; id {
		case wire.PIDParticipantGUID, wire.PIDEndpointGUID, wire.PIDKeyHash:
			if value := p[parameterHeader:]; len(value) >= prefixLen {
				if !c.own(wire.GuidPrefix(value[:prefixLen])) {
					return 0, false
				}
			} else if beyond == 0 {
				return 0, false
			}
		default:
			if c.mask && c.foreign(id, p[parameterHeader:], l.BigEndian) {
				c.pad(p)
			}
		}
		if beyond > 0 {
			return uint32(beyond), true
		}
	}
	return 0, true
}

const parameterHeader = 4

// foreign says whether a parameter is a locator that does not lead to the peer.
func (c *check) foreign(id wire.PID, value []byte, bigEndian bool) bool {
	switch id {
	case wire.PIDUnicastLocator, wire.PIDMulticastLocator, wire.PIDDefaultUnicastLocator, wire.PIDMetatrafficUnicastLocator,
		wire.PIDMetatrafficMulticastLocator, wire.PIDDefaultMulticastLocator:
		l, ok := wire.Parameter{ID: id, Value: value, BigEndian: bigEndian}.Locator()
		return !ok || len(value) != wire.LocatorLen || !c.at.holds(l)
	case pidMetatrafficMulticastIP, pidDefaultUnicastIP, pidMetatrafficUnicastPort, pidDefaultUnicastPort, pidMulticastIP,
		pidMetatrafficUnicastIP, pidMetatrafficMulticastPort:
		return true
	}
	return false
}

// holds says whether a locator leads to the place, by a transport that goes to its address and nowhere else.
func (h place) holds(l wire.Locator) bool {
	switch l.Kind {
	case wire.LocatorUDPv6, wire.LocatorTCPv6:
		return h.six.IsValid() && l.Addr == h.six.As16()
	case wire.LocatorUDPv4, wire.LocatorTCPv4: // Fast DDS has another address before that of TCP
		want := [16]byte{}
		if !h.four.Is4() {
			return false
		}
		four := h.four.As4()
		copy(want[12:], four[:])
		return l.Addr == want
	}
	return false
}

// pad makes a parameter padding, with a value of zeros but for the last two bytes: they have what it takes for all checksums
// to stay right (RFC 1071), be they of UDP over IPv4 or IPv6. Where there is no room, that of UDP is corrected.
func (c *check) pad(p []byte) {
	c.masked++
	value := p[parameterHeader:]
	value = value[:len(value)&^1]
	if len(value) == 0 {
		before := onesSum(c.udp)
		p[0], p[1] = 0, 0
		c.correct(before)
		return
	}
	sum := onesSum(p[:2], value)
	p[0], p[1] = byte(wire.PIDPad>>8), byte(wire.PIDPad&0xff)
	clear(value)
	binary.BigEndian.PutUint16(value[len(value)-2:], sum)
}

// correct changes the checksum of UDP by what has changed since the datagram had a sum (RFC 1624); none stays none.
func (c *check) correct(before uint16) {
	const at = 6
	checksum := binary.BigEndian.Uint16(c.udp[at:])
	if checksum == 0 {
		return
	}
	sum := uint32(^checksum) + uint32(^before) + uint32(onesSum(c.udp))
	sum = sum>>16 + sum&0xffff
	if checksum = ^uint16(sum>>16 + sum); checksum == 0 {
		checksum = 0xffff
	}
	binary.BigEndian.PutUint16(c.udp[at:], checksum)
}

// onesSum is the ones' complement sum of slices of which all but the last have an even length.
func onesSum(parts ...[]byte) uint16 {
	sum := uint32(0)
	for _, b := range parts {
		for ; len(b) >= 2; b = b[2:] {
			sum += uint32(binary.BigEndian.Uint16(b))
		}
		if len(b) > 0 {
			sum += uint32(b[0]) << 8
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}
