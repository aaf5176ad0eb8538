package anywhere

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/wireguard"
	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/internet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// maxSpray is what port prediction may send in its first round, which is all that there is time for here: 200 a second for 10 s.
const maxSpray = 200 * 10

// maxSprayRate is what of it arrives in any second at the most, on a machine that holds packets back for a moment.
const maxSprayRate = 200 * 3 / 2

// TestMaliciousBase has two robots meet through a Base that lies about everything it can lie about.
func TestMaliciousBase(t *testing.T) {
	n := internet.New(t, lab.New(t))
	host, victim := n.Base("base1", internet.IPv4), n.Base("victim", internet.IPv4)
	l := newLiar(1)
	own := victimOf(victim)
	stranger := identity.FromSeed([32]byte{8})
	foreign := signedRecord(t, stranger, own)

	// Each is told that it is seen at the victim's address, and its peer is told the same; STUN agrees, and says that one of the NATs is symmetric.
	l.observed = func(c *victimized, _ netip.AddrPort) netip.AddrPort { return own }
	hard := netip.Addr{} // whose NAT is said to be symmetric
	l.mapped = func(at netip.AddrPort, second bool) netip.AddrPort {
		if second && at.Addr() == hard {
			return netip.AddrPortFrom(own.Addr(), own.Port()+1)
		}
		return own
	}
	// Another node's record, forged ones, the true one.
	l.records = func(_, of *victimized) (all [][]byte) {
		all = append(all, foreign)
		for _, at := range []int{3, len(of.record) / 2, len(of.record) - 1} {
			forged := slices.Clone(of.record)
			forged[at] ^= 1
			all = append(all, forged)
		}
		return append(all, of.record)
	}
	// Every datagram twice, an old one with each, one turned into garbage with each, some late, some never.
	l.relay = func(from, to *victimized, b []byte) (out [][]byte) {
		broken := slices.Clone(b)
		broken[l.random.IntN(len(broken))] ^= 1 << l.random.IntN(8)
		out = append(out, broken, b, b)
		if n := len(to.captured); n > 0 {
			out = append(out, to.captured[l.random.IntN(n)])
		}
		if len(to.captured) < 1000 {
			to.captured = append(to.captured, slices.Clone(b))
		}
		switch l.random.IntN(20) {
		case 0:
			return nil
		case 1, 2:
			l.later(50*time.Millisecond, from, to, slices.Clone(b))
			return nil
		case 3, 4:
			out = append(out, randomBytes(l.random, 1+l.random.IntN(300)))
		}
		return out
	}
	home, plant := n.Site("home", internet.PortRestricted), n.Site("plant", internet.PortRestricted)
	hard = plant.Router.Addr4("lan0")
	l.serve(t, host)

	config := fmt.Sprintf("bases:\n  - {host: base1, address: \"%s\"}\n", l.id.Address())
	a := fleet.Start(t, home.Host("robot1").Host, config)
	b := fleet.Start(t, plant.Host("robot2").Host, config)
	for _, r := range []*fleet.Robot{a, b} {
		r.Hnet("wait", "base", "--timeout", "20s")
	}
	capture := victim.Capture(t, "lan0")
	began := time.Now()
	fleet.Trust(a, b)
	a.Hnet("wait", "peer", b.Address.String(), "--timeout", "10s")

	// The Base makes handshakes of its own, to be taken for the peer's.
	forgery := newMallory(t, b, stranger)
	before := resident(t, b.Daemon)
	ping := a.Start(t, "ping", "-n", "-6", "-i0.05", b.Address.String())
	random := rand.New(rand.NewPCG(6, 7))
	for time.Since(began) < 8*time.Second {
		for range 20 {
			initiation, err := forgery.machine.Initiation(time.Now())
			if err != nil {
				t.Fatal(err)
			}
			l.mu.Lock()
			if to := l.of(b.Address); to != nil {
				l.deliver(to, a.Address, initiation)
				l.deliver(to, a.Address, randomBytes(random, 1200))
				// Told of another place each time.
				if random.IntN(10) == 0 {
					l.introduce(to, l.of(a.Address), true)
				}
			}
			l.mu.Unlock()
			time.Sleep(5 * time.Millisecond)
		}
		for _, pair := range [][2]*fleet.Robot{{a, b}, {b, a}} {
			if p, ok := pair[0].Peer(pair[1].Address); !ok || p.Path == api.PathDirect && p.Endpoint.Addr() == own.Addr() {
				t.Errorf("%s sends what is for %s to the victim: %+v", pair[0].Name(), pair[1].Name(), p)
			}
		}
	}
	ping.Signal(2)
	ping.Wait(5 * time.Second)
	out := ping.Output()
	if strings.Contains(out, "DUP!") {
		t.Errorf("a packet was delivered twice:\n%s", out)
	}
	if !strings.Contains(out, "bytes from") {
		t.Errorf("nothing passed:\n%s", out)
	}
	t.Log(out[max(strings.LastIndex(out, "\n--- "), 0):])
	took := time.Since(began)
	frames := capture.Stop()
	for name, nat := range map[string]netip.Addr{"robot1": home.Router.Addr4("lan0"), "robot2": hard} {
		match := func(x lab.Packet) bool { return x.Src == nat }
		all, busiest := arrivals(frames, match)
		traffic, _ := arrivals(frames, func(x lab.Packet) bool {
			return match(x) && x.PayloadLen > 96 && x.PayloadLen != wireguard.InitiationSize
		})
		t.Logf("%s sent %d datagrams to the victim in %v, %d in the busiest second, %d of them no probes", name, all, took.Round(time.Millisecond), busiest, traffic)
		if all > maxSpray+probesTo(took) || busiest > maxSprayRate || traffic > 0 {
			t.Errorf("%s was made to send %d datagrams to a third party in %v, %d in the busiest second, %d of them no probes", name, all, took, busiest, traffic)
		}
	}
	// Nobody else came in, and the peer's key is the peer's.
	for _, pair := range [][2]*fleet.Robot{{a, b}, {b, a}} {
		var peers []api.Peer
		pair[0].JSON(&peers, "peers")
		var list struct {
			Entries []struct{ Address, Key string }
		}
		pair[0].JSON(&list, "whitelist", "ls")
		var id struct{ WireGuard string }
		pair[1].JSON(&id, "id")
		if len(peers) != 1 || len(list.Entries) != 1 || list.Entries[0].Key != id.WireGuard {
			t.Errorf("%s has the peers %+v and the whitelist %+v", pair[0].Name(), peers, list)
		}
	}
	after := resident(t, b.Daemon)
	t.Logf("robot2: %d kB resident before, %d after", before, after)
	if after-before > maxGrowth {
		t.Errorf("robot2 grew from %d to %d kB", before, after)
	}
}

func victimOf(h *internet.Host) netip.AddrPort { return netip.AddrPortFrom(h.Addrs()[0], 6000) }
