package internet

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }

const patience = 10 * time.Second

type doer interface{ Do(func() error) error }

func listen(t *testing.T, on doer, at string) (c *net.UDPConn) {
	t.Helper()
	err := on.Do(func() error {
		a, err := net.ResolveUDPAddr("udp", at)
		if err == nil {
			c, err = net.ListenUDP("udp", a)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func send(t *testing.T, from *net.UDPConn, to netip.AddrPort, text string) {
	t.Helper()
	if _, err := from.WriteToUDPAddrPort([]byte(text), to); err != nil {
		t.Fatalf("to %v: %v", to, err)
	}
}

// receive returns the next datagram.
func receive(t *testing.T, c *net.UDPConn) (string, netip.AddrPort) {
	t.Helper()
	b := make([]byte, 2000)
	c.SetReadDeadline(time.Now().Add(patience))
	n, from, err := c.ReadFromUDPAddrPort(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n]), netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
}

func hears(t *testing.T, c *net.UDPConn, want string, from netip.AddrPort) {
	t.Helper()
	text, sender := receive(t, c)
	if text != want || from.IsValid() && sender != from {
		t.Errorf("received %q from %v, want %q from %v", text, sender, want, from)
	}
}

// observed sends to a socket on a public host and returns where that saw it come from.
func observed(t *testing.T, from, to *net.UDPConn, at netip.AddrPort) netip.AddrPort {
	t.Helper()
	text := fmt.Sprintf("observe %d", time.Now().UnixNano())
	send(t, from, at, text)
	got, sender := receive(t, to)
	if got != text {
		t.Fatalf("received %q, want %q", got, text)
	}
	return sender
}

func at(h *Host, c *net.UDPConn) netip.AddrPort {
	return netip.AddrPortFrom(h.Addrs()[0], c.LocalAddr().(*net.UDPAddr).AddrPort().Port())
}

// world is an Internet with two public hosts, the first with two sockets.
type world struct {
	*Net
	base1, base2  *Host
	s11, s12, s21 *net.UDPConn
	a11, a12, a21 netip.AddrPort
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{Net: New(t, lab.New(t))}
	w.base1, w.base2 = w.Base("base1"), w.Base("base2")
	w.s11, w.s12, w.s21 = listen(t, w.base1, "0.0.0.0:3000"), listen(t, w.base1, "0.0.0.0:3001"), listen(t, w.base2, "0.0.0.0:3000")
	w.a11, w.a12, w.a21 = at(w.base1, w.s11), at(w.base1, w.s12), at(w.base2, w.s21)
	return w
}

func TestKindsOfNAT(t *testing.T) {
	w := newWorld(t)
	for i, test := range []struct {
		kind                    Kind
		sameAddress, samePort   bool // for another port, and another host, the external endpoint is the same
		otherPort, otherAddress bool // let in
		preserved               bool
		clash                   bool // a destination that wrote before it was written to sees another port
	}{
		{kind: FullCone, sameAddress: true, samePort: true, otherPort: true, otherAddress: true, preserved: true},
		{kind: AddressRestricted, sameAddress: true, samePort: true, otherPort: true, preserved: true},
		{kind: PortRestricted, sameAddress: true, samePort: true, preserved: true},
		{kind: Symmetric},
		{kind: LinuxNAT, preserved: true, clash: true},
		{kind: LinuxNATFiltered, sameAddress: true, samePort: true, preserved: true},
		{kind: LinuxSymmetric},
		{kind: DoubleNAT, sameAddress: true, samePort: true},
		{kind: UPnP},
	} {
		t.Run(string(test.kind), func(t *testing.T) {
			site := w.Site(fmt.Sprintf("site%d", i), test.kind)
			h := site.Host(fmt.Sprintf("host%d", i))
			c := listen(t, h, "0.0.0.0:5582")
			first := observed(t, c, w.s11, w.a11)
			if test.clash {
				// As long as nobody has written, the mapping is independent of the destination. (Afterwards the new port may be used for all.)
				s13 := listen(t, w.base1, "0.0.0.0:3002")
				defer s13.Close()
				if fresh := observed(t, c, s13, at(w.base1, s13)); fresh != first {
					t.Errorf("one that had not written saw %v, the first %v", fresh, first)
				}
			}
			// Filtering first: base1:3001 and base2 were not written to so far. What may not pass is sent before what may.
			send(t, w.s21, first, "other address")
			send(t, w.s12, first, "other port")
			send(t, w.s11, first, "asked for")
			if test.otherAddress {
				hears(t, c, "other address", w.a21)
			}
			if test.otherPort {
				hears(t, c, "other port", w.a12)
			}
			hears(t, c, "asked for", w.a11)
			if again := observed(t, c, w.s11, w.a11); again != first {
				t.Errorf("the same destination saw %v, then %v", first, again)
			}
			if second := observed(t, c, w.s12, w.a12); (second == first) != test.sameAddress {
				t.Errorf("another port saw %v, the first %v", second, first)
			}
			if third := observed(t, c, w.s21, w.a21); (third == first) != test.samePort {
				t.Errorf("another host saw %v, the first %v", third, first)
			}
			if (first.Port() == 5582) != test.preserved {
				t.Errorf("port 5582 became %d", first.Port())
			}
			if private := h.Addrs()[0]; !private.IsPrivate() || first.Addr().IsPrivate() {
				t.Errorf("inside %v, outside %v", private, first)
			}
			// A rebinding gives other ports, and the old ones lead nowhere.
			site.Rebind()
			if after := observed(t, c, w.s11, w.a11); after.Port() == first.Port() || after.Addr() != first.Addr() {
				t.Errorf("after a rebinding %v, before %v", after, first)
			}
		})
	}
}

// TestTwoSidesMeet is hole punching by hand: both know the other's external endpoint.
func TestTwoSidesMeet(t *testing.T) {
	w := newWorld(t)
	type side struct {
		h   *Host
		c   *net.UDPConn
		out netip.AddrPort
		ttl func(int)
	}
	number := 0
	open := func(t *testing.T, k Kind) side {
		number++
		h := w.Site(fmt.Sprintf("site%d", number), k).Host(fmt.Sprintf("host%d", number))
		s := side{h: h, c: listen(t, h, "0.0.0.0:5582")}
		s.out = observed(t, s.c, w.s11, w.a11)
		s.ttl = func(n int) { setTTL(t, s.c, n) }
		return s
	}
	t.Run("filtered Linux NATs", func(t *testing.T) {
		a, b := open(t, LinuxNATFiltered), open(t, LinuxNATFiltered)
		send(t, a.c, b.out, "lost at the other NAT")
		send(t, b.c, a.out, "hello")
		hears(t, a.c, "hello", b.out)
		send(t, a.c, b.out, "answer")
		hears(t, b.c, "answer", a.out)
	})
	t.Run("the conntrack clash of an unfiltered Linux NAT", func(t *testing.T) {
		a, b := open(t, LinuxNATFiltered), open(t, LinuxNAT)
		send(t, a.c, b.out, "remembered by b's router")
		// Behind it on the same way, so that it has arrived when this one has.
		ping(t, a.h, b.out.Addr())
		send(t, b.c, a.out, "from another port, which a's NAT does not let in")
		send(t, a.c, b.out, "taken by b's router")
		if got := observed(t, b.c, w.s11, w.a11); got != b.out {
			t.Errorf("toward others b's mapping changed from %v to %v", b.out, got)
		}
		if got := observed(t, a.c, w.s11, w.a11); got != a.out {
			t.Errorf("toward others a's mapping changed from %v to %v", a.out, got)
		}
		hearsNothing(t, a.c)
		hearsNothing(t, b.c)
	})
	t.Run("openers that die between the NATs", func(t *testing.T) {
		for _, ttl := range []int{2, 3, 4} {
			a, b := open(t, LinuxNAT), open(t, LinuxNAT)
			a.ttl(ttl)
			b.ttl(ttl)
			send(t, a.c, b.out, "opener")
			send(t, b.c, a.out, "opener")
			a.ttl(64)
			b.ttl(64)
			send(t, a.c, b.out, "hello")
			hears(t, b.c, "hello", a.out)
			send(t, b.c, a.out, "answer")
			hears(t, a.c, "answer", b.out)
		}
	})
}

func setTTL(t *testing.T, c *net.UDPConn, ttl int) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err == nil {
		raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TTL, ttl) })
	}
	if err != nil {
		t.Fatal(err)
	}
}

