package wire

import "fmt"

// SubmessageID is the kind of a submessage (9.4.5.1.1).
type SubmessageID byte

// Submessages of RTPS. 0x80 and above belong to vendors.
const (
	IDPad           SubmessageID = 0x01
	IDAckNack       SubmessageID = 0x06
	IDHeartbeat     SubmessageID = 0x07
	IDGap           SubmessageID = 0x08
	IDInfoTS        SubmessageID = 0x09
	IDInfoSrc       SubmessageID = 0x0c
	IDInfoReplyIP4  SubmessageID = 0x0d
	IDInfoDst       SubmessageID = 0x0e
	IDInfoReply     SubmessageID = 0x0f
	IDNackFrag      SubmessageID = 0x12
	IDHeartbeatFrag SubmessageID = 0x13
	IDData          SubmessageID = 0x15
	IDDataFrag      SubmessageID = 0x16
)

// Submessage is one of *Data, *DataFrag, *Heartbeat, *HeartbeatFrag, *AckNack, *NackFrag, *Gap, *InfoTS, *InfoDst,
// *InfoSrc and *InfoReply. One that a [MessageReader] returned is the reader's and valid until its next call; the
// slices in it belong to the datagram. Copy what is kept.
type Submessage interface{ ID() SubmessageID }

// Content says what a DATA or DATA_FRAG carries after its inline QoS (9.4.5.3.1).
type Content byte

// What a DATA carries. Fragments are of data or of a key.
const (
	NoContent Content = iota
	DataContent
	KeyContent
)

// Data is DATA: one sample, or the end of an instance (8.3.7.2, 9.4.5.3).
type Data struct {
	Reader, Writer EntityID
	SN             SequenceNumber // at least 1
	InlineQoS      ParameterList  // empty: none
	Content        Content
	Payload        []byte // encapsulation header included, up to 3 bytes of padding after it
}

// DataFrag is DATA_FRAG: fragments FirstFragment .. FirstFragment+Fragments-1 of one sample (8.3.7.3, 9.4.5.4).
type DataFrag struct {
	Reader, Writer EntityID
	SN             SequenceNumber // at least 1
	FirstFragment  FragmentNumber // at least 1
	Fragments      uint16         // at least 1
	FragmentSize   uint16         // bytes, at least 1; all fragments but the sample's last have it
	SampleSize     uint32         // bytes; a stranger's claim
	InlineQoS      ParameterList
	Key            bool
	Payload        []byte // of exactly these fragments, without padding
}

// FragmentCount is the number of fragments of the whole sample.
func (d *DataFrag) FragmentCount() uint32 { return fragmentCount(d.SampleSize, d.FragmentSize) }

// Offset is where Payload lies in the sample.
func (d *DataFrag) Offset() uint32 { return uint32(d.FirstFragment-1) * uint32(d.FragmentSize) }

func fragmentCount(sample uint32, fragment uint16) uint32 {
	if fragment == 0 {
		return 0
	}
	return uint32((uint64(sample) + uint64(fragment) - 1) / uint64(fragment))
}

// length is how many bytes the fragments named have, and whether they are of this sample.
func (d *DataFrag) length() (int, bool) {
	total := fragmentCount(d.SampleSize, d.FragmentSize)
	last := uint64(d.FirstFragment) + uint64(d.Fragments) - 1
	if d.FirstFragment < 1 || d.Fragments < 1 || last > uint64(total) {
		return 0, false
	}
	end := min(last*uint64(d.FragmentSize), uint64(d.SampleSize))
	return int(end - uint64(d.FirstFragment-1)*uint64(d.FragmentSize)), true
}

// Heartbeat is HEARTBEAT: what a writer has (8.3.7.5, 9.4.5.6). Last is First-1 where it has nothing.
type Heartbeat struct {
	Reader, Writer EntityID
	First, Last    SequenceNumber
	Count          uint32
	Final          bool // no answer is asked for
	Liveliness     bool // the writer asserts its liveliness
}

// HeartbeatFrag is HEARTBEAT_FRAG: which fragments of a sample a writer has (8.3.7.6, 9.4.5.7).
type HeartbeatFrag struct {
	Reader, Writer EntityID
	SN             SequenceNumber
	LastFragment   FragmentNumber // at least 1
	Count          uint32
}

// AckNack is ACKNACK: a reader has all below Set.Base and asks for what is in Set (8.3.7.1, 9.4.5.2).
// The set of Fast DDS's first one, which is empty at 0, is read as empty at 1.
type AckNack struct {
	Reader, Writer EntityID
	Set            SequenceNumberSet
	Count          uint32
	Final          bool // no answer is asked for
}

