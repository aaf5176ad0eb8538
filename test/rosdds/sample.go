package rosdds

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
)

// sample is {uint64 number, uint32 crc, sequence<octet> data} in plain CDR.
type sample struct {
	number uint64
	crc    uint32
	data   []byte
}

func makeSample(number uint64, size int) sample {
	x := number*0x9e3779b97f4a7c15 ^ 1
	data := make([]byte, size)
	for i := range data {
		x = x*6364136223846793005 + 1442695040888963407
		data[i] = byte(x >> 33)
	}
	return sample{number, crc32.ChecksumIEEE(data), data}
}

// append writes the sample without encapsulation.
func (s sample) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, s.number)
	b = binary.LittleEndian.AppendUint32(b, s.crc)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(s.data)))
	return append(b, s.data...)
}

var errPayload = errors.New("not a payload of the test")

// body takes the encapsulation off; all programs write little endian.
func body(payload []byte) ([]byte, error) {
	if len(payload) < 4 || payload[0] != 0 || payload[1] != 1 {
		return nil, errPayload
	}
	return payload[4:], nil
}

func parseSample(b []byte) (s sample, err error) {
	if len(b) < 16 {
		return s, errPayload
	}
	s.number, s.crc = binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint32(b[8:])
	n := binary.LittleEndian.Uint32(b[12:])
	if uint64(n) > uint64(len(b)-16) {
		return s, errPayload
	}
	s.data = b[16 : 16+n]
	return s, nil
}
