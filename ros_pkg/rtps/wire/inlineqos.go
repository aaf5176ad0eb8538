package wire

import "fmt"

// StatusInfo is what a DATA says of its instance (9.6.3.9).
type StatusInfo uint32

// Bits of StatusInfo.
const (
	StatusDisposed     StatusInfo = 1
	StatusUnregistered StatusInfo = 2
	StatusFiltered     StatusInfo = 4
)

// SampleIdentity names one sample of one writer; in a reply, the request it answers.
type SampleIdentity struct {
	Writer GUID
	SN     SequenceNumber
}

// InlineQoS is what the inline QoS of a DATA means here. Coherent sets, directed writes, original writers and policies
// are not used by ROS 2 and passed over.
type InlineQoS struct {
	Related    SampleIdentity
	HasRelated bool
	KeyHash    [16]byte
	HasKeyHash bool
	Status     StatusInfo

	Unknown int // parameters read that mean nothing here
}

// ParseInlineQoS reads the inline QoS of a DATA, without allocating unless it fails. The empty list is valid.
//
// A related sample identity is taken from 0x0083, which the standard for calls over DDS has and current Fast DDS uses,
// or from 0x800f, which older Fast DDS uses; from 0x0083 if both are there.
func ParseInlineQoS(l ParameterList) (InlineQoS, error) {
	var q InlineQoS
	if l.Empty() {
		return q, nil
	}
	standard := false
	c := l.Parameters()
	for p, ok := c.Next(); ok; p, ok = c.Next() {
		r := p.in()
		switch p.ID {
		case PIDRelatedSampleIdentity, PIDFastRelatedSampleIdentity:
			// 0x800f may be anything in the list of another vendor: what is not of this length is not it.
			if p.ID == PIDFastRelatedSampleIdentity && (standard || len(p.Value) != GUIDLen+8) {
				continue
			}
			q.Related = SampleIdentity{r.guid(), r.sequence()}
			q.HasRelated = true
			standard = p.ID == PIDRelatedSampleIdentity
		case PIDKeyHash:
			q.HasKeyHash = copy(q.KeyHash[:], r.take(16)) == 16
		case PIDStatusInfo: // an array of octets: the same in both byte orders
			b := r.take(4)
			if len(b) == 4 {
				q.Status = StatusInfo(b[0])<<24 | StatusInfo(b[1])<<16 | StatusInfo(b[2])<<8 | StatusInfo(b[3])
			}
		default:
			if p.MustUnderstand() && !p.VendorSpecific() {
				return InlineQoS{}, errInlineQoS
			}
			q.Unknown++
		}
		if r.bad {
			return InlineQoS{}, badParameter(p.ID)
		}
	}
	if err := c.Err(); err != nil {
		return InlineQoS{}, err
	}
	return q, nil
}

var errInlineQoS = fmt.Errorf("inline QoS: %w", ErrMustUnderstand)

// AppendInlineQoS writes the list, little endian with its sentinel, and nothing if it would be empty. A related sample
// identity is written under both numbers: a Fast DDS of Humble knows only 0x800f, one of Jazzy only 0x0083.
func AppendInlineQoS(dst []byte, q InlineQoS) []byte {
	start := len(dst)
	w := NewParameterWriter(dst, false)
	if q.HasRelated {
		w.SampleIdentity(PIDRelatedSampleIdentity, q.Related)
		w.SampleIdentity(PIDFastRelatedSampleIdentity, q.Related)
	}
	if q.HasKeyHash {
		w.Raw(PIDKeyHash, q.KeyHash[:])
	}
	if q.Status != 0 {
		s := q.Status
		w.Raw(PIDStatusInfo, []byte{byte(s >> 24), byte(s >> 16), byte(s >> 8), byte(s)})
	}
	if len(w.w.b) == start {
		return dst
	}
	w.Sentinel()
	return w.Bytes()
}

// SampleIdentity writes a sample's identity.
func (w *ParameterWriter) SampleIdentity(id PID, s SampleIdentity) {
	at := w.begin(id)
	w.w.guid(s.Writer)
	w.w.sequence(s.SN)
	w.end(at)
}

// EndedGUID returns which participant or endpoint a DATA on a discovery topic says is gone. id is as for [AppendKey].
// Cyclone DDS sends the key as payload, Fast DDS the key hash, which for discovery data is the GUID (9.6.3.8).
func EndedGUID(d *Data, q *InlineQoS, id PID) (GUID, bool) {
	if len(d.Payload) > 0 {
		if g, err := ParseKey(d.Payload, id); err == nil {
			return g, true
		}
	}
	if q.HasKeyHash {
		g := GUIDFrom(q.KeyHash)
		return g, !g.IsZero()
	}
	return GUID{}, false
}
