package wire

import (
	"encoding/binary"
	"fmt"
	"time"
)

// PID names a parameter (9.6.2.2.2, table 9.12 and what vendors and later standards added).
type PID uint16

// Flags of a PID (9.6.2.2.1).
const (
	PIDVendorSpecific PID = 0x8000
	PIDMustUnderstand PID = 0x4000
)

// Parameters.
const (
	PIDPad                         PID = 0x0000
	PIDSentinel                    PID = 0x0001
	PIDParticipantLeaseDuration    PID = 0x0002
	PIDTimeBasedFilter             PID = 0x0004
	PIDTopicName                   PID = 0x0005
	PIDOwnershipStrength           PID = 0x0006
	PIDTypeName                    PID = 0x0007
	PIDDomainID                    PID = 0x000f
	PIDProtocolVersion             PID = 0x0015
	PIDVendorID                    PID = 0x0016
	PIDReliability                 PID = 0x001a
	PIDLiveliness                  PID = 0x001b
	PIDDurability                  PID = 0x001d
	PIDDurabilityService           PID = 0x001e
	PIDOwnership                   PID = 0x001f
	PIDPresentation                PID = 0x0021
	PIDDeadline                    PID = 0x0023
	PIDDestinationOrder            PID = 0x0025
	PIDLatencyBudget               PID = 0x0027
	PIDPartition                   PID = 0x0029
	PIDLifespan                    PID = 0x002b
	PIDUserData                    PID = 0x002c
	PIDGroupData                   PID = 0x002d
	PIDTopicData                   PID = 0x002e
	PIDUnicastLocator              PID = 0x002f
	PIDMulticastLocator            PID = 0x0030
	PIDDefaultUnicastLocator       PID = 0x0031
	PIDMetatrafficUnicastLocator   PID = 0x0032
	PIDMetatrafficMulticastLocator PID = 0x0033
	PIDManualLivelinessCount       PID = 0x0034
	PIDContentFilter               PID = 0x0035
	PIDHistory                     PID = 0x0040
	PIDResourceLimits              PID = 0x0041
	PIDExpectsInlineQoS            PID = 0x0043
	PIDDefaultMulticastLocator     PID = 0x0048
	PIDTransportPriority           PID = 0x0049
	PIDParticipantGUID             PID = 0x0050
	PIDParticipantEntityID         PID = 0x0051
	PIDGroupGUID                   PID = 0x0052
	PIDGroupEntityID               PID = 0x0053
	PIDContentFilterInfo           PID = 0x0055
	PIDCoherentSet                 PID = 0x0056
	PIDDirectedWrite               PID = 0x0057
	PIDBuiltinEndpointSet          PID = 0x0058
	PIDPropertyList                PID = 0x0059
	PIDEndpointGUID                PID = 0x005a
	PIDTypeMaxSizeSerialized       PID = 0x0060
	PIDOriginalWriterInfo          PID = 0x0061
	PIDEntityName                  PID = 0x0062
	PIDKeyHash                     PID = 0x0070
	PIDStatusInfo                  PID = 0x0071
	PIDTypeObject                  PID = 0x0072
	PIDDataRepresentation          PID = 0x0073
	PIDTypeConsistency             PID = 0x0074
	PIDTypeInformation             PID = 0x0075
	PIDBuiltinEndpointQoS          PID = 0x0077
	PIDRelatedSampleIdentity       PID = 0x0083
	PIDIdentityToken               PID = 0x1001
	PIDPermissionsToken            PID = 0x1002
	PIDDomainTag                   PID = 0x4014

	// Fast DDS's own related sample identity, all that it knew before 2.7 or so.
	PIDFastRelatedSampleIdentity PID = 0x800f
)

// ParameterList is a parameter list on the wire (9.4.2.11), from the first parameter to the sentinel.
type ParameterList struct {
	Bytes     []byte
	BigEndian bool
}

// Parameter is one of a list. Value belongs to the list's bytes; its length is a multiple of 4.
type Parameter struct {
	ID        PID
	Value     []byte
	BigEndian bool
}

