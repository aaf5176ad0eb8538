package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hnet-robotics/hnet_bridge/test/dds"
	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

const (
	cyclone = "cyclone"
	fastdds = "fastdds"
)

// row is one case: what is sent, how, and over how lossy a link.
type row struct {
	vendor   string
	reliable bool
	size     int     // bytes of a sample
	rate     float64 // samples offered a second: a quarter to half of the link
	loss     float64
}

func (c row) String() string {
	qos := "best effort"
	if c.reliable {
		qos = "reliable"
	}
	return fmt.Sprintf("%s %s %s %g %%", c.vendor, qos, sizeName(c.size), 100*c.loss)
}

func sizeName(n int) string {
	if n >= 1_000_000 {
		return fmt.Sprintf("%d MB", n/1_000_000)
	}
	return fmt.Sprintf("%d kB", n/1000)
}

// cases are all rows; rate is the link's, in Mbit/s.
func cases(rate float64) (list []row) {
	for _, vendor := range []string{cyclone, fastdds} {
		for _, reliable := range []bool{true, false} {
			for _, s := range []struct {
				size int
				rate float64
			}{{100_000, 30}, {1_000_000, 5}, {6_000_000, 1}} {
				for _, loss := range []float64{0, 0.01, 0.03} {
					list = append(list, row{vendor, reliable, s.size, s.rate * rate / 100, loss})
				}
			}
		}
	}
	return list
}

// result is what came of one row with one profile.
type result struct {
	perSecond float64 // samples delivered a second while they were sent
	median    float64 // seconds from write to receipt, of those delivered; NaN if none was
	worst     float64 // the 95th percentile
	sent      float64 // bytes that left both hosts, for each byte delivered; +Inf if none was
	dropped   float64 // share of the packets for which some queue on the way had no room
	torn      float64 // share of the datagrams cut by IP that did not arrive whole; NaN if none was cut
	note      string
}

// measurement is one run of the program.
type measurement struct {
	link       lab.Link
	span       time.Duration
	rounds     int
	warm       bool // let the daemons find out first what the path carries
	cases      []row
	candidates string
	// configuration is hnetd's.
	configuration string
	wanted        *regexp.Regexp // profiles

	lan  *lab.LAN
	took time.Duration

	profiles map[string][]string         // names by vendor, in order
	results  map[row]map[string][]result // by profile
}

func (m *measurement) run(t lab.TB) {
	programs, err := dds.Build(context.Background())
	if err != nil {
		t.Fatalf("%v", err)
	}
	l := lab.New(t)
	ha, hb := l.Host("robot1"), l.Host("robot2")
	lan := l.LAN(lab.Link{}, ha, hb)
	m.lan = lan
	a, b := fleet.Start(t, ha, m.configuration), fleet.Start(t, hb, m.configuration)
	fleet.Trust(a, b)
	lab.Eventually(t, 20*time.Second, "a path", func() error {
		if _, code := a.TryHnet("ping", b.Address.String(), "-c", "1", "-W", "1s"); code != 0 {
			return fmt.Errorf("no answer")
		}
		return nil
	})
	m.profiles = m.write(t, a, b)
	m.results = make(map[row]map[string][]result)
	if m.warm {
		lan.Set(m.link)
		m.measure(t, programs, a, b, row{cyclone, true, bareSize, 5 * m.link.RateMbit / 100, 0}, ours)
	}
	total, done, began := 0, 0, time.Now()
	for _, c := range m.cases {
		m.results[c] = make(map[string][]result)
		total += m.rounds * (len(m.of(c, false)) + len(m.of(c, true)))
	}
	// The bare link comes last: to the daemons its traffic is somebody else's in the same queue, to which they give way for a while.
	for _, onBare := range []bool{false, true} {
		for _, c := range m.cases {
			link := m.link
			link.Loss = c.loss
			lan.Set(link)
			for range m.rounds {
				for _, p := range m.of(c, onBare) {
					r := m.measure(t, programs, a, b, c, p)
					m.results[c][p] = append(m.results[c][p], r)
					done++
					left := time.Since(began) / time.Duration(done) * time.Duration(total-done)
					fmt.Fprintf(os.Stderr, "%3d of %d, %v left: %s, %s: %.2f/s of %g, median %s, 95 %% %s, sent %s, dropped %s, torn %s; %s\n",
						done, total, left.Round(time.Second), c, p, r.perSecond, c.rate, number("%.0f ms", 1000*r.median), number("%.0f ms", 1000*r.worst), number("%.2f", r.sent),
						percent(r.dropped), percent(r.torn), r.note)
				}
			}
		}
	}
	m.took = time.Since(began)
}

// of are the profiles that a case is measured with, those on the bare link or the others.
func (m *measurement) of(c row, onBare bool) (names []string) {
	for _, p := range m.profiles[c.vendor] {
		if m.wanted.MatchString(p) && (p == bare) == onBare && (!onBare || c.size == bareSize) {
			names = append(names, p)
		}
	}
	return names
}

