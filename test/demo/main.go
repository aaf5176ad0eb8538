// Command demo shows the main job on one machine: two robots behind two different NATs and a Base, in network namespaces of their own, whitelist
// each other; their path goes from relayed to direct, and real Cyclone DDS and Fast DDS programs talk over the encrypted overlay; a third robot joins, whose
// topics appear on both with nothing restarted; then the Base is killed. It leaves nothing behind.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/hnet-robotics/hnet_bridge/test/dds"
	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/internet"
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
	d.say("Building two small DDS programs, one on Cyclone DDS and one on Fast DDS, and hnetd, hnet and hnet_base (the first time takes half a minute)")
	programs, err := dds.Build(d.ctx)
	if err != nil {
		t.Fatalf("demo: %v", err)
	}
	fleet.Binary(t, "hnetd")

	d.say("An Internet in miniature: a Base with a public address, robot1 behind a home router, robot2 behind the NAT of a plant")
	world := internet.New(t, lab.New(t))
	base := fleet.StartBase(t, world.Base("base1").Host)
	d.detail("base1$ hnet_base id")
	d.detail("       %s", base.Address)
	home, plant, road := world.Site("home", internet.LinuxNATFiltered), world.Site("plant", internet.PortRestricted), world.Site("road", internet.DoubleNAT)
	h1, h2 := home.Host("robot1"), plant.Host("robot2")
	capture := h1.Capture(t, h1.Device(home))

	d.say("Each robot starts hnetd with that Base in its configuration; hnet0 comes up with an address that is a hash of the robot's key")
	configuration := "bases:\n" + base.Entry("base1")
	r1, r2 := fleet.Start(t, h1.Host, configuration), fleet.Start(t, h2.Host, configuration)
	for _, r := range []*fleet.Robot{r1, r2} {
		r.Hnet("wait", "base", "--timeout", "20s")
		d.detail("%s is %s", r.Name(), r.Address)
	}

	d.say("Nobody is let in by default, so each puts the other on its whitelist; the first packet goes by the Base while both sides open their NATs")
	met := time.Now()
	for _, x := range []struct{ on, other *fleet.Robot }{{r1, r2}, {r2, r1}} {
		d.detail("%s$ hnet whitelist add %s --hostname %s", x.on.Name(), x.other.Address, x.other.Name())
		x.on.Hnet("whitelist", "add", x.other.Address.String(), "--hostname", x.other.Name())
	}
	d.detail("robot1$ hnet ping robot2")
	direct := d.followPath(r1, r2, met)

	d.say("robot1 runs a Cyclone DDS program, robot2 a Fast DDS program; both publish and subscribe to the ROS 2 topic /hnet_demo at 10 Hz")
	d.detail("robot1$ eval \"$(hnet dds env)\"; cyclone_peer ...      ROS 2 nodes would be started like this, too: hnetd wrote their profiles")
	p1, p2 := d.start(t, r1, programs.Cyclone), d.start(t, r2, programs.FastDDS)
	p1.WaitLine(`^received robot2 `, 20*time.Second)
	p2.WaitLine(`^received robot1 `, 20*time.Second)
	d.detail("samples flow both ways, %.1f s after the start of this demo", time.Since(began).Seconds())

	d.say("A third robot joins, on the road behind two NATs; its Fast DDS program runs already, and nobody knows it")
	h3 := road.Host("robot3")
	r3 := fleet.Start(t, h3.Host, configuration)
	r3.Hnet("wait", "base", "--timeout", "20s")
	d.detail("%s is %s", r3.Name(), r3.Address)
	p3 := d.start(t, r3, programs.FastDDS)
	before := matched(p1) + matched(p2)
	for _, x := range []struct{ on, other *fleet.Robot }{{r1, r3}, {r2, r3}, {r3, r1}, {r3, r2}} {
		d.detail("%s$ hnet whitelist add %s --hostname %s", x.on.Name(), x.other.Address, x.other.Name())
		x.on.Hnet("whitelist", "add", x.other.Address.String(), "--hostname", x.other.Name())
	}
	joined := d.follow(t, time.Now(), []hearing{{p1, "robot1", "robot3"}, {p2, "robot2", "robot3"}, {p3, "robot3", "robot1"}, {p3, "robot3", "robot2"}})
	d.detail("nothing was restarted, no file edited: robot1 and robot2 knew %d other program each, and now know %d", before/2, (matched(p1)+matched(p2))/2)

	d.say("The Base is killed (kill -9): what goes from robot to robot does not need it")
	base.Daemon.Kill9()
	robots := []shown{{p1, "robot1", "Cyclone DDS", []string{"robot2", "robot3"}}, {p2, "robot2", "Fast DDS", []string{"robot1", "robot3"}},
		{p3, "robot3", "Fast DDS", []string{"robot1", "robot2"}}}
	d.watch(r1, robots)

	d.say("Stopping the programs and the daemons")
	for _, x := range robots {
		x.program.Stop()
	}
	gaps, silent := 0, false
	for _, x := range robots {
		for _, from := range x.from {
			gaps += missed(x.program, from)
			silent = silent || lastReceived(x.program, from) == 0
		}
	}
	for _, r := range []*fleet.Robot{r1, r2, r3} {
		r.Hnet("down")
	}
	c := tally(capture.Stop(), base, r1, r2, r3)
	fmt.Printf("\nDone: robot1 received %d samples of robot2 and %d of robot3; of all samples between the robots %d went missing.\n",
		lastReceived(p1, "robot2"), lastReceived(p1, "robot3"), gaps)
	fmt.Printf("On robot1's cable were %d WireGuard frames, %d to and from the Base, %d of talk with routers and neighbours, %d of anything else.\n",
		c.wireguard, c.base, c.local, c.other)
	if silent || gaps > 0 || c.other > 0 || !direct || joined > joinWithin {
		t.Fatalf("demo: that is not as it should be")
	}
}

