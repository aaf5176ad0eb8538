package integrity

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/wireguard"
	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

const hnetPort = 5582

// besideStranger makes a world whose LAN has one host more.
func besideStranger(t *testing.T) (w *world, stranger *lab.Host) {
	w = onLAN(t, "", lab.Link{}, lab.IPv4Only)
	stranger = w.lab.Host("stranger")
	w.lan.Attach(stranger)
	return w, stranger
}

func open(t *testing.T, h *lab.Host) (c *net.UDPConn) {
	t.Helper()
	if err := h.Do(func() (err error) {
		c, err = net.ListenUDP("udp", nil)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// every calls f at a rate until stop is closed; what is missed because this machine is slow is not made up for.
func every(interval time.Duration, stop <-chan struct{}, f func()) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
			f()
		}
	}
}

// sniffer sees what arrives at a host's device for hnetd.
type sniffer struct{ fd int }

func sniff(t *testing.T, e end) *sniffer {
	t.Helper()
	s := &sniffer{fd: -1}
	link, err := e.Netlink().LinkByName("lan0")
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Do(func() (err error) {
		const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8
		if s.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all); err != nil {
			return err
		}
		if err := unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}); err != nil {
			return err
		}
		return unix.Bind(s.fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: link.Attrs().Index})
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(s.fd) })
	return s
}

// next returns one datagram's payload, in b; nil if what came is something else, or nothing does.
func (s *sniffer) next(b []byte) []byte {
	n, from, err := unix.Recvfrom(s.fd, b, 0)
	if link, ok := from.(*unix.SockaddrLinklayer); err != nil || !ok || link.Pkttype == unix.PACKET_OUTGOING || n < 14 {
		return nil
	}
	p := b[14:n]
	switch {
	case len(p) >= 20 && p[0]>>4 == 4 && p[9] == unix.IPPROTO_UDP:
		p = p[int(p[0]&15)*4:]
	case len(p) >= 40 && p[0]>>4 == 6 && p[6] == unix.IPPROTO_UDP:
		p = p[40:]
	default:
		return nil
	}
	if len(p) < 8 || binary.BigEndian.Uint16(p[2:]) != hnetPort {
		return nil
	}
	return p[8:]
}

// TestReplays has a stranger who sees everything that arrives at one robot send it again: at once, later and out of order, much later, and with a
// bit turned.
func TestReplays(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the real programs")
	}
	w, stranger := besideStranger(t)
	w.unsegmented(false) // so that each datagram is seen by itself
	s, c := sniff(t, w.b), open(t, stranger)
	to := netip.AddrPortFrom(w.b.Addr4("lan0"), hnetPort)
	before := w.thrown()
	stop, ended := make(chan struct{}), make(chan struct{})
	var again atomic.Int64
	go func() {
		defer close(ended)
		random := rand.New(rand.NewPCG(3, 4))
		send := func(b []byte) {
			if _, err := c.WriteToUDPAddrPort(b, to); err == nil {
				again.Add(1)
			}
		}
		var late, old [][]byte
		b := make([]byte, 1<<16)
		for n := 0; ; {
			select {
			case <-stop:
				return
			default:
			}
			d := s.next(b)
			if d == nil || wireguard.TypeOf(d) != wireguard.TypeTransport {
				continue
			}
			if len(d) > 1500 {
				t.Errorf("a datagram of %d B arrived: the underlay still carries trains whole", len(d))
				return
			}
			if len(old) < 64 {
				old = append(old, slices.Clone(d))
			}
			switch n++; n % 8 {
			case 0:
				send(d)
			case 1:
				late = append(late, slices.Clone(d))
			case 2:
				d[wireguard.TransportHeaderSize+random.IntN(len(d)-wireguard.TransportHeaderSize)] ^= 1 << random.IntN(8)
				send(d)
			case 3: // a number that was not used yet
				binary.LittleEndian.PutUint64(d[8:], binary.LittleEndian.Uint64(d[8:])+uint64(random.IntN(1<<20)))
				send(d)
			}
			if len(late) == 256 {
				random.Shuffle(len(late), func(i, j int) { late[i], late[j] = late[j], late[i] })
				for _, x := range late {
					send(x)
				}
				late = late[:0]
				send(old[random.IntN(len(old))])
			}
		}
	}()
	w.beside(func(flows func() bool) {
		for again.Load() < 10_000 && flows() {
		}
	})
	close(stop)
	<-ended
	after := w.thrown()[w.b.Name()].since(before[w.b.Name()])
	t.Logf("%d datagrams were sent again or forged; %s threw away %v", again.Load(), w.b.Name(), after)
	if after["replayed"] == 0 || after["unauthentic"] == 0 {
		t.Errorf("%s threw away %v", w.b.Name(), after)
	}
	if p, _ := w.b.Peer(w.a.Address); p.Endpoint.Addr().Unmap() == stranger.Addr4("lan0") {
		t.Error("replays moved the path to the stranger")
	}
	w.clean(before, disturbed)
}

