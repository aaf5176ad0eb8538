package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// counters are those of both hosts and the link, since the lab began.
type counters struct {
	bytes   int // of IP packets that left the hosts by the device
	packets int // the same, and those for which the device's queue had no room
	carried int // packets on the link, those included that it lost by chance
	cut     int // datagrams that IP cut into pieces to send them
	whole   int // datagrams that IP made of pieces
}

func (c counters) since(before counters) counters {
	return counters{c.bytes - before.bytes, c.packets - before.packets, c.carried - before.carried, c.cut - before.cut, c.whole - before.whole}
}

// device is what the programs use: hnet0, or the link itself.
func device(profile string) string {
	if profile == bare {
		return "lan0"
	}
	return "hnet0"
}

func (m *measurement) counters(t lab.TB, device string, robots ...*fleet.Robot) (c counters) {
	s := m.lan.Stats()
	c.carried = s.Carried + s.Lost
	for _, r := range robots {
		link, err := r.Netlink().LinkByName(device)
		if err != nil {
			t.Fatalf("%s: %v", device, err)
		}
		n := link.Attrs().Statistics
		c.bytes += int(n.TxBytes)
		c.packets += int(n.TxPackets + n.TxDropped)
		if err := r.Do(func() error {
			text, err := os.ReadFile("/proc/thread-self/net/snmp6")
			c.cut += field(string(text), "Ip6FragOKs")
			c.whole += field(string(text), "Ip6ReasmOKs")
			return err
		}); err != nil {
			t.Fatalf("counters of IPv6: %v", err)
		}
	}
	return c
}

// field is the number behind a name in lines like "Ip6FragOKs   12".
func field(text, name string) (n int) {
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == name {
			fmt.Sscan(f[1], &n)
		}
	}
	return n
}

// What a kernel gives to the pieces of IPv6 packets that are not whole yet: bytes, and seconds until it gives up.
const (
	reassemblyBytes = 4 << 20
	reassemblyTime  = 60
	// As ROS's guide to tuning advises where datagrams are cut.
	tunedReassemblyBytes = 128 << 20
	tunedReassemblyTime  = 3
)

// reassembly gives a host the room for pieces of packets that a freshly started one has: those that an earlier measurement left incomplete fill it for a
// minute, and while it is full nothing in pieces gets through.
func reassembly(t lab.TB, r *fleet.Robot, tuned bool) {
	room, seconds := reassemblyBytes, reassemblyTime
	if tuned {
		room, seconds = tunedReassemblyBytes, tunedReassemblyTime
	}
	if err := r.Do(func() error {
		stat, err := os.ReadFile("/proc/thread-self/net/sockstat6")
		if err != nil {
			return err
		}
		for name, value := range map[string]int{"ip6frag_high_thresh": heldInPieces(string(stat)) + room, "ip6frag_time": seconds} {
			if err := os.WriteFile("/proc/sys/net/ipv6/"+name, fmt.Append(nil, value), 0); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatalf("room for pieces of packets: %v", err)
	}
}

// heldInPieces is how many bytes of incomplete packets the kernel has, from /proc/net/sockstat6.
func heldInPieces(stat string) (bytes int) {
	for line := range strings.Lines(stat) {
		var packets int
		if n, _ := fmt.Sscanf(line, "FRAG6: inuse %d memory %d", &packets, &bytes); n == 2 {
			return bytes
		}
	}
	return 0
}
