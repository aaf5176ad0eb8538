package e2e

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// twoRobots starts two robots on one LAN that do not know each other.
func twoRobots(t *testing.T, link lab.Link, addressing lab.Addressing) (*lab.LAN, *fleet.Robot, *fleet.Robot) {
	t.Helper()
	l := lab.New(t)
	a, b := l.Host("robot1"), l.Host("robot2")
	n := l.LAN(link, a, b, addressing)
	return n, fleet.Start(t, a, ""), fleet.Start(t, b, "")
}

func ping(r *fleet.Robot, to netip.Addr, args ...string) (string, int) {
	return pingName(r, to.String(), args...)
}

func pingName(r *fleet.Robot, to string, args ...string) (string, int) {
	out, err := r.Command(tContext, "ping", append(append([]string{"-n", "-6"}, args...), to)...).CombinedOutput()
	if err != nil {
		return string(out), 1
	}
	return string(out), 0
}

func mustPing(t *testing.T, r *fleet.Robot, to netip.Addr) {
	t.Helper()
	if out, code := ping(r, to, "-c1", "-W1"); code != 0 {
		t.Fatalf("%s: ping %s failed:\n%s", r.Name(), to, out)
	}
}

func TestPingRightAfterWhitelistAdd(t *testing.T) {
	for name, addressing := range map[string]lab.Addressing{
		"dual": lab.Dual, "IPv4 only": lab.IPv4Only, "IPv6 only": lab.IPv6Only, "link-local only": lab.LinkLocalOnly,
	} {
		t.Run(name, func(t *testing.T) {
			_, a, b := twoRobots(t, lab.Link{}, addressing)
			fleet.Trust(a, b)
			mustPing(t, a, b.Address)
			mustPing(t, b, a.Address)
			p, _ := a.Peer(b.Address)
			if p.State != api.Connected || p.Path != api.PathLAN || !p.Whitelisted || p.Hostname != "robot2" || p.LastHandshake == nil {
				t.Errorf("robot1 says of robot2: %+v", p)
			}
		})
	}
}

func TestPingByNameThroughEtcHosts(t *testing.T) {
	_, a, b := twoRobots(t, lab.Link{}, lab.Dual)
	fleet.Trust(a, b)
	if out, code := pingName(a, "robot2", "-c1", "-W1"); code != 0 {
		t.Fatalf("ping robot2: %s", out)
	}
	if got := strings.TrimSpace(a.Hnet("ip", "robot2")); got != b.Address.String() {
		t.Errorf("hnet ip robot2 says %s, want %s", got, b.Address)
	}
	a.Hnet("whitelist", "rm", "robot2")
	if out := a.Run(t, "cat", "/etc/hosts"); strings.Contains(out, "robot2") {
		t.Errorf("the name stayed in /etc/hosts:\n%s", out)
	}
}

// TestSecondStartFindsTheFirst is the contract: first contact on a LAN without any Base within a second.
func TestSecondStartFindsTheFirst(t *testing.T) {
	_, a, b := twoRobots(t, lab.Link{}, lab.Dual)
	fleet.Trust(a, b)
	timely(t, "the first ping from the second daemon's start on", time.Second, func() time.Duration {
		b.Daemon.Stop()
		a.Daemon.Stop()
		// Neither remembers where the other was.
		for _, r := range []*fleet.Robot{a, b} {
			r.Run(t, "rm", "-f", "/var/lib/hnet/contacts.json")
		}
		a.Restart()
		start := time.Now()
		b.Restart()
		if out, code := ping(a, b.Address, "-c1", "-W10"); code != 0 {
			t.Fatalf("the first ping:\n%s", out)
		}
		return time.Since(start)
	})
}

func TestFirstContactOnALossyLink(t *testing.T) {
	_, a, b := twoRobots(t, lab.Link{Loss: 0.2, Delay: 20 * time.Millisecond}, lab.Dual)
	fleet.Trust(a, b)
	a.Hnet("wait", "peer", "robot2", "--timeout", "10s")
	b.Hnet("wait", "peer", "robot1", "--timeout", "10s")
}

func TestDefaultDenyBothWays(t *testing.T) {
	t.Parallel()
	_, a, b := twoRobots(t, lab.Link{}, lab.Dual)
	out, code := ping(a, b.Address, "-c1", "-W5")
	if code == 0 || !strings.Contains(out, "prohibited") {
		t.Errorf("a ping to a node that is not whitelisted should fail at once with the reason:\n%s", out)
	}
	// One side alone is not enough.
	a.Hnet("whitelist", "add", b.Address.String())
	if out, code := ping(a, b.Address, "-c1", "-W1"); code == 0 {
		t.Errorf("a ping went through though robot2 does not list robot1:\n%s", out)
	}
	b.Daemon.WaitLine("not on the whitelist asked for contact.*"+regexp.QuoteMeta(a.Address.String()), 5*time.Second)
	b.Hnet("whitelist", "add", a.Address.String())
	mustPing(t, a, b.Address)
	// Leaving the list ends it at once, in both directions.
	b.Hnet("whitelist", "rm", a.Address.String())
	if out, code := ping(b, a.Address, "-c1", "-W1"); code == 0 || !strings.Contains(out, "prohibited") {
		t.Errorf("robot2 still reaches robot1:\n%s", out)
	}
	if _, code := ping(a, b.Address, "-c1", "-W1"); code == 0 {
		t.Error("robot1 still reaches robot2")
	}
}

