package path

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// A simulated internet in virtual time: two hosts behind NATs, Bases that relay, and the part of an engine around each machine.

type event struct {
	at  time.Duration
	seq int
	do  func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	old := *e
	x := old[len(old)-1]
	*e = old[:len(old)-1]
	return x
}

type world struct {
	t      testing.TB
	now    time.Duration
	queue  events
	seq    int
	random *rand.Rand
	nats   map[netip.Addr]*nat
	hosts  map[netip.Addr]*host
	// delay is the one-way time of the internet, hops its routers.
	delay, jitter time.Duration
	hops          int
	mtu           int                    // of the internet
	drop          func(p *datagram) bool // extra loss
	victims       map[netip.AddrPort]int // datagrams to nobody
	ttlDied       int
}

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func newWorld(t testing.TB, seed uint64) *world {
	return &world{
		t: t, random: rand.New(rand.NewPCG(seed, 1)), nats: map[netip.Addr]*nat{}, hosts: map[netip.Addr]*host{},
		delay: 20 * time.Millisecond, hops: 6, mtu: 1500, victims: map[netip.AddrPort]int{},
	}
}

func (w *world) time() time.Time { return epoch.Add(w.now) }

func (w *world) after(d time.Duration, do func()) {
	w.seq++
	heap.Push(&w.queue, event{w.now + d, w.seq, do})
}

// run lets time pass, until done says so; it reports whether it did.
func (w *world) run(d time.Duration, done func() bool) bool {
	end := w.now + d
	for len(w.queue) > 0 && w.queue[0].at <= end {
		e := heap.Pop(&w.queue).(event)
		w.now = e.at
		e.do()
		if done != nil && done() {
			return true
		}
	}
	w.now = end
	return false
}

type datagram struct {
	src, dst netip.AddrPort
	ttl      int
	size     int
	body     any
}

// Bodies.
type (
	askBody struct {
		sequence uint32
		flags    byte
		kind     Kind
	}
	replyBody  struct{ sequence uint32 }
	dataBody   struct{ number int }
	signalBody struct {
		signal  Signal
		mapping Mapping
	}
)

// internet carries a datagram between public addresses.
func (w *world) internet(p datagram) {
	if p.ttl -= w.hops; p.ttl <= 0 {
		w.ttlDied++
		return
	}
	if p.size > w.mtu || w.drop != nil && w.drop(&p) {
		return
	}
	delay := w.delay
	if w.jitter > 0 {
		delay += time.Duration(w.random.Int64N(int64(w.jitter)))
	}
	w.after(delay, func() { w.inward(p) })
}

func (w *world) inward(p datagram) {
	if n := w.nats[p.dst.Addr()]; n != nil {
		n.in(p)
	} else if h := w.hosts[p.dst.Addr()]; h != nil {
		h.receive(p)
	} else {
		w.victims[p.dst]++
	}
}

type behaviour uint8 // RFC 4787

const (
	endpointIndependent behaviour = iota
	addressDependent
	addressAndPortDependent
)

// natKind is what a NAT does. linux is conntrack: ports are kept while the five-tuple is free, filtering is by five-tuple; without input filter an
// unexpected datagram makes an entry of its own, which takes the five-tuple.
type natKind struct {
	name               string
	mapping, filtering behaviour
	linux, inputFilter bool
	outer              *natKind // a second layer
}

type nat struct {
	w        *world
	kind     natKind
	external netip.Addr
	outer    *nat
	inner    func(datagram)
	table    map[natKey]uint16                  // mapping
	back     map[uint16]netip.AddrPort          // external port to inside
	allowed  map[uint16]map[netip.AddrPort]bool // who may send to the port; port 0 = the whole address
	tuples   map[tuple]netip.AddrPort           // linux: reply tuple to inside; invalid = the router itself
	taken    map[tuple]time.Duration            // linux: when the router's own entries end
	ends     map[tuple]time.Duration            // linux: when entries end
}

type natKey struct {
	inside, remote netip.AddrPort
}

type tuple struct {
	remote netip.AddrPort
	port   uint16
}

