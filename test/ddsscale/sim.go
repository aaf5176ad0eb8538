package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"time"

	"github.com/hnet-robotics/hnet_bridge/dds/spdp"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
	"github.com/hnet-robotics/hnet_bridge/test/virtual"
)

// ipUDP is what IPv6 and UDP add to a datagram on hnet0, in bytes.
const ipUDP = 48

// result is what the relay costs one host, on average.
type result struct {
	hosts, each int
	// known is how long it took, at the most, from when the later of two participants and their two daemons had started until
	// either participant was told of the other.
	known time.Duration
	// Sent and received to and from other hosts in the first minute and in a quiet one; on hnet0.
	join, idle traffic
	inject     int           // datagrams to the host's own participants in the quiet minute
	memory     uint64        // bytes of heap
	cpu        time.Duration // of a quiet minute
	cpuJoin    time.Duration // of the first
}

type traffic struct{ packets, bytes int }

// world is hosts in virtual time, with one path of 10 to 30 ms from each to each.
type world struct {
	now   time.Time
	queue virtual.Queue
	rng   *rand.Rand
	hosts []*host
	by    map[netip.Addr]*host
	known time.Duration
}

type host struct {
	w        *world
	addr     netip.Addr
	machine  *spdp.Machine
	programs []*program
	tickAt   time.Time
	sum      traffic
	injected int
	cpu      time.Duration
	started  time.Time
}

// program is a participant: half of them announce themselves as Cyclone DDS does, every 30 s, half as Fast DDS, every 3 s.
type program struct {
	host   *host
	port   uint16
	prefix wire.GuidPrefix
	said   time.Time
	every  time.Duration
	data   []byte
	known  map[wire.GuidPrefix]bool
}

func (w *world) after(d time.Duration, f func()) { w.queue.At(w.now.Add(d), f) }

func (w *world) run(d time.Duration) { w.queue.Run(&w.now, d) }

func addressOf(i int) netip.Addr {
	b := [16]byte{0xfc, 0x94}
	binary.BigEndian.PutUint16(b[14:], uint16(i+1))
	return netip.AddrFrom16(b)
}

// simulate has all hosts and participants start within a second.
func simulate(hosts, each int) (result, error) {
	w := &world{now: time.Unix(1e9, 0), rng: rand.New(rand.NewPCG(1, uint64(hosts))), by: map[netip.Addr]*host{}}
	for i := range hosts {
		h := &host{w: w, addr: addressOf(i)}
		w.hosts, w.by[h.addr] = append(w.hosts, h), h
	}
	for i, h := range w.hosts {
		w.after(time.Duration(w.rng.IntN(1000))*time.Millisecond, func() { h.start(uint32(i + 1)) })
		for k := range each {
			p := newProgram(h, uint16(7410+2*k), byte(k))
			h.programs = append(h.programs, p)
			w.after(time.Duration(w.rng.IntN(1000))*time.Millisecond, p.always)
		}
	}
	r := result{hosts: hosts, each: each}
	w.run(time.Minute)
	for _, h := range w.hosts {
		for _, p := range h.programs {
			if len(p.known) != hosts*each-1 {
				return r, fmt.Errorf("%d x %d: a participant knows %d others after a minute", hosts, each, len(p.known))
			}
		}
	}
	r.known = w.known
	r.join, _, r.cpuJoin = w.take()
	w.run(time.Minute)
	w.take()
	const quiet = 6 // minutes
	w.run(quiet * time.Minute)
	r.idle, r.inject, r.cpu = w.take()
	r.idle.packets /= quiet
	r.idle.bytes /= quiet
	r.inject /= quiet
	r.cpu /= quiet
	r.memory = w.memory()
	return r, nil
}

// take is what was counted since the last call, per host.
func (w *world) take() (sum traffic, injected int, cpu time.Duration) {
	for _, h := range w.hosts {
		sum.packets += h.sum.packets
		sum.bytes += h.sum.bytes
		injected += h.injected
		cpu += h.cpu
		h.sum, h.injected, h.cpu = traffic{}, 0, 0
	}
	n := len(w.hosts)
	return traffic{sum.packets / n, sum.bytes / n}, injected / n, cpu / time.Duration(n)
}

// memory is what goes with the machines, per host.
func (w *world) memory() uint64 {
	used := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	w.queue.Clear() // it holds machines, too
	before := used()
	for _, h := range w.hosts {
		h.machine = nil
	}
	after := used()
	runtime.KeepAlive(w)
	return (before - after) / uint64(len(w.hosts))
}

