package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
)

// The layout, big endian (docs/protocol.md, Contact record):
//
//	 0  1  version, 1
//	 1  1  flags: 1 = relay, the others zero
//	 2 32  Ed25519 public key
//	34  8  sequence number
//	42  4  lifetime in seconds
//	46  1  number of endpoints
//	47  1  number of Bases
//	48     endpoints: 1 byte 4 or 6, then 4 or 16 bytes of address, then 2 of port
//	       Bases: 16 bytes of overlay address each
//	       2 bytes length of the extension, then the extension: signed, and ignored by this version
//	       64 bytes Ed25519 signature of the label and of all bytes before
const (
	version      = 1
	flagRelay    = 1
	headerLen    = 48
	maxEndpoint  = 1 + 16 + 2
	baseLen      = 16
	signatureLen = 64

	// MaxExtension bounds the part of a record that is reserved for later versions, in bytes. With it the longest record fits a LAN
	// announcement.
	MaxExtension = 448
	// MaxLen is the length of the longest record, in bytes.
	MaxLen = headerLen + MaxEndpoints*maxEndpoint + MaxBases*baseLen + 2 + MaxExtension + signatureLen

	label = "hnet contact record v1"
)

// Sign sets r.Key to that of id and returns the record as it travels. It fails if a field is out of its bounds.
func (r *Record) Sign(id *identity.Identity) ([]byte, error) {
	return r.sign(id, nil)
}

func (r *Record) sign(id *identity.Identity, extension []byte) ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("cannot sign a contact record: %w", err)
	}
	r.Key = id.SigningKey()
	b := append(make([]byte, 0, len(label)+MaxLen), label...)
	b = append(b, version, r.flags())
	b = append(b, r.Key[:]...)
	b = binary.BigEndian.AppendUint64(b, r.Sequence)
	b = binary.BigEndian.AppendUint32(b, uint32(r.Lifetime/time.Second))
	b = append(b, byte(len(r.Endpoints)), byte(len(r.Bases)))
	for _, e := range r.Endpoints {
		b = append(b, family(e.Addr()))
		b = append(b, e.Addr().AsSlice()...)
		b = binary.BigEndian.AppendUint16(b, e.Port())
	}
	for _, base := range r.Bases {
		b = append(b, base.AsSlice()...)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(extension)))
	b = append(b, extension...)
	return append(b, id.Sign(b)...)[len(label):], nil
}

func (r *Record) flags() byte {
	if r.Relay {
		return flagRelay
	}
	return 0
}

func family(a netip.Addr) byte {
	if a.Is4() {
		return 4
	}
	return 6
}

// Parse reads a record that fills b exactly, and checks its bounds, its key and its signature. There is one encoding
// of each record; everything else is refused. The result does not share memory with b.
func Parse(b []byte) (Record, error) {
	if len(b) > MaxLen {
		return Record{}, fmt.Errorf("bad contact record: %d bytes, %d at most", len(b), MaxLen)
	}
	r, err := decode(b)
	if err != nil {
		return Record{}, fmt.Errorf("bad contact record: %w", err)
	}
	if _, err := r.Key.WireGuard(); err != nil {
		return Record{}, fmt.Errorf("bad contact record: %w", err)
	}
	body, signature := b[:len(b)-signatureLen], b[len(b)-signatureLen:]
	if !r.Key.Verify(append([]byte(label), body...), signature) {
		return Record{}, errSignature
	}
	return r, nil
}

var errTruncated = errors.New("truncated")

// decode reads all but the signature, whose room it checks.
func decode(b []byte) (Record, error) {
	rest := reader{b: b}
	header := rest.take(headerLen)
	if header == nil {
		return Record{}, errTruncated
	}
	if header[0] != version {
		return Record{}, fmt.Errorf("version %d is unknown to this program", header[0])
	}
	if header[1]&^flagRelay != 0 {
		return Record{}, fmt.Errorf("flags %#02x are unknown to version %d", header[1], version)
	}
	endpoints, bases := int(header[46]), int(header[47])
	if endpoints > MaxEndpoints || bases > MaxBases {
		return Record{}, fmt.Errorf("%d endpoints and %d Bases, %d and %d at most", endpoints, bases, MaxEndpoints, MaxBases)
	}
	r := Record{
		Key:      identity.SigningKey(header[2:34]),
		Sequence: binary.BigEndian.Uint64(header[34:]),
		Lifetime: time.Duration(binary.BigEndian.Uint32(header[42:])) * time.Second,
		Relay:    header[1]&flagRelay != 0,
	}
	for range endpoints {
		e, err := rest.endpoint()
		if err != nil {
			return Record{}, err
		}
		r.Endpoints = append(r.Endpoints, e)
	}
	for range bases {
		raw := rest.take(baseLen)
		if raw == nil {
			return Record{}, errTruncated
		}
		r.Bases = append(r.Bases, netip.AddrFrom16([16]byte(raw)))
	}
	length := rest.take(2)
	if length == nil {
		return Record{}, errTruncated
	}
	extension := int(binary.BigEndian.Uint16(length))
	if extension > MaxExtension {
		return Record{}, fmt.Errorf("extension of %d bytes, %d at most", extension, MaxExtension)
	}
	switch want := extension + signatureLen; {
	case len(rest.b) < want:
		return Record{}, errTruncated
	case len(rest.b) > want:
		return Record{}, fmt.Errorf("%d bytes too many", len(rest.b)-want)
	}
	return r, r.check()
}

type reader struct{ b []byte }

// take returns the next n bytes, nil if there are fewer.
func (r *reader) take(n int) []byte {
	if len(r.b) < n {
		return nil
	}
	head := r.b[:n]
	r.b = r.b[n:]
	return head
}

func (r *reader) endpoint() (netip.AddrPort, error) {
	kind := r.take(1)
	if kind == nil {
		return netip.AddrPort{}, errTruncated
	}
	var length int
	switch kind[0] {
	case 4:
		length = 4
	case 6:
		length = 16
	default:
		return netip.AddrPort{}, fmt.Errorf("endpoint of family %d", kind[0])
	}
	raw := r.take(length + 2)
	if raw == nil {
		return netip.AddrPort{}, errTruncated
	}
	addr, _ := netip.AddrFromSlice(raw[:length])
	return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(raw[length:])), nil
}
