package server

import (
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/base/wire"
	"github.com/hnet-robotics/hnet_bridge/overlay/underlay"
)

// relay passes on a run: one relayed datagram, or a train of them with one and the same header, which is rewritten in place. What leaves by UDP is
// given to out, whose owner sends it before b is used again; without out, and when something is scarce, the run waits as a copy in the fair queue.
func (s *Server) relay(now int64, at *route, b []byte, segment int, tos byte, out *forwarder) {
	number, token, channel, ok := wire.ParseRelay(b)
	if !ok {
		s.stats.Malformed.Add(1)
		return
	}
	s.mu.RLock()
	c := s.registry.find(number)
	if c == nil || c.token != token || !c.route.same(at) {
		s.mu.RUnlock()
		s.unknown(now, at, b)
		return
	}
	in := c.find(channel)
	if in == nil || in.peer == nil {
		s.mu.RUnlock()
		s.stats.DroppedNoLink.Add(1)
		return
	}
	to, index, theirs := in.peer.route, in.peer.index, in.peerChannel
	s.mu.RUnlock()
	if s.relayInterval != 0 && !c.allowance.spend(now, int64(len(b))*s.relayInterval>>16, s.relayDepth) {
		s.stats.DroppedRate.Add(1)
		return
	}
	packets := 1
	if segment > 0 && segment < len(b) {
		packets = (len(b) + segment - 1) / segment
		for off := 0; off < len(b); off += segment {
			wire.PutRelayed(b[off:], index, theirs)
		}
	} else {
		segment = 0
		wire.PutRelayed(b, index, theirs)
	}
	if out == nil || !s.egress.direct(now, len(b)) {
		if !s.egress.queue(c, to, b, segment, tos) {
			s.stats.DroppedQueue.Add(1)
			return
		}
	} else if to.conn != nil {
		s.stats.DroppedSlow.Add(uint64(to.conn.relay(b, segment)))
	} else {
		out.add(to, b, segment, tos)
	}
	s.stats.RelayedPackets.Add(uint64(packets))
	s.stats.RelayedBytes.Add(uint64(len(b) - packets*wire.RelayHeaderLen))
}

// run returns the length of the run at the beginning of a train: relay datagrams that have the header of the first. It is 0 if the first is no relay
// datagram.
func run(b []byte, segment int) int {
	n := len(b)
	if segment > 0 {
		n = min(n, segment)
	}
	if n <= wire.RelayHeaderLen || b[0] != byte(wire.TypeRelay) {
		return 0
	}
	head := [wire.RelayHeaderLen]byte(b)
	for n < len(b) {
		next := b[n:min(n+segment, len(b))]
		if len(next) <= wire.RelayHeaderLen || [wire.RelayHeaderLen]byte(next) != head {
			break
		}
		n += len(next)
	}
	return n
}

// forwarder collects what one loop forwards from the buffers of one batch, by socket.
type forwarder struct {
	s     *Server
	ways  []way
	delay time.Duration
}

// way is what leaves by one socket.
type way struct {
	sock     underlay.Socket
	messages []underlay.Message
}

func (f *forwarder) add(to *route, b []byte, segment int, tos byte) {
	m := underlay.Message{Buf: b, Segment: segment, Remote: to.remote, Local: to.local, TOS: tos}
	for i := range f.ways {
		if w := &f.ways[i]; w.sock == to.sock {
			w.messages = append(w.messages, m)
			return
		}
	}
	// There are as many as the server has sockets.
	f.ways = append(f.ways, way{to.sock, append(make([]underlay.Message, 0, batchMessages), m)})
}

// slow is how long sending a batch may take before the socket counts as full: there is room for 1 Gbit/s in it.
const slow = 20 * time.Millisecond

// flush sends what was collected.
func (f *forwarder) flush() {
	for i := range f.ways {
		w := &f.ways[i]
		if len(w.messages) == 0 {
			continue
		}
		start := time.Now()
		failed, full := write(w.sock, w.messages)
		if failed > 0 {
			f.s.stats.DroppedSend.Add(uint64(failed))
		}
		if end := time.Now(); full || end.Sub(start) > slow {
			f.s.egress.congest(f.s.nano(end))
		}
		clear(w.messages)
		w.messages = w.messages[:0]
	}
}
