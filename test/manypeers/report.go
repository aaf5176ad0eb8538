package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

type report struct {
	spans  spans
	known  []*known
	active []*active // the first has no sessions
}

func (r report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# What peers cost\n\nMade by `bin/manypeers` (`make peers`) with the real hnetd in network namespaces of one machine; medians of %d rounds. Times of commands include the\n"+
		"start of the program `hnet`. Throughput is compared within each round: only ratios mean something elsewhere.\n\n", r.spans.rounds)
	b.WriteString("## Known peers\n\nPeers on the whitelist, with key and name, of which one is there and talks. CPU and wake-ups while idle for " + r.spans.idle.String() + ".\n\n")
	b.WriteString("| known | RSS MB | private MB | beyond one, MB | peak MB | idle CPU ms/s | wake-ups/s | TCP Mbit/s | ratio | start ms | `hnet peers` ms | `hnet whitelist add` ms |\n")
	b.WriteString("|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n")
	for _, k := range r.known {
		fmt.Fprintf(&b, "| %d | %.1f | %.1f | %.1f | %.1f | %.2f | %d | %.0f | %.2f | %.0f | %.0f | %.0f |\n", k.count, k.idle.rss, k.idle.anon, k.idle.anon-r.known[0].idle.anon,
			k.idle.peak, ms(k.idle.cpu), k.idle.switches, median(k.mbits), median(k.ratios), ms(median(k.many.started)), ms(median(k.list)), ms(median(k.add)))
	}
	b.WriteString("\nThe whitelist holds 10,000 entries at most; there, `hnet whitelist rm` was timed. “Beyond one” is private memory: what is mapped of the program's file is the kernel's cache, " +
		"shared and given back on demand; 5 s after its start hnetd gives it back itself, and what it uses returns.\n\n![memory](peers-known.svg)\n")
	first, most := r.active[0], r.active[len(r.active)-1]
	b.WriteString("\n## Peers with sessions\n\nOf a whitelist of " + fmt.Sprint(most.count) + " peers, as many as the row says have a session: each is the data path of hnetd with its own key and UDP socket.\n" +
		"A packet of 64 bytes goes to each and one back, every second, and for the sake of those each side probes its path every second.\n\n")
	b.WriteString("| active | private MB | kB each | CPU ms/s | µs each, a second | wake-ups/s | packets back | `hnet peers` ms |\n")
	b.WriteString("|---:|---:|---:|---:|---:|---:|---:|---:|\n")
	for _, a := range r.active {
		if a.count == 0 {
			fmt.Fprintf(&b, "| 0 | %.1f | | %.2f | | %d | | |\n", a.quiet.anon, ms(a.quiet.cpu), a.quiet.switches)
			continue
		}
		n := float64(a.count)
		each, packet := "", "" // of few peers, the difference from none is noise
		if a.count >= 100 {
			each, packet = fmt.Sprintf("%.1f", (a.busy.anon-first.quiet.anon)*1024/n), fmt.Sprintf("%.0f", (ms(a.busy.cpu)-ms(first.quiet.cpu))*1e3/n)
		}
		fmt.Fprintf(&b, "| %d | %.1f | %s | %.2f | %s | %d | %.1f %% | %.0f |\n", a.count, a.busy.anon, each, ms(a.busy.cpu), packet, a.busy.switches,
			100*float64(a.back)/float64(max(a.sent, 1)), ms(a.list))
	}
	fmt.Fprintf(&b, "\nHalf a minute after the last packet all probing ends: %d sessions then cost %.2f ms of CPU and %d wake-ups a second.\n", most.count, ms(most.quiet.cpu), most.quiet.switches)
	b.WriteString("\n![memory](peers-active.svg)\n\n![processor time](peers-cpu.svg)\n")
	return b.String()
}

func ms(d time.Duration) float64 { return d.Seconds() * 1e3 }

// write writes the report and its plots beside it.
func (r report) write(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	files := map[string]string{path: r.markdown()}
	var known, private, memory, busy []point
	for _, k := range r.known {
		known = append(known, point{float64(k.count), k.idle.rss})
		private = append(private, point{float64(k.count), k.idle.anon})
	}
	for _, a := range r.active[1:] {
		memory = append(memory, point{float64(a.count), a.busy.anon})
		busy = append(busy, point{float64(a.count), ms(a.busy.cpu)})
	}
	for name, p := range map[string]plot{
		"peers-known.svg":  {"Resident memory by known peers, MB", []curve{{"all", known}, {"private", private}}},
		"peers-active.svg": {"Private memory by peers with sessions, MB", []curve{{"1 packet/s each", memory}}},
		"peers-cpu.svg":    {"CPU by peers with sessions, ms a second", []curve{{"1 packet/s each way", busy}}},
	} {
		files[filepath.Join(filepath.Dir(path), name)] = p.svg()
	}
	for name, text := range files {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}
