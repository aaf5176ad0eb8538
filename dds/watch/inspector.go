package watch

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/engine"
	"github.com/hnet-robotics/hnet_bridge/overlay/tun"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// maxCached bounds an Inspector's own maps; beyond, they are begun anew and fill by themselves.
const maxCached = 4096

// Inspector looks at the packets of one goroutine.
type Inspector struct {
	w       *Watch
	peers   map[netip.Addr]*peer
	writers map[cacheKey]*writer
	runs    runs
	parts   [8]part

	// The latest ones, which most packets are of.
	peer    *peer
	latest  *writer
	latestP *peer

	// The datagram being looked at.
	now       time.Time
	at        time.Duration // since the watch began
	sec       int64         // the same in seconds
	sighting  sighting
	direction int
	port      uint16 // where it goes
	pending   int    // bytes not yet counted in any row
	held      *row   // whose lock is held, in the direction
	last      *row   // counted in last; what is left at the end goes there
	sampled   *row   // a sample was counted in last
	carries   bool   // it has samples: treatment is theirs
	treatment engine.Treatment
	steps     int // left for what takes a loop
}

type cacheKey struct {
	peer *peer
	writerKey
}

// part remembers where the rest of a fragmented datagram belongs.
type part struct {
	peer      *peer
	id        uint32
	direction int
	row       *row
	treatment engine.Treatment
	until     time.Duration
}

// partAge is how long fragments may follow the first.
const partAge = 2 * time.Second

// Outbound implements engine.Inspector.
func (i *Inspector) Outbound(now time.Time, peer netip.Addr, superpacket []byte) engine.Treatment {
	if len(superpacket) < tun.HeaderLen {
		return engine.Treatment{}
	}
	return i.packet(now, peer, superpacket[:tun.HeaderLen], superpacket[tun.HeaderLen:], tx)
}

// Inbound implements engine.Inspector.
func (i *Inspector) Inbound(now time.Time, peer netip.Addr, packet []byte) {
	i.packet(now, peer, nil, packet, rx)
}

func (i *Inspector) packet(now time.Time, address netip.Addr, header, b []byte, direction int) engine.Treatment {
	if now != i.now { // a batch has one time
		i.turn(now)
	}
	i.direction = direction
	// Most of what there is to look at: one whole datagram with nothing before the UDP header, and the segments of TCP, one by one as they were opened.
	if len(b) >= ipv6Len+udpLen+wire.HeaderLen && b[0]>>4 == 6 && (header == nil || header[1] == byte(tun.GSONone)) {
		switch b[6] {
		case protocolUDP:
			end := min(len(b), ipv6Len+int(binary.BigEndian.Uint16(b[4:])))
			if payload := b[ipv6Len+udpLen : max(end, ipv6Len+udpLen)]; isRTPS(payload) {
				i.port = binary.BigEndian.Uint16(b[ipv6Len+2:])
				return i.message(i.find(address), payload, len(b)-len(payload))
			}
		case protocolTCP:
			i.plain(i.find(address).class[classTCP], len(b), 1)
			return engine.Treatment{}
		}
	}
	p, ok := dissect(b)
	if !ok {
		return engine.Treatment{}
	}
	peer := i.find(address)
	class := classIP
	switch p.protocol {
	case protocolUDP:
		if p.fragment || len(b) >= p.start+udpLen {
			return i.udp(peer, p, header, b)
		}
	case protocolTCP:
		class = classTCP
	case protocolICMP, protocolICMPv6:
		class = classICMP
	}
	t := train{count: 1}
	if class == classTCP && !p.fragment {
		t = trainOf(header, b, p)
	}
	i.plain(peer.class[class], t.wire(len(b)), t.count)
	return engine.Treatment{}
}

// turn lets the time pass. Runs end with their second, so that what they count is counted in it.
func (i *Inspector) turn(now time.Time) {
	i.now, i.at = now, now.Sub(i.w.begun)
	if sec := int64(i.at / time.Second); sec != i.sec {
		i.sec = sec
		i.runs.end(&i.w.table)
	}
}

// find returns the peer of an address.
func (i *Inspector) find(address netip.Addr) *peer {
	p := i.peer
	if p == nil || p.address != address || p.gone.Load() {
		p = i.peers[address]
		if p == nil || p.gone.Load() {
			if len(i.peers) >= maxPeers {
				clear(i.peers)
			}
			p = i.w.table.peer(i.at, address)
			i.peers[address] = p
		}
		i.peer = p
	}
	if i.at-time.Duration(p.used.Load()) > time.Second {
		p.used.Store(int64(i.at))
	}
	return p
}

