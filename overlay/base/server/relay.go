package server

import (
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/base/wire"
	"github.com/hnet-robotics/hnet_bridge/overlay/underlay"
)

// relay passes on a run: one relayed datagram, or a train of them with one and the same header, which is rewritten in place. What leaves by UDP is
// given to out, whose owner sends it before b is used again; without out, it waits as a copy in the fair queue.
func (s *Server) relay(now int64, at *route, b []byte, segment int, tos byte, out *forwarder) {
	var l target
	if out != nil && out.latest.is(at, b) {
		l = out.latest.target
	} else {
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
		l = target{c, in.peer.route, in.peer.index, in.peerChannel}
		s.mu.RUnlock()
		if out != nil {
			out.latest.set(at, b, l)
		}
	}
	if s.relayInterval != 0 && !l.sender.allowance.spend(now, int64(len(b))*s.relayInterval>>16, s.relayDepth) {
		s.stats.DroppedRate.Add(1)
		return
	}
	packets := 1
	if segment > 0 && segment < len(b) {
		packets = (len(b) + segment - 1) / segment
		for off := 0; off < len(b); off += segment {
			wire.PutRelayed(b[off:], l.index, l.channel)
		}
	} else {
		segment = 0
		wire.PutRelayed(b, l.index, l.channel)
	}
	if out != nil {
		out.add(l.sender, l.to, b, segment, tos)
		out.packets += packets
		out.bytes += len(b) - packets*wire.RelayHeaderLen
		return
	}
	if !s.egress.queue(l.sender, l.to, b, segment, tos) {
		s.stats.DroppedQueue.Add(1)
		return
	}
	s.stats.RelayedPackets.Add(uint64(packets))
	s.stats.RelayedBytes.Add(uint64(len(b) - packets*wire.RelayHeaderLen))
}

// target is what a relay header leads to.
type target struct {
	sender         *client
	to             *route
	index, channel uint32 // of the header that the datagram gets
}

// latest is the target of the last run of a batch: the next one is of the same as a rule. It is forgotten with the batch.
type latest struct {
	known  bool
	header [wire.RelayHeaderLen]byte
	at     route
	target target
}

func (l *latest) is(at *route, b []byte) bool {
	return l.known && len(b) > wire.RelayHeaderLen && l.header == [wire.RelayHeaderLen]byte(b) && l.at.same(at)
}

