// Command ddsscale measures what the DDS discovery relay costs in fleets of 5 to 50 hosts with 20 participants each: the
// relay's own code in virtual time, a smaller fleet of real daemons in network namespaces beside it, and what real Cyclone
// DDS and Fast DDS programs send to the static peers of a profile without the relay.
package main

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

func main() {
	if len(os.Args) == 5 && os.Args[1] == asParticipants {
		n, _ := strconv.Atoi(os.Args[3])
		others, _ := strconv.Atoi(os.Args[4])
		if err := participants(netip.MustParseAddr(os.Args[2]), n, others); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	lab.Enter()
	m := measurement{}
	flag.StringVar(&m.out, "o", "", "the file to write; empty = standard output")
	flag.DurationVar(&m.span, "span", time.Minute, "how long real daemons and programs are measured")
	flag.BoolVar(&m.simulated, "simulated", false, "nothing but the simulation, which needs no namespaces")
	flag.Parse()
	if why := lab.Missing(); why != "" && !m.simulated {
		fmt.Fprintln(os.Stderr, "ddsscale: network namespaces cannot be made here:", why)
		os.Exit(1)
	}
	os.Exit(lab.Program("ddsscale", m.run))
}

type measurement struct {
	out       string
	span      time.Duration
	simulated bool
}

// The fleets of the curve, and the one of real daemons.
var fleets = []int{5, 10, 20, 50}

const (
	each      = 20
	liveHosts = 5
)

func (m measurement) run(t lab.TB) {
	var curve []result
	for _, hosts := range fleets {
		r, err := simulate(hosts, each)
		if err != nil {
			t.Fatalf("%v", err)
		}
		curve = append(curve, r)
	}
	few, err := simulate(50, 5)
	if err != nil {
		t.Fatalf("%v", err)
	}
	var real result
	var resident uint64
	var peers []announced
	if !m.simulated {
		peers = static(t, m.span)
		real, resident = live(t, liveHosts, each, m.span)
	}
	text := m.report(curve, few, real, resident, peers)
	if m.out == "" {
		fmt.Print(text)
	} else if err := os.WriteFile(m.out, []byte(text), 0o644); err != nil {
		t.Fatalf("%v", err)
	}
}

func (m measurement) report(curve []result, few, real result, resident uint64, peers []announced) string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	p(`# What discovery costs in a large fleet

Made by ` + "`go run ./test/ddsscale -o docs/dds-scale.md`" + `. All figures are averages for one host; bytes are those of IP packets on hnet0, sent and
received; 1 kB = 1,000 bytes. The relay's traffic between hosts is all of it: what participants say to each other once they are acquainted is DDS's own, and
the same however they met.

## The relay

The relay's own code, hosts and participants in virtual time: paths of 10 to 30 ms, no loss; half of the participants announce themselves every 30 s (as Cyclone
DDS does), half every 3 s (as Fast DDS does). All hosts and all participants start within one second.

| hosts x participants | all know all after | first minute | idle minute | told to local participants, idle minute | heap | CPU, first minute | CPU, idle minute |
|---:|---:|---:|---:|---:|---:|---:|---:|
`)
	for _, r := range append(curve, few) {
		p("| %d x %d | %.2f s | %d packets, %.0f kB | %d packets, %.1f kB | %d | %d kB | %d ms | %d ms |\n", r.hosts, r.each, r.known.Seconds(),
			r.join.packets, float64(r.join.bytes)/1000, r.idle.packets, float64(r.idle.bytes)/1000, r.inject, r.memory/1000, r.cpuJoin.Milliseconds(), r.cpu.Milliseconds())
	}
	last := curve[len(curve)-1]
	p(`
A host that joins or changes costs each host one announcement for each participant, and a few lists of them: with the fleet's participants, not with their
square. A host that is idle tells each other one every 5 s that nothing has changed, in one short datagram, whatever the number of its participants:
%d hosts with 20 participants cost %.2f times the idle bytes of %d with 5, and %.1f times those of the first minute. CPU is measured with the
machine as busy as it was; told to local participants are the announcements repeated in case one of them has forgotten another.
`, last.hosts, float64(last.idle.bytes)/float64(few.idle.bytes), few.hosts, float64(last.join.bytes)/float64(few.join.bytes))
	if peers == nil {
		return b.String()
	}
	sim := curve[0]
	p(`
## Real daemons

%d hosts on one LAN (10 ms of delay) with hnetd and %d participants each, whose programs start at once, and the same fleet in virtual time. Measured for %v each.

| | all know all after | first minute | idle minute |
|---|---:|---:|---:|
| hnetd | %.2f s | %d packets, %.0f kB | %d packets, %.1f kB |
| virtual time | %.2f s | %d packets, %.0f kB | %d packets, %.1f kB |

One hnetd has %.1f MB resident with all %d participants, %.1f MB more than without any; it used %d ms of CPU in the first minute, %d ms in the idle one,
with everything else that it does.
`, real.hosts, real.each, m.span, real.known.Seconds(), real.join.packets, float64(real.join.bytes)/1000, real.idle.packets, float64(real.idle.bytes)/1000,
		sim.known.Seconds(), sim.join.packets, float64(sim.join.bytes)/1000, sim.idle.packets, float64(sim.idle.bytes)/1000,
		float64(resident)/1e6, real.hosts*real.each, float64(real.memory)/1e6, real.cpuJoin.Milliseconds(), real.cpu.Milliseconds())
	p(`
## Static peers instead

A profile that names all hosts as peers has each participant ask at every port of every host that one may listen on, again and again, and every node has to be
started anew when a host joins. Counted for %v with one real program and one peer:

| | ports asked in each announcement | packets a minute | bytes each |
|---|---:|---:|---:|
`, m.span)
	for _, a := range peers {
		p("| %s | %d | %.0f | %.0f |\n", a.vendor, a.ports, a.perMinute, a.bytes)
	}
	p(`
That for each participant and each other host comes to, calculated, in an idle minute of a host with %d participants (sent and received, like the relay's above):

| hosts | relay |`, each)
	for _, a := range peers {
		p(" %s |", a.vendor)
	}
	p("\n|---:|---:|%s\n", strings.Repeat("---:|", len(peers)))
	for _, r := range curve {
		p("| %d | %.1f kB |", r.hosts, float64(r.idle.bytes)/1000)
		for _, a := range peers {
			bytes := 2 * float64(r.each) * float64(r.hosts-1) * a.perMinute * a.bytes
			p(" %.1f MB, %.0f times |", bytes/1e6, bytes/float64(r.idle.bytes))
		}
		p("\n")
	}
	return b.String()
}
