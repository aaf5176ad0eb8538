package socket

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }

// port is that of the sockets tested, open that of one that hears anybody.
const (
	port = 5999
	open = 5998
)

// patience is for what comes, if it comes.
const patience = 20 * time.Second

var (
	own6 = netip.MustParseAddr("fc94::1")
	own4 = netip.MustParseAddr("198.19.0.1")
)

// overlay makes the overlay's interface on a host, as if anew.
func overlay(t *testing.T, h *lab.Host) {
	t.Helper()
	nl := h.Netlink()
	if old, err := nl.LinkByName("hnet0"); err == nil {
		if err := nl.LinkDel(old); err != nil {
			t.Fatal(err)
		}
	}
	link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "hnet0"}, PeerName: "far"}
	if err := nl.LinkAdd(link); err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{own6.String() + "/16", own4.String() + "/16"} {
		addr, err := netlink.ParseAddr(a)
		if err != nil {
			t.Fatal(err)
		}
		addr.Flags = unix.IFA_F_NODAD
		if addr.IP.To4() != nil {
			addr.Flags = 0
		}
		if err := nl.AddrAdd(link, addr); err != nil {
			t.Fatal(err)
		}
	}
	if err := nl.LinkSetUp(link); err != nil {
		t.Fatal(err)
	}
}

// listen opens a socket on a host, and tells what it hears.
func listen(t *testing.T, h *lab.Host, a netip.Addr) <-chan string {
	t.Helper()
	var s *UDP
	if err := h.Do(func() (err error) {
		s, err = Listen(t.Context(), netip.AddrPortFrom(a, port), "hnet0", 1<<16)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	heard, ended := make(chan string, 100), make(chan error, 1)
	go func() {
		b := make([]byte, 16)
		for {
			n, from, err := s.Read(b)
			if err != nil {
				ended <- err
				return
			}
			if from.Addr().Is4In6() || from.Addr().Zone() != "" {
				t.Errorf("from %v", from)
			}
			heard <- string(b[:n])
		}
	}()
	t.Cleanup(func() {
		s.Close()
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Errorf("it ends with %v", err)
		}
	})
	return heard
}

// send sends from a host.
func send(t *testing.T, h *lab.Host, to netip.AddrPort, text string) {
	t.Helper()
	if err := h.Do(func() error {
		c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte(text))
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// knock is what is sent until it is heard: the kernel takes a while to give an interface its addresses, and the index is looked up once a second.
const knock = "knock"

// heardAt knocks until it is heard.
func heardAt(t *testing.T, h *lab.Host, at netip.AddrPort, heard <-chan string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		send(t, h, at, knock)
		select {
		case <-heard:
			return
		case <-time.After(50 * time.Millisecond):
			if time.Now().After(deadline) {
				t.Fatalf("nothing is heard at %v", at)
			}
		}
	}
}

// expect waits for what is heard next, but for knocks.
func expect(t *testing.T, heard <-chan string, want string) {
	t.Helper()
	for deadline := time.After(patience); ; {
		select {
		case got := <-heard:
			if got == knock {
				continue
			}
			if got != want {
				t.Errorf("heard %q, want %q", got, want)
			}
			return
		case <-deadline:
			t.Fatalf("%q is not heard", want)
		}
	}
}

// TestRead: what this host sends to itself is heard, what a neighbour on the LAN sends to the same address is not, nor is what is too long.
func TestRead(t *testing.T) {
	l := lab.New(t)
	robot, neighbour := l.Host("robot"), l.Host("neighbour")
	l.LAN(lab.Link{}, robot, neighbour)
	overlay(t, robot)
	neighbour.Route(netip.PrefixFrom(own6, 128), robot.Addr6("lan0"))
	neighbour.Route(netip.PrefixFrom(own4, 32), robot.Addr4("lan0"))
	for _, a := range []netip.Addr{own6, own4, netip.IPv6Loopback(), netip.AddrFrom4([4]byte{127, 0, 0, 1})} {
		at := netip.AddrPortFrom(a, port)
		heard := listen(t, robot, a)
		heardAt(t, robot, at, heard)
		if !a.IsLoopback() {
			send(t, neighbour, at, "from a stranger")
			arrived(t, robot, neighbour, a)
		}
		send(t, robot, at, "longer than there is room")
		send(t, robot, at, "last")
		expect(t, heard, "last")
	}
}

// arrived waits until something that the neighbour sends now has come to the robot: what it sent before has come, too.
func arrived(t *testing.T, robot, neighbour *lab.Host, a netip.Addr) {
	t.Helper()
	at := netip.AddrPortFrom(a, open)
	var c *net.UDPConn
	if err := robot.Do(func() (err error) {
		c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	send(t, neighbour, at, "to anybody")
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
}

// TestAnew: an address that comes later, and an interface that is made anew, under another index.
func TestAnew(t *testing.T) {
	l := lab.New(t)
	robot := l.Host("robot")
	heard := listen(t, robot, own6)
	for range 2 {
		overlay(t, robot)
		heardAt(t, robot, netip.AddrPortFrom(own6, port), heard)
		for len(heard) > 0 {
			<-heard
		}
	}
}

// TestListen tells of a port that is taken.
func TestListen(t *testing.T) {
	l := lab.New(t)
	if err := l.Host("robot").Do(func() error {
		s, err := Listen(t.Context(), netip.AddrPortFrom(own4, port), "hnet0", 0)
		if err != nil {
			return err
		}
		defer s.Close()
		if _, err := Listen(t.Context(), netip.AddrPortFrom(own4, port), "hnet0", 0); !errors.Is(err, unix.EADDRINUSE) {
			t.Errorf("a second one: %v", err)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
