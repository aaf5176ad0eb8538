package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/whitelist"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// known is a daemon whose whitelist names many peers, and the one of them that is there.
type known struct {
	count  int
	many   *daemon
	one    *daemon
	idle   usage // cpu and switches: per second
	mbits  []float64
	ratios []float64 // throughput over that of the smallest whitelist in the same round
	list   []time.Duration
	add    []time.Duration
}

// measureKnown runs all sizes side by side, so that each is compared with the others at the same time.
func measureKnown(t lab.TB, s spans) (rows []*known) {
	l := lab.New(t)
	for _, count := range knownCounts {
		rows = append(rows, newKnown(t, l, count))
	}
	for range s.rounds {
		for _, k := range rows {
			k.many.start()
			k.many.stop()
		}
	}
	for _, k := range rows {
		k.one.start()
		k.many.start()
	}
	for _, k := range rows {
		lab.Eventually(t, 30*time.Second, "a session", func() error {
			k.many.hnet("--json", "peers")
			return k.connected()
		})
	}
	time.Sleep(probed + 5*time.Second) // what the start left is done and collected, and no path is probed any more
	t.Logf("manypeers: idle for %v", s.idle)
	before := make([]usage, len(rows))
	for i, k := range rows {
		before[i] = k.many.usage()
	}
	time.Sleep(s.idle)
	for i, k := range rows {
		k.idle = k.many.usage().since(before[i], s.idle)
	}
	for _, k := range rows {
		t.Logf("manypeers: %d known: %.1f MB, %.1f of them private, %.2f ms of CPU and %d wake-ups a second, ready in %v", k.count, k.idle.rss, k.idle.anon, ms(k.idle.cpu),
			k.idle.switches, k.many.started)
	}
	for range s.rounds {
		first := 0.
		for i, k := range rows {
			m := k.throughput(t, s.stream)
			if i == 0 {
				first = m
			}
			k.mbits, k.ratios = append(k.mbits, m), append(k.ratios, m/first)
			t.Logf("manypeers: %d known: %.0f Mbit/s", k.count, m)
		}
	}
	for round := range s.rounds {
		for _, k := range rows {
			_, took := k.many.hnet("peers")
			k.list = append(k.list, took)
			if k.count < whitelist.MaxEntries {
				_, took = k.many.hnet("whitelist", "add", stranger(1<<20+round).PublicKey().String())
			} else { // it is full
				_, took = k.many.hnet("whitelist", "rm", stranger(round).Address().String())
			}
			k.add = append(k.add, took)
		}
	}
	for _, k := range rows {
		t.Logf("manypeers: %d known: hnet peers in %v, whitelist add in %v", k.count, median(k.list), median(k.add))
		k.many.stop()
		k.one.stop()
	}
	return rows
}

func newKnown(t lab.TB, l *lab.Lab, count int) *known {
	a, b := l.Host(fmt.Sprintf("many%d", count)), l.Host(fmt.Sprintf("one%d", count))
	l.LAN(lab.Link{}, a, b)
	k := &known{count: count, many: newDaemon(t, a, nil), one: newDaemon(t, b, nil)}
	there := entry(k.one.id, b.Name())
	there.Endpoint = k.one.underlay().String()
	list := []whitelist.Entry{there}
	for i := range count - 1 {
		list = append(list, entry(stranger(i), fmt.Sprintf("robot-%05d", i)))
	}
	k.many.trust(list)
	back := entry(k.many.id, a.Name())
	back.Endpoint = k.many.underlay().String()
	k.one.trust([]whitelist.Entry{back})
	return k
}

// connected has the one that is there talk to the daemon.
func (k *known) connected() error {
	k.one.hnet("ping", k.many.id.Address().String(), "-c", "1")
	for _, p := range k.many.peers() {
		if p.Address == k.one.id.Address() && p.State == api.Connected {
			return nil
		}
	}
	return fmt.Errorf("%d known: there is none with %s", k.count, k.one.id.Address())
}

// since is what was used from before to u, per second of span; memory is as it is in u.
func (u usage) since(before usage, span time.Duration) usage {
	u.cpu = time.Duration(float64(u.cpu-before.cpu) / span.Seconds())
	u.switches = uint64(float64(u.switches-before.switches) / span.Seconds())
	return u
}

// throughput measures one TCP stream to the peer that is there, in Mbit/s.
func (k *known) throughput(t lab.TB, span time.Duration) float64 {
	s := lab.StartStream(t, k.many.host, k.one.host, k.one.id.Address())
	defer s.Close()
	return s.Mbits(span)
}

func median[T float64 | time.Duration](list []T) T {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[len(sorted)/2]
}