func (l *latest) set(at *route, b []byte, to target) {
	*l = latest{true, [wire.RelayHeaderLen]byte(b), *at, to}
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

// forwarder collects what one loop forwards from the buffers of one batch.
type forwarder struct {
	s      *Server
	runs   []forward
	fair   []forward // of runs, what goes through the fair queue
	ways   []way
	latest latest
	// packets and bytes of payload are what runs has.
	packets, bytes int
	mixed          int // for how many batches more its input counts as that of several sources, who are to get their shares
}

// forward is a run on its way.
type forward struct {
	sender  *client
	to      *route
	b       []byte
	segment int
	tos     byte
}

// way is what leaves by one socket.
type way struct {
	sock     underlay.Socket
	messages []underlay.Message
	// joined holds what was joined, the last of messages at its end if joining.
	joined  buffer
	joining bool
}

func (f *forwarder) add(sender *client, to *route, b []byte, segment int, tos byte) {
	f.runs = append(f.runs, forward{sender, to, b, segment, tos})
}

// slow is how long sending a batch may take before the socket counts as full: there is room for 1 Gbit/s in it.
const slow = 20 * time.Millisecond

// flush sends what was collected: at once, or by the fair queue when something is scarce.
func (f *forwarder) flush() {
	f.latest = latest{}
	if len(f.runs) == 0 {
		return
	}
	s := f.s
	s.stats.RelayedPackets.Add(uint64(f.packets))
	s.stats.RelayedBytes.Add(uint64(f.bytes))
	f.packets, f.bytes = 0, 0
	start := time.Now()
	now := s.nano(start)
	for i := range f.runs {
		r := &f.runs[i]
		switch {
		case len(f.fair) > 0 || !s.egress.direct(now, len(r.b)):
			f.fair = append(f.fair, *r)
		case r.to.conn != nil:
			s.stats.DroppedSlow.Add(uint64(r.to.conn.relay(r.b, r.segment)))
		default:
			f.send(r)
		}
	}
	if len(f.fair) > 0 {
		s.stats.DroppedQueue.Add(uint64(s.egress.queueAll(f.fair)))
	}
	for i := range f.ways {
		w := &f.ways[i]
		if len(w.messages) == 0 {
			continue
		}
		failed, full := write(w.sock, w.messages)
		if failed > 0 {
			s.stats.DroppedSend.Add(uint64(failed))
		}
		if end := time.Now(); full || f.mixed > 0 && end.Sub(start) > slow {
			s.egress.congest(s.nano(end))
		}
		clear(w.messages)
		w.messages = w.messages[:0]
		w.joined.free()
		w.joined, w.joining = buffer{}, false
	}
	clear(f.runs)
	clear(f.fair)
	f.runs, f.fair = f.runs[:0], f.fair[:0]
}

// mixedBatches is how long one batch with datagrams of several sources counts.
const mixedBatches = 64

// from notes the source of the messages of a batch.
func (f *forwarder) from(batch []underlay.Message) {
	for i := range batch {
		if batch[i].Remote != batch[0].Remote {
			f.mixed = mixedBatches
			return
		}
	}
	f.mixed = max(0, f.mixed-1)
}

// send adds a run to what leaves by its socket.
func (f *forwarder) send(r *forward) {
	for i := range f.ways {
		if w := &f.ways[i]; w.sock == r.to.sock {
			if !w.join(r) {
				w.add(r)
			}
			return
		}
	}
	// There are as many as the server has sockets.
	f.ways = append(f.ways, way{sock: r.to.sock, messages: make([]underlay.Message, 0, batchMessages)})
	f.ways[len(f.ways)-1].add(r)
}

func (w *way) add(r *forward) {
	w.messages = append(w.messages, underlay.Message{Buf: r.b, Segment: r.segment, Remote: r.to.remote, Local: r.to.local, TOS: r.tos})
	w.joining = false
}

const (
	// shortRun is up to what length runs are joined: to copy one costs a tenth of sending it by itself.
	shortRun = 4 << 10
	// joinedBytes and joinedDatagrams bound what is joined: what one call takes as a train.
	joinedBytes     = 60 << 10
	joinedDatagrams = 64
)

// join adds a short run to the message before it, if they may leave as one train: what a client sent datagram by datagram, fast enough that they wait
// here together, costs a quarter of what it would cost to send it so too. False = it may not.
func (w *way) join(r *forward) bool {
	if len(w.messages) == 0 || len(r.b) > shortRun {
		return false
	}
	m := &w.messages[len(w.messages)-1]
	size, first := m.Segment, r.segment
	if size == 0 {
		size = len(m.Buf)
	}
	if first == 0 {
		first = len(r.b)
	}
	// Only the last datagram of a train may be shorter.
	if first > size || first < size && r.segment != 0 || len(m.Buf)%size != 0 || len(m.Buf)+len(r.b) > min(joinedBytes, joinedDatagrams*size) ||
		m.Remote != r.to.remote || m.Local != r.to.local || m.TOS != r.tos {
		return false
	}
	if !w.joining {
		if len(m.Buf) > shortRun {
			return false
		}
		if w.joined.pool == nil {
			w.joined = largeBuffer()
		}
		if len(w.joined.b)+len(m.Buf)+len(r.b) > cap(w.joined.b) {
			return false
		}
		start := len(w.joined.b)
		w.joined.b = append(w.joined.b, m.Buf...)
		m.Buf = w.joined.b[start:]
		w.joining = true
	} else if len(w.joined.b)+len(r.b) > cap(w.joined.b) {
		return false
	}
	w.joined.b = append(w.joined.b, r.b...)
	m.Buf, m.Segment = m.Buf[:len(m.Buf)+len(r.b)], size
	return true
}
