package main

import (
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
)

// Line is a row with its runs.
type Line struct {
	Row  *Row
	Runs []Result
}

// Fail tells what is not as required of the first run that is not.
func (l Line) Fail() string {
	for _, r := range l.Runs {
		if why := r.Fail(); why != "" {
			return why
		}
	}
	return ""
}

// sorted returns the runs that could be tried, the one with the shortest silence first.
func (l Line) sorted() (all []Result) {
	for _, r := range l.Runs {
		if r.Trouble == "" {
			all = append(all, r)
		}
	}
	slices.SortFunc(all, func(a, b Result) int { return int(a.Counted.Worst() - b.Counted.Worst()) })
	return all
}

const intro = `# What happens to robots, and how soon traffic is there again

Two robots in network namespaces, each behind the NAT named, and two Bases unless a row says otherwise, all the real hnetd and hnet_base. Datagrams of
100 bytes flow both ways through the overlay, one each %v, while it happens; what is measured is what their receivers see. Made by
` + "`make recovery`" + `, which fails if a row misses its target; ` + "`go test ./test/anywhere`" + ` runs the most important rows.

**Silence** is the longest time without a datagram in the worse of the two directions, in seconds: of %d runs the median, and the worst. It counts from
when it happens, or where the row says so from when there could be traffic again; a silence that lasts from before then counts from then on only.
**Whole** is the median with the time before. **Lost** is the datagrams that never arrived in the median run, of robot A's and of robot B's; at 100 a second,
most of them in the whole silence. **Path** is how the packets went before and after, A's and B's, in the median run; (0.1 s) is when they went so, from
when silence counts; a minus is before that. **Target** is for the silence, and where the path must be direct again, for that too.

`

func write(w io.Writer, lines []Line, count int) error {
	var b strings.Builder
	fmt.Fprintf(&b, intro, interval, count)
	b.WriteString("| what happens to robot A | A behind – B behind | target | silence | worst | whole | lost | path | verdict |\n|---|---|---|---:|---:|---:|---:|---|---|\n")
	failed, again := 0, 0
	for _, l := range lines {
		for _, r := range l.Runs {
			again += r.Again
		}
		what := l.Row.What
		if l.Row.Counted != "" {
			what += "; counts from when " + l.Row.Counted
		}
		verdict := "pass"
		if why := l.Fail(); why != "" {
			failed++
			verdict = "**FAIL**: " + cell(why)
			if l.Row.Cause != "" {
				verdict += ". Cause: " + cell(l.Row.Cause)
			}
		}
		median, worst, whole, lost, path := "–", "–", "–", "–", "–"
		if runs := l.sorted(); len(runs) > 0 {
			m := runs[(len(runs)-1)/2]
			median, worst, whole = seconds(m.Counted.Worst()), seconds(runs[len(runs)-1].Counted.Worst()), seconds(m.Whole.Worst())
			lost = fmt.Sprintf("%d + %d", m.Whole.Lost[0], m.Whole.Lost[1])
			path = "A: " + story(m.Legs[0], m.Mark) + "<br>B: " + story(m.Legs[1], m.Mark)
			if m.Seen != "" {
				path += "<br>" + m.Seen
			}
		}
		fmt.Fprintf(&b, "| %s | %s – %s | %s | %s | %s | %s | %s | %s | %s |\n", what, l.Row.A, l.Row.B, l.Row.target(), median, worst, whole, lost, path, verdict)
	}
	fmt.Fprintf(&b, "\n%d rows, %d as required. Measured on %d cores. Runs that missed while the machine itself stood still for %v or more, and were repeated: %d.\n",
		len(lines), len(lines)-failed, runtime.NumCPU(), stall, again)
	b.WriteString(legend)
	_, err := io.WriteString(w, b.String())
	return err
}

const legend = `
## How it is done

- **Targets** are those for traffic again after a robot roamed (1.5 s through a Base, 3 s direct), after a path or a Base died without a word (5 s, 2 s), after a
  daemon was started again (1 s), and with a wrong clock (3 s; direct again within 2 s more). What has none stated has none here.
- **Networks**: 10 ms to a Base, 20 ms from robot to robot. "Roams" takes the robot's device from one network to another, where it has another address and
  gateway; the time that a Wi-Fi needs to associate and DHCP needs to answer comes on top. "Wi-Fi to LTE" has two uplinks, the second behind a carrier's NAT.
- **Silent death** is packets dropped in the core of the network, with no sign to either robot.
- **Bases**: what dies is the one that robot A sends through. Where both robots are behind symmetric NATs nothing but a Base carries their traffic.
- **Clocks**: no machine's clock is set. The daemon alone sees another time, because its own copy of the vDSO, where the Go runtime reads the time, is changed
  (test/recovery/skew). The 50 years are 50 times 365 days.
- **Suspend** is SIGSTOP and SIGCONT of the daemon, 200 s or, with ` + "`-long`" + `, 10 minutes: longer than NATs keep a mapping, and than a Base keeps a registration.
  The datagrams that the robot's own programs send meanwhile are lost to its own full queue.
`

func (r *Row) target() string {
	var list []string
	switch {
	case r.NoLoss:
		list = append(list, "no loss")
	case r.Silence > 0:
		list = append(list, seconds(r.Silence)+" s")
	}
	switch {
	case r.Path == api.PathDirect && r.Within != 0:
		list = append(list, "direct within "+seconds(r.Within)+" s")
	case r.Path == api.PathDirect && r.Start != api.PathDirect:
		list = append(list, "direct at last")
	}
	if len(list) == 0 {
		return "none; it must flow again"
	}
	return strings.Join(list, ", ")
}

func seconds(d time.Duration) string {
	s := fmt.Sprintf("%.2f", d.Seconds())
	if d >= 10*time.Second {
		s = fmt.Sprintf("%.1f", d.Seconds())
	}
	return s
}

func after(d time.Duration) string {
	if d == never {
		return "never"
	}
	return seconds(d) + " s"
}

// cell is text that does not break a table.
func cell(s string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ").Replace(s)
}
