package main

import (
	"github.com/hnet-robotics/hnet_bridge/overlay/base/wire"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// maxTraced is how many packets of one robot are printed.
const maxTraced = 1000

// trafficLen is what a sealed datagram of the traffic takes: IPv6 and UDP headers and its content, padded to 16 bytes, with WireGuard's own 32.
const trafficLen = 160 + 32

// ofTraffic tells the traffic's packets from those that are traced.
func ofTraffic(p lab.Packet) bool {
	return p.PayloadLen == trafficLen || p.PayloadLen == trafficLen+wire.RelayHeaderLen
}
