package engine

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/fragment"
	"github.com/hnet-robotics/hnet_bridge/overlay/tun"
	"github.com/hnet-robotics/hnet_bridge/overlay/underlay"
	"github.com/hnet-robotics/hnet_bridge/overlay/wireguard"
)

// Sizes of the outbound way. The arena holds what one drain of the device may bring: three superpackets, or some 150 packets of
// 1,200 bytes. Draining before sending is worth a factor of two in packets per second; more room than this was worth nothing.
const (
	deviceArena   = 256 << 10
	devicePackets = 256
	sealedArena   = 256 << 10
	// A train is one sendmsg: at most 64 datagrams (UDP_MAX_SEGMENTS) and 64 KiB with all headers.
	trainDatagrams = 64
	trainBytes     = 65000
	trainsAtOnce   = 64
	// routeMTU is the default route's MTU: what every path carries, whole or in pieces.
	routeMTU = 1280
)

// deviceLoop carries what hnet0 sends, run to completion: read all that waits, seal it in place into trains, send them.
func (e *Engine) deviceLoop() error {
	out := newOutbound(e)
	out.inspect = e.inspector()
	arena := make([]byte, deviceArena)
	ends := make([]int, devicePackets)
	for {
		n, err := e.cfg.Device.ReadBatch(arena, ends)
		if err != nil {
			if closed(err) {
				return nil
			}
			return fmt.Errorf("hnet0 can no longer be read: %w", err)
		}
		now := time.Now()
		out.signal = out.standing.judge(now, ends[n-1], filled(arena, ends, n), false)
		out.batch(now, arena, ends[:n])
		out.flush()
	}
}

// outbound seals packets into trains. Each goroutine that sends has its own.
type outbound struct {
	e      *Engine
	sealer wireguard.Sealer
	split  tun.Splitter

	sealed []byte
	used   int
	trains []underlay.Message
	from   []trainInfo // of each train

	passage   passage   // of the superpacket at hand
	passages  uint64    // how many there were
	sealedAt  time.Time // when the first of what waits to be sent was sealed, zero if nobody wanted to know
	counter   uint64    // of the last datagram sealed
	datagrams int       // bytes of the datagrams sealed
	twin      *outbound // sends the copies; nil until there are any

	standing standing // the queue in the device
	signal   bool     // it is too long, and nobody was told yet

	inspect Inspector    // nil if nobody looks
	copies  *multicaster // nil until this host sends multicast
}

type trainInfo struct {
	peer    *peer
	carrier Carrier
	number  uint64 // of the passage, 0 if it has none
	start   int
	count   int
	closed  bool // a shorter datagram ended it
}

func newOutbound(e *Engine) *outbound {
	return &outbound{
		e: e, sealed: make([]byte, sealedArena),
		trains: make([]underlay.Message, 0, trainsAtOnce), from: make([]trainInfo, 0, trainsAtOnce),
	}
}

// packet carries one superpacket from the device to its peer, or lets it wait, or tells the sender that it may not.
func (o *outbound) packet(now time.Time, superpacket []byte) {
	header, ok := o.e.parse(superpacket[tun.HeaderLen:])
	switch {
	case !ok:
	case header.destination.IsMulticast():
		o.multicast(now, superpacket)
	default:
		o.carry(now, header.destination, superpacket)
	}
}

// carry brings a superpacket to a peer, whatever its destination is.
func (o *outbound) carry(now time.Time, to netip.Addr, superpacket []byte) {
	e := o.e
	p := e.peerFor(to)
	if p == nil {
		e.stats.Denied.Add(1)
		e.unreachable(now, superpacket[tun.HeaderLen:], icmpProhibited)
		return
	}
	p.used.Store(now.UnixNano())
	var treatment Treatment
	if o.inspect != nil {
		treatment = o.inspect.Outbound(now, p.address, superpacket)
	}
	p.mu.Lock()
	for p.flushing {
		p.settled.Wait()
	}
	if p.removed {
		p.mu.Unlock()
		e.stats.Denied.Add(1)
		return
	}
	s := o.nextPassage()
	var todo wireguard.Todo
	switch {
	case p.machine == nil:
		e.want(p)
	case !p.lanes.Empty():
	case !p.passes(now, len(superpacket)):
		p.resumed = true // it is cut where it waits, and goes on from there
	default:
		todo = p.admit(e, now, len(superpacket), treatment.Redundant, s)
	}
	if s.k == nil {
		e.wait(p, now, treatment, superpacket)
	}
	var a action
	if todo != 0 || s.k == nil || treatment.Redundant || !p.attended(now) {
		a = e.react(p, now, todo)
	}
	p.mu.Unlock()
	if s.k != nil {
		o.seal(p, s, superpacket)
	}
	if todo != 0 || a.flush || a.pending() {
		e.perform(now, p, a, o)
	}
}

