// Command manypeers measures what peers cost the real hnetd: whitelists of up to 10,000 peers beside one that names a single peer, and up to 1,000
// peers with sessions. It writes docs/performance/peers.md and the curves beside it, and leaves nothing else behind.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// Sizes of the whitelists that are compared; the first is what the others are compared with.
var knownCounts = []int{1, 10, 100, 1000, 10_000}

// Numbers of peers with a session.
var activeCounts = []int{1, 10, 100, 1000}

func main() {
	lab.Enter()
	out := flag.String("o", filepath.Join(fleet.Root(), "docs", "performance", "peers.md"), "`file` to write, with plots beside it; empty: none")
	var s spans
	flag.IntVar(&s.rounds, "rounds", 3, "how often throughput, start and commands are measured, in turns")
	flag.DurationVar(&s.stream, "span", 2*time.Second, "how long each measurement of throughput takes")
	flag.DurationVar(&s.idle, "idle", 20*time.Second, "how long idle daemons are watched")
	flag.DurationVar(&s.active, "active", 15*time.Second, "how long daemons with sessions are watched")
	flag.StringVar(&extra, "config", "", "more `lines` of configuration for all daemons")
	little := flag.String("small", "", "`file` to write what little memory and a single processor do, instead of all else; - is standard output")
	part := flag.String("part", "", "`known` or active alone; nothing is written then")
	counts := flag.String("counts", "", "`numbers` of peers, in place of those of each part; nothing is written then")
	flag.Parse()
	if *counts != "" {
		list, err := numbers(*counts)
		if err != nil {
			fmt.Fprintf(os.Stderr, "manypeers: -counts %s: %v\n", *counts, err)
			os.Exit(2)
		}
		knownCounts, activeCounts = list, list
	}
	if why := lab.Missing(); why != "" {
		fmt.Fprintln(os.Stderr, "manypeers: network namespaces cannot be made here:", why)
		os.Exit(1)
	}
	if *little != "" {
		var rows []*small
		if code := lab.Program("manypeers", func(t lab.TB) { rows = measureSmall(t, s) }); code != 0 {
			os.Exit(code)
		}
		if err := writeSmall(*little, rows, s); err != nil {
			fmt.Fprintln(os.Stderr, "manypeers:", err)
			os.Exit(1)
		}
		return
	}
	r := report{spans: s}
	if code := lab.Program("manypeers", func(t lab.TB) {
		if *part != "active" {
			r.known = measureKnown(t, s)
		}
		if *part != "known" {
			r.active = measureActive(t, s)
		}
	}); code != 0 {
		os.Exit(code)
	}
	if *part != "" || *counts != "" {
		return // told by the log
	}
	fmt.Print(r.markdown())
	if *out != "" {
		if err := r.write(*out); err != nil {
			fmt.Fprintln(os.Stderr, "manypeers:", err)
			os.Exit(1)
		}
	}
}

// numbers reads positive numbers between commas.
func numbers(s string) (list []int, err error) {
	for word := range strings.SplitSeq(s, ",") {
		n, err := strconv.Atoi(word)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%q is no number of peers", word)
		}
		list = append(list, n)
	}
	return list, nil
}

// spans is how long and how often things are measured.
type spans struct {
	rounds               int
	stream, idle, active time.Duration
}
