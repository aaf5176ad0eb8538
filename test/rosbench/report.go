package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"

	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

func median(list []float64) float64 {
	if len(list) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(list))
	return sorted[len(sorted)/2]
}

func version() string {
	out, err := exec.Command("dpkg-query", "-W", "-f", "${Version}", "cyclonedds-dev").Output()
	if err != nil {
		return "of unknown version"
	}
	return string(out)
}

var names = map[string]string{"hnet": "ours", "cyclone": "Cyclone"}

func (m *measurement) report(t lab.TB, cells map[key]*cell, memory []use) {
	var b strings.Builder
	fmt.Fprintf(&b, `# ros_pkg/rtps against Cyclone DDS

Made by `+"`make ros-bench`"+`: two programs exchange samples of a sequence of octets, reliably; the programs of both sides, ours and those on Cyclone DDS %s
(Debian's), take turns in one run. Medians of %d rounds on %d processors (%s, %s). The programs share the processors, so only ratios mean something elsewhere.

"On one host": what both libraries do by default over UDP. "Between two hosts": a bridge in the kernel, and datagrams of at most 1,200 bytes on both sides, as an
overlay of MTU 1280 needs them. A round trip is written, read, written back and read in the callbacks of both libraries (keep last 10); the rate is what a writer
that keeps all (ours up to 1,024 samples, Cyclone up to its watermark of 500 kB) gets through in %v. CPU time is user and system time of each process per sample.
The last column divides ours ↔ ours by Cyclone ↔ Cyclone.

`, version(), m.rounds, runtime.NumCPU(), runtime.Version(), kernel(), m.span)
	for _, far := range []bool{false, true} {
		place := "On one host"
		if far {
			place = "Between two hosts"
		}
		for _, size := range sizes {
			name := fmt.Sprintf("%d B", size)
			if size >= 1024 {
				name = fmt.Sprintf("%d KB", size/1024)
			}
			fmt.Fprintf(&b, "## %s, samples of %s\n\n|", place, name)
			for _, p := range pairs {
				fmt.Fprintf(&b, " | %s → %s", names[p[0]], names[p[1]])
			}
			b.WriteString(" | ratio |\n|---|---:|---:|---:|---:|---:|\n")
			row := func(what, format string, f func(c *cell) float64) {
				fmt.Fprintf(&b, "| %s", what)
				var v []float64
				for _, p := range pairs {
					x := f(cells[key{p, size, far}])
					v = append(v, x)
					fmt.Fprintf(&b, " | "+format, x)
				}
				fmt.Fprintf(&b, " | %.2f |\n", v[0]/v[1])
			}
			row("round trip, median, µs", "%.1f", func(c *cell) float64 { return median(c.p50) })
			row("round trip, 99 %, µs", "%.1f", func(c *cell) float64 { return median(c.p99) })
			row("CPU per round trip, who asks, µs", "%.1f", func(c *cell) float64 { return median(c.askCPU) })
			row("CPU per round trip, who answers, µs", "%.1f", func(c *cell) float64 { return median(c.answerCPU) })
			row("samples per second", "%.0f", func(c *cell) float64 { return median(c.rate) })
			row("CPU per sample, writer, µs", "%.2f", func(c *cell) float64 { return median(c.writeCPU) })
			row("CPU per sample, reader, µs", "%.2f", func(c *cell) float64 { return median(c.readCPU) })
			b.WriteString("\n")
		}
	}
	lost := 0
	for _, c := range cells {
		lost += c.lost
	}
	fmt.Fprintf(&b, "Samples lost in all of the above: %d.\n\n", lost)
	if len(memory) > 0 {
		fmt.Fprintf(&b, "## Memory with %d remote endpoints\n\nA participant without endpoints of its own, and then with %d of another host's: resident memory of the process.\n\n"+
			"| | alone, MiB | with them, MiB | per endpoint, KiB |\n|---|---:|---:|---:|\n", manyEndpoints, manyEndpoints)
		for _, u := range memory {
			fmt.Fprintf(&b, "| %s | %.1f | %.1f | %.2f |\n", names[u.vendor], u.before/1024, u.after/1024, (u.after-u.before)/manyEndpoints)
		}
	}
	b.WriteString(before)
	if m.out == "" {
		fmt.Print(b.String())
		return
	}
	if err := os.WriteFile(m.out, []byte(b.String()), 0o644); err != nil {
		t.Fatalf("rosbench: %v", err)
	}
}

func kernel() string {
	b, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "unknown kernel"
	}
	return "Linux " + strings.TrimSpace(string(b))
}

// before is what the same command found when ros_pkg/rtps was first measured.
const before = `
## What changed

The first run of this command, in ratios of ours ↔ ours to Cyclone ↔ Cyclone:

| | round trip, median | CPU, who asks | CPU, who answers | samples per second |
|---|---:|---:|---:|---:|
| one host, 64 B | 2.85 | 2.73 | 2.63 | 0.85 |
| one host, 64 KB | 21.11 | 7.30 | 6.64 | 0.14 |
| two hosts, 64 B | 1.71 | 1.74 | 1.73 | 0.81 |
| two hosts, 64 KB | 3.99 | 2.66 | 2.67 | 0.86 |

Since then:

- The socket for samples is read by a thread that waits in the kernel, not in Go's poller (a sample woke two threads and cost four system calls), sixteen datagrams
  at a time, and up to 64 are written with one call.
- A large sample leaves at once as far as a socket's buffer of 208 KiB holds it, and what is acknowledged makes room for more; before, all beyond 48 KB waited a
  millisecond. Within a host nothing but acknowledgements paces.
- Within a host datagrams of 60 KB are used (to Cyclone DDS of 14,720 B, of which it loses none).
- Messages are built where they are sent from, payloads are received into buffers that the receiver can give back (Participant.Recycle), and a writer uses those of
  its history again.
- Eight samples bring a heartbeat that wants an answer only if something is missing; every 32nd wants one in any case.
`
