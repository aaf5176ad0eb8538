package wire

import "fmt"

// Lengths of submessages with their headers, for who fills a datagram to a budget. What has no fixed length has a
// function.
const (
	InfoTSLen        = 12
	InfoDstLen       = 16
	InfoSrcLen       = 24
	HeartbeatLen     = 32
	HeartbeatFragLen = 28
)

// DataLen is the length of a DATA; all lengths in bytes.
func DataLen(inlineQoS, payload int) int { return 24 + inlineQoS + (payload+3)&^3 }

// DataFragLen is the length of a DATA_FRAG.
func DataFragLen(inlineQoS, payload int) int { return 36 + inlineQoS + (payload+3)&^3 }

// AckNackLen is the length of an ACKNACK whose set has so many bits.
func AckNackLen(bits uint32) int { return 28 + setLen(bits) }

// NackFragLen is the length of a NACK_FRAG whose set has so many bits.
func NackFragLen(bits uint32) int { return 32 + setLen(bits) }

// GapLen is the length of a GAP whose set has so many bits.
func GapLen(bits uint32) int { return 32 + setLen(bits) }

// Builder writes one message, submessage by submessage, into a slice that is kept from message to message. It
// allocates only when that slice must grow. A submessage that is not valid is not written, and Err says so.
type Builder struct {
	// BigEndian writes submessages in that order; one with inline QoS has the order of those.
	BigEndian bool

	w   out
	err error
}

// NewBuilder begins a message in buf, whose contents are dropped.
func NewBuilder(buf []byte, h Header) *Builder {
	b := &Builder{w: out{b: buf}}
	b.Reset(h)
	return b
}

// Reset begins another message in the same slice: what Bytes had returned is overwritten.
func (b *Builder) Reset(h Header) {
	b.w.b = h.Append(b.w.b[:0])
	b.err = nil
}

// ResetTo begins another message in buf.
func (b *Builder) ResetTo(buf []byte, h Header) {
	b.w.b = buf
	b.Reset(h)
}

// Move goes on in buf, whose contents are dropped, with the first n bytes of the message.
func (b *Builder) Move(buf []byte, n int) {
	b.w.b = append(buf[:0], b.w.b[:min(n, len(b.w.b))]...)
}

// Bytes is the message so far.
func (b *Builder) Bytes() []byte { return b.w.b }

// Len is the length of the message so far, at least HeaderLen.
func (b *Builder) Len() int { return len(b.w.b) }

// Empty says that no submessage has been written.
func (b *Builder) Empty() bool { return len(b.w.b) == HeaderLen }

// Truncate takes back what was written after the message had n bytes.
func (b *Builder) Truncate(n int) {
	if n >= HeaderLen && n <= len(b.w.b) {
		b.w.b = b.w.b[:n]
	}
}

// Err is the first reason for which a submessage has not been written: ErrInvalid or ErrTooLong.
func (b *Builder) Err() error { return b.err }

func (b *Builder) refuse(id SubmessageID, why error) {
	if b.err == nil {
		b.err = fmt.Errorf("RTPS %v not written: %w", id, why)
	}
}

// begin writes a submessage's header and returns where its body starts.
func (b *Builder) begin(id SubmessageID, flags byte, big bool) int {
	b.w.big = big
	if !big {
		flags |= 1
	}
	b.w.b = append(b.w.b, byte(id), flags, 0, 0)
	return len(b.w.b)
}

// end pads the body and writes its length.
func (b *Builder) end(start int) {
	b.w.pad(start)
	n := len(b.w.b) - start
	if n > 0xffff {
		id := SubmessageID(b.w.b[start-submessageHeaderLen])
		b.w.b = b.w.b[:start-submessageHeaderLen]
		b.refuse(id, ErrTooLong)
		return
	}
	b.w.putU16(start-2, uint16(n))
}

