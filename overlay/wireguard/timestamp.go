package wireguard

import (
	"bytes"
	"encoding/binary"
	"time"
)

// Timestamp is a TAI64N label (§5.4.2): eight bytes of seconds, four of nanoseconds, big endian, so that bytes compare as times do.
type Timestamp [12]byte

// tai64Epoch is the TAI64 label of the Unix epoch, with the ten leap seconds of 1972 that every implementation adds and no more.
const tai64Epoch = 0x400000000000000a

// timestampMask clears the bits of the nanoseconds that carry no time: every implementation whitens them, so that a handshake does not tell the
// sender's clock precisely. Two stamps differ only if they are at least 1<<24 ns (16.8 ms) apart.
const timestampMask = 1<<24 - 1

// featureMagic marks the low 24 bits of the nanoseconds as ours. 16 bits of it make a chance hit by an implementation
// that does not whiten rare, and harmless: the handshake fails and is tried again with another time.
const featureMagic = 0x686e << 8

// Features is what an initiator's daemon offers, carried where stock peers see only time of no consequence.
type Features uint8

const (
	// FeatureNative says that the sender is a daemon of ours.
	FeatureNative Features = 1 << iota
	// FeatureAES offers AES-256-GCM as the transport cipher.
	FeatureAES
)

func newTimestamp(t time.Time, f Features) (ts Timestamp) {
	binary.BigEndian.PutUint64(ts[:], tai64Epoch+uint64(t.Unix()))
	ns := uint32(t.Nanosecond()) &^ timestampMask
	if f != 0 {
		ns |= featureMagic | uint32(f)
	}
	binary.BigEndian.PutUint32(ts[8:], ns)
	return ts
}

func (ts Timestamp) features() Features {
	ns := binary.BigEndian.Uint32(ts[8:])
	if ns&(timestampMask&^0xff) != featureMagic {
		return 0
	}
	return Features(ns)
}

// after reports whether ts is later than other in the bits that carry time.
func (ts Timestamp) after(other Timestamp) bool {
	ts[9], ts[10], ts[11] = 0, 0, 0
	other[9], other[10], other[11] = 0, 0, 0
	return bytes.Compare(ts[:], other[:]) > 0
}
