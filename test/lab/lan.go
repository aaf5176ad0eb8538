package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
)

// Part is what [Lab.LAN] takes besides the link: hosts, routers and at most one [Addressing].
type Part interface{ part(*parts) }

type parts struct {
	hosts      []*Host
	addressing Addressing
}

func (h *Host) part(p *parts)      { p.hosts = append(p.hosts, h) }
func (a Addressing) part(p *parts) { p.addressing = a }

func gather(list []Part) parts {
	var p parts
	for _, x := range list {
		x.part(&p)
	}
	return p
}

// Addressing says which addresses a LAN gives its members. Number i of LAN number n of a lab, both from 1, gets
// 10.0.n.i/24 and fd00:1ab:0:n::i/64. No address is in fc94::/16.
type Addressing int

const (
	Dual          Addressing = iota // IPv4, IPv6 link-local and ULA
	IPv4Only                        // IPv4; IPv6 is off on the device
	IPv6Only                        // IPv6 link-local and ULA
	LinkLocalOnly                   // IPv6 link-local
)

func (a Addressing) ipv4() bool { return a == Dual || a == IPv4Only }
func (a Addressing) ula() bool  { return a == Dual || a == IPv6Only }
func (a Addressing) ipv6() bool { return a != IPv4Only }

// maxMembers is how many hosts can join one LAN in its life; maxLANs how many LANs a lab can have.
const maxMembers, maxLANs = 254, 65535

// LAN is a shared segment.
type LAN struct {
	lab        *Lab
	number     int
	addressing Addressing
	bridge     netlink.Link

	mu     sync.Mutex
	link   Link
	ports  []*port // in the order of joining
	joined int
	wire   *wire // carries the frames instead of the bridge, once the link is degraded
}

// port is where a member is plugged in.
type port struct {
	host *Host
	dev  string       // the member's device
	far  netlink.Link // the veth's end on the wires' side
	cut  bool
}

// LAN adds a segment and plugs the given hosts and routers into it, in this order. The first LAN of a host is
// its device lan0, the next lan1. When LAN returns, all addresses are usable.
func (l *Lab) LAN(link Link, members ...Part) *LAN {
	l.t.Helper()
	p := gather(members)
	n, err := l.newLAN(link, p.addressing)
	if err == nil {
		err = n.attach(p.hosts...)
	}
	if err != nil {
		l.t.Fatalf("lab: LAN: %v", err)
	}
	return n
}

func (l *Lab) newLAN(link Link, a Addressing) (*LAN, error) {
	if err := link.check(); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	n := &LAN{lab: l, number: len(l.lans) + 1, addressing: a, link: link}
	if n.number > maxLANs {
		return nil, fmt.Errorf("more than %d LANs", maxLANs)
	}
	// Multicast goes everywhere at once, whoever has asked for it.
	snooping := false
	br := &netlink.Bridge{LinkAttrs: netlink.NewLinkAttrs(), MulticastSnooping: &snooping}
	br.Name = fmt.Sprintf("br%d", n.number)
	if err := l.wires.nl.LinkAdd(br); err != nil {
		return nil, fmt.Errorf("cannot make a bridge (is the kernel's bridge module there?): %w", err)
	}
	if err := l.wires.nl.LinkSetUp(br); err != nil {
		return nil, err
	}
	n.bridge = br
	if link.degraded() {
		n.wire = newWire(link, uint64(n.number))
	}
	l.lans = append(l.lans, n)
	return n, nil
}

