package tun

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/hnet-robotics/hnet_bridge/test/netns"
)

// openTUN makes a TUN device with an address in n, up and with offloads.
func openTUN(t testing.TB, n *netns.Namespace, address netip.Addr, uso bool) Device {
	t.Helper()
	var d Device
	n.Do(t, func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open TUN device: %w", err)
		}
		f := os.NewFile(uintptr(fd), "/dev/net/tun") // blocking: NewFile has to see to it
		request, err := unix.NewIfreq("hnet0")
		if err != nil {
			return err
		}
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
			return fmt.Errorf("open TUN device: %w", err)
		}
		offloads := unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6
		if uso {
			offloads |= unix.TUN_F_USO4 | unix.TUN_F_USO6
		}
		if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, offloads); err != nil {
			return fmt.Errorf("set TUN offloads: %w", err)
		}
		link, err := netlink.LinkByName("hnet0")
		if err != nil {
			return err
		}
		if err := netlink.LinkSetMTU(link, 1420); err != nil {
			return err
		}
		if err := netlink.LinkSetGSOMaxSegs(link, MaxSegments); err != nil {
			return err
		}
		if err := netlink.AddrAdd(link, &netlink.Addr{
			IPNet: &net.IPNet{IP: address.AsSlice(), Mask: net.CIDRMask(16, 128)}, Flags: unix.IFA_F_NODAD,
		}); err != nil {
			return err
		}
		if err := netlink.AddrAdd(link, &netlink.Addr{
			IPNet: &net.IPNet{IP: ipv4Of(address).AsSlice(), Mask: net.CIDRMask(24, 32)},
		}); err != nil {
			return err
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return err
		}
		if err := awaitLocal(address); err != nil {
			return err
		}
		d, err = NewFile(f, uso)
		return err
	})
	t.Cleanup(func() { d.Close() })
	return d
}

// ipv4Of is the IPv4 address of a device with an IPv6 address.
func ipv4Of(address netip.Addr) netip.Addr {
	b := address.As16()
	return netip.AddrFrom4([4]byte{10, 94, 0, b[15]})
}

// awaitLocal waits until the kernel takes packets to an address: it makes the
// local route some time after the address.
func awaitLocal(address netip.Addr) error {
	for until := time.Now().Add(5 * time.Second); time.Now().Before(until); time.Sleep(time.Millisecond) {
		routes, err := netlink.RouteGet(address.AsSlice())
		if err == nil && len(routes) == 1 && routes[0].Type == unix.RTN_LOCAL {
			return nil
		}
	}
	return fmt.Errorf("%v did not become a local address", address)
}

// needTUN skips where there can be none.
func needTUN(t testing.TB) {
	t.Helper()
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		t.Skipf("no /dev/net/tun (modprobe tun): %v", err)
	}
	if os.Geteuid() != 0 {
		t.Skip("making TUN devices needs root")
	}
}

// bridge carries packets from one device to another as a tunnel would: cut,
// copied elsewhere as if sealed, and joined again.
type bridge struct {
	supers, packets, writes atomic.Int64
}

// counter is a Device that counts what is written.
type counter struct {
	Device
	n *atomic.Int64
}

func (c counter) Write(parts [][]byte) error {
	c.n.Add(1)
	return c.Device.Write(parts)
}

// joiner is what packets are given to.
type joiner interface {
	Add(packet []byte) error
	Flush() error
}

// single is a joiner that joins nothing, so that the kernel verifies the
// checksum of every packet.
type single struct{ Device }

func (s single) Add(packet []byte) error {
	return s.Write([][]byte{make([]byte, HeaderLen), packet})
}

func (s single) Flush() error { return nil }

