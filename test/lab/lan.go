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

// Part is what [Lab.LAN] takes besides the link: hosts, routers and at most one [Addressing] or [Prefixes].
type Part interface{ part(*parts) }

type parts struct {
	hosts      []*Host
	addressing Addressing
	prefixes   *Prefixes
}

func (h *Host) part(p *parts)      { p.hosts = append(p.hosts, h) }
func (a Addressing) part(p *parts) { p.addressing = a }
func (x Prefixes) part(p *parts)   { p.prefixes = &x }

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

func (a Addressing) ipv6() bool { return a != IPv4Only }

// prefixes returns those of LAN number n.
func (a Addressing) prefixes(n int) (x Prefixes) {
	if a == Dual || a == IPv4Only {
		x.IPv4 = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(n >> 8), byte(n)}), 24)
	}
	if a == Dual || a == IPv6Only {
		x.IPv6 = netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0xfd, 2: 1, 3: 0xab, 6: byte(n >> 8), 7: byte(n)}), 64)
	}
	return x
}

// Prefixes gives the members of a LAN addresses of these prefixes in place of an [Addressing]: number i, from 1,
// gets the prefix's i-th address. Without IPv6 prefix IPv6 is off on the devices; without IPv4 prefix there is
// no IPv4.
type Prefixes struct{ IPv4, IPv6 netip.Prefix }

func (x Prefixes) check() error {
	if x.IPv4.IsValid() && !x.IPv4.Addr().Is4() || x.IPv6.IsValid() && !x.IPv6.Addr().Is6() || !x.IPv4.IsValid() && !x.IPv6.IsValid() {
		return fmt.Errorf("a LAN needs an IPv4 prefix, an IPv6 prefix or both, not %v and %v", x.IPv4, x.IPv6)
	}
	return nil
}

// member returns the i-th address of a prefix, with its length.
func member(p netip.Prefix, i byte) (netip.Prefix, error) {
	b := p.Masked().Addr().AsSlice()
	b[len(b)-1] += i // the base's last byte is 0, or the prefix is so long that i cannot reach the next one
	a, _ := netip.AddrFromSlice(b)
	if !p.Contains(a) {
		return netip.Prefix{}, fmt.Errorf("%v has no address number %d", p, i)
	}
	return netip.PrefixFrom(a, p.Bits()), nil
}

// maxMembers is how many hosts can join one LAN in its life; maxLANs how many LANs a lab can have.
const maxMembers, maxLANs = 254, 65535

// LAN is a shared segment.
type LAN struct {
	lab      *Lab
	number   int
	prefixes Prefixes
	ipv6     bool // is on on the members' devices
	bridge   netlink.Link

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
	n, err := l.newLAN(link, p)
	if err == nil {
		err = n.attach(p.hosts...)
	}
	if err != nil {
		l.t.Fatalf("lab: LAN: %v", err)
	}
	return n
}

func (l *Lab) newLAN(link Link, p parts) (*LAN, error) {
	if err := link.check(); err != nil {
		return nil, err
	}
	if p.prefixes != nil {
		if err := p.prefixes.check(); err != nil {
			return nil, err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	n := &LAN{lab: l, number: len(l.lans) + 1, link: link}
	if n.number > maxLANs {
		return nil, fmt.Errorf("more than %d LANs", maxLANs)
	}
	if p.prefixes != nil {
		n.prefixes, n.ipv6 = *p.prefixes, p.prefixes.IPv6.IsValid()
	} else {
		n.prefixes, n.ipv6 = p.addressing.prefixes(n.number), p.addressing.ipv6()
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
func (n *LAN) Attach(h Part) string { n.lab.t.Helper(); return n.AttachAs(h, "") }

// AttachAs is Attach with a name for the new device, that no other device of the host has: a host that was
// detached elsewhere comes back with the device it had. With an empty name it gets the next lanN.
func (n *LAN) AttachAs(h Part, dev string) string {
	n.lab.t.Helper()
	p := gather([]Part{h})
	if len(p.hosts) != 1 {
		n.lab.t.Fatalf("lab: Attach takes one host or router")
	}
	dev, err := n.attachAs(p.hosts[0], dev)
	if err != nil {
		n.lab.t.Fatalf("lab: LAN: %v", err)
	}
	return dev
}

func (n *LAN) attachAs(h *Host, dev string) (string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.port(h) != nil {
		return "", fmt.Errorf("%s is plugged in already", h.name)
	}
	if dev == "" {
		dev = h.newDevice()
	}
	if err := n.plug(h, dev); err != nil {
		return "", fmt.Errorf("cannot plug in %s: %w", h.name, err)
	}
	return dev, n.defaultRoutes()
}

func (n *LAN) attach(hosts ...*Host) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, h := range hosts {
		if n.port(h) != nil {
			return fmt.Errorf("%s is plugged in already", h.name)
		}
		if err := n.plug(h, h.newDevice()); err != nil {
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

func (n *LAN) plug(h *Host, dev string) error {
	if n.joined == maxMembers {
		return fmt.Errorf("more than %d members", maxMembers)
	}
	n.joined++
	i := byte(n.joined)
	p := &port{host: h, dev: dev}
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
	if !n.ipv6 && n.link.mtu() >= 1280 {
		if err := h.do(func() error { return sysctl("net/ipv6/conf/" + p.dev + "/disable_ipv6=1") }); err != nil {
			return err
		}
	}
	for _, prefix := range []netip.Prefix{n.prefixes.IPv4, n.prefixes.IPv6} {
		if !prefix.IsValid() {
			continue
		}
		a, err := member(prefix, i)
		if err == nil {
			err = h.setAddr(p.dev, a)
		}
		if err != nil {
			return err
		}
	}
	if err := h.setUp(p.dev); err != nil {
		return err
	}
	return n.farReady(p)
}

// farReady waits until the wires' end of a member's cable carries frames. The kernel switches the two ends on one after the other, up to a
// second apart, and until then the bridge drops what comes.
func (n *LAN) farReady(p *port) error {
	return eventually(5*time.Second, func() error {
		link, err := n.lab.wires.nl.LinkByIndex(p.far.Attrs().Index)
		if err == nil && link.Attrs().OperState != netlink.OperUp {
			err = fmt.Errorf("the other end of %s is %v", p.dev, link.Attrs().OperState)
		}
		return err
	})
}

// farReady waits for the other end of a device that is plugged in somewhere and not unplugged.
func (h *Host) farReady(dev string) error {
	h.lab.mu.Lock()
	lans := slices.Clone(h.lab.lans)
	h.lab.mu.Unlock()
	for _, n := range lans {
		n.mu.Lock()
		p := n.port(h)
		n.mu.Unlock()
		if p != nil && p.dev == dev {
			return n.farReady(p)
		}
	}
	return nil
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

// Unplug takes the carrier from a member's device, as pulling its cable does; Plug gives it back. When Unplug returns, the member's kernel
// has noticed.
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
				err = errors.Join(h.ready(p.dev), n.farReady(p))
			}
		} else if err = n.lab.wires.nl.LinkSetDown(p.far); err == nil {
			err = h.noCarrier(p.dev)
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
