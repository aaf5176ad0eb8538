package host

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
)

func TestOpenDeviceMakes(t *testing.T) {
	inSandbox(t, func(t *testing.T) {
		file, device := open(t, spec)
		expect(t, wantedState)
		link, err := netlink.LinkByName(spec.Name)
		must(t, err)
		if device.Adopted || device.Index != link.Attrs().Index {
			t.Errorf("device = %+v, index is %d", device, link.Attrs().Index)
		}
		tuntap := link.(*netlink.Tuntap)
		if tuntap.NonPersist || tuntap.Owner != uint32(os.Geteuid()) || tuntap.Flags&netlink.TUNTAP_VNET_HDR == 0 {
			t.Errorf("tun attributes: %+v", tuntap)
		}
		// Whether the kernel is new enough for USO shows in what it does, not in its version.
		if got := sendsSuperpackets(t, file); got != device.USO {
			t.Errorf("USO = %v, but UDP superpackets arrive: %v", device.USO, got)
		}
	})
}

// sendsSuperpackets sends two datagrams as one through the device and tells whether they come out as one.
func sendsSuperpackets(t *testing.T, file *os.File) bool {
	t.Helper()
	conn, err := net.DialUDP("udp6", nil, &net.UDPAddr{IP: peerAddress.AsSlice(), Port: 9})
	must(t, err)
	defer conn.Close()
	raw, err := conn.SyscallConn()
	must(t, err)
	must(t, raw.Control(func(fd uintptr) {
		if e := unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT, 1000); e != nil {
			t.Skip("the kernel has no UDP segmentation offload:", e)
		}
	}))
	_, err = conn.Write(make([]byte, 2000))
	must(t, err)
	must(t, file.SetReadDeadline(time.Now().Add(5*time.Second)))
	b := make([]byte, 1<<16)
	n, err := file.Read(b)
	must(t, err)
	return n == virtioHeaderLen+40+8+2000
}

// TestAddressReady: the address takes packets in as soon as the device is said to be there, on a busy machine too.
func TestAddressReady(t *testing.T) {
	inSandbox(t, func(t *testing.T) {
		for range 2 * runtime.NumCPU() {
			go func() {
				for t.Context().Err() == nil {
				}
			}()
		}
		for range 20 {
			file, _ := open(t, spec)
			routes, err := netlink.RouteGet(ownAddress.AsSlice())
			must(t, err)
			if routes[0].Type != unix.RTN_LOCAL {
				t.Errorf("own address is routed to %+v", routes[0])
			}
			must(t, quiet().RemoveDevice(spec.Name))
			must(t, file.Close())
		}
	})
}

// TestAddressDiverted: an administrator's rule is no reason to stay away, but to warn.
func TestAddressDiverted(t *testing.T) {
	inSandbox(t, func(t *testing.T) {
		ip(t, "-6", "rule", "add", "pref", "10", "lookup", "local")
		ip(t, "-6", "rule", "del", "pref", "0")
		ip(t, "-6", "rule", "add", "pref", "5", "to", "fc94::/16", "lookup", "main")
		h, log := logging()
		file, _, err := h.OpenDevice(spec)
		must(t, err)
		must(t, file.Close())
		if !strings.Contains(log.String(), "ip -6 rule") {
			t.Errorf("log: %s", log)
		}
	})
}

func TestOpenDeviceAdopts(t *testing.T) {
	inSandbox(t, func(t *testing.T) {
		file, first := open(t, spec)
		socket, err := net.ListenUDP("udp6", &net.UDPAddr{IP: ownAddress.AsSlice()})
		must(t, err)
		defer socket.Close()
		must(t, file.Close())
		expect(t, wantedState)

		events := addressEvents(t)
		file, second := open(t, spec)
		if !second.Adopted || second.Index != first.Index || second.USO != first.USO {
			t.Errorf("first %+v, then %+v", first, second)
		}
		expect(t, wantedState)
		if gone := events(); len(gone) != 0 {
			t.Errorf("addresses removed while adopting: %v", gone)
		}
		deliver(t, file, socket)
	})
}

