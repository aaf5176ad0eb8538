package multicast

import (
	"net/netip"
	"slices"
	"sync/atomic"
	"time"
)

// Forwarder decides which multicast packets go where. It is an engine.Multicast; its methods may be called by several
// goroutines at once. [Run] keeps it up to date; before that nothing passes.
type Forwarder struct {
	table   atomic.Pointer[table]
	out, in *limit
	changed chan struct{}

	// Counts since the start: copies sent to peers, packets written to hnet0, those beyond a limit in either direction, and those
	// of peers that may not pass.
	Sent, Delivered, Limited, Refused atomic.Uint64
}

// NewForwarder returns one through which nothing passes yet.
func NewForwarder() *Forwarder {
	return &Forwarder{out: newLimit(nodePackets, nodeBytes), in: newLimit(nodePackets, nodeBytes), changed: make(chan struct{}, 1)}
}

// table is what the forwarder knows; it is never changed, only replaced.
type table struct {
	six, four netip.Addr   // our own; four may not be valid
	joined    []netip.Addr // on hnet0
	peers     map[netip.Addr]*member
	members   []*member // those with groups
}

// member is a peer in the table. Its limits go from table to table.
type member struct {
	address, four netip.Addr
	groups        []netip.Addr
	out, in       *limit
}

// wants says that somebody there has joined a group, or one that counts as it.
func wants(groups []netip.Addr, group, other netip.Addr) bool {
	return slices.Contains(groups, group) || other.IsValid() && slices.Contains(groups, other)
}

// Outbound implements engine.Multicast.
func (f *Forwarder) Outbound(now time.Time, packet []byte, send func(peer netip.Addr, packet []byte)) {
	if report(packet) {
		select {
		case f.changed <- struct{}{}:
		default:
		}
		return
	}
	t := f.table.Load()
	h, ok := parse(packet)
	if t == nil || !ok || h.protocol != protocolUDP || h.hops == 0 || !carried(h.group) || h.source != t.six && h.source != t.four {
		return
	}
	other := alias(h.group)
	for _, p := range t.members {
		if !wants(p.groups, h.group, other) {
			continue
		}
		if !p.out.take(now, len(packet)) || !f.out.take(now, len(packet)) {
			f.Limited.Add(1)
			continue
		}
		f.Sent.Add(1)
		send(p.address, packet)
	}
}

// Inbound implements engine.Multicast.
func (f *Forwarder) Inbound(now time.Time, peer netip.Addr, packet []byte) (deliver [][]byte) {
	t := f.table.Load()
	if t == nil {
		return nil
	}
	p := t.peers[peer]
	h, ok := parse(packet)
	if p == nil || !ok || h.protocol != protocolUDP || h.hops == 0 || !carried(h.group) || h.source != p.address && h.source != p.four {
		f.Refused.Add(1)
		return nil
	}
	other := alias(h.group)
	if !wants(t.joined, h.group, other) {
		return nil
	}
	if !p.in.take(now, len(packet)) || !f.in.take(now, len(packet)) {
		f.Limited.Add(1)
		return nil
	}
	if slices.Contains(t.joined, h.group) {
		deliver = append(deliver, packet)
	}
	if other.IsValid() && slices.Contains(t.joined, other) {
		if c := redirect(packet, h, other); c != nil {
			deliver = append(deliver, c)
		}
	}
	f.Delivered.Add(uint64(len(deliver)))
	return deliver
}
