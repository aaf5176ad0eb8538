// Package stun is the Binding request and its success response of STUN (RFC 8489), and nothing else of it: a node asks how its datagrams look from
// outside, and a Base answers. There is no authentication: an answer is believed because it repeats the random transaction ID.
package stun

import (
	"encoding/binary"
	"net/netip"
)

// Lengths in bytes. A success response for IPv6 is 44 bytes for 20: the one answer of hnet that is longer than its question, so that who answers
// must limit the rate.
const (
	RequestLen  = headerLen
	SuccessLen4 = headerLen + attributeLen + 8
	SuccessLen6 = headerLen + attributeLen + 20
)

// Section numbers are those of RFC 8489.
const (
	headerLen    = 20 // §5
	attributeLen = 4  // type and length, §14
	magicCookie  = 0x2112a442

	typeRequest = 0x0001
	typeSuccess = 0x0101

	attrMappedAddress    = 0x0001
	attrIntegrity        = 0x0008
	attrIntegritySHA256  = 0x001c
	attrXORMappedAddress = 0x0020
	// Attributes from here on may be skipped by who does not know them (§14).
	firstOptional = 0x8000

	family4 = 0x01
	family6 = 0x02
)

// IsMessage tells whether a datagram is a STUN message, as far as its header shows (§5): no other check of it is done.
func IsMessage(b []byte) bool {
	return len(b) >= headerLen && b[0]&0xc0 == 0 && binary.BigEndian.Uint32(b[4:]) == magicCookie
}

// AppendRequest appends a Binding request without attributes, RequestLen bytes. The ID must be random: it is all that keeps others from answering.
func AppendRequest(dst []byte, id [12]byte) []byte {
	return appendHeader(dst, typeRequest, 0, id)
}

// ParseRequest reads a Binding request that fills b exactly. Requests with attributes that must be understood (such as CHANGE-REQUEST or those of
// authentication) are refused, and so is everything malformed.
func ParseRequest(b []byte) (id [12]byte, ok bool) {
	rest, id, ok := parseHeader(b, typeRequest)
	for ok && len(rest) > 0 {
		var kind uint16
		kind, _, rest, ok = nextAttribute(rest)
		ok = ok && kind >= firstOptional
	}
	return id, ok
}

// AppendSuccess appends the success response to the request with this ID: XOR-MAPPED-ADDRESS and nothing else, SuccessLen4 or SuccessLen6 bytes.
// An IPv4-mapped address counts as IPv4; a zone is left out; for an invalid mapped, dst is returned as it was.
func AppendSuccess(dst []byte, id [12]byte, mapped netip.AddrPort) []byte {
	addr := mapped.Addr().Unmap()
	if !addr.IsValid() {
		return dst
	}
	pad := xorPad(id)
	port := mapped.Port() ^ magicCookie>>16
	if addr.Is4() {
		dst = appendHeader(dst, typeSuccess, SuccessLen4-headerLen, id)
		dst = append(dst, 0, attrXORMappedAddress, 0, 8, 0, family4)
		dst = binary.BigEndian.AppendUint16(dst, port)
		raw := addr.As4()
		return appendXOR(dst, raw[:], pad)
	}
	dst = appendHeader(dst, typeSuccess, SuccessLen6-headerLen, id)
	dst = append(dst, 0, attrXORMappedAddress, 0, 20, 0, family6)
	dst = binary.BigEndian.AppendUint16(dst, port)
	raw := addr.As16()
	return appendXOR(dst, raw[:], pad)
}

// ParseSuccess reads a Binding success response that fills b exactly: the first XOR-MAPPED-ADDRESS counts. Other attributes are skipped, but a
// response with an unknown one that must be understood is refused (§6.3.4). The caller checks that it asked with this ID, and asked that address.
func ParseSuccess(b []byte) (id [12]byte, mapped netip.AddrPort, ok bool) {
	rest, id, ok := parseHeader(b, typeSuccess)
	for ok && len(rest) > 0 {
		var kind uint16
		var value []byte
		kind, value, rest, ok = nextAttribute(rest)
		switch {
		case !ok:
		case kind == attrXORMappedAddress && !mapped.IsValid():
			mapped, ok = xorAddress(value, id)
		case kind == attrXORMappedAddress, kind == attrMappedAddress:
		case kind == attrIntegrity, kind == attrIntegritySHA256:
			// Nothing was asked with credentials, so there is no key to check them with.
		default:
			ok = kind >= firstOptional
		}
	}
	if !ok || !mapped.IsValid() {
		return id, netip.AddrPort{}, false
	}
	return id, mapped, true
}

func appendHeader(dst []byte, kind, length uint16, id [12]byte) []byte {
	dst = binary.BigEndian.AppendUint16(dst, kind)
	dst = binary.BigEndian.AppendUint16(dst, length)
	dst = binary.BigEndian.AppendUint32(dst, magicCookie)
	return append(dst, id[:]...)
}

func parseHeader(b []byte, kind uint16) (rest []byte, id [12]byte, ok bool) {
	if !IsMessage(b) || binary.BigEndian.Uint16(b) != kind || int(binary.BigEndian.Uint16(b[2:])) != len(b)-headerLen || len(b)%4 != 0 {
		return nil, id, false
	}
	copy(id[:], b[8:])
	return b[headerLen:], id, true
}

// nextAttribute takes the first attribute off b, with its padding to a multiple of four (§14).
func nextAttribute(b []byte) (kind uint16, value, rest []byte, ok bool) {
	if len(b) < attributeLen {
		return 0, nil, nil, false
	}
	length := int(binary.BigEndian.Uint16(b[2:]))
	padded := attributeLen + (length+3)&^3
	if len(b) < padded {
		return 0, nil, nil, false
	}
	return binary.BigEndian.Uint16(b), b[attributeLen : attributeLen+length], b[padded:], true
}

// xorAddress reads the value of XOR-MAPPED-ADDRESS (§14.2). What cannot be the source of a datagram is refused.
func xorAddress(value []byte, id [12]byte) (netip.AddrPort, bool) {
	if len(value) < 4 {
		return netip.AddrPort{}, false
	}
	pad := xorPad(id)
	port := binary.BigEndian.Uint16(value[2:]) ^ magicCookie>>16
	var addr netip.Addr
	switch {
	case value[1] == family4 && len(value) == 8:
		var raw [4]byte
		for i := range raw {
			raw[i] = value[4+i] ^ pad[i]
		}
		addr = netip.AddrFrom4(raw)
	case value[1] == family6 && len(value) == 20:
		var raw [16]byte
		for i := range raw {
			raw[i] = value[4+i] ^ pad[i]
		}
		addr = netip.AddrFrom16(raw).Unmap()
	default:
		return netip.AddrPort{}, false
	}
	if port == 0 || addr.IsUnspecified() || addr.IsMulticast() {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(addr, port), true
}

// xorPad is what addresses are XORed with: the magic cookie, then the transaction ID.
func xorPad(id [12]byte) (pad [16]byte) {
	binary.BigEndian.PutUint32(pad[:], magicCookie)
	copy(pad[4:], id[:])
	return pad
}

func appendXOR(dst, raw []byte, pad [16]byte) []byte {
	for i, c := range raw {
		dst = append(dst, c^pad[i])
	}
	return dst
}