func (b *bridge) run(from, to Device, join bool) error {
	buffer := make([]byte, 4*(HeaderLen+MaxPacket))
	ends := make([]int, 64)
	train := make([]byte, 0, 2*len(buffer))
	c := joiner(single{counter{to, &b.writes}})
	if join {
		c = NewCoalescer(counter{to, &b.writes})
	}
	var s Splitter
	for {
		n, err := from.ReadBatch(buffer, ends)
		if err != nil {
			return err
		}
		begin := 0
		for _, end := range ends[:n] {
			if buffer[begin+1] != 0 {
				b.supers.Add(1)
			}
			if err := s.Reset(buffer[begin:end]); err != nil {
				return err
			}
			begin = end
			for s.Next() {
				at := len(train)
				train = append(train, s.Packet()...)
				b.packets.Add(1)
				if err := c.Add(train[at:]); err != nil {
					return err
				}
			}
			if err := c.Flush(); err != nil {
				return err
			}
			train = train[:0]
		}
	}
}

// twoHosts are two namespaces whose TUN devices are bridged both ways.
type twoHosts struct {
	a, b         *netns.Namespace
	addrA, addrB netip.Addr
	forth, back  bridge
	ended        chan error
}

func newTwoHosts(t testing.TB, uso, join bool) *twoHosts {
	t.Helper()
	needTUN(t)
	h := &twoHosts{
		a: netns.New(t), b: netns.New(t),
		addrA: netip.MustParseAddr("fc94::a"), addrB: netip.MustParseAddr("fc94::b"), ended: make(chan error, 2),
	}
	devA := openTUN(t, h.a, h.addrA, uso)
	devB := openTUN(t, h.b, h.addrB, uso)
	go func() { h.ended <- h.forth.run(devA, devB, join) }()
	go func() { h.ended <- h.back.run(devB, devA, join) }()
	t.Cleanup(func() {
		devA.Close()
		devB.Close()
		for range 2 {
			if err := <-h.ended; !errors.Is(err, os.ErrClosed) {
				t.Errorf("a bridge ended: %v", err)
			}
		}
	})
	return h
}

// setMaxSegment makes both ends send segments of at most size bytes.
func setMaxSegment(c syscall.RawConn, size int) error {
	var err error
	if cerr := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG, size)
	}); cerr != nil {
		return cerr
	}
	return err
}

// setDestinationOptions puts an extension header into every packet of conn.
func setDestinationOptions(conn *net.TCPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	padding := string([]byte{0, 0, 1, 4, 0, 0, 0, 0})
	if cerr := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptString(int(fd), unix.IPPROTO_IPV6, unix.IPV6_DSTOPTS, padding)
	}); cerr != nil {
		return cerr
	}
	return err
}

func TestKernelTCP(t *testing.T) {
	for _, test := range []struct {
		name      string
		join      bool
		ipv4      bool
		extension bool
		segment   int // largest TCP segment asked for; 0 = as the MTU allows
	}{
		{"joined", true, false, false, 0},
		{"single", false, false, false, 0},
		{"destination options", false, false, true, 0},
		{"IPv4", false, true, false, 0},
		{"IPv4 joined", true, true, false, 0},
		{"IPv4 small segments", true, true, false, 300},
		{"small segments", true, false, false, 300},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newTwoHosts(t, true, test.join)
			const size = 16 << 20
			to := netip.AddrPortFrom(h.addrB, 0)
			if test.ipv4 {
				to = netip.AddrPortFrom(ipv4Of(h.addrB), 0)
			}
			data := make([]byte, size)
			rand.NewChaCha8([32]byte{1}).Read(data)
			want := sha256.Sum256(data)

			var listener net.Listener
			h.b.Do(t, func() (err error) {
				listener, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(to))
				return err
			})
			defer listener.Close()
			echoed := make(chan error, 1)
			go func() { // what arrives is sent back
				conn, err := listener.Accept()
				if err == nil {
					err = conn.SetDeadline(time.Now().Add(30 * time.Second))
				}
				if err == nil {
					_, err = io.Copy(struct{ io.Writer }{conn}, struct{ io.Reader }{conn})
					conn.(*net.TCPConn).CloseWrite()
				}
				echoed <- err
			}()
			var conn *net.TCPConn
			h.a.Do(t, func() error {
				dialer := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
					if test.segment == 0 {
						return nil
					}
					return setMaxSegment(c, test.segment)
				}}
				c, err := dialer.Dial("tcp", listener.Addr().String())
				if err != nil {
					return err
				}
				conn = c.(*net.TCPConn)
				if test.extension {
					return setDestinationOptions(conn)
				}
				return nil
			})
			defer conn.Close()
			if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
				t.Fatal(err)
			}
			sent := make(chan error, 1)
			go func() {
				_, err := conn.Write(data)
				sent <- errors.Join(err, conn.CloseWrite())
			}()
			hash := sha256.New()
			n, err := io.Copy(hash, conn)
			if err := errors.Join(err, <-sent, <-echoed); err != nil {
				t.Fatal(err)
			}
			if n != size || !bytes.Equal(hash.Sum(nil), want[:]) {
				t.Fatalf("%d bytes came back, not the %d sent", n, size)
			}
			supers, packets, writes := h.forth.supers.Load(), h.forth.packets.Load(), h.forth.writes.Load()
			t.Logf("forth: %d superpackets, %d packets, %d writes", supers, packets, writes)
			if supers == 0 || packets < size/1400 || test.join && writes > packets/4 {
				t.Errorf("%d superpackets, %d packets, %d writes: the offloads did not work", supers, packets, writes)
			}
		})
	}
}