func newNAT(w *world, kind natKind, external netip.Addr, inner func(datagram)) *nat {
	n := &nat{w: w, kind: kind, external: external, inner: inner}
	n.reset()
	return n
}

func (n *nat) reset() {
	n.table, n.back, n.allowed = map[natKey]uint16{}, map[uint16]netip.AddrPort{}, map[uint16]map[netip.AddrPort]bool{}
	n.tuples, n.taken = map[tuple]netip.AddrPort{}, map[tuple]time.Duration{}
	n.ends = map[tuple]time.Duration{}
}

func (n *nat) out(p datagram) {
	if p.ttl--; p.ttl <= 0 {
		n.w.ttlDied++
		return
	}
	p.src = netip.AddrPortFrom(n.external, n.mapped(p.src, p.dst))
	if n.outer != nil {
		n.outer.out(p)
	} else {
		n.w.internet(p)
	}
}

func (n *nat) mapped(inside, remote netip.AddrPort) uint16 {
	if n.kind.linux {
		key := natKey{inside, remote}
		if port, ok := n.table[key]; ok {
			tu := tuple{remote, port}
			if n.w.now < n.ends[tu] {
				n.ends[tu] = max(n.ends[tu], n.w.now+30*time.Second)
				return port
			}
			delete(n.table, key)
			delete(n.tuples, tu)
		}
		for port := inside.Port(); ; port = uint16(1024 + n.w.random.IntN(64512)) {
			tu := tuple{remote, port}
			if until, ok := n.taken[tu]; ok && n.w.now < until {
				continue
			}
			if _, ok := n.tuples[tu]; ok {
				continue
			}
			n.tuples[tu] = inside
			n.table[key] = port
			n.ends[tu] = n.w.now + 30*time.Second
			return port
		}
	}
	key := natKey{inside: inside}
	switch n.kind.mapping {
	case addressDependent:
		key.remote = netip.AddrPortFrom(remote.Addr(), 0)
	case addressAndPortDependent:
		key.remote = remote
	}
	port, ok := n.table[key]
	if !ok {
		for port = uint16(1024 + n.w.random.IntN(64512)); ; port = uint16(1024 + n.w.random.IntN(64512)) {
			if _, used := n.back[port]; !used {
				break
			}
		}
		n.table[key], n.back[port] = port, inside
		n.allowed[port] = map[netip.AddrPort]bool{}
	}
	n.allowed[port][remote] = true
	n.allowed[port][netip.AddrPortFrom(remote.Addr(), 0)] = true
	return port
}

func (n *nat) in(p datagram) {
	if p.ttl--; p.ttl <= 0 {
		return
	}
	if n.kind.linux {
		tu := tuple{p.src, p.dst.Port()}
		inside, ok := n.tuples[tu]
		if !ok || n.w.now >= n.ends[tu] {
			if !n.kind.inputFilter {
				n.taken[tu] = n.w.now + 30*time.Second
			}
			return
		}
		n.ends[tu] = n.w.now + 120*time.Second
		p.dst = inside
		n.inner(p)
		return
	}
	inside, ok := n.back[p.dst.Port()]
	if !ok {
		return
	}
	switch n.kind.filtering {
	case addressDependent:
		ok = n.allowed[p.dst.Port()][netip.AddrPortFrom(p.src.Addr(), 0)]
	case addressAndPortDependent:
		ok = n.allowed[p.dst.Port()][p.src]
	}
	if ok {
		p.dst = inside
		n.inner(p)
	}
}

// A simSocket is a direct carrier, a simRelay a relay.
// uplink, if not nil, has a socket send by it in place of the one that the host's routing chooses.
type simSocket struct {
	h      *host
	port   uint16
	uplink *uplink
}

// uplink is a second way of a host to the internet.
type uplink struct {
	inside netip.Addr
	nat    *nat
	down   bool
}

type simRelay struct {
	w     *world
	name  string
	ends  [2]*host
	delay time.Duration // one way, end to end
	down  bool
	kind  Kind
}

