package lan

import (
	"encoding/binary"

	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
)

// Size is the length in bytes of every announcement. All have the same size, whatever they carry, so an answer is never
// larger than its cause; with IPv6 and UDP headers it fits the smallest MTU that IPv6 allows (1280).
const Size = 1192

// MaxRecord is the longest signed contact record, in bytes, that fits into an announcement.
const MaxRecord = signatureOffset - recordOffset

// MaxEchoes is the number of nonces one announcement can echo.
const MaxEchoes = 16

const (
	announcementType    = 0x4c
	announcementVersion = 1

	lengthOffset    = 2
	numberOffset    = 4
	instanceOffset  = 8
	nonceOffset     = 16
	keyOffset       = 24
	echoCountOffset = 56
	reservedOffset  = 57
	provenOffset    = 58
	echoesOffset    = 60
	recordOffset    = echoesOffset + MaxEchoes*8
	signatureOffset = Size - 64

	signatureLabel = "hnet lan announcement v1"
)

// nonce is a random challenge that its maker recognises when it is echoed; all zero is not a nonce.
type nonce [8]byte

// echo repeats a nonce that the announcer heard. Proven says that the announcer has itself been echoed by that nonce's maker.
type echo struct {
	nonce  nonce
	proven bool
}

// announcement is one datagram taken apart. Its slices point into the datagram.
type announcement struct {
	raw      []byte
	number   uint32
	instance [8]byte
	nonce    nonce
	key      identity.SigningKey
	echoes   [MaxEchoes]echo
	count    int
	record   []byte
}

// parse takes an announcement apart and accepts only the canonical form. It checks neither signature nor record.
func parse(b []byte) (announcement, bool) {
	if len(b) != Size || b[0] != announcementType || b[1] != announcementVersion || b[reservedOffset] != 0 {
		return announcement{}, false
	}
	length := int(binary.BigEndian.Uint16(b[lengthOffset:]))
	if length == 0 || length > MaxRecord || !zero(b[recordOffset+length:signatureOffset]) {
		return announcement{}, false
	}
	a := announcement{
		raw:      b,
		number:   binary.BigEndian.Uint32(b[numberOffset:]),
		instance: [8]byte(b[instanceOffset:]),
		nonce:    nonce(b[nonceOffset:]),
		key:      identity.SigningKey(b[keyOffset:]),
		count:    int(b[echoCountOffset]),
		record:   b[recordOffset : recordOffset+length],
	}
	proven := binary.BigEndian.Uint16(b[provenOffset:])
	if a.nonce == (nonce{}) || a.count > MaxEchoes || proven>>a.count != 0 || !zero(b[echoesOffset+8*a.count:recordOffset]) {
		return announcement{}, false
	}
	for i := range a.count {
		e := echo{nonce(b[echoesOffset+8*i:]), proven&(1<<i) != 0}
		if e.nonce == (nonce{}) {
			return announcement{}, false
		}
		a.echoes[i] = e
	}
	return a, true
}

// marshal encodes and signs a. It uses every field but raw; the record has at most MaxRecord bytes.
func (a *announcement) marshal(sign func(message []byte) []byte) []byte {
	b := make([]byte, Size)
	b[0], b[1] = announcementType, announcementVersion
	binary.BigEndian.PutUint16(b[lengthOffset:], uint16(len(a.record)))
	binary.BigEndian.PutUint32(b[numberOffset:], a.number)
	copy(b[instanceOffset:], a.instance[:])
	copy(b[nonceOffset:], a.nonce[:])
	copy(b[keyOffset:], a.key[:])
	b[echoCountOffset] = byte(a.count)
	var proven uint16
	for i, e := range a.echoes[:a.count] {
		copy(b[echoesOffset+8*i:], e.nonce[:])
		if e.proven {
			proven |= 1 << i
		}
	}
	binary.BigEndian.PutUint16(b[provenOffset:], proven)
	copy(b[recordOffset:], a.record)
	copy(b[signatureOffset:], sign(signedMessage(b)))
	return b
}

// verify checks the signature by the announcement's key.
func (a *announcement) verify() bool {
	return a.key.Verify(signedMessage(a.raw), a.raw[signatureOffset:])
}

// signedMessage is what the signature of the announcement b covers.
func signedMessage(b []byte) []byte {
	return append([]byte(signatureLabel), b[:signatureOffset]...)
}

func zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
