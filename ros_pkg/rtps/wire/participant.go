package wire

import (
	"fmt"
	"slices"
	"time"
)

// BuiltinEndpoints says which of the protocol's endpoints a participant has (9.3.2, BuiltinEndpointSet_t).
type BuiltinEndpoints uint32

// The protocol's endpoints. Security's, from bit 16 on, have no names here.
const (
	HasSPDPWriter BuiltinEndpoints = 1 << iota
	HasSPDPReader
	HasPublicationsWriter
	HasPublicationsReader
	HasSubscriptionsWriter
	HasSubscriptionsReader
	HasParticipantMessageWriter BuiltinEndpoints = 1 << 10
	HasParticipantMessageReader BuiltinEndpoints = 1 << 11

	// HasAll is what a participant needs that does more than listen.
	HasAll = HasSPDPWriter | HasSPDPReader | HasPublicationsWriter | HasPublicationsReader | HasSubscriptionsWriter |
		HasSubscriptionsReader | HasParticipantMessageWriter | HasParticipantMessageReader
)

// DefaultLease is the lease of a participant that does not say (9.6.2.2).
const DefaultLease = 100 * time.Second

// Property is a name and a value that a participant or endpoint announces.
type Property struct{ Name, Value string }

// ParticipantData is what a participant says of itself by SPDP (8.5.3.2, 9.6.2.2).
type ParticipantData struct {
	GUID                 GUID
	Version              ProtocolVersion
	Vendor               VendorID
	Builtin              BuiltinEndpoints
	Lease                time.Duration
	MetatrafficUnicast   []Locator
	MetatrafficMulticast []Locator
	DefaultUnicast       []Locator
	DefaultMulticast     []Locator
	ExpectsInlineQoS     bool
	HasDomainID          bool // false: it did not say; then DomainID is 0
	DomainID             uint32
	DomainTag            string
	Name                 string
	UserData             []byte
	Properties           []Property
	ManualLiveliness     uint32 // count of assertions by the participant
	Secure               bool   // it announces DDS-Security tokens, which are not read

	Unknown int // parameters read that mean nothing here
	Dropped int // locators and properties beyond the bounds
}

// ParseParticipant reads the payload of a DATA(p). The result keeps nothing of it. What lacks a GUID of a participant,
// what contradicts itself or must be understood and is not, is an error.
func ParseParticipant(payload []byte) (ParticipantData, error) {
	d := ParticipantData{Lease: DefaultLease}
	if err := d.parse(payload); err != nil {
		return ParticipantData{}, fmt.Errorf("participant data: %w", err)
	}
	return d, nil
}