// Encapsulations (10.5, and DDS-XTypes 1.3 table 60), the first two bytes of a payload.
const (
	EncapsulationCDRBE   = 0x0000
	EncapsulationCDRLE   = 0x0001
	EncapsulationPLCDRBE = 0x0002
	EncapsulationPLCDRLE = 0x0003
)

// ParseParameterPayload returns the list in the payload of discovery data, which begins with its encapsulation.
func ParseParameterPayload(payload []byte) (ParameterList, error) {
	if len(payload) < 4 {
		return ParameterList{}, fmt.Errorf("parameter list without encapsulation: %w", ErrMalformed)
	}
	switch binary.BigEndian.Uint16(payload) {
	case EncapsulationPLCDRBE:
		return ParameterList{Bytes: payload[4:], BigEndian: true}, nil
	case EncapsulationPLCDRLE:
		return ParameterList{Bytes: payload[4:]}, nil
	}
	return ParameterList{}, fmt.Errorf("parameter list in encapsulation %02x%02x: %w", payload[0], payload[1], ErrMalformed)
}

// Empty says that there is no list.
func (l ParameterList) Empty() bool { return len(l.Bytes) == 0 }

// length is where the sentinel ends, -1 if there is none in bounds.
func (l ParameterList) length() int {
	c := l.Parameters()
	for {
		if _, ok := c.Next(); !ok {
			break
		}
	}
	if c.bad || !c.ended {
		return -1
	}
	return len(l.Bytes) - len(c.rest)
}

// Parameters begins to read the list.
func (l ParameterList) Parameters() ParameterCursor {
	return ParameterCursor{rest: l.Bytes, big: l.BigEndian}
}

// ParameterCursor reads a list without allocating.
type ParameterCursor struct {
	rest            []byte
	big, ended, bad bool
}

// Next returns the next parameter, padding left out. It is false at the sentinel and at the first that is not valid.
func (c *ParameterCursor) Next() (Parameter, bool) {
	for !c.ended && !c.bad {
		r := in{b: c.rest, big: c.big}
		id, n := PID(r.u16()), int(r.u16())
		if r.bad {
			c.bad = true
			break
		}
		if id == PIDSentinel { // its length says nothing
			c.rest, c.ended = r.b, true
			break
		}
		v := r.take(n)
		if r.bad || n&3 != 0 {
			c.bad = true
			break
		}
		c.rest = r.b
		if id == PIDPad {
			continue
		}
		return Parameter{ID: id, Value: v, BigEndian: c.big}, true
	}
	return Parameter{}, false
}

var errList = fmt.Errorf("parameter list without an end, or with a length that is no multiple of 4: %w", ErrMalformed)

// Err says why Next stopped before a sentinel, or nil.
func (c *ParameterCursor) Err() error {
	if c.bad {
		return errList
	}
	return nil
}

// Find returns the first parameter of an id.
func (l ParameterList) Find(id PID) (Parameter, bool) {
	c := l.Parameters()
	for p, ok := c.Next(); ok; p, ok = c.Next() {
		if p.ID == id {
			return p, true
		}
	}
	return Parameter{}, false
}

// VendorSpecific says that the meaning is the vendor's.
func (p Parameter) VendorSpecific() bool { return p.ID&PIDVendorSpecific != 0 }

// MustUnderstand says that a list with this parameter is to be ignored by who does not know it.
func (p Parameter) MustUnderstand() bool { return p.ID&PIDMustUnderstand != 0 }

func (p Parameter) in() in { return in{b: p.Value, big: p.BigEndian} }

// GUID reads a value that is a GUID.
func (p Parameter) GUID() (GUID, bool) {
	r := p.in()
	g := r.guid()
	return g, !r.bad
}

// Locator reads a value that is a locator.
func (p Parameter) Locator() (Locator, bool) {
	r := p.in()
	l := r.locator()
	return l, !r.bad
}

// Uint32 reads a value that is a number.
func (p Parameter) Uint32() (uint32, bool) {
	r := p.in()
	v := r.u32()
	return v, !r.bad
}

// Duration reads a value that is a duration; a negative one is none.
func (p Parameter) Duration() (time.Duration, bool) {
	r := p.in()
	d := r.duration()
	return d, !r.bad
}

// Text reads a value that is a string, of at most limit bytes.
func (p Parameter) Text(limit int) (string, bool) {
	r := p.in()
	s := r.text(limit)
	return s, !r.bad
}

