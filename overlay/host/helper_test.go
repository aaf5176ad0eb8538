package host

import (
	"bytes"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/hnet-robotics/hnet_bridge/overlay/host/sandbox"
)

var (
	ownAddress   = netip.MustParseAddr("fc94:1::1")
	otherAddress = netip.MustParseAddr("fc94:2::2")
	peerAddress  = netip.MustParseAddr("fc94:3::3")
	spec         = DeviceSpec{Name: "hnet0", Address: ownAddress, MTU: 1420}
)

// TestMain lets the test binary play other processes: see helpers.
func TestMain(m *testing.M) {
	if helper, ok := helpers[os.Getenv("HOST_TEST_HELPER")]; ok {
		helper()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// helper prepares the test binary to run as another process.
func helper(name string, args ...string) *exec.Cmd {
	command := exec.Command("/proc/self/exe", args...)
	command.Env = append(os.Environ(), "HOST_TEST_HELPER="+name)
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return command
}

var helpers = map[string]func(){
	// daemon opens the device, says so and waits to be killed.
	"daemon": func() {
		if _, _, err := quiet().OpenDevice(spec); err != nil {
			os.Stdout.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		os.Stdout.WriteString("ready\n")
		select {}
	},
	// try opens the device and says how that went.
	"try": func() {
		_, _, err := quiet().OpenDevice(spec)
		report(err)
	},
	// attach tries to get hold of the device without configuring it.
	"attach": func() {
		_, _, err := attach(spec.Name, false)
		report(err)
	},
	"noipv6": func() {
		if err := denyIPv6(); err != nil {
			report(err)
		}
		_, _, err := quiet().OpenDevice(spec)
		report(err)
	},
	"rewrite": rewriteForever,
	"grow":    growWithoutRights,
	"nice":    beNice,
	"as nice": beAsNice,
	"nicer":   beNicer,
}

func report(err error) {
	if err != nil {
		os.Stdout.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
	os.Stdout.WriteString("opened\n")
	os.Exit(0)
}

func quiet() Host { return New(slog.New(slog.DiscardHandler)) }

func logging() (Host, *bytes.Buffer) {
	var log bytes.Buffer
	return New(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))), &log
}

// inSandbox runs body where a TUN device can be made.
func inSandbox(t *testing.T, body func(t *testing.T)) {
	t.Helper()
	sandbox.Run(t, func(t *testing.T) {
		f, err := os.OpenFile(clonePath, os.O_RDWR, 0)
		if err != nil {
			t.Skip("no usable /dev/net/tun here:", err)
		}
		f.Close()
		if _, err := exec.LookPath("ip"); err != nil {
			t.Skip("the ip command is missing: install iproute2:", err)
		}
		body(t)
	})
}

func open(t *testing.T, spec DeviceSpec) (*os.File, Device) {
	t.Helper()
	file, device, err := quiet().OpenDevice(spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return file, device
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func sysctl(t *testing.T, path, value string) {
	t.Helper()
	must(t, os.WriteFile("/proc/sys/net/ipv6/conf/"+path, []byte(value), 0))
}

// ip runs the ip command, which the tests use to look from outside and to be a meddling administrator.
func ip(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// state is what the tests want to see of a device.
type state struct {
	Alias     string
	MTU       int
	Segments  uint32 // in a superpacket, at the most
	Up        bool
	Addresses []string
	Routes    []string
}

func look(t *testing.T, name string) state {
	t.Helper()
	link, err := netlink.LinkByName(name)
	must(t, err)
	s := state{Alias: link.Attrs().Alias, MTU: link.Attrs().MTU, Segments: link.Attrs().GSOMaxSegs, Up: link.Attrs().RawFlags&unix.IFF_UP != 0}
	present, err := addresses(link)
	must(t, err)
	for _, a := range present {
		flags := ""
		if a.Flags&unix.IFA_F_NODAD != 0 {
			flags += " nodad"
		}
		if a.Flags&unix.IFA_F_NOPREFIXROUTE != 0 {
			flags += " noprefixroute"
		}
		if a.Flags&unix.IFA_F_TENTATIVE != 0 {
			flags += " tentative"
		}
		if a.Flags&unix.IFA_F_PERMANENT == 0 {
			flags += " passing"
		}
		if a.Flags&unix.IFA_F_DEPRECATED != 0 {
			flags += " deprecated"
		}
		s.Addresses = append(s.Addresses, a.IPNet.String()+flags)
	}
	for line := range strings.Lines(ip(t, "-6", "route", "show", "dev", name)) {
		if !strings.HasPrefix(line, "ff00::/8") {
			// Carrier comes a moment after attaching.
			s.Routes = append(s.Routes, strings.Join(strings.Fields(strings.ReplaceAll(line, "linkdown", "")), " "))
		}
	}
	return s
}

var wantedState = state{
	Alias:     "hnet",
	MTU:       1420,
	Segments:  128,
	Up:        true,
	Addresses: []string{"fc94:1::1/128 nodad noprefixroute"},
	Routes:    []string{"fc94::/16 proto 148 metric 1024 mtu 1280 pref medium"},
}

func expect(t *testing.T, want state) {
	t.Helper()
	if diff := cmp.Diff(want, look(t, spec.Name)); diff != "" {
		t.Fatalf("device (-want +got):\n%s", diff)
	}
}

// deliver writes a datagram from a peer to the device and wants to see it at the socket.
func deliver(t *testing.T, file *os.File, socket *net.UDPConn) {
	t.Helper()
	payload := []byte("hello")
	port := socket.LocalAddr().(*net.UDPAddr).Port
	length := byte(8 + len(payload))
	addresses := append(peerAddress.AsSlice(), ownAddress.AsSlice()...)
	udp := append([]byte{0, 9, byte(port >> 8), byte(port), 0, length, 0, 0}, payload...)
	sum := internetSum(addresses, []byte{0, length, 0, unix.IPPROTO_UDP}, udp)
	udp[6], udp[7] = byte(sum>>8), byte(sum)
	packet := append(make([]byte, virtioHeaderLen), 0x60, 0, 0, 0, 0, length, unix.IPPROTO_UDP, 64)
	packet = append(append(packet, addresses...), udp...)
	_, err := file.Write(packet)
	must(t, err)
	must(t, socket.SetReadDeadline(time.Now().Add(5*time.Second)))
	b := make([]byte, 100)
	n, from, err := socket.ReadFromUDPAddrPort(b)
	must(t, err)
	if from.Addr() != peerAddress || !bytes.Equal(b[:n], payload) {
		t.Errorf("got %q from %v", b[:n], from)
	}
}

func internetSum(parts ...[]byte) uint16 {
	var sum uint32
	for _, part := range parts {
		for i, b := range part {
			sum += uint32(b) << (8 * (1 - i%2))
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

func openDescriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(entries)
}

// veth makes a pair of devices v0 and v1 and routes dst to v0.
func veth(dst string) func(t *testing.T) {
	return func(t *testing.T) {
		t.Helper()
		ip(t, "link", "add", "v0", "type", "veth", "peer", "name", "v1")
		ip(t, "link", "set", "v0", "up")
		ip(t, "-6", "route", "add", dst, "dev", "v0")
	}
}
