// Command cost measures what it costs that hnetd looks at its traffic: two pairs of robots on one machine, one with dds.watch and one without, in turns;
// UDP datagrams like those of DDS, and TCP. It leaves nothing behind.
package main

import (
	"encoding/binary"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/ipv6"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

func main() {
	lab.Enter()
	m := measurement{}
	flag.IntVar(&m.rounds, "rounds", 15, "how often each figure is measured, in turns")
	flag.DurationVar(&m.span, "span", time.Second, "how long each measurement takes")
	flag.StringVar(&m.out, "o", "", "the file in which the block between <!-- cost --> and <!-- /cost --> is replaced; empty = standard output")
	flag.Parse()
	if why := lab.Missing(); why != "" {
		fmt.Fprintln(os.Stderr, "cost: network namespaces cannot be made here:", why)
		os.Exit(1)
	}
	os.Exit(lab.Program("cost", m.run))
}

type measurement struct {
	rounds int
	span   time.Duration
	out    string
}

// pair are two robots on a LAN of their own.
type pair struct {
	a, b *fleet.Robot
}

// figures are one measurement.
type figures struct {
	rate float64 // arrived, bytes per second
	cpu  float64 // of both daemons, seconds per byte
}

func (m measurement) run(t lab.TB) {
	l := lab.New(t)
	with, without := newPair(t, l, "with", true), newPair(t, l, "without", false)
	type row struct {
		name, unit    string
		scale         float64
		measure       func(lab.TB, *pair) figures
		with, without []figures
	}
	rows := []*row{
		{name: fmt.Sprintf("UDP, RTPS messages of %d bytes", payload), unit: "thousand/s", scale: 1e-3 / payload, measure: m.udp},
		{name: "TCP, one stream", unit: "Mbit/s", scale: 8e-6, measure: m.tcp},
	}
	for n := range m.rounds {
		for _, r := range rows {
			measure := []func(){
				func() { r.with = append(r.with, r.measure(t, with)) },
				func() { r.without = append(r.without, r.measure(t, without)) },
			}
			if n%2 == 1 {
				slices.Reverse(measure)
			}
			for _, f := range measure {
				f()
			}
		}
	}
	var out strings.Builder
	fmt.Fprintf(&out, "Made by `go build -o bin/cost ./test/watch/cost && bin/cost -o docs/traffic.md`: two pairs of robots on one machine, in turns; medians of %d rounds of %v.\n"+
		"Robots and programs share the same processors: only the ratios mean something elsewhere. CPU is that of both daemons.\n\n", m.rounds, m.span)
	out.WriteString("| | without | with | ratio | CPU without | with | ratio |\n|---|---:|---:|---:|---:|---:|---:|\n")
	for _, r := range rows {
		rate := func(f figures) float64 { return f.rate * r.scale }
		cpu := func(f figures) float64 { return f.cpu * 1e9 }
		fmt.Fprintf(&out, "| %s | %.0f %s | %.0f %s | %.3f | %.2f s/GB | %.2f s/GB | %.3f |\n", r.name,
			median(r.without, rate), r.unit, median(r.with, rate), r.unit, ratio(r.with, r.without, rate),
			median(r.without, cpu), median(r.with, cpu), ratio(r.with, r.without, cpu))
	}
	m.write(t, out.String())
}

func newPair(t lab.TB, l *lab.Lab, name string, watch bool) *pair {
	hosts := []*lab.Host{l.Host(name + "1"), l.Host(name + "2")}
	l.LAN(lab.Link{}, hosts[0], hosts[1])
	configuration := fmt.Sprintf("port_mapping: false\ndds: {watch: %v}\n", watch)
	p := &pair{fleet.Start(t, hosts[0], configuration), fleet.Start(t, hosts[1], configuration)}
	fleet.Trust(p.a, p.b)
	p.a.Hnet("wait", "peer", p.b.Address.String(), "--timeout", "20s")
	return p
}

// during measures what arrives in a span, and what the daemons need for it.
func (m measurement) during(t lab.TB, p *pair, received *atomic.Int64) figures {
	time.Sleep(m.span / 3) // slow start and full queues are not what is measured
	start, bytes, cpu := time.Now(), received.Load(), p.cpu(t)
	time.Sleep(m.span)
	got := float64(received.Load() - bytes)
	return figures{rate: got / time.Since(start).Seconds(), cpu: (p.cpu(t) - cpu) / max(got, 1)}
}

// cpu is the time that both daemons have used, in seconds.
func (p *pair) cpu(t lab.TB) (seconds float64) {
	for _, r := range []*fleet.Robot{p.a, p.b} {
		seconds += threads(t, r.Daemon.PID())
	}
	return seconds
}

// threads sums the nanoseconds that a process's threads ran.
func threads(t lab.TB, pid int) (seconds float64) {
	dir := fmt.Sprintf("/proc/%d/task", pid)
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatalf("cost: %v", err)
	}
	for _, e := range list {
		b, err := os.ReadFile(dir + "/" + e.Name() + "/schedstat")
		if err != nil {
			continue // it has ended
		}
		field, _, _ := strings.Cut(string(b), " ")
		n, _ := strconv.ParseUint(field, 10, 64)
		seconds += float64(n) / 1e9
	}
	return seconds
}

