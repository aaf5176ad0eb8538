package spdp

import (
	"net/netip"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// source is a participant, of this host or of a peer's, as local ones hear of it.
type source struct {
	header  wire.Header
	sn      wire.SequenceNumber
	domain  uint16
	via     families // by which it is reached
	release Release
	gone    bool
	message []byte // what they are told; never changed, but replaced
	fast    []byte // what Fast DDS is told in its place; nil: the same
}

// say makes the message an announcement, under the participant's own name and without INFO_DST, else Cyclone DDS would
// not answer.
func (s *source) say(payload []byte) {
	b := wire.NewBuilder(make([]byte, 0, wire.HeaderLen+wire.DataLen(0, len(payload))), s.header)
	b.Data(&wire.Data{Writer: wire.EntitySPDPWriter, SN: s.sn, Content: wire.DataContent, Payload: payload})
	s.message = b.Bytes()
}

// end makes the message the participant's end: with the key as Cyclone DDS reads it. For Fast DDS, which warns of keys
// longer than their hash, it is the hash alone.
func (s *source) end() {
	s.gone = true
	guid := wire.GUID{Prefix: s.header.Prefix, Entity: wire.EntityParticipant}
	d := wire.Data{
		Reader: wire.EntitySPDPReader, Writer: wire.EntitySPDPWriter,
		SN: s.sn + 1, // as the participant itself would: Fast DDS takes nothing that it has had
		InlineQoS: wire.ParameterList{Bytes: wire.AppendInlineQoS(nil, wire.InlineQoS{
			KeyHash: guid.Bytes(), HasKeyHash: true, Status: wire.StatusDisposed | wire.StatusUnregistered,
		})},
	}
	b := wire.NewBuilder(nil, s.header)
	b.Data(&d)
	s.fast = b.Bytes()
	d.Content, d.Payload = wire.KeyContent, wire.AppendKey(nil, wire.PIDParticipantGUID, guid)
	b = wire.NewBuilder(nil, s.header)
	b.Data(&d)
	s.message = b.Bytes()
}

// to is the message for a participant of a vendor.
func (s *source) to(vendor wire.VendorID) []byte {
	if vendor == wire.VendorFastDDS && s.fast != nil {
		return s.fast
	}
	return s.message
}

// probeLease is how long a probe is remembered by who heard it: a participant asked again later answers again.
const probeLease = 10 * time.Second

// probe writes an announcement of the relay itself for a domain, with nothing to it but that it wants to hear others.
func probe(prefix wire.GuidPrefix, own netip.Addr, domain uint16) []byte {
	here := []wire.Locator{wire.LocatorFrom(netip.AddrPortFrom(own, LocalPort))}
	d := wire.ParticipantData{
		GUID: wire.GUID{Prefix: prefix, Entity: wire.EntityParticipant}, Version: wire.Version, Vendor: ownVendor,
		Builtin: wire.HasSPDPWriter | wire.HasSPDPReader, Lease: probeLease, MetatrafficUnicast: here, DefaultUnicast: here,
		HasDomainID: true, DomainID: uint32(domain), Name: "hnet discovery relay",
	}
	b := wire.NewBuilder(nil, wire.Header{Version: wire.Version, Vendor: ownVendor, Prefix: prefix})
	b.Data(&wire.Data{Writer: wire.EntitySPDPWriter, SN: 1, Content: wire.DataContent, Payload: d.Append(nil)})
	return b.Bytes()
}
