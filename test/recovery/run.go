package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
	"github.com/hnet-robotics/hnet_bridge/test/packets"
	"github.com/hnet-robotics/hnet_bridge/test/recovery/traffic"
)

// Result is what one run of a row brought.
type Result struct {
	Row     *Row
	Trouble string         // why it could not be tried
	Whole   traffic.Report // since it began
	Counted traffic.Report // since traffic was possible again
	After   time.Duration  // both robots took the row's path from then on; 0 = from the beginning, never = not
	Legs    [2][]leg       // since then; the first is the one before
	Again   int            // so often it was tried before, with the machine standing still
	Seen    string         // something more of how it is in the end
	Mark    time.Time      // traffic was possible again
}

const never = time.Duration(1<<63 - 1)

// A run that is not as required, and in which the senders themselves paused for stall, is tried again, so often in all.
const (
	stall        = 250 * time.Millisecond
	disturbances = 3
)

// Disturbed tells that the machine stood still for a while, so that the run says little.
func (r Result) Disturbed() bool {
	return r.Trouble == "" && max(r.Counted.Pause[0], r.Counted.Pause[1]) > stall
}

// Fail tells what is not as required, nothing if all is.
func (r Result) Fail() string {
	row := r.Row
	if r.Trouble != "" {
		return r.Trouble
	}
	var why []string
	if s := r.Counted.Worst(); row.Silence != 0 && s > row.Silence {
		why = append(why, fmt.Sprintf("silent for %.1f s", s.Seconds()))
	}
	if n := r.Whole.AllLost(); row.NoLoss && n > 0 {
		why = append(why, fmt.Sprintf("%d datagrams lost", n))
	}
	switch {
	case row.Path == "":
	case r.After == never:
		why = append(why, fmt.Sprintf("not %s within %v", row.Path, row.limit()))
	case row.Within != 0 && r.After > row.Within:
		why = append(why, fmt.Sprintf("%s only after %.1f s", row.Path, r.After.Seconds()))
	}
	if len(why) > 0 && r.Disturbed() {
		why = append(why, fmt.Sprintf("the machine stood still for %.1f s", max(r.Counted.Pause[0], r.Counted.Pause[1]).Seconds()))
	}
	return strings.Join(why, "; ")
}

// try runs a row once in a lab of its own.
func try(t lab.TB, row *Row, result *Result) {
	*result = Result{Row: row, After: never}
	r := &lab.Recorder{TB: t}
	defer func() { result.Trouble = r.Trouble() }()
	w := deploy(r, row)
	if trace {
		for _, x := range []*robot{w.a, w.b} {
			for _, dev := range []string{"lan0", "lan1"} {
				if _, err := x.Netlink().LinkByName(dev); err == nil {
					c := x.Capture(r, dev)
					defer func() {
						r.Logf("packets of %s %s\n%s", x.Name(), dev, packets.UDP(c.Stop(), result.Mark, maxTraced, ofTraffic))
					}()
				}
			}
		}
	}
	w.began = time.Now()
	if result.Mark = row.Do(w); result.Mark.IsZero() {
		result.Mark = w.began
	}
	for {
		time.Sleep(5 * poll)
		since := time.Since(result.Mark)
		reached := row.Path == "" || w.onPath(row, result.Mark) != never
		if since > row.Watch && reached || since > row.limit() {
			break
		}
	}
	if row.Path != "" {
		time.Sleep(settleAfter)
		result.After = w.onPath(row, result.Mark)
	}
	if row.Seen != nil {
		result.Seen = row.Seen(w)
	}
	if trace && row.Path != "" && result.After == never {
		for _, x := range []*robot{w.a, w.b} {
			r.Logf("%s %s", x.Name(), x.Hnet("--json", "peers"))
		}
	}
	// What was sent last may still be on its way.
	end := time.Now()
	time.Sleep(500 * time.Millisecond)
	result.Whole = w.stream.Report(w.began, end)
	result.Counted = w.stream.Report(result.Mark, end)
	result.Legs = [2][]leg{w.a.log.since(w.began), w.b.log.since(w.began)}
}

// onPath is how long after mark both robots' packets took the row's path for good, and traffic flowed both ways: never if they do not now.
func (w *world) onPath(row *Row, mark time.Time) time.Duration {
	var at time.Time
	for _, x := range w.on(row.Path) {
		from := x.log.since(w.began)
		last := len(from) - 1
		if last < 0 || from[last].path != row.Path {
			return never
		}
		for last > 0 && from[last-1].path == row.Path {
			last--
		}
		if s := from[last].at; s.After(at) {
			at = s
		}
	}
	if r := w.stream.Report(mark, time.Now()); r.Worst() > 200*time.Millisecond {
		for _, s := range r.Silence {
			if s.For() > 200*time.Millisecond && s.To.After(at) {
				at = s.To
			}
		}
	}
	return max(0, at.Sub(mark))
}

// story tells the legs of a run in words.
func story(all []leg, began time.Time) string {
	var b strings.Builder
	for i, l := range all {
		switch {
		case i == 0:
			b.WriteString(l.String())
		case l.path == all[i-1].path && l.path == api.PathDirect:
			fmt.Fprintf(&b, " → direct elsewhere (%.1f s)", l.at.Sub(began).Seconds())
		default:
			fmt.Fprintf(&b, " → %v (%.1f s)", l, l.at.Sub(began).Seconds())
		}
	}
	return b.String()
}
