package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// comparison is what one underlay gave.
type comparison struct {
	underlay underlay
	table    table
}

// report is everything that a run found.
type report struct {
	when            time.Time
	rounds, seconds int
	systems         []string
	tables          []comparison
	parts           []part
}

// metric is a column: unit converts what peers.sh gives.
type metric struct {
	key, title string
	scale      float64
	format     string
}

var columns = []metric{
	{"tcp1_mbps", "TCP, Mbit/s", 1, "%.0f"},
	{"udp_kpps", "UDP 1200 B, kpps", 1, "%.0f"},
	{"tcp1_cpu_s_per_gb", "CPU s/GB", 1, "%.2f"},
	{"rtt_p50_us", "RTT p50, µs", 1, "%.0f"},
	{"rtt_p99_us", "RTT p99, µs", 1, "%.0f"},
	{"load_rtt_p99_us", "p99 beside TCP, ms", 1e-3, "%.1f"},
	{"load200_rtt_p99_us", "p99 beside 200 Mbit/s, µs", 1, "%.0f"},
	{"rss_idle_kb", "idle, MB", 1. / 1024, "%.1f"},
	{"rss_peak_kb", "peak, MB", 1. / 1024, "%.1f"},
	{"first_ping_ms", "start to first ping, ms", 1, "%.0f"},
}

// goals are the ratios that the project promises, for the underlay and the system they are promised for; at most says which way is good.
type goal struct {
	underlay, system, to, metric string
	ratio                        float64
	atMost                       bool
}

var goals = []goal{
	{"offload", "hnet-chacha", reference, "tcp1_mbps", 2.75, false},
	{"offload", "hnet", reference, "tcp1_mbps", 3.3, false},
	{"plain", "hnet-chacha", reference, "tcp1_mbps", 2.9, false},
	{"plain", "hnet", reference, "tcp1_mbps", 3.7, false},
	{"offload", "hnet", "hnet-nocipher", "tcp1_mbps", 0.55, false},
	{"offload", "hnet-chacha", reference, "udp_kpps", 4, false},
	{"offload", "hnet-chacha", reference, "tcp1_cpu_s_per_gb", 0.35, true},
	{"offload", "hnet", reference, "tcp1_cpu_s_per_gb", 0.28, true},
	{"offload", "hnet", reference, "rtt_p50_us", 0.65, true},
	{"offload", "hnet", reference, "load_rtt_p99_us", 0.06, true},
	{"offload", "hnet", reference, "load200_rtt_p99_us", 0.6, true},
}

// write puts the report, its plots and the ratios to compare with into a folder, and says how it compares with the last. A report of nothing but the
// parts is parts.md, and leaves all else alone.
func (r *report) write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if len(r.tables) == 0 {
		var b strings.Builder
		fmt.Fprintf(&b, "# The parts alone\n\nMade by `make bench BENCH='-systems \"\"'` on %s, %d processors, %s.\n", r.when.UTC().Format(time.DateOnly), runtime.NumCPU(), runtime.Version())
		r.listParts(&b)
		return os.WriteFile(filepath.Join(dir, "parts.md"), []byte(b.String()), 0o644)
	}
	ratios := r.ratios()
	record := filepath.Join(dir, "ratios.tsv")
	last, err := readRatios(record)
	if err != nil {
		return err
	}
	verdict := compare(last, ratios, r.systems)
	var b strings.Builder
	fmt.Fprintf(&b, "# Performance\n\nMade by `make bench` on %s, %d processors, %s: each system in turn on the same machine, %d rounds of %d s, medians; in brackets lowest and highest.\n"+
		"Both ends run on the same processors: figures drift by a factor of two between machines, only the ratios to wireguard-go (`wggo`) mean something elsewhere.\n\n",
		r.when.UTC().Format(time.DateOnly), runtime.NumCPU(), runtime.Version(), r.rounds, r.seconds)
	b.WriteString("`hnet` is the cipher that two daemons agree on (AES-256-GCM here if the processor has it), `hnet-chacha` ChaCha20-Poly1305, `hnet-nocipher` the same program\n" +
		"built without a cipher: what everything else costs. `bare` is the underlay itself.\n\n")
	fmt.Fprintf(&b, "Against the last recorded run: %s\n", verdict)
	for _, c := range r.tables {
		r.comparison(&b, c)
		for _, p := range plots {
			name := fmt.Sprintf("%s-%s.svg", c.underlay.key, p.name)
			if err := os.WriteFile(filepath.Join(dir, name), p.svg(r.systems, c), 0o644); err != nil {
				return err
			}
			fmt.Fprintf(&b, "\n![%s](%s)\n", p.title, name)
		}
	}
	r.promised(&b)
	r.listParts(&b)
	b.WriteString("\n## Beside this\n\n- [Thousands of peers](peers.md): memory, CPU and throughput (`make peers`); [little memory, one processor](small.md) (`make small`).\n" +
		"- No speed is bought with correctness: `go test ./test/integrity -gb 1` carries 1 GB in every mode and compares hashes, also while sessions are renewed, ends move,\n" +
		"  and strangers replay and flood; `go test ./overlay/engine -run UnderLoad` does the same in virtual time and sees every counter.\n")
	if err := os.WriteFile(filepath.Join(dir, "README.md"), []byte(b.String()), 0o644); err != nil {
		return err
	}
	for k, v := range last {
		if _, measured := ratios[k]; !measured {
			ratios[k] = v // a run of some of the systems forgets nothing of the others
		}
	}
	if err := writeRatios(record, ratios); err != nil {
		return err
	}
	fmt.Println("against the last recorded run:", verdict)
	return nil
}

