package main

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/internet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
	"github.com/hnet-robotics/hnet_bridge/test/measure"
)

// pair are two robots that reach each other in one way.
type pair struct{ a, b *fleet.Robot }

// robots compares what goes by a Base with what goes directly.
func (m measurement) robots(t lab.TB) string {
	world := internet.New(t, lab.New(t))
	base := fleet.StartBase(t, world.Base("base1").Host, "--relay-rate", "0")
	direct := newPair(t, world, base, "direct")
	relayed := newPair(t, world, base, "relayed")
	// Nothing but the way by the Base is left to the second pair.
	var rules strings.Builder
	rules.WriteString("table inet cut {\n chain forward {\n  type filter hook forward priority 0; policy accept;\n")
	for _, x := range []*fleet.Robot{relayed.a, relayed.b} {
		other := relayed.b
		if x == other {
			other = relayed.a
		}
		fmt.Fprintf(&rules, "  ip saddr %s ip daddr %s meta l4proto udp drop\n", public(x, false), public(other, false))
		fmt.Fprintf(&rules, "  ip6 saddr %s ip6 daddr %s meta l4proto udp drop\n", public(x, true), public(other, true))
	}
	rules.WriteString(" }\n}\n")
	world.Core().Rules(t, rules.String())
	for want, p := range map[api.Path]*pair{api.PathDirect: direct, api.PathRelayUDP: relayed} {
		fleet.Trust(p.a, p.b)
		for _, x := range [][2]*fleet.Robot{{p.a, p.b}, {p.b, p.a}} {
			lab.Eventually(t, 20*time.Second, "a path of kind "+string(want), func() error {
				x[0].TryHnet("ping", x[1].Address.String(), "-c", "1", "-W", "1s")
				if got, _ := x[0].Peer(x[1].Address); got.Path != want {
					return fmt.Errorf("it is %s", got.Path)
				}
				return nil
			})
		}
	}
	tcp := &row{name: "TCP, one stream, Mbit/s", scale: 8e-6}
	udp := &row{name: fmt.Sprintf("UDP of %d bytes, thousand packets/s", payload), scale: 1e-3 / payload}
	cpu := [2]func() time.Duration{
		func() time.Duration { return relayed.cpu() + measure.CPU(base.Daemon.PID()) },
		direct.cpu,
	}
	pairs := [2]*pair{relayed, direct}
	var streams, datagrams [2]measure.Flow
	for i, p := range pairs {
		s := lab.StartStream(t, p.a.Host, p.b.Host, p.b.Address)
		defer s.Close()
		streams[i] = s
		d := lab.StartDatagrams(t, p.a.Host, p.a.Address, p.b.Host, p.b.Address, lab.DatagramsConfig{Payload: make([]byte, payload)})
		defer d.Close()
		d.Pause()
		datagrams[i] = d
	}
	// Daemons that find how much a path takes need a while for it.
	compare(tcp, m.pairs, m.robotSpan/2, m.robotSpan, streams, cpu)
	compare(udp, m.pairs, m.robotSpan/2, m.robotSpan, datagrams, cpu)
	return fmt.Sprintf("Two pairs of robots and one hnet_base on one machine, in turns: medians of %d spans of %v, and of the ratios of neighbours with the interval in which that lies with a\n"+
		"confidence of 95 %%. Both robots, the Base and the programs share the same processors, and a relayed packet passes one more program: only the ratios mean something elsewhere.\n\n",
		m.pairs, m.robotSpan) + table([]*row{tcp, udp}, "direct", "by the Base", "all daemons")
}

func newPair(t lab.TB, world *internet.Net, base *fleet.Base, name string) *pair {
	configuration := "port_mapping: false\nbases:\n" + base.Entry("base1")
	p := &pair{}
	for i, r := range []**fleet.Robot{&p.a, &p.b} {
		place := fmt.Sprintf("%s%d", name, i+1)
		*r = fleet.Start(t, world.Site(place, internet.Public).Host("robot-"+place).Host, configuration)
		(*r).Hnet("wait", "base", "--timeout", "20s")
	}
	return p
}

// cpu is the time that both daemons have used.
func (p *pair) cpu() time.Duration {
	return measure.CPU(p.a.Daemon.PID()) + measure.CPU(p.b.Daemon.PID())
}

// public is a robot's address on its own network.
func public(r *fleet.Robot, six bool) netip.Addr {
	if six {
		return r.Addr6("lan0")
	}
	return r.Addr4("lan0")
}
