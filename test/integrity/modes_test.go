package integrity

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/internet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// world is two robots that trust each other.
type world struct {
	t    *testing.T
	lab  *lab.Lab
	lan  *lab.LAN // nil if they are not on one
	a, b end
	base *lab.Host // that the two reach each other by, nil if they need none
}

// queues are those between the two.
func (w *world) queues() queues {
	q := queues{ends: []end{w.a, w.b}}
	if w.base != nil {
		q.others = append(q.others, w.base)
	}
	return q
}

// onLAN makes a world on one LAN. Both robots have the configuration.
func onLAN(t *testing.T, configuration string, link lab.Link, addressing lab.Addressing) *world {
	t.Helper()
	w := &world{t: t, lab: lab.New(t)}
	ha, hb := w.lab.Host("robot1"), w.lab.Host("robot2")
	w.lan = w.lab.LAN(link, ha, hb, addressing)
	a, b := fleet.Start(t, ha, metricsConfig+configuration), fleet.Start(t, hb, metricsConfig+configuration)
	fleet.Trust(a, b)
	w.a, w.b = end{a, a.Address}, end{b, b.Address}
	w.meet()
	return w
}

// meet waits until either robot reaches the other.
func (w *world) meet() {
	w.t.Helper()
	for _, x := range [][2]end{{w.a, w.b}, {w.b, w.a}} {
		x[0].Hnet("wait", "peer", x[1].Address.String(), "--timeout", patience.String())
		w.reaches(x[0], x[1])
	}
}

func (w *world) reaches(from, to end) {
	w.t.Helper()
	lab.Eventually(w.t, patience, from.Name()+" reaches "+to.Name(), func() error {
		if out, code := from.TryHnet("ping", to.Address.String(), "-c", "1", "-W", "1s"); code != 0 {
			return fmt.Errorf("%s", strings.TrimSpace(out))
		}
		return nil
	})
}

// byBase makes a world whose robots reach each other through a Base alone.
func byBase(t *testing.T, configuration string) *world {
	t.Helper()
	w := &world{t: t, lab: lab.New(t)}
	net := internet.New(t, w.lab)
	base := fleet.StartBase(t, net.Base("base1").Host, "--relay-rate", "0")
	w.base = base.Host
	configuration += "port_mapping: false\nbases:\n" + base.Entry("base1")
	var robots []*fleet.Robot
	for _, name := range []string{"robot1", "robot2"} {
		robots = append(robots, fleet.Start(t, net.Site("at-"+name, internet.Public).Host(name).Host, metricsConfig+configuration))
	}
	a, b := robots[0], robots[1]
	net.Core().Rules(t, fmt.Sprintf("table inet cut {\n chain forward {\n  type filter hook forward priority 0; policy accept;\n"+
		"  ip saddr {%[1]s, %[2]s} ip daddr {%[1]s, %[2]s} meta l4proto udp drop\n  ip6 saddr {%[3]s, %[4]s} ip6 daddr {%[3]s, %[4]s} meta l4proto udp drop\n }\n}\n",
		a.Addr4("lan0"), b.Addr4("lan0"), a.Addr6("lan0"), b.Addr6("lan0")))
	for _, r := range robots {
		r.Hnet("wait", "base", "--timeout", patience.String())
	}
	fleet.Trust(a, b)
	w.a, w.b = end{a, a.Address}, end{b, b.Address}
	w.meet()
	for _, x := range [][2]end{{w.a, w.b}, {w.b, w.a}} {
		if p, _ := x[0].Peer(x[1].Address); p.Path != api.PathRelayUDP {
			t.Fatalf("the path from %s is %s, want one by the Base", x[0].Name(), p.Path)
		}
	}
	return w
}

