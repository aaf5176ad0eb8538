package server

import (
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/base/session"
	"github.com/hnet-robotics/hnet_bridge/overlay/base/wire"
)

// manyInterests is from how many on a client gets a map of them.
const manyInterests = 16

// interest is one address that a client asks for. There is a link when the client with that address asks for this one too: peer and peerChannel are
// where relayed datagrams go then.
type interest struct {
	address     nodeAddress
	peer        *client // nil = no link
	channel     uint32
	peerChannel uint32
	dirty       bool // on the list of the client's dirty channels
	told        bool // the client was told that the peer is here
}

// find returns the interest of a channel, nil if there is none. The pointer is valid until interests are added or removed.
func (c *client) find(channel uint32) *interest {
	// Channels are numbered from 1 on as a rule.
	if i := int(channel) - 1; i >= 0 && i < len(c.interests) && c.interests[i].channel == channel {
		return &c.interests[i]
	}
	if i, ok := c.search(channel); ok {
		return &c.interests[i]
	}
	return nil
}

func (c *client) search(channel uint32) (int, bool) {
	return slices.BinarySearchFunc(c.interests, channel, func(in interest, channel uint32) int {
		switch {
		case in.channel < channel:
			return -1
		case in.channel > channel:
			return 1
		}
		return 0
	})
}

// in returns the interest in an address, nil if there is none.
func (c *client) in(address nodeAddress) *interest {
	if c.channels != nil {
		channel, ok := c.channels[address]
		if !ok {
			return nil
		}
		return c.find(channel)
	}
	for i := range c.interests {
		if c.interests[i].address == address {
			return &c.interests[i]
		}
	}
	return nil
}

// want adds an interest of c. One that is there already is answered again.
func (r *registry) want(c *client, channel uint32, address nodeAddress) {
	if in := c.in(address); in != nil {
		if in.channel == channel {
			if in.peer != nil {
				r.soil(c, in)
			}
			return
		}
		r.unwant(c, in.channel)
	}
	if c.find(channel) != nil {
		r.unwant(c, channel)
	}
	if address == c.address || len(c.interests) >= r.limits.Interests || r.interests >= r.limits.AllInterests {
		r.stats.RefusedInterests.Add(1)
		return
	}
	i, _ := c.search(channel)
	c.interests = slices.Insert(c.interests, i, interest{address: address, channel: channel})
	r.interests++
	switch {
	case c.channels != nil:
		c.channels[address] = channel
	case len(c.interests) > manyInterests:
		c.channels = make(map[nodeAddress]uint32, 2*manyInterests)
		for _, in := range c.interests {
			c.channels[in.address] = in.channel
		}
	}
	peer := r.known[address]
	if peer == nil {
		return
	}
	theirs := peer.in(c.address)
	if theirs == nil {
		return
	}
	mine := &c.interests[i]
	mine.peer, mine.peerChannel = peer, theirs.channel
	theirs.peer, theirs.peerChannel = c, channel
	r.links++
	r.soil(c, mine)
	r.soil(peer, theirs)
}

// unwant removes an interest of c.
func (r *registry) unwant(c *client, channel uint32) {
	i, ok := c.search(channel)
	if !ok {
		return
	}
	in := &c.interests[i]
	r.unlink(in, true)
	if c.channels != nil {
		delete(c.channels, in.address)
	}
	c.interests = slices.Delete(c.interests, i, i+1)
	r.interests--
	if len(c.interests) == 0 {
		c.interests, c.channels = nil, nil
	} else if cap(c.interests) > 4*len(c.interests)+16 {
		c.interests = slices.Clone(c.interests)
	}
}

// unlink ends the link of an interest, if there is one; the peer is told or not.
func (r *registry) unlink(in *interest, tell bool) {
	if in.peer == nil {
		return
	}
	peer := in.peer
	if theirs := peer.find(in.peerChannel); theirs != nil {
		theirs.peer, theirs.peerChannel = nil, 0
		if tell {
			r.soil(peer, theirs)
		}
	}
	in.peer, in.peerChannel = nil, 0
	r.links--
}

// withdraw ends all links of c.
func (r *registry) withdraw(c *client, tell bool) {
	for i := range c.interests {
		r.unlink(&c.interests[i], tell)
	}
}

// soil puts an interest on the list of those of which c is to be told.
func (r *registry) soil(c *client, in *interest) {
	if !in.dirty {
		in.dirty = true
		c.dirty = append(c.dirty, in.channel)
	}
	r.touch(c)
}

// changed tells the peers of c that its endpoint or record changed, or has it done when it may.
func (r *registry) changed(now time.Time, c *client) {
	if !c.announce.IsZero() {
		return
	}
	n := r.nano(now)
	if wait := c.announced.ready(n, announceRate); wait > 0 {
		c.announce = now.Add(time.Duration(wait))
		r.touch(c)
		return
	}
	r.tell(now, c)
}

func (r *registry) tell(now time.Time, c *client) {
	c.announce = time.Time{}
	c.announced.take(r.nano(now), announceRate)
	for i := range c.interests {
		if in := &c.interests[i]; in.peer != nil {
			if theirs := in.peer.find(in.peerChannel); theirs != nil {
				r.soil(in.peer, theirs)
			}
		}
	}
}

// fill gives the session of c the peer messages that are due, as many as it has room for. They say how things stand now, whatever happened
// between.
func (r *registry) fill(now time.Time, c *client) {
	var room [wire.MaxBody]byte
	for len(c.dirty) > 0 {
		in := c.find(c.dirty[0])
		if in != nil && in.dirty {
			p := wire.Peer{Channel: in.channel}
			if in.peer != nil && now.Before(in.peer.lifetime) {
				p.Here, p.Observed, p.Signed = true, in.peer.route.observed(), in.peer.signed
			}
			if p.Here || in.told {
				if err := c.secured.Queue(wire.KindPeer, p.Append(room[:0])); errors.Is(err, session.ErrFull) {
					return
				} else if err != nil {
					r.stats.DroppedControl.Add(1)
				}
				in.told = p.Here
			}
			in.dirty = false
		}
		c.dirty = c.dirty[1:]
	}
	c.dirty = nil
}

// addressOf is the form in which the registry keeps addresses.
func addressOf(a netip.Addr) nodeAddress { return a.As16() }
