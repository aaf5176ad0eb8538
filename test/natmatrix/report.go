package main

import (
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
)

// answer is a line of ping's output.
var answer = regexp.MustCompile(`(?m)^\d+ bytes from `)

const intro = `# Which NATs meet directly

Two robots in network namespaces, each behind the NAT or firewall named, and one Base with public addresses of both families. Both register
with the Base, each is put on the other's whitelist, and one pings the other without a pause. Made by ` + "`make nat-matrix`" + `, which runs the
real hnetd and hnet_base and fails if a pair is not as required; ` + "`go test ./test/natmatrix`" + ` runs a few telling pairs.

**Required** of all pairs: connected. Direct both ways besides, of every pair that shares an address family, passes UDP, and in which one side at
least has a port that does not depend on the destination, or can have one mapped: within 3 s, or within 40 s where the other side is symmetric,
because its port has to be guessed. Times count from when the second robot is told to whitelist the first. Round trips are 20 ms between the robots
and 10 ms to the Base.

`

const legend = `
## The kinds

| kind | what stands between robot and Internet |
|---|---|
| public | nothing: public addresses, IPv4 and IPv6 |
| full cone | NAT: endpoint-independent mapping and filtering (RFC 4787) |
| address-restricted | NAT: endpoint-independent mapping, address-dependent filtering |
| port-restricted | NAT: endpoint-independent mapping, address- and port-dependent filtering |
| symmetric | NAT: address- and port-dependent mapping and filtering, random ports |
| Linux NAT filtered | the kernel's masquerade, input filter on the router (OpenWrt) |
| Linux NAT | the kernel's masquerade without an input filter: a packet from outside that comes too early makes the kernel choose another port |
| double NAT | Linux NAT filtered at home, behind a carrier's NAT: endpoint-independent mapping to random ports, address- and port-dependent filtering |
| UDP blocked | Linux NAT filtered that forwards TCP alone |
| IPv6 only | public IPv6 address behind a stateful firewall, no IPv4 |
| IPv4 only | public IPv4 address behind a stateful firewall, no IPv6 |
| UPnP | the kernel's masquerade with random ports, so symmetric, on a router that maps ports by UPnP IGD, NAT-PMP and PCP (miniupnpd) |
| same NAT | both behind one NAT on segments that reach each other by its hairpin alone |
| same carrier | home NATs of their own behind one carrier's NAT, which hairpins |

Behind a NAT there is IPv4 alone. From robot to robot it is five routers, to the Base three. Ports are 5582 on all robots, so port-preserving
NATs show 5582 outside.
`

// write writes the report.
func write(w io.Writer, results []Result) error {
	var b strings.Builder
	b.WriteString(intro)
	grid(&b, results)
	b.WriteString("\nSeconds until the path was direct both ways; **relay** = it may and does go through the Base; **FAIL** = see below.\n")
	b.WriteString("\n## Every pair\n\n| pair | connected | first ping, ms | direct after, s | final path | direct required | verdict |\n|---|---|---:|---:|---|---|---|\n")
	failed := 0
	for _, r := range results {
		verdict := "pass"
		if f := r.Fail(); f != "" {
			failed++
			verdict = "**FAIL**: " + cell(f)
			if r.Diagnosis != "" {
				verdict += "; the daemon says: " + cell(r.Diagnosis)
			}
		}
		required := "within " + r.requirement().Direct.String()
		if why := r.requirement().Why; why != "" {
			required = "no: " + why
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s |\n", r.Pair, yes(r.Connected), first(r), after(r), paths(r), required, verdict)
	}
	fmt.Fprintf(&b, "\n%d pairs, %d as required.\n", len(results), len(results)-failed)
	b.WriteString(legend)
	_, err := io.WriteString(w, b.String())
	return err
}

// grid is the overview of the pairs at sites of their own.
func grid(b *strings.Builder, results []Result) {
	by := map[Pair]Result{}
	for _, r := range results {
		by[r.Pair] = r
	}
	b.WriteString("| |")
	for _, k := range kinds {
		fmt.Fprintf(b, " %s |", k)
	}
	b.WriteString("\n|---|" + strings.Repeat(":---:|", len(kinds)) + "\n")
	for i, row := range kinds {
		fmt.Fprintf(b, "| **%s** |", row)
		for j, column := range kinds {
			r, tried := by[Pair{A: column, B: row}]
			switch {
			case j > i || !tried:
				b.WriteString(" |")
			case r.Fail() != "":
				b.WriteString(" **FAIL** |")
			case r.Direct != 0:
				fmt.Fprintf(b, " %s |", after(r))
			default:
				b.WriteString(" relay |")
			}
		}
		b.WriteByte('\n')
	}
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func first(r Result) string {
	if !r.Connected {
		return "–"
	}
	return fmt.Sprint(r.First.Milliseconds())
}

func after(r Result) string {
	if r.Direct == 0 {
		return "–"
	}
	return fmt.Sprintf("%.1f", r.Direct.Seconds())
}

// paths names the final path, or both legs if they differ.
func paths(r Result) string {
	name := func(p api.Path) string {
		return strings.ReplaceAll(string(p), "_", " by ")
	}
	if r.PathA == r.PathB {
		return name(r.PathA)
	}
	return name(r.PathA) + " / " + name(r.PathB)
}

// cell makes text fit for a table.
func cell(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > 200 {
		s = string(r[:200]) + "…"
	}
	return strings.ReplaceAll(s, "|", "\\|")
}
