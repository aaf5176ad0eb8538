package spdp

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
	"github.com/hnet-robotics/hnet_bridge/test/virtual"
)

// world is hosts with daemons and participants, in virtual time.
type world struct {
	t     *testing.T
	now   time.Time
	queue virtual.Queue
	rng   *rand.Rand
	loss  float64 // between daemons
	quick bool    // what a participant knows is not looked at again
	delay time.Duration
	hosts []*simHost
	by    map[netip.Addr]*simHost
	// between daemons, all of it
	datagrams, bytes int
}

type simHost struct {
	w        *world
	addr     netip.Addr
	four     netip.Addr
	detect   func(uint16) Release
	m        *Machine
	runs     int
	off      bool
	release  Release
	mixed    bool
	peers    []Peer
	sockets  bool // the machine is shown them
	ports    map[uint16]*program
	inodes   uint64
	tickAt   time.Time
	stranger func(Datagram) // what it sends to where nobody listens
}

// program is a participant.
type program struct {
	host    *simHost
	prefix  wire.GuidPrefix
	domain  uint16
	port    uint16
	inode   uint64
	ended   bool
	only4   bool // has no IPv6
	known   map[wire.GuidPrefix]wire.ParticipantData
	learned map[wire.GuidPrefix]time.Time
	forgot  map[wire.GuidPrefix]time.Time
	heard   int
	sn      wire.SequenceNumber
	user    string
}

func newWorld(t *testing.T, hosts int) *world {
	w := &world{t: t, now: time.Unix(1e9, 0), rng: rand.New(rand.NewPCG(1, 2)), delay: 20 * time.Millisecond, by: map[netip.Addr]*simHost{}}
	for i := range hosts {
		h := &simHost{w: w, addr: overlayAddr(i + 1), sockets: true, ports: map[uint16]*program{}}
		w.hosts = append(w.hosts, h)
		w.by[h.addr] = h
	}
	return w
}

func overlayAddr(i int) netip.Addr {
	b := [16]byte{0xfc, 0x94}
	binary.BigEndian.PutUint16(b[14:], uint16(i))
	return netip.AddrFrom16(b)
}

func (w *world) after(d time.Duration, f func()) { w.queue.At(w.now.Add(d), f) }

func (w *world) run(d time.Duration) { w.queue.Run(&w.now, d) }

// whitelist makes all hosts each other's connected peers.
func (w *world) whitelist() {
	for _, h := range w.hosts {
		h.peers = nil
		for _, other := range w.hosts {
			if other != h {
				h.peers = append(h.peers, Peer{Address: other.addr, IPv4: other.four, Connected: true})
			}
		}
		if h.m != nil {
			h.setPeers()
		}
	}
}

// populate starts daemons that are each other's peers, and so many participants of domain 0 with each.
func (w *world) populate(each int) (list []*program) {
	w.whitelist()
	for _, h := range w.hosts {
		h.start()
		for range each {
			list = append(list, h.program(0))
		}
	}
	return list
}

func (h *simHost) setPeers() {
	h.m.SetPeers(h.w.now, h.peers)
	h.flush()
}

// start starts the daemon, for the first time or again.
func (h *simHost) start() {
	h.runs++
	h.m = New(h.w.now, Options{
		Address: h.addr, Run: uint32(h.addr.As16()[15])<<8 | uint32(h.runs), Release: h.release, Detect: h.detect, Mixed: h.mixed,
		Probe: wire.GuidPrefix{1, 0x68, h.addr.As16()[14], h.addr.As16()[15], byte(h.runs)},
	})
	h.m.SetIPv4(h.w.now, h.four)
	h.setPeers()
	run := h.runs
	var scan func()
	scan = func() {
		if h.runs != run || h.m == nil {
			return
		}
		if h.sockets {
			h.scan()
			if m := h.m; m.Unseen() {
				h.w.after(scanSoon, func() {
					if h.m == m {
						h.scan()
					}
				})
			}
		}
		h.w.after(scanBusy, scan)
	}
	scan()
}

func (h *simHost) scan() {
	list := []Socket{{Port: LocalPort, Inode: 1}, {Port: PeerPort, Inode: 2}, {Port: 53, Inode: 3}}
	for _, p := range h.ports {
		list = append(list, Socket{Port: p.port, Inode: p.inode, IPv4: p.only4})
	}
	h.m.Sockets(h.w.now, list)
	h.flush()
}

