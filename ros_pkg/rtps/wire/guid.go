package wire

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// ProtocolVersion is the version of RTPS, major and minor (8.3.5.3).
type ProtocolVersion [2]byte

// Version is what a message of ours claims. 2.3 is what Fast DDS claims; Cyclone DDS 0.10 claims 2.1.
var Version = ProtocolVersion{2, 3}

// VendorID names an implementation (8.3.5.2).
type VendorID [2]byte

// Vendors known by name.
var (
	VendorUnknown  = VendorID{0, 0}
	VendorRTI      = VendorID{1, 0x01}
	VendorOpenDDS  = VendorID{1, 0x03}
	VendorFastDDS  = VendorID{1, 0x0f}
	VendorCyclone  = VendorID{1, 0x10}
	VendorGurum    = VendorID{1, 0x11}
	VendorRustDDS  = VendorID{1, 0x12}
	VendorDustDDS  = VendorID{1, 0x14}
	vendorNameList = map[VendorID]string{
		VendorUnknown: "unknown", VendorRTI: "RTI Connext", VendorOpenDDS: "OpenDDS", VendorFastDDS: "Fast DDS",
		VendorCyclone: "Cyclone DDS", VendorGurum: "GurumDDS", VendorRustDDS: "RustDDS", VendorDustDDS: "Dust DDS",
	}
)

// String is the vendor's product, or its number.
func (v VendorID) String() string {
	if name, ok := vendorNameList[v]; ok {
		return name
	}
	return fmt.Sprintf("vendor %02x.%02x", v[0], v[1])
}

// GuidPrefix identifies a participant (8.2.4.1). Fast DDS takes two prefixes that begin alike, with 01 0f and the same
// host bytes, for one host: a prefix of ours must not begin 01 0f.
type GuidPrefix [12]byte

// PrefixUnknown is the prefix that means nobody in particular.
var PrefixUnknown GuidPrefix

// String writes the prefix in hexadecimal.
func (p GuidPrefix) String() string { return hex.EncodeToString(p[:]) }

// EntityID identifies an entity in its participant (8.2.4.2): 24 bits of key and the kind in the lowest byte.
type EntityID uint32

// Entity ids of the protocol's own endpoints (9.3.1.3); DDS-Security's are not here.
const (
	EntityUnknown     EntityID = 0
	EntityParticipant EntityID = 0x000001c1

	EntitySEDPTopicsWriter         EntityID = 0x000002c2
	EntitySEDPTopicsReader         EntityID = 0x000002c7
	EntitySEDPPublicationsWriter   EntityID = 0x000003c2
	EntitySEDPPublicationsReader   EntityID = 0x000003c7
	EntitySEDPSubscriptionsWriter  EntityID = 0x000004c2
	EntitySEDPSubscriptionsReader  EntityID = 0x000004c7
	EntitySPDPWriter               EntityID = 0x000100c2
	EntitySPDPReader               EntityID = 0x000100c7
	EntityParticipantMessageWriter EntityID = 0x000200c2
	EntityParticipantMessageReader EntityID = 0x000200c7
)

// Kinds of user-defined entities (9.3.1.2).
const (
	KindWriterWithKey = 0x02
	KindWriterNoKey   = 0x03
	KindReaderNoKey   = 0x04
	KindReaderWithKey = 0x07
)

// MakeEntityID makes the id of a user-defined entity from the lower 24 bits of key and its kind.
func MakeEntityID(key uint32, kind byte) EntityID { return EntityID(key<<8 | uint32(kind)) }

// Kind is the lowest byte.
func (e EntityID) Kind() byte { return byte(e) }

// Builtin says that the entity belongs to the protocol, not to a user.
func (e EntityID) Builtin() bool { return e.Kind()&0xc0 == 0xc0 }

// IsWriter says that the kind is a writer's, of a user or built in.
func (e EntityID) IsWriter() bool {
	k := e.Kind() & 0x3f
	return k == KindWriterWithKey || k == KindWriterNoKey
}

// IsReader says that the kind is a reader's, of a user or built in.
func (e EntityID) IsReader() bool {
	k := e.Kind() & 0x3f
	return k == KindReaderWithKey || k == KindReaderNoKey
}

// String writes the id in hexadecimal.
func (e EntityID) String() string { return fmt.Sprintf("%08x", uint32(e)) }

// GUID identifies an entity (8.2.4). It can be a map's key.
type GUID struct {
	Prefix GuidPrefix
	Entity EntityID
}

// GUIDLen is the length of a GUID on the wire, in bytes.
const GUIDLen = 16

// Bytes is the GUID on the wire, which is the same in both byte orders.
func (g GUID) Bytes() (b [GUIDLen]byte) {
	copy(b[:12], g.Prefix[:])
	binary.BigEndian.PutUint32(b[12:], uint32(g.Entity))
	return b
}

// GUIDFrom reads a GUID.
func GUIDFrom(b [GUIDLen]byte) GUID {
	return GUID{GuidPrefix(b[:12]), EntityID(binary.BigEndian.Uint32(b[12:]))}
}

// IsZero says that the GUID names nobody.
func (g GUID) IsZero() bool { return g == GUID{} }

// String writes prefix and entity in hexadecimal, with a dot between them.
func (g GUID) String() string { return g.Prefix.String() + "." + g.Entity.String() }
