package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/lan"
	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// announcer is a socket from which a host can speak to the groups of LAN discovery.
func announcer(t *testing.T, h *lab.Host, from netip.Addr) *net.UDPConn {
	t.Helper()
	if from.Is6() {
		from = from.WithZone("lan0")
	}
	return listenUDP(t, h, netip.AddrPortFrom(from, lan.Port))
}

func groupOf(from netip.Addr) netip.AddrPort {
	if from.Is4() {
		return netip.AddrPortFrom(lan.GroupIPv4, lan.Port)
	}
	return netip.AddrPortFrom(lan.GroupIPv6.WithZone("lan0"), lan.Port)
}

// TestReplayedAnnouncements: what robot2 once said, said again by another after it is gone, brings nobody a datagram of the tunnel.
func TestReplayedAnnouncements(t *testing.T) {
	l := lab.New(t)
	ha, hb, stranger := l.Host("robot1"), l.Host("robot2"), l.Host("stranger")
	n := l.LAN(lab.Link{}, ha, hb, stranger)
	ear := stranger.Capture(t, "lan0") // it is in the multicast's way as everybody is
	a, b := fleet.Start(t, ha, ""), fleet.Start(t, hb, "")
	fleet.Trust(a, b)
	mustPing(t, a, b.Address)
	four, linkLocal := b.Addr4("lan0"), b.LinkLocal("lan0")
	said := func(from netip.Addr) (payloads [][]byte) {
		for _, f := range ear.Frames() {
			if p := f.Decode(); !f.Out && p.Kind == lab.UDP && p.Src == from && p.DstPort == lan.Port {
				payloads = append(payloads, p.Payload)
			}
		}
		return payloads
	}
	by4, by6 := said(four), said(linkLocal)
	if len(by4) == 0 || len(by6) == 0 {
		t.Fatalf("robot2 was heard %d times by IPv4 and %d times by IPv6", len(by4), len(by6))
	}
	b.Daemon.Stop()
	n.Detach(hb)
	// robot1 remembers whom it trusts and not where that was, and runs anew.
	a.Daemon.Stop()
	a.Run(t, "rm", stateDir+"/contacts.json")
	capture := a.Capture(t, "lan0")
	a.Restart()

	replay := func(from netip.Addr, payloads [][]byte) {
		t.Helper()
		c := announcer(t, stranger, from)
		for range 3 {
			for _, b := range payloads {
				if !send(c, b, groupOf(from)) {
					t.Fatalf("the stranger cannot speak from %s", from)
				}
			}
		}
		// robot1 wants to talk in the middle of it.
		if out, code := ping(a, b.Address, "-c2", "-i0.1", "-W0.3"); code == 0 {
			t.Fatalf("somebody answered in the place of robot2:\n%s", out)
		}
	}
	replay(stranger.Addr4("lan0"), by4)
	replay(stranger.LinkLocal("lan0"), by6)
	stranger.SetAddr("lan0", netip.PrefixFrom(four, 24))
	replay(four, by4)
	stranger.Run(t, "ip", "addr", "add", linkLocal.String()+"/64", "dev", "lan0", "nodad")
	replay(linkLocal, by6)
	for _, f := range capture.Stop() {
		if p := f.Decode(); f.Out && p.Kind == lab.UDP && p.DstPort != lan.Port {
			t.Errorf("robot1 sent to the stranger: %s", p)
		}
	}
	if p, _ := a.Peer(b.Address); p.Endpoint.IsValid() {
		t.Errorf("robot1 believes robot2 at %s", p.Endpoint)
	}
	// The same robot1 finds the true robot2 at once.
	stranger.LinkDown("lan0")
	n.Attach(hb)
	b.Restart()
	a.Hnet("wait", "peer", "robot2", "--timeout", "5s")
}

// TestAnnouncerLearnsNothing compares what robot1 does on the wire when a node appears that it lists and one that it does not.
func TestAnnouncerLearnsNothing(t *testing.T) {
	behaviour := func(t *testing.T, listed bool) (kinds []string) {
		l := lab.New(t)
		ha, hb := l.Host("robot1"), l.Host("robot2")
		n := l.LAN(lab.Link{}, ha, hb)
		// The address of robot2 is known before it is there.
		b := fleet.Start(t, hb, "")
		b.Daemon.Stop()
		n.Cut(hb)
		a := fleet.Start(t, ha, "")
		if listed {
			a.Hnet("whitelist", "add", b.Address.String())
		}
		n.Restore(hb)
		capture := b.Capture(t, "lan0")
		b.Restart()
		// Both know each other when robot1 has answered robot2's first words; what it does then, it does within that answer's time.
		heard := 0
		capture.Wait(5*time.Second, "robot1's announcements", func(f lab.Frame) bool {
			if p := f.Decode(); !f.Out && p.Kind == lab.UDP && p.DstPort == lan.Port {
				heard++
			}
			return heard >= 4
		})
		if listed {
			lab.Eventually(t, 5*time.Second, "robot1 learns robot2's key", func() error {
				if out := a.Hnet("--json", "whitelist", "ls"); strings.Contains(out, `"key": ""`) {
					return fmt.Errorf("%s", out)
				}
				return nil
			})
		}
		for _, f := range capture.Stop() {
			p := f.Decode()
			kind := fmt.Sprintf("UDP to port %d, %d B", p.DstPort, p.PayloadLen)
			if !f.Out && p.Kind == lab.UDP && !slices.Contains(kinds, kind) {
				kinds = append(kinds, kind)
			}
		}
		return kinds
	}
	var listed, stranger []string
	t.Run("listed", func(t *testing.T) { listed = behaviour(t, true) })
	t.Run("not listed", func(t *testing.T) { stranger = behaviour(t, false) })
	t.Logf("robot1 sent: %q", stranger)
	if !slices.Equal(listed, stranger) || len(stranger) != 1 {
		t.Errorf("a listed node gets %q, a stranger %q", listed, stranger)
	}
}