type host struct {
	w       *world
	name    string
	inside  netip.Addr
	nats    []*nat // from the inside out
	main    *simSocket
	spare   *simSocket   // by the second uplink, nil if there is none
	bySpare int          // datagrams sent by it
	copies  bool         // talk sends everything twice
	both    map[int]bool // numbers of the data that came, by whatever path
	number  int
	sockets map[uint16]*simSocket
	peer    *host
	relays  []*simRelay
	m       *Machine
	mapping Mapping
	lanMTU  int
	off     bool

	local    []Candidate // extra candidates toward this host, as its peer sees them
	spray    *Spray
	extra    []*simSocket
	armed    time.Duration
	sent     []time.Duration // probes, those of a Spray apart
	sprayed  int
	received time.Duration // last data
	gap      time.Duration // longest time without data
	data     map[Kind]int
	roam     int
}

func (w *world) host(name string, index int, kind *natKind) *host {
	h := &host{w: w, name: name, sockets: map[uint16]*simSocket{}, data: map[Kind]int{}, armed: -1}
	h.main = &simSocket{h: h, port: 5582}
	h.sockets[5582] = h.main
	h.m = New(rand.NewPCG(w.random.Uint64(), 7))
	h.attach(index, kind)
	return h
}

// attach puts a host behind NATs of its own.
func (h *host) attach(index int, kind *natKind) {
	w := h.w
	h.roam++
	delete(w.hosts, h.inside)
	h.nats = nil
	h.mapping = Independent
	if kind == nil {
		h.inside = netip.AddrFrom4([4]byte{198, 51, byte(index), byte(h.roam)})
		w.hosts[h.inside] = h
		h.m.SetTTL(2)
		return
	}
	h.inside = netip.AddrFrom4([4]byte{192, 168, byte(index), byte(h.roam)})
	inner := h.receive
	layer := 0
	for k := kind; k != nil; k = k.outer {
		external := netip.AddrFrom4([4]byte{100, 64, byte(index), byte(h.roam)})
		if k.outer == nil {
			external = netip.AddrFrom4([4]byte{203, 0, byte(index), byte(h.roam)})
		}
		n := newNAT(w, *k, external, inner)
		if k.outer == nil {
			w.nats[external] = n
		}
		if layer > 0 {
			h.nats[layer-1].outer = n
		}
		if !k.linux && k.mapping != endpointIndependent {
			h.mapping = Dependent
		}
		h.nats = append(h.nats, n)
		inner = n.in
		layer++
	}
	h.m.SetTTL(byte(layer) + 2)
}

var base = netip.MustParseAddrPort("192.0.2.1:5582")

// addSpare gives a host a second uplink behind a NAT of its own, such as LTE beside Wi-Fi.
func (h *host) addSpare(index int, kind natKind) {
	u := &uplink{inside: netip.AddrFrom4([4]byte{10, 64, byte(index), 1})}
	external := netip.AddrFrom4([4]byte{203, 1, byte(index), 1})
	u.nat = newNAT(h.w, kind, external, h.receive)
	h.w.nats[external] = u.nat
	h.spare = &simSocket{h: h, port: 5582, uplink: u}
}

// observed is the host's endpoint as a Base sees it.
func (h *host) observed() netip.AddrPort {
	e := netip.AddrPortFrom(h.inside, h.main.port)
	for _, n := range h.nats {
		e = netip.AddrPortFrom(n.external, n.mapped(e, base))
	}
	return e
}

// candidates is what the host knows of its peer.
func (h *host) candidates() []Candidate {
	var cs []Candidate
	for _, r := range h.relays {
		if !slices.Contains(r.ends[:], nil) {
			cs = append(cs, Candidate{Key: Key{Carrier: r}, Kind: r.kind, Bound: 1500})
		}
	}
	cs = append(cs, Candidate{Key: Key{h.main, h.peer.observed()}, Kind: Direct, Bound: 1500})
	if len(h.peer.nats) > 0 {
		// Its own address, where nobody is.
		cs = append(cs, Candidate{Key: Key{h.main, netip.AddrPortFrom(h.peer.inside, h.peer.main.port)}, Kind: Direct, Bound: 1500})
	}
	for _, c := range slices.Clone(cs) {
		if h.spare != nil && c.Kind == Direct {
			c.Carrier, c.Spare, c.Uplink = h.spare, true, 2
			cs = append(cs, c)
		}
	}
	for i := range cs {
		if cs[i].Carrier == h.main {
			cs[i].Uplink = 1
		}
	}
	return append(cs, h.peer.local...)
}