// nextPassage makes the passage of another superpacket.
func (o *outbound) nextPassage() *passage {
	o.passages++
	o.passage.k, o.passage.number = nil, o.passages
	return &o.passage
}

// seal cuts a superpacket and seals its packets into trains for the path, and copies them into trains for the second one.
func (o *outbound) seal(p *peer, s *passage, superpacket []byte) {
	if err := o.split.Reset(superpacket); err != nil {
		o.e.stats.Malformed.Add(1)
		return
	}
	limit := s.limit()
	split := limit > 0 && s.native
	if limit == 0 {
		limit = routeMTU
	}
	bytes := 0
	before := o.datagrams
	signal := o.signal && bulkTCP(superpacket)
	for o.split.Next() {
		packet := o.split.Packet()
		if signal {
			signal, o.signal = false, false
			if o.e.signal(packet) {
				continue
			}
		}
		if depart := o.e.cfg.Depart; depart != nil {
			depart(p.address, packet)
		}
		bytes += len(packet)
		// RFC 6040: congestion marks of the underlay must be able to reach the inner packet.
		ecn := trafficClassOf(packet) & 3
		if split && len(packet) > limit {
			o.pieces(p, s, packet, limit, ecn)
			continue
		}
		o.one(p, s, packet, limit, ecn)
	}
	p.tx.Add(uint64(bytes))
	o.sent(p, s, o.counter, o.datagrams-before)
	s.k = nil // keys are to be forgotten when their session ends
}

// one seals a plaintext as it lies if it needs no padding. Else it is padded where it will be sealed: what lies behind it is the next packet.
func (o *outbound) one(p *peer, s *passage, plaintext []byte, limit int, tos byte) {
	padded := wireguard.Padded(len(plaintext), limit)
	dst := o.room(p, &s.path, s.number, padded+wireguard.TransportOverhead, tos)
	if padded > len(plaintext) {
		inPlace := dst[wireguard.TransportHeaderSize:][:padded]
		clear(inPlace[copy(inPlace, plaintext):])
		plaintext = inPlace
	}
	o.closeUp(p, s, dst, plaintext, tos)
}

// closeUp seals one datagram for the path, and copies it for the second one.
func (o *outbound) closeUp(p *peer, s *passage, dst, plaintext []byte, tos byte) {
	o.datagrams += o.sealer.Seal(s.k, dst, plaintext)
	if s.paced != nil || s.pacedSecond != nil {
		o.counter = wireguard.Counter(dst)
	}
	if s.second.valid() {
		o.again(p, s.second, dst, tos)
	}
}

// pieces seals a packet that the path cannot carry whole.
func (o *outbound) pieces(p *peer, s *passage, packet []byte, limit int, tos byte) {
	plan, err := fragment.Plan(len(packet), limit)
	if err != nil {
		o.e.stats.Malformed.Add(1)
		return
	}
	id := p.fragmentID()
	for i := range plan.Count {
		size := plan.Size(i)
		padded := wireguard.Padded(size, limit)
		dst := o.room(p, &s.path, s.number, padded+wireguard.TransportOverhead, tos)
		plaintext := dst[wireguard.TransportHeaderSize:][:padded]
		clear(plaintext[plan.Put(plaintext, id, i, packet):])
		o.closeUp(p, s, dst, plaintext, tos)
	}
}

// inner sends a message of our own, or a keepalive if it is empty, to a peer that has a session and a path.
func (o *outbound) inner(now time.Time, p *peer, message []byte) {
	p.mu.Lock()
	if p.machine == nil || !p.path.valid() || p.machine.Session(now) == nil {
		p.mu.Unlock()
		return
	}
	at := p.path
	p.mu.Unlock()
	o.innerOn(now, p, at, message)
}

// innerOn sends a message of our own on a given path.
func (o *outbound) innerOn(now time.Time, p *peer, at Path, message []byte) {
	p.mu.Lock()
	if p.machine == nil || p.machine.Session(now) == nil {
		p.mu.Unlock()
		return
	}
	k, todo := p.machine.Send(now, true)
	o.e.timers.arm(p, p.next())
	p.mu.Unlock()
	o.one(p, &passage{k: k, path: at}, message, max(routeMTU, len(message)), 0)
	o.e.follow(now, p, todo, o)
}

