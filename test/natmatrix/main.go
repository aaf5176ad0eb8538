// Command natmatrix tries every pair of the NATs and firewalls of package internet with the real programs and writes docs/nat-matrix.md. It
// exits 1 if a pair is not as required. Nothing is left behind.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

func main() {
	lab.Enter()
	out := flag.String("o", filepath.Join(fleet.Root(), "docs", "nat-matrix.md"), "`file` to write; empty: none")
	only := flag.String("run", "", "try only pairs that match this `regexp`, as in the table; then nothing is written")
	parallel := flag.Int("parallel", 4, "pairs at once")
	count := flag.Int("count", 1, "how often each pair is tried; with more than 1 nothing is written")
	verbose := flag.Bool("v", false, "the programs' output of pairs that are not as required")
	flag.StringVar(&logLevel, "log", logLevel, "hnetd's log `level`, for -v")
	flag.BoolVar(&trace, "trace", trace, "the robots' packets of pairs that are not as required")
	flag.Parse()
	if why := lab.Missing(); why != "" {
		fmt.Fprintln(os.Stderr, "natmatrix: no network namespaces here:", why)
		os.Exit(1)
	}
	match, err := regexp.Compile(*only)
	if err != nil {
		fmt.Fprintln(os.Stderr, "natmatrix:", err)
		os.Exit(2)
	}
	// Once, before several labs want the programs at the same time.
	if code := lab.Program("build", func(t lab.TB) { fleet.Binary(t, "hnetd") }); code != 0 {
		os.Exit(code)
	}
	var chosen []Pair
	for _, p := range pairs() {
		for range *count {
			if match.MatchString(p.String()) {
				chosen = append(chosen, p)
			}
		}
	}
	began := time.Now()
	results := tryAll(chosen, max(*parallel, 1), *verbose)
	failed := 0
	for _, r := range results {
		if r.Fail() != "" {
			failed++
		}
	}
	fmt.Printf("%d pairs in %v, %d not as required\n", len(results), time.Since(began).Round(time.Second), failed)
	if *only == "" && *count == 1 && *out != "" {
		var b bytes.Buffer
		err := write(&b, results)
		if err == nil {
			err = os.WriteFile(*out, b.Bytes(), 0o644)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "natmatrix:", err)
			os.Exit(1)
		}
	}
	if failed > 0 {
		os.Exit(1)
	}
}

// tryAll tries the pairs, several at once, and returns the results in the same order.
func tryAll(all []Pair, parallel int, verbose bool) []Result {
	results := make([]Result, len(all))
	next := make(chan int)
	var wg sync.WaitGroup
	var print sync.Mutex
	for range parallel {
		wg.Go(func() {
			for i := range next {
				r := &results[i]
				code := lab.Program(all[i].String(), func(t lab.TB) {
					try(t, all[i], r)
					if verbose && r.Fail() != "" {
						t.Errorf("%v: %s; behind %q and %q; the daemon says: %s", r.Pair, r.Fail(), r.NATA, r.NATB, r.Diagnosis)
					}
				})
				if code != 0 && r.Fail() == "" {
					r.Trouble = "the lab could not be cleaned up"
				}
				print.Lock()
				fmt.Printf("%-48s first %5s ms, direct %5s s, %-24s %s\n", r.Pair, first(*r), after(*r), paths(*r), r.Fail())
				print.Unlock()
			}
		})
	}
	for i := range all {
		next <- i
	}
	close(next)
	wg.Wait()
	return results
}
