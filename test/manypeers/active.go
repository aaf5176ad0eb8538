package main

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/whitelist"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// contactRate is how many peers of a crowd make contact in a second: a daemon asks for cookies above 250.
const contactRate = 100

// active is a daemon with sessions.
type active struct {
	count       int
	quiet, busy usage // cpu and switches per second: without traffic, of the first and the last; with a packet a second both ways for each peer
	sent, back  uint64
	settled     time.Duration // from the first contact to the last session
	list        time.Duration // of 'hnet peers'
}

// probed is how long after the last packet a node goes on to probe its paths; then sessions are quiet.
const probed = 30 * time.Second

// measureActive has more and more of a crowd make contact with one daemon, whose whitelist names all of them from the start.
func measureActive(t lab.TB, s spans) (rows []*active) {
	l := lab.New(t)
	hub, far := l.Host("hub"), l.Host("crowd")
	l.LAN(lab.Link{}, hub, far)
	var ids []*identity.Identity
	var addresses []netip.Addr
	var list []whitelist.Entry
	for i := range activeCounts[len(activeCounts)-1] {
		id := stranger(1<<21 + i)
		ids, addresses, list = append(ids, id), append(addresses, id.Address()), append(list, entry(id, fmt.Sprintf("robot-%05d", i)))
	}
	d := newDaemon(t, hub, list)
	d.start()
	defer d.stop()
	c := newCrowd(t, far, d.id, d.underlay(), ids)
	defer c.end()
	time.Sleep(10 * time.Second)
	rows = append(rows, &active{quiet: watch(d, s.active)})
	rows[0].busy = rows[0].quiet
	have := 0
	for _, count := range activeCounts {
		a := &active{count: count}
		begin := time.Now()
		for ; have < count; have++ {
			if err := c.engines[have].Connect(d.id.Address()); err != nil {
				t.Fatalf("manypeers: %v", err)
			}
			time.Sleep(time.Second / contactRate)
		}
		lab.Eventually(t, 60*time.Second, fmt.Sprintf("%d sessions", count), func() error {
			up := 0
			for _, p := range d.peers() {
				if p.State == api.Connected {
					up++
				}
			}
			if up < count {
				return fmt.Errorf("there are %d", up)
			}
			return nil
		})
		a.settled = time.Since(begin)
		talking := talk(t, hub, d.id.Address(), addresses[:count])
		time.Sleep(5 * time.Second)
		a.busy = watch(d, s.active)
		talking.end()
		a.sent, a.back = talking.sent.Load(), talking.back.Load()
		_, a.list = d.hnet("peers")
		t.Logf("manypeers: %d active after %v: %.1f MB, %.2f ms of CPU and %d wake-ups a second, %d of %d packets came back", count, a.settled, a.busy.anon,
			ms(a.busy.cpu), a.busy.switches, a.back, a.sent)
		rows = append(rows, a)
	}
	last := rows[len(rows)-1]
	time.Sleep(probed + 5*time.Second)
	last.quiet = watch(d, s.active)
	t.Logf("manypeers: %.2f ms of CPU and %d wake-ups a second once all is quiet", ms(last.quiet.cpu), last.quiet.switches)
	return rows
}

// watch is what the daemon uses in a while.
func watch(d *daemon, span time.Duration) usage {
	before := d.usage()
	time.Sleep(span)
	return d.usage().since(before, span)
}
