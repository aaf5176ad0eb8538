package lan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/netwatch"
	"github.com/hnet-robotics/hnet_bridge/overlay/record"
)

const insideUserNamespace = "HNET_LAN_TEST_USERNS"

// needsNamespaces runs the rest of the test where network namespaces can be made: here, or, without root, in a child inside
// a user namespace; then it returns false.
func needsNamespaces(t *testing.T) bool {
	t.Helper()
	if os.Geteuid() == 0 {
		return true
	}
	if os.Getenv(insideUserNamespace) != "" {
		t.Fatal("not root inside the user namespace")
	}
	c := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	c.Env = append(os.Environ(), insideUserNamespace+"=1")
	c.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	out, err := c.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		t.Fatalf("in the user namespace:\n%s", out)
	case err != nil:
		t.Skipf("missing: root, or user namespaces for everybody (%v)", err)
	case bytes.Contains(out, []byte("--- SKIP")):
		t.Skipf("in the user namespace:\n%s", out)
	}
	return false
}

// namespace is a network namespace that ends with the test.
type namespace struct {
	t      *testing.T
	handle netns.NsHandle
}

func newNamespace(t *testing.T) *namespace {
	t.Helper()
	n := &namespace{t: t}
	var err error
	onOwnThread(func() { n.handle, err = netns.New() })
	if err != nil {
		t.Skipf("missing: network namespaces (%v)", err)
	}
	t.Cleanup(func() { n.handle.Close() })
	return n
}

// onOwnThread runs f on a thread that ends with it, so that nothing else ever runs in the namespace that f enters.
func onOwnThread(f func()) {
	done := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer close(done)
		f()
	}()
	<-done
}

// missing is an error that says what a test would need.
type missing struct{ what string }

func (m missing) Error() string { return "missing: " + m.what }

// do runs f inside, and fails or skips the test if f does.
func (n *namespace) do(f func() error) {
	n.t.Helper()
	var err error
	onOwnThread(func() {
		if err = netns.Set(n.handle); err == nil {
			err = f()
		}
	})
	switch {
	case errors.As(err, &missing{}):
		n.t.Skip(err)
	case err != nil:
		n.t.Fatal(err)
	}
}

// connect makes a cable between two namespaces, "lan0" at both ends, both down.
func connect(t *testing.T, a, b *namespace) {
	t.Helper()
	a.do(func() error {
		veth := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: "lan0", PeerNamespace: netlink.NsFd(b.handle)}
		veth.Name = "lan0"
		if err := netlink.LinkAdd(veth); err != nil {
			return missing{fmt.Sprintf("veth devices (%v)", err)}
		}
		return nil
	})
}

// up switches lan0 on, with an IPv4 address if one is given.
func (n *namespace) up(addr string) {
	n.t.Helper()
	n.do(func() error {
		link, err := netlink.LinkByName("lan0")
		if err != nil {
			return err
		}
		if addr != "" {
			a, err := netlink.ParseAddr(addr)
			if err != nil {
				return err
			}
			if err := netlink.AddrAdd(link, a); err != nil {
				return err
			}
		}
		return netlink.LinkSetUp(link)
	})
}

// disableIPv6 does so for all interfaces of the namespace.
func (n *namespace) disableIPv6() {
	n.t.Helper()
	n.do(func() error {
		const knob = "/proc/sys/net/ipv6/conf/%s/disable_ipv6"
		for _, which := range []string{"all", "default", "lan0"} {
			if err := os.WriteFile(fmt.Sprintf(knob, which), []byte("1"), 0); err != nil {
				return missing{fmt.Sprintf("the right to disable IPv6 in a namespace (%v)", err)}
			}
		}
		return nil
	})
}