func TestWhitelistOffLetsAnyoneIn(t *testing.T) {
	_, a, b := twoRobots(t, lab.Link{}, lab.Dual)
	b.Hnet("whitelist", "disable")
	a.Hnet("whitelist", "add", b.Address.String())
	mustPing(t, a, b.Address)
	if out := b.Hnet("status"); !strings.Contains(out, "whitelist_disabled") {
		t.Errorf("status does not warn that anyone may connect:\n%s", out)
	}
	b.Hnet("whitelist", "enable")
	if _, code := ping(a, b.Address, "-c1", "-W1"); code == 0 {
		t.Error("robot1 is still let in though the whitelist is on again")
	}
}

func TestRestartsAreFeltForUnderASecond(t *testing.T) {
	for name, end := range map[string]func(*lab.Process){"SIGTERM": (*lab.Process).Stop, "kill -9": (*lab.Process).Kill9} {
		t.Run(name, func(t *testing.T) {
			_, a, b := twoRobots(t, lab.Link{}, lab.Dual)
			fleet.Trust(a, b)
			mustPing(t, a, b.Address)
			for _, restarted := range []*fleet.Robot{b, a} {
				timely(t, "a restart of "+restarted.Name(), time.Second, func() time.Duration {
					end(restarted.Daemon)
					if out := restarted.Run(t, "ip", "-6", "addr", "show", "dev", "hnet0"); !strings.Contains(out, restarted.Address.String()) {
						t.Fatalf("hnet0 lost its address with its daemon:\n%s", out)
					}
					start := time.Now()
					restarted.Restart()
					for _, r := range []struct{ from, to *fleet.Robot }{{a, b}, {b, a}} {
						// A packet under way when the keys were lost is gone; the next ones are judged.
						if out, code := ping(r.from, r.to.Address, "-c1", "-w10", "-i.05"); code != 0 {
							t.Fatalf("%s to %s after the restart of %s:\n%s", r.from.Name(), r.to.Name(), restarted.Name(), out)
						}
					}
					return time.Since(start)
				})
			}
		})
	}
}

func TestSocketsOutliveTheDaemon(t *testing.T) {
	_, a, b := twoRobots(t, lab.Link{}, lab.Dual)
	fleet.Trust(a, b)
	conn := listenUDP(t, b, netip.AddrPortFrom(b.Address, 7400))
	sender := listenUDP(t, a, netip.AddrPortFrom(a.Address, 7400))
	say := func(word string) {
		t.Helper()
		buffer := make([]byte, 100)
		// A datagram sealed with keys that were lost is gone, so it is said again until it is heard.
		lab.Eventually(t, 5*time.Second, word, func() error {
			if _, err := sender.WriteToUDPAddrPort([]byte(word), netip.AddrPortFrom(b.Address, 7400)); err != nil {
				return err
			}
			conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			n, _, err := conn.ReadFromUDPAddrPort(buffer)
			if err == nil && string(buffer[:n]) != word {
				err = fmt.Errorf("received %q", buffer[:n])
			}
			return err
		})
	}
	say("before")
	a.Daemon.Kill9()
	a.Restart()
	say("after kill -9 of the sender's daemon")
	b.Daemon.Stop()
	b.Restart()
	say("after SIGTERM of the receiver's daemon")
}

func TestDownRemovesTheInterface(t *testing.T) {
	_, a, b := twoRobots(t, lab.Link{}, lab.Dual)
	fleet.Trust(a, b)
	a.Hnet("down")
	if code := a.Daemon.Wait(5 * time.Second); code != 0 {
		t.Errorf("hnetd ended with %d", code)
	}
	if out := a.Run(t, "ip", "link"); strings.Contains(out, "hnet0") {
		t.Errorf("hnet0 is still there:\n%s", out)
	}
	if out := a.Run(t, "cat", "/etc/hosts"); strings.Contains(out, "hnet") || strings.Contains(out, "robot2") {
		t.Errorf("names stayed in /etc/hosts:\n%s", out)
	}
	out, code := a.TryHnet("status")
	if code != 1 || strings.Count(out, "\n") != 1 || !strings.Contains(out, "hnetd is not running") {
		t.Errorf("status without a daemon: exit %d\n%s", code, out)
	}
}

func TestAddressChangeIsNoticed(t *testing.T) {
	t.Parallel()
	_, a, b := twoRobots(t, lab.Link{}, lab.IPv4Only)
	fleet.Trust(a, b)
	mustPing(t, a, b.Address)
	for i := range 3 {
		b.SetAddr("lan0", netip.MustParsePrefix(fmt.Sprintf("10.0.1.%d/24", 200+i)))
		start := time.Now()
		lab.Eventually(t, 5*time.Second, "traffic after the address change", func() error {
			if out, code := ping(a, b.Address, "-c1", "-W1"); code != 0 {
				return fmt.Errorf("no answer:\n%s", out)
			}
			return nil
		})
		t.Logf("traffic again %v after the address changed", time.Since(start))
		if p, _ := a.Peer(b.Address); p.Endpoint.Addr().String() != fmt.Sprintf("10.0.1.%d", 200+i) {
			t.Errorf("robot1 sends to %s", p.Endpoint)
		}
	}
}

func TestInterfaceThatComesLater(t *testing.T) {
	l := lab.New(t)
	ha, hb := l.Host("robot1"), l.Host("robot2")
	a, b := fleet.Start(t, ha, ""), fleet.Start(t, hb, "")
	fleet.Trust(a, b)
	l.LAN(lab.Link{}, ha, hb)
	a.Hnet("wait", "peer", "robot2", "--timeout", "5s")
	mustPing(t, b, a.Address)
}
