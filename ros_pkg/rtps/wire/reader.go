package wire

import (
	"fmt"
	"math"
)

// HeaderLen is the length of a message's header, in bytes.
const HeaderLen = 20

const submessageHeaderLen = 4

// Header begins a message (8.3.3.1, 9.4.4).
type Header struct {
	Version ProtocolVersion
	Vendor  VendorID
	Prefix  GuidPrefix
}

// ParseHeader reads the header of a message. Another major version than 2 is refused (8.3.6.3).
func ParseHeader(b []byte) (Header, error) {
	if len(b) < HeaderLen || string(b[:4]) != "RTPS" || b[4] != 2 {
		return Header{}, ErrNotRTPS
	}
	return Header{ProtocolVersion(b[4:6]), VendorID(b[6:8]), GuidPrefix(b[8:20])}, nil
}

// Append writes the header.
func (h Header) Append(dst []byte) []byte {
	dst = append(dst, 'R', 'T', 'P', 'S', h.Version[0], h.Version[1], h.Vendor[0], h.Vendor[1])
	return append(dst, h.Prefix[:]...)
}

// MessageReader reads the submessages of one message in order and keeps the state of a receiver (8.3.4) for them.
// It allocates nothing after NewReader; one that is kept reads the next message after Reset.
type MessageReader struct {
	header  Header
	in      []byte // what is left
	err     error
	skipped int

	source  Header
	dest    GuidPrefix
	time    Timestamp
	unicast LocatorList
	multi   LocatorList

	data          Data
	dataFrag      DataFrag
	heartbeat     Heartbeat
	heartbeatFrag HeartbeatFrag
	ackNack       AckNack
	nackFrag      NackFrag
	gap           Gap
	infoTS        InfoTS
	infoDst       InfoDst
	infoSrc       InfoSrc
	infoReply     InfoReply
}

// NewReader begins to read a message, which must stay unchanged meanwhile. The error is ErrNotRTPS.
func NewReader(b []byte) (*MessageReader, error) {
	m := &MessageReader{}
	if err := m.Reset(b); err != nil {
		return nil, err
	}
	return m, nil
}

// Reset begins to read another message.
func (m *MessageReader) Reset(b []byte) error {
	h, err := ParseHeader(b)
	if err != nil {
		m.in, m.err = nil, err
		return err
	}
	m.header, m.source = h, h
	m.in, m.err, m.skipped = b[HeaderLen:], nil, 0
	m.dest, m.time = PrefixUnknown, TimeInvalid
	m.unicast, m.multi = LocatorList{}, LocatorList{}
	return nil
}

// Header is the message's own.
func (m *MessageReader) Header() Header { return m.header }

// Source is whom the submessage read last comes from: the message's header or the last INFO_SRC.
func (m *MessageReader) Source() Header { return m.source }

// Dest is whom the submessage read last is for, by the last INFO_DST: zero for everyone.
func (m *MessageReader) Dest() GuidPrefix { return m.dest }

// Time is the source time of the submessage read last, by the last INFO_TS: TimeInvalid for none.
func (m *MessageReader) Time() Timestamp { return m.time }

// ReplyTo is where answers to the submessage read last are wanted, by the last INFO_REPLY: empty lists for none.
func (m *MessageReader) ReplyTo() (unicast, multicast LocatorList) { return m.unicast, m.multi }

// Skipped counts the submessages passed over because their kind is not known.
func (m *MessageReader) Skipped() int { return m.skipped }

// Err says why Next stopped before the end of the message: ErrMalformed, with the submessage. What had been returned
// before stays valid; the rest of the message does not count (8.3.4.1).
func (m *MessageReader) Err() error { return m.err }