// Add writes any submessage.
func (b *Builder) Add(s Submessage) {
	switch s := s.(type) {
	case *Data:
		b.Data(s)
	case *DataFrag:
		b.DataFrag(s)
	case *Heartbeat:
		b.Heartbeat(*s)
	case *HeartbeatFrag:
		b.HeartbeatFrag(*s)
	case *AckNack:
		b.AckNack(s)
	case *NackFrag:
		b.NackFrag(s)
	case *Gap:
		b.Gap(s)
	case *InfoTS:
		b.InfoTS(s.Time)
	case *InfoDst:
		b.InfoDst(s.Prefix)
	case *InfoSrc:
		b.InfoSrc(Header(*s))
	case *InfoReply:
		b.InfoReply(s)
	}
}

// Data writes a DATA. The payload is padded to 4 bytes, without which Cyclone DDS calls what follows malformed.
func (b *Builder) Data(d *Data) {
	if d.SN < 1 || d.Content > KeyContent || d.Content == NoContent && len(d.Payload) > 0 {
		b.refuse(IDData, ErrInvalid)
		return
	}
	var flags byte
	switch d.Content {
	case DataContent:
		flags = flagData
	case KeyContent:
		flags = flagKey
	}
	at, ok := b.beginData(IDData, flags, d.InlineQoS)
	if !ok {
		return
	}
	b.w.entity(d.Reader)
	b.w.entity(d.Writer)
	b.w.sequence(d.SN)
	b.w.b = append(b.w.b, d.InlineQoS.Bytes...)
	b.w.b = append(b.w.b, d.Payload...)
	b.end(at)
}

// DataFrag writes a DATA_FRAG; Payload must have exactly the bytes of the fragments named.
func (b *Builder) DataFrag(d *DataFrag) {
	if n, ok := d.length(); !ok || n != len(d.Payload) || d.SN < 1 {
		b.refuse(IDDataFrag, ErrInvalid)
		return
	}
	var flags byte
	if d.Key {
		flags = flagFragKey
	}
	at, ok := b.beginData(IDDataFrag, flags, d.InlineQoS)
	if !ok {
		return
	}
	b.w.entity(d.Reader)
	b.w.entity(d.Writer)
	b.w.sequence(d.SN)
	b.w.u32(uint32(d.FirstFragment))
	b.w.u16(d.Fragments)
	b.w.u16(d.FragmentSize)
	b.w.u32(d.SampleSize)
	b.w.b = append(b.w.b, d.InlineQoS.Bytes...)
	b.w.b = append(b.w.b, d.Payload...)
	b.end(at)
}

// beginData writes the header, the extra flags and octetsToInlineQos, which count from after themselves (9.4.5.3.3).
func (b *Builder) beginData(id SubmessageID, flags byte, qos ParameterList) (int, bool) {
	big := b.BigEndian
	if !qos.Empty() {
		if qos.length() != len(qos.Bytes) {
			b.refuse(id, ErrInvalid)
			return 0, false
		}
		flags |= flagInlineQoS
		big = qos.BigEndian
	}
	to := uint16(16)
	if id == IDDataFrag {
		to = 28
	}
	at := b.begin(id, flags, big)
	b.w.u16(0)
	b.w.u16(to)
	return at, true
}

// Heartbeat writes a HEARTBEAT.
func (b *Builder) Heartbeat(h Heartbeat) {
	if !h.valid() {
		b.refuse(IDHeartbeat, ErrInvalid)
		return
	}
	var flags byte
	if h.Final {
		flags |= flagFinal
	}
	if h.Liveliness {
		flags |= flagLiveliness
	}
	at := b.begin(IDHeartbeat, flags, b.BigEndian)
	b.w.entity(h.Reader)
	b.w.entity(h.Writer)
	b.w.sequence(h.First)
	b.w.sequence(h.Last)
	b.w.u32(h.Count)
	b.end(at)
}

