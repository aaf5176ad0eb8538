// Command cost measures what it costs that hnetd looks at its traffic: two pairs of robots on one machine, one with dds.watch and one without, in turns;
// UDP datagrams like those of DDS, and TCP. It leaves nothing behind.
package main

import (
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
	"github.com/hnet-robotics/hnet_bridge/test/measure"
)

func main() {
	lab.Enter()
	m := measurement{}
	flag.IntVar(&m.lives, "lives", 4, "how often the daemons are started; each time the other pair looks")
	flag.IntVar(&m.pairs, "pairs", 32, "how many pairs of spans of each kind are measured in each life, with and without, without and with")
	flag.DurationVar(&m.span, "span", 80*time.Millisecond, "how long each measurement takes")
	out := flag.String("o", "", "the file in which the block between <!-- cost --> and <!-- /cost --> is replaced; empty = standard output")
	flag.Parse()
	if why := lab.Missing(); why != "" {
		fmt.Fprintln(os.Stderr, "cost: network namespaces cannot be made here:", why)
		os.Exit(1)
	}
	os.Exit(lab.Program("cost", func(t lab.TB) {
		if err := measure.Block(*out, "cost", m.run(t)); err != nil {
			t.Fatalf("cost: %v", err)
		}
	}))
}

type measurement struct {
	lives, pairs int
	span         time.Duration
}

// pair are two robots on a LAN of their own.
type pair struct {
	a, b *fleet.Robot
}

// load is a kind of traffic, with what was measured.
type load struct {
	name, unit string
	scale      float64 // of a byte per second, in the unit
	pace       int64   // bytes per second at which processor time is measured: about half of what goes
	start      func(lab.TB, *pair) flow
	// With and without, as much as goes and at the pace.
	full, paced [2][]measure.Sample
}

type flow interface {
	measure.Flow
	Pace(rate int64)
	Close()
}

func (m measurement) run(t lab.TB) string {
	l := lab.New(t)
	pairs := [2]*pair{newPair(t, l, "one"), newPair(t, l, "two")}
	loads := []*load{
		{name: fmt.Sprintf("UDP, RTPS messages of %d bytes", payload), unit: "thousand/s", scale: 1e-3 / payload, pace: 60_000 * payload, start: datagrams},
		{name: "TCP, one stream", unit: "Mbit/s", scale: 8e-6, pace: 300e6, start: func(t lab.TB, p *pair) flow { return lab.StartStream(t, p.a.Host, p.b.Host, p.b.Address) }},
	}
	for life := range m.lives {
		// The pairs differ by chance, by where their memory lies for one, and that for as long as they live: each pair looks in turn.
		for i, p := range pairs {
			p.start(t, (life+i)%2 == 0)
		}
		for _, x := range loads {
			m.alternate(t, x, pairs[life%2], pairs[1-life%2])
		}
	}
	return m.report(t, loads)
}

// newPair makes two robots, which run for a moment so that they know each other.
func newPair(t lab.TB, l *lab.Lab, name string) *pair {
	hosts := []*lab.Host{l.Host(name + "1"), l.Host(name + "2")}
	l.LAN(lab.Link{}, hosts[0], hosts[1])
	p := &pair{fleet.Start(t, hosts[0], ""), fleet.Start(t, hosts[1], "")}
	fleet.Trust(p.a, p.b)
	return p
}

// start starts the daemons anew.
func (p *pair) start(t lab.TB, watch bool) {
	for _, r := range []*fleet.Robot{p.a, p.b} {
		r.Daemon.Stop()
		r.Configure(fmt.Sprintf("port_mapping: false\ndds: {watch: %v}\n", watch))
		r.Restart()
	}
	p.a.Hnet("wait", "peer", p.b.Address.String(), "--timeout", "20s")
}

// alternate measures a load with and without watching.
func (m measurement) alternate(t lab.TB, x *load, with, without *pair) {
	var sides [2]func() measure.Sample
	var flows [2]flow
	for i, p := range []*pair{with, without} {
		f := x.start(t, p)
		f.Pause()
		flows[i] = f
		defer f.Close()
		sides[i] = func() measure.Sample { return measure.Span(f, measure.WarmUp, m.span, p.cpu) }
	}
	for _, kind := range []struct {
		pace int64
		into *[2][]measure.Sample
	}{{0, &x.full}, {x.pace, &x.paced}} {
		for _, f := range flows {
			f.Pace(kind.pace)
		}
		of := measure.Alternate(m.pairs, sides[0], sides[1])
		for i := range of {
			kind.into[i] = append(kind.into[i], of[i]...)
		}
	}
}

