package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/test/dds"
	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// ddsPatience is how long DDS programs get to find each other and finish; it takes them a second or two.
const ddsPatience = 40 * time.Second

var ddsPrograms = sync.OnceValues(func() (dds.Programs, error) { return dds.Build(context.Background()) })

func programs(t *testing.T) dds.Programs {
	t.Helper()
	p, err := ddsPrograms()
	if errors.Is(err, dds.ErrMissing) && os.Getenv("HNET_LAB") != "required" {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	return p
}

// writeProfiles writes a robot's DDS profiles as its user would, from hnet's own output.
func writeProfiles(robots ...*fleet.Robot) {
	for _, r := range robots {
		r.Write("/etc/hnet/cyclone.xml", r.Hnet("dds", "show", "cyclone"))
		r.Write("/etc/hnet/fastdds.xml", r.Hnet("dds", "show", "fastdds"))
	}
}

func startDDS(t *testing.T, r *fleet.Robot, program string, args ...string) *lab.Process {
	t.Helper()
	cmd := r.Command(t.Context(), program, args...)
	cmd.Env = append(os.Environ(), "CYCLONEDDS_URI=file:///etc/hnet/cyclone.xml",
		"FASTRTPS_DEFAULT_PROFILES_FILE=/etc/hnet/fastdds.xml", "FASTDDS_DEFAULT_PROFILES_FILE=/etc/hnet/fastdds.xml")
	return r.StartCmd(t, cmd)
}

func wantExit(t *testing.T, p *lab.Process) {
	t.Helper()
	if code := p.Wait(ddsPatience); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// TestDDSAcrossTheOverlay is the main job: Cyclone DDS and Fast DDS programs on two hosts, every vendor to every vendor in both
// directions, and on the cable nothing but WireGuard and what a LAN needs to find neighbours.
func TestDDSAcrossTheOverlay(t *testing.T) {
	t.Parallel()
	p := programs(t)
	// PathMTU makes frames cross one by one, so that the capture sees datagrams as a cable would carry them.
	_, a, b := twoRobots(t, lab.Link{PathMTU: 1500}, lab.Dual)
	capture := a.Capture(t, "lan0")
	for _, r := range []*fleet.Robot{a, b} {
		r.Configure("dds: {mode: overlay}\n")
		r.Restart()
	}
	fleet.Trust(a, b)
	writeProfiles(a, b)
	vendors := map[string]string{"cyclone": p.Cyclone, "fastdds": p.FastDDS}
	domain := 0
	for _, way := range []struct{ from, to *fleet.Robot }{{a, b}, {b, a}} {
		for from := range vendors {
			for to := range vendors {
				for _, size := range []int{64, 100_000} {
					domain++ // a domain each, so that nobody hears the last run's programs leave
					t.Run(fmt.Sprintf("%s %s to %s %s, %d bytes", way.from.Name(), from, way.to.Name(), to, size), func(t *testing.T) {
						flags := []string{"--count", "20", "--rate", "50", "--size", fmt.Sprint(size), "--domain", fmt.Sprint(domain)}
						sub := startDDS(t, way.to, vendors[to], append([]string{"sub", "--name", way.to.Name()}, flags...)...)
						pub := startDDS(t, way.from, vendors[from], append([]string{"pub", "--name", way.from.Name()}, flags...)...)
						wantExit(t, sub)
						wantExit(t, pub)
						sub.WaitLine(`^done received=20 lost=0 duplicates=0 corrupt=0$`, ddsPatience)
					})
				}
			}
		}
	}
	wireguard := 0
	for _, f := range capture.Stop() {
		packet := f.Decode()
		switch {
		case packet.Src == a.Address || packet.Src == b.Address || packet.Dst == a.Address || packet.Dst == b.Address:
			t.Fatalf("an overlay packet crossed the cable in the clear: %v", packet)
		case packet.WireGuard():
			wireguard++
		case packet.Kind == lab.UDP && packet.DstPort == discoveryPort && packet.Dst.IsMulticast():
		case packet.Kind == lab.ARP || packet.Kind == lab.NDP || packet.Kind == lab.MLD || packet.Kind == lab.IGMP:
		default:
			t.Errorf("something else crossed the cable: %v", packet)
		}
	}
	if least := 8 * 20 * 100_000 / 1280; wireguard < least {
		t.Errorf("%d WireGuard messages seen, the samples alone need %d", wireguard, least)
	}
}

// discoveryPort is LAN discovery's UDP port.
const discoveryPort = 5583

func TestDDSPerfAcrossTheOverlay(t *testing.T) {
	t.Parallel()
	programs(t)
	_, a, b := twoRobots(t, lab.Link{}, lab.Dual)
	fleet.Trust(a, b)
	writeProfiles(a, b)
	for name, roles := range map[string][2][]string{
		"throughput": {{"-Q", "samples:1000", "sub"}, {"pub", "1kHz", "size", "1024"}},
		"round trip": {{"pong"}, {"-Q", "roundtrips:100", "ping", "size", "100"}},
	} {
		t.Run(name, func(t *testing.T) {
			common := []string{"-D", "4", "-Q", "minmatch:1", "-Q", "maxwait:3"}
			p := startDDS(t, a, "ddsperf", append(common, roles[0]...)...)
			q := startDDS(t, b, "ddsperf", append(common, roles[1]...)...)
			wantExit(t, p)
			wantExit(t, q)
		})
	}
}

// TestDDSProgramsOutliveTheDaemon restarts the daemons under running DDS programs: no sample of a reliable topic is lost.
func TestDDSProgramsOutliveTheDaemon(t *testing.T) {
	t.Parallel()
	p := programs(t)
	_, a, b := twoRobots(t, lab.Link{}, lab.Dual)
	fleet.Trust(a, b)
	writeProfiles(a, b)
	flags := []string{"--count", "200", "--rate", "50", "--size", "1000"}
	sub := startDDS(t, b, p.Cyclone, append([]string{"sub", "--name", "robot2"}, flags...)...)
	pub := startDDS(t, a, p.FastDDS, append([]string{"pub", "--name", "robot1"}, flags...)...)
	sub.WaitLine(`^received robot1 50 `, ddsPatience)
	a.Daemon.Kill9()
	a.Restart()
	sub.WaitLine(`^received robot1 100 `, ddsPatience)
	b.Daemon.Stop()
	b.Restart()
	wantExit(t, sub)
	wantExit(t, pub)
	sub.WaitLine(`^done received=200 lost=0 duplicates=0 corrupt=0$`, ddsPatience)
}
