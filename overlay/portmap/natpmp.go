package portmap

import (
	"encoding/binary"
	"net/netip"
)

const (
	pmpErrorLen    = 8
	pmpExternalLen = 12
	pmpMapLen      = 16
)

// appendExternalPMP appends a NAT-PMP request for the outer address (RFC 6886 section 3.2).
func appendExternalPMP(dst []byte) []byte { return append(dst, pmpVersion, opExternal) }

// appendMapPMP appends a NAT-PMP request for a UDP mapping (RFC 6886 section 3.3). Suggested port and lifetime zero remove it.
func appendMapPMP(dst []byte, internal, suggest uint16, lifetime uint32) []byte {
	dst = append(dst, pmpVersion, opMap, 0, 0)
	dst = binary.BigEndian.AppendUint16(dst, internal)
	dst = binary.BigEndian.AppendUint16(dst, suggest)
	return binary.BigEndian.AppendUint32(dst, lifetime)
}

// parsePMP reads a response to one of the above. The caller has checked that there are 4 bytes.
func parsePMP(b []byte) (answer, bool) {
	a := answer{version: pmpVersion, op: b[1] &^ opAnswer, result: binary.BigEndian.Uint16(b[2:])}
	if len(b) >= pmpErrorLen {
		a.epoch = binary.BigEndian.Uint32(b[4:])
	}
	switch {
	case a.result != 0:
		return a, true
	case a.op == opExternal && len(b) >= pmpExternalLen:
		a.external = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[8:])), 0)
		return a, true
	case a.op == opMap && len(b) >= pmpMapLen:
		a.internal = binary.BigEndian.Uint16(b[8:])
		a.external = netip.AddrPortFrom(netip.Addr{}, binary.BigEndian.Uint16(b[10:]))
		a.lifetime = binary.BigEndian.Uint32(b[12:])
		a.mapped = true
		return a, true
	}
	return answer{}, false
}

// pmpRefusals are the error results of RFC 6886 section 3.5.
var pmpRefusals = map[uint16]string{
	1: "the router speaks neither PCP nor NAT-PMP as we know them",
	2: "the router does not allow it: port mapping is switched off there or not for this host",
	3: "the router has no connection to the Internet at present",
	4: "the router has no free mappings at present",
	5: "the router does not map ports",
}
