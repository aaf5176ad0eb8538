package main

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"slices"
	"time"
)

const introduction = `# Large samples over the overlay

What becomes of samples of 100 kB to 6 MB between two hosts, on a link of %g Mbit/s with %v delay each way and a queue of 100 ms, that loses 0 to 3 %% of
all packets. Written by ` + "`%s`" + ` in %v, on a machine with %d processors that ran both hosts, the link and all programs. Each figure is of %v of sending
(median of %d), all profiles in turn and the bare link at the end, on one run of the same two daemons. Writers and readers have
the QoS of a ROS node: keep last 10, reliable or best effort. A writer that cannot get rid of its samples sends less.

- **hnet** is what hnetd writes: messages of at most 1200 bytes, found through hnetd.
- **defaults** has the peers named by hand and every size as the library has it: messages of 14,720 bytes (Cyclone DDS) and 65,500 bytes (Fast DDS), which IP cuts.
- **recommended** is the same with what ROS's guide to tuning DDS says of large samples: messages of 65,500 bytes, receive buffers of 10 MB (Cyclone DDS)
  or 4 MiB (Fast DDS) or what net.core.rmem_max allows, asynchronous publishing (Fast DDS), and a kernel that holds 128 MiB of incomplete datagrams for 3 s
  (its own: 4 MiB, 60 s).
- **bare link** are the defaults without hnet, on the link's own addresses: what the library makes of such a link by itself. Samples of 1 MB only.

Samples delivered a second while they were offered; delay from writing to receipt of those delivered, median and 95th percentile; bytes of IP packets, both
directions, for each byte delivered; dropped: the share of these packets for which a queue (of the device, of hnetd, of the link) had no room, the link's
losses not counted; torn: the share of the datagrams cut by IP that did not arrive whole. – is none. The daemons have found out before what the path
carries, and before each measurement the kernel's memory for incomplete datagrams has as much room as after a start. Libraries: Cyclone DDS %s, Fast DDS %s.

## What the columns tell
- A datagram of 65,500 bytes is 54 packets: of 100 such datagrams 42 are torn where 1 packet in 100 is lost, 81 where 3 are; of 14,720 bytes (12 packets) 11
  and 31. What is left of them stays in the kernel's memory for a minute, and once that is full nothing that is cut gets through any more, also what lost no
  piece. A queue without room tears as loss does.
- Fast DDS with its defaults asks the reader what is missing after each 213 kB and, once the writer's history is full, with each piece. Where the answer
  takes 100 ms it is about what is still on its way, and all that is sent again: see bytes at 0 %% loss, over hnet and on the bare link alike. The queues
  fill, datagrams are torn, and their remains fill the kernel's memory. hnet's profile asks by time alone, and nothing is cut.
- Cyclone DDS repairs one sample at a time, at most 256 pieces a round trip. With hnet's pieces of 1080 bytes a sample of 1 MB takes three round trips or
  four where packets are lost, so no more than three a second arrive here, whatever the bandwidth.
- Best effort needs every packet: the 93 (hnet) or 90 (defaults) of 100 kB all arrive in 39 or 40 of 100 cases at 1 %% loss and in 6 at 3 %%. Of 120 samples
  chance makes that 1 a second more or less.
`

func (m *measurement) report(w io.Writer) {
	command := "go run ./test/ddssizes"
	for _, a := range os.Args[1:] {
		command += " '" + a + "'"
	}
	fmt.Fprintf(w, introduction, m.link.RateMbit, m.link.Delay, command, m.took.Round(time.Second), runtime.NumCPU(), m.span, m.rounds, debianVersion("libddsc0debian"), debianVersion("libfastrtps2.9"))
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
	fmt.Fprintf(w, "\n## %s, %s\n\n| samples | offered/s | loss | profile | delivered/s | median | 95 %% | bytes | dropped | torn |\n|---|---|---|---|---|---|---|---|---|---|\n", title, qos)
	for _, c := range rows {
		for _, p := range m.profiles[vendor] {
			list := m.results[c][p]
			if len(list) == 0 {
				continue
			}
			fmt.Fprintf(w, "| %s | %.3g | %g %% | %s | %s | %s | %s | %s | %s | %s |\n", sizeName(c.size), c.rate, 100*c.loss, p,
				number("%.2f", middle(list, func(r result) float64 { return r.perSecond })),
				number("%.0f ms", 1000*middle(list, func(r result) float64 { return r.median })),
				number("%.0f ms", 1000*middle(list, func(r result) float64 { return r.worst })),
				number("%.2f", middle(list, func(r result) float64 { return r.sent })),
				percent(middle(list, func(r result) float64 { return r.dropped })),
				percent(middle(list, func(r result) float64 { return r.torn })))
		}
	}
}

func number(format string, x float64) string {
	if math.IsNaN(x) || math.IsInf(x, 0) || x == 0 {
		return "–"
	}
	return fmt.Sprintf(format, x)
}

// percent writes a share.
func percent(x float64) string {
	switch {
	case math.IsNaN(x) || math.IsInf(x, 0) || x == 0:
		return "–"
	case x < 0.005:
		return "< 1 %"
	}
	return fmt.Sprintf("%.0f %%", 100*x)
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