// joinWithin is how long a robot that joins may take to be heard everywhere, which takes a second.
const joinWithin = 10 * time.Second

// hearing is a program that is to hear another robot's.
type hearing struct {
	program *lab.Process
	on, of  string
}

// follow tells when each hears what it is to hear, and returns how long the last one took.
func (d *demo) follow(t lab.TB, since time.Time, list []hearing) (took time.Duration) {
	for len(list) > 0 && d.ctx.Err() == nil {
		list = slices.DeleteFunc(list, func(h hearing) bool {
			if lastReceived(h.program, h.of) == 0 {
				return false
			}
			took = time.Since(since)
			d.detail("%6.2f s %s hears %s's topic", took.Seconds(), h.on, h.of)
			return true
		})
		if time.Since(since) > joinWithin {
			t.Fatalf("demo: %s does not hear %s after %v", list[0].on, list[0].of, joinWithin)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return took
}

// shown is a program with what the table shows of it.
type shown struct {
	program    *lab.Process
	on, vendor string
	from       []string
}

// directWithin is how long the demo waits for a direct path, which takes a fraction of a second.
const directWithin = 10 * time.Second

// followPath pings and tells whenever the path changes, until it is direct.
func (d *demo) followPath(from, to *fleet.Robot, since time.Time) (direct bool) {
	last := ""
	for time.Since(since) < directWithin && d.ctx.Err() == nil {
		line := firstLine(from.Hnet("ping", to.Name(), "-c", "1"))
		path := pathOf.FindString(line)
		if path != last {
			d.detail("%6.2f s %s", time.Since(since).Seconds(), line)
			last = path
		}
		if strings.Contains(path, "direct") {
			return true
		}
	}
	return false
}

var pathOf = regexp.MustCompile(` by \S+ at \S+`)

func (d *demo) start(t lab.TB, r *fleet.Robot, program string) *lab.Process {
	script := `eval "$("$0" dds env)"; exec "$@"`
	cmd := r.Command(context.Background(), "sh", "-c", script, fleet.Binary(t, "hnet"), program, "both", "--name", r.Name(), "--count", "0", "--rate", "10", "--size", "100")
	p := r.StartCmd(t, cmd)
	p.WaitLine("^ready$", 20*time.Second)
	return p
}

// watch shows the peer table and the samples until time is up.
func (d *demo) watch(r *fleet.Robot, list []shown) {
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
		view := r.Hnet("peers")
		for _, x := range list {
			view += fmt.Sprintf("%s %-13s has received", x.on, "("+x.vendor+")")
			for _, from := range x.from {
				view += fmt.Sprintf(" %5d samples from %s", lastReceived(x.program, from), from)
			}
			view += "\n"
		}
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

var matchedLine = regexp.MustCompile(`(?m)^matched (\d+)$`)

// matched is how many other programs a program knows.
func matched(p *lab.Process) (n int) {
	if all := matchedLine.FindAllStringSubmatch(p.Output(), -1); len(all) > 0 {
		n, _ = strconv.Atoi(all[len(all)-1][1])
	}
	return n
}

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

// missed counts the samples of a sender that did not arrive, between the first and the last that did.
func missed(p *lab.Process, sender string) (n int) {
	last := 0
	for _, x := range receivedLine.FindAllStringSubmatch(p.Output(), -1) {
		if x[1] != sender {
			continue
		}
		number, _ := strconv.Atoi(x[2])
		if last != 0 && number > last+1 {
			n += number - last - 1
		}
		last = max(last, number)
	}
	return n
}

// localPorts are those of LAN discovery, and of asking a router for a port: SSDP, PCP and NAT-PMP, and their announcements.
var localPorts = []uint16{5583, 1900, 5351, 5350}

// crossed counts the frames that crossed a cable.
type crossed struct{ wireguard, base, local, other int }

// stun says that a datagram asks the own router whether it sends what is for its outside back inside (RFC 8489 §5: the magic cookie).
func stun(p lab.Packet) bool {
	return p.Kind == lab.UDP && len(p.Payload) >= 20 && string(p.Payload[4:8]) == "\x21\x12\xa4\x42"
}

// tally counts what crossed the cable.
func tally(frames []lab.Frame, base *fleet.Base, robots ...*fleet.Robot) (c crossed) {
	bases := base.Addresses()
	for _, f := range frames {
		p := f.Decode()
		inside := false
		for _, r := range robots {
			inside = inside || p.Src == r.Address || p.Dst == r.Address
		}
		switch {
		case inside:
			c.other++
		case slices.Contains(bases, p.Src) || slices.Contains(bases, p.Dst):
			c.base++
		case p.WireGuard():
			c.wireguard++
		case p.Kind == lab.ICMP || p.Kind == lab.ARP || p.Kind == lab.NDP || p.Kind == lab.MLD || p.Kind == lab.IGMP,
			p.Kind == lab.UDP && (slices.Contains(localPorts, p.DstPort) || slices.Contains(localPorts, p.SrcPort)), stun(p):
			c.local++
		default:
			c.other++
			fmt.Fprintln(os.Stderr, "demo: unexpected:", p)
		}
	}
	return c
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
