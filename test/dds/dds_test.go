package dds

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/hnet-robotics/hnet_bridge/dds/profile"
	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

func TestMain(m *testing.M) {
	lab.SideBySide(3)
	lab.Main(m)
}

const (
	cyclone = "cyclone_peer"
	fastdds = "fastdds_peer"
)

var vendors = []string{cyclone, fastdds}

var build = sync.OnceValues(func() (Programs, error) { return Build(context.Background()) })

// peer returns the path of a program.
func peer(t *testing.T, vendor string) string {
	t.Helper()
	p, err := build()
	if errors.Is(err, ErrMissing) && os.Getenv("HNET_LAB") != "required" {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	if vendor == cyclone {
		return p.Cyclone
	}
	return p.FastDDS
}

// robot is a host with an address of the overlay and a profile for each vendor.
type robot struct {
	*lab.Host
	device string
	addr   netip.Addr
	folder string // of the profiles
}

func newRobot(t *testing.T, l *lab.Lab, name, device, addr string) *robot {
	r := &robot{l.Host(name), device, netip.MustParseAddr(addr), t.TempDir()}
	distinguish(t, r.Host)
	return r
}

// distinguish gives a host a machine ID of its own: Fast DDS 3 takes hosts with one and the same for one host.
func distinguish(t *testing.T, h *lab.Host) {
	t.Helper()
	id := fmt.Sprintf("%x\n", sha256.Sum256([]byte(h.Name())))[32:]
	path := h.Path("/etc/machine-id")
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) { // a link to the machine's
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(id), 0o644); err != nil {
		t.Fatal(err)
	}
}

// meet writes the profiles of two robots that are each other's only peer.
func meet(t *testing.T, a, b *robot) {
	t.Helper()
	a.profiles(t, profile.Params{Peers: []netip.Addr{b.addr}})
	b.profiles(t, profile.Params{Peers: []netip.Addr{a.addr}})
}

// robots are two hosts whose hnet0 is a cable between them in place of the overlay. They have no IPv4 address, as it
// is with robots behind two NATs that have the same: Fast DDS could not tell them apart by it.
func robots(t *testing.T) (a, b *robot) {
	t.Helper()
	l := lab.New(t)
	a = newRobot(t, l, "robot1", "hnet0", "fc94:1::1")
	b = newRobot(t, l, "robot2", "hnet0", "fc94:2::2")
	var ns *os.File
	err := b.Do(func() (err error) {
		ns, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = "hnet0", 1280
	// Like the overlay's device, this one looks up no neighbours: both ends have one hardware address and no ARP.
	attrs.HardwareAddr = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: "hnet0", PeerMTU: 1280, PeerHardwareAddr: attrs.HardwareAddr, PeerNamespace: netlink.NsFd(ns.Fd())}
	if err := a.Netlink().LinkAdd(veth); err != nil {
		t.Fatal(err)
	}
	for _, r := range []*robot{a, b} {
		if err := r.up(); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range []*robot{a, b} {
		lab.Eventually(t, 5*time.Second, "hnet0 running", r.running)
	}
	meet(t, a, b)
	return a, b
}

// up configures hnet0 as the daemon does.
func (r *robot) up() error {
	nl := r.Netlink()
	link, err := nl.LinkByName("hnet0")
	if err != nil {
		return err
	}
	addr := &netlink.Addr{IPNet: netlink.NewIPNet(r.addr.AsSlice()), Flags: unix.IFA_F_NODAD | unix.IFA_F_NOPREFIXROUTE}
	if err := nl.AddrAdd(link, addr); err != nil {
		return err
	}
	if err := nl.LinkSetARPOff(link); err != nil {
		return err
	}
	if err := nl.LinkSetUp(link); err != nil {
		return err
	}
	prefix := &net.IPNet{IP: identity.Prefix.Addr().AsSlice(), Mask: net.CIDRMask(identity.Prefix.Bits(), 128)}
	return nl.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: prefix, MTU: 1280})
}

// running returns nil when the kernel says that hnet0 has a carrier; Fast DDS passes over a device that has none.
func (r *robot) running() error {
	link, err := r.Netlink().LinkByName("hnet0")
	if err != nil {
		return err
	}
	if state := link.Attrs().OperState; state != netlink.OperUp {
		return fmt.Errorf("it is %v", state)
	}
	return nil
}