// withIPv4 has the transfers use the robots' IPv4 addresses inside the overlay.
func (w *world) withIPv4() *world {
	w.t.Helper()
	lab.Eventually(w.t, patience, "IPv4 addresses in the overlay", func() error {
		for _, x := range [][2]*end{{&w.a, &w.b}, {&w.b, &w.a}} {
			var s api.Status
			x[0].JSON(&s, "status")
			p, _ := x[1].Peer(x[0].Address)
			if !s.IPv4.IsValid() || p.IPv4 != s.IPv4 {
				return fmt.Errorf("%s has %v, and %v for %s", x[0].Name(), s.IPv4, p.IPv4, x[1].Name())
			}
			x[0].at = s.IPv4
		}
		return nil
	})
	return w
}

func cipher(name string) string { return "cipher: " + name + "\n" }

var modes = []struct {
	name string
	make func(t *testing.T) *world
}{
	{"auto", func(t *testing.T) *world { return onLAN(t, cipher("auto"), lab.Link{}, lab.Dual) }},
	{"aes256gcm", func(t *testing.T) *world { return onLAN(t, cipher("aes256gcm"), lab.Link{}, lab.IPv4Only) }},
	{"chacha20poly1305", func(t *testing.T) *world { return onLAN(t, cipher("chacha20poly1305"), lab.Link{}, lab.IPv4Only) }},
	{"aes256gcm by IPv6", func(t *testing.T) *world { return onLAN(t, cipher("aes256gcm"), lab.Link{}, lab.IPv6Only) }},
	{"chacha20poly1305 by IPv6", func(t *testing.T) *world { return onLAN(t, cipher("chacha20poly1305"), lab.Link{}, lab.IPv6Only) }},
	{"aes256gcm without segmentation offload", func(t *testing.T) *world {
		return onLAN(t, cipher("aes256gcm"), lab.Link{}, lab.IPv4Only).unsegmented(true)
	}},
	{"chacha20poly1305 without segmentation offload", func(t *testing.T) *world {
		return onLAN(t, cipher("chacha20poly1305"), lab.Link{}, lab.IPv6Only).unsegmented(true)
	}},
	{"IPv4 inside", func(t *testing.T) *world { return onLAN(t, "ipv4: auto\n", lab.Link{}, lab.Dual).withIPv4() }},
	{"in pieces", func(t *testing.T) *world { return onLAN(t, "", lab.Link{MTU: 1280}, lab.Dual) }},
	{"by a Base", func(t *testing.T) *world { return byBase(t, "") }},
}

// TestModes carries random data in every mode and compares hashes: one TCP stream, four in both directions at once, datagrams as superpackets, and
// datagrams by themselves while a stream goes the other way.
func TestModes(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the real programs")
	}
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			w := m.make(t)
			q := w.queues()
			before := w.thrown()
			v := volume()
			datagrams := uint64(v / datagramLen)
			streams(t, "one stream", stream{from: w.a, to: w.b, bytes: v})
			streams(t, "both ways at once", stream{from: w.a, to: w.b, bytes: v / 8}, stream{from: w.b, to: w.a, bytes: v / 8},
				stream{from: w.a, to: w.b, bytes: v / 8}, stream{from: w.b, to: w.a, bytes: v / 8})
			flow{from: w.a, to: w.b, count: datagrams, segments: true}.whole(t, "superpackets", q)
			flow{from: w.b, to: w.a, count: datagrams / 2}.whole(t, "datagrams", q)
			w.clean(before, undisturbed)
		})
	}
}

// TestQueuesOverflow sends datagrams as fast as it goes, far more than arrive: those that do are right, and the queues say where the others are.
func TestQueuesOverflow(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the real programs")
	}
	w := onLAN(t, "", lab.Link{}, lab.Dual)
	q := w.queues()
	before := w.thrown()
	for _, segments := range []bool{true, false} {
		f := flow{from: w.a, to: w.b, count: uint64(max(volume(), 64e6) / datagramLen), segments: segments, unchecked: true}
		if x := f.whole(t, fmt.Sprintf("segments %v", segments), q); x.received == 0 {
			t.Error("nothing arrived")
		}
	}
	w.clean(before, undisturbed)
}