// plain counts what is not RTPS.
func (i *Inspector) plain(r *row, bytes, packets int) {
	run := i.runs.plain[i.direction]
	switch {
	case run == nil:
		run = new(plainRun)
		i.runs.plain[i.direction] = run
	case run.goOn(r, i.direction, bytes, packets):
		return
	}
	run.end(i.direction)
	c := &r.flow[i.direction]
	c.mu.Lock()
	c.detach()
	c.take(i.at, i.sec, bytes)
	c.messages += uint64(packets)
	run.row, run.at, run.sec = r, i.at, i.sec
	run.sum.Store(0)
	c.run = run
	c.mu.Unlock()
}

// udp looks at a datagram, or at each of a train.
func (i *Inspector) udp(peer *peer, p packet, header, b []byte) engine.Treatment {
	if p.later {
		return i.follow(peer, p, len(b))
	}
	if len(b) < p.start+udpLen {
		return engine.Treatment{}
	}
	i.port = binary.BigEndian.Uint16(b[p.start+2:])
	payload := b[p.start+udpLen : max(p.start+udpLen, min(len(b), p.length))]
	t := trainOf(header, b, p)
	if t.count > 1 {
		payload = b[p.start+udpLen:] // the length field may be that of the first
	}
	if !isRTPS(payload) {
		i.plain(peer.class[classUDP], t.wire(len(b)), t.count)
		if p.fragment {
			i.remember(peer, p, peer.class[classUDP], engine.Treatment{})
		}
		return engine.Treatment{}
	}
	if t.count == 1 {
		treatment := i.message(peer, payload, len(b)-len(payload))
		if p.fragment {
			i.remember(peer, p, i.last, treatment)
		}
		return treatment
	}
	var all engine.Treatment
	for n := range t.count {
		one := payload[n*t.size : min((n+1)*t.size, len(payload))]
		var treatment engine.Treatment
		if isRTPS(one) {
			treatment = i.message(peer, one, t.headers)
		} else {
			i.plain(peer.class[classUDP], t.headers+len(one), 1)
		}
		if n == 0 {
			all = treatment
		} else {
			all = join(all, treatment)
		}
	}
	return all
}

// remember keeps where the rest of a datagram belongs.
func (i *Inspector) remember(peer *peer, p packet, r *row, t engine.Treatment) {
	i.parts[p.id%uint32(len(i.parts))] = part{peer, p.id, i.direction, r, t, i.at + partAge}
}

// follow counts a later fragment where its first was.
func (i *Inspector) follow(peer *peer, p packet, bytes int) engine.Treatment {
	f := &i.parts[p.id%uint32(len(i.parts))]
	if f.peer != peer || f.id != p.id || f.direction != i.direction || i.at > f.until {
		i.plain(peer.class[classUDP], bytes, 1)
		return engine.Treatment{}
	}
	c := &f.row.flow[i.direction]
	c.mu.Lock()
	c.take(i.at, i.sec, bytes)
	c.mu.Unlock()
	return f.treatment
}

// writer finds a writer of this host (own) or of the peer. Where that takes the table, the lock held is given back.
func (i *Inspector) writer(p *peer, prefix wire.GuidPrefix, entity wire.EntityID, own bool) *writer {
	w := i.latest
	if w == nil || i.latestP != p || w.key.guid.Entity != entity || w.key.own != own || w.key.guid.Prefix != prefix || w.gone.Load() {
		key := cacheKey{p, writerKey{wire.GUID{Prefix: prefix, Entity: entity}, own}}
		w = i.writers[key]
		if w == nil || w.gone.Load() {
			if len(i.writers) >= maxCached {
				clear(i.writers)
			}
			i.release()
			if w = i.w.table.writer(i.at, p, key.writerKey); w == nil {
				return nil // the peer has just been evicted
			}
			i.writers[key] = w
		}
		i.latest, i.latestP = w, p
	}
	if !w.used.Load() {
		w.used.Store(true)
	}
	if b := i.w.table.bookOf(p, w.key); b.version.Load() != w.asked.Load() {
		i.release()
		i.w.table.learn(i.at, p, w)
	}
	return w
}

// hold takes the lock of a writer's row in the present direction and returns the counter.
func (i *Inspector) hold(w *writer) *counter {
	if i.held != w.row.Load() {
		i.change(w)
	}
	return &i.held.flow[i.direction]
}

func (i *Inspector) change(w *writer) {
	i.release()
	i.held = w.lock(i.direction)
}

// holdRow does the same for a row without writers.
func (i *Inspector) holdRow(r *row) *counter {
	c := &r.flow[i.direction]
	if i.held != r {
		i.release()
		c.mu.Lock()
		i.held = r
	}
	return c
}

func (i *Inspector) release() {
	if i.held != nil {
		i.held.flow[i.direction].mu.Unlock()
		i.held = nil
	}
}