// await waits until lan0 has a carrier and an address of a kind, which takes the kernel up to a second for the carrier and up
// to two more for duplicate address detection.
func (n *namespace) await(kind func(netip.Addr) bool) {
	n.t.Helper()
	n.do(func() error {
		for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
			link, err := netlink.LinkByName("lan0")
			if err != nil {
				return err
			}
			addrs, err := netlink.AddrList(link, netlink.FAMILY_ALL)
			if err != nil {
				return err
			}
			if link.Attrs().OperState == netlink.OperUp && slices.ContainsFunc(addrs, func(a netlink.Addr) bool {
				ip, _ := netip.AddrFromSlice(a.IP)
				return kind(ip) && a.Flags&unix.IFA_F_TENTATIVE == 0
			}) {
				return nil
			}
		}
		return errors.New("lan0 does not come up")
	})
}

// daemon is a Discovery with an owner that does what a node does: it follows the interfaces and signs records.
type daemon struct {
	t         *testing.T
	id        *identity.Identity
	discovery *Discovery
	sightings chan Sighting
	kept      []Sighting // taken from sightings, not yet expected
	log       *logBuffer
	stop      func() error
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (n *namespace) start(key int, port uint16) *daemon {
	n.t.Helper()
	d := &daemon{t: n.t, id: identity.FromSeed(seed(key)), sightings: make(chan Sighting, 100), log: new(logBuffer)}
	log := slog.New(slog.NewTextHandler(d.log, nil))
	d.discovery = New(Config{Identity: d.id, Excluded: "hnet0", Log: log, Sightings: func(s Sighting) {
		select {
		case d.sightings <- s:
		default:
		}
	}})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	inside := func(f func() error) {
		running.Go(func() {
			onOwnThread(func() {
				if err := netns.Set(n.handle); err != nil {
					n.t.Error(err)
				} else if err := f(); err != nil && !errors.Is(err, context.Canceled) {
					n.t.Error(err)
				}
			})
		})
	}
	inside(func() error {
		w, err := netwatch.New(log)
		if err != nil {
			return err
		}
		running.Go(func() {
			for {
				d.follow(w.Snapshot(), port)
				select {
				case <-w.Changes():
				case <-ctx.Done():
					return
				}
			}
		})
		return w.Run(ctx)
	})
	var result error
	inside(func() error {
		result = d.discovery.Run(ctx)
		return result
	})
	d.stop = sync.OnceValue(func() error {
		cancel()
		running.Wait()
		return result
	})
	n.t.Cleanup(func() { d.stop() })
	return d
}

func (d *daemon) follow(interfaces []netwatch.Interface, port uint16) {
	r := record.Record{Sequence: uint64(time.Now().UnixNano()), Lifetime: time.Hour}
	for _, i := range interfaces {
		for _, p := range i.Addrs {
			if e := netip.AddrPortFrom(p.Addr(), port); record.CheckEndpoint(e) == nil {
				r.Endpoints = append(r.Endpoints, e)
			}
		}
	}
	signed, err := r.Sign(d.id)
	if err == nil {
		err = d.discovery.SetRecord(signed)
	}
	if err != nil {
		d.t.Error(err)
	}
	d.discovery.SetInterfaces(interfaces)
}

// expect waits for a sighting of another daemon by an endpoint of a kind and takes it; other sightings are kept for later.
func (d *daemon) expect(o *daemon, within time.Duration, kind func(netip.Addr) bool) Sighting {
	d.t.Helper()
	wanted := func(s Sighting) bool { return s.Record.Key == o.id.SigningKey() && kind(s.Endpoint.Addr()) }
	if i := slices.IndexFunc(d.kept, wanted); i >= 0 {
		s := d.kept[i]
		d.kept = slices.Delete(d.kept, i, i+1)
		return s
	}
	deadline := time.After(within)
	for {
		select {
		case s := <-d.sightings:
			if wanted(s) {
				return s
			}
			d.kept = append(d.kept, s)
		case <-deadline:
			d.t.Fatalf("no sighting within %v, only %+v; log:\n%s", within, d.kept, d.log)
		}
	}
}

// drain drops the sightings so far.
func (d *daemon) drain() {
	for d.kept = nil; len(d.sightings) > 0; {
		<-d.sightings
	}
}

func isIPv4(a netip.Addr) bool      { return a.Is4() }
func isLinkLocal(a netip.Addr) bool { return a.Is6() && a.IsLinkLocalUnicast() }

func TestLinkLocalOnly(t *testing.T) {
	if !needsNamespaces(t) {
		return
	}
	a, b := newNamespace(t), newNamespace(t)
	connect(t, a, b)
	a.up("")
	b.up("")
	a.await(isLinkLocal)
	b.await(isLinkLocal)
	first := a.start(1, 5582)
	second := b.start(2, 6000)
	if s := first.expect(second, time.Second, isLinkLocal); s.Endpoint.Port() != 6000 || strconv.Itoa(s.Interface) != s.Endpoint.Addr().Zone() {
		t.Errorf("sighting %+v", s)
	}
	second.expect(first, time.Second, isLinkLocal)

	if err := second.stop(); !errors.Is(err, context.Canceled) {
		t.Errorf("Run returned %v", err)
	}
	first.drain()
	again := b.start(2, 6000)
	if s := first.expect(again, time.Second, isLinkLocal); !s.Restarted {
		t.Errorf("after a restart: %+v", s)
	}
	again.expect(first, time.Second, isLinkLocal)
	for _, d := range []*daemon{first, second, again} {
		if strings.Contains(d.log.String(), "level=WARN") {
			t.Errorf("warnings:\n%s", d.log)
		}
	}
}

func TestIPv4Only(t *testing.T) {
	if !needsNamespaces(t) {
		return
	}
	a, b := newNamespace(t), newNamespace(t)
	connect(t, a, b)
	a.disableIPv6()
	b.disableIPv6()
	a.up("192.168.9.1/24")
	b.up("192.168.9.2/24")
	a.await(isIPv4)
	b.await(isIPv4)
	first := a.start(1, 5582)
	second := b.start(2, 6000)
	if s := first.expect(second, time.Second, isIPv4); s.Endpoint != netip.MustParseAddrPort("192.168.9.2:6000") {
		t.Errorf("sighting %+v", s)
	}
	second.expect(first, time.Second, isIPv4)
	for _, d := range []*daemon{first, second} {
		if strings.Contains(d.log.String(), "level=WARN") {
			t.Errorf("warnings:\n%s", d.log)
		}
	}
}

func TestInterfaceUpLater(t *testing.T) {
	if !needsNamespaces(t) {
		return
	}
	a, b := newNamespace(t), newNamespace(t)
	first := a.start(1, 5582)
	second := b.start(2, 6000)
	connect(t, a, b)
	a.up("192.168.9.1/24")
	b.up("192.168.9.2/24")
	// The kernel tells of a new carrier up to a second late, and duplicate address detection takes one to two seconds.
	first.expect(second, 3*time.Second, isIPv4)
	second.expect(first, 3*time.Second, isIPv4)
	first.expect(second, 5*time.Second, isLinkLocal)
	second.expect(first, 5*time.Second, isLinkLocal)
}

func TestTwoDaemonsOnOneHost(t *testing.T) {
	if !needsNamespaces(t) {
		return
	}
	a, b := newNamespace(t), newNamespace(t)
	connect(t, a, b)
	a.up("192.168.9.1/24")
	b.up("192.168.9.2/24")
	a.await(isIPv4)
	b.await(isIPv4)
	first := a.start(1, 5582)
	second := a.start(2, 6000)
	third := b.start(3, 5582)
	first.expect(second, time.Second, isIPv4)
	second.expect(first, time.Second, isIPv4)
	third.expect(first, time.Second, isIPv4)
	third.expect(second, time.Second, isIPv4)
}

// A port that another program holds costs one address family and one warning.
func TestPortTaken(t *testing.T) {
	if !needsNamespaces(t) {
		return
	}
	a, b := newNamespace(t), newNamespace(t)
	connect(t, a, b)
	a.up("192.168.9.1/24")
	b.up("192.168.9.2/24")
	a.await(isLinkLocal)
	b.await(isLinkLocal)
	a.do(func() error {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{Port: Port})
		if err == nil {
			t.Cleanup(func() { c.Close() })
		}
		return err
	})
	first := a.start(1, 5582)
	second := b.start(2, 6000)
	first.expect(second, time.Second, isLinkLocal)
	second.expect(first, time.Second, isLinkLocal)
	for range 10 {
		first.discovery.Announce()
	}
	first.stop()
	if n := strings.Count(first.log.String(), "level=WARN"); n != 1 || !strings.Contains(first.log.String(), "ss -ulpn") {
		t.Errorf("%d warnings, want 1 that names a fix:\n%s", n, first.log)
	}
}

