package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/hnet-robotics/hnet_bridge/test/lab"
	"github.com/hnet-robotics/hnet_bridge/test/lanes/topic"
)

// warm is how long traffic flows before anything is cut, so that the second path is known.
const warm = 5 * time.Second

type measurement struct {
	outage  time.Duration
	rounds  int
	results []result
}

// result is what became of the samples while one event came and went.
type result struct {
	what             string
	redundant, plain count
}

func (m *measurement) run(t lab.TB) {
	w := newWorld(t)
	time.Sleep(warm)
	list := append([]event{{"nothing", func(*world) {}, func(*world) {}}}, events()...)
	for _, e := range list {
		r := result{what: e.what}
		for range m.rounds {
			x := m.measure(w, e)
			r.redundant.add(x.redundant)
			r.plain.add(x.plain)
		}
		m.results = append(m.results, r)
		fmt.Fprintf(os.Stderr, "%-26s redundant %+v  plain %+v\n", r.what, r.redundant, r.plain)
	}
}

// measure has an event come and go.
func (m *measurement) measure(w *world, e event) result {
	from := topic.Now()
	time.Sleep(m.outage / 5)
	e.cut(w)
	time.Sleep(m.outage)
	e.back(w)
	time.Sleep(m.outage)
	to := topic.Now()
	time.Sleep(time.Second) // what is late has arrived
	r := result{what: e.what}
	for _, f := range w.flows {
		c := f.between(from, to)
		if f.redundant {
			r.redundant.add(c)
		} else {
			r.plain.add(c)
		}
	}
	return r
}

func (m *measurement) report(w io.Writer) {
	fmt.Fprintf(w, `
## Two uplinks: losing one loses nothing

Made by `+"`make redundant`"+`: a robot with Wi-Fi (round trip %v, behind a NAT) and LTE (%v, behind a carrier's NAT), a station elsewhere. Both write %d samples a
second with the QoS of ROS (reliable, the last ten kept) on a topic that the configuration calls redundant and on one that it does not. Each uplink is cut
for %v and comes back for as long, %d times by losing its carrier and as often by falling silent without a sign. Counted in both directions together; the
slowest sample tells whether DDS had to send anything again. (A best-effort reader drops a sample that another has overtaken, which happens to one in each
direction when the faster path comes back.)

| what happens | redundant: lost | of | slowest | plain: lost | of | slowest |
|---|---:|---:|---:|---:|---:|---:|
`, wifiRTT, lteRTT, rate, m.outage, m.rounds)
	ms := func(d time.Duration) string { return fmt.Sprintf("%d ms", d.Milliseconds()) }
	for _, r := range m.results {
		fmt.Fprintf(w, "| %s | %d | %d | %s | %d | %d | %s |\n", r.what, r.redundant.lost, r.redundant.sent, ms(r.redundant.slowest),
			r.plain.lost, r.plain.sent, ms(r.plain.slowest))
	}
}
