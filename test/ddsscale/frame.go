package main

import (
	"encoding/binary"
	"net/netip"

	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// datagram reads a frame of hnet0, which has no link header: where a UDP datagram over IPv6 goes.
func datagram(f lab.Frame) (to netip.AddrPort, ok bool) {
	const udp = 17
	b := f.Data
	if len(b) < ipUDP || b[0]>>4 != 6 || b[6] != udp {
		return to, false
	}
	return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[24:40])), binary.BigEndian.Uint16(b[42:])), true
}