func (d *ParticipantData) parse(payload []byte) error {
	l, err := ParseParameterPayload(payload)
	if err != nil {
		return err
	}
	c := l.Parameters()
	for p, ok := c.Next(); ok; p, ok = c.Next() {
		r := p.in()
		switch p.ID {
		case PIDParticipantGUID:
			d.GUID = r.guid()
		case PIDProtocolVersion:
			copy(d.Version[:], r.take(2))
		case PIDVendorID:
			copy(d.Vendor[:], r.take(2))
		case PIDBuiltinEndpointSet:
			d.Builtin = BuiltinEndpoints(r.u32())
		case PIDParticipantLeaseDuration:
			d.Lease = r.duration()
		case PIDMetatrafficUnicastLocator:
			d.Dropped += addLocator(&d.MetatrafficUnicast, &r)
		case PIDMetatrafficMulticastLocator:
			d.Dropped += addLocator(&d.MetatrafficMulticast, &r)
		case PIDDefaultUnicastLocator:
			d.Dropped += addLocator(&d.DefaultUnicast, &r)
		case PIDDefaultMulticastLocator:
			d.Dropped += addLocator(&d.DefaultMulticast, &r)
		case PIDExpectsInlineQoS:
			d.ExpectsInlineQoS = r.boolean()
		case PIDDomainID:
			d.HasDomainID, d.DomainID = true, r.u32()
		case PIDDomainTag:
			d.DomainTag = r.text(MaxName)
		case PIDEntityName:
			d.Name = r.text(MaxName)
		case PIDUserData:
			d.UserData = r.userData()
		case PIDPropertyList:
			var dropped int
			d.Properties, dropped = r.properties()
			d.Dropped += dropped
		case PIDManualLivelinessCount:
			d.ManualLiveliness = r.u32()
		case PIDIdentityToken, PIDPermissionsToken:
			d.Secure = true
		case PIDBuiltinEndpointQoS, PIDParticipantEntityID, PIDGroupEntityID:
		default:
			if err := unknown(p, &d.Unknown); err != nil {
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
	switch {
	case d.GUID.Entity != EntityParticipant || d.GUID.Prefix == PrefixUnknown:
		return fmt.Errorf("no GUID of a participant: %w", ErrMalformed)
	case d.Version[0] != 0 && d.Version[0] != 2:
		return ErrNotRTPS
	}
	return nil
}

// unknown counts a parameter that means nothing here, or refuses it if it must be understood. The vendor's own flag of
// that kind binds only those who know the vendor (9.6.2.2.1).
func unknown(p Parameter, count *int) error {
	if p.MustUnderstand() && !p.VendorSpecific() {
		return fmt.Errorf("parameter 0x%04x: %w", uint16(p.ID), ErrMustUnderstand)
	}
	*count++
	return nil
}

func (r *in) boolean() bool {
	b := r.take(1)
	return len(b) == 1 && b[0] != 0
}

func (r *in) userData() []byte {
	b := r.octets()
	if len(b) > MaxUserData {
		r.bad = true
	}
	if r.bad || len(b) == 0 {
		return nil
	}
	return slices.Clone(b)
}

// addLocator reads one more locator into a list, unless it is there or the list is full. It returns how many it dropped
// for the bound. One of kind invalid is left out.
func addLocator(list *[]Locator, r *in) int {
	l := r.locator()
	switch {
	case r.bad, l.Kind == LocatorInvalid, slices.Contains(*list, l):
	case len(*list) == MaxLocators:
		return 1
	default:
		*list = append(*list, l)
	}
	return 0
}

// properties reads a sequence of names and values (DDS-Security 1.1, 7.2.1). Binary ones that may follow are left.
func (r *in) properties() (list []Property, dropped int) {
	n := r.u32()
	if uint64(n)*8 > uint64(len(r.b)) {
		r.bad = true
		return nil, 0
	}
	for i := range n {
		r.align(4)
		name := r.octets()
		r.align(4)
		value := r.octets()
		if r.bad {
			return nil, 0
		}
		if i >= MaxProperties {
			dropped++
			continue
		}
		list = append(list, Property{cString(name), cString(value)})
	}
	return list, dropped
}

func cString(b []byte) string {
	if i := slices.Index(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

// Append writes the payload of a DATA(p), little endian, encapsulation included.
func (d *ParticipantData) Append(dst []byte) []byte {
	w := NewParameterWriter(dst, false)
	w.Participant(d)
	return w.Bytes()
}

// Participant writes the payload of a DATA(p), encapsulation and sentinel included.
func (w *ParameterWriter) Participant(d *ParticipantData) {
	w.Encapsulation()
	w.Raw(PIDProtocolVersion, d.Version[:])
	w.Raw(PIDVendorID, d.Vendor[:])
	w.GUID(PIDParticipantGUID, d.GUID)
	w.Uint32(PIDBuiltinEndpointSet, uint32(d.Builtin))
	w.Duration(PIDParticipantLeaseDuration, d.Lease)
	if d.HasDomainID {
		w.Uint32(PIDDomainID, d.DomainID)
	}
	if d.DomainTag != "" {
		w.Text(PIDDomainTag, d.DomainTag)
	}
	w.locators(PIDMetatrafficUnicastLocator, d.MetatrafficUnicast)
	w.locators(PIDMetatrafficMulticastLocator, d.MetatrafficMulticast)
	w.locators(PIDDefaultUnicastLocator, d.DefaultUnicast)
	w.locators(PIDDefaultMulticastLocator, d.DefaultMulticast)
	if d.ExpectsInlineQoS {
		w.Bool(PIDExpectsInlineQoS, true)
	}
	if d.ManualLiveliness != 0 {
		w.Uint32(PIDManualLivelinessCount, d.ManualLiveliness)
	}
	if d.Name != "" {
		w.Text(PIDEntityName, d.Name)
	}
	if len(d.UserData) > 0 {
		w.Octets(PIDUserData, d.UserData)
	}
	w.properties(d.Properties)
	w.Sentinel()
}

func (w *ParameterWriter) locators(id PID, list []Locator) {
	for _, l := range list {
		w.Locator(id, l)
	}
}

func (w *ParameterWriter) properties(list []Property) {
	if len(list) == 0 {
		return
	}
	at := w.begin(PIDPropertyList)
	w.w.u32(uint32(len(list)))
	for _, p := range list {
		w.w.pad(at)
		w.w.text(p.Name)
		w.w.pad(at)
		w.w.text(p.Value)
	}
	w.end(at)
}

// AppendKey writes the payload of a DATA that ends the instance of guid: the key alone, little endian. id is
// PIDParticipantGUID for a participant, PIDEndpointGUID for an endpoint.
func AppendKey(dst []byte, id PID, guid GUID) []byte {
	w := NewParameterWriter(dst, false)
	w.Encapsulation()
	w.GUID(id, guid)
	w.Sentinel()
	return w.Bytes()
}

// ParseKey reads the GUID out of such a payload. Fast DDS sends it with all of the data as well, which is as good.
func ParseKey(payload []byte, id PID) (GUID, error) {
	l, err := ParseParameterPayload(payload)
	if err != nil {
		return GUID{}, fmt.Errorf("discovery key: %w", err)
	}
	if p, ok := l.Find(id); ok {
		if g, ok := p.GUID(); ok && !g.IsZero() {
			return g, nil
		}
	}
	return GUID{}, fmt.Errorf("discovery key: no GUID: %w", ErrMalformed)
}