// cpu is the time that both daemons have used.
func (p *pair) cpu() time.Duration {
	return measure.CPU(p.a.Daemon.PID()) + measure.CPU(p.b.Daemon.PID())
}

func (m measurement) report(t lab.TB, loads []*load) string {
	var out strings.Builder
	fmt.Fprintf(&out, "Made by `make watch-cost`: two pairs of robots on one machine, one with `dds.watch` and one without, measured in turns for %v each; the daemons are started %d times, and the\n"+
		"pairs exchanged each time. What watching costs is the median of the ratios of %d neighbours, with the interval in which it lies with a confidence of 95 %% (sign test). Throughput is\n"+
		"of as much as goes, with no more than a window on its way, so that nothing is lost; CPU is that of both daemons at a steady pace of about half as much. Datagrams are sent one by\n"+
		"one. Robots and programs share the processors: only the ratios mean something elsewhere.\n\n", m.span, m.lives, m.lives*m.pairs)
	out.WriteString("| | without | with | throughput lost | CPU without | CPU with | CPU more |\n|---|---:|---:|---:|---:|---:|---:|\n")
	for _, x := range loads {
		rates, cpus := [2][]float64{}, [2][]float64{}
		for i := range x.full {
			rates[i], cpus[i] = measure.Rates(x.full[i]), measure.CPUs(x.paced[i])
		}
		fmt.Fprintf(&out, "| %s | %.0f %s | %.0f %s | %s | %.2f s/GB | %.2f s/GB | %s |\n", x.name,
			measure.Median(rates[1])*x.scale, x.unit, measure.Median(rates[0])*x.scale, x.unit, percent(measure.Ratios(rates[0], rates[1]), -1),
			measure.Median(cpus[1])*1e9, measure.Median(cpus[0])*1e9, percent(measure.Ratios(cpus[0], cpus[1]), 1))
	}
	const benchmark = "go test -run '^$' -bench BesideSealing ./dds/watch"
	ns, err := measure.Benchmark(fleet.Root(), benchmark, "looking-ns")
	if err != nil {
		t.Fatalf("cost: %v", err)
	}
	message := measure.Median(measure.CPUs(loads[0].paced[1])) * payload * 1e9
	fmt.Fprintf(&out, "\nTo look at such a message takes %.0f ns by itself, twice, where it leaves and where it arrives (`%s`): of the %.1f µs that both daemons need for it, %.1f %%.\n",
		ns[0], benchmark, message/1e3, 2*ns[0]/message*100)
	return out.String()
}

// percent says by how much ratios are above 1, or below it for a negative sign.
func percent(ratios []float64, sign float64) string {
	low, high := measure.Interval(ratios)
	low, high = sign*(low-1)*100, sign*(high-1)*100
	return fmt.Sprintf("%.1f %% (%.1f to %.1f)", sign*(measure.Median(ratios)-1)*100, min(low, high), max(low, high))
}

// payload is the size of the RTPS messages in bytes: what fits the overlay's least MTU.
const payload = 1200

// window is how many messages are on their way: enough for both daemons to be busy.
const window = 256

// datagrams are messages of a writer that sends as fast as they arrive, as Cyclone DDS sends them: INFO_DST, INFO_TS, DATA, HEARTBEAT.
func datagrams(t lab.TB, p *pair) flow {
	prefix := wire.GuidPrefix{1, 0x10, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
	writer := wire.MakeEntityID(1, wire.KindWriterNoKey)
	b := wire.NewBuilder(nil, wire.Header{Version: wire.Version, Vendor: wire.VendorCyclone, Prefix: prefix})
	b.InfoDst(wire.GuidPrefix{1, 0x10, 2})
	b.InfoTS(1)
	numberAt := b.Len() + 4 + 16 // low half of the sequence number
	b.Data(&wire.Data{Writer: writer, SN: 1, Content: wire.DataContent, Payload: make([]byte, payload-b.Len()-wire.DataLen(0, 0)-32)})
	b.Heartbeat(wire.Heartbeat{Writer: writer, First: 1, Last: 1, Count: 1})
	if b.Err() != nil || b.Len() != payload {
		t.Fatalf("cost: a message of %d bytes: %v", b.Len(), b.Err())
	}
	return lab.StartDatagrams(t, p.a.Host, p.a.Address, p.b.Host, p.b.Address, lab.DatagramsConfig{
		Payload: b.Bytes(), Window: window,
		Stamp: func(m []byte, n uint64) { binary.LittleEndian.PutUint32(m[numberAt:], uint32(n)) },
	})
}