// Attach plugs another host in and returns the name of its new device.
func (n *LAN) Attach(h Part) string {
	n.lab.t.Helper()
	p := gather([]Part{h})
	if len(p.hosts) != 1 {
		n.lab.t.Fatalf("lab: Attach takes one host or router")
	}
	if err := n.attach(p.hosts...); err != nil {
		n.lab.t.Fatalf("lab: LAN: %v", err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.port(p.hosts[0]).dev
}

func (n *LAN) attach(hosts ...*Host) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, h := range hosts {
		if n.port(h) != nil {
			return fmt.Errorf("%s is plugged in already", h.name)
		}
		if err := n.plug(h); err != nil {
			return fmt.Errorf("cannot plug in %s: %w", h.name, err)
		}
	}
	return n.defaultRoutes()
}

func (n *LAN) port(h *Host) *port {
	for _, p := range n.ports {
		if p.host == h {
			return p
		}
	}
	return nil
}

func (n *LAN) plug(h *Host) error {
	if n.joined == maxMembers {
		return fmt.Errorf("more than %d members", maxMembers)
	}
	n.joined++
	i := byte(n.joined)
	p := &port{host: h, dev: h.newDevice()}
	v := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: p.dev, PeerMTU: uint32(n.link.mtu()),
		PeerNamespace: netlink.NsFd(h.files[0].Fd())}
	v.Name, v.MTU = fmt.Sprintf("p%d-%d", n.number, i), n.link.mtu()
	wires := n.lab.wires
	if err := wires.nl.LinkAdd(v); err != nil {
		return fmt.Errorf("cannot make a veth (is the kernel's veth module there?): %w", err)
	}
	p.far = v
	n.ports = append(n.ports, p)
	// The far end first, so that the member's device has a carrier as soon as it is up.
	if err := wires.nl.LinkSetUp(v); err != nil {
		return err
	}
	if n.wire == nil {
		if err := wires.nl.LinkSetMaster(v, n.bridge); err != nil {
			return err
		}
	} else if err := n.moveToWire(p); err != nil {
		return err
	}
	// Below its least MTU the kernel gives a device no IPv6 to switch off.
	if !n.addressing.ipv6() && n.link.mtu() >= 1280 {
		if err := h.do(func() error { return sysctl("net/ipv6/conf/" + p.dev + "/disable_ipv6=1") }); err != nil {
			return err
		}
	}
	if n.addressing.ipv4() {
		if err := h.setAddr(p.dev, netip.PrefixFrom(n.addr4(i), 24)); err != nil {
			return err
		}
	}
	if n.addressing.ula() {
		if err := h.setAddr(p.dev, netip.PrefixFrom(n.addr6(i), 64)); err != nil {
			return err
		}
	}
	return h.setUp(p.dev)
}

func (n *LAN) addr4(member byte) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(n.number >> 8), byte(n.number), member})
}

func (n *LAN) addr6(member byte) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfd, 2: 1, 3: 0xab, 6: byte(n.number >> 8), 7: byte(n.number), 15: member})
}

// defaultRoutes gives the members that have no default route one through the first router, if there is one.
func (n *LAN) defaultRoutes() error {
	i := slices.IndexFunc(n.ports, func(p *port) bool { return p.host.router })
	if i < 0 {
		return nil
	}
	gate := n.ports[i]
	for _, p := range n.ports {
		if p.host.router {
			continue
		}
		if err := p.host.defaultRoute(p.dev, gate.host, gate.dev); err != nil {
			return fmt.Errorf("cannot give %s a default route: %w", p.host.name, err)
		}
	}
	return nil
}

// Detach pulls a member out for good: its device goes, and with it addresses and routes.
func (n *LAN) Detach(h Part) {
	n.lab.t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, h := range gather([]Part{h}).hosts {
		p := n.port(h)
		if p == nil {
			n.lab.t.Fatalf("lab: %s is not on this LAN", h.name)
		}
		if n.wire != nil {
			n.wire.remove(p)
		}
		n.ports = slices.DeleteFunc(n.ports, func(q *port) bool { return q == p })
		if err := n.lab.wires.nl.LinkDel(p.far); err != nil {
			n.lab.t.Fatalf("lab: cannot detach %s: %v", h.name, err)
		}
		h.forgetRoutes(p.dev)
	}
}

// Set changes the link while it is in use. Frames on their way arrive as they would have.
func (n *LAN) Set(link Link) {
	n.lab.t.Helper()
	if err := n.set(link); err != nil {
		n.lab.t.Fatalf("lab: link: %v", err)
	}
}

func (n *LAN) set(link Link) error {
	if err := link.check(); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.wire != nil && link.mtu() > n.wire.mtu {
		return fmt.Errorf("a degraded LAN's MTU cannot grow to %d: make it with that MTU, at most %d later", link.mtu(), n.wire.mtu)
	}
	if link.mtu() != n.link.mtu() {
		for _, p := range n.ports {
			if err := errors.Join(n.lab.wires.nl.LinkSetMTU(p.far, link.mtu()), p.host.setMTU(p.dev, link.mtu())); err != nil {
				return fmt.Errorf("cannot set the MTU of %s: %w", p.host.name, err)
			}
		}
	}
	n.link = link
	if n.wire != nil {
		n.wire.set(link)
		return nil
	}
	if !link.degraded() {
		return nil
	}
	n.wire = newWire(link, uint64(n.number))
	for _, p := range n.ports {
		if err := n.moveToWire(p); err != nil {
			return err
		}
	}
	return nil
}