// Octets reads a value that is a sequence of octets. The result belongs to the list's bytes.
func (p Parameter) Octets() ([]byte, bool) {
	r := p.in()
	b := r.octets()
	return b, !r.bad
}

func (r *in) octets() []byte {
	n := r.u32()
	if uint64(n) > uint64(len(r.b)) {
		r.bad = true
		return nil
	}
	return r.take(int(n))
}

// text reads a CDR string: the length counts a zero byte at the end. One inside, which C would read as the end, and a
// string longer than limit, are refused; a missing zero is not.
func (r *in) text(limit int) string {
	b := r.octets()
	if n := len(b); n > 0 && b[n-1] == 0 {
		b = b[:n-1]
	}
	if len(b) > limit {
		r.bad = true
		return ""
	}
	for _, c := range b {
		if c == 0 {
			r.bad = true
			return ""
		}
	}
	return string(b)
}

// ParameterWriter appends parameters. Its zero value writes little endian into a new slice.
type ParameterWriter struct {
	w out
}

// NewParameterWriter appends to dst.
func NewParameterWriter(dst []byte, bigEndian bool) ParameterWriter {
	return ParameterWriter{out{b: dst, big: bigEndian}}
}

// Encapsulation writes the four bytes that the payload of discovery data begins with.
func (w *ParameterWriter) Encapsulation() {
	id := byte(EncapsulationPLCDRLE)
	if w.w.big {
		id = EncapsulationPLCDRBE
	}
	w.w.b = append(w.w.b, 0, id, 0, 0)
}

// begin writes a header, whose length end fills in.
func (w *ParameterWriter) begin(id PID) int {
	w.w.u16(uint16(id))
	w.w.u16(0)
	return len(w.w.b)
}

// end pads the value and writes its length. What does not fit the 16 bits of a length is left out.
func (w *ParameterWriter) end(start int) {
	w.w.pad(start)
	n := len(w.w.b) - start
	if n > 0xffff {
		w.w.b = w.w.b[:start-4]
		return
	}
	w.w.putU16(start-2, uint16(n))
}

// Raw writes a value as it is, padded. One longer than 65,532 bytes is left out, here and below.
func (w *ParameterWriter) Raw(id PID, value []byte) {
	at := w.begin(id)
	w.w.b = append(w.w.b, value...)
	w.end(at)
}

// Uint32 writes a number.
func (w *ParameterWriter) Uint32(id PID, v uint32) {
	at := w.begin(id)
	w.w.u32(v)
	w.end(at)
}

// Bool writes a boolean.
func (w *ParameterWriter) Bool(id PID, v bool) {
	var b [4]byte
	if v {
		b[0] = 1
	}
	w.Raw(id, b[:])
}

// GUID writes a GUID.
func (w *ParameterWriter) GUID(id PID, g GUID) {
	at := w.begin(id)
	w.w.guid(g)
	w.end(at)
}

// Locator writes a locator.
func (w *ParameterWriter) Locator(id PID, l Locator) {
	at := w.begin(id)
	w.w.locator(l)
	w.end(at)
}

// Duration writes a duration.
func (w *ParameterWriter) Duration(id PID, d time.Duration) {
	at := w.begin(id)
	w.w.duration(d)
	w.end(at)
}

// Text writes a string.
func (w *ParameterWriter) Text(id PID, s string) {
	at := w.begin(id)
	w.w.text(s)
	w.end(at)
}

// Octets writes a sequence of octets.
func (w *ParameterWriter) Octets(id PID, b []byte) {
	at := w.begin(id)
	w.w.u32(uint32(len(b)))
	w.w.b = append(w.w.b, b...)
	w.end(at)
}

// Sentinel ends the list.
func (w *ParameterWriter) Sentinel() {
	w.w.u16(uint16(PIDSentinel))
	w.w.u16(0)
}

// Bytes is everything written, after what the writer was given to append to.
func (w *ParameterWriter) Bytes() []byte { return w.w.b }

func (w *out) text(s string) {
	w.u32(uint32(len(s) + 1))
	w.b = append(w.b, s...)
	w.b = append(w.b, 0)
}
