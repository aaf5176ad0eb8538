package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// partsOf are the packages whose benchmarks are the parts of the data path, and of the ROS side.
var partsOf = []struct{ pkg, what string }{
	{"./overlay/wireguard", "."},
	{"./overlay/engine", "."},
	{"./overlay/tun", "."},
	{"./overlay/underlay", "."},
	{"./overlay/pace", "."},
	{"./overlay/lane", "."},
	{"./overlay/base/server", "Forward"},
	{"./dds/watch", "."},
	{"./ros_pkg/cdr", "."},
	{"./ros_pkg/rtps/machine", "."},
}

// part is one benchmark's result.
type part struct {
	pkg, name string
	ns        []float64
	perSecond float64 // MB/s, 0 if it moves no bytes
	allocs    float64
}

func (p part) median() float64 {
	s := slices.Clone(p.ns)
	slices.Sort(s)
	return s[len(s)/2]
}

var benchLine = regexp.MustCompile(`^(Benchmark\S+?)(?:-\d+)?\s+\d+\s+([\d.]+) ns/op(.*)$`)

// measureParts runs the benchmarks three times each.
func measureParts() (list []part, err error) {
	for _, p := range partsOf {
		if _, err := os.Stat(p.pkg); err != nil {
			continue
		}
		fmt.Fprintln(os.Stderr, "bench: parts of", p.pkg)
		out, err := exec.Command("go", "test", "-run", "^$", "-bench", p.what, "-benchmem", "-benchtime", "200ms", "-count", "3", p.pkg).CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("benchmarks of %s: %w\n%s", p.pkg, err, out)
		}
		first := len(list)
		for line := range bytes.Lines(out) {
			m := benchLine.FindStringSubmatch(strings.TrimSpace(string(line)))
			if m == nil {
				continue
			}
			ns, _ := strconv.ParseFloat(m[2], 64)
			i := slices.IndexFunc(list[first:], func(x part) bool { return x.name == m[1] })
			if i < 0 {
				list = append(list, part{pkg: p.pkg, name: m[1]})
				i = len(list) - 1 - first
			}
			x := &list[first+i]
			x.ns = append(x.ns, ns)
			x.perSecond = max(x.perSecond, column(m[3], "MB/s"))
			x.allocs = column(m[3], "allocs/op")
		}
	}
	return list, nil
}

// column finds the number before a unit.
func column(line, unit string) float64 {
	f := strings.Fields(line)
	if i := slices.Index(f, unit); i > 0 {
		v, _ := strconv.ParseFloat(f[i-1], 64)
		return v
	}
	return 0
}
