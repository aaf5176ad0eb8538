// Package nat translates IPv4 packets as the NATs of RFC 4787 do that the Linux kernel does not have: mapping and filtering that depend on
// nothing, on the address or on the address and port of the other side; ports preserved, in sequence or random; with or without hairpinning.
// It is pure: packets and the time in, packets out, no sockets and no clock. What reads and writes the packets is in package internet.
package nat

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"
)

// Dependence says how much of the other side's endpoint a decision depends on (RFC 4787, sections 4.1 and 5).
type Dependence uint8

const (
	Independent    Dependence = iota // of the other side: endpoint-independent
	Address                          // address-dependent
	AddressAndPort                   // address- and port-dependent
)

func (d Dependence) String() string {
	return [...]string{"endpoint-independent", "address-dependent", "address-and-port-dependent"}[d]
}

// of returns the part of an endpoint that counts.
func (d Dependence) of(p netip.AddrPort) netip.AddrPort {
	switch d {
	case Independent:
		return netip.AddrPort{}
	case Address:
		return netip.AddrPortFrom(p.Addr(), 0)
	}
	return p
}

// Allocation says which external port a new mapping gets.
type Allocation uint8

const (
	Preserve   Allocation = iota // the internal port if it is free, else the next free one
	Sequential                   // the next free one after that of the mapping before
	Random                       // any free one
)

// Config is what kind of NAT it is.
type Config struct {
	External  netip.Addr    // the one public IPv4 address
	Inside    netip.Prefix  // every packet with a source in it comes from inside
	Mapping   Dependence    // when an internal endpoint gets another external port. TCP: always AddressAndPort
	Filtering Dependence    // who may send to an external port. TCP: always AddressAndPort
	Ports     Allocation    //
	Hairpin   bool          // packets from inside to an external port of this NAT go back inside, with an external source
	Timeout   time.Duration // of a UDP mapping and of a permission, renewed by packets from inside only; 0 is 2 minutes
	Seed      uint64        // of the random ports
}

const (
	defaultTimeout = 2 * time.Minute
	tcpTimeout     = 2 * time.Hour
	tcpClosing     = 10 * time.Second // after FIN or RST

	firstPort      = 1024  // no mapping gets a lower external port
	maxMappings    = 50000 // in all, so that a free port is soon found; more are refused
	maxPermissions = 4096  // of one mapping; more push an old one out
)

// mappingKey finds a mapping from inside.
type mappingKey struct {
	protocol byte
	internal netip.AddrPort
	remote   netip.AddrPort // as much of it as the mapping depends on
}

// portKey finds a mapping from outside.
type portKey struct {
	protocol byte
	port     uint16
}

type mapping struct {
	key       mappingKey
	port      uint16
	until     time.Time
	permitted map[netip.AddrPort]time.Time // until when; as much of the endpoint as filtering depends on
}

// Stats counts packets, and the mappings that there are.
type Stats struct {
	Out, In, Hairpinned int // translated and passed on
	Filtered            int // to a mapping that does not permit the sender, or from inside to inside in a way that is not there
	Unknown             int // from outside, to a port without mapping
	Unsupported         int // neither UDP nor TCP over IPv4, or a fragment, or damaged
	Full                int // no mapping could be had
	Mappings            int // now
}

// Table is the state of one NAT. Its methods must not run at the same time.
type Table struct {
	config  Config
	rng     *rand.Rand
	byKey   map[mappingKey]*mapping
	byPort  map[portKey]*mapping
	retired map[portKey]bool // not given out again: they were in use before the last Rebind
	next    uint16           // port for Sequential
	swept   time.Time
	stats   Stats
}

// New returns an empty table.
func New(c Config) (*Table, error) {
	if !c.External.Is4() || !c.Inside.Addr().Is4() || c.Inside.Contains(c.External) {
		return nil, fmt.Errorf("a NAT needs an external IPv4 address and an IPv4 prefix inside that does not contain it, not %v and %v", c.External, c.Inside)
	}
	if c.Mapping > AddressAndPort || c.Filtering > AddressAndPort || c.Ports > Random {
		return nil, fmt.Errorf("no such kind of NAT: mapping %d, filtering %d, ports %d", c.Mapping, c.Filtering, c.Ports)
	}
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	t := &Table{config: c, rng: rand.New(rand.NewPCG(c.Seed, 1)), byKey: map[mappingKey]*mapping{}, byPort: map[portKey]*mapping{}, retired: map[portKey]bool{}}
	t.next = uint16(firstPort + t.rng.IntN(30000))
	return t, nil
}

// Rebind forgets all mappings, as a NAT does that starts anew; new mappings get other ports than those forgotten.
func (t *Table) Rebind() {
	clear(t.retired)
	for k := range t.byPort {
		t.retired[k] = true
	}
	clear(t.byKey)
	clear(t.byPort)
}

// Stats returns what happened so far.
func (t *Table) Stats() Stats {
	s := t.stats
	s.Mappings = len(t.byPort)
	return s
}