// raw sends a datagram that is not a transport message.
func (o *outbound) raw(path Path, datagram []byte) {
	copy(o.room(nil, &path, 0, len(datagram), 0), datagram)
}

// room returns where the next datagram of size bytes goes: at the end of the last train if it may join that, else in a new one. Those with the same number,
// which is not 0, are of one peer and go by one path.
func (o *outbound) room(p *peer, path *Path, number uint64, size int, tos byte) []byte {
	if n := len(o.trains); n > 0 {
		m, info := &o.trains[n-1], &o.from[n-1]
		stride := m.Headroom + size
		// What is cheap is asked first: of the 45 datagrams of a superpacket it is enough for 44.
		if m.TOS == tos && !info.closed && size <= m.Segment && info.count < trainDatagrams && o.used+stride-info.start <= trainBytes &&
			o.used+stride <= len(o.sealed) && (number != 0 && number == info.number || info.goes(p, path, m)) {
			info.closed = size < m.Segment
			info.count++
			return o.extend(m, info, stride)
		}
	}
	headroom := path.Carrier.Headroom()
	if len(o.trains) == cap(o.trains) || o.used+headroom+size > len(o.sealed) {
		o.flush()
	}
	o.trains = append(o.trains, underlay.Message{
		Segment: size, Headroom: headroom, Remote: path.Remote, Local: path.Local, TOS: tos, TTL: path.ttl, DF: path.df,
	})
	o.from = append(o.from, trainInfo{peer: p, carrier: path.Carrier, number: number, start: o.used, count: 1})
	n := len(o.trains) - 1
	return o.extend(&o.trains[n], &o.from[n], headroom+size)
}

// goes reports whether a train is for a peer and goes by a path. What is for nobody goes alone.
func (i *trainInfo) goes(p *peer, path *Path, m *underlay.Message) bool {
	return i.peer == p && p != nil && i.carrier == path.Carrier && m.Remote == path.Remote && m.Local == path.Local && m.TTL == path.ttl && m.DF == path.df
}

func (o *outbound) extend(m *underlay.Message, info *trainInfo, stride int) []byte {
	dst := o.sealed[o.used+m.Headroom : o.used+stride]
	o.used += stride
	m.Buf = o.sealed[info.start:o.used]
	return dst
}

// flush sends all trains, those of one carrier in a row by one call.
func (o *outbound) flush() {
	for i, j := 0, 0; i < len(o.trains); i = j {
		j = i + 1
		for j < len(o.trains) && o.from[j].carrier == o.from[i].carrier {
			j++
		}
		for i < j {
			n, err := o.from[i].carrier.Send(o.trains[i:j])
			if err == nil {
				break
			}
			if i += n; i < j {
				o.failed(i, err)
				i++
			}
		}
	}
	o.trains, o.from, o.used, o.sealedAt = o.trains[:0], o.from[:0], 0, time.Time{}
	if o.twin != nil {
		o.twin.flush()
	}
}

// failed accounts for a train that the kernel did not take.
func (o *outbound) failed(i int, err error) {
	e := o.e
	if closed(err) {
		return
	}
	e.stats.SendErrors.Add(1)
	p := o.from[i].peer
	if p == nil {
		return
	}
	if errors.Is(err, syscall.EMSGSIZE) {
		p.mu.Lock()
		path := p.path
		p.mu.Unlock()
		e.cfg.Notify(Event{Type: TooLarge, Peer: p.address, Path: path})
	}
	e.cfg.Log.Debug("a train was not sent", "peer", p.address, "endpoint", o.trains[i].Remote, "err", err)
}

func (p *peer) fragmentID() uint16 {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.nextID++
	return p.nextID
}

// ipv6Header is what the data path reads of a packet.
type ipv6Header struct {
	source, destination netip.Addr
	trafficClass        byte
	length              int // of the whole packet
	nextHeader          byte
}

const ipv6HeaderLen = 40

// parseIPv6 reads the header of an IPv6 packet; ok is false if b is none or holds less than the packet.
func parseIPv6(b []byte) (h ipv6Header, ok bool) {
	if len(b) < ipv6HeaderLen || b[0]>>4 != 6 {
		return h, false
	}
	h.source = netip.AddrFrom16([16]byte(b[8:24]))
	h.destination = netip.AddrFrom16([16]byte(b[24:40]))
	h.trafficClass = b[0]<<4 | b[1]>>4
	h.nextHeader = b[6]
	h.length = ipv6HeaderLen + int(b[4])<<8 + int(b[5])
	return h, h.length <= len(b)
}
