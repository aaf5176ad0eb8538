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

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
	"github.com/hnet-robotics/hnet_bridge/test/lanes/topic"
)

// The link: 20 Mbit/s each way and a round trip of 60 ms.
const (
	rateMbit = 20
	delay    = 30 * time.Millisecond
)

// buffer is how much the link's sender holds before it drops, in bytes; the lab counts it as time.
func link(buffer int) lab.Link {
	return lab.Link{RateMbit: rateMbit, Delay: delay, Queue: time.Duration(float64(buffer*8) / rateMbit * 1000)}
}

// pair are two robots of which the first sends.
type pair struct {
	name string
	lan  *lab.LAN
	a, b *fleet.Robot
}

// noDDS keeps DDS from going past the overlay and filling the link with what never arrives.
const noDDS = "table netdev dds {\n chain out {\n  type filter hook egress device lan0 priority 0; policy accept;\n  udp dport 7400-7999 drop\n }\n}\n"

func withoutDDS(t lab.TB, h *lab.Host) {
	cmd := h.Command(context.Background(), "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(noDDS)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("lanes: rules of %s: %v\n%s", h.Name(), err, out)
	}
}

// newPair starts two daemons behind a router.
func newPair(t lab.TB, l *lab.Lab, name, configuration string) *pair {
	ha, hb, hc, router := l.Host(name+"-robot"), l.Host(name+"-station"), l.Host(name+"-base"), l.Router(name+"-router")
	p := &pair{name: name, lan: l.LAN(link(buffers[0]), router, ha)}
	l.LAN(lab.Link{}, router, hb)
	l.LAN(lab.Link{}, router, hc)
	withoutDDS(t, ha)
	withoutDDS(t, hb)
	configuration += "bases:\n" + fleet.StartBase(t, hc).Entry(hc.Addr4("lan0").String())
	p.a, p.b = fleet.Start(t, ha, configuration), fleet.Start(t, hb, configuration)
	for _, r := range []*fleet.Robot{p.a, p.b} {
		r.Hnet("wait", "base", "--timeout", "20s")
	}
	fleet.Trust(p.a, p.b)
	lab.Eventually(t, 20*time.Second, "a direct path", func() error {
		p.a.TryHnet("ping", p.b.Address.String(), "-c", "1", "-W", "1s")
		if got, _ := p.a.Peer(p.b.Address); got.Path != api.PathDirect && got.Path != api.PathLAN {
			return fmt.Errorf("it is %s", got.Path)
		}
		return nil
	})
	return p
}

// result is what came of one row.
type result struct {
	topic    delays  // of /cmd_vel by DDS
	datagram delays  // of datagrams marked EF
	mbit     float64 // that arrived on the other side's hnet0
	samples  float64 // whole images a second; NaN if the load has none
	note     string
}

// delays are one-way times of what was sent 50 times a second.
type delays struct {
	list []time.Duration
	sent int
}

func (d delays) quantile(q float64) time.Duration {
	if len(d.list) == 0 {
		return -1
	}
	x := slices.Sorted(slices.Values(d.list))
	return x[min(int(q*float64(len(x))), len(x)-1)]
}

func (d delays) lost() int { return max(d.sent-len(d.list), 0) }

// row is one case.
type row struct {
	buffer int
	load   string
	paced  bool
}

func (r row) String() string {
	pace := "unpaced"
	if r.paced {
		pace = "paced"
	}
	return fmt.Sprintf("%d kB %s %s", r.buffer>>10, r.load, pace)
}

type measurement struct {
	span, settle time.Duration
	wanted       *regexp.Regexp
	rows         []row
	results      map[row]result
}

var buffers = []int{256 << 10, 1 << 20}

func (m *measurement) run(t lab.TB) {
	l := lab.New(t)
	pairs := map[bool]*pair{
		true:  newPair(t, l, "paced", "pace: true\n"),
		false: newPair(t, l, "plain", "pace: false\n"),
	}
	m.results = map[row]result{}
	for _, buffer := range buffers {
		for _, load := range loads(t) {
			for _, paced := range []bool{true, false} {
				r := row{buffer, load.name, paced}
				if !m.wanted.MatchString(r.String()) {
					continue
				}
				got := m.measure(t, pairs[paced], buffer, load)
				for range retries {
					if m.kept(got) {
						break
					}
					fmt.Fprintf(os.Stderr, "%s: %d of %d samples were sent in time: the machine is busy, again\n", r, got.datagram.sent, int(m.span/streamEvery))
					got = m.measure(t, pairs[paced], buffer, load)
				}
				m.rows = append(m.rows, r)
				m.results[r] = got
				fmt.Fprintf(os.Stderr, "%-36s topic %v %v %v of %d, %d lost; EF %v %v %v of %d, %d lost; %.1f Mbit/s, %.2f samples/s %s\n", r,
					ms(got.topic.quantile(.5)), ms(got.topic.quantile(.99)), ms(got.topic.quantile(1)), got.topic.sent, got.topic.lost(),
					ms(got.datagram.quantile(.5)), ms(got.datagram.quantile(.99)), ms(got.datagram.quantile(1)), got.datagram.sent, got.datagram.lost(),
					got.mbit, got.samples, got.note)
			}
		}
	}
}

// retries is how often a row is taken again in which the machine did not keep up.
const retries = 2

// kept reports whether the program itself could send in time: what it measures else is the machine's scheduler.
func (m *measurement) kept(r result) bool {
	return float64(r.datagram.sent) >= 0.98*float64(m.span/streamEvery)
}

func ms(d time.Duration) string {
	if d < 0 {
		return "–"
	}
	return fmt.Sprintf("%.1f", float64(d)/float64(time.Millisecond))
}

// measure runs a load and, after it has settled, both streams.
func (m *measurement) measure(t lab.TB, p *pair, buffer int, load load) (r result) {
	p.lan.Set(link(buffer))
	commands := startCommands(t, p)
	stop := load.start(t, p)
	time.Sleep(m.settle)
	stream := startStream(t, p)
	commands.count()
	before, began := received(t, p.b), time.Now()
	samples := load.count()
	time.Sleep(m.span)
	r.samples = (load.count() - samples) / m.span.Seconds()
	r.mbit = float64(received(t, p.b)-before) * 8 / 1e6 / time.Since(began).Seconds()
	// What is late still counts as having arrived.
	until := topic.Now()
	r.datagram = stream.stop()
	r.topic = commands.stop(until)
	stop()
	p.quiet(t)
	return r
}

// quiet waits until nothing of a load is under way.
func (p *pair) quiet(t lab.TB) {
	lab.Eventually(t, 30*time.Second, "an idle link", func() error {
		before := received(t, p.b)
		time.Sleep(500 * time.Millisecond)
		if n := received(t, p.b) - before; n > 20_000 {
			return fmt.Errorf("%d bytes in half a second", n)
		}
		return nil
	})
}

// received is what came to a robot over the overlay, in bytes of IP packets.
func received(t lab.TB, r *fleet.Robot) uint64 {
	link, err := r.Netlink().LinkByName("hnet0")
	if err != nil {
		t.Fatalf("hnet0: %v", err)
	}
	return link.Attrs().Statistics.RxBytes
}

var unknown = math.NaN()
