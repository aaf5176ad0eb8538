package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// partsOf are the parts of the data path, and of what is above it, each with the benchmarks that measure it.
var partsOf = []struct{ title, pkg, what string }{
	{"engine, in one process", "./overlay/engine", "Superpacket|Packet|Outbound"},
	{"path look-up", "./overlay/engine", "Lookup"},
	{"path choice", "./overlay/path", "Train"},
	{"seal and open", "./overlay/wireguard", "Seal|Open|Window"},
	{"handshakes", "./overlay/wireguard", "Handshake|Gate"},
	{"TUN", "./overlay/tun", "."},
	{"UDP", "./overlay/underlay", "."},
	{"pacing", "./overlay/pace", "."},
	{"lanes", "./overlay/lane", "."},
	{"relay forwarding", "./overlay/base/server", "Forward|Table"},
	{"DDS samples end to end", "./test/integrity", "Samples"},
	{"looking at DDS traffic", "./dds/watch", "."},
	{"ROS messages", "./ros_pkg/interfaces", "."},
	{"RTPS", "./ros_pkg/rtps/machine", "."},
}

// part is one benchmark's result.
type part struct {
	title, name string
	ns          []float64
	perSecond   []float64 // MB/s, 0 if it moves no bytes
	allocs      float64
	more        map[string][]float64 // other figures that the benchmark reports, by unit
}

func median(list []float64) float64 {
	s := slices.Sorted(slices.Values(list))
	return s[len(s)/2]
}

var benchLine = regexp.MustCompile(`^(Benchmark\S+?)(?:-\d+)?\s+\d+\s+([\d.]+) ns/op(.*)$`)

// measureParts runs each benchmark so many times. A part without a benchmark is an error: it was renamed, or could not run here.
func measureParts(rounds int) (list []part, err error) {
	for _, p := range partsOf {
		fmt.Fprintf(os.Stderr, "bench: %s (%s)\n", p.title, p.pkg)
		out, err := exec.Command("go", "test", "-run", "^$", "-bench", p.what, "-benchmem", "-benchtime", "200ms", "-count", strconv.Itoa(rounds), p.pkg).CombinedOutput()
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
				list = append(list, part{title: p.title, name: m[1]})
				i = len(list) - 1 - first
			}
			x := &list[first+i]
			x.ns = append(x.ns, ns)
			x.perSecond = append(x.perSecond, column(m[3], "MB/s"))
			x.allocs = column(m[3], "allocs/op")
			x.add(m[3])
		}
		if len(list) == first {
			return nil, fmt.Errorf("no benchmark of %s is called %q, or none can run here:\n%s", p.pkg, p.what, out)
		}
	}
	return list, nil
}

// add takes the figures that not every benchmark has.
func (p *part) add(line string) {
	f := strings.Fields(line)
	for i := 0; i+1 < len(f); i += 2 {
		v, err := strconv.ParseFloat(f[i], 64)
		if unit := f[i+1]; err == nil && unit != "MB/s" && unit != "B/op" && unit != "allocs/op" {
			if p.more == nil {
				p.more = map[string][]float64{}
			}
			p.more[unit] = append(p.more[unit], v)
		}
	}
}

// others are the medians of those figures, as "0.83 ratio, 1200 ns/packet".
func (p *part) others() string {
	var list []string
	for _, unit := range slices.Sorted(maps.Keys(p.more)) {
		list = append(list, readable(median(p.more[unit]))+" "+unit)
	}
	return strings.Join(list, ", ")
}

// readable writes three digits at least and no exponent.
func readable(v float64) string {
	switch {
	case v >= 100 || v == 0:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
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
