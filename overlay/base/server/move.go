package server

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/base/wire"
)

// challengeAgain is the least time from one challenge of an endpoint to the next.
const challengeAgain = 200 * time.Millisecond

// move is a client's move to another endpoint that is not proved yet. The source of one authentic datagram proves nothing: a client could name a
// stranger's there, and have all that its peers send by the relay sent to him. So the new endpoint is asked, by a ping that only the client
// can read, no longer than what came from there; its pong moves the registration.
type move struct {
	to     route
	opaque [8]byte
	asked  time.Time
	pings  []wire.Ping // of the client, to be answered when it has moved
}

// answeredBy tells whether a pong that came from at is the answer to the challenge.
func (m *move) answeredBy(at *route, p wire.Pong) bool {
	return m != nil && m.to.same(at) && m.opaque == p.Opaque
}

// challenge asks the endpoint that a client's newest datagram came from, unless it was asked a moment ago.
func (r *registry) challenge(now time.Time, c *client, at *route, pings []wire.Ping) {
	m := c.moving
	if m == nil || !m.to.same(at) {
		m = &move{to: *at}
		c.moving = m
	}
	if len(pings) > 0 {
		m.pings = slices.Clone(pings)
	}
	if !m.asked.IsZero() && now.Sub(m.asked) < challengeAgain {
		return
	}
	if m.asked.IsZero() {
		binary.BigEndian.PutUint32(m.opaque[:], r.random())
		binary.BigEndian.PutUint32(m.opaque[4:], r.random())
	}
	m.asked = now
	if b := c.secured.Unsequenced(now, wire.KindPing, wire.Ping{Opaque: m.opaque}.Append(nil)); b != nil {
		r.post(&m.to, b)
	}
}

// move takes over the endpoint that has answered.
func (r *registry) move(now time.Time, c *client, hops uint8) {
	m := c.moving
	c.moving = nil
	c.route = &m.to
	r.stats.Moved.Add(1)
	r.changed(now, c)
	for _, p := range m.pings {
		r.say(now, c, wire.KindPong, wire.Pong{Opaque: p.Opaque, Observed: c.route.remote, Hops: hops}.Append(nil))
	}
}
