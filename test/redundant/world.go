package main

import (
	"fmt"
	"time"

	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/internet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
	"github.com/hnet-robotics/hnet_bridge/test/lanes/topic"
)

// Round trips from the robot to the station.
const (
	wifiRTT = 20 * time.Millisecond
	lteRTT  = 50 * time.Millisecond
)

// The topics have the QoS of ROS: reliable, the last ten samples kept. With best effort a reader drops the one sample that is overtaken when the faster
// path comes back, which no network can help. What DDS sends again is a round trip late, which shows.
const (
	redundantTopic = "/control"
	plainTopic     = "/plain"

	configuration = `dds:
  lanes:
    - {match: "/control*", lane: urgent, redundant: true}
    - {match: "/plain*", lane: urgent}
`
	rate  = 100
	depth = 10
)

// world is a robot at two sites, and a station somewhere else.
type world struct {
	host           *internet.Host
	wifi, lte      *internet.Site
	robot, station *fleet.Robot
	flows          []*flow
}

// flow is a topic in one direction.
type flow struct {
	name      string
	redundant bool
	up        bool // from the robot
	pub, sub  *topic.Peer
}

func newWorld(t lab.TB) *world {
	net := internet.New(t, lab.New(t))
	base := fleet.StartBase(t, net.Base("base1").Host)
	config := "port_mapping: false\nbases:\n" + base.Entry("base1") + configuration
	w := &world{wifi: net.Site("wifi", internet.LinuxNAT), lte: net.Site("lte", internet.DoubleNAT)}
	w.wifi.Access.Set(lab.Link{Delay: wifiRTT / 2})
	w.lte.Access.Set(lab.Link{Delay: lteRTT / 2})
	w.host = w.wifi.Host("robot")
	w.host.Connect(w.lte)
	w.robot = fleet.Start(t, w.host.Host, config)
	w.station = fleet.Start(t, net.Site("office", internet.Public).Host("station").Host, config)
	for _, r := range []*fleet.Robot{w.robot, w.station} {
		r.Hnet("wait", "base", "--timeout", "20s")
	}
	fleet.Trust(w.robot, w.station)
	lab.Eventually(t, 30*time.Second, "a direct path", func() error {
		w.robot.TryHnet("ping", w.station.Address.String(), "-c", "1", "-W", "1s")
		if p, _ := w.robot.Peer(w.station.Address); p.Path != "direct" {
			return fmt.Errorf("it is %s", p.Path)
		}
		return nil
	})
	for _, up := range []bool{true, false} {
		from, to, suffix := w.robot, w.station, "_up"
		if !up {
			from, to, suffix = to, from, "_down"
		}
		for _, name := range []string{redundantTopic, plainTopic} {
			c := topic.Config{Name: name + suffix, Type: topic.Twist, Size: 48, Rate: rate, Depth: depth}
			w.flows = append(w.flows, &flow{
				name: name + suffix, redundant: name == redundantTopic, up: up,
				sub: topic.Subscribe(t, to.Host, c), pub: topic.Publish(t, from.Host, c),
			})
		}
	}
	for _, f := range w.flows {
		f.sub.WaitLine(`^sample `, 30*time.Second)
	}
	return w
}

// event is one way of losing an uplink.
type event struct {
	what      string
	cut, back func(w *world)
}

func events() []event {
	return []event{
		{"Wi-Fi loses its carrier", func(w *world) { w.host.Unplug(w.wifi) }, func(w *world) { w.host.Plug(w.wifi) }},
		{"Wi-Fi falls silent", func(w *world) { w.host.Cut(w.wifi) }, func(w *world) { w.host.Restore(w.wifi) }},
		{"LTE loses its carrier", func(w *world) { w.host.Unplug(w.lte) }, func(w *world) { w.host.Plug(w.lte) }},
		{"LTE falls silent", func(w *world) { w.host.Cut(w.lte) }, func(w *world) { w.host.Restore(w.lte) }},
	}
}

// count is what became of one flow's samples that were sent in some time.
type count struct {
	sent, lost, twice int
	slowest           time.Duration
	gap               time.Duration // longest time for which nothing arrived that was sent then
	when              []string      // the first that were lost: flow and time since the measurement began
}

const whenMost = 8

func (c *count) add(x count) {
	c.sent += x.sent
	c.lost += x.lost
	c.twice += x.twice
	c.slowest = max(c.slowest, x.slowest)
	c.gap = max(c.gap, x.gap)
	c.when = append(c.when, x.when...)
	c.when = c.when[:min(len(c.when), whenMost)]
}

// between counts the samples that a flow's publisher wrote from one time to another.
func (f *flow) between(from, to time.Duration) (c count) {
	arrived := map[time.Duration]time.Duration{}
	for _, s := range f.sub.Samples() {
		if _, again := arrived[s.At]; again {
			c.twice++
		}
		arrived[s.At] = s.Took
	}
	var silent time.Duration
	for _, s := range f.pub.Samples() {
		if s.At < from || s.At >= to {
			continue
		}
		c.sent++
		took, ok := arrived[s.At]
		if !ok {
			c.lost++
			if len(c.when) < whenMost {
				c.when = append(c.when, fmt.Sprintf("%s %v", f.name, (s.At-from).Round(time.Millisecond)))
			}
			if silent == 0 {
				silent = s.At
			}
			c.gap = max(c.gap, s.At-silent+time.Second/rate)
			continue
		}
		silent = 0
		c.slowest = max(c.slowest, took)
	}
	return c
}
