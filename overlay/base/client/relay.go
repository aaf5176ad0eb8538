package client

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/base/wire"
	"github.com/hnet-robotics/hnet_bridge/overlay/underlay"
)

// errWithdrawn is what a Relay answers that was withdrawn while its train was sealed.
var errWithdrawn = fmt.Errorf("the relay is withdrawn: %w", net.ErrClosed)

// tcpRefuse is when a Relay over TCP that refused is to be asked again: a few kilobytes leave in that time on any link worth having.
const tcpRefuse = 4 * time.Millisecond

// Relay carries trains to one peer through one registration at a Base. It is an engine.Carrier; its identity is the path's: a new registration
// has new Relays. Its methods are safe for concurrent use.
type Relay struct {
	way       *way
	peer      netip.Addr
	channel   uint32
	withdrawn atomic.Bool
}

// Base is the overlay address of the Base.
func (r *Relay) Base() netip.Addr { return r.way.base }

// Peer is the overlay address of the peer at the other end.
func (r *Relay) Peer() netip.Addr { return r.peer }

// Endpoint is where the Base is: its UDP endpoint, or the remote end of the TCP connection, which may be that of a proxy.
func (r *Relay) Endpoint() netip.AddrPort { return r.way.endpoint }

// TCP tells whether the datagrams travel in a TCP connection.
func (r *Relay) TCP() bool { return r.way.stream != nil }

// RTT is the smoothed round-trip time to the Base (not to the peer), 0 if unknown.
func (r *Relay) RTT() time.Duration { return time.Duration(r.way.rtt.Load()) }

// Live tells whether the carrier is not withdrawn.
func (r *Relay) Live() bool { return !r.withdrawn.Load() }

// Headroom is the length of the relay header.
func (r *Relay) Headroom() int { return wire.RelayHeaderLen }

// Refuse tells when to ask again if the Base, or the connection to it, does not take bytes more now.
func (r *Relay) Refuse(now time.Time, bytes int) (until time.Time, refused bool) {
	if r.withdrawn.Load() {
		return time.Time{}, false // Send says what is the matter
	}
	if s := r.way.stream; s != nil && s.waiting() > maxWaiting {
		return now.Add(tcpRefuse), true
	}
	return r.way.pace.refuse(now)
}

// Send sends trains that were sealed with Headroom. It never blocks for longer than the socket does, over TCP not at all.
func (r *Relay) Send(trains []underlay.Message) (n int, err error) {
	w := r.way
	if r.withdrawn.Load() {
		return 0, errWithdrawn
	}
	bytes := 0
	for i := range trains {
		bytes += len(trains[i].Buf)
		r.label(&trains[i])
	}
	w.sent.Add(1)
	w.touch()
	w.pace.charge(bytes)
	if w.stream != nil {
		w.stream.relay(trains)
		return len(trains), nil
	}
	out := messagePool.Get().(*[]underlay.Message)
	defer func() {
		clear(*out)
		*out = (*out)[:0]
		messagePool.Put(out)
	}()
	for i := range trains {
		m := trains[i] // a copy: the caller may send its own again, on another path
		if m.Segment > 0 {
			m.Segment += m.Headroom
		}
		m.Headroom, m.Remote = 0, w.endpoint
		*out = append(*out, m)
	}
	return w.send(*out)
}

var messagePool = sync.Pool{New: func() any { s := make([]underlay.Message, 0, 64); return &s }}

// label writes the relay header into the headroom of each datagram of a train. A train without room for it is no train of ours and stays as it is.
func (r *Relay) label(m *underlay.Message) {
	if m.Headroom != wire.RelayHeaderLen {
		return
	}
	stride := len(m.Buf)
	if m.Segment > 0 {
		stride = m.Headroom + m.Segment
	}
	for b := m.Buf; len(b) > m.Headroom; b = b[min(stride, len(b)):] {
		wire.PutRelay(b, r.way.session, r.way.token, r.channel)
	}
}

// way is what Relays and the goroutines that receive need to know of one registration.
type way struct {
	base     netip.Addr
	index    uint32 // ours
	session  uint32 // the Base's
	token    uint32
	endpoint netip.AddrPort
	stream   conduit // nil over UDP
	send     func([]underlay.Message) (int, error)
	wake     func() // tells that the way is in use

	pace        pacer
	rtt         atomic.Int64
	active      atomic.Bool // in use since the last look
	sent, heard atomic.Uint64
	lastSent    uint64 // at the last look
	lastHeard   uint64
	channels    atomic.Pointer[[]atomic.Pointer[Relay]] // by channel
}