func (h *host) start(run uint32) {
	var list []spdp.Peer
	for _, other := range h.w.hosts {
		if other != h {
			list = append(list, spdp.Peer{Address: other.addr, Connected: true})
		}
	}
	h.started = h.w.now
	h.call(func() {
		h.machine = spdp.New(h.w.now, spdp.Options{Address: h.addr, Run: run, Probe: wire.GuidPrefix{1, 0x68, byte(run >> 8), byte(run)}})
		h.machine.SetPeers(h.w.now, list)
	})
	h.scan()
}

// scan shows the machine the host's sockets, as its loop does every second.
func (h *host) scan() {
	var list []spdp.Socket
	for _, p := range h.programs {
		list = append(list, spdp.Socket{Port: p.port, Inode: uint64(p.port)})
	}
	h.call(func() { h.machine.Sockets(h.w.now, list) })
	h.w.after(time.Second, h.scan)
}

// call runs a part of the machine against the clock, and then carries what it sends.
func (h *host) call(f func()) {
	began := time.Now()
	f()
	out := h.machine.Out()
	next := h.machine.Next(h.w.now)
	h.cpu += time.Since(began)
	w := h.w
	for _, d := range out {
		if d.Local {
			h.injected++
			h.programs[(d.To.Port()-7410)/2].hear(d.Payload)
			continue
		}
		other := w.by[d.To.Addr()]
		for _, x := range []*host{h, other} {
			x.sum.packets++
			x.sum.bytes += len(d.Payload) + ipUDP
		}
		w.after(time.Duration(10+w.rng.IntN(20))*time.Millisecond, func() {
			if other.machine != nil {
				other.call(func() { other.machine.Remote(w.now, netip.AddrPortFrom(h.addr, spdp.PeerPort), d.Payload) })
			}
		})
	}
	if next.IsZero() || !h.tickAt.IsZero() && !h.tickAt.After(next) {
		return
	}
	h.tickAt = next
	w.after(max(0, next.Sub(w.now)), func() {
		if h.tickAt == next {
			h.tickAt = time.Time{}
			h.call(func() { h.machine.Tick(w.now) })
		}
	})
}

func newProgram(h *host, port uint16, k byte) *program {
	a := h.addr.As16()
	p := &program{host: h, port: port, every: 30 * time.Second, known: map[wire.GuidPrefix]bool{}}
	if k%2 == 1 {
		p.every = 3 * time.Second
	}
	p.prefix = wire.GuidPrefix{2, 2, a[14], a[15], k}
	p.data = announcement(p.prefix, h.addr, port)
	return p
}

// announcement is of a usual size: a ROS 2 node's participant, with names of host and process.
func announcement(prefix wire.GuidPrefix, addr netip.Addr, port uint16) []byte {
	meta, user := wire.LocatorFrom(netip.AddrPortFrom(addr, port)), wire.LocatorFrom(netip.AddrPortFrom(addr, port+1))
	d := wire.ParticipantData{
		GUID: wire.GUID{Prefix: prefix, Entity: wire.EntityParticipant}, Version: wire.Version, Vendor: wire.VendorCyclone, Builtin: wire.HasAll,
		Lease: 10 * time.Second, MetatrafficUnicast: []wire.Locator{meta}, DefaultUnicast: []wire.Locator{user}, HasDomainID: true,
		UserData:   []byte("enclave=/;"),
		Properties: []wire.Property{{Name: "__ProcessName", Value: "component_container"}, {Name: "__Pid", Value: "12345"}, {Name: "__Hostname", Value: "robot-17"}},
	}
	b := wire.NewBuilder(nil, wire.Header{Version: wire.Version, Vendor: wire.VendorCyclone, Prefix: prefix})
	b.InfoTS(wire.TimestampFrom(time.Unix(1e9, 0)))
	b.Data(&wire.Data{Writer: wire.EntitySPDPWriter, SN: 1, Content: wire.DataContent, Payload: d.Append(nil)})
	return b.Bytes()
}

func (p *program) always() {
	if p.said.IsZero() {
		p.said = p.host.w.now
	}
	p.say()
	p.host.w.after(p.every, p.always)
}

func (p *program) say() {
	if h := p.host; h.machine != nil {
		h.call(func() { h.machine.Local(h.w.now, netip.AddrPortFrom(h.addr, p.port), p.data) })
	}
}

// hear takes what the relay says; what it has not known it answers, which goes to that one directly.
func (p *program) hear(b []byte) {
	from := wire.GuidPrefix(b[8:20])
	if from[0] == 1 { // the relay itself asks
		p.host.w.after(time.Millisecond, func() { p.say() })
		return
	}
	if p.known[from] {
		return
	}
	p.known[from] = true
	w := p.host.w
	other := w.by[addressOf(int(binary.BigEndian.Uint16(from[2:4]))-1)]
	later := p.said
	for _, t := range []time.Time{p.host.started, other.started, other.programs[from[4]].said} {
		if t.After(later) {
			later = t
		}
	}
	w.known = max(w.known, w.now.Sub(later))
}
