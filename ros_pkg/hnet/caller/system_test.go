package caller

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"github.com/hnet-robotics/hnet_bridge/overlay/host/sandbox"
)

// asSender makes this test binary send one datagram, to the address that it names, and wait for its standard input to end.
const asSender = "HNET_TEST_SEND_TO"

func TestMain(m *testing.M) {
	if to := os.Getenv(asSender); to != "" {
		network, from := "udp4", netip.AddrPort{}
		if strings.HasPrefix(to, "[") {
			network = "udp6"
		}
		c, err := net.ListenUDP(network, net.UDPAddrFromAddrPort(from))
		if err == nil {
			_, err = c.WriteToUDPAddrPort([]byte("request"), netip.MustParseAddrPort(to))
		}
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("sent")
		bufio.NewReader(os.Stdin).ReadByte()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const stranger = 54321 // a user of this host that may not change anything

// TestKernel asks the real kernel, in namespaces: requests of this host's users over each of its addresses, and forged ones from the network.
func TestKernel(t *testing.T) {
	sandbox.Run(t, func(t *testing.T) {
		// A cable whose other end is in the hand of an attacker.
		own4, own6, overlay := netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("2001:db8::1/64"), netip.MustParsePrefix("fc94::1/128")
		mine, theirs := cable(t)
		dummy(t, "hnet0", overlay)
		for _, p := range []netip.Prefix{own4, own6} {
			addAddress(t, mine, p)
		}
		server := listen(t)
		judge := &Judge{System: Linux{}, UID: 4711, Group: "hnet", Device: "hnet0"}

		for _, test := range []struct {
			to   string
			want string // of root's request
		}{
			{"127.0.0.1", ""},
			{"192.0.2.1", ""},
			{"::1", ""},
			{"2001:db8::1", "can forge"},
			{"fc94::1", ""},
		} {
			origin, end := server.request(t, test.to, 0)
			expect(t, "root's request to "+test.to, judge.Permit(origin), test.want)
			end()
			if err := judge.Permit(origin); err == nil || test.want == "" && !strings.Contains(err.Error(), "is gone") {
				t.Errorf("to %s: after its end, root's program is obeyed: %v", test.to, err)
			}
			if os.Getuid() != 0 || singleUser(t) {
				continue
			}
			origin, end = server.request(t, test.to, stranger)
			want := test.want
			if want == "" {
				want = fmt.Sprintf("user %d may not", stranger)
			}
			expect(t, "a stranger's request to "+test.to, judge.Permit(origin), want)
			if test.want == "" {
				expect(t, "one's own request to "+test.to, (&Judge{System: Linux{}, UID: stranger, Device: "hnet0"}).Permit(origin), "")
			}
			end()
		}

		// Forged: from this host's own addresses, and the port of a program of root's.
		root, err := net.ListenPacket("udp", "[::]:5000")
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		for _, test := range []struct {
			from, to string
			arrives  bool // the kernel lets it through
		}{
			{"192.0.2.7", "192.0.2.1", true}, // another host's own
			{"192.0.2.1", "192.0.2.1", false},
			{"127.0.0.1", "192.0.2.1", false},
			{"2001:db8::7", "2001:db8::1", true},
			{"2001:db8::1", "2001:db8::1", true},
			{"fc94::1", "2001:db8::1", true},
			{"fc94::1", "fc94::1", true},
			{"::1", "2001:db8::1", false},
		} {
			what := "a forged request from " + test.from + " to " + test.to
			forge(t, theirs, mine, netip.AddrPortFrom(netip.MustParseAddr(test.from), 5000), netip.AddrPortFrom(netip.MustParseAddr(test.to), server.port))
			// What comes after it has overtaken nothing.
			forge(t, theirs, mine, netip.MustParseAddrPort("192.0.2.9:1"), netip.AddrPortFrom(own4.Addr(), server.port))
			arrived := false
			for {
				origin := server.next(t)
				if origin.From.Addr() == netip.MustParseAddr("192.0.2.9") {
					break
				}
				arrived = true
				if err := judge.Permit(origin); err == nil {
					t.Errorf("%s is obeyed", what)
				} else {
					t.Logf("%s: %v", what, err)
				}
			}
			if test.arrives && !arrived {
				t.Errorf("%s did not arrive: nothing was judged", what)
			}
		}
	})
}

func singleUser(t *testing.T) bool {
	text, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		t.Fatal(err)
	}
	var inside, outside, n uint64
	fmt.Sscan(string(text), &inside, &outside, &n)
	return n <= stranger
}

func expect(t *testing.T, what string, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("%s is refused: %v", what, err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("%s: want a reason with %q, got: %v", what, want, err)
	}
}

// listener takes requests of both families at one port.
type listener struct {
	port uint16
	got  chan Origin
}

func listen(t *testing.T) *listener {
	t.Helper()
	four, err := net.ListenUDP("udp4", nil)
	if err != nil {
		t.Fatal(err)
	}
	port := four.LocalAddr().(*net.UDPAddr).Port
	six, err := net.ListenUDP("udp6", &net.UDPAddr{Port: port})
	if err != nil {
		t.Fatal(err)
	}
	l := &listener{uint16(port), make(chan Origin, 16)}
	p4, p6 := ipv4.NewPacketConn(four), ipv6.NewPacketConn(six)
	if err := p4.SetControlMessage(ipv4.FlagInterface, true); err != nil {
		t.Fatal(err)
	}
	if err := p6.SetControlMessage(ipv6.FlagInterface, true); err != nil {
		t.Fatal(err)
	}
	put := func(from net.Addr, index int, err error) bool {
		if err == nil {
			l.got <- Origin{From: from.(*net.UDPAddr).AddrPort(), Interface: index}
		}
		return err == nil
	}
	go func() {
		b := make([]byte, 100)
		for {
			_, cm, from, err := p4.ReadFrom(b)
			if err != nil || !put(from, cm.IfIndex, nil) {
				return
			}
		}
	}()
	go func() {
		b := make([]byte, 100)
		for {
			_, cm, from, err := p6.ReadFrom(b)
			if err != nil || !put(from, cm.IfIndex, nil) {
				return
			}
		}
	}()
	t.Cleanup(func() { four.Close(); six.Close() })
	return l
}

func (l *listener) next(t *testing.T) Origin {
	t.Helper()
	select {
	case o := <-l.got:
		return o
	case <-time.After(20 * time.Second):
		t.Fatal("no datagram came")
		return Origin{}
	}
}

// request has a program of a user's ask. The program lives until end is called.
func (l *listener) request(t *testing.T, to string, uid uint32) (o Origin, end func()) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{asSender + "=" + netip.AddrPortFrom(netip.MustParseAddr(to), l.port).String()}
	if uid != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	}
	cmd.Stderr = os.Stderr
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "sent\n" {
		t.Fatalf("to %s: %q, %v", to, line, err)
	}
	return l.next(t), func() { in.Close(); cmd.Wait() }
}

