package engine

import (
	"net/netip"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/tun"
)

// Multicast decides what becomes of multicast packets on hnet0. The Engine carries copies to single peers; it knows no groups. Its methods are
// called in the device's and the sockets' loops, several at once: they must not block, keep or change what they are given, or call the Engine but by send.
type Multicast interface {
	// Outbound takes a multicast IP packet of this host, with all checksums complete. What it gives to send goes to that peer as other packets do, if the
	// peer may talk; send copies, so its packet is the caller's again afterwards.
	Outbound(now time.Time, packet []byte, send func(peer netip.Addr, packet []byte))
	// Inbound takes a multicast packet of a peer, whose source is the peer's own address, and returns what to write to hnet0, nothing perhaps. That must
	// stay as it is until the next call by the same goroutine.
	Inbound(now time.Time, peer netip.Addr, packet []byte) (deliver [][]byte)
}

// multicaster cuts the multicast packets of one goroutine and sends their copies.
type multicaster struct {
	out   *outbound
	now   time.Time
	split tun.Splitter
	copy  []byte
	send  func(netip.Addr, []byte)
}

// multicast gives a multicast superpacket to who knows the groups.
func (o *outbound) multicast(now time.Time, superpacket []byte) {
	m := o.e.cfg.Multicast
	if m == nil {
		return
	}
	if o.copies == nil {
		o.copies = &multicaster{out: o}
		o.copies.send = o.copies.one
	}
	c := o.copies
	c.now = now
	if err := c.split.Reset(superpacket); err != nil {
		o.e.stats.Malformed.Add(1)
		return
	}
	for c.split.Next() {
		m.Outbound(now, c.split.Packet(), c.send)
	}
}

// one sends a copy of a packet to one peer.
func (c *multicaster) one(peer netip.Addr, packet []byte) {
	c.copy = append(append(c.copy[:0], make([]byte, tun.HeaderLen)...), packet...)
	c.out.carry(c.now, peer, c.copy)
}

// multicast writes to hnet0 what is to be delivered of a peer's multicast packet.
func (in *inbound) multicast(now time.Time, p *peer, packet []byte) {
	deliver := in.e.cfg.Multicast.Inbound(now, p.address, packet)
	if len(deliver) == 0 {
		return
	}
	in.flush() // what came before goes before
	for _, b := range deliver {
		if err := in.up.Add(b); err != nil && !closed(err) {
			in.e.stats.WriteErrors.Add(1)
		}
	}
	in.flush()
}
