package main

import (
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/underlay"
	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
	"github.com/hnet-robotics/hnet_bridge/test/measure"
)

const (
	basePort    = 5582
	forwardPort = 5600
)

// base compares hnet_base with forward: one end sends as much as it can through them to another, each on a host of its own.
func (m measurement) base(t lab.TB) string {
	l := lab.New(t)
	a, middle, b := l.Host("a"), l.Host("base"), l.Host("b")
	l.LAN(lab.Link{}, a, middle, b)
	base := fleet.StartBase(t, middle, "--relay-rate", "0")
	at := middle.Addr4("lan0")
	program, err := os.Executable()
	if err != nil {
		t.Fatalf("relay: %v", err)
	}
	loads := []struct {
		datagrams int
		row
	}{
		{datagrams: 65000 / payload, row: row{name: fmt.Sprintf("trains of %d datagrams of %d bytes, Mbit/s", 65000/payload, payload), scale: 8e-6}},
		{datagrams: 1, row: row{name: fmt.Sprintf("single datagrams of %d bytes, Mbit/s", payload), scale: 8e-6}},
	}
	var rows []*row
	for life := range m.lives {
		if life > 0 {
			base.Daemon.Stop()
			base.Restart()
		}
		var ends [4]*end
		for i, h := range []*lab.Host{a, b, a, b} {
			ends[i] = newEnd(t, h)
		}
		header, err := link(ends[0], ends[1], netip.AddrPortFrom(at, basePort), base.Address)
		if err != nil {
			t.Fatalf("relay: %v", err)
		}
		forwarder := middle.Start(t, program, forwardCommand, strconv.Itoa(forwardPort), ends[3].at().String())
		forwarder.WaitLine("forwarding", 10*time.Second)
		cpu := [2]func() time.Duration{
			func() time.Duration { return measure.CPU(base.Daemon.PID()) },
			func() time.Duration { return measure.CPU(forwarder.PID()) },
		}
		for i := range loads {
			x := &loads[i]
			relayed := start(ends[0], ends[1], netip.AddrPortFrom(at, basePort), header, x.datagrams)
			plain := start(ends[2], ends[3], netip.AddrPortFrom(at, forwardPort), header, x.datagrams)
			compare(&x.row, m.pairs, measure.WarmUp, m.span, [2]measure.Flow{relayed, plain}, cpu)
			relayed.close()
			plain.close()
		}
		forwarder.Stop()
		for _, e := range ends {
			e.sock.Close()
		}
	}
	for i := range loads {
		rows = append(rows, &loads[i].row)
	}
	text := fmt.Sprintf("The real hnet_base with two clients, which are no robots but sockets, each on a host (network namespace) of its own: one sends as much as it can, by trains (GSO) as hnetd\n"+
		"sends or one by one. Plain is a program that reads and sends with the same package, sockets and buffers, and does nothing between but name the destination: no sessions, no look-up,\n"+
		"no header rewritten, no limits. In turns; medians of %d spans of %v, hnet_base started %d times; ratios of neighbours with the interval in which their median lies with a confidence\n"+
		"of 95 %%. Sender, receiver and what is measured share the processors.\n\n", len(rows[0].of[0]), m.span, m.lives) +
		table(rows, "plain", "hnet_base", "it")
	text += "\n| | plain | hnet_base | CPU for a GB, hnet_base by plain |\n|---|---:|---:|---:|\n"
	for i, r := range rows {
		ratios := measure.Ratios(measure.CPUs(r.of[0]), measure.CPUs(r.of[1]))
		low, high := measure.Interval(ratios)
		what := "trains, thousand packets/s"
		if loads[i].datagrams == 1 {
			what = "single datagrams, thousand packets/s"
		}
		text += fmt.Sprintf("| %s | %.0f | %.0f | %.2f (%.2f to %.2f) |\n", what,
			measure.Median(measure.Rates(r.of[1]))/payload/1e3, measure.Median(measure.Rates(r.of[0]))/payload/1e3, measure.Median(ratios), low, high)
	}
	return text
}

// link registers two ends with the Base; what the first has relayed to the second begins with the header.
func link(from, to *end, base netip.AddrPort, address netip.Addr) (header []byte, err error) {
	var clients [2]*client
	for i, e := range []*end{from, to} {
		if clients[i], err = register(e, base, address); err != nil {
			return nil, err
		}
	}
	// The first that asks is told when the other has asked too.
	first := make(chan error, 1)
	go func() { first <- clients[0].meet(clients[1]) }()
	if err := clients[1].meet(clients[0]); err != nil {
		return nil, err
	}
	return clients[0].header(), <-first
}

// sending is the flow of datagrams from one end to another.
type sending struct {
	*end // where they arrive, and what is paused
	done chan struct{}
	left chan struct{}
}

// start sends trains of so many datagrams that begin with a header, until closed.
func start(from, to *end, by netip.AddrPort, header []byte, datagrams int) *sending {
	s := &sending{end: to, done: make(chan struct{}), left: make(chan struct{})}
	buf := make([]byte, datagrams*payload)
	for at := 0; at < len(buf); at += payload {
		copy(buf[at:], header)
	}
	ms := make([]underlay.Message, max(1, batch/datagrams))
	for i := range ms {
		ms[i] = underlay.Message{Buf: buf, Remote: by}
		if datagrams > 1 {
			ms[i].Segment = payload
		}
	}
	s.Pause()
	go func() {
		defer close(s.left)
		for {
			s.Pass(len(ms) * len(buf))
			select {
			case <-s.done:
				return
			default:
				_, _ = from.sock.WriteBatch(ms)
			}
		}
	}()
	return s
}

func (s *sending) close() {
	close(s.done)
	s.Resume()
	<-s.left
}

// registrations measures what a registered client costs.
func registrations(t lab.TB) string {
	const benchmark = "go test -run '^$' -bench Registrations100k -benchtime 1x ./overlay/base/server"
	f, err := measure.Benchmark(fleet.Root(), benchmark, "bytes/client", "idle-CPU-%", "cpu-us/registration")
	if err != nil {
		t.Fatalf("relay: %v", err)
	}
	return fmt.Sprintf("100,000 registered clients, each of which asks for another, half of them found (`%s`):\n"+
		"**%.0f bytes** for each; while they are idle (a ping every 25 s) %.1f %% of one processor; %.0f µs of processor time for a registration.\n", benchmark, f[0], f[1], f[2])
}