// addressEvents begins to watch; the function it returns tells which IPv6 addresses were removed since.
func addressEvents(t *testing.T) func() []string {
	t.Helper()
	updates, done := make(chan netlink.AddrUpdate, 100), make(chan struct{})
	must(t, netlink.AddrSubscribe(updates, done))
	return func() (gone []string) {
		t.Helper()
		// An address of our own is the mark: what happened before it has arrived when it has.
		ip(t, "-6", "address", "add", "fd00::1/128", "dev", "lo")
		defer close(done)
		for {
			select {
			case u := <-updates:
				if u.LinkAddress.IP.Equal(net.ParseIP("fd00::1")) {
					return gone
				}
				if !u.NewAddr {
					gone = append(gone, u.LinkAddress.String())
				}
			case <-time.After(5 * time.Second):
				t.Fatal("no address events arrive")
			}
		}
	}
}

func TestDeviceSurvivesKill(t *testing.T) {
	inSandbox(t, func(t *testing.T) {
		for round := range 3 {
			daemon := helper("daemon")
			out, err := daemon.StdoutPipe()
			must(t, err)
			must(t, daemon.Start())
			line := make([]byte, 500)
			n, _ := out.Read(line)
			if string(line[:n]) != "ready\n" {
				t.Fatalf("round %d: daemon says %q", round, line[:n])
			}
			// A second daemon on the same device.
			_, _, err = quiet().OpenDevice(spec)
			if !errors.Is(err, ErrBusy) || strings.Contains(err.Error(), "\n") {
				t.Errorf("round %d: second daemon: %v", round, err)
			}
			socket, err := net.ListenUDP("udp6", &net.UDPAddr{IP: ownAddress.AsSlice()})
			must(t, err)
			defer socket.Close()
			must(t, daemon.Process.Kill())
			daemon.Wait()
			expect(t, wantedState)
			if _, err := socket.WriteToUDPAddrPort([]byte("lost, but no error"), netip.AddrPortFrom(peerAddress, 9)); err != nil {
				t.Errorf("round %d: sending while no daemon runs: %v", round, err)
			}
			file, device := open(t, spec)
			if !device.Adopted {
				t.Errorf("round %d: not adopted", round)
			}
			deliver(t, file, socket)
			must(t, file.Close())
		}
	})
}

func TestOpenDeviceRepairs(t *testing.T) {
	tests := map[string]func(t *testing.T){
		"down":             func(t *testing.T) { ip(t, "link", "set", "hnet0", "down") },
		"mtu":              func(t *testing.T) { ip(t, "link", "set", "hnet0", "mtu", "1300") },
		"mtu without IPv6": func(t *testing.T) { ip(t, "link", "set", "hnet0", "mtu", "1000") },
		"disabled":         func(t *testing.T) { sysctl(t, "hnet0/disable_ipv6", "1") },
		"no address":       func(t *testing.T) { ip(t, "-6", "address", "flush", "dev", "hnet0") },
		"no route":         func(t *testing.T) { ip(t, "-6", "route", "flush", "dev", "hnet0") },
		"route mtu":        func(t *testing.T) { ip(t, "-6", "route", "change", "fc94::/16", "dev", "hnet0", "mtu", "1400") },
		"preferred route":  func(t *testing.T) { ip(t, "-6", "route", "add", "fc94::/16", "dev", "hnet0", "metric", "5") },
		"old peer route":   func(t *testing.T) { must(t, quiet().SetPeerRoute("hnet0", peerAddress, 1400)) },
		"address flags": func(t *testing.T) {
			ip(t, "-6", "address", "change", "fc94:1::1/128", "dev", "hnet0", "preferred_lft", "0")
		},
		"address lifetime": func(t *testing.T) {
			ip(t, "-6", "address", "change", "fc94:1::1/128", "dev", "hnet0", "valid_lft", "1000", "preferred_lft", "1000")
		},
		"address length": func(t *testing.T) {
			ip(t, "-6", "address", "del", "fc94:1::1/128", "dev", "hnet0")
			ip(t, "-6", "address", "add", "fc94:1::1/16", "dev", "hnet0", "nodad")
		},
		"earlier identity": func(t *testing.T) {
			ip(t, "-6", "address", "add", "fc94:9::9/16", "dev", "hnet0")
			ip(t, "-6", "address", "add", "fc94:8::8/128", "dev", "hnet0")
		},
	}
	inSandbox(t, func(t *testing.T) {
		for name, damage := range tests {
			t.Run(name, func(t *testing.T) {
				file, _ := open(t, spec)
				must(t, file.Close())
				damage(t)
				if name != "disabled" && cmp.Equal(wantedState, look(t, spec.Name)) {
					t.Fatal("the damage does not show")
				}
				file, device := open(t, spec)
				defer func() { must(t, quiet().RemoveDevice(spec.Name)); file.Close() }()
				if !device.Adopted {
					t.Error("not adopted")
				}
				expect(t, wantedState)
			})
		}
	})
}

