// Command demo shows the main job on one machine: two robots on a LAN, in network namespaces of their own, whitelist each other, and real
// Cyclone DDS and Fast DDS programs talk over the encrypted overlay. It leaves nothing behind.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/hnet-robotics/hnet_bridge/test/dds"
	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

func main() {
	lab.Enter()
	seconds := flag.Int("seconds", 0, "how long to show the live table; 0 = until Ctrl-C on a terminal, else 10")
	flag.Parse()
	if why := lab.Missing(); why != "" {
		fmt.Fprintln(os.Stderr, "demo: two robots need two network namespaces, which cannot be made here:", why)
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	live := term.IsTerminal(int(os.Stdout.Fd()))
	if *seconds == 0 && !live {
		*seconds = 10
	}
	d := demo{ctx: ctx, live: live, seconds: *seconds}
	os.Exit(lab.Program("demo", d.run))
}

type demo struct {
	ctx     context.Context
	live    bool // on a terminal: colours, and the table redrawn in place
	seconds int
	step    int
}

func (d *demo) run(t lab.TB) {
	began := time.Now()
	d.say("Building two small DDS programs, one on Cyclone DDS and one on Fast DDS, and hnetd and hnet (the first time takes half a minute)")
	programs, err := dds.Build(d.ctx)
	if err != nil {
		t.Fatalf("demo: %v", err)
	}
	fleet.Binary(t, "hnetd")

	d.say("Two robots on one LAN: robot1 and robot2, each with its own network, no server, no Internet")
	l := lab.New(t)
	h1, h2 := l.Host("robot1"), l.Host("robot2")
	l.LAN(lab.Link{}, h1, h2)
	capture := h1.Capture(t, "lan0")

	d.say("Each starts hnetd, which makes an identity and brings up hnet0 with an address that is a hash of its key")
	r1, r2 := fleet.Start(t, h1, ""), fleet.Start(t, h2, "")
	d.detail("robot1 is %s", r1.Address)
	d.detail("robot2 is %s", r2.Address)

	d.say("Nobody is let in by default, so each puts the other on its whitelist")
	for _, x := range []struct{ on, other *fleet.Robot }{{r1, r2}, {r2, r1}} {
		d.detail("%s$ hnet whitelist add %s --hostname %s", x.on.Name(), x.other.Address, x.other.Name())
		x.on.Hnet("whitelist", "add", x.other.Address.String(), "--hostname", x.other.Name())
	}
	d.detail("robot1$ hnet ping robot2 -c 1")
	d.detail("        %s", firstLine(r1.Hnet("ping", "robot2", "-c", "1")))

	d.say("Each writes the DDS profiles for its peers; ROS 2 nodes would be started with the same files")
	for _, r := range []*fleet.Robot{r1, r2} {
		r.Write("/etc/hnet/cyclone.xml", r.Hnet("dds", "show", "cyclone"))
		r.Write("/etc/hnet/fastdds.xml", r.Hnet("dds", "show", "fastdds"))
	}
	d.detail("robot1$ export CYCLONEDDS_URI=file:///etc/hnet/cyclone.xml")
	d.detail("robot2$ export FASTRTPS_DEFAULT_PROFILES_FILE=/etc/hnet/fastdds.xml")

	d.say("robot1 runs a Cyclone DDS program, robot2 a Fast DDS program; both publish and subscribe to the ROS 2 topic /hnet_demo at 10 Hz")
	p1 := start(t, r1, programs.Cyclone, "CYCLONEDDS_URI=file:///etc/hnet/cyclone.xml")
	p2 := start(t, r2, programs.FastDDS, "FASTRTPS_DEFAULT_PROFILES_FILE=/etc/hnet/fastdds.xml")
	p1.WaitLine(`^received robot2 `, 20*time.Second)
	p2.WaitLine(`^received robot1 `, 20*time.Second)
	d.detail("samples flow both ways, %.1f s after the start of this demo", time.Since(began).Seconds())

	d.watch(r1, p1, p2)

	d.say("Stopping the programs and the daemons")
	p1.Stop()
	p2.Stop()
	s1, s2 := lastReceived(p1, "robot2"), lastReceived(p2, "robot1")
	r1.Hnet("down")
	r2.Hnet("down")
	inside, discovery, other := tally(capture.Stop(), r1, r2)
	fmt.Printf("\nDone: robot1 (Cyclone DDS) received %d samples, robot2 (Fast DDS) %d.\n", s1, s2)
	fmt.Printf("On the cable were %d WireGuard frames, %d of LAN discovery and neighbour look-up, %d of anything else.\n", inside, discovery, other)
	if s1 == 0 || s2 == 0 || other > 0 {
		t.Fatalf("demo: that is not as it should be")
	}
}

func start(t lab.TB, r *fleet.Robot, program, env string) *lab.Process {
	cmd := r.Command(context.Background(), program, "both", "--name", r.Name(), "--count", "0", "--rate", "10", "--size", "100")
	cmd.Env = append(os.Environ(), env)
	return r.StartCmd(t, cmd)
}

// watch shows the peer table and the samples until time is up.
func (d *demo) watch(r *fleet.Robot, p1, p2 *lab.Process) {
	hint := fmt.Sprintf("for %d s", d.seconds)
	if d.seconds == 0 {
		hint = "until Ctrl-C"
	}
	d.say("robot1's peers ('hnet peers') and the samples, live " + hint)
	ctx := d.ctx
	if d.seconds > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(d.seconds)*time.Second)
		defer cancel()
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	drawn := 0
	for {
		view := r.Hnet("peers") +
			fmt.Sprintf("robot1 (Cyclone DDS) has received %5d samples from robot2 (Fast DDS)\n", lastReceived(p1, "robot2")) +
			fmt.Sprintf("robot2 (Fast DDS)    has received %5d samples from robot1 (Cyclone DDS)\n", lastReceived(p2, "robot1"))
		if d.live && drawn > 0 {
			fmt.Printf("\x1b[%dA\x1b[J", drawn)
		}
		fmt.Print(d.fit(view))
		drawn = strings.Count(view, "\n")
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !d.live {
			fmt.Println()
		}
	}
}

