package watch

import (
	"encoding/binary"

	"github.com/hnet-robotics/hnet_bridge/overlay/engine"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

const (
	maxSubmessages = 256  // of a datagram that are looked at
	maxSteps       = 1024 // numbers of a datagram's GAPs
)

// Flags of submessages (9.4.5).
const (
	flagLittle    = 0x01
	flagInlineQoS = 0x02
	flagData      = 0x04
)

// isRTPS tells a message of RTPS 2 by its header (9.4.4).
func isRTPS(b []byte) bool {
	return len(b) >= wire.HeaderLen && string(b[:4]) == "RTPS" && b[4] == 2
}

// submessage is one with its state of the receiver (8.3.4). Its body may be cut short where IP fragmentation cut the datagram.
type submessage struct {
	id           wire.SubmessageID
	flags        byte
	body         []byte
	size         int // bytes of it that are there, header included
	source, dest wire.GuidPrefix
}

func (s *submessage) order() binary.ByteOrder {
	if s.flags&flagLittle != 0 {
		return binary.LittleEndian
	}
	return binary.BigEndian
}

func (s *submessage) u16(at int) uint16 {
	if s.flags&flagLittle != 0 {
		return binary.LittleEndian.Uint16(s.body[at:])
	}
	return binary.BigEndian.Uint16(s.body[at:])
}

func (s *submessage) u32(at int) uint32 {
	if s.flags&flagLittle != 0 {
		return binary.LittleEndian.Uint32(s.body[at:])
	}
	return binary.BigEndian.Uint32(s.body[at:])
}

func (s *submessage) sequence(at int) wire.SequenceNumber {
	return wire.SequenceNumber(uint64(s.u32(at))<<32 | uint64(s.u32(at+4)))
}

// entity is an array of octets: the same in both byte orders.
func (s *submessage) entity(at int) wire.EntityID {
	return wire.EntityID(binary.BigEndian.Uint32(s.body[at:]))
}

// message counts one message; headers is what IP and UDP took.
func (i *Inspector) message(p *peer, b []byte, headers int) engine.Treatment {
	q := &i.sighting
	if !q.scan(b) {
		return i.whole(p, b, headers)
	}
	q.key.peer, q.key.port, q.key.own = p, i.port, i.direction == tx
	q.hash = q.key.hash()
	t, ok := i.goOn(q, headers+len(b))
	if !ok {
		t = i.whole(p, b, headers)
		i.begin(q, t)
	}
	return t
}

// whole takes a message apart.
func (i *Inspector) whole(p *peer, b []byte, headers int) engine.Treatment {
	i.pending, i.steps = headers+wire.HeaderLen, maxSteps
	i.held, i.last, i.sampled, i.carries, i.treatment = nil, nil, nil, false, engine.Treatment{}
	s := submessage{source: wire.GuidPrefix(b[8:20])}
	rest := b[wire.HeaderLen:]
	for n := 0; len(rest) >= 4 && n < maxSubmessages; n++ {
		s.id, s.flags = wire.SubmessageID(rest[0]), rest[1]
		length := int(rest[2])<<8 | int(rest[3])
		if s.flags&flagLittle != 0 {
			length = int(rest[3])<<8 | int(rest[2])
		}
		s.body = rest[4:]
		// Zero means up to the end, but for the two that can be empty (9.4.5.1.3).
		if length < len(s.body) && (length > 0 || s.id == wire.IDPad || s.id == wire.IDInfoTS) {
			s.body = s.body[:length]
		}
		s.size = 4 + len(s.body)
		rest = rest[s.size:]
		i.submessage(p, &s)
	}
	i.pending += len(rest)
	if i.last == nil {
		i.last = p.class[classRTPS]
		i.holdRow(i.last).messages++
	}
	if i.pending > 0 {
		i.holdRow(i.last).take(i.at, i.sec, i.pending)
	}
	i.release()
	return i.treatment
}

// Least lengths of the bodies of submessages (9.4.5).
const (
	dataLen          = 20
	dataFragLen      = 32
	heartbeatLen     = 28
	heartbeatFragLen = 24
	gapLen           = 28 // with an empty set
	ackNackLen       = 24 // the same
	nackFragLen      = 28 // the same
)

func (i *Inspector) submessage(p *peer, s *submessage) {
	switch s.id {
	case wire.IDData:
		if len(s.body) >= dataLen {
			i.written(p, s, s.entity(8), true)
			return
		}
	case wire.IDDataFrag:
		if len(s.body) >= dataFragLen {
			i.written(p, s, s.entity(8), true)
			return
		}
	case wire.IDHeartbeat:
		if len(s.body) >= heartbeatLen {
			i.written(p, s, s.entity(4), false)
			return
		}
	case wire.IDHeartbeatFrag:
		if len(s.body) >= heartbeatFragLen {
			i.written(p, s, s.entity(4), false)
			return
		}
	case wire.IDGap:
		if len(s.body) >= gapLen {
			i.written(p, s, s.entity(4), false)
			return
		}
	case wire.IDAckNack:
		if len(s.body) >= ackNackLen {
			i.request(p, s)
			return
		}
	case wire.IDNackFrag:
		if len(s.body) >= nackFragLen {
			i.request(p, s)
			return
		}
	case wire.IDInfoDst:
		if len(s.body) >= 12 {
			s.dest = wire.GuidPrefix(s.body)
		}
	case wire.IDInfoSrc:
		if len(s.body) >= 20 {
			s.source = wire.GuidPrefix(s.body[8:])
		}
	}
	i.pending += s.size
}

// written counts what a writer sends.
func (i *Inspector) written(p *peer, s *submessage, id wire.EntityID, sample bool) {
	if id.Builtin() {
		i.builtin(p, s, id)
		return
	}
	w := i.writer(p, s.source, id, i.direction == tx)
	switch {
	case w == nil:
		i.pending += s.size // the peer has just been evicted
	case sample:
		i.data(w, s)
	default:
		i.control(w, s)
	}
}

// took counts the submessage and what was pending in the row held.
func (i *Inspector) took(c *counter, s *submessage) {
	c.take(i.at, i.sec, i.pending+s.size)
	i.pending, i.last = 0, i.held
}

// wants adds to what the datagram's treatment is made of. Samples decide, and without any what is there instead.
func (i *Inspector) wants(t engine.Treatment, sample bool) {
	if sample && !i.carries || i.last == nil {
		i.treatment, i.carries = t, sample
	} else if sample == i.carries {
		i.treatment = join(i.treatment, t)
	}
}

// builtin counts what the protocol's own endpoints say, and reads the names that are in it.
func (i *Inspector) builtin(p *peer, s *submessage, id wire.EntityID) {
	sample := s.id == wire.IDData || s.id == wire.IDDataFrag
	i.wants(engine.Treatment{Lane: engine.Urgent}, sample)
	r := p.class[classDiscovery]
	c := i.holdRow(r)
	i.took(c, s)
	if !sample {
		return
	}
	if i.sampled != r {
		i.sampled = r
		c.messages++
	}
	if s.id == wire.IDData || s.u32(20) == 1 {
		c.samples++
	}
	if id == wire.EntitySEDPPublicationsWriter || id == wire.EntitySEDPSubscriptionsWriter {
		i.release()
		i.announced(p, s, id == wire.EntitySEDPPublicationsWriter)
	}
}

// announced reads a DATA(w) or DATA(r), whole or its first fragment.
func (i *Inspector) announced(p *peer, s *submessage, writers bool) {
	at := 4 + int(s.u16(2)) // octetsToInlineQos counts from its own end
	if at > len(s.body) || s.id == wire.IDDataFrag && s.u32(20) != 1 {
		return
	}
	content := s.body[at:]
	q := wire.ParameterList{BigEndian: s.flags&flagLittle == 0}
	if s.flags&flagInlineQoS != 0 {
		n, ok := s.listLen(content)
		if !ok {
			return
		}
		q.Bytes, content = content[:n], content[n:]
	}
	b := &p.book
	if i.direction == tx {
		b = &i.w.table.own
	}
	if s.id == wire.IDData && s.flags&flagData == 0 {
		qos, err := wire.ParseInlineQoS(q)
		if err != nil {
			return
		}
		if g, ok := wire.EndedGUID(&wire.Data{Payload: content}, &qos, wire.PIDEndpointGUID); ok && g.Prefix == s.source {
			b.remove(g)
		}
		return
	}
	// A peer's readers are of no use: it is this host's word that names a peer's writers where they did not name themselves.
	if a, ok := readAnnouncement(content); ok && a.guid.Prefix == s.source && (writers && a.guid.Entity.IsWriter() || i.direction == tx) {
		b.add(a.guid, rosName(a.topic, a.typ))
	}
}

// listLen is the length of an inline parameter list with its sentinel.
func (s *submessage) listLen(b []byte) (int, bool) {
	order := s.order()
	for at := 0; at+4 <= len(b); {
		id, n := wire.PID(order.Uint16(b[at:])), int(order.Uint16(b[at+2:]))
		at += 4
		if id == wire.PIDSentinel {
			return at, true
		}
		at += n
	}
	return 0, false
}

// data counts a DATA or DATA_FRAG of a user's writer.
func (i *Inspector) data(w *writer, s *submessage) {
	c := i.hold(w)
	sec := i.sec
	t := w.treatment
	fragmented := s.id == wire.IDDataFrag
	if !w.ruled {
		if fragmented && s.u32(28) > largeSample {
			if w.large <= sec { // it was treated otherwise so far
				w.detach(&i.w.table, c)
			}
			w.large = sec + largeFor
		}
		if w.large > sec {
			t = engine.Treatment{Lane: engine.Bulk}
		}
	}
	i.wants(t, true)
	i.took(c, s)
	if i.sampled != i.held {
		i.sampled = i.held
		c.messages++
	}
	n := s.sequence(12)
	if n < 1 || n > wire.MaxSequence {
		return
	}
	win := w.window(&i.w.table, c, i.port)
	win.detach(&i.w.table, w, c)
	c.lost += win.turn(sec)
	if fragmented {
		i.fragment(c, w, win, s, n)
		return
	}
	c.saw(win, n, s.size)
}

// saw notes a sample in the window of its port.
func (c *counter) saw(win *window, n wire.SequenceNumber, size int) {
	f, lost := win.see(n)
	c.lost += lost
	if f != again {
		c.samples++
	}
	if f != fresh {
		c.resent++
		c.resentBytes += uint64(size)
	}
}

// fragment notes fragments of a sample.
func (i *Inspector) fragment(c *counter, w *writer, win *window, s *submessage, n wire.SequenceNumber) {
	first, count := s.u32(20), uint32(s.u16(24))
	total, ok := fragmentsIn(s.u32(28), uint32(s.u16(26)))
	if !ok || first == 0 || count == 0 || first > total || count > total-first+1 {
		return
	}
	i.w.table.pieces(c, w, win, n, first, count, total, uint32(s.size)/count)
}

// fragmentsIn is how many fragments of a size a sample has.
func fragmentsIn(sample, size uint32) (total uint32, ok bool) {
	if size == 0 {
		return 0, false
	}
	return uint32((uint64(sample) + uint64(size) - 1) / uint64(size)), true
}

// pieces notes fragments first..first+count-1 of a sample of total ones, that take size bytes each.
func (t *table) pieces(c *counter, w *writer, win *window, n wire.SequenceNumber, first, count, total, size uint32) {
	var old uint32
	complete := false
	if win.state(n) == again {
		old = count
	} else if f := t.fragmentsOf(w, win); f != nil {
		var filled uint32
		old, filled, complete = f.see(n, first, count, total)
		old += filled
	} else {
		complete = first == 1
	}
	if old > 0 {
		c.resent += uint64(old)
		c.resentBytes += uint64(size) * uint64(old)
	}
	if complete {
		f, lost := win.see(n)
		c.lost += lost
		if f != again {
			c.samples++
		}
	}
}

// control counts what a writer says of its samples. It stays with them: a HEARTBEAT that overtakes what it announces makes the reader ask for what is on
// its way.
func (i *Inspector) control(w *writer, s *submessage) {
	c := i.hold(w)
	t := w.treatment
	sec := i.sec
	if w.large > sec {
		t.Lane = engine.Bulk
	}
	i.wants(t, false)
	i.took(c, s)
	if s.id != wire.IDGap {
		return
	}
	for j := range w.windows {
		win := &w.windows[j]
		if win.port != i.port {
			continue
		}
		win.detach(&i.w.table, w, c)
		c.lost += win.turn(sec)
		start, base, n := s.sequence(8), s.sequence(16), min(s.u32(24), wire.MaxSetBits)
		if start < 1 || base < start || base > wire.MaxSequence {
			return
		}
		c.lost += win.skip(start, base)
		if i.steps -= int(n); i.steps < 0 || len(s.body) < gapLen+int(n+31)/32*4 {
			return
		}
		for k := range n {
			if s.u32(gapLen+int(k/32)*4)>>(31-k%32)&1 != 0 {
				number := base + wire.SequenceNumber(k)
				c.lost += win.skip(number, number+1)
			}
		}
	}
}

// request counts an ACKNACK or NACK_FRAG.
func (i *Inspector) request(p *peer, s *submessage) {
	id := s.entity(4)
	if id.Builtin() {
		i.builtin(p, s, id)
		return
	}
	w := i.writer(p, s.dest, id, i.direction == rx)
	if w == nil {
		i.pending += s.size
		return
	}
	if i.direction == tx && w.row.Load().kind == Unknown {
		// A reader of this host matched the writer: they have one topic.
		if n, ok := i.w.table.own.find(wire.GUID{Prefix: s.source, Entity: s.entity(0)}); ok {
			p.book.add(w.key.guid, n)
			i.release()
			i.w.table.learn(i.at, p, w)
		}
	}
	c := i.hold(w)
	i.wants(engine.Treatment{Lane: engine.Urgent}, false)
	i.took(c, s)
	if s.asks() {
		c.requests++
	}
}

// asks says whether an ACKNACK or NACK_FRAG wants anything sent again.
func (s *submessage) asks() bool {
	at := 20 // an ACKNACK's bitmap
	if s.id == wire.IDNackFrag {
		at = 24
	}
	n := min(s.u32(at-4), wire.MaxSetBits)
	for k := uint32(0); k < n && at+4 <= len(s.body); k += 32 {
		word := s.u32(at)
		if n-k < 32 {
			word &= ^uint32(0) << (32 - (n - k))
		}
		if word != 0 {
			return true
		}
		at += 4
	}
	return false
}

// window finds or makes the window of a port. The lock of the writer's counter is held.
func (w *writer) window(t *table, c *counter, port uint16) *window {
	oldest := -1
	for j := range w.windows {
		if w.windows[j].port == port {
			return &w.windows[j]
		}
		if oldest < 0 || w.windows[j].sec < w.windows[oldest].sec {
			oldest = j
		}
	}
	if len(w.windows) < maxWindows {
		w.windows = append(w.windows, window{port: port})
		return &w.windows[len(w.windows)-1]
	}
	win := &w.windows[oldest]
	win.detach(t, w, c)
	frags := win.frags
	if frags != nil {
		*frags = fragments{}
	}
	*win = window{port: port, frags: frags}
	return win
}

// fragmentsOf returns a writer's window of fragments, nil if there are too many of them. The lock of the writer's counter is held.
func (t *table) fragmentsOf(w *writer, win *window) *fragments {
	if win.frags == nil && !w.gone.Load() {
		if t.fragments.Add(1) > maxFragments {
			t.fragments.Add(-1)
			return nil
		}
		win.frags = new(fragments)
	}
	return win.frags
}
