package main

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"slices"
)

const introduction = `# Large samples over the overlay

What becomes of samples of 100 kB to 6 MB between two hosts, on a link of %g Mbit/s with %v delay each way and a queue of 100 ms, that loses 0 to 3 %% of
all packets. Written by ` + "`%s`" + `, on a machine with %d processors that ran both hosts, the link and all programs. Each figure is of %v of sending
(median of %d), all profiles in turn, on one run of the same two daemons. Writers and readers have the QoS of a ROS node: keep last 10, reliable or best
effort. A writer that cannot get rid of its samples sends less.

- **hnet** is what hnetd writes: messages of at most 1200 bytes, found through hnetd.
- **defaults** has the peers named by hand and every size as the library has it: messages of 14,720 bytes (Cyclone DDS) and 65,500 bytes (Fast DDS), which IP cuts.
- **recommended** is the same with what tuning guides say of large samples: large socket buffers, messages of 65,500 bytes, asynchronous publishing.

Samples delivered a second while they were offered; delay from writing to receipt of those delivered, median and 95th percentile; bytes on hnet0, both
directions, for each byte delivered. – is none. Libraries: Cyclone DDS %s, Fast DDS %s.
`

func (m *measurement) report(w io.Writer) {
	command := "go run ./test/ddssizes"
	for _, a := range os.Args[1:] {
		command += " '" + a + "'"
	}
	fmt.Fprintf(w, introduction, m.link.RateMbit, m.link.Delay, command, runtime.NumCPU(), m.span, m.rounds, debianVersion("libddsc0debian"), debianVersion("libfastrtps2.9"))
	for _, vendor := range []string{cyclone, fastdds} {
		for _, reliable := range []bool{true, false} {
			m.table(w, vendor, reliable)
		}
	}
}

func (m *measurement) table(w io.Writer, vendor string, reliable bool) {
	var rows []row
	for _, c := range m.cases {
		if c.vendor == vendor && c.reliable == reliable && len(m.results[c]) > 0 {
			rows = append(rows, c)
		}
	}
	if len(rows) == 0 {
		return
	}
	title := map[string]string{cyclone: "Cyclone DDS", fastdds: "Fast DDS"}[vendor]
	qos := map[bool]string{true: "reliable", false: "best effort"}[reliable]
	fmt.Fprintf(w, "\n## %s, %s\n\n| samples | offered/s | loss | profile | delivered/s | median | 95 %% | bytes |\n|---|---|---|---|---|---|---|---|\n", title, qos)
	for _, c := range rows {
		for _, p := range m.profiles[vendor] {
			list := m.results[c][p]
			if len(list) == 0 {
				continue
			}
			fmt.Fprintf(w, "| %s | %.3g | %g %% | %s | %s | %s | %s | %s |\n", sizeName(c.size), c.rate, 100*c.loss, p,
				number("%.2f", middle(list, func(r result) float64 { return r.perSecond })),
				number("%.0f ms", 1000*middle(list, func(r result) float64 { return r.median })),
				number("%.0f ms", 1000*middle(list, func(r result) float64 { return r.worst })),
				number("%.2f", middle(list, func(r result) float64 { return r.sent })))
		}
	}
}

func number(format string, x float64) string {
	if math.IsNaN(x) || math.IsInf(x, 0) || x == 0 {
		return "–"
	}
	return fmt.Sprintf(format, x)
}

// middle is the median; what is not a number counts as the worst.
func middle(list []result, f func(result) float64) float64 {
	var x []float64
	for _, r := range list {
		v := f(r)
		if math.IsNaN(v) {
			v = math.Inf(1)
		}
		x = append(x, v)
	}
	slices.SortFunc(x, cmp.Compare[float64])
	return x[len(x)/2]
}