func (h *host) offer() { h.m.SetCandidates(h.w.time(), h.candidates()); h.pump() }

// send sends a body by a path.
func (h *host) send(key Key, ttl byte, size int, body any) {
	if h.off {
		return
	}
	switch c := key.Carrier.(type) {
	case *simRelay:
		to := c.ends[0]
		if to == h {
			to = c.ends[1]
		}
		if c.down || to.off || size > h.w.mtu {
			return
		}
		h.w.after(c.delay, func() { to.handle(Key{Carrier: c}, c.kind, body) })
	case *simSocket:
		if c.h != h {
			panic("a socket of another host")
		}
		hops := 64
		if ttl > 0 {
			hops = int(ttl)
		}
		p := datagram{src: netip.AddrPortFrom(h.inside, c.port), dst: key.Remote, ttl: hops, size: size, body: body}
		if u := c.uplink; u != nil {
			if h.bySpare++; !u.down && !key.Remote.Addr().IsPrivate() {
				p.src = netip.AddrPortFrom(u.inside, c.port)
				u.nat.out(p)
			}
			return
		}
		switch {
		case key.Remote.Addr() == h.peer.inside && h.onLink(key.Remote):
			if size <= h.lanMTU {
				h.w.after(time.Millisecond/2, func() { h.peer.receive(p) })
			}
		case key.Remote.Addr().IsPrivate():
			h.w.victims[key.Remote]++
		case len(h.nats) > 0:
			h.nats[0].out(p)
		default:
			h.w.internet(p)
		}
	}
}

func (h *host) onLink(remote netip.AddrPort) bool { return h.lanMTU > 0 && h.peer.lanMTU > 0 }

func (h *host) receive(p datagram) {
	s := h.sockets[p.dst.Port()]
	if h.spare != nil && p.dst.Addr() == h.spare.uplink.inside {
		s = h.spare
		if s.uplink.down {
			return
		}
	} else if p.dst.Addr() != h.inside {
		return
	}
	if s == nil || h.off {
		return
	}
	kind := Direct
	if p.src.Addr() == h.peer.inside && h.onLink(p.src) {
		kind = LAN
	}
	h.handle(Key{s, p.src}, kind, p.body)
}

// handle is the engine: authentic messages.
func (h *host) handle(key Key, kind Kind, body any) {
	if h.off {
		return
	}
	now := h.w.time()
	switch b := body.(type) {
	case askBody:
		h.m.Asked(now, key, kind, b.flags)
		h.send(key, 0, 0, replyBody{b.sequence})
	case replyBody:
		h.m.Reply(now, key, kind, b.sequence)
	case dataBody:
		h.m.Arrived(now, key, kind)
		h.m.Traffic(now)
		if h.received > 0 {
			h.gap = max(h.gap, h.w.now-h.received)
		}
		h.received = h.w.now
		h.data[kind]++
		if h.both != nil {
			h.both[b.number] = true
		}
	case signalBody:
		h.m.SetCandidates(now, h.candidates())
		h.m.Signaled(now, b.signal)
		if b.signal == SignalSpray {
			h.startSpray()
		}
	}
	h.pump()
}

// pump carries out what the machine wants.
func (h *host) pump() {
	now := h.w.time()
	h.m.Tick(now)
	for n := 0; ; n++ {
		if n > 1000 {
			h.w.t.Fatalf("%s: Poll does not end", h.name)
		}
		o, ok := h.m.Poll(now)
		if !ok {
			break
		}
		if o.Signal != NoSignal {
			if key, _, _, ok := h.m.Best(); ok {
				h.send(key, 0, 0, signalBody{o.Signal, h.mapping})
			}
			if o.Signal == SignalSpray {
				h.startSpray()
			}
			continue
		}
		h.sent = append(h.sent, h.w.now)
		h.send(o.Probe.Key, o.Probe.TTL, o.Probe.Size, askBody{o.Probe.Sequence, o.Probe.Flags, o.Probe.Kind})
	}
	h.check()
	if next := h.m.Next(); !next.IsZero() {
		if !next.After(now) {
			h.w.t.Fatalf("%s at %v: Next is %v ago", h.name, h.w.now, now.Sub(next))
		}
		at := next.Sub(epoch)
		if h.armed < 0 || at < h.armed || h.armed <= h.w.now {
			h.armed = at
			h.w.after(at-h.w.now, func() {
				if h.armed == h.w.now {
					h.armed = -1
					h.pump()
				}
			})
		}
	}
}

