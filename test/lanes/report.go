package main

import (
	"fmt"
	"io"
	"math"
	"time"
)

// target is how much longer than on the idle link the 99th percentile may be.
const target = 20 * time.Millisecond

func (m *measurement) report(w io.Writer) {
	fmt.Fprintf(w, `# What goes first when a link is full

Made by `+"`make lanes`"+`: two robots whose link carries %d Mbit/s each way with a round trip of %v, and holds 256 kB or 1 MB before it drops.
One sends the other 50 samples a second of 48 bytes on the topic /cmd_vel (reliable, by RTPS, in the lane that hnetd gives it by itself) and 50 datagrams
a second marked EF. Beside them something fills the link: a TCP stream; images of 1 MB, ten a second, as datagrams marked CS1 that nobody sends again;
images of 1 MB, three a second, as reliable samples of hnet's RTPS, Cyclone DDS and Fast DDS, the last five kept. Times are one way, in milliseconds, over %v each, after %v of the load alone; both daemons, the
link and all programs share one machine, so part of the maxima is its scheduler's; a row in which it could not even send in time is taken again.
The aim is a 99th percentile within %v of the idle link's.

`, rateMbit, 2*delay, m.span, m.settle, target)
	fmt.Fprintln(w, "| buffer | load | pacing | /cmd_vel p50 | p99 | max | lost | EF p50 | p99 | max | lost | link, Mbit/s | images/s | p99 in aim |")
	fmt.Fprintln(w, "|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|")
	for _, r := range m.rows {
		x := m.results[r]
		pacing, aim := "off", ""
		if r.paced {
			pacing = "on"
		}
		if idle, ok := m.results[row{r.buffer, "nothing", r.paced}]; ok && r.load != "nothing" {
			aim = "no"
			if x.topic.quantile(.99)-idle.topic.quantile(.99) <= target && len(x.topic.list) > 0 {
				aim = "yes"
			}
		}
		images := "–"
		if !math.IsNaN(x.samples) {
			images = fmt.Sprintf("%.1f", x.samples)
		}
		fmt.Fprintf(w, "| %d kB | %s | %s | %s | %s | %s | %d of %d | %s | %s | %s | %d of %d | %.1f | %s | %s |\n", r.buffer>>10, r.load, pacing,
			ms(x.topic.quantile(.5)), ms(x.topic.quantile(.99)), ms(x.topic.quantile(1)), x.topic.lost(), x.topic.sent,
			ms(x.datagram.quantile(.5)), ms(x.datagram.quantile(.99)), ms(x.datagram.quantile(1)), x.datagram.lost(), x.datagram.sent, x.mbit, images, aim)
	}
	fmt.Fprint(w, `
Without pacing the link's buffer is where everything waits, and nothing can overtake there. With it the daemon finds out what the path carries (package
pace), sends a little less, and what waits, waits in its own lanes (package lane).
`)
}
