package tun

import (
	"encoding/binary"
	"math/bits"
)

// Protocol numbers of the transports that superpackets are made of.
const (
	protocolTCP = 6
	protocolUDP = 17
)

// Checksum returns the one's complement sum (RFC 1071) of initial and of b read
// as big-endian 16-bit words, folded to 16 bits and not inverted. An odd last
// byte counts as followed by zero. The checksum of a packet is the inverse of
// the sum over the pseudo-header and the packet with its checksum field zero.
func Checksum(initial uint16, b []byte) uint16 {
	// The sum commutes with swapping the bytes of every word, so words are
	// added as they lie in memory and only the result is swapped.
	sum := uint64(bits.ReverseBytes16(initial))
	if wide, n := sumWide(b); n > 0 {
		sum += wide
		b = b[n:]
	}
	// A sum that carries is at most 2^64-2, so the carry can be added back.
	var carry uint64
	for len(b) >= 128 {
		w := (*[128]byte)(b)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(w[0:]), 0)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(w[8:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(w[16:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(w[24:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(w[32:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(w[40:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(w[48:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(w[56:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(w[64:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(w[72:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(w[80:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(w[88:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(w[96:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(w[104:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(w[112:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(w[120:]), carry)
		sum += carry
		b = b[128:]
	}
	for len(b) >= 8 {
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(b), 0)
		sum += carry
		b = b[8:]
	}
	if len(b) > 0 {
		var tail [8]byte
		copy(tail[:], b)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(tail[:]), 0)
		sum += carry
	}
	return bits.ReverseBytes16(fold(sum))
}

// PseudoHeader returns the one's complement sum of a pseudo-header (RFC 8200
// section 8.1, RFC 9293 section 3.1): both addresses, 4 or 16 bytes each, the
// protocol and the length in bytes of transport header and payload.
func PseudoHeader(protocol uint8, src, dst []byte, length int) uint16 {
	sum := uint64(Checksum(Checksum(0, src), dst))
	return fold(sum + uint64(protocol) + uint64(uint32(length)))
}

// fold reduces a one's complement sum to 16 bits.
func fold(sum uint64) uint16 {
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	return uint16(sum)
}
