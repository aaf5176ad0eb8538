// Command relay measures what goes by a Base against what goes directly, between the same two robots on one machine: TCP throughput, and UDP
// packets per second. It leaves nothing behind.
package main

import (
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/ipv6"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/internet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

func main() {
	lab.Enter()
	m := measurement{}
	flag.IntVar(&m.rounds, "rounds", 3, "how often each figure is measured, in turns")
	flag.DurationVar(&m.span, "span", 3*time.Second, "how long each measurement takes")
	flag.StringVar(&m.out, "o", "", "the file to write; empty = standard output")
	flag.Parse()
	if why := lab.Missing(); why != "" {
		fmt.Fprintln(os.Stderr, "relay: network namespaces cannot be made here:", why)
		os.Exit(1)
	}
	os.Exit(lab.Program("relay", m.run))
}

type measurement struct {
	rounds int
	span   time.Duration
	out    string
}

// pair are two robots that reach each other in one way.
type pair struct {
	a, b    *fleet.Robot
	mbits   []float64
	packets []float64
}

func (m measurement) run(t lab.TB) {
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
	for range m.rounds {
		for _, p := range []*pair{direct, relayed} {
			p.mbits = append(p.mbits, m.tcp(t, p))
			p.packets = append(p.packets, m.udp(t, p))
		}
	}
	m.report(t, direct, relayed)
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

// public is a robot's address on its own network.
func public(r *fleet.Robot, six bool) netip.Addr {
	if six {
		return r.Addr6("lan0")
	}
	return r.Addr4("lan0")
}

// tcp measures one stream, in Mbit/s.
func (m measurement) tcp(t lab.TB, p *pair) float64 {
	s := lab.StartStream(t, p.a.Host, p.b.Host, p.b.Address)
	defer s.Close()
	return s.Mbits(m.span)
}

// payload is the size of the UDP datagrams in bytes.
const payload = 1200

// udp measures datagrams that arrive when as many are sent as go, in thousands per second.
func (m measurement) udp(t lab.TB, p *pair) float64 {
	open := func(r *fleet.Robot) (c *net.UDPConn) {
		if err := r.Do(func() (err error) {
			c, err = net.ListenUDP("udp6", net.UDPAddrFromAddrPort(netip.AddrPortFrom(r.Address, 0)))
			return err
		}); err != nil {
			t.Fatalf("relay: %v", err)
		}
		_ = c.SetReadBuffer(4 << 20)
		return c
	}
	from, to := open(p.a), open(p.b)
	defer from.Close()
	defer to.Close()
	var received atomic.Int64
	go func() {
		c := ipv6.NewPacketConn(to)
		ms := batch(nil)
		for {
			n, err := c.ReadBatch(ms, 0)
			if err != nil {
				return
			}
			received.Add(int64(n))
		}
	}()
	done := make(chan struct{})
	go func() {
		c := ipv6.NewPacketConn(from)
		ms := batch(to.LocalAddr())
		for {
			select {
			case <-done:
				return
			default:
				_, _ = c.WriteBatch(ms, 0)
			}
		}
	}()
	time.Sleep(m.span / 3)
	start, before := time.Now(), received.Load()
	time.Sleep(m.span)
	kpps := float64(received.Load()-before) / time.Since(start).Seconds() / 1e3
	close(done)
	return kpps
}

func batch(to net.Addr) []ipv6.Message {
	ms := make([]ipv6.Message, 64)
	for i := range ms {
		ms[i].Buffers = [][]byte{make([]byte, payload)}
		ms[i].Addr = to
	}
	return ms
}

func median(list []float64) float64 {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[len(sorted)/2]
}

func (m measurement) report(t lab.TB, direct, relayed *pair) {
	var out strings.Builder
	out.WriteString("# What goes by a Base\n\nMade by `make relay`: two pairs of robots and one hnet_base on one machine, in turns; medians of " +
		fmt.Sprint(m.rounds) + " rounds of " + m.span.String() + ".\nBoth robots, the Base and the programs share the same processors, and a relayed packet passes one more " +
		"program: only the ratios mean something elsewhere.\n\n")
	out.WriteString("| | direct | by the Base | ratio |\n|---|---:|---:|---:|\n")
	row := func(name string, d, r []float64) {
		fmt.Fprintf(&out, "| %s | %.0f | %.0f | %.2f |\n", name, median(d), median(r), median(r)/median(d))
	}
	row("TCP, one stream, Mbit/s", direct.mbits, relayed.mbits)
	row(fmt.Sprintf("UDP of %d bytes, thousand packets/s", payload), direct.packets, relayed.packets)
	out.WriteString("\nWhat the Base alone can do: `go test -run '^$' -bench 'Forward|Registrations' ./overlay/base/server` (see docs/operating.md).\n")
	if m.out == "" {
		fmt.Print(out.String())
		return
	}
	if err := os.WriteFile(m.out, []byte(out.String()), 0o644); err != nil {
		t.Fatalf("relay: %v", err)
	}
}
