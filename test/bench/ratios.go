package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
)

// key names a ratio: underlay, system and metric, against wireguard-go.
type key struct{ underlay, system, metric string }

// ratios are the figures of a run that mean something in another run.
func (r *report) ratios() map[key]float64 {
	m := map[key]float64{}
	for _, c := range r.tables {
		for _, s := range r.systems {
			if s == reference || s == "bare" {
				continue
			}
			for _, x := range columns {
				if v, ok := c.table.ratio(s, reference, x.key); ok {
					m[key{c.underlay.key, s, x.key}] = v
				}
			}
		}
	}
	return m
}

func readRatios(path string) (map[key]float64, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	m := map[key]float64{}
	for i, line := range strings.Split(strings.TrimSpace(string(b)), "\n") {
		c := strings.Split(line, "\t")
		if len(c) != 4 {
			return nil, fmt.Errorf("%s:%d: %d columns, want 4", path, i+1, len(c))
		}
		v, err := strconv.ParseFloat(c[3], 64)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, i+1, err)
		}
		m[key{c[0], c[1], c[2]}] = v
	}
	return m, nil
}

func writeRatios(path string, m map[key]float64) error {
	var lines []string
	for k, v := range m {
		lines = append(lines, fmt.Sprintf("%s\t%s\t%s\t%.3f", k.underlay, k.system, k.metric, v))
	}
	slices.Sort(lines)
	return os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o644)
}

// noise is how far a ratio moves from run to run without any change of ours.
const noise = 0.15

// higherIsBetter names the metrics of which that is so.
var higherIsBetter = map[string]bool{"tcp1_mbps": true, "udp_kpps": true}

// compare says in one line which ratios are worse, or better, than the last recorded by more than the noise, and which of these systems' have gone.
func compare(last, now map[key]float64, systems []string) string {
	if len(last) == 0 {
		return "there is none"
	}
	var worse, better []string
	for k, v := range now {
		was, ok := last[k]
		if !ok || was == 0 {
			continue
		}
		change := v/was - 1
		if !higherIsBetter[k.metric] {
			change = -change
		}
		text := fmt.Sprintf("%s %s %s %.2f → %.2f", k.underlay, k.system, k.metric, was, v)
		if change < -noise {
			worse = append(worse, text)
		} else if change > noise {
			better = append(better, text)
		}
	}
	for k := range last {
		if _, measured := now[k]; !measured && slices.Contains(systems, k.system) {
			worse = append(worse, fmt.Sprintf("%s %s %s is missing", k.underlay, k.system, k.metric))
		}
	}
	slices.Sort(worse)
	slices.Sort(better)
	switch {
	case len(worse) > 0:
		return "WORSE: " + strings.Join(worse, "; ")
	case len(better) > 0:
		return "better: " + strings.Join(better, "; ")
	}
	return fmt.Sprintf("no ratio moved by more than %.0f %%", 100*noise)
}
