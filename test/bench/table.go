package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// reference is the system that ratios refer to.
const reference = "wggo"

// figure is what several rounds gave for one metric of one system.
type figure struct {
	median, low, high float64
	rounds            int
}

// table holds the figures by system and metric.
type table map[string]map[string]figure

// readTable reads the table.tsv of peers.sh.
func readTable(path string) (table, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	t := table{}
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		c := strings.Split(lines.Text(), "\t")
		if n == 1 {
			continue
		}
		if len(c) < 6 {
			return nil, fmt.Errorf("%s:%d: %d columns, want at least 6", path, n, len(c))
		}
		var v [4]float64
		for i := range v {
			if v[i], err = strconv.ParseFloat(c[2+i], 64); err != nil {
				return nil, fmt.Errorf("%s:%d: %w", path, n, err)
			}
		}
		if t[c[0]] == nil {
			t[c[0]] = map[string]figure{}
		}
		t[c[0]][c[1]] = figure{v[0], v[1], v[2], int(v[3])}
	}
	return t, lines.Err()
}

// ratio is a system's median over another's; ok is false if either is missing.
func (t table) ratio(system, to, metric string) (r float64, ok bool) {
	a, haveA := t[system][metric]
	b, haveB := t[to][metric]
	if !haveA || !haveB || b.median == 0 {
		return 0, false
	}
	return a.median / b.median, true
}