func (h *simHost) stop() { h.m = nil; h.tickAt = time.Time{} }

// flush carries what the machine sends, and calls it again when it wants.
func (h *simHost) flush() {
	w := h.w
	if h.m == nil {
		return
	}
	for _, d := range h.m.Out() {
		switch {
		case d.Local:
			if d.To.Addr() != h.addr && d.To.Addr() != h.four {
				w.t.Errorf("%v sends to %v as if it were here", h.addr, d.To)
			}
			p := h.ports[d.To.Port()]
			if p == nil || p.only4 != d.To.Addr().Is4() {
				continue
			}
			if _, ok := p.known[wire.GuidPrefix(d.Payload[8:20])]; ok && w.quick {
				p.heard++
			} else {
				w.after(time.Millisecond, func() { p.hear(d.Payload) })
			}
		default:
			w.datagrams++
			w.bytes += len(d.Payload)
			if d.To.Port() != PeerPort || len(d.Payload) > MaxMessage {
				w.t.Errorf("%d bytes to %v", len(d.Payload), d.To)
			}
			other := w.by[d.To.Addr()]
			if other == nil || other.off || h.off {
				if h.stranger != nil {
					h.stranger(d)
				}
				continue
			}
			if w.rng.Float64() < w.loss {
				continue
			}
			w.after(w.delay, func() {
				if other.m != nil && !other.off {
					other.m.Remote(w.now, netip.AddrPortFrom(h.addr, PeerPort), d.Payload)
					other.flush()
				}
			})
		}
	}
	m := h.m
	next := m.Next(w.now)
	if next.IsZero() || !h.tickAt.IsZero() && !h.tickAt.After(next) {
		return
	}
	h.tickAt = next
	w.after(max(0, next.Sub(w.now)), func() {
		if h.m != m || h.tickAt != next {
			return
		}
		h.tickAt = time.Time{}
		m.Tick(w.now)
		h.flush()
	})
}

// program starts a participant.
func (h *simHost) program(domain uint16) *program {
	p := h.newProgram(domain)
	p.announceAlways()
	return p
}

func (h *simHost) newProgram(domain uint16) *program {
	port := 7410 + 250*domain
	for h.ports[port] != nil {
		port += 2
	}
	h.inodes++
	p := &program{host: h, domain: domain, port: port, inode: 100 + h.inodes, sn: 1, known: map[wire.GuidPrefix]wire.ParticipantData{}, learned: map[wire.GuidPrefix]time.Time{}, forgot: map[wire.GuidPrefix]time.Time{}}
	a := h.addr.As16()
	copy(p.prefix[:], a[12:])
	binary.BigEndian.PutUint32(p.prefix[4:], uint32(h.inodes))
	h.ports[port] = p
	return p
}

func (p *program) announceAlways() {
	if p.ended {
		return
	}
	p.announce()
	p.host.w.after(5*time.Second, p.announceAlways)
}

func (p *program) locators() (meta, user wire.Locator) {
	a := p.host.addr
	if p.only4 {
		a = p.host.four
	}
	return wire.LocatorFrom(netip.AddrPortFrom(a, p.port)), wire.LocatorFrom(netip.AddrPortFrom(a, p.port+1))
}

func (p *program) data() wire.ParticipantData {
	meta, user := p.locators()
	lan := wire.LocatorFrom(netip.MustParseAddrPort("192.168.1.7:7410"))
	shm := wire.Locator{Kind: wire.LocatorSHM, Port: 7410}
	return wire.ParticipantData{
		GUID: wire.GUID{Prefix: p.prefix, Entity: wire.EntityParticipant}, Version: wire.Version, Vendor: wire.VendorCyclone,
		Builtin: wire.HasAll, Lease: 10 * time.Second, MetatrafficUnicast: []wire.Locator{lan, shm, meta}, DefaultUnicast: []wire.Locator{user, lan},
		MetatrafficMulticast: []wire.Locator{wire.LocatorFrom(netip.AddrPortFrom(netip.MustParseAddr("239.255.0.1"), 7400+250*p.domain))},
		HasDomainID:          true, DomainID: uint32(p.domain), Name: "a participant", UserData: []byte("enclave=/;" + p.user),
	}
}

