package lan

import (
	"encoding/binary"

	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
)

// Size is the length in bytes of every announcement but notices, which nobody answers and which are shorter. What is answered
// has the same size as the answer, whatever the two carry, so an answer is never larger than its cause; with IPv6 and UDP
// headers it fits the smallest MTU that IPv6 allows (1280).
const Size = 1192

// MaxRecord is the longest signed contact record, in bytes, that fits into an announcement.
const MaxRecord = Size - signatureLength - echoesOffset - MaxEchoes*8

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
	flagsOffset     = 57
	provenOffset    = 58
	echoesOffset    = 60
	signatureLength = 64

	flagNotice = 1

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
	notice   bool // not to be answered
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
	if len(b) < echoesOffset || b[0] != announcementType || b[1] != announcementVersion || b[flagsOffset]&^flagNotice != 0 {
		return announcement{}, false
	}
	length, count := int(binary.BigEndian.Uint16(b[lengthOffset:])), int(b[echoCountOffset])
	if length == 0 || length > MaxRecord || count > MaxEchoes {
		return announcement{}, false
	}
	notice := b[flagsOffset]&flagNotice != 0
	record := echoesOffset + 8*count
	if len(b) != size(notice, count, length) || !zero(b[record+length:len(b)-signatureLength]) {
		return announcement{}, false
	}
	a := announcement{
		raw:      b,
		notice:   notice,
		number:   binary.BigEndian.Uint32(b[numberOffset:]),
		instance: [8]byte(b[instanceOffset:]),
		nonce:    nonce(b[nonceOffset:]),
		key:      identity.SigningKey(b[keyOffset:]),
		count:    count,
		record:   b[record : record+length],
	}
	proven := binary.BigEndian.Uint16(b[provenOffset:])
	if a.nonce == (nonce{}) || proven>>a.count != 0 {
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

// size is the length of an announcement.
func size(notice bool, echoes, record int) int {
	if notice {
		return echoesOffset + 8*echoes + record + signatureLength
	}
	return Size
}

// marshal encodes and signs a. It uses every field but raw; the record has at most MaxRecord bytes.
func (a *announcement) marshal(sign func(message []byte) []byte) []byte {
	b := make([]byte, size(a.notice, a.count, len(a.record)))
	if a.notice {
		b[flagsOffset] = flagNotice
	}
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
	copy(b[echoesOffset+8*a.count:], a.record)
	copy(b[len(b)-signatureLength:], sign(signedMessage(b)))
	return b
}

// verify checks the signature by the announcement's key.
func (a *announcement) verify() bool {
	return a.key.Verify(signedMessage(a.raw), a.raw[len(a.raw)-signatureLength:])
}

// signedMessage is what the signature of the announcement b covers.
func signedMessage(b []byte) []byte {
	return append([]byte(signatureLabel), b[:len(b)-signatureLength]...)
}

func zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