// External returns the external endpoint that packets from internal to remote get at present.
func (t *Table) External(protocol byte, internal, remote netip.AddrPort) (netip.AddrPort, bool) {
	mapping, _ := t.dependence(protocol)
	m := t.byKey[mappingKey{protocol, internal, mapping.of(remote)}]
	if m == nil {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(t.config.External, m.port), true
}

// Translate rewrites a packet in place; false means that it is to be dropped.
func (t *Table) Translate(now time.Time, packet []byte) bool {
	p, ok := parse(packet)
	if !ok {
		t.stats.Unsupported++
		return false
	}
	t.sweep(now)
	src, dst := p.source(), p.destination()
	if !t.config.Inside.Contains(src.Addr()) {
		to, ok := t.inbound(now, p, src, dst)
		if ok {
			p.setDestination(to)
			t.stats.In++
		}
		return ok
	}
	if t.config.Inside.Contains(dst.Addr()) || dst.Addr() == t.config.External && !t.config.Hairpin {
		t.stats.Filtered++
		return false
	}
	from, ok := t.outbound(now, p, src, dst)
	if !ok {
		t.stats.Full++
		return false
	}
	if dst.Addr() != t.config.External {
		p.setSource(from)
		t.stats.Out++
		return true
	}
	to, ok := t.inbound(now, p, from, dst)
	if ok {
		p.setSource(from)
		p.setDestination(to)
		t.stats.Hairpinned++
	}
	return ok
}

func (t *Table) dependence(protocol byte) (mapping, filtering Dependence) {
	if protocol == protocolTCP {
		return AddressAndPort, AddressAndPort
	}
	return t.config.Mapping, t.config.Filtering
}

// outbound returns the external endpoint for a packet from inside, and permits answers.
func (t *Table) outbound(now time.Time, p packet, src, dst netip.AddrPort) (netip.AddrPort, bool) {
	mapBy, filterBy := t.dependence(p.protocol)
	key := mappingKey{p.protocol, src, mapBy.of(dst)}
	m := t.byKey[key]
	if m != nil && !m.until.After(now) {
		t.remove(m)
		m = nil
	}
	if m == nil {
		port, ok := t.allocate(p.protocol, src.Port())
		if !ok {
			return netip.AddrPort{}, false
		}
		m = &mapping{key: key, port: port, permitted: map[netip.AddrPort]time.Time{}}
		t.byKey[key], t.byPort[portKey{p.protocol, port}] = m, m
	}
	life := t.config.Timeout
	switch {
	case p.protocol == protocolTCP && p.closes():
		life = tcpClosing
	case p.protocol == protocolTCP:
		life = tcpTimeout
	}
	m.until = now.Add(life)
	who := filterBy.of(dst)
	if _, known := m.permitted[who]; !known && len(m.permitted) >= maxPermissions {
		for old := range m.permitted {
			delete(m.permitted, old)
			break
		}
	}
	m.permitted[who] = m.until
	return netip.AddrPortFrom(t.config.External, m.port), true
}

// inbound returns the internal endpoint for a packet from outside.
func (t *Table) inbound(now time.Time, p packet, src, dst netip.AddrPort) (netip.AddrPort, bool) {
	m := t.byPort[portKey{p.protocol, dst.Port()}]
	if dst.Addr() != t.config.External || m == nil || !m.until.After(now) {
		t.stats.Unknown++
		return netip.AddrPort{}, false
	}
	_, filterBy := t.dependence(p.protocol)
	if !m.permitted[filterBy.of(src)].After(now) {
		t.stats.Filtered++
		return netip.AddrPort{}, false
	}
	return m.key.internal, true
}

func (t *Table) allocate(protocol byte, preferred uint16) (uint16, bool) {
	if len(t.byPort) >= maxMappings {
		return 0, false
	}
	port := preferred
	switch t.config.Ports {
	case Sequential:
		port = t.next
	case Random:
		port = t.randomPort()
	}
	for range 1 << 16 {
		k := portKey{protocol, port}
		if port >= firstPort && t.byPort[k] == nil && !t.retired[k] {
			t.next = port + 1
			return port, true
		}
		if t.config.Ports == Random {
			port = t.randomPort()
		} else {
			port++
		}
	}
	return 0, false
}

func (t *Table) randomPort() uint16 { return uint16(firstPort + t.rng.IntN(1<<16-firstPort)) }

// sweep removes what has expired, now and then.
func (t *Table) sweep(now time.Time) {
	if now.Sub(t.swept) < time.Second {
		return
	}
	t.swept = now
	for _, m := range t.byPort {
		if !m.until.After(now) {
			t.remove(m)
			continue
		}
		for who, until := range m.permitted {
			if !until.After(now) {
				delete(m.permitted, who)
			}
		}
	}
}

func (t *Table) remove(m *mapping) {
	delete(t.byKey, m.key)
	delete(t.byPort, portKey{m.key.protocol, m.port})
}