// segmentControl is the control message that cuts a datagram into a train.
func segmentControl(size int) []byte {
	b := make([]byte, unix.CmsgSpace(2))
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = unix.IPPROTO_UDP, unix.UDP_SEGMENT
	h.SetLen(unix.CmsgLen(2))
	binary.NativeEndian.PutUint16(b[unix.CmsgLen(0):], uint16(size))
	return b
}

func TestKernelUDP(t *testing.T) {
	for _, test := range []struct{ uso, ipv4 bool }{{false, false}, {true, false}, {false, true}, {true, true}} {
		uso := test.uso
		t.Run(fmt.Sprintf("USO %v, IPv4 %v", uso, test.ipv4), func(t *testing.T) {
			h := newTwoHosts(t, uso, true)
			address := h.addrB
			if test.ipv4 {
				address = ipv4Of(address)
			}
			var from, to *net.UDPConn
			h.b.Do(t, func() (err error) {
				to, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(address, 0)))
				return err
			})
			defer to.Close()
			h.a.Do(t, func() (err error) {
				from, err = net.DialUDP("udp", nil, to.LocalAddr().(*net.UDPAddr))
				return err
			})
			defer from.Close()
			if err := to.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
				t.Fatal(err)
			}
			r := rand.New(rand.NewPCG(33, 34))
			room := make([]byte, 65536)
			for _, test := range []struct{ size, bytes int }{
				{1200, 1200}, {1200, 1201}, {1200, 60000}, {1, 60}, {1372, 1372 * 40}, {1000, 9999},
			} {
				data := randomBytes(r, test.bytes)
				control := segmentControl(test.size)
				if _, _, err := from.WriteMsgUDP(data, control, nil); err != nil {
					t.Fatalf("%d bytes in datagrams of %d: %v", test.bytes, test.size, err)
				}
				for want := range slices.Chunk(data, test.size) {
					n, err := to.Read(room)
					if err != nil {
						t.Fatalf("%d bytes in datagrams of %d: %v", test.bytes, test.size, err)
					}
					if !bytes.Equal(room[:n], want) {
						t.Fatalf("%d bytes in datagrams of %d: a datagram of %d bytes is not the %d sent", test.bytes, test.size, n, len(want))
					}
				}
			}
			supers, packets, writes := h.forth.supers.Load(), h.forth.packets.Load(), h.forth.writes.Load()
			t.Logf("%d superpackets, %d packets, %d writes", supers, packets, writes)
			if uso && (supers < 4 || writes > packets/4) {
				t.Errorf("%d superpackets, %d packets, %d writes: the offloads did not work", supers, packets, writes)
			}
		})
	}
}