// moveToWire takes a member from the bridge to the wire.
func (n *LAN) moveToWire(p *port) error {
	if err := n.lab.wires.nl.LinkSetNoMaster(p.far); err != nil {
		return err
	}
	// What the wire gets must be what a network carries: single packets with complete checksums.
	if err := p.host.do(func() error { return offloadsOff(p.dev) }); err != nil {
		return err
	}
	return n.lab.wires.do(func() error { return n.wire.add(p) })
}

// Cut stops all frames of the given members, or of all, without a sign: devices keep their carrier.
func (n *LAN) Cut(members ...Part) { n.lab.t.Helper(); n.setCut(true, members) }

// Restore ends what Cut did, for the given members or for all.
func (n *LAN) Restore(members ...Part) { n.lab.t.Helper(); n.setCut(false, members) }

func (n *LAN) setCut(cut bool, members []Part) {
	n.lab.t.Helper()
	hosts := gather(members).hosts
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, h := range hosts {
		if n.port(h) == nil {
			n.lab.t.Fatalf("lab: %s is not on this LAN", h.name)
		}
	}
	for _, p := range n.ports {
		if len(hosts) > 0 && !slices.Contains(hosts, p.host) || p.cut == cut {
			continue
		}
		var err error
		switch {
		case n.wire != nil:
			n.wire.cut(p, cut)
		case cut:
			err = n.lab.wires.nl.LinkSetNoMaster(p.far)
		default:
			err = n.lab.wires.nl.LinkSetMaster(p.far, n.bridge)
		}
		if err != nil {
			n.lab.t.Fatalf("lab: cannot cut or restore %s: %v", p.host.name, err)
		}
		p.cut = cut
	}
}

// Unplug takes the carrier from a member's device, as pulling its cable does; Plug gives it back.
func (n *LAN) Unplug(member Part) { n.lab.t.Helper(); n.carrier(member, false) }

// Plug ends what Unplug did and waits until the member's addresses are usable.
func (n *LAN) Plug(member Part) { n.lab.t.Helper(); n.carrier(member, true) }

func (n *LAN) carrier(member Part, on bool) {
	n.lab.t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, h := range gather([]Part{member}).hosts {
		p := n.port(h)
		if p == nil {
			n.lab.t.Fatalf("lab: %s is not on this LAN", h.name)
		}
		var err error
		if on {
			if err = n.lab.wires.nl.LinkSetUp(p.far); err == nil {
				err = h.ready(p.dev)
			}
		} else {
			err = n.lab.wires.nl.LinkSetDown(p.far)
		}
		if err != nil {
			n.lab.t.Fatalf("lab: carrier of %s: %v", h.name, err)
		}
	}
}

// Stats counts the frames of a degraded LAN, once per receiver; an undegraded one counts nothing.
type Stats struct {
	Carried   int // handed to a receiver
	Lost      int // by Loss
	QueueFull int // dropped because of RateMbit
	TooLong   int // dropped because of PathMTU
	Cut       int // dropped because the sender or the receiver is cut off
	Missed    int // dropped because this process was too slow to take them or the receiver's kernel refused them
}

// Stats returns what the LAN has done since it is degraded.
func (n *LAN) Stats() Stats {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.wire == nil {
		return Stats{}
	}
	return n.wire.counts()
}

func (n *LAN) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.wire != nil {
		n.wire.close()
	}
}

// Eventually calls f until it returns nil, at most for the given time, and fails the test with its last error
// otherwise. It is for conditions that no event announces, and the one place where the lab polls: after 1 ms at
// first, up to every 50 ms.
func Eventually(t TB, timeout time.Duration, what string, f func() error) {
	t.Helper()
	if err := eventually(timeout, f); err != nil {
		t.Fatalf("%s: not within %v: %v", what, timeout, err)
	}
}

func eventually(timeout time.Duration, f func() error) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}