func (r *report) comparison(b *strings.Builder, c comparison) {
	fmt.Fprintf(b, "\n## %s\n\n|", c.underlay.title)
	for _, m := range columns {
		fmt.Fprintf(b, " | %s", m.title)
	}
	b.WriteString(" |\n|---|" + strings.Repeat("---:|", len(columns)) + "\n")
	for _, s := range r.systems {
		fmt.Fprintf(b, "| %s", s)
		for _, m := range columns {
			f, ok := c.table[s][m.key]
			if !ok {
				b.WriteString(" | –")
				continue
			}
			fmt.Fprintf(b, " | "+m.format+" ("+m.format+"–"+m.format+")", f.median*m.scale, f.low*m.scale, f.high*m.scale)
			if x, ok := c.table.ratio(s, reference, m.key); ok && s != reference {
				fmt.Fprintf(b, " **%.2f**", x)
			}
		}
		b.WriteString(" |\n")
	}
	b.WriteString("\nIn bold: the ratio to wireguard-go.\n")
}

// promised says which of the goals this run reached.
func (r *report) promised(b *strings.Builder) {
	b.WriteString("\n## What we aim at\n\n| underlay | | against | figure | aim | here | |\n|---|---|---|---|---:|---:|---|\n")
	for _, g := range goals {
		for _, c := range r.tables {
			x, ok := c.table.ratio(g.system, g.to, g.metric)
			if c.underlay.key != g.underlay || !ok {
				continue
			}
			sign, reached := "≥", x >= g.ratio
			if g.atMost {
				sign, reached = "≤", x <= g.ratio
			}
			word := "not reached"
			if reached {
				word = "reached"
			}
			fmt.Fprintf(b, "| %s | %s | %s | %s | %s %.2f | %.2f | %s |\n", g.underlay, g.system, g.to, titleOf(g.metric), sign, g.ratio, x, word)
		}
	}
}

func titleOf(key string) string {
	for _, m := range columns {
		if m.key == key {
			return m.title
		}
	}
	return key
}

func (r *report) listParts(b *strings.Builder) {
	if len(r.parts) == 0 {
		return
	}
	fmt.Fprintf(b, "\n## Parts\n\n`go test -bench` in one process, the samples between two; medians of %d, in brackets lowest and highest.\n\n"+
		"| part | benchmark | ns/op | MB/s | allocations | besides |\n|---|---|---:|---:|---:|---|\n", r.rounds)
	for _, p := range r.parts {
		speed := ""
		if x := median(p.perSecond); x > 0 {
			speed = readable(x)
		}
		fmt.Fprintf(b, "| %s | %s | %s (%s–%s) | %s | %.0f | %s |\n", p.title, strings.TrimPrefix(p.name, "Benchmark"),
			readable(median(p.ns)), readable(slices.Min(p.ns)), readable(slices.Max(p.ns)), speed, p.allocs, p.others())
	}
}