// conduit is the connection of a Base over TCP. Nothing of it blocks.
type conduit interface {
	control(message []byte)          // queues a message in front of what is relayed
	relay(trains []underlay.Message) // queues datagrams with their relay headers; drops what is too much
	waiting() int                    // bytes queued
	close()
}

// touch tells, at most once between two looks, that the way is in use.
func (w *way) touch() {
	if !w.active.Load() && w.active.CompareAndSwap(false, true) {
		w.wake()
	}
}

// set puts the Relay of a channel, or none. Only the machine calls it.
func (w *way) set(channel uint32, r *Relay) {
	slots := w.channels.Load()
	if slots == nil || int(channel) >= len(*slots) {
		if r == nil {
			return
		}
		old := slots
		grown := make([]atomic.Pointer[Relay], max(64, 2*int(channel)))
		if old != nil {
			for i := range *old {
				grown[i].Store((*old)[i].Load())
			}
		}
		slots = &grown
		w.channels.Store(slots)
	}
	(*slots)[channel].Store(r)
}

// at returns the Relay of a channel, nil if there is none.
func (w *way) at(channel uint32) *Relay {
	slots := w.channels.Load()
	if slots == nil || uint64(channel) >= uint64(len(*slots)) {
		return nil
	}
	return (*slots)[channel].Load()
}

// ways finds the way of a relayed datagram: few, so that a look at each is cheapest.
type ways struct {
	all atomic.Pointer[[]*way]
}

// find returns the way of one of our indexes.
func (t *ways) find(index uint32) *way {
	all := t.all.Load()
	if all == nil {
		return nil
	}
	for _, w := range *all {
		if w.index == index {
			return w
		}
	}
	return nil
}

func (t *ways) list() []*way {
	if all := t.all.Load(); all != nil {
		return *all
	}
	return nil
}

// add and remove are called by the machine alone.
func (t *ways) add(w *way) {
	all := append(append([]*way(nil), t.list()...), w)
	t.all.Store(&all)
}

func (t *ways) remove(w *way) {
	var all []*way
	for _, other := range t.list() {
		if other != w {
			all = append(all, other)
		}
	}
	t.all.Store(&all)
}

// relayed tells what came with a relayed datagram: the Relay of its channel, nil if it is none of a known way, from the way's endpoint (over UDP)
// or stream.
func (t *ways) relayed(b []byte, from netip.AddrPort, stream conduit) (*Relay, []byte) {
	index, channel, ok := wire.ParseRelayed(b)
	if !ok {
		return nil, nil
	}
	w := t.find(index)
	if w == nil || w.stream != stream || stream == nil && w.endpoint != from {
		return nil, nil
	}
	r := w.at(channel)
	if r == nil {
		return nil, nil
	}
	w.heard.Add(1)
	w.touch()
	return r, b[wire.RelayHeaderLen:]
}

// pacer keeps a sender below the rate that a Base relays for it, by a virtual clock: next is when all that was sent has left at that rate.
type pacer struct {
	epoch   time.Time
	perByte float64 // nanoseconds; 0 = no limit
	next    atomic.Int64
}

// paceBurst is what may be sent at once: half of what a Base takes, in bytes.
const paceBurst = 512 << 10

func (p *pacer) init(now time.Time, kbit uint32) {
	p.epoch = now
	if kbit > 0 {
		p.perByte = 8e6 / float64(kbit)
	}
}

func (p *pacer) refuse(now time.Time) (until time.Time, refused bool) {
	if p.perByte == 0 {
		return time.Time{}, false
	}
	ahead := time.Duration(p.next.Load()) - now.Sub(p.epoch)
	burst := time.Duration(paceBurst * p.perByte)
	if ahead <= burst {
		return time.Time{}, false
	}
	// A little later than need be: that much room at once is worth waking up for.
	return now.Add(ahead - burst*7/8), true
}

func (p *pacer) charge(bytes int) {
	if p.perByte == 0 {
		return
	}
	now, cost := int64(time.Since(p.epoch)), int64(float64(bytes)*p.perByte)
	for {
		next := p.next.Load()
		if p.next.CompareAndSwap(next, max(next, now)+cost) {
			return
		}
	}
}
