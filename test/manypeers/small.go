package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/ipv6"

	"github.com/hnet-robotics/hnet_bridge/overlay/whitelist"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// small is a pair of daemons in one environment; the first of all is the default.
type small struct {
	name               string
	env                []string
	pair               *known
	idle, end          usage
	mbits, kpps        []float64
	tcpRatio, udpRatio []float64
}

func measureSmall(t lab.TB, s spans) []*small {
	rows := []*small{
		{name: "default"},
		{name: "GOMEMLIMIT=32MiB", env: []string{"GOMEMLIMIT=32MiB"}},
		{name: "GOMAXPROCS=1", env: []string{"GOMAXPROCS=1"}},
		{name: "both", env: []string{"GOMEMLIMIT=32MiB", "GOMAXPROCS=1"}},
	}
	l := lab.New(t)
	for i, x := range rows {
		x.pair = newKnown(t, l, i+1)
		// One peer each, whatever newKnown numbered the hosts by.
		there := entry(x.pair.one.id, x.pair.one.host.Name())
		there.Endpoint = x.pair.one.underlay().String()
		x.pair.many.trust([]whitelist.Entry{there})
		x.pair.many.env, x.pair.one.env = x.env, x.env
		x.pair.one.start()
		x.pair.many.start()
		lab.Eventually(t, 30*time.Second, "a session", x.pair.connected)
	}
	time.Sleep(10 * time.Second) // what the starts needed is given back
	for _, x := range rows {
		x.idle = x.pair.many.usage()
	}
	for range s.rounds {
		for _, x := range rows {
			x.mbits = append(x.mbits, x.pair.throughput(t, s.stream))
			x.kpps = append(x.kpps, x.pair.datagrams(t, s.stream))
			last := len(x.mbits) - 1
			x.tcpRatio = append(x.tcpRatio, x.mbits[last]/rows[0].mbits[last])
			x.udpRatio = append(x.udpRatio, x.kpps[last]/rows[0].kpps[last])
		}
	}
	for _, x := range rows {
		x.end = x.pair.many.usage()
		x.pair.many.stop()
		x.pair.one.stop()
	}
	return rows
}

// payload is the size of the UDP datagrams in bytes.
const payload = 1200

// datagrams measures those that arrive when as many are sent as go, in thousands per second.
func (k *known) datagrams(t lab.TB, span time.Duration) float64 {
	open := func(d *daemon) (c *net.UDPConn) {
		if err := d.host.Do(func() (err error) {
			c, err = net.ListenUDP("udp6", net.UDPAddrFromAddrPort(netip.AddrPortFrom(d.id.Address(), 0)))
			return err
		}); err != nil {
			t.Fatalf("manypeers: %v", err)
		}
		return c
	}
	from, to := open(k.many), open(k.one)
	defer from.Close()
	defer to.Close()
	_ = to.SetReadBuffer(4 << 20)
	batch := func(to net.Addr) []ipv6.Message {
		ms := make([]ipv6.Message, 64)
		for i := range ms {
			ms[i].Buffers, ms[i].Addr = [][]byte{make([]byte, payload)}, to
		}
		return ms
	}
	var received atomic.Int64
	go func() {
		for c, ms := ipv6.NewPacketConn(to), batch(nil); ; {
			n, err := c.ReadBatch(ms, 0)
			if err != nil {
				return
			}
			received.Add(int64(n))
		}
	}()
	done := make(chan struct{})
	go func() {
		for c, ms := ipv6.NewPacketConn(from), batch(to.LocalAddr()); ; {
			select {
			case <-done:
				return
			default:
				_, _ = c.WriteBatch(ms, 0)
			}
		}
	}()
	time.Sleep(span / 3)
	start, before := time.Now(), received.Load()
	time.Sleep(span)
	kpps := float64(received.Load()-before) / time.Since(start).Seconds() / 1e3
	close(done)
	return kpps
}

// writeSmall writes the table to a file, or to standard output if path is "-".
func writeSmall(path string, rows []*small, s spans) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# Small machines\n\nMade by `bin/manypeers -small docs/performance/small.md`: pairs of the real hnetd, both in the environment of the row, in turns on one machine;\n"+
		"medians of %d rounds of %v. Ratios are to the default in the same round. GOMEMLIMIT bounds what Go holds itself; what is mapped of the program's file comes on top.\n\n", s.rounds, s.stream)
	b.WriteString("| environment | TCP Mbit/s | ratio | UDP 1200 B kpps | ratio | idle RSS MB | idle private MB | peak RSS MB |\n|---|---:|---:|---:|---:|---:|---:|---:|\n")
	for _, x := range rows {
		fmt.Fprintf(&b, "| %s | %.0f | %.2f | %.0f | %.2f | %.1f | %.1f | %.1f |\n", x.name, median(x.mbits), median(x.tcpRatio), median(x.kpps), median(x.udpRatio), x.idle.rss, x.idle.anon, x.end.peak)
	}
	if path == "-" {
		_, err := fmt.Print(b.String())
		return err
	}
	return os.WriteFile(path, []byte(b.String()), 0o644)
}
