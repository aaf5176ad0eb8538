// Command rosbench measures ros_pkg/rtps against Cyclone DDS: the same samples between two programs, in turns, on one host and between two.
// It leaves nothing behind.
package main

import (
	"context"
	"embed"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

//go:embed build.sh peers
var sources embed.FS

func main() {
	if len(os.Args) > 1 && os.Args[1] == peerCommand {
		os.Exit(peerMain(os.Args[2:]))
	}
	lab.Enter()
	m := measurement{}
	flag.IntVar(&m.rounds, "rounds", 5, "how often each figure is measured, in turns")
	flag.DurationVar(&m.span, "span", time.Second, "how long samples are written without waiting")
	flag.IntVar(&m.trips, "trips", 4000, "round trips of small samples; a quarter of that of large ones")
	flag.StringVar(&m.out, "o", "", "the file to write; empty = standard output")
	flag.StringVar(&m.profile, "profile", "", "folder for CPU profiles of our side")
	flag.StringVar(&m.only, "only", "", "part of the name of the measurements to make, like hnet-hnet-64-near-latency; empty = all")
	flag.BoolVar(&m.counters, "counters", false, "log the counters of our side after each measurement")
	flag.BoolVar(&m.noMemory, "no-memory", false, "leave memory out")
	flag.Parse()
	if why := lab.Missing(); why != "" {
		fmt.Fprintln(os.Stderr, "rosbench: network namespaces cannot be made here:", why)
		os.Exit(1)
	}
	cyclone, err := build()
	if err != nil {
		fmt.Fprintln(os.Stderr, "rosbench:", err)
		os.Exit(1)
	}
	m.cyclone = cyclone
	os.Exit(lab.Program("rosbench", m.run))
}

// build builds the peer on Cyclone DDS in the user's cache folder, unless it is there already.
func build() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	folder := filepath.Join(cache, "hnet_bridge", "rosbench")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", err
	}
	src, err := os.MkdirTemp("", "hnet-rosbench-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(src)
	if err := os.CopyFS(src, sources); err != nil {
		return "", err
	}
	if out, err := exec.Command("sh", filepath.Join(src, "build.sh"), folder).CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, strings.TrimSpace(string(out)))
	}
	return filepath.Join(folder, "cyclone"), nil
}

type measurement struct {
	rounds, trips      int
	span               time.Duration
	out, cyclone       string
	profile            string
	only               string
	noMemory, counters bool
	self               string
	one, here, there   *lab.Host
	profiles           int
	cells              map[key]*cell
}

// vendors of the two sides: who asks or writes, and who answers or reads.
var pairs = [][2]string{{"hnet", "hnet"}, {"cyclone", "cyclone"}, {"hnet", "cyclone"}, {"cyclone", "hnet"}}

var sizes = []int{64, 64 << 10}

// cell is what is measured of one pair, size and place, round by round.
type cell struct {
	p50, p99, askCPU, answerCPU []float64 // microseconds
	rate, writeCPU, readCPU     []float64 // samples per second; microseconds
	lost                        int
}

type key struct {
	pair [2]string
	size int
	far  bool
}

func (k key) String() string {
	place := "near"
	if k.far {
		place = "far"
	}
	return fmt.Sprintf("%s-%s-%d-%s", k.pair[0], k.pair[1], k.size, place)
}

const patience = 60 * time.Second

// profile of Cyclone DDS for what leaves the host: that of dds/profile, which an overlay of MTU 1280 needs.
const farProfile = `<CycloneDDS><Domain><General><MaxMessageSize>1200B</MaxMessageSize><FragmentSize>1100B</FragmentSize></General></Domain></CycloneDDS>`

func (m *measurement) run(t lab.TB) {
	var err error
	if m.self, err = os.Executable(); err != nil {
		t.Fatalf("%v", err)
	}
	l := lab.New(t)
	m.one, m.here, m.there = l.Host("one"), l.Host("here"), l.Host("there")
	l.LAN(lab.Link{}, m.one)
	l.LAN(lab.Link{}, m.here, m.there)
	cells := make(map[key]*cell)
	m.cells = cells
	for round := range m.rounds {
		for _, far := range []bool{false, true} {
			for _, size := range sizes {
				for _, pair := range pairs {
					k := key{pair, size, far}
					if cells[k] == nil {
						cells[k] = &cell{}
					}
					if name := k.String(); strings.Contains(name+"-latency", m.only) {
						m.latency(t, k, cells[k])
					}
					if name := k.String(); strings.Contains(name+"-flow", m.only) {
						m.flow(t, k, cells[k])
					}
				}
			}
		}
		t.Logf("round %d of %d done", round+1, m.rounds)
	}
	var memory []use
	if !m.noMemory {
		memory = m.memory(t)
	}
	m.report(t, cells, memory)
}