// indices are enough for handshakes that are never finished.
type indices struct{}

func (indices) New() (uint32, bool)             { return rand.Uint32(), true }
func (indices) Bind(uint32, *wireguard.Keypair) {}
func (indices) Free(uint32)                     {}

// initiations makes handshakes of keys that nobody let in, as anyone can who knows the robot's public key.
func initiations(t *testing.T, to end, n int) (list [][]byte) {
	t.Helper()
	var id struct{ WireGuard string }
	to.JSON(&id, "id")
	remote, err := identity.ParsePublicKey(id.WireGuard)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		own := identity.FromSeed([32]byte{1, byte(i), byte(i >> 8)})
		p := wireguard.NewPeer(wireguard.PeerConfig{
			Local: wireguard.NewLocal(own.PrivateKey(), own.PublicKey(), false), Remote: remote, Indices: indices{}, Stamp: time.Now,
		})
		b, err := p.Initiation(time.Now())
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, b)
	}
	return list
}

// TestHandshakeFlood has a stranger send thousands of handshakes a second, so that cookies are asked for, while everything flows, sessions are renewed,
// and a robot that was not there before gets in.
func TestHandshakeFlood(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the real programs")
	}
	w, stranger := besideStranger(t)
	before := w.thrown()
	before[w.a.Name()] = nil // counts anew
	c := open(t, stranger)
	to := netip.AddrPortFrom(w.b.Addr4("lan0"), hnetPort)
	var cookies, sent atomic.Int64
	go func() {
		b := make([]byte, 2048)
		for {
			n, _, err := c.ReadFromUDPAddrPort(b)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil && wireguard.TypeOf(b[:n]) == wireguard.TypeCookieReply {
				cookies.Add(1)
			}
		}
	}()
	flood := initiations(t, w.b, 256)
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		i := 0
		every(10*time.Millisecond, stop, func() { // 3,000 a second
			for range 30 {
				if _, err := c.WriteToUDPAddrPort(flood[i%len(flood)], to); err == nil {
					sent.Add(1)
				}
				i++
			}
		})
	}()
	start := time.Now()
	w.beside(func(flows func() bool) {
		lab.Eventually(t, patience, "cookies are asked for", func() error {
			if cookies.Load() == 0 {
				return fmt.Errorf("none after %d handshakes", sent.Load())
			}
			return nil
		})
		// One starts again: there is a new session under the flood.
		w.restart(w.a)
		if !flows() {
			return
		}
		// A third one gets in.
		h := w.lab.Host("robot3")
		w.lan.Attach(h)
		r := fleet.Start(t, h, metricsConfig)
		begun := time.Now()
		fleet.Trust(w.b.Robot, r)
		third := end{r, r.Address}
		w.reaches(third, w.b)
		t.Logf("the third robot reaches %s after %v", w.b.Name(), time.Since(begun).Round(time.Millisecond))
		streams(t, "the third robot", stream{from: third, to: w.b, bytes: 8 << 20}, stream{from: w.b, to: third, bytes: 8 << 20})
		flows()
	})
	close(stop)
	<-ended
	after := w.thrown()[w.b.Name()].since(before[w.b.Name()])
	t.Logf("%d handshakes in %.1f s, %d cookies asked for; %s threw away %v", sent.Load(), time.Since(start).Seconds(), cookies.Load(), w.b.Name(), after)
	w.clean(before, disturbed)
}
