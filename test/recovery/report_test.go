package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/test/recovery/traffic"
)

// silent is a report of a silence on one way, with so many lost.
func silent(d time.Duration, lost int) traffic.Report {
	began := time.Unix(1_000_000, 0)
	return traffic.Report{Silence: [2]traffic.Silence{{From: began, To: began.Add(d)}, {From: began, To: began.Add(d / 2)}}, Lost: [2]int{lost, 0}}
}

func TestFail(t *testing.T) {
	row := &Row{Silence: time.Second, Path: api.PathDirect, Within: 3 * time.Second}
	strict := &Row{NoLoss: true}
	stood := silent(2*time.Second, 0)
	stood.Pause[0] = time.Second
	for name, test := range map[string]struct {
		result Result
		want   string
	}{
		"in time":       {Result{Row: row, Counted: silent(time.Second, 100), After: 3 * time.Second}, ""},
		"too long":      {Result{Row: row, Counted: silent(1100*time.Millisecond, 0)}, "silent for 1.1 s"},
		"never direct":  {Result{Row: row, After: never}, "not direct within 15s"},
		"late":          {Result{Row: row, After: 4 * time.Second}, "direct only after 4.0 s"},
		"stall":         {Result{Row: row, Counted: stood}, "silent for 2.0 s; the machine stood still for 1.0 s"},
		"stall in time": {Result{Row: &Row{Silence: 5 * time.Second}, Counted: stood}, ""},
		"lossless":      {Result{Row: strict, Whole: silent(time.Minute, 0), After: never}, ""},
		"loss":          {Result{Row: strict, Whole: silent(time.Millisecond, 1)}, "1 datagrams lost"},
		"no lab":        {Result{Row: strict, Trouble: "no lab"}, "no lab"},
	} {
		if got := test.result.Fail(); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

func TestWrite(t *testing.T) {
	row := &Row{What: "Roams", A: "symmetric", B: "public", Start: api.PathDirect, Silence: 1500 * time.Millisecond, Path: api.PathDirect, Within: 3 * time.Second, Counted: "it is there"}
	mark := time.Unix(1_000_000, 0)
	legs := []leg{{mark.Add(-time.Second), api.PathDirect, "1.2.3.4:5"}, {mark.Add(-100 * time.Millisecond), api.PathRelayTCP, "base1"}, {mark.Add(time.Second), api.PathDirect, "1.2.3.4:5"}}
	run := func(d time.Duration) Result {
		return Result{Row: row, Counted: silent(d, 7), Whole: silent(d+time.Second, 7), Mark: mark, Legs: [2][]leg{legs, legs[:1]}}
	}
	bad := &Row{What: "Breaks", A: "public", B: "public", NoLoss: true, Cause: "a | bug"}
	var b bytes.Buffer
	err := write(&b, []Line{
		{row, []Result{run(900 * time.Millisecond), run(100 * time.Millisecond), run(300 * time.Millisecond)}},
		{bad, []Result{{Row: bad, Trouble: "no\nlab"}}},
	}, 3)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| Roams; counts from when it is there | symmetric – public | 1.50 s, direct within 3.00 s | 0.30 | 0.90 | 1.30 | 7 + 0 | A: direct → TCP relay base1 (-0.1 s) → direct (1.0 s)<br>B: direct | pass |",
		"| Breaks | public – public | no loss | – | – | – | – | – | **FAIL**: no lab. Cause: a \\| bug |",
		"2 rows, 1 as required.",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, b.String())
		}
	}
}

func TestRows(t *testing.T) {
	seen := map[string]bool{}
	all := rows(200 * time.Second)
	for _, r := range all {
		switch {
		case seen[r.What]:
			t.Errorf("%q is there twice", r.What)
		case r.Start == "" || r.A == "" || r.B == "" || r.Do == nil || r.Watch == 0:
			t.Errorf("%q is not complete", r.What)
		case r.Within != 0 && r.Path == "":
			t.Errorf("%q: nothing to be reached in time", r.What)
		}
		seen[r.What] = true
	}
	if !slices.ContainsFunc(all, func(r Row) bool { return strings.Contains(r.What, "3m20s") }) {
		t.Error("the suspend is not as long as asked for")
	}
}