// TestAddressFlagsInPlace: a right address with wrong flags is corrected without ever being away.
func TestAddressFlagsInPlace(t *testing.T) {
	inSandbox(t, func(t *testing.T) {
		file, _ := open(t, spec)
		must(t, file.Close())
		ip(t, "-6", "address", "change", "fc94:1::1/128", "dev", "hnet0", "preferred_lft", "0")
		events := addressEvents(t)
		open(t, spec)
		expect(t, wantedState)
		if gone := events(); len(gone) != 0 {
			t.Errorf("addresses removed: %v", gone)
		}
	})
}

func TestOpenDeviceLeavesOthersAddresses(t *testing.T) {
	inSandbox(t, func(t *testing.T) {
		file, _ := open(t, spec)
		must(t, file.Close())
		ip(t, "address", "add", "10.9.8.7/24", "dev", "hnet0")
		ip(t, "-6", "address", "add", "fd12::1/64", "dev", "hnet0", "nodad")
		ip(t, "-6", "route", "add", "fc94:7::/32", "dev", "hnet0", "mtu", "1300")
		open(t, spec)
		for _, want := range []string{"10.9.8.7/24", "fd12::1/64"} {
			if got := ip(t, "address", "show", "dev", "hnet0"); !strings.Contains(got, want) {
				t.Errorf("%s is gone:\n%s", want, got)
			}
		}
		if got := ip(t, "-6", "route", "show", "dev", "hnet0"); !strings.Contains(got, "fc94:7::/32") {
			t.Errorf("the administrator's route is gone:\n%s", got)
		}
	})
}

func TestNewIdentity(t *testing.T) {
	inSandbox(t, func(t *testing.T) {
		file, _ := open(t, spec)
		must(t, file.Close())
		changed := spec
		changed.Address, changed.MTU = otherAddress, 9000
		open(t, changed)
		want := wantedState
		want.MTU, want.Addresses = 9000, []string{"fc94:2::2/128 nodad noprefixroute"}
		expect(t, want)
	})
}