// profiles writes the robot's profiles; interface and address are filled in.
func (r *robot) profiles(t *testing.T, p profile.Params) {
	t.Helper()
	p.Interface, p.Address = r.device, r.addr
	for vendor, write := range writers() {
		b, err := write(p)
		if err != nil {
			t.Fatal(err)
		}
		r.put(t, vendor, b)
	}
}

// cycloneVersion is that of the library in use.
func cycloneVersion() profile.CycloneVersion {
	v, _ := profile.DetectCyclone(os.DirFS("/"), []string{os.Getenv("HNET_CYCLONE_PREFIX")}, "")
	return v
}

// writers are those of the profiles for the libraries in use.
func writers() map[string]func(profile.Params) ([]byte, error) {
	w := map[string]func(profile.Params) ([]byte, error){cyclone: profile.Cyclone, fastdds: profile.FastDDS}
	if cycloneVersion() == profile.CycloneV11 {
		w[cyclone] = profile.Cyclone11
	}
	if os.Getenv("HNET_FASTDDS_PREFIX") != "" {
		w[fastdds] = profile.FastDDS3
	}
	return w
}

func (r *robot) file(vendor string) string { return filepath.Join(r.folder, vendor+".xml") }

func (r *robot) put(t *testing.T, vendor string, b []byte) {
	t.Helper()
	if err := os.WriteFile(r.file(vendor), b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// start starts a program that finds the robot's profiles the way a user would hand them over.
func (r *robot) start(t *testing.T, program string, args ...string) *lab.Process {
	t.Helper()
	cmd := r.Command(t.Context(), program, args...)
	cmd.Env = append(os.Environ(),
		"CYCLONEDDS_URI=file://"+r.file(cyclone),
		"FASTRTPS_DEFAULT_PROFILES_FILE="+r.file(fastdds),
		"FASTDDS_DEFAULT_PROFILES_FILE="+r.file(fastdds))
	return r.StartCmd(t, cmd)
}

// peer starts a vendor's program under the robot's name.
func (r *robot) peer(t *testing.T, vendor, mode string, args ...string) *lab.Process {
	t.Helper()
	return r.start(t, peer(t, vendor), append([]string{mode, "--name", r.Name()}, args...)...)
}

const patience = 40 * time.Second

// want waits for a program's end.
func want(t *testing.T, p *lab.Process, code int) {
	t.Helper()
	if got := p.Wait(patience); got != code {
		t.Errorf("exit code %d, want %d", got, code)
	}
}

// received returns the sequence numbers of the samples of the given size that a program received from a sender.
func received(p *lab.Process, sender string, size int) (seqs []int) {
	for line := range strings.Lines(p.Output()) {
		var name string
		var seq, n int
		if _, err := fmt.Sscanf(line, "received %s %d %d", &name, &seq, &n); err == nil && name == sender && n == size {
			seqs = append(seqs, seq)
		}
	}
	return seqs
}

// TestSamples sends samples from every vendor to every vendor, between hosts and between two programs of one host.
func TestSamples(t *testing.T) {
	t.Parallel()
	a, b := robots(t)
	for _, place := range []struct {
		name     string
		from, to *robot
	}{{"across", a, b}, {"back", b, a}, {"same_host", a, a}} {
		for _, from := range vendors {
			for _, to := range vendors {
				for _, qos := range []string{"reliable", "best-effort"} {
					for _, size := range []int{64, 100_000} {
						t.Run(fmt.Sprintf("%s/%s_to_%s/%s/%d", place.name, from, to, qos, size), func(t *testing.T) {
							transfer(t, place.from, place.to, from, to, qos, size)
						})
					}
				}
			}
		}
	}
}

func transfer(t *testing.T, from, to *robot, fromVendor, toVendor, qos string, size int) {
	const count = 15
	flags := []string{"--" + qos, "--size", fmt.Sprint(size), "--rate", "100"}
	sub := to.peer(t, toVendor, "sub", append(flags, "--count", fmt.Sprint(count))...)
	if qos == "reliable" {
		pub := from.peer(t, fromVendor, "pub", append(flags, "--count", fmt.Sprint(count))...)
		want(t, sub, 0)
		want(t, pub, 0)
		pub.WaitLine(`^done sent=15$`, patience)
		sub.WaitLine(`^done received=15 lost=0 duplicates=0 corrupt=0$`, patience)
	} else {
		// What is lost before both know each other stays lost, so the sender goes on until the receiver has enough.
		pub := from.peer(t, fromVendor, "pub", append(flags, "--count", "0")...)
		want(t, sub, 0)
		pub.Signal(unix.SIGTERM)
		want(t, pub, 0)
		sub.WaitLine(`^done received=\d+ lost=\d+ duplicates=0 corrupt=0$`, patience)
	}
	seqs := received(sub, from.Name(), size)
	if len(seqs) < count || !slices.IsSorted(seqs) || qos == "reliable" && seqs[0] != 1 {
		t.Errorf("received %v from %s", seqs, from.Name())
	}
}

// TestLoss sends reliably over a lossy link: every sample arrives, in order and once.
func TestLoss(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	a := newRobot(t, l, "robot1", "lan0", "fc94:1::1")
	b := newRobot(t, l, "robot2", "lan0", "fc94:2::2")
	l.LAN(lab.Link{Loss: 0.05, Delay: 5 * time.Millisecond}, a.Host, b.Host)
	for _, r := range []*robot{a, b} {
		r.SetAddr("lan0", netip.PrefixFrom(r.addr, identity.Prefix.Bits()))
	}
	meet(t, a, b)
	for _, from := range vendors {
		for _, to := range vendors {
			for _, size := range []int{64, 20_000} {
				t.Run(fmt.Sprintf("%s_to_%s/%d", from, to, size), func(t *testing.T) {
					transfer(t, a, b, from, to, "reliable", size)
				})
			}
		}
	}
}

// TestBoth runs programs that send and receive at once, with a burst of large samples.
func TestBoth(t *testing.T) {
	t.Parallel()
	a, b := robots(t)
	for _, vendor := range [][2]string{{cyclone, cyclone}, {fastdds, fastdds}, {cyclone, fastdds}} {
		t.Run(vendor[0]+"_and_"+vendor[1], func(t *testing.T) {
			flags := []string{"--count", "60", "--rate", "0", "--size", "100000"}
			p := a.peer(t, vendor[0], "both", flags...)
			q := b.peer(t, vendor[1], "both", flags...)
			want(t, p, 0)
			want(t, q, 0)
			if n, m := len(received(p, "robot2", 100_000)), len(received(q, "robot1", 100_000)); n != 60 || m != 60 {
				t.Errorf("received %d and %d samples, want 60 each", n, m)
			}
		})
	}
}

// event is every line that a program prints on its own account; what a library says is none.
var event = regexp.MustCompile(`^(ready|matched \d+|sent \d+|received robot[12] \d+ \d+|done .*)$`)

func complaints(p *lab.Process) (lines []string) {
	for line := range strings.Lines(p.Output()) {
		if line = strings.TrimSpace(line); line != "" && !event.MatchString(line) {
			lines = append(lines, line)
		}
	}
	return lines
}

// TestProfilesAccepted sees that the libraries take the profiles without a word, also the largest.
func TestProfilesAccepted(t *testing.T) {
	t.Parallel()
	a, b := robots(t)
	many := []netip.Addr{b.addr}
	for i := range profile.MaxPeers - 1 {
		many = append(many, netip.MustParseAddr(fmt.Sprintf("fc94:ffff::%x", i+1)))
	}
	for name, peers := range map[string][]netip.Addr{"one_peer": many[:1], "most_peers": many} {
		a.profiles(t, profile.Params{Peers: peers})
		for _, vendor := range vendors {
			t.Run(name+"/"+vendor, func(t *testing.T) {
				p := a.peer(t, vendor, "both", "--count", "5")
				q := b.peer(t, vendor, "both", "--count", "5")
				want(t, p, 0)
				want(t, q, 0)
				for _, line := range append(complaints(p), complaints(q)...) {
					t.Errorf("the library says: %s", line)
				}
			})
		}
	}
}

// TestProfilesRefused shows that a library that does not like a profile would be heard in TestProfilesAccepted.
func TestProfilesRefused(t *testing.T) {
	a, _ := robots(t)
	for vendor, element := range map[string]string{cyclone: "FragmentSize", fastdds: "maxInitialPeersRange"} {
		t.Run(vendor, func(t *testing.T) {
			b, err := os.ReadFile(a.file(vendor))
			if err != nil {
				t.Fatal(err)
			}
			a.put(t, vendor, bytes.ReplaceAll(b, []byte(element+">"), []byte(element+"s>")))
			p := a.peer(t, vendor, "sub", "--timeout", "0.5")
			want(t, p, 1)
			if c := complaints(p); !strings.Contains(strings.Join(c, "\n"), element+"s") {
				t.Errorf("no word about the unknown element %ss: %q", element, c)
			}
		})
	}
	t.Run("no_interface", func(t *testing.T) {
		link, err := a.Netlink().LinkByName("hnet0")
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Netlink().LinkDel(link); err != nil {
			t.Fatal(err)
		}
		a.profiles(t, profile.Params{})
		p := a.peer(t, cyclone, "sub", "--timeout", "0.5")
		p.WaitLine(`hnet0: does not match an available interface`, patience)
		want(t, p, 1)
	})
}

// TestDatagrams sees that all traffic is unicast between overlay addresses and fits the smallest path, unfragmented.
func TestDatagrams(t *testing.T) {
	t.Parallel()
	a, b := robots(t)
	for _, vendor := range [][2]string{{cyclone, cyclone}, {fastdds, fastdds}, {cyclone, fastdds}} {
		t.Run(vendor[0]+"_and_"+vendor[1], func(t *testing.T) {
			capture := a.Capture(t, "hnet0")
			p := a.peer(t, vendor[0], "both", "--count", "5", "--size", "100000")
			q := b.peer(t, vendor[1], "both", "--count", "5", "--size", "100000")
			want(t, p, 0)
			want(t, q, 0)
			longest := map[bool]int{} // by direction
			for _, f := range capture.Stop() {
				packet := f.Decode()
				if packet.Kind != lab.UDP || packet.Fragment {
					if packet.Kind != lab.NDP && packet.Kind != lab.MLD && packet.Kind != lab.ICMPv6 {
						t.Errorf("unexpected frame: %v", packet)
					}
					continue
				}
				if !identity.Prefix.Contains(packet.Src) || !identity.Prefix.Contains(packet.Dst) || packet.PayloadLen > profile.MaxDatagram {
					t.Errorf("unexpected datagram of %d bytes: %v", packet.PayloadLen, packet)
				}
				longest[f.Out] = max(longest[f.Out], packet.PayloadLen)
			}
			if longest[true] < 1000 || longest[false] < 1000 {
				t.Errorf("longest datagrams %v: the large samples are not in the capture", longest)
			}
		})
	}
}

// TestLeaving sees that the end of a program is noticed at once by the other vendor's, and not after its lease.
func TestLeaving(t *testing.T) {
	a, b := robots(t)
	for _, vendor := range [][2]string{{cyclone, fastdds}, {fastdds, cyclone}} {
		t.Run(vendor[0]+"_sees_"+vendor[1], func(t *testing.T) {
			sub := a.peer(t, vendor[0], "sub", "--count", "0")
			pub := b.peer(t, vendor[1], "pub", "--count", "0")
			sub.WaitLine(`^received robot2 `, patience)
			pub.Signal(unix.SIGINT)
			sub.WaitLine(`^matched 0$`, 4*time.Second)
			want(t, pub, 0)
			sub.Signal(unix.SIGTERM)
			want(t, sub, 0)
			sub.WaitLine(`^done received=`, patience)
		})
	}
}

// TestSharedMemory uses the option on two hosts that Fast DDS can tell apart.
func TestSharedMemory(t *testing.T) {
	t.Parallel()
	a, b := robots(t)
	for r, text := range map[*robot]string{a: "192.0.2.1/32", b: "192.0.2.2/32"} {
		link, err := r.Netlink().LinkByName("hnet0")
		if err != nil {
			t.Fatal(err)
		}
		addr, err := netlink.ParseAddr(text)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Netlink().AddrAdd(link, addr); err != nil {
			t.Fatal(err)
		}
	}
	a.profiles(t, profile.Params{Peers: []netip.Addr{b.addr}, SharedMemory: true})
	b.profiles(t, profile.Params{Peers: []netip.Addr{a.addr}, SharedMemory: true})
	t.Run("same_host", func(t *testing.T) {
		sub := a.peer(t, fastdds, "sub", "--size", "100000")
		sub.WaitLine(`^ready$`, patience)
		if files, err := filepath.Glob(a.Path("/dev/shm/fastrtps_*")); err != nil || len(files) == 0 {
			t.Errorf("no shared memory in use: %v, %v", files, err)
		}
		pub := a.peer(t, fastdds, "pub", "--size", "100000")
		want(t, sub, 0)
		want(t, pub, 0)
	})
	t.Run("across", func(t *testing.T) { transfer(t, a, b, fastdds, fastdds, "reliable", 100_000) })
}

// TestDDSPerf runs Cyclone's own benchmark; its -Q options make it fail when too little has arrived.
func TestDDSPerf(t *testing.T) {
	t.Parallel()
	a, b := robots(t)
	peer(t, cyclone)
	const ddsperf = "ddsperf"
	for _, test := range []struct {
		name     string
		to, from []string
	}{
		{"pub_sub", []string{"-Q", "samples:1000", "sub"}, []string{"pub", "1kHz", "size", "1024"}},
		{"pub_sub_large", []string{"-Q", "samples:50", "sub"}, []string{"pub", "50Hz", "size", "100000"}},
		{"pub_sub_best_effort", []string{"-u", "-Q", "samples:1000", "sub"}, []string{"-u", "pub", "1kHz", "size", "64"}},
		{"ping_pong", []string{"pong"}, []string{"-Q", "roundtrips:100", "ping", "size", "100"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			common := []string{"-D", "4", "-Q", "minmatch:1", "-Q", "maxwait:3"}
			to := b.start(t, ddsperf, append(common, test.to...)...)
			from := a.start(t, ddsperf, append(common, test.from...)...)
			want(t, to, 0)
			want(t, from, 0)
		})
	}
}

// TestCommandLine checks what scripts rely on when things go wrong.
func TestCommandLine(t *testing.T) {
	a, _ := robots(t)
	for _, vendor := range vendors {
		for _, test := range []struct {
			args string
			code int
			line string
		}{
			{"--help", 0, `^usage: ` + vendor},
			{"", 2, `^usage: `},
			{"push --name robot1", 2, `^usage: `},
			{"pub", 2, `--name is missing`},
			{"pub --name two/words", 2, `bad option or value: --name two/words`},
			{"pub --name robot1 --count -1", 2, `bad option or value: --count -1`},
			{"pub --name robot1 --count", 2, `bad option or value: --count`},
			{"pub --name robot1 --size 16777217", 2, `bad option or value: --size`},
			{"pub --name robot1 --domain 233", 2, `bad option or value: --domain`},
			{"pub --name robot1 --rate nan", 2, `bad option or value: --rate nan`},
			{"pub --name robot1 --loud", 2, `bad option or value: --loud`},
			{"pub --name robot1 --timeout 0.2", 1, `timed out after 0.2 s: matched 0, sent 0, received 0, wanted 10$`},
			{"sub --name robot1 --timeout 0.2", 1, `timed out after 0.2 s: matched 0, sent 0, received 0, wanted 10$`},
			{"sub --name robot1 --timeout 0.2 --count 0", 0, `^done received=0 lost=0 duplicates=0 corrupt=0$`},
		} {
			t.Run(vendor+" "+test.args, func(t *testing.T) {
				p := a.start(t, peer(t, vendor), strings.Fields(test.args)...)
				want(t, p, test.code)
				if !regexp.MustCompile(`(?m)` + test.line).MatchString(p.Output()) {
					t.Errorf("no line %s in\n%s", test.line, p.Output())
				}
			})
		}
	}
}
