package engine

import (
	"net/netip"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/lane"
)

// Lane orders what waits for a path, see package lane.
type Lane = lane.Lane

// The lanes.
const (
	ByDSCP = lane.ByDSCP
	Urgent = lane.Urgent
	Normal = lane.Normal
	Bulk   = lane.Bulk
)

// Treatment is what an Inspector wants done with a packet. The zero Treatment is that of all packets without an Inspector: lane by DSCP, one path.
type Treatment = lane.Treatment

// Inspector looks at packets in the clear. One belongs to one goroutine and need not be safe for concurrent use. Its methods are on the fast path:
// they must not keep or change what they are given, nor block, nor call the Engine.
type Inspector interface {
	// Outbound sees what this host sends to a peer, once for each superpacket: tun.HeaderLen bytes of virtio_net_hdr and an IP packet, which stands for
	// several where the header says so. It is called before the packet is sealed or waits.
	Outbound(now time.Time, peer netip.Addr, superpacket []byte) Treatment
	// Inbound sees one IP packet of a peer, as it was opened, before it goes to hnet0.
	Inbound(now time.Time, peer netip.Addr, packet []byte)
}

// inspector makes one for the goroutine that calls it, nil if there is none to make.
func (e *Engine) inspector() Inspector {
	if e.cfg.Inspect == nil {
		return nil
	}
	return e.cfg.Inspect()
}