var receivedLine = regexp.MustCompile(`(?m)^received (\S+) (\d+) `)

// lastReceived is the sequence number of the last sample from a sender, which counts from 1.
func lastReceived(p *lab.Process, sender string) int {
	all := receivedLine.FindAllStringSubmatch(p.Output(), -1)
	for i := len(all) - 1; i >= 0; i-- {
		if all[i][1] == sender {
			n, _ := strconv.Atoi(all[i][2])
			return n
		}
	}
	return 0
}

// discoveryPort is LAN discovery's UDP port.
const discoveryPort = 5583

// tally counts what crossed the cable.
func tally(frames []lab.Frame, robots ...*fleet.Robot) (wireguard, discovery, other int) {
	for _, f := range frames {
		p := f.Decode()
		inside := false
		for _, r := range robots {
			inside = inside || p.Src == r.Address || p.Dst == r.Address
		}
		switch {
		case inside:
			other++
		case p.WireGuard():
			wireguard++
		case p.Kind == lab.ARP || p.Kind == lab.NDP || p.Kind == lab.MLD || p.Kind == lab.IGMP || (p.Kind == lab.UDP && p.DstPort == discoveryPort):
			discovery++
		default:
			other++
		}
	}
	return wireguard, discovery, other
}

func (d *demo) say(text string) {
	d.step++
	if d.live {
		fmt.Printf("\n\x1b[1m%d. %s\x1b[0m\n", d.step, text)
		return
	}
	fmt.Printf("\n%d. %s\n", d.step, text)
}

func (d *demo) detail(format string, args ...any) { fmt.Printf("   "+format+"\n", args...) }

func firstLine(s string) string { line, _, _ := strings.Cut(s, "\n"); return line }

// fit cuts lines at the terminal's width, lest redrawing miscounts them.
func (d *demo) fit(s string) string {
	width, _, err := term.GetSize(int(os.Stdout.Fd()))
	if !d.live || err != nil || width <= 0 {
		return s
	}
	lines := strings.SplitAfter(s, "\n")
	for i, line := range lines {
		if text := []rune(strings.TrimSuffix(line, "\n")); len(text) > width {
			lines[i] = string(text[:width]) + "\n"
		}
	}
	return strings.Join(lines, "")
}