// tcp measures one stream.
func (m measurement) tcp(t lab.TB, p *pair) figures {
	s := lab.StartStream(t, p.a.Host, p.b.Host, p.b.Address)
	defer s.Close()
	return m.during(t, p, s.Received())
}

// payload is the size of the RTPS messages in bytes: what fits the overlay's least MTU.
const payload = 1200

// udp measures messages of a writer that sends as fast as it can.
func (m measurement) udp(t lab.TB, p *pair) figures {
	open := func(r *fleet.Robot) (c *net.UDPConn) {
		if err := r.Do(func() (err error) {
			c, err = net.ListenUDP("udp6", net.UDPAddrFromAddrPort(netip.AddrPortFrom(r.Address, 0)))
			return err
		}); err != nil {
			t.Fatalf("cost: %v", err)
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
		ms := messages(nil)
		for {
			n, err := c.ReadBatch(ms, 0)
			if err != nil {
				return
			}
			received.Add(int64(n) * payload)
		}
	}()
	done := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		c := ipv6.NewPacketConn(from)
		ms := messages(to.LocalAddr())
		for number := uint32(1); ; {
			for i := range ms {
				binary.LittleEndian.PutUint32(ms[i].Buffers[0][numberAt:], number)
				number++
			}
			select {
			case <-done:
				return
			default:
				_, _ = c.WriteBatch(ms, 0)
			}
		}
	}()
	f := m.during(t, p, &received)
	close(done)
	<-stopped
	return f
}

// numberAt is where a message's sequence number has its low half.
const numberAt = wire.HeaderLen + 16 + 12 + 4 + 16

// messages are as Cyclone DDS sends them: INFO_DST, INFO_TS, DATA, HEARTBEAT.
func messages(to net.Addr) []ipv6.Message {
	prefix := wire.GuidPrefix{1, 0x10, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
	writer := wire.MakeEntityID(1, wire.KindWriterNoKey)
	b := wire.NewBuilder(nil, wire.Header{Version: wire.Version, Vendor: wire.VendorCyclone, Prefix: prefix})
	b.InfoDst(wire.GuidPrefix{1, 0x10, 2})
	b.InfoTS(1)
	b.Data(&wire.Data{Writer: writer, SN: 1, Content: wire.DataContent, Payload: make([]byte, payload-b.Len()-wire.DataLen(0, 0)-32)})
	b.Heartbeat(wire.Heartbeat{Writer: writer, First: 1, Last: 1, Count: 1})
	if b.Err() != nil || b.Len() != payload {
		panic(fmt.Sprint(b.Err(), b.Len()))
	}
	ms := make([]ipv6.Message, 64)
	for i := range ms {
		ms[i].Buffers = [][]byte{slices.Clone(b.Bytes())}
		ms[i].Addr = to
	}
	return ms
}

func median(list []figures, of func(figures) float64) float64 {
	var values []float64
	for _, f := range list {
		values = append(values, of(f))
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// ratio is the median of the rounds' ratios: what else the machine does changes from round to round.
func ratio(a, b []figures, of func(figures) float64) float64 {
	var list []figures
	for i := range a {
		list = append(list, figures{rate: of(a[i]) / of(b[i])})
	}
	return median(list, func(f figures) float64 { return f.rate })
}

// write puts the text between the marks of the file.
func (m measurement) write(t lab.TB, text string) {
	if m.out == "" {
		fmt.Print(text)
		return
	}
	const from, to = "<!-- cost -->\n", "<!-- /cost -->"
	b, err := os.ReadFile(m.out)
	if err != nil {
		t.Fatalf("cost: %v", err)
	}
	before, rest, ok := strings.Cut(string(b), from)
	_, after, closed := strings.Cut(rest, to)
	if !ok || !closed {
		t.Fatalf("cost: %s has no lines <!-- cost --> and <!-- /cost -->", m.out)
	}
	if err := os.WriteFile(m.out, []byte(before+from+text+to+after), 0o644); err != nil {
		t.Fatalf("cost: %v", err)
	}
}