// What is on the wire stays on the link and has one size.
func TestOnTheWire(t *testing.T) {
	if !needsNamespaces(t) {
		return
	}
	a, b := newNamespace(t), newNamespace(t)
	connect(t, a, b)
	a.up("192.168.9.1/24")
	b.up("192.168.9.2/24")
	a.await(isLinkLocal)
	b.await(isLinkLocal)
	type heard struct {
		ttl  int
		size int
		src  netip.AddrPort
		err  error
	}
	results := make(chan heard, 2)
	b.do(func() error {
		link, err := net.InterfaceByName("lan0")
		if err != nil {
			return err
		}
		c4, err := net.ListenUDP("udp4", &net.UDPAddr{Port: Port})
		if err != nil {
			return err
		}
		t.Cleanup(func() { c4.Close() })
		c6, err := net.ListenUDP("udp6", &net.UDPAddr{Port: Port})
		if err != nil {
			return err
		}
		t.Cleanup(func() { c6.Close() })
		p4, p6 := ipv4.NewPacketConn(c4), ipv6.NewPacketConn(c6)
		deadline := time.Now().Add(5 * time.Second)
		// Before the reading begins: it makes room only for what was asked for by then.
		err = firstError(
			c4.SetReadDeadline(deadline), c6.SetReadDeadline(deadline),
			p4.SetControlMessage(ipv4.FlagTTL, true), p6.SetControlMessage(ipv6.FlagHopLimit, true),
			p4.JoinGroup(link, &net.UDPAddr{IP: GroupIPv4.AsSlice()}), p6.JoinGroup(link, &net.UDPAddr{IP: GroupIPv6.AsSlice()}),
		)
		if err != nil {
			return err
		}
		go func() {
			buf := make([]byte, 2000)
			n, cm, src, err := p4.ReadFrom(buf)
			if err != nil {
				results <- heard{err: err}
				return
			}
			results <- heard{cm.TTL, n, src.(*net.UDPAddr).AddrPort(), nil}
		}()
		go func() {
			buf := make([]byte, 2000)
			n, cm, src, err := p6.ReadFrom(buf)
			if err != nil {
				results <- heard{err: err}
				return
			}
			results <- heard{cm.HopLimit, n, src.(*net.UDPAddr).AddrPort(), nil}
		}()
		return nil
	})
	a.start(1, 5582)
	for range 2 {
		got := <-results
		if got.err != nil || got.ttl != 1 || got.size != Size || got.src.Port() != Port {
			t.Errorf("heard %+v", got)
		}
	}
}

// A group that cannot be joined is one warning that says what to do, and the other family goes on.
func TestMembershipLimit(t *testing.T) {
	if !needsNamespaces(t) {
		return
	}
	a, b := newNamespace(t), newNamespace(t)
	connect(t, a, b)
	a.up("192.168.9.1/24")
	b.up("192.168.9.2/24")
	a.await(isLinkLocal)
	b.await(isLinkLocal)
	a.do(func() error {
		if err := os.WriteFile("/proc/sys/net/ipv4/igmp_max_memberships", []byte("0"), 0); err != nil {
			return missing{fmt.Sprintf("the right to set igmp_max_memberships in a namespace (%v)", err)}
		}
		return nil
	})
	first := a.start(1, 5582)
	second := b.start(2, 6000)
	first.expect(second, time.Second, isLinkLocal)
	first.stop()
	if n := strings.Count(first.log.String(), "level=WARN"); n != 1 || !strings.Contains(first.log.String(), "igmp_max_memberships") {
		t.Errorf("%d warnings, want 1 that names a fix:\n%s", n, first.log)
	}
}
