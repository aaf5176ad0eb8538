package engine

import (
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/fragment"
	"github.com/hnet-robotics/hnet_bridge/overlay/inet4"
	"github.com/hnet-robotics/hnet_bridge/overlay/underlay"
	"github.com/hnet-robotics/hnet_bridge/overlay/wireguard"
)

// Messages of our own inside the tunnel. Their first byte is below 0x10, where no IP version begins; stock peers drop them, and none is
// sent to a peer that has not shown that it is one of our daemons. Integers are big endian; unknown types and longer messages are ignored.
//
//	0x01 piece       see package fragment
//	0x02 hello       0x02, version (1), 14 bytes zero: "I am an hnet daemon", after each handshake
//	0x03 probe       0x03, flags (1), 2 bytes zero, sequence number (4), 8 bytes zero, any number of zeros: the size is what a probe of the MTU asks about
//	0x04 probe reply 0x04, the probe's bytes 1 to 15; it goes back the way the probe came
//	0x05 endpoints   0x05, flags (1), mapping (1), count (1), 12 bytes zero, then count times: endpoint (18). Where the sender may be found
//	0x06 pace        0x06, 7 bytes zero, report (32, see package pace): what arrived on the path that it comes back by
//	0x08 ipv4        see package inet4
const (
	innerFragment   = fragment.Type
	innerHello      = 0x02
	innerProbe      = 0x03
	innerProbeReply = 0x04
	innerEndpoints  = 0x05
	innerPace       = 0x06
	innerIPv4       = inet4.Type

	innerLen     = 16
	helloVersion = 1
)

func hello() []byte {
	b := make([]byte, innerLen)
	b[0], b[1] = innerHello, helloVersion
	return b
}

// inner reads a message of our own, which came the way that m tells.
func (in *inbound) inner(now time.Time, p *peer, b []byte, m *underlay.Message) {
	if len(b) < innerLen {
		in.e.stats.Malformed.Add(1)
		return
	}
	at := in.path(m)
	switch b[0] {
	case innerHello:
		in.native(now, p)
	case innerProbe:
		in.native(now, p)
		in.probed(now, p, at, b)
	case innerProbeReply:
		in.native(now, p)
		in.probeReply(now, p, at, b)
	case innerEndpoints:
		in.native(now, p)
		in.endpoints(now, p, b)
	case innerPace:
		in.native(now, p)
		in.paced(now, p, at, b, m.Age)
	case innerIPv4:
		in.native(now, p)
		if f := in.e.cfg.IPv4Message; f != nil {
			f(now, p.address, b)
		}
	default:
		in.e.stats.Unknown.Add(1)
	}
}

// native notes that the peer is one of our own daemons: the hello may have been lost, and any of these messages shows it.
func (in *inbound) native(now time.Time, p *peer) {
	p.mu.Lock()
	known := p.machine == nil || p.chooses()
	p.mu.Unlock()
	if known {
		return
	}
	contact, _ := in.e.cfg.Directory.ByAddress(p.address)
	in.with(now, p, func() wireguard.Todo {
		p.machine.SetNative()
		p.native(in.e, now, contact)
		return 0
	})
}
