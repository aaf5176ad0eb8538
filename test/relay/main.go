// Command relay measures what goes by a Base: between the same two robots, against what goes directly; and what hnet_base itself can do, against a
// program that forwards datagrams and nothing else. It leaves nothing behind.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/hnet-robotics/hnet_bridge/test/lab"
	"github.com/hnet-robotics/hnet_bridge/test/measure"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == forwardCommand {
		forward(os.Args[2:])
		return
	}
	lab.Enter()
	m := measurement{}
	flag.IntVar(&m.pairs, "pairs", 10, "how many pairs of spans are measured of each kind, in turns")
	flag.IntVar(&m.lives, "lives", 4, "how often hnet_base and what it is compared with are started")
	flag.DurationVar(&m.span, "span", 200*time.Millisecond, "how long each measurement of hnet_base alone takes")
	flag.DurationVar(&m.robotSpan, "robot-span", time.Second, "how long each measurement between robots takes")
	only := flag.String("only", "", "measure only this: robots, base or registrations; the other parts of the file stay as they are")
	out := flag.String("o", "", "the file in which the blocks robots, base and registrations are replaced; empty = standard output")
	flag.Parse()
	if why := lab.Missing(); why != "" {
		fmt.Fprintln(os.Stderr, "relay: network namespaces cannot be made here:", why)
		os.Exit(1)
	}
	os.Exit(lab.Program("relay", func(t lab.TB) {
		for _, part := range []struct {
			name string
			run  func(lab.TB) string
		}{{"robots", m.robots}, {"base", m.base}, {"registrations", registrations}} {
			if *only != "" && *only != part.name {
				continue
			}
			if err := measure.Block(*out, part.name, part.run(t)); err != nil {
				t.Fatalf("relay: %v", err)
			}
		}
	}))
}

type measurement struct {
	pairs, lives    int
	span, robotSpan time.Duration
}

// payload is the size of the UDP datagrams in bytes.
const payload = 1200

// row is a line of a table: what is looked at, against what it is compared with.
type row struct {
	name  string
	scale float64 // of a byte per second, in the unit that the name says
	of    [2][]measure.Sample
}

// compare measures both in turns.
func compare(r *row, pairs int, warmUp, span time.Duration, flows [2]measure.Flow, cpu [2]func() time.Duration) {
	side := func(i int) func() measure.Sample {
		flows[i].Pause()
		return func() measure.Sample { return measure.Span(flows[i], warmUp, span, cpu[i]) }
	}
	of := measure.Alternate(pairs, side(0), side(1))
	for i := range of {
		r.of[i] = append(r.of[i], of[i]...)
	}
}

// table writes rows; the median ratio is of neighbours, with its interval.
func table(rows []*row, compared, looked, processor string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| | %s | %s | ratio | %s: CPU of %s | %s |\n|---|---:|---:|---:|---:|---:|\n", compared, looked, compared, processor, looked)
	for _, r := range rows {
		rates := [2][]float64{measure.Rates(r.of[0]), measure.Rates(r.of[1])}
		ratios := measure.Ratios(rates[0], rates[1])
		low, high := measure.Interval(ratios)
		fmt.Fprintf(&b, "| %s | %.0f | %.0f | %.2f (%.2f to %.2f) | %.2f s/GB | %.2f s/GB |\n", r.name, measure.Median(rates[1])*r.scale, measure.Median(rates[0])*r.scale,
			measure.Median(ratios), low, high, measure.Median(measure.CPUs(r.of[1]))*1e9, measure.Median(measure.CPUs(r.of[0]))*1e9)
	}
	return b.String()
}
