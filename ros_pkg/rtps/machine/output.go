package machine

import (
	"bytes"
	"net/netip"
	"slices"
	"sync"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// arenaSize is how many bytes of datagrams are allocated at once, at first and at most.
const (
	arenaSize = 64 << 10
	arenaMost = 1 << 20
)

// Output is what followed from the calls since the last Take: datagrams to send and callbacks to make, both in order.
type Output struct {
	Datagrams []Datagram
	Calls     []Call

	arena []byte
}

var outputs = sync.Pool{New: func() any { return new(Output) }}

// Release gives the output back: the datagrams' payloads are used again. Calls that are to be made later were copied.
func (o *Output) Release() {
	clear(o.Datagrams)
	clear(o.Calls)
	o.Datagrams, o.Calls, o.arena = o.Datagrams[:0], o.Calls[:0], o.arena[:0]
	if cap(o.Datagrams) > 1024 {
		o.Datagrams = nil
	}
	if cap(o.Calls) > 1024 {
		o.Calls = nil
	}
	outputs.Put(o)
}

// Take returns what followed and begins anew. It is released by its taker.
func (m *Machine) Take() *Output {
	o := m.out
	m.out = outputs.Get().(*Output)
	return o
}

// keep copies a message into memory that lives until Release.
func (o *Output) keep(b []byte) []byte {
	o.tail(len(b))
	at := len(o.arena)
	o.arena = append(o.arena, b...)
	return o.arena[at:len(o.arena):len(o.arena)]
}

// tail is empty memory for n bytes at least, that lives until Release.
func (o *Output) tail(n int) []byte {
	if n > cap(o.arena)-len(o.arena) {
		// What was kept before stays where it is.
		o.arena = make([]byte, 0, max(arenaSize, n, min(2*cap(o.arena), arenaMost)))
	}
	return o.arena[len(o.arena):]
}

// Call is a callback to be made.
type Call struct {
	deliver      func(Sample)
	sample       Sample
	matched      func(Endpoint, bool)
	incompatible func(Endpoint, string)
	endpoint     *Endpoint
	on           bool
	policy       string
	event        func(GraphEvent)
	change       GraphEvent
}

// Do makes it.
func (c *Call) Do() {
	switch {
	case c.deliver != nil:
		c.deliver(c.sample)
	case c.matched != nil:
		c.matched(*c.endpoint, c.on)
	case c.incompatible != nil:
		c.incompatible(*c.endpoint, c.policy)
	case c.event != nil:
		c.event(c.change)
	}
}

// message is a datagram being written, to one participant or to all.
func (m *Machine) message(to wire.GuidPrefix) *wire.Builder {
	return m.longMessage(to, m.config.MaxMessage)
}

// longMessage is a message with room for so many bytes. One for a participant is written where it is kept.
func (m *Machine) longMessage(to wire.GuidPrefix, room int) *wire.Builder {
	h := wire.Header{Version: wire.Version, Vendor: Vendor, Prefix: m.config.Prefix}
	m.room = 0
	if to == wire.PrefixUnknown {
		m.b.ResetTo(m.scratch, h)
	} else {
		m.room = room
		m.b.ResetTo(m.out.tail(room), h)
		m.b.InfoDst(to)
	}
	m.blank = m.b.Len()
	return &m.b
}

// post sends the message, if something was written, and leaves it empty.
func (m *Machine) post(to []netip.AddrPort) {
	if m.b.Len() <= m.blank {
		return
	}
	if err := m.b.Err(); err != nil {
		m.counters.Unsent++
		m.complain("unsent", "a message could not be written", "error", err)
	}
	switch {
	case len(to) == 0:
	case len(to) == 1 && m.join(to[0]):
	default:
		b := m.kept()
		for _, a := range to {
			m.out.Datagrams = append(m.out.Datagrams, Datagram{To: a, Payload: b})
		}
		m.counters.DatagramsOut += uint64(len(to))
		m.counters.BytesOut += uint64(len(to) * len(b))
	}
	if m.room > 0 {
		m.b.Move(m.out.tail(m.room), m.blank)
	} else {
		m.b.Truncate(m.blank)
	}
}

// kept returns the message in memory that lives until Release.
func (m *Machine) kept() []byte {
	o, b := m.out, m.b.Bytes()
	at := len(o.arena)
	if m.room == 0 || len(b) > cap(o.arena)-at || &o.arena[:at+1][at] != &b[0] {
		return o.keep(b)
	}
	o.arena = o.arena[:at+len(b)]
	return o.arena[at:len(o.arena):len(o.arena)]
}

// join adds the message to the one before, if that goes to the same participant at the same place and both fit into one
// datagram. Only what has an INFO_DST is joined.
func (m *Machine) join(to netip.AddrPort) bool {
	o := m.out
	n := len(o.Datagrams)
	if n == 0 || m.blank == wire.HeaderLen {
		return false
	}
	last := &o.Datagrams[n-1]
	b := m.b.Bytes()
	more := b[m.blank:]
	if last.To != to || len(last.Payload)+len(more) > m.config.MaxMessage || len(last.Payload) < m.blank ||
		!bytes.Equal(last.Payload[:m.blank], b[:m.blank]) {
		return false
	}
	start := len(o.arena) - len(last.Payload)
	if start < 0 || &o.arena[start] != &last.Payload[0] || len(more) > cap(o.arena)-len(o.arena) {
		return false // not the newest in memory
	}
	o.arena = append(o.arena, more...)
	last.Payload = o.arena[start:len(o.arena):len(o.arena)]
	m.counters.BytesOut += uint64(len(more))
	return true
}

// group sends the message to a multicast group on one interface.
func (m *Machine) group(to netip.AddrPort, by *Interface) {
	b := m.out.keep(m.b.Bytes())
	m.out.Datagrams = append(m.out.Datagrams, Datagram{To: to, Interface: by.Index, Loopback: by.Loopback, Payload: b})
	m.counters.DatagramsOut++
	m.counters.BytesOut += uint64(len(b))
}

func (m *Machine) deliver(r *Reader, s Sample) {
	m.counters.Samples++
	if r.config.Deliver != nil {
		m.out.Calls = append(m.out.Calls, Call{deliver: r.config.Deliver, sample: s})
	}
}

func (m *Machine) matched(f func(Endpoint, bool), e *Endpoint, on bool) {
	if f != nil {
		m.out.Calls = append(m.out.Calls, Call{matched: f, endpoint: e, on: on})
	}
}

func (m *Machine) incompatible(f func(Endpoint, string), e *Endpoint, policy string) {
	if f != nil {
		m.out.Calls = append(m.out.Calls, Call{incompatible: f, endpoint: e, policy: policy})
	}
}

func (m *Machine) event(e GraphEvent) {
	for _, f := range m.subscribers {
		m.out.Calls = append(m.out.Calls, Call{event: f, change: e})
	}
}

func clone(b []byte) []byte {
	if b == nil {
		return nil
	}
	return slices.Clone(b)
}
