package main

import (
	"fmt"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/base/wire"
	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/internet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

const (
	peersEach     = 5
	contactLimit  = 30 * time.Second
	recoveryLimit = 3 * time.Minute
	keepaliveWait = 90 * time.Second
)

// node is one that is measured, alone behind its NAT, as it would be behind a cellular modem.
type node struct {
	*fleet.Robot
	site  *internet.Site
	usage usage
	mode  mode
}

// mode is a configuration under test.
type mode struct {
	name   string
	config string
	limit  float64 // MB a day
}

var modes = []mode{{"default", "", 5}, {"low_data: true", "low_data: true\n", 1}}

// world is both nodes, their peers and Bases.
type world struct {
	lab.TB
	bases []*fleet.Base
	nodes []*node
	peers []*fleet.Robot
}

func measure(t lab.TB, settle, window time.Duration, trials int) (r report) {
	w := build(t)
	t.Logf("left alone for %v", settle)
	pause(settle)
	captures := make([]*lab.Capture, len(w.nodes))
	for i, n := range w.nodes {
		captures[i] = n.Capture(t, "lan0")
	}
	t.Logf("counting for %v", window)
	pause(window)
	r.window, r.trials = window, trials
	for i, n := range w.nodes {
		n.usage = count(captures[i].Stop())
		var s api.Status
		n.JSON(&s, "status")
		u := used{mode: n.mode, usage: n.usage}
		for _, b := range s.Bases {
			if b.State == api.BaseRegistered {
				u.registered++
			}
		}
		r.used = append(r.used, u)
	}
	if trials > 0 {
		r.recovered = w.failures(trials)
	}
	return r
}

// build starts everything, and has every peer talk to both nodes once.
func build(t lab.TB) *world {
	net := internet.New(t, lab.New(t))
	w := &world{TB: t}
	for _, name := range []string{"base1", "base2"} {
		w.bases = append(w.bases, fleet.StartBase(t, net.Base(name).Host))
	}
	config := "bases:\n"
	for _, b := range w.bases {
		config += b.Entry(b.Name())
	}
	for i, m := range modes {
		site := net.Site(fmt.Sprintf("field%d", i+1), internet.PortRestricted)
		n := &node{Robot: fleet.Start(t, site.Host(fmt.Sprintf("node%d", i+1)).Host, config+m.config), site: site, mode: m}
		w.nodes = append(w.nodes, n)
	}
	plant := net.Site("plant", internet.LinuxNATFiltered)
	for i := range peersEach {
		w.peers = append(w.peers, fleet.Start(t, plant.Host(fmt.Sprintf("peer%d", i+1)).Host, config))
	}
	for _, n := range w.nodes {
		n.Hnet("wait", "base", "--timeout", contactLimit.String())
		for _, p := range w.peers {
			fleet.Trust(n.Robot, p)
			n.Hnet("wait", "peer", p.Address.String(), "--timeout", contactLimit.String())
		}
	}
	return w
}

// failures tries each failure on both nodes at once, at the worst moment: right after the low_data node has asked its Base.
func (w *world) failures(trials int) (all []recovery) {
	rebinding := recovery{what: "its NAT gives it another port", times: make([][]time.Duration, len(w.nodes))}
	baseLoss := recovery{what: "the Base that it is registered with is killed", times: make([][]time.Duration, len(w.nodes))}
	// A peer that has not talked to the nodes for long: the way on which it did is closed, and nothing but a Base leads to them.
	next := 0
	rested := func() *fleet.Robot { next++; return w.peers[(next-1)%len(w.peers)] }
	for i := range trials {
		w.Logf("trial %d: rebinding", i+1)
		w.quiet()
		w.afterKeepalive()
		for _, n := range w.nodes {
			n.site.Rebind()
		}
		w.timed(&rebinding, rested())

		w.Logf("trial %d: Base lost", i+1)
		w.quiet()
		b := w.afterKeepalive()
		b.Daemon.Kill9()
		w.timed(&baseLoss, rested())
		b.Restart()
	}
	return []recovery{rebinding, baseLoss}
}

// quiet waits until the nodes and the peers are registered as they shall be and nothing is under way.
func (w *world) quiet() {
	for _, r := range append([]*fleet.Robot{w.nodes[0].Robot}, w.peers...) {
		lab.Eventually(w, 2*recoveryLimit, r.Name()+" is registered with both Bases", func() error { return registered(r, 2) })
	}
	lab.Eventually(w, recoveryLimit, "the low_data node is registered", func() error { return registered(w.nodes[1].Robot, 1) })
	pause(40 * time.Second) // probing ends 30 s after the last packet
	lab.Eventually(w, recoveryLimit, "the low_data node is registered with one Base only", func() error { return registered(w.nodes[1].Robot, 1) })
}

func registered(r *fleet.Robot, want int) error {
	var s api.Status
	r.JSON(&s, "status")
	n := 0
	for _, b := range s.Bases {
		if b.State == api.BaseRegistered {
			n++
		}
	}
	if n != want {
		return fmt.Errorf("%s is registered with %d Bases, not %d", r.Name(), n, want)
	}
	return nil
}

// afterKeepalive waits until the low_data node has asked its Base whether all is well and got the answer; it returns that Base.
func (w *world) afterKeepalive() *fleet.Base {
	low := w.nodes[len(w.nodes)-1]
	capture := low.Capture(w, "lan0")
	defer capture.Stop()
	f := capture.Wait(keepaliveWait, "a keepalive of the low_data node", func(f lab.Frame) bool {
		p := f.Decode()
		return !f.Out && p.Kind == lab.UDP && wire.TypeOf(p.Payload) == wire.TypeBaseControl
	})
	from := f.Decode().Src
	for _, b := range w.bases {
		if b.Addr4("lan0") == from || b.Addr6("lan0") == from {
			return b
		}
	}
	w.Fatalf("idle: %v is no Base", from)
	return nil
}

// timed measures how long both nodes are out of a peer's reach, at five tries a second.
func (w *world) timed(r *recovery, p *fleet.Robot) {
	began := time.Now()
	pings := make([]*lab.Process, len(w.nodes))
	for i, n := range w.nodes {
		pings[i] = p.Start(w, "ping", "-q", "-n", "-6", "-i0.2", "-c1", fmt.Sprintf("-w%d", recoveryLimit/time.Second), n.Address.String())
	}
	// One is fast and the other slow: each is timed when it ends.
	done := make([]chan time.Duration, len(pings))
	for i, ping := range pings {
		done[i] = make(chan time.Duration, 1)
		go func() {
			<-ping.Done()
			done[i] <- time.Since(began)
		}()
	}
	for i, ping := range pings {
		took := <-done[i]
		if ping.Wait(time.Second) != 0 {
			took = recoveryLimit
		}
		r.times[i] = append(r.times[i], took)
		w.Logf("  %s: %v", w.nodes[i].mode.name, took.Round(10*time.Millisecond))
	}
}

// pause lets real time pass: what is measured here is what happens in it.
func pause(d time.Duration) { <-time.After(d) }
