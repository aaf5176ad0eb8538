package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hnet-robotics/hnet_bridge/dds/spdp"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// asParticipants as first argument makes this program participants of the host that it runs on: the second is its address,
// the third their number, the fourth how many others each is to be told of.
const asParticipants = "as-participants"

// participants announce themselves to the relay, and tell when all know all.
func participants(own netip.Addr, n, others int) error {
	var all sync.WaitGroup
	for i := range n {
		port := uint16(7410 + 2*i)
		conn, err := net.ListenUDP("udp6", net.UDPAddrFromAddrPort(netip.AddrPortFrom(own, port)))
		if err != nil {
			return err
		}
		a := own.As16()
		b := announcement(wire.GuidPrefix{2, 2, a[14], a[15], byte(i), a[13]}, own, port)
		say := func() { _, _ = conn.WriteToUDPAddrPort(b, netip.AddrPortFrom(own, spdp.LocalPort)) }
		all.Add(1)
		go func() {
			for {
				say()
				time.Sleep(10 * time.Second)
			}
		}()
		go func() {
			known := map[wire.GuidPrefix]bool{}
			buf := make([]byte, 65536)
			for {
				n, err := conn.Read(buf)
				if err != nil || n < wire.HeaderLen {
					continue
				}
				from := wire.GuidPrefix(buf[8:20])
				if from[0] == 1 {
					say()
				} else if !known[from] {
					if known[from] = true; len(known) == others {
						all.Done()
					}
				}
			}
		}()
	}
	fmt.Println("said", time.Now().UnixNano())
	all.Wait()
	fmt.Println("all", time.Now().UnixNano())
	select {}
}

// live is the same as simulate with real daemons, on one LAN.
func live(t lab.TB, hosts, each int, span time.Duration) (r result, memory uint64) {
	l := lab.New(t)
	var parts []lab.Part
	var list []*lab.Host
	for i := range hosts {
		h := l.Host(fmt.Sprintf("robot%d", i+1))
		list, parts = append(list, h), append(parts, h)
	}
	l.LAN(lab.Link{Delay: 10 * time.Millisecond}, parts...)
	var robots []*fleet.Robot
	var captures []*lab.Capture
	for _, h := range list {
		robots = append(robots, fleet.Start(t, h, ""))
	}
	fleet.Trust(robots...)
	for i, x := range robots {
		for _, y := range robots[:i] {
			x.Hnet("wait", "peer", y.Address.String(), "--timeout", "30s")
		}
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatalf("%v", err)
	}
	alone := memoryOf(t, robots[0])
	for _, x := range robots {
		captures = append(captures, x.Capture(t, "hnet0"))
	}
	began := cpuOf(t, robots)
	var running []*lab.Process
	for _, x := range robots {
		running = append(running, x.Start(t, exe, asParticipants, x.Address.String(), strconv.Itoa(each), strconv.Itoa(hosts*each-1)))
	}
	var said, all int64
	for _, p := range running {
		p.WaitLine("^all ", time.Minute)
		for line := range strings.Lines(p.Output()) {
			var at int64
			if _, err := fmt.Sscanf(line, "said %d", &at); err == nil {
				said = max(said, at)
			} else if _, err := fmt.Sscanf(line, "all %d", &at); err == nil {
				all = max(all, at)
			}
		}
	}
	r = result{hosts: hosts, each: each, known: time.Duration(all - said)}
	time.Sleep(span)
	r.cpuJoin = (cpuOf(t, robots) - began) / time.Duration(hosts)
	r.join = count(captures, hosts)
	captures = captures[:0]
	for _, x := range robots {
		captures = append(captures, x.Capture(t, "hnet0"))
	}
	began = cpuOf(t, robots)
	time.Sleep(span)
	r.cpu = (cpuOf(t, robots) - began) / time.Duration(hosts)
	r.idle = count(captures, hosts)
	memory = memoryOf(t, robots[0])
	r.memory = memory - min(memory, alone)
	return r, memory
}

// count is what daemons told each other, per host.
func count(captures []*lab.Capture, hosts int) (sum traffic) {
	for _, c := range captures {
		for _, f := range c.Stop() {
			if to, ok := datagram(f); ok && to.Port() == spdp.PeerPort {
				sum.packets++
				sum.bytes += f.Len
			}
		}
	}
	return traffic{sum.packets / hosts, sum.bytes / hosts}
}

// memoryOf is what a daemon has resident.
func memoryOf(t lab.TB, r *fleet.Robot) uint64 {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(r.Daemon.PID()), "status"))
	if err != nil {
		t.Fatalf("%v", err)
	}
	for line := range strings.Lines(string(b)) {
		var kb uint64
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kb); err == nil {
			return kb << 10
		}
	}
	return 0
}

// cpuOf is the processor time of all daemons.
func cpuOf(t lab.TB, robots []*fleet.Robot) (sum time.Duration) {
	for _, r := range robots {
		b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(r.Daemon.PID()), "stat"))
		if err != nil {
			t.Fatalf("%v", err)
		}
		_, after, _ := strings.Cut(string(b), ") ")
		f := strings.Fields(after)
		for _, ticks := range f[11:13] {
			n, _ := strconv.Atoi(ticks)
			sum += time.Duration(n) * 10 * time.Millisecond
		}
	}
	return sum
}