// Next returns the next submessage. It is false at the end, and at the first submessage that is not valid.
func (m *MessageReader) Next() (Submessage, bool) {
	for len(m.in) >= submessageHeaderLen {
		id, flags := SubmessageID(m.in[0]), m.in[1]
		length := int(m.in[2])<<8 | int(m.in[3])
		if flags&1 != 0 {
			length = int(m.in[3])<<8 | int(m.in[2])
		}
		rest := m.in[submessageHeaderLen:]
		// Zero means up to the end of the message, but for the two that can be empty (9.4.5.1.3).
		if length == 0 && id != IDPad && id != IDInfoTS {
			length = len(rest)
		}
		if length > len(rest) {
			return m.fail(id)
		}
		m.in = rest[length:]
		r := in{b: rest[:length:length], at: submessageHeaderLen, big: flags&1 == 0}
		s := m.parse(id, flags, &r)
		if r.bad {
			return m.fail(id)
		}
		if s != nil {
			return s, true
		}
	}
	if len(m.in) != 0 {
		return m.fail(0)
	}
	return nil, false
}

// Errors made beforehand: a flood of broken messages shall not cost an allocation each.
var malformed = func() (list [256]error) {
	for i := range list {
		list[i] = fmt.Errorf("RTPS %v: %w", SubmessageID(i), ErrMalformed)
	}
	list[0] = fmt.Errorf("RTPS message: bytes left at the end: %w", ErrMalformed)
	return list
}()

func (m *MessageReader) fail(id SubmessageID) (Submessage, bool) {
	m.in, m.err = nil, malformed[id]
	return nil, false
}

// Flags (9.4.5). The lowest bit is the byte order.
const (
	flagFinal      = 0x02 // ACKNACK, HEARTBEAT
	flagLiveliness = 0x04 // HEARTBEAT
	flagInvalidate = 0x02 // INFO_TS
	flagMulticast  = 0x02 // INFO_REPLY, INFO_REPLY_IP4
	flagInlineQoS  = 0x02 // DATA, DATA_FRAG
	flagData       = 0x04 // DATA
	flagKey        = 0x08 // DATA
	flagFragKey    = 0x04 // DATA_FRAG
)