func (m *measurement) start(t lab.TB, h *lab.Host, vendor string, far bool, args ...string) *lab.Process {
	program := m.cyclone
	if vendor == "hnet" {
		program = m.self
		args = append([]string{peerCommand}, args...)
		if m.counters {
			args = append(args, "--counters")
		}
		if m.profile != "" {
			m.profiles++
			args = append(args, "--profile", filepath.Join(m.profile, fmt.Sprintf("%s-%s-%d-far_%v.pprof", args[1], strings.Join(args[2:], ""), m.profiles, far)))
		}
	}
	cmd := h.Command(context.Background(), program, args...)
	cmd.Env = os.Environ()
	if far {
		cmd.Env = append(cmd.Env, "CYCLONEDDS_URI="+farProfile)
	}
	return h.StartCmd(t, cmd)
}

func (m *measurement) hosts(far bool) (a, b *lab.Host) {
	if far {
		return m.here, m.there
	}
	return m.one, m.one
}

func scan(t lab.TB, p *lab.Process, pattern, format string, to ...any) {
	line := p.WaitLine(pattern, patience)
	if _, err := fmt.Sscanf(line, format, to...); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
}

func (m *measurement) latency(t lab.TB, k key, c *cell) {
	trips := m.trips
	if k.size > 1000 {
		trips /= 4
	}
	a, b := m.hosts(k.far)
	args := []string{"--size", fmt.Sprint(k.size), "--count", fmt.Sprint(trips), "--warm", fmt.Sprint(trips / 10)}
	answers := m.start(t, b, k.pair[1], k.far, append([]string{"pong"}, args...)...)
	asks := m.start(t, a, k.pair[0], k.far, append([]string{"ping"}, args...)...)
	var p50, p99, ask, answer float64
	scan(t, asks, `^rtt `, "rtt %f %f", &p50, &p99)
	scan(t, asks, `^cpu `, "cpu %f", &ask)
	scan(t, answers, `^cpu `, "cpu %f", &answer)
	c.p50, c.p99 = append(c.p50, p50/1e3), append(c.p99, p99/1e3)
	c.askCPU, c.answerCPU = append(c.askCPU, ask/1e3/float64(trips)), append(c.answerCPU, answer/1e3/float64(trips))
	m.end(t, k, asks, answers)
}

func (m *measurement) end(t lab.TB, k key, both ...*lab.Process) {
	for _, p := range both {
		p.Wait(patience)
		if m.counters {
			t.Logf("%v: %s", k, p.Output())
		}
	}
}

func (m *measurement) flow(t lab.TB, k key, c *cell) {
	a, b := m.hosts(k.far)
	args := []string{"--size", fmt.Sprint(k.size), "--seconds", fmt.Sprint(m.span.Seconds()), "--warm", "50"}
	reads := m.start(t, b, k.pair[1], k.far, append([]string{"sub"}, args...)...)
	writes := m.start(t, a, k.pair[0], k.far, append([]string{"pub"}, args...)...)
	var got, written int
	var took, write, read float64
	scan(t, writes, `^cpu `, "cpu %f", &write)
	scan(t, reads, `^got `, "got %d of %d in %f", &got, &written, &took)
	scan(t, reads, `^cpu `, "cpu %f", &read)
	c.rate = append(c.rate, float64(got)/took*1e9)
	c.writeCPU, c.readCPU = append(c.writeCPU, write/1e3/float64(got)), append(c.readCPU, read/1e3/float64(got))
	c.lost += written - got
	m.end(t, k, writes, reads)
}

// use is the memory of a participant.
type use struct {
	vendor        string
	before, after float64 // KiB, resident
}

const manyEndpoints = 1000

// memory measures what 1,000 endpoints of another host cost a participant that has nothing to do with them.
func (m *measurement) memory(t lab.TB) []use {
	l := []use{{vendor: "hnet"}, {vendor: "cyclone"}}
	var watches []*lab.Process
	for i := range l {
		p := m.start(t, m.here, l[i].vendor, true, "watch")
		p.WaitLine("^ready$", patience)
		watches = append(watches, p)
	}
	time.Sleep(2 * time.Second)
	for i := range l {
		l[i].before = resident(t, watches[i])
	}
	many := m.start(t, m.there, "hnet", true, "many", "--count", fmt.Sprint(manyEndpoints/2))
	many.WaitLine("^ready$", patience)
	// Until nothing changes any more.
	last := -1.0
	for sum := 0.0; sum != last; {
		last, sum = sum, 0
		time.Sleep(2 * time.Second)
		for i := range l {
			l[i].after = resident(t, watches[i])
			sum += l[i].after
		}
	}
	many.Stop()
	for _, p := range watches {
		p.Stop()
	}
	return l
}

func resident(t lab.TB, p *lab.Process) float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		t.Fatalf("%v", err)
	}
	for line := range strings.Lines(string(b)) {
		var kib float64
		if n, _ := fmt.Sscanf(line, "VmRSS: %f kB", &kib); n == 1 {
			return kib
		}
	}
	t.Fatalf("%v", errors.New("no VmRSS"))
	return 0
}
