package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// report is everything that was measured.
type report struct {
	window    time.Duration
	trials    int
	used      []used
	recovered []recovery
}

// used is what one mode cost.
type used struct {
	mode       mode
	usage      usage
	registered int // Bases
}

// recovery is how long a peer's pings went unanswered after a failure, by mode.
type recovery struct {
	what  string
	times [][]time.Duration
}

const day = 24 * time.Hour

// perDay is in MB, 1,000,000 bytes.
func (r *report) perDay(bytes int) float64 {
	return float64(bytes) * float64(day) / float64(r.window) / 1e6
}

// ok reports whether every mode keeps its limit, counting all bytes.
func (r *report) ok() bool {
	for _, u := range r.used {
		if all, _ := u.usage.total(); r.perDay(all.bytes) > u.mode.limit {
			return false
		}
	}
	return len(r.used) == len(modes)
}

const intro = `# What an idle node costs

One node behind a port-restricted NAT, two Bases, five peers on the node's whitelist and it on theirs, all registered; every peer has talked to the
node once, and then nobody says anything. All IP packets on the node's uplink are counted, both ways, with their IP headers. Made by ` + "`make idle`" + `
with the real hnetd and hnet_base in network namespaces; it fails if a day costs more than it may.

`

const rarely = `
Not in the window, or only by chance: each hour the NAT is measured anew and the other Bases are asked whether they are nearer (every 6 hours with
` + "`low_data`" + `), each 12 hours the contact record is renewed and passed on to the peers. That is an estimated 0.02 to 0.05 MB a day, not measured here. A router that maps
no port is asked more often in the first quarter of an hour than later, so that its share is too high here.
`

func (r *report) markdown() string {
	var b strings.Builder
	b.WriteString(intro)
	fmt.Fprintf(&b, "Counted for %v and extrapolated to a day; 1 MB = 1,000,000 bytes.\n\n", r.window)
	b.WriteString("| configuration | Bases kept warm | packets | bytes | **MB a day** | of it beyond the link | at most | verdict |\n|---|---:|---:|---:|---:|---:|---:|---|\n")
	for _, u := range r.used {
		all, outside := u.usage.total()
		verdict := "pass"
		if r.perDay(all.bytes) > u.mode.limit {
			verdict = "**FAIL**"
		}
		fmt.Fprintf(&b, "| `%s` | %d | %d | %d | **%.2f** | %.2f | %.0f | %s |\n", u.mode.name, u.registered, all.packets, all.bytes,
			r.perDay(all.bytes), r.perDay(outside.bytes), u.mode.limit, verdict)
	}
	b.WriteString("\n## What it is\n\nBytes out + in during the window.\n\n| |")
	for _, u := range r.used {
		fmt.Fprintf(&b, " `%s` |", u.mode.name)
	}
	b.WriteString("\n|---|" + strings.Repeat("---:|", len(r.used)) + "\n")
	for _, k := range kinds {
		any := false
		row := "| " + k + " |"
		for _, u := range r.used {
			out, in := u.usage.out[k], u.usage.in[k]
			any = any || out.packets+in.packets > 0
			row += fmt.Sprintf(" %d + %d |", out.bytes, in.bytes)
		}
		if any {
			b.WriteString(row + "\n")
		}
	}
	b.WriteString(rarely)
	if r.trials > 0 {
		r.cost(&b)
	}
	return b.String()
}

// cost is what low_data costs when something fails.
func (r *report) cost(b *strings.Builder) {
	fmt.Fprintf(b, `
## What low_data costs

An idle node learns only by its next keepalive that its NAT or its Base has forgotten it, and until then nobody reaches it: every 25 s by default, every
55 s with `+"`low_data: true`"+` (both ±10 %%), which moreover keeps one Base warm in place of two. The failure happens at the worst moment, right after a keepalive of the
`+"`low_data`"+` node; that moment is anywhere within the default node's interval. From then on a peer pings that has not talked to the node for minutes, five times a
second; what counts is the first answer. Seconds, of each of %d trials.

| the node is idle and |`, r.trials)
	for _, m := range modes {
		fmt.Fprintf(b, " `%s` |", m.name)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(modes)) + "\n")
	for _, x := range r.recovered {
		fmt.Fprintf(b, "| %s |", x.what)
		for _, times := range x.times {
			all := make([]string, 0, len(times))
			for _, d := range slices.Sorted(slices.Values(times)) {
				all = append(all, seconds(d))
			}
			fmt.Fprintf(b, " %s |", strings.Join(all, ", "))
		}
		b.WriteByte('\n')
	}
	b.WriteString("\nWhile traffic flows both notice within seconds.\n")
}

func seconds(d time.Duration) string {
	if d >= recoveryLimit {
		return fmt.Sprintf("never within %.0f", recoveryLimit.Seconds())
	}
	return fmt.Sprintf("%.1f", d.Seconds())
}