// check holds the machine to what must always be so.
func (h *host) check() { checkBest(h.w.t, h.m) }

func checkBest(t testing.TB, m *Machine) {
	key, kind, _, ok := m.Best()
	if !ok {
		return
	}
	if tr := m.find(key); tr == nil || tr != m.best || !kind.Relayed() && !tr.is(answered) {
		t.Fatalf("Best is %v %v, which never answered", kind, key)
	}
}

func (h *host) startSpray() {
	if h.spray != nil && !h.spray.Done() {
		return
	}
	role := RoleOf(h.mapping, h.peer.mapping)
	if role == NoRole {
		return
	}
	if role == Hard && h.extra == nil {
		for i := range SpraySockets {
			s := &simSocket{h: h, port: uint16(20000 + i)}
			h.sockets[s.port] = s
			h.extra = append(h.extra, s)
		}
	}
	h.spray = NewSpray(h.w.time(), rand.NewPCG(h.w.random.Uint64(), 3), role, h.peer.observed(), byte(len(h.nats)+2))
	h.pumpSpray()
}

func (h *host) pumpSpray() {
	if _, kind, _, ok := h.m.Best(); ok && !kind.Relayed() {
		h.spray.Stop()
	}
	for {
		p, ok := h.spray.Poll(h.w.time())
		if !ok {
			break
		}
		s := h.main
		if p.Socket >= 0 {
			s = h.extra[p.Socket]
		}
		h.sprayed++
		h.send(Key{s, p.Remote}, p.TTL, 0, askBody{p.Sequence, 0, Direct})
	}
	if next := h.spray.Next(); !next.IsZero() {
		h.w.after(next.Sub(h.w.time()), h.pumpSpray)
	}
}

// kindNow is the kind of the selected path.
func (h *host) kindNow() Kind {
	_, kind, _, ok := h.m.Best()
	if !ok {
		return 255
	}
	return kind
}

// talk sends data every interval, while on.
func (h *host) talk(interval time.Duration, on *bool) {
	if !*on {
		return
	}
	now := h.w.time()
	h.m.Traffic(now)
	h.pump()
	h.number++
	if key, _, _, ok := h.m.Best(); ok {
		h.send(key, 0, 0, dataBody{h.number})
	}
	if h.copies {
		h.m.Copying(now)
		h.pump()
		if key, _, _, ok := h.m.Backup(); ok {
			h.send(key, 0, 0, dataBody{h.number})
		}
	}
	h.w.after(interval, func() { h.talk(interval, on) })
}

// pair makes two hosts that know each other by relays.
func (w *world) pair(a, b *natKind, relays int) (x, y *host) {
	x, y = w.host("a", 1, a), w.host("b", 2, b)
	x.peer, y.peer = y, x
	for i := range relays {
		r := &simRelay{w: w, name: fmt.Sprint("base", i), ends: [2]*host{x, y}, delay: time.Duration(30+10*i) * time.Millisecond, kind: RelayUDP}
		x.relays, y.relays = append(x.relays, r), append(y.relays, r)
	}
	return x, y
}

// meet begins contact over the first relay, with traffic both ways.
func (w *world) meet(x, y *host, on *bool) {
	for _, h := range []*host{x, y} {
		h.m.SetCandidates(w.time(), h.candidates())
		if len(h.relays) > 0 {
			h.m.Proved(w.time(), Key{Carrier: h.relays[0]}, RelayUDP, 0)
		}
		h.m.Enable(w.time(), true)
	}
	x.talk(20*time.Millisecond, on)
	w.after(7*time.Millisecond, func() { y.talk(20*time.Millisecond, on) })
}
