package client

import (
	"net/netip"
	"slices"

	"github.com/hnet-robotics/hnet_bridge/overlay/base/wire"
)

// channels are the peers that one registration asks for, and their numbers there. A number stays its peer's as long as the peer is asked for; a number
// that came free is used again last, since datagrams of its former peer may still be under way.
type channels struct {
	limit int // the Base's, at most maxInterests
	of    map[netip.Addr]uint32
	slots []slot // by number; 0 is not used
	free  []uint32
	add   []netip.Addr // to be told, the most urgent first; names that are not asked for any more are passed over
	drop  []uint32     // to be told before; free after that
	over  int          // peers beyond the limit, which are not asked for
}

type slot struct {
	peer     netip.Addr // invalid = free
	told     bool
	relay    *Relay // nil = no link
	observed netip.AddrPort
	sequence uint64 // of the record last told
}

func newChannels(limit int) channels {
	return channels{limit: limit, of: make(map[netip.Addr]uint32), slots: make([]slot, 1)}
}

// reconcile makes peers, in order of urgency and each once, the set that is asked for. Those dropped are returned by their slots.
func (c *channels) reconcile(peers []netip.Addr) (dropped []slot) {
	c.over = max(0, len(peers)-c.limit)
	peers = peers[:len(peers)-c.over]
	stay := make(map[uint32]struct{}, len(c.of))
	c.add = c.add[:0]
	for _, p := range peers {
		n, ok := c.of[p]
		if ok {
			stay[n] = struct{}{}
		}
		if !ok || !c.slots[n].told {
			c.add = append(c.add, p)
		}
	}
	for n := range c.slots {
		s := &c.slots[n]
		if _, ok := stay[uint32(n)]; ok || !s.peer.IsValid() {
			continue
		}
		dropped = append(dropped, *s)
		delete(c.of, s.peer)
		if s.told {
			c.drop = append(c.drop, uint32(n))
		} else {
			c.free = append(c.free, uint32(n))
		}
		*s = slot{}
	}
	return dropped
}

// number returns the number of a peer, a new one if need be; 0 if none is free until what is dropped has been told.
func (c *channels) number(p netip.Addr) uint32 {
	if n, ok := c.of[p]; ok {
		return n
	}
	n := uint32(len(c.slots))
	switch {
	case len(c.slots) <= c.limit:
		c.slots = append(c.slots, slot{})
	case len(c.free) > 0:
		n = c.free[0]
		c.free = c.free[1:]
	default:
		return 0
	}
	c.slots[n], c.of[p] = slot{peer: p}, n
	return n
}

// batch is how many peers one message names: with it a control datagram is full.
const batch = wire.MaxLinks

// tell queues what the Base does not know yet, until queue takes no more.
func (c *channels) tell(queue func(kind wire.Kind, body []byte) bool) {
	for len(c.drop) > 0 {
		some := c.drop[:min(len(c.drop), wire.MaxChannels)]
		if !queue(wire.KindUninterest, wire.Uninterest{Channels: some}.Append(nil)) {
			return
		}
		c.free = append(c.free, some...)
		c.drop = c.drop[len(some):]
	}
	c.drop = nil
	for len(c.add) > 0 {
		var links []wire.Link
		used := 0
		for _, p := range c.add {
			if len(links) == batch {
				break
			}
			used++
			n := c.number(p)
			if n == 0 || c.slots[n].told {
				continue
			}
			links = append(links, wire.Link{Channel: n, Address: p})
		}
		if len(links) > 0 {
			if !queue(wire.KindInterest, wire.Interest{Links: links}.Append(nil)) {
				return
			}
			for _, l := range links {
				c.slots[l.Channel].told = true
			}
		}
		c.add = c.add[used:]
	}
	c.add = nil
}

// slot returns the slot of a number that is in use, nil if there is none.
func (c *channels) slot(n uint32) *slot {
	if uint64(n) >= uint64(len(c.slots)) || !c.slots[n].peer.IsValid() {
		return nil
	}
	return &c.slots[n]
}

// relay returns the Relay to a peer, nil if there is none.
func (c *channels) relay(p netip.Addr) *Relay {
	if n, ok := c.of[p]; ok {
		return c.slots[n].relay
	}
	return nil
}

// urge moves a peer to the front of those to be told.
func (c *channels) urge(p netip.Addr) {
	if i := slices.Index(c.add, p); i > 0 {
		copy(c.add[1:i+1], c.add[:i])
		c.add[0] = p
	}
}