func TestOpenDeviceRefuses(t *testing.T) {
	change := func(f func(*DeviceSpec)) DeviceSpec {
		s := spec
		f(&s)
		return s
	}
	tests := map[string]struct {
		prepare func(t *testing.T)
		spec    DeviceSpec
		is      error
		says    string
	}{
		"no name":    {spec: change(func(s *DeviceSpec) { s.Name = "" }), is: ErrName, says: "1 to 15"},
		"long name":  {spec: change(func(s *DeviceSpec) { s.Name = "hnet567890123456" }), is: ErrName, says: "1 to 15"},
		"pattern":    {spec: change(func(s *DeviceSpec) { s.Name = "hnet%d" }), is: ErrName},
		"slash":      {spec: change(func(s *DeviceSpec) { s.Name = "../all" }), is: ErrName},
		"space":      {spec: change(func(s *DeviceSpec) { s.Name = "h net" }), is: ErrName},
		"line":       {spec: change(func(s *DeviceSpec) { s.Name = "hnet\n" }), is: ErrName},
		"dots":       {spec: change(func(s *DeviceSpec) { s.Name = ".." }), is: ErrName},
		"small mtu":  {spec: change(func(s *DeviceSpec) { s.MTU = 1279 }), says: "MTU"},
		"large mtu":  {spec: change(func(s *DeviceSpec) { s.MTU = 65536 }), says: "MTU"},
		"outside":    {spec: change(func(s *DeviceSpec) { s.Address = netip.MustParseAddr("fd00::1") }), says: "fc94::/16"},
		"no address": {spec: change(func(s *DeviceSpec) { s.Address = netip.Addr{} }), says: "fc94::/16"},
		"other kind": {prepare: func(t *testing.T) { ip(t, "link", "add", "hnet0", "type", "veth") }, spec: spec, is: ErrNotOurs, says: "ip link delete hnet0"},
		"other tun":  {prepare: func(t *testing.T) { ip(t, "tuntap", "add", "hnet0", "mode", "tun") }, spec: spec, is: ErrNotOurs, says: "ip link delete hnet0"},
		"tap": {prepare: func(t *testing.T) {
			ip(t, "tuntap", "add", "hnet0", "mode", "tap")
			ip(t, "link", "set", "hnet0", "alias", "hnet")
		}, spec: spec, is: ErrNotOurs},
		"many queues": {prepare: func(t *testing.T) {
			ip(t, "tuntap", "add", "hnet0", "mode", "tun", "multi_queue")
			ip(t, "link", "set", "hnet0", "alias", "hnet")
		}, spec: spec, is: ErrNotOurs, says: "other settings"},
		"alternative": {prepare: func(t *testing.T) {
			file, _ := open(t, change(func(s *DeviceSpec) { s.Name = "hnet9" }))
			file.Close()
			ip(t, "link", "property", "add", "dev", "hnet9", "altname", "hnet0")
		}, spec: spec, is: ErrNotOurs},
		"other's route":   {prepare: veth("fc94::/16"), spec: spec, is: ErrRouteTaken, says: "ip -6 route del fc94::/16 dev v0"},
		"other's blocker": {prepare: func(t *testing.T) { ip(t, "-6", "route", "add", "unreachable", "fc94::/16", "metric", "10") }, spec: spec, is: ErrRouteTaken},
		"other hnetd":     {prepare: func(t *testing.T) { open(t, change(func(s *DeviceSpec) { s.Name = "hnet1" })) }, spec: spec, is: ErrRouteTaken, says: "hnet1"},
	}
	inSandbox(t, func(t *testing.T) {
		for name, test := range tests {
			t.Run(name, func(t *testing.T) {
				t.Cleanup(func() {
					for _, device := range []string{"hnet0", "hnet1", "hnet9", "v0"} {
						exec.Command("ip", "link", "delete", device).Run()
					}
					exec.Command("ip", "-6", "route", "flush", "fc94::/16").Run()
				})
				if test.prepare != nil {
					test.prepare(t)
				}
				before, descriptors := ip(t, "address"), openDescriptors(t)
				_, _, err := quiet().OpenDevice(test.spec)
				if err == nil || test.is != nil && !errors.Is(err, test.is) || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "\n") {
					t.Fatalf("err = %v", err)
				}
				t.Log(err)
				if after := ip(t, "address"); after != before {
					t.Errorf("before:\n%s\nafter:\n%s", before, after)
				}
				if after := openDescriptors(t); after != descriptors {
					t.Errorf("%d descriptors open before, %d after", descriptors, after)
				}
			})
		}
	})
}

