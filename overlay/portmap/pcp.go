package portmap

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"
)

// Ports of PCP and NAT-PMP: servers answer on serverPort, and announce to clientPort (RFC 6887 section 19.1).
const (
	serverPort = 5351
	clientPort = 5350
)

const (
	pcpVersion = 2
	pmpVersion = 0

	opAnnounce = 0 // PCP
	opExternal = 0 // NAT-PMP: asks for the outer address
	opMap      = 1 // UDP, in NAT-PMP
	opAnswer   = 0x80

	pcpHeaderLen = 24
	pcpMapLen    = pcpHeaderLen + 36
	pcpMaxLen    = 1100 // RFC 6887 section 7

	protocolUDP = 17

	resultUnsupportedVersion = 1 // the same in both
)

// nonce tells a client's mapping from those of others (RFC 6887 section 11.1).
type nonce [12]byte

// answer is a response of a PCP or NAT-PMP server. What the version and operation do not carry is zero.
type answer struct {
	version  byte
	op       byte
	result   uint16
	epoch    uint32 // seconds; not in all errors of NAT-PMP
	lifetime uint32 // seconds: of the mapping, or of the error

	nonce    nonce
	protocol byte
	internal uint16
	external netip.AddrPort // of an answer to opExternal: with port 0
	mapped   bool           // nonce to external are there
}

// appendAnnounce appends a PCP ANNOUNCE request (RFC 6887 section 14.1).
func appendAnnounce(dst []byte, client netip.Addr) []byte {
	return appendHeader(dst, opAnnounce, 0, client)
}

// appendMap appends a PCP MAP request for UDP (RFC 6887 section 11.1). A suggestion without address or port leaves that to the
// server; a lifetime of zero removes the mapping.
func appendMap(dst []byte, client netip.Addr, n nonce, internal uint16, suggest netip.AddrPort, lifetime uint32) []byte {
	dst = appendHeader(dst, opMap, lifetime, client)
	dst = append(dst, n[:]...)
	dst = append(dst, protocolUDP, 0, 0, 0)
	dst = binary.BigEndian.AppendUint16(dst, internal)
	dst = binary.BigEndian.AppendUint16(dst, suggest.Port())
	address := suggest.Addr()
	switch {
	case address.IsValid():
	case client.Unmap().Is4():
		address = netip.IPv4Unspecified()
	default:
		address = netip.IPv6Unspecified()
	}
	b := address.As16()
	return append(dst, b[:]...)
}

func appendHeader(dst []byte, op byte, lifetime uint32, client netip.Addr) []byte {
	dst = append(dst, pcpVersion, op, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, lifetime)
	b := client.As16()
	return append(dst, b[:]...)
}

// parseAnswer reads a response of either protocol.
func parseAnswer(b []byte) (answer, bool) {
	if len(b) < 4 || len(b) > pcpMaxLen || b[1]&opAnswer == 0 {
		return answer{}, false
	}
	switch b[0] {
	case pmpVersion:
		return parsePMP(b)
	case pcpVersion:
		return parsePCP(b)
	}
	// Another version: all that can be understood is that this one is not (RFC 6887 section 9).
	a := answer{version: b[0], op: b[1] &^ opAnswer, result: uint16(b[3])}
	if a.result != resultUnsupportedVersion {
		return answer{}, false
	}
	return a, true
}

func parsePCP(b []byte) (answer, bool) {
	if len(b) < pcpHeaderLen || len(b)%4 != 0 {
		return answer{}, false
	}
	a := answer{
		version:  pcpVersion,
		op:       b[1] &^ opAnswer,
		result:   uint16(b[3]),
		lifetime: binary.BigEndian.Uint32(b[4:]),
		epoch:    binary.BigEndian.Uint32(b[8:]),
	}
	if a.op != opMap {
		return a, true
	}
	if len(b) < pcpMapLen {
		if a.result == 0 {
			return answer{}, false
		}
		return a, true
	}
	a.mapped = true
	copy(a.nonce[:], b[24:])
	a.protocol = b[36]
	a.internal = binary.BigEndian.Uint16(b[40:])
	address := netip.AddrFrom16([16]byte(b[44:60])).Unmap()
	a.external = netip.AddrPortFrom(address, binary.BigEndian.Uint16(b[42:]))
	return a, true
}

// pcpRefusals are the error results of RFC 6887 section 7.4, as a person should read them.
var pcpRefusals = map[uint16]string{
	2:  "the router does not allow it: port mapping is switched off there or not for this host",
	3:  "the router found the request malformed",
	4:  "the router does not map ports",
	5:  "the router does not know a required option",
	6:  "the router found an option malformed",
	7:  "the router has no connection to the Internet at present",
	8:  "the router has no free mappings at present",
	9:  "the router does not map UDP ports",
	10: "this host has too many mappings on the router",
	11: "the router cannot give that outer port",
	12: "the router sees this host under another address: there is a NAT between",
	13: "the router found too many filters",
}

// refusal is a router's clear no.
type refusal struct{ why string }

func (r *refusal) Error() string { return r.why }

func refuse(table map[uint16]string, result uint16) error {
	why, ok := table[result]
	if !ok {
		why = fmt.Sprintf("the router refuses with result %d", result)
	}
	return &refusal{why}
}

// epoch follows a server's clock, which starts anew when the server has lost its mappings.
type epoch struct {
	known  bool
	server uint32
	at     time.Time
}

// note takes in a server's time and tells whether the server has kept its state since the last one: RFC 6887 section 8.5, which is
// stricter than RFC 6886 section 3.6, at the price of a request too many.
func (e *epoch) note(now time.Time, server uint32) (kept bool) {
	before := *e
	*e = epoch{known: true, server: server, at: now}
	if !before.known {
		return true
	}
	if uint64(server)+1 < uint64(before.server) {
		return false
	}
	ours := max(int64(now.Sub(before.at)/time.Second), 0)
	theirs := int64(server) - int64(before.server)
	return ours+2 >= theirs-theirs/16 && theirs+2 >= ours-ours/16
}