// NackFrag is NACK_FRAG: a reader asks for fragments (8.3.7.11, 9.4.5.13).
type NackFrag struct {
	Reader, Writer EntityID
	SN             SequenceNumber
	Set            FragmentNumberSet
	Count          uint32
}

// Gap is GAP: Start .. Set.Base-1 and what is in Set will never come (8.3.7.4, 9.4.5.5).
type Gap struct {
	Reader, Writer EntityID
	Start          SequenceNumber
	Set            SequenceNumberSet
}

// InfoTS is INFO_TS: the source time of what follows (8.3.7.10, 9.4.5.11); TimeInvalid for none.
type InfoTS struct{ Time Timestamp }

// InfoDst is INFO_DST: whom the rest of the message is for (8.3.7.7, 9.4.5.8); zero for everyone.
type InfoDst struct{ Prefix GuidPrefix }

// InfoSrc is INFO_SRC: whom the rest of the message comes from (8.3.7.9, 9.4.5.10).
type InfoSrc struct {
	Version ProtocolVersion
	Vendor  VendorID
	Prefix  GuidPrefix
}

// InfoReply is INFO_REPLY or INFO_REPLY_IP4: where answers go (8.3.7.8, 9.4.5.9, 9.4.5.14). They are a stranger's
// wish: an answer sent there can be aimed at a third party.
type InfoReply struct {
	Unicast   LocatorList
	Multicast LocatorList
}

// LocatorList is a list of locators in a message. It is read in place.
type LocatorList struct {
	b        []byte
	big, ip4 bool
}

// NewLocatorList writes a list for an InfoReply.
func NewLocatorList(locators ...Locator) LocatorList {
	w := out{}
	for _, l := range locators {
		w.locator(l)
	}
	return LocatorList{b: w.b}
}

// Len counts the locators.
func (l LocatorList) Len() int {
	if l.ip4 {
		return len(l.b) / 8
	}
	return len(l.b) / LocatorLen
}

// At returns locator i, 0 <= i < Len.
func (l LocatorList) At(i int) Locator {
	r := in{big: l.big}
	if l.ip4 {
		r.b = l.b[i*8 : i*8+8]
		// LocatorUDPv4_t: the address as a number, then the port (9.3.2).
		a, port := r.u32(), r.u32()
		v := Locator{Kind: LocatorUDPv4, Port: port}
		v.Addr[12], v.Addr[13], v.Addr[14], v.Addr[15] = byte(a>>24), byte(a>>16), byte(a>>8), byte(a)
		return v
	}
	r.b = l.b[i*LocatorLen : (i+1)*LocatorLen]
	return r.locator()
}

// The kinds of submessages.
func (*Data) ID() SubmessageID          { return IDData }
func (*DataFrag) ID() SubmessageID      { return IDDataFrag }
func (*Heartbeat) ID() SubmessageID     { return IDHeartbeat }
func (*HeartbeatFrag) ID() SubmessageID { return IDHeartbeatFrag }
func (*AckNack) ID() SubmessageID       { return IDAckNack }
func (*NackFrag) ID() SubmessageID      { return IDNackFrag }
func (*Gap) ID() SubmessageID           { return IDGap }
func (*InfoTS) ID() SubmessageID        { return IDInfoTS }
func (*InfoDst) ID() SubmessageID       { return IDInfoDst }
func (*InfoSrc) ID() SubmessageID       { return IDInfoSrc }
func (*InfoReply) ID() SubmessageID     { return IDInfoReply }

var submessageNames = map[SubmessageID]string{
	IDPad: "PAD", IDAckNack: "ACKNACK", IDHeartbeat: "HEARTBEAT", IDGap: "GAP", IDInfoTS: "INFO_TS", IDInfoSrc: "INFO_SRC",
	IDInfoReplyIP4: "INFO_REPLY_IP4", IDInfoDst: "INFO_DST", IDInfoReply: "INFO_REPLY", IDNackFrag: "NACK_FRAG",
	IDHeartbeatFrag: "HEARTBEAT_FRAG", IDData: "DATA", IDDataFrag: "DATA_FRAG",
}

// String is the name in the specification, or the number.
func (i SubmessageID) String() string {
	if name, ok := submessageNames[i]; ok {
		return name
	}
	return fmt.Sprintf("submessage 0x%02x", byte(i))
}