func spdpMessage(prefix wire.GuidPrefix, sn wire.SequenceNumber, payload []byte) []byte {
	b := wire.NewBuilder(nil, wire.Header{Version: wire.Version, Vendor: wire.VendorCyclone, Prefix: prefix})
	b.InfoTS(wire.TimestampFrom(time.Unix(1e9, 0)))
	b.Data(&wire.Data{Writer: wire.EntitySPDPWriter, SN: sn, Content: wire.DataContent, Payload: payload})
	return b.Bytes()
}

func (p *program) announce() {
	d := p.data()
	p.tell(spdpMessage(p.prefix, p.sn, d.Append(nil)))
}

func (p *program) tell(b []byte) {
	if h := p.host; h.m != nil {
		from := h.addr
		if p.only4 {
			from = h.four
		}
		h.m.Local(h.w.now, netip.AddrPortFrom(from, p.port), b)
		h.flush()
	}
}

// hear takes what comes to the participant's discovery port, and answers as Cyclone DDS does: to whom it has not known.
func (p *program) hear(b []byte) {
	w := p.host.w
	r, err := wire.NewReader(b)
	if err != nil || p.ended {
		return
	}
	p.heard++
	for s, ok := r.Next(); ok; s, ok = r.Next() {
		d := s.(*wire.Data)
		q, err := wire.ParseInlineQoS(d.InlineQoS)
		if err != nil || d.Writer != wire.EntitySPDPWriter {
			w.t.Errorf("%v hears %v, %v", p.prefix, d, err)
		}
		prefix := r.Source().Prefix
		if q.Status != 0 {
			if g, ok := wire.EndedGUID(d, &q, wire.PIDParticipantGUID); !ok || g.Prefix != prefix || wire.GUIDFrom(q.KeyHash) != g {
				w.t.Errorf("%v hears of an end of %v by %v", p.prefix, g, prefix)
			}
			delete(p.known, prefix)
			p.forgot[prefix] = w.now
			continue
		}
		data, err := wire.ParseParticipant(d.Payload)
		if err != nil || data.GUID.Prefix != prefix || data.DomainID != uint32(p.domain) || prefix == p.prefix {
			w.t.Errorf("%v hears of %+v, %v", p.prefix, data, err)
			continue
		}
		if data.Name == "hnet discovery relay" {
			p.announce()
			continue
		}
		if _, ok := p.known[prefix]; !ok {
			p.learned[prefix] = w.now
		}
		p.known[prefix] = data
	}
}

// kill ends the participant without a word, leave with one.
func (p *program) kill() {
	p.ended = true
	delete(p.host.ports, p.port)
}

func (p *program) leave() {
	p.kill()
	guid := wire.GUID{Prefix: p.prefix, Entity: wire.EntityParticipant}
	b := wire.NewBuilder(nil, wire.Header{Version: wire.Version, Vendor: wire.VendorCyclone, Prefix: p.prefix})
	b.Data(&wire.Data{
		Writer: wire.EntitySPDPWriter, SN: p.sn + 1, Content: wire.KeyContent, Payload: wire.AppendKey(nil, wire.PIDParticipantGUID, guid),
		InlineQoS: wire.ParameterList{Bytes: wire.AppendInlineQoS(nil, wire.InlineQoS{Status: wire.StatusDisposed | wire.StatusUnregistered})},
	})
	p.tell(b.Bytes())
}

// want checks who knows whom: all of the same domain, as rule says.
func (w *world) want(list []*program, rule func(a, b *program) bool) error {
	for _, a := range list {
		for _, b := range list {
			if a == b || a.ended {
				continue
			}
			_, knows := a.known[b.prefix]
			if want := !b.ended && a.domain == b.domain && rule(a, b); knows != want {
				return fmt.Errorf("%v (of %v) knows %v (of %v): %v, want %v", a.prefix, a.host.addr, b.prefix, b.host.addr, knows, want)
			}
		}
	}
	return nil
}

func all(a, b *program) bool { return true }

func (w *world) must(list []*program, rule func(a, b *program) bool, when string) {
	w.t.Helper()
	if err := w.want(list, rule); err != nil {
		w.t.Fatalf("%s: %v", when, err)
	}
}