// parse reads one submessage into its place. nil: nothing to return; r.bad: not valid.
func (m *MessageReader) parse(id SubmessageID, flags byte, r *in) Submessage {
	switch id {
	case IDData:
		d := &m.data
		*d = Data{}
		end := dataHeader(r, &d.Reader, &d.Writer, &d.SN)
		d.InlineQoS = inlineQoS(r, end, flags)
		switch flags & (flagData | flagKey) {
		case flagData:
			d.Content = DataContent
		case flagKey:
			d.Content = KeyContent
		case flagData | flagKey:
			r.bad = true
		}
		if d.Content != NoContent {
			d.Payload = r.b
		}
		return d
	case IDDataFrag:
		d := &m.dataFrag
		*d = DataFrag{Key: flags&flagFragKey != 0}
		end := dataHeader(r, &d.Reader, &d.Writer, &d.SN)
		d.FirstFragment = FragmentNumber(r.u32())
		d.Fragments = r.u16()
		d.FragmentSize = r.u16()
		d.SampleSize = r.u32()
		d.InlineQoS = inlineQoS(r, end, flags)
		n, ok := d.length()
		r.bad = r.bad || !ok || n > len(r.b)
		if !r.bad {
			d.Payload = r.b[:n:n]
		}
		return d
	case IDHeartbeat:
		h := &m.heartbeat
		*h = Heartbeat{Final: flags&flagFinal != 0, Liveliness: flags&flagLiveliness != 0}
		h.Reader, h.Writer = r.entity(), r.entity()
		h.First, h.Last = r.sequence(), r.sequence()
		h.Count = r.u32()
		r.bad = r.bad || !h.valid()
		return h
	case IDHeartbeatFrag:
		h := &m.heartbeatFrag
		h.Reader, h.Writer = r.entity(), r.entity()
		h.SN = r.sequence()
		h.LastFragment = FragmentNumber(r.u32())
		h.Count = r.u32()
		r.bad = r.bad || h.SN < 1 || h.SN > MaxSequence || h.LastFragment < 1
		return h
	case IDAckNack:
		a := &m.ackNack
		a.Final = flags&flagFinal != 0
		a.Reader, a.Writer = r.entity(), r.entity()
		r.sequenceSet(&a.Set)
		a.Count = r.u32()
		if a.Set.Base == 0 && a.Set.NumBits == 0 {
			a.Set.Base = 1
		}
		r.bad = r.bad || !a.Set.valid() && !a.Set.zero()
		return a
	case IDNackFrag:
		n := &m.nackFrag
		n.Reader, n.Writer = r.entity(), r.entity()
		n.SN = r.sequence()
		r.fragmentSet(&n.Set)
		n.Count = r.u32()
		r.bad = r.bad || n.SN < 1 || n.SN > MaxSequence || !n.Set.valid()
		return n
	case IDGap:
		g := &m.gap
		g.Reader, g.Writer = r.entity(), r.entity()
		g.Start = r.sequence()
		r.sequenceSet(&g.Set)
		r.bad = r.bad || g.Start < 1 || g.Start > MaxSequence || !g.Set.valid()
		return g
	case IDInfoTS:
		m.infoTS.Time = TimeInvalid
		if flags&flagInvalidate == 0 {
			m.infoTS.Time = r.timestamp()
		}
		m.time = m.infoTS.Time
		return &m.infoTS
	case IDInfoDst:
		m.infoDst.Prefix = r.prefix()
		m.dest = m.infoDst.Prefix
		return &m.infoDst
	case IDInfoSrc:
		s := &m.infoSrc
		r.take(4)
		copy(s.Version[:], r.take(2))
		copy(s.Vendor[:], r.take(2))
		s.Prefix = r.prefix()
		// A new source begins with a clean state (8.3.7.9.5).
		m.source = Header(*s)
		m.time = TimeInvalid
		m.unicast, m.multi = LocatorList{}, LocatorList{}
		return s
	case IDInfoReply, IDInfoReplyIP4:
		i := &m.infoReply
		i.Unicast = locatorList(r, id == IDInfoReplyIP4)
		i.Multicast = LocatorList{}
		if flags&flagMulticast != 0 {
			i.Multicast = locatorList(r, id == IDInfoReplyIP4)
		}
		m.unicast, m.multi = i.Unicast, i.Multicast
		return i
	case IDPad:
		return nil
	}
	m.skipped++
	return nil
}

// dataHeader reads what DATA and DATA_FRAG begin with. It returns where, counted by what is then left, the inline QoS
// or the payload begins.
func dataHeader(r *in, reader, writer *EntityID, sn *SequenceNumber) (left int) {
	r.u16() // extra flags
	skip := int(r.u16())
	left = len(r.b) - skip
	*reader, *writer = r.entity(), r.entity()
	*sn = r.sequence()
	r.bad = r.bad || *sn < 1 || *sn > MaxSequence
	return left
}

// inlineQoS goes on to where octetsToInlineQos points, which a later version may have moved, and takes the list.
func inlineQoS(r *in, left int, flags byte) ParameterList {
	if left < 0 || left > len(r.b) {
		r.b, r.bad = nil, true
		return ParameterList{}
	}
	r.take(len(r.b) - left)
	if flags&flagInlineQoS == 0 || r.bad {
		return ParameterList{}
	}
	l := ParameterList{Bytes: r.b, BigEndian: r.big}
	n := l.length()
	if n < 0 {
		r.b, r.bad = nil, true
		return ParameterList{}
	}
	l.Bytes = r.take(n)
	return l
}

func locatorList(r *in, ip4 bool) LocatorList {
	size := uint32(LocatorLen)
	n := uint32(1)
	if ip4 {
		size = 8
	} else {
		n = r.u32()
	}
	if n > math.MaxUint16 {
		r.bad = true
		return LocatorList{}
	}
	return LocatorList{b: r.take(int(n * size)), big: r.big, ip4: ip4}
}

// valid is 8.3.7.5.3.
func (h *Heartbeat) valid() bool {
	return h.First >= 1 && h.Last >= h.First-1 && h.Last <= MaxSequence
}