// HeartbeatFrag writes a HEARTBEAT_FRAG.
func (b *Builder) HeartbeatFrag(h HeartbeatFrag) {
	if h.SN < 1 || h.LastFragment < 1 {
		b.refuse(IDHeartbeatFrag, ErrInvalid)
		return
	}
	at := b.begin(IDHeartbeatFrag, 0, b.BigEndian)
	b.w.entity(h.Reader)
	b.w.entity(h.Writer)
	b.w.sequence(h.SN)
	b.w.u32(uint32(h.LastFragment))
	b.w.u32(h.Count)
	b.end(at)
}

// AckNack writes an ACKNACK.
func (b *Builder) AckNack(a *AckNack) {
	if !a.Set.valid() && !a.Set.zero() {
		b.refuse(IDAckNack, ErrInvalid)
		return
	}
	var flags byte
	if a.Final {
		flags = flagFinal
	}
	at := b.begin(IDAckNack, flags, b.BigEndian)
	b.w.entity(a.Reader)
	b.w.entity(a.Writer)
	b.w.sequenceSet(&a.Set)
	b.w.u32(a.Count)
	b.end(at)
}

// NackFrag writes a NACK_FRAG.
func (b *Builder) NackFrag(n *NackFrag) {
	if n.SN < 1 || !n.Set.valid() {
		b.refuse(IDNackFrag, ErrInvalid)
		return
	}
	at := b.begin(IDNackFrag, 0, b.BigEndian)
	b.w.entity(n.Reader)
	b.w.entity(n.Writer)
	b.w.sequence(n.SN)
	b.w.fragmentSet(&n.Set)
	b.w.u32(n.Count)
	b.end(at)
}

// Gap writes a GAP.
func (b *Builder) Gap(g *Gap) {
	if g.Start < 1 || !g.Set.valid() {
		b.refuse(IDGap, ErrInvalid)
		return
	}
	at := b.begin(IDGap, 0, b.BigEndian)
	b.w.entity(g.Reader)
	b.w.entity(g.Writer)
	b.w.sequence(g.Start)
	b.w.sequenceSet(&g.Set)
	b.end(at)
}

// InfoTS writes an INFO_TS; TimeInvalid takes back the one before.
func (b *Builder) InfoTS(t Timestamp) {
	if t == TimeInvalid {
		b.end(b.begin(IDInfoTS, flagInvalidate, b.BigEndian))
		return
	}
	at := b.begin(IDInfoTS, 0, b.BigEndian)
	b.w.timestamp(t)
	b.end(at)
}

// InfoDst writes an INFO_DST.
func (b *Builder) InfoDst(p GuidPrefix) {
	at := b.begin(IDInfoDst, 0, b.BigEndian)
	b.w.b = append(b.w.b, p[:]...)
	b.end(at)
}

// InfoSrc writes an INFO_SRC.
func (b *Builder) InfoSrc(h Header) {
	at := b.begin(IDInfoSrc, 0, b.BigEndian)
	b.w.u32(0)
	b.w.b = append(b.w.b, h.Version[0], h.Version[1], h.Vendor[0], h.Vendor[1])
	b.w.b = append(b.w.b, h.Prefix[:]...)
	b.end(at)
}

// InfoReply writes an INFO_REPLY.
func (b *Builder) InfoReply(i *InfoReply) {
	var flags byte
	if i.Multicast.Len() > 0 {
		flags = flagMulticast
	}
	at := b.begin(IDInfoReply, flags, b.BigEndian)
	b.locators(i.Unicast)
	if flags != 0 {
		b.locators(i.Multicast)
	}
	b.end(at)
}

func (b *Builder) locators(l LocatorList) {
	b.w.u32(uint32(l.Len()))
	for i := range l.Len() {
		b.w.locator(l.At(i))
	}
}

// Pad writes a PAD of n bytes in all, a multiple of 4 and at least 4.
func (b *Builder) Pad(n int) {
	if n < submessageHeaderLen || n&3 != 0 {
		b.refuse(IDPad, ErrInvalid)
		return
	}
	at := b.begin(IDPad, 0, b.BigEndian)
	for range n - submessageHeaderLen {
		b.w.b = append(b.w.b, 0)
	}
	b.end(at)
}