// hearsNothing proves that nothing has come so far.
func hearsNothing(t *testing.T, c *net.UDPConn) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(time.Millisecond))
	b := make([]byte, 100)
	if n, from, err := c.ReadFromUDPAddrPort(b); err == nil {
		t.Errorf("received %q from %v", b[:n], from)
	}
}

func ping(t *testing.T, h *Host, to netip.Addr) {
	t.Helper()
	h.Run(t, "ping", "-n", "-c1", "-W5", to.String())
}

// TestTTL: every router takes one hop, also one that translates in this process.
func TestTTL(t *testing.T) {
	w := newWorld(t)
	for i, test := range []struct {
		kind Kind
		hops int // routers between the host and a Base
	}{{Public, 2}, {PortRestricted, 3}, {LinuxNAT, 3}, {DoubleNAT, 3}} {
		t.Run(string(test.kind), func(t *testing.T) {
			h := w.Site(fmt.Sprintf("site%d", i), test.kind).Host(fmt.Sprintf("host%d", i))
			c := listen(t, h, "0.0.0.0:5582")
			setTTL(t, c, test.hops)
			send(t, c, w.a11, "dies at the last router")
			setTTL(t, c, test.hops+1)
			send(t, c, w.a11, "arrives")
			text, from := receive(t, w.s11)
			if text != "arrives" {
				t.Errorf("received %q", text)
			}
			setTTL(t, w.s11, test.hops)
			send(t, w.s11, from, "dies at the last router")
			setTTL(t, w.s11, test.hops+1)
			send(t, w.s11, from, "arrives")
			setTTL(t, w.s11, 64)
			hears(t, c, "arrives", w.a11)
		})
	}
}

