package wire

import (
	"fmt"
	"slices"
)

// EndpointData is what a participant says of one of its writers or readers by SEDP (8.5.4.4, 9.6.2.2).
type EndpointData struct {
	GUID             GUID
	Participant      GUID // zero if it did not say
	Topic, Type      string
	QoS              QoS
	Unicast          []Locator // none: the participant's default ones
	Multicast        []Locator
	ExpectsInlineQoS bool // a reader's
	UserData         []byte
	TopicData        []byte
	GroupData        []byte
	MaxSize          uint32 // TYPE_MAX_SIZE_SERIALIZED in bytes, a writer's; 0: not said
	Name             string
	KeyHash          [16]byte
	HasKeyHash       bool
	Properties       []Property
	ContentFiltered  bool // a reader's: it filters, which a writer may leave to it
	TypeInformation  bool // it sent DDS-XTypes type information, which is not read

	Unknown int // parameters read that mean nothing here
	Dropped int // locators and properties beyond the bounds
}

// Writer says that the endpoint is a writer, by its GUID.
func (d *EndpointData) Writer() bool { return d.GUID.Entity.IsWriter() }

// ParseEndpoint reads the payload of a DATA(w), if writer is true, or DATA(r). The result keeps nothing of it. What
// lacks a GUID of such an endpoint, a topic or a type, and what must be understood and is not, is an error.
func ParseEndpoint(payload []byte, writer bool) (EndpointData, error) {
	d := EndpointData{QoS: DefaultQoS(writer)}
	if err := d.parse(payload, writer); err != nil {
		return EndpointData{}, fmt.Errorf("endpoint data: %w", err)
	}
	return d, nil
}

func (d *EndpointData) parse(payload []byte, writer bool) error {
	l, err := ParseParameterPayload(payload)
	if err != nil {
		return err
	}
	c := l.Parameters()
	for p, ok := c.Next(); ok; p, ok = c.Next() {
		r := p.in()
		switch p.ID {
		case PIDEndpointGUID:
			d.GUID = r.guid()
		case PIDParticipantGUID:
			d.Participant = r.guid()
		case PIDTopicName:
			d.Topic = r.text(MaxName)
		case PIDTypeName:
			d.Type = r.text(MaxName)
		case PIDUnicastLocator:
			d.Dropped += addLocator(&d.Unicast, &r)
		case PIDMulticastLocator:
			d.Dropped += addLocator(&d.Multicast, &r)
		case PIDExpectsInlineQoS:
			d.ExpectsInlineQoS = r.boolean()
		case PIDUserData:
			d.UserData = r.userData()
		case PIDTopicData:
			d.TopicData = r.userData()
		case PIDGroupData:
			d.GroupData = r.userData()
		case PIDTypeMaxSizeSerialized:
			d.MaxSize = r.u32()
		case PIDEntityName:
			d.Name = r.text(MaxName)
		case PIDKeyHash:
			d.HasKeyHash = copy(d.KeyHash[:], r.take(16)) == 16
		case PIDPropertyList:
			var dropped int
			d.Properties, dropped = r.properties()
			d.Dropped += dropped
		case PIDContentFilter:
			d.ContentFiltered = true
		case PIDTypeInformation, PIDTypeObject:
			d.TypeInformation = true
		case PIDProtocolVersion, PIDVendorID, PIDGroupGUID, PIDGroupEntityID, PIDTypeConsistency:
		default:
			known, err := d.QoS.parse(p)
			if err == nil && !known {
				err = unknown(p, &d.Unknown)
			}
			if err != nil {
				return err
			}
		}
		if r.bad {
			return badParameter(p.ID)
		}
	}
	if err := c.Err(); err != nil {
		return err
	}
	// Without a GUID the key hash is it (9.6.3.8).
	if d.GUID.IsZero() && d.HasKeyHash {
		d.GUID = GUIDFrom(d.KeyHash)
	}
	switch {
	case d.GUID.Prefix == PrefixUnknown, writer && !d.GUID.Entity.IsWriter(), !writer && !d.GUID.Entity.IsReader():
		return fmt.Errorf("no GUID of such an endpoint: %w", ErrMalformed)
	case !d.Participant.IsZero() && d.Participant.Prefix != d.GUID.Prefix:
		return fmt.Errorf("an endpoint of one participant in the name of another: %w", ErrMalformed)
	case d.Topic == "" || d.Type == "":
		return fmt.Errorf("no topic or no type: %w", ErrMalformed)
	}
	return nil
}

// Append writes the payload of a DATA(w) or DATA(r), little endian, encapsulation included.
func (d *EndpointData) Append(dst []byte) []byte {
	w := NewParameterWriter(dst, false)
	w.Endpoint(d)
	return w.Bytes()
}

// Endpoint writes the payload of a DATA(w) or DATA(r), as its GUID says, encapsulation and sentinel included.
func (w *ParameterWriter) Endpoint(d *EndpointData) {
	w.Encapsulation()
	w.GUID(PIDEndpointGUID, d.GUID)
	if !d.Participant.IsZero() {
		w.GUID(PIDParticipantGUID, d.Participant)
	}
	w.Text(PIDTopicName, d.Topic)
	w.Text(PIDTypeName, d.Type)
	w.locators(PIDUnicastLocator, d.Unicast)
	w.locators(PIDMulticastLocator, d.Multicast)
	w.QoS(&d.QoS, d.Writer())
	if d.ExpectsInlineQoS {
		w.Bool(PIDExpectsInlineQoS, true)
	}
	if d.MaxSize != 0 {
		w.Uint32(PIDTypeMaxSizeSerialized, d.MaxSize)
	}
	if d.HasKeyHash {
		w.Raw(PIDKeyHash, d.KeyHash[:])
	}
	if d.Name != "" {
		w.Text(PIDEntityName, d.Name)
	}
	for _, o := range []struct {
		id PID
		b  []byte
	}{{PIDUserData, d.UserData}, {PIDTopicData, d.TopicData}, {PIDGroupData, d.GroupData}} {
		if len(o.b) > 0 {
			w.Octets(o.id, o.b)
		}
	}
	w.properties(d.Properties)
	w.Sentinel()
}

// Clone returns a copy that shares nothing.
func (d *EndpointData) Clone() EndpointData {
	c := *d
	c.Unicast, c.Multicast = slices.Clone(d.Unicast), slices.Clone(d.Multicast)
	c.UserData, c.TopicData, c.GroupData = slices.Clone(d.UserData), slices.Clone(d.TopicData), slices.Clone(d.GroupData)
	c.QoS.Partitions, c.QoS.Representations = slices.Clone(d.QoS.Partitions), slices.Clone(d.QoS.Representations)
	c.Properties = slices.Clone(d.Properties)
	return c
}