func TestHarmlessRoutes(t *testing.T) {
	inSandbox(t, func(t *testing.T) {
		veth("fc95::/16")(t)
		ip(t, "-6", "route", "add", "unreachable", "fc94::/16", "metric", "4000")
		h, log := logging()
		file, _, err := h.OpenDevice(spec)
		must(t, err)
		must(t, file.Close())
		expect(t, wantedState)
		if log.Len() != 0 {
			t.Errorf("log: %s", log)
		}
		// A part of the overlay elsewhere is worth a warning.
		ip(t, "-6", "route", "add", "fc94:5::/32", "dev", "v0")
		file, _, err = h.OpenDevice(spec)
		must(t, err)
		must(t, file.Close())
		if !strings.Contains(log.String(), "ip -6 route del fc94:5::/32 dev v0") {
			t.Errorf("log: %s", log)
		}
	})
}

func TestRemoveDevice(t *testing.T) {
	inSandbox(t, func(t *testing.T) {
		h := quiet()
		must(t, h.RemoveDevice("hnet0"))
		file, _ := open(t, spec)
		must(t, h.RemoveDevice("hnet0"))
		if _, err := net.InterfaceByName("hnet0"); err == nil {
			t.Error("hnet0 is still there")
		}
		// The reader learns of it.
		must(t, file.SetReadDeadline(time.Now().Add(5*time.Second)))
		if _, err := file.Read(make([]byte, 100)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read from a removed device: %v", err)
		}
		must(t, h.RemoveDevice("hnet0"))
		ip(t, "tuntap", "add", "hnet0", "mode", "tun")
		if err := h.RemoveDevice("hnet0"); !errors.Is(err, ErrNotOurs) {
			t.Errorf("a device of someone else's: %v", err)
		}
		ip(t, "link", "show", "hnet0")
		if err := h.RemoveDevice("a/b"); !errors.Is(err, ErrName) {
			t.Errorf("a bad name: %v", err)
		}
	})
}

func TestSetPeerRoute(t *testing.T) {
	inSandbox(t, func(t *testing.T) {
		open(t, spec)
		h := quiet()
		with := func(routes ...string) state {
			s := wantedState
			s.Routes = append(routes, s.Routes...)
			return s
		}
		must(t, h.SetPeerRoute("hnet0", peerAddress, 0))
		expect(t, wantedState)
		must(t, h.SetPeerRoute("hnet0", peerAddress, 1400))
		expect(t, with("fc94:3::3 proto 148 metric 1024 mtu 1400 pref medium"))
		must(t, h.SetPeerRoute("hnet0", peerAddress, 1400))
		must(t, h.SetPeerRoute("hnet0", peerAddress, 1380))
		expect(t, with("fc94:3::3 proto 148 metric 1024 mtu 1380 pref medium"))
		must(t, h.SetPeerRoute("hnet0", otherAddress, 1420))
		must(t, h.SetPeerRoute("hnet0", peerAddress, 0))
		expect(t, with("fc94:2::2 proto 148 metric 1024 mtu 1420 pref medium"))
		must(t, h.SetPeerRoute("hnet9", peerAddress, 0))

		veth("fc95::/16")(t)
		for name, err := range map[string]error{
			"small":      h.SetPeerRoute("hnet0", peerAddress, 1279),
			"large":      h.SetPeerRoute("hnet0", peerAddress, 1421),
			"negative":   h.SetPeerRoute("hnet0", peerAddress, -1),
			"outside":    h.SetPeerRoute("hnet0", netip.MustParseAddr("2001:db8::1"), 1400),
			"IPv4":       h.SetPeerRoute("hnet0", netip.MustParseAddr("10.0.0.1"), 1400),
			"no address": h.SetPeerRoute("hnet0", netip.Addr{}, 1400),
			"no device":  h.SetPeerRoute("hnet9", peerAddress, 1400),
			"not ours":   h.SetPeerRoute("v0", peerAddress, 1400),
			"bad name":   h.SetPeerRoute("", peerAddress, 1400),
		} {
			if err == nil || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: %v", name, err)
			}
		}
		expect(t, with("fc94:2::2 proto 148 metric 1024 mtu 1420 pref medium"))
	})
}

func TestPrefixIsTheOverlays(t *testing.T) {
	if identity.Prefix.String() != "fc94::/16" {
		t.Errorf("messages and tests say fc94::/16, the prefix is %v", identity.Prefix)
	}
}
