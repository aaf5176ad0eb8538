// Command recovery makes everything happen to two robots that happens to robots in the field, with the real programs and traffic flowing, and
// writes docs/recovery.md: how long the traffic was silent. It exits 1 if a row misses its target. Nothing is left behind.
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
	"github.com/hnet-robotics/hnet_bridge/test/recovery/skew"
)

// logLevel is that of the daemons.
var logLevel = "info"

// trace has the robots' packets logged.
var trace bool

func main() {
	skew.Main()
	lab.Enter()
	out := flag.String("o", filepath.Join(fleet.Root(), "docs", "recovery.md"), "`file` to write; empty: none")
	only := flag.String("run", "", "try only rows that match this `regexp`; then nothing is written")
	count := flag.Int("count", 3, "how often each row is tried")
	parallel := flag.Int("parallel", 3, "runs at once")
	long := flag.Bool("long", false, "suspend for 10 minutes instead of 200 s")
	verbose := flag.Bool("v", false, "the programs' output of runs that are not as required")
	flag.BoolVar(&trace, "trace", trace, "the robots' packets but for the traffic's")
	flag.StringVar(&logLevel, "log", logLevel, "hnetd's log `level`, for -v")
	flag.Parse()
	if why := lab.Missing(); why != "" {
		fmt.Fprintln(os.Stderr, "recovery: no network namespaces here:", why)
		os.Exit(1)
	}
	match, err := regexp.Compile(*only)
	if err != nil {
		fmt.Fprintln(os.Stderr, "recovery:", err)
		os.Exit(2)
	}
	// Once, before several labs want the programs at the same time.
	if code := lab.Program("build", func(t lab.TB) { fleet.Binary(t, "hnetd") }); code != 0 {
		os.Exit(code)
	}
	suspend := 200 * time.Second
	if *long {
		suspend = 10 * time.Minute
	}
	var chosen []Row
	for _, r := range rows(suspend) {
		if r.Clock && !skew.Supported {
			fmt.Printf("%s: left out, clocks cannot be set on this processor\n", r.What)
			continue
		}
		if match.MatchString(r.What) {
			chosen = append(chosen, r)
		}
	}
	began := time.Now()
	lines := tryAll(chosen, max(*count, 1), max(*parallel, 1), *verbose)
	failed := 0
	for _, l := range lines {
		if l.Fail() != "" {
			failed++
		}
	}
	fmt.Printf("%d rows in %v, %d not as required\n", len(lines), time.Since(began).Round(time.Second), failed)
	if *only == "" && *out != "" {
		var b bytes.Buffer
		err := write(&b, lines, *count)
		if err == nil {
			err = os.WriteFile(*out, b.Bytes(), 0o644)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "recovery:", err)
			os.Exit(1)
		}
	}
	if failed > 0 {
		os.Exit(1)
	}
}

// tryAll tries the rows, several runs at once, and returns a line for each. The longest go first.
func tryAll(all []Row, count, parallel int, verbose bool) []Line {
	lines := make([]Line, len(all))
	type job struct{ row, run int }
	jobs := make(chan job)
	var wg sync.WaitGroup
	var print sync.Mutex
	for i := range lines {
		lines[i] = Line{Row: &all[i], Runs: make([]Result, count)}
	}
	for range parallel {
		wg.Go(func() {
			for j := range jobs {
				r := &lines[j.row].Runs[j.run]
				for n := range disturbances {
					if n > 0 && (r.Fail() == "" || !r.Disturbed()) {
						break
					}
					tryOnce(&all[j.row], r, verbose)
					r.Again = n
				}
				print.Lock()
				verdict := "pass"
				if why := r.Fail(); why != "" {
					verdict = "FAIL: " + why
				}
				fmt.Printf("%s\n  %s; silent %s s (A's from %.2f, B's from %.2f), path after %s; whole: %v\n  A %s\n  B %s\n", r.Row.What, verdict, seconds(r.Counted.Worst()),
					r.Counted.Silence[0].From.Sub(r.Mark).Seconds(), r.Counted.Silence[1].From.Sub(r.Mark).Seconds(), after(r.After), r.Whole,
					story(r.Legs[0], r.Mark), story(r.Legs[1], r.Mark))
				print.Unlock()
			}
		})
	}
	// The last rows take longest.
	for i := len(all) - 1; i >= 0; i-- {
		for run := range count {
			jobs <- job{i, run}
		}
	}
	close(jobs)
	wg.Wait()
	return lines
}

func tryOnce(row *Row, r *Result, verbose bool) {
	code := lab.Program(row.What, func(t lab.TB) {
		try(t, row, r)
		if verbose && r.Fail() != "" {
			t.Errorf("%s: %s", row.What, r.Fail())
		}
	})
	if code != 0 && r.Fail() == "" {
		r.Trouble = "the lab could not be cleaned up"
	}
}
