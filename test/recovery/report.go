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

Two robots run the real hnetd, each behind the NAT named, with two Bases unless a row says otherwise, on networks made of network namespaces. Each sends the
other a datagram of 100 bytes through the overlay every %v while it happens; what is measured is what arrives. ` + "`make recovery`" + ` writes this page, and
fails if a row does.

- **Silence** is the longest time without a datagram in the worse direction, in seconds: the median of %d runs, then the **worst**. It counts from when
  it happens, or where the row says so from when traffic was possible again. **Whole** counts from when it happens in every row.
- **Lost** is the datagrams that never arrived, robot A's + robot B's, since it happened; while nothing passes, each robot loses 100 a second.
- **Path** is how each robot's packets went before and after, and when they began to; the times are as for silence, a minus is before that.
- **Target** is for the silence, and for both paths to be direct again where it says so. **Verdict** is "pass" if every run met it.

Whole, lost and path are those of the run with the median silence.

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

- **Targets**: traffic again 1.5 s after a robot has a network again, and directly after 3 s; after a path dies without a sign 5 s, a Base 2 s; after a daemon was
  started again 1 s; with a wrong clock 3 s, directly after 5 s. After 30 s without any path it has to flow again within 60 s, without Bases 90 s.
- **Round trips** are 10 ms to a Base and 20 ms from robot to robot.
- **Roams** takes the robot's device to another network, with another address and gateway. Wi-Fi needs time to associate and DHCP to answer: that comes on top.
- **Wi-Fi to LTE** has two uplinks, the second behind a carrier's NAT and the site's own.
- **Silently** is packets dropped in the core of the network, with no sign to either robot.
- **Base killed, frozen, told to end** is the one that robot A sends through. Between two symmetric NATs there is no direct path.
- **Clocks**: the daemon alone sees another time, in its own copy of the vDSO where the Go runtime reads it (test/recovery/skew). 50 years are 50 times 365 days.
- **Suspended** is the daemon stopped for 200 s, or 10 minutes with ` + "`-long`" + `: longer than these NATs keep a mapping (2 minutes) and a Base a registration
  (150 s). What robot A's own programs send meanwhile is dropped at its full queue.
- ` + "`go test ./test/anywhere`" + ` runs the most telling of these rows, with twice the time.
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