// depth is the history of writers and readers, as ROS has it by default.
const depth = "10"

func (m *measurement) measure(t lab.TB, programs dds.Programs, a, b *fleet.Robot, c row, profile string) result {
	program := programs.Cyclone
	if c.vendor == fastdds {
		program = programs.FastDDS
	}
	qos := "--best-effort"
	if c.reliable {
		qos = "--reliable"
	}
	last := m.span
	if !c.reliable {
		last += matching
	}
	count := max(3, int(c.rate*last.Seconds()))
	start := func(r *fleet.Robot, args ...string) *lab.Process {
		args = append(args, "--name", r.Name(), qos, "--depth", depth, "--times", "--size", fmt.Sprint(c.size), "--timeout", "0")
		cmd := r.Command(context.Background(), program, args...)
		file := path(c.vendor, profile)
		cmd.Env = append(os.Environ(), "CYCLONEDDS_URI=file://"+file, "FASTRTPS_DEFAULT_PROFILES_FILE="+file)
		return r.StartCmd(t, cmd)
	}
	m.settle(t, a, b)
	reassembly(t, a, profile == recommended)
	reassembly(t, b, profile == recommended)
	before := m.counters(t, device(profile), a, b)
	sub := start(b, "sub", "--count", "0")
	pub := start(a, "pub", "--count", fmt.Sprint(count), "--rate", fmt.Sprint(c.rate))
	sub.WaitLine(`^matched 1`, 60*time.Second)
	from := monotonic()
	pub.WaitLine(`^sent 1 `, 60*time.Second)
	// Some more time for what is late, and none for a writer that cannot get rid of its samples. A reliable writer ends when all that it sent was
	// received.
	select {
	case <-pub.Done():
	case <-time.After(last + time.Second):
	}
	if !c.reliable {
		time.Sleep(time.Second)
	}
	sub.Signal(unix.SIGTERM)
	sub.Wait(20 * time.Second)
	pub.Signal(unix.SIGTERM)
	pub.Wait(20 * time.Second)
	return evaluate(pub.Output(), sub.Output(), c, from, m.span, m.counters(t, device(profile), a, b).since(before))
}

// matching is how long a best-effort writer may send before the reader knows it, which does not count.
const matching = 500 * time.Millisecond

// monotonic is the clock of the programs, in seconds.
func monotonic() float64 {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // every Linux has it
	return float64(now.Nano()) / 1e9
}

// settle waits until nothing of an earlier measurement is under way.
func (m *measurement) settle(t lab.TB, a, b *fleet.Robot) {
	lab.Eventually(t, 60*time.Second, "an idle link", func() error {
		before := m.counters(t, "lan0", a, b)
		time.Sleep(500 * time.Millisecond)
		if n := m.counters(t, "lan0", a, b).since(before).bytes; n > 10_000 {
			return fmt.Errorf("%d bytes on it in half a second", n)
		}
		return nil
	})
}

// evaluate pairs what was sent with what was received; from is when both programs knew each other.
func evaluate(pub, sub string, c row, from float64, span time.Duration, n counters) (r result) {
	sent := make(map[int]float64)
	first := math.Inf(1)
	for line := range strings.Lines(pub) {
		var seq int
		var at float64
		if n, _ := fmt.Sscanf(line, "sent %d %g", &seq, &at); n == 2 && at >= from {
			sent[seq] = at
			first = min(first, at)
		}
	}
	var delays []float64
	inTime := 0
	for line := range strings.Lines(sub) {
		var name string
		var seq, size int
		var at float64
		if n, _ := fmt.Sscanf(line, "received %s %d %d %g", &name, &seq, &size, &at); n != 4 {
			continue
		}
		began, ok := sent[seq]
		if !ok {
			continue
		}
		delays = append(delays, at-began)
		if at-first <= span.Seconds() {
			inTime++
		}
	}
	r = result{perSecond: float64(inTime) / span.Seconds(), median: quantile(delays, 0.5), worst: quantile(delays, 0.95), sent: math.Inf(1),
		dropped: share(n.packets-n.carried, n.packets), torn: share(n.cut-n.whole, n.cut)}
	if len(delays) > 0 {
		r.sent = float64(n.bytes) / float64(len(delays)*c.size)
	}
	if lost := len(sent) - len(delays); lost > 0 {
		r.note = fmt.Sprintf("%d of %d lost", lost, len(sent))
	}
	return r
}

// share is a part of the whole, 0 to 1, NaN of nothing.
func share(part, whole int) float64 {
	if whole == 0 {
		return math.NaN()
	}
	return min(1, max(0, float64(part)/float64(whole)))
}

func quantile(x []float64, q float64) float64 {
	if len(x) == 0 {
		return math.NaN()
	}
	x = slices.Sorted(slices.Values(x))
	return x[min(len(x)-1, int(q*float64(len(x))))]
}
