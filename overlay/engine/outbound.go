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
		start := 0
		for _, end := range ends[:n] {
			out.packet(now, arena[start:end])
			start = end
		}
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
}

type trainInfo struct {
	peer    *peer
	carrier Carrier
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
	e := o.e
	header, ok := parseIPv6(superpacket[tun.HeaderLen:])
	if !ok || header.destination.IsMulticast() {
		return
	}
	p := e.peerFor(header.destination)
	if p == nil {
		e.stats.Denied.Add(1)
		e.unreachable(now, superpacket[tun.HeaderLen:], icmpProhibited)
		return
	}
	p.used.Store(now.UnixNano())
	p.mu.Lock()
	for p.flushing {
		p.settled.Wait()
	}
	if p.removed {
		p.mu.Unlock()
		e.stats.Denied.Add(1)
		return
	}
	var k *wireguard.Keypair
	var todo wireguard.Todo
	switch {
	case p.machine == nil:
		e.want(p)
	case p.lanes.empty():
		k, todo = p.admit(now, len(superpacket))
	}
	if k == nil {
		e.wait(p, now, header.trafficClass, superpacket)
	}
	path := p.path
	a := e.react(p, now, todo)
	p.mu.Unlock()
	if k != nil {
		o.seal(p, k, path, superpacket)
	}
	if todo != 0 || a.pending() {
		e.perform(now, p, a, o)
	}
}

// wait puts a superpacket into its lane. The peer's lock is held.
func (e *Engine) wait(p *peer, now time.Time, trafficClass byte, superpacket []byte) {
	e.stats.LaneOverflow.Add(uint64(p.lanes.push(now, laneOf(trafficClass), superpacket, &e.waiting)))
}

// seal cuts a superpacket and seals its packets into trains for the path.
func (o *outbound) seal(p *peer, k *wireguard.Keypair, path Path, superpacket []byte) {
	if err := o.split.Reset(superpacket); err != nil {
		o.e.stats.Malformed.Add(1)
		return
	}
	limit := path.plaintextLimit()
	split := limit > 0 && p.machineNative()
	if limit == 0 {
		limit = routeMTU
	}
	bytes := 0
	for o.split.Next() {
		packet := o.split.Packet()
		bytes += len(packet)
		// RFC 6040: congestion marks of the underlay must be able to reach the inner packet.
		ecn := packet[1] >> 4 & 3
		if split && len(packet) > limit {
			o.pieces(p, k, path, packet, limit, ecn)
			continue
		}
		o.one(p, k, path, packet, limit, ecn)
	}
	p.tx.Add(uint64(bytes))
}

// one seals a plaintext as it lies if it needs no padding. Else it is padded where it will be sealed: what lies behind it is the next packet.
func (o *outbound) one(p *peer, k *wireguard.Keypair, path Path, plaintext []byte, limit int, tos byte) {
	padded := wireguard.Padded(len(plaintext), limit)
	dst := o.room(p, path, padded+wireguard.TransportOverhead, tos)
	if padded > len(plaintext) {
		inPlace := dst[wireguard.TransportHeaderSize:][:padded]
		clear(inPlace[copy(inPlace, plaintext):])
		plaintext = inPlace
	}
	o.sealer.Seal(k, dst, plaintext)
}

// pieces seals a packet that the path cannot carry whole.
func (o *outbound) pieces(p *peer, k *wireguard.Keypair, path Path, packet []byte, limit int, tos byte) {
	plan, err := fragment.Plan(len(packet), limit)
	if err != nil {
		o.e.stats.Malformed.Add(1)
		return
	}
	id := p.fragmentID()
	for i := range plan.Count {
		size := plan.Size(i)
		padded := wireguard.Padded(size, limit)
		dst := o.room(p, path, padded+wireguard.TransportOverhead, tos)
		plaintext := dst[wireguard.TransportHeaderSize:][:padded]
		clear(plaintext[plan.Put(plaintext, id, i, packet):])
		o.sealer.Seal(k, dst, plaintext)
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
	o.one(p, k, at, message, max(routeMTU, len(message)), 0)
	o.e.follow(now, p, todo, o)
}

// raw sends a datagram that is not a transport message.
func (o *outbound) raw(path Path, datagram []byte) {
	copy(o.room(nil, path, len(datagram), 0), datagram)
}

// room returns where the next datagram of size bytes goes: at the end of the last train if it may join that, else in a new one.
func (o *outbound) room(p *peer, path Path, size int, tos byte) []byte {
	headroom := path.Carrier.Headroom()
	stride := headroom + size
	if o.used+stride > len(o.sealed) {
		o.flush()
	}
	if n := len(o.trains); n > 0 {
		m, info := &o.trains[n-1], &o.from[n-1]
		if info.peer == p && p != nil && info.carrier == path.Carrier && m.Remote == path.Remote && m.Local == path.Local && m.TOS == tos &&
			m.TTL == path.ttl && m.DF == path.df && !info.closed && size <= m.Segment && info.count < trainDatagrams && o.used+stride-info.start <= trainBytes {
			info.closed = size < m.Segment
			info.count++
			return o.extend(m, info, headroom, stride)
		}
		if n == cap(o.trains) {
			o.flush()
		}
	}
	o.trains = append(o.trains, underlay.Message{
		Segment: size, Headroom: headroom, Remote: path.Remote, Local: path.Local, TOS: tos, TTL: path.ttl, DF: path.df,
	})
	o.from = append(o.from, trainInfo{peer: p, carrier: path.Carrier, start: o.used, count: 1})
	n := len(o.trains) - 1
	return o.extend(&o.trains[n], &o.from[n], headroom, stride)
}

func (o *outbound) extend(m *underlay.Message, info *trainInfo, headroom, stride int) []byte {
	dst := o.sealed[o.used+headroom : o.used+stride]
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
	o.trains, o.from, o.used = o.trains[:0], o.from[:0], 0
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

func (p *peer) machineNative() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.machine != nil && p.machine.Native()
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