func TestHairpin(t *testing.T) {
	w := newWorld(t)
	meet := func(t *testing.T, a, b *Host, hairpin bool) {
		t.Helper()
		ca, cb := listen(t, a, "0.0.0.0:5582"), listen(t, b, "0.0.0.0:5583")
		outA, outB := observed(t, ca, w.s11, w.a11), observed(t, cb, w.s11, w.a11)
		send(t, ca, netip.AddrPortFrom(b.Addrs()[0], 5583), "by the private address")
		send(t, ca, outB, "opens a's side")
		send(t, cb, outA, "opens b's side")
		send(t, ca, outB, "hello")
		if !hairpin {
			observed(t, ca, w.s11, w.a11) // behind the others in the NAT
			hearsNothing(t, cb)
			return
		}
		hears(t, cb, "hello", outA)
		hears(t, ca, "opens b's side", outB)
	}
	t.Run("off", func(t *testing.T) {
		s := w.Site("off", PortRestricted, Isolated())
		meet(t, s.Host("a1"), s.Host("b1"), false)
	})
	t.Run("on", func(t *testing.T) {
		s := w.Site("on", PortRestricted, Isolated(), Hairpin())
		meet(t, s.Host("a2"), s.Host("b2"), true)
	})
	t.Run("carrier", func(t *testing.T) {
		s := w.Site("cg1", DoubleNAT)
		meet(t, s.Host("a3"), w.Site("cg2", DoubleNAT, BehindCarrierOf(s)).Host("b3"), true)
	})
	t.Run("one LAN", func(t *testing.T) {
		s := w.Site("lan", Symmetric)
		a, b := s.Host("a4"), s.Host("b4")
		ca, cb := listen(t, a, "0.0.0.0:5582"), listen(t, b, "0.0.0.0:5582")
		send(t, ca, at(b, cb), "hello")
		hears(t, cb, "hello", at(a, ca))
	})
}

func TestMappingTimeout(t *testing.T) {
	w := newWorld(t)
	s := w.Site("short", PortRestricted, MappingTimeout(50*time.Millisecond))
	h := s.Host("host")
	c := listen(t, h, "0.0.0.0:5582")
	first := observed(t, c, w.s11, w.a11)
	lab.Eventually(t, patience, "the mapping expires", func() error {
		before := s.NAT.Stats().Unknown
		send(t, w.s12, first, "knock")
		return waitFor(func() bool { return s.NAT.Stats().Unknown > before })
	})
}

func waitFor(done func() bool) error {
	for range 20 {
		if done() {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return fmt.Errorf("not yet")
}
