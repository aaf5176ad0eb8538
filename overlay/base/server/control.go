package server

import (
	"bytes"
	"errors"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/base/session"
	"github.com/hnet-robotics/hnet_bridge/overlay/base/wire"
	"github.com/hnet-robotics/hnet_bridge/overlay/record"
)

const (
	// workAtOnce is how many clients are told something by whoever caused it; the rest follows in the background, so that no lock is held for long.
	workAtOnce = 32
	// pingsAtOnce bounds the pings of one control datagram that are answered.
	pingsAtOnce = 4
)

// receiving is what one control datagram asked for, beside what it changed.
type receiving struct {
	registry *registry
	now      time.Time
	client   *client
	at       *route
	hops     uint8
	refused  bool // a newer registration of the same identity is there
	closed   bool
	pings    [pingsAtOnce]wire.Ping
	pinged   int
	filter   wire.FilterTest
	filtered bool
}

// outcome is what is to be done with a control datagram.
type outcome uint8

const (
	handled outcome = iota
	unknown         // the session is not known, or not to this connection
	dropped
)

// receive takes a control datagram of a client. alternate is the route of a filter probe to that client's endpoint, and tells whether there is one.
func (r *registry) receive(now time.Time, at *route, hops uint8, b []byte, alternate func(*route) (route, bool)) outcome {
	h, _, err := wire.ParseControl(b)
	if err != nil || h.FromBase {
		r.stats.Malformed.Add(1)
		return dropped
	}
	c := r.find(h.Index)
	if c == nil || c.route.conn != at.conn {
		return unknown
	}
	in := &r.receiving
	*in = receiving{registry: r, now: now, client: c, at: at, hops: hops}
	newest, err := c.secured.Receive(now, b, in.deliver)
	switch {
	case errors.Is(err, session.ErrMalformed):
		r.stats.Malformed.Add(1)
		r.remove(now, c)
		return unknown
	case err != nil:
		r.stats.Unauthentic.Add(1)
		return dropped
	}
	if !c.confirmed && !in.refused && !r.confirm(now, c) || in.refused {
		return unknown
	}
	if newest && !c.route.same(at) {
		r.challenge(now, c, at, in.pings[:in.pinged])
		in.pinged = 0
	} else if newest && c.route.local != at.local {
		moved := *at
		c.route = &moved
	}
	if in.closed {
		r.remove(now, c)
		r.work(now, workAtOnce)
		return handled
	}
	for _, p := range in.pings[:in.pinged] {
		r.say(now, c, wire.KindPong, wire.Pong{Opaque: p.Opaque, Observed: at.remote, Hops: hops}.Append(nil))
	}
	if in.filtered && at.conn == nil && c.filtered.take(r.nano(now), filterRate) {
		if by, ok := alternate(c.route); ok {
			r.post(&by, wire.FilterProbe{Nonce: in.filter.Nonce}.Append(nil))
		}
	}
	r.speak(now, c)
	r.work(now, workAtOnce)
	return handled
}

// deliver takes a message of a control datagram that proved authentic and new.
func (in *receiving) deliver(kind wire.Kind, body []byte) {
	r, c := in.registry, in.client
	if in.refused || !c.confirmed && !r.confirm(in.now, c) {
		in.refused = true
		return
	}
	switch kind {
	case wire.KindPing:
		if p, err := wire.ParsePing(body); err == nil && in.pinged < pingsAtOnce {
			in.pings[in.pinged] = p
			in.pinged++
		}
	case wire.KindPong:
		if p, err := wire.ParsePong(body); err == nil && c.moving.answeredBy(in.at, p) {
			r.move(in.now, c, in.hops)
		}
	case wire.KindRecord:
		if m, err := wire.ParseRecord(body); err == nil {
			r.renew(in.now, c, m.Signed)
		}
	case wire.KindInterest:
		if m, err := wire.ParseInterest(body); err == nil {
			for _, l := range m.Links {
				r.want(c, l.Channel, addressOf(l.Address))
			}
		}
	case wire.KindUninterest:
		if m, err := wire.ParseUninterest(body); err == nil {
			for _, channel := range m.Channels {
				r.unwant(c, channel)
			}
		}
	case wire.KindFilterTest:
		if m, err := wire.ParseFilterTest(body); err == nil {
			in.filter, in.filtered = m, true
		}
	case wire.KindClose:
		in.closed = true
	}
}

// renew takes a new contact record of a client; its sequence number must be greater than that of the last.
func (r *registry) renew(now time.Time, c *client, signed []byte) {
	if !c.renewed.take(r.nano(now), recordRate) {
		r.stats.RefusedRate.Add(1)
		return
	}
	rec, err := record.Parse(signed)
	if err != nil || addressOf(rec.Address()) != c.address || rec.Sequence < c.sequence {
		r.stats.Malformed.Add(1)
		return
	}
	same := rec.Sequence == c.sequence
	if same && !bytes.Equal(signed, c.signed) {
		r.stats.Malformed.Add(1)
		return
	}
	c.lifetime = now.Add(rec.Lifetime)
	if same {
		return
	}
	c.signed, c.sequence = bytes.Clone(signed), rec.Sequence
	r.changed(now, c)
}