func cable(t *testing.T) (mine, theirs netlink.Link) {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "mine"
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "theirs"}); err != nil {
		t.Fatal("make a cable:", err)
	}
	for i, l := range []*netlink.Link{&mine, &theirs} {
		link, err := netlink.LinkByName([]string{"mine", "theirs"}[i])
		if err == nil {
			err = netlink.LinkSetUp(link)
		}
		if err != nil {
			t.Fatal(err)
		}
		*l = link
	}
	return mine, theirs
}

func dummy(t *testing.T, name string, p netip.Prefix) {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	// A bridge without ports, since kernels without dummy devices are common.
	link := &netlink.Bridge{LinkAttrs: attrs}
	if err := netlink.LinkAdd(link); err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		t.Fatal(err)
	}
	addAddress(t, link, p)
}

func addAddress(t *testing.T, link netlink.Link, p netip.Prefix) {
	t.Helper()
	a := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	if err := netlink.AddrAdd(link, a); err != nil {
		t.Fatal(err)
	}
}

// forge sends a datagram into this host from the other end of the cable.
func forge(t *testing.T, from, to netlink.Link, source, destination netip.AddrPort) {
	t.Helper()
	payload := []byte("forged")
	udp := make([]byte, 8, 8+len(payload))
	binary.BigEndian.PutUint16(udp, source.Port())
	binary.BigEndian.PutUint16(udp[2:], destination.Port())
	binary.BigEndian.PutUint16(udp[4:], uint16(8+len(payload)))
	udp = append(udp, payload...)
	s, d := source.Addr().AsSlice(), destination.Addr().AsSlice()
	pseudo := append(append([]byte{}, s...), d...)
	pseudo = append(pseudo, 0, 17, 0, byte(len(udp)))
	sum := checksum(append(pseudo, udp...))
	if sum == 0 {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(udp[6:], sum)

	frame := append([]byte{}, to.Attrs().HardwareAddr...)
	frame = append(frame, from.Attrs().HardwareAddr...)
	protocol := uint16(unix.ETH_P_IP)
	if source.Addr().Is4() {
		ip := []byte{0x45, 0, 0, byte(20 + len(udp)), 0, 0, 0, 0, 64, 17, 0, 0}
		ip = append(append(ip, s...), d...)
		binary.BigEndian.PutUint16(ip[10:], checksum(ip))
		frame = append(append(frame, 0x08, 0x00), append(ip, udp...)...)
	} else {
		protocol = unix.ETH_P_IPV6
		ip := []byte{0x60, 0, 0, 0, 0, byte(len(udp)), 17, 64}
		ip = append(append(ip, s...), d...)
		frame = append(append(frame, 0x86, 0xdd), append(ip, udp...)...)
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	big := protocol<<8 | protocol>>8
	if err := unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Protocol: big, Ifindex: from.Attrs().Index}); err != nil {
		t.Fatal(err)
	}
}

func checksum(b []byte) uint16 {
	var sum uint32
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
