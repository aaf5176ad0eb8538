package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
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
	note      string
}

// measurement is one run of the program.
type measurement struct {
	link       lab.Link
	span       time.Duration
	rounds     int
	cases      []row
	candidates string
	// configuration is hnetd's.
	configuration string
	wanted        *regexp.Regexp // profiles

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
	for _, c := range m.cases {
		m.results[c] = make(map[string][]result)
		link := m.link
		link.Loss = c.loss
		lan.Set(link)
		for range m.rounds {
			for _, p := range m.profiles[c.vendor] {
				if !m.wanted.MatchString(p) {
					continue
				}
				r := m.measure(t, programs, a, b, c, p)
				m.results[c][p] = append(m.results[c][p], r)
				fmt.Fprintf(os.Stderr, "%-34s %-16s %6.2f/s of %g  median %5.0f ms  95 %% %5.0f ms  sent %.2f  %s\n",
					c, p, r.perSecond, c.rate, 1000*r.median, 1000*r.worst, r.sent, r.note)
			}
		}
	}
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
	count := max(3, int(c.rate*m.span.Seconds()))
	start := func(r *fleet.Robot, args ...string) *lab.Process {
		args = append(args, "--name", r.Name(), qos, "--depth", depth, "--times", "--size", fmt.Sprint(c.size), "--timeout", "0")
		cmd := r.Command(context.Background(), program, args...)
		file := filepath.Join("/etc/hnet", c.vendor+"-"+profile+".xml")
		cmd.Env = append(os.Environ(), "CYCLONEDDS_URI=file://"+file, "FASTRTPS_DEFAULT_PROFILES_FILE="+file)
		return r.StartCmd(t, cmd)
	}
	m.settle(t, a, b)
	before := transmitted(t, a) + transmitted(t, b)
	sub := start(b, "sub", "--count", "0")
	pub := start(a, "pub", "--count", fmt.Sprint(count), "--rate", fmt.Sprint(c.rate))
	pub.WaitLine(`^sent 1 `, 60*time.Second)
	// Some more time for what is late, and none for a writer that cannot get rid of its samples.
	select {
	case <-pub.Done():
	case <-time.After(m.span * 3 / 2):
	}
	time.Sleep(2 * time.Second)
	sub.Signal(unix.SIGTERM)
	sub.Wait(20 * time.Second)
	pub.Signal(unix.SIGTERM)
	pub.Wait(20 * time.Second)
	bytes := transmitted(t, a) + transmitted(t, b) - before
	return evaluate(pub.Output(), sub.Output(), c, m.span, bytes)
}

// settle waits until nothing of an earlier measurement is under way.
func (m *measurement) settle(t lab.TB, a, b *fleet.Robot) {
	lab.Eventually(t, 60*time.Second, "an idle link", func() error {
		before := transmitted(t, a) + transmitted(t, b)
		time.Sleep(time.Second)
		if n := transmitted(t, a) + transmitted(t, b) - before; n > 20_000 {
			return fmt.Errorf("%d bytes a second on it", n)
		}
		return nil
	})
}

// transmitted is what a robot has sent over the overlay, in bytes of IP packets.
func transmitted(t lab.TB, r *fleet.Robot) uint64 {
	link, err := r.Netlink().LinkByName("hnet0")
	if err != nil {
		t.Fatalf("hnet0: %v", err)
	}
	return link.Attrs().Statistics.TxBytes
}

// evaluate pairs what was sent with what was received.
func evaluate(pub, sub string, c row, span time.Duration, bytes uint64) (r result) {
	sent := make(map[int]float64)
	first, writes := math.Inf(1), 0
	for line := range strings.Lines(pub) {
		var seq int
		var at float64
		if n, _ := fmt.Sscanf(line, "sent %d %g", &seq, &at); n == 2 {
			sent[seq] = at
			first = min(first, at)
			writes++
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
	r = result{perSecond: float64(inTime) / span.Seconds(), median: quantile(delays, 0.5), worst: quantile(delays, 0.95), sent: math.Inf(1)}
	if len(delays) > 0 {
		r.sent = float64(bytes) / float64(len(delays)*c.size)
	}
	if lost := writes - len(delays); lost > 0 {
		r.note = fmt.Sprintf("%d of %d lost", lost, writes)
	}
	return r
}

func quantile(x []float64, q float64) float64 {
	if len(x) == 0 {
		return math.NaN()
	}
	x = slices.Sorted(slices.Values(x))
	return x[min(len(x)-1, int(q*float64(len(x))))]
}
