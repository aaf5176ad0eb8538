package e2e

import (
	"bytes"
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

// lateAnnouncement is the least time from a node's start to the last announcement that the start brings about (docs/protocol.md, LAN discovery). Whoever
// has heard that has listened for longer than anything takes that a daemon does by itself once it runs.
const lateAnnouncement = 27 * time.Second

// TestAnnouncerLearnsNothing: what robot1 does on the wire is the same to a node that it lists and to one that it does not. It answers the announcements
// of both, and neither gets anything else as long as robot1 has nothing to say to it.
func TestAnnouncerLearnsNothing(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	ha, hb, hc := l.Host("robot1"), l.Host("stranger"), l.Host("listed")
	n := l.LAN(lab.Link{}, ha, hb, hc)
	// Their addresses are known before they are there.
	stranger, listed := fleet.Start(t, hb, ""), fleet.Start(t, hc, "")
	stranger.Daemon.Stop()
	listed.Daemon.Stop()
	n.Cut(hb, hc)
	ear := ha.Capture(t, "lan0")
	born := time.Now()
	a := fleet.Start(t, ha, "")
	a.Hnet("whitelist", "add", listed.Address.String())
	robot1 := []netip.Addr{ha.Addr4("lan0"), ha.LinkLocal("lan0"), ha.Addr6("lan0")}
	announcement := func(f lab.Frame) (b []byte, by netip.Addr) {
		if p := f.Decode(); p.Kind == lab.UDP && p.DstPort == lan.Port && len(p.Payload) == lan.Size {
			return p.Payload, p.Src
		}
		return nil, netip.Addr{}
	}
	heard := make(map[string]bool)
	ear.Wait(20*time.Second, "all of robot1's first announcements, which answer nobody", func(f lab.Frame) bool {
		if b, by := announcement(f); slices.Contains(robot1, by) {
			heard[string(b[4:8])] = true // its number
		}
		return len(heard) == 3
	})
	ear.Stop()
	n.Restore(hb, hc)
	// The stranger comes first, so that it is not an answer to the other which answers it.
	announcers := []*fleet.Robot{stranger, listed}
	captures := []*lab.Capture{hb.Capture(t, "lan0"), hc.Capture(t, "lan0")}
	for i, r := range announcers {
		r.Restart()
		var nonces [][]byte // of its announcements
		captures[i].Wait(10*time.Second, "robot1's answer to the "+r.Name(), func(f lab.Frame) bool {
			b, by := announcement(f)
			if b != nil && f.Out {
				nonces = append(nonces, b[16:24])
			}
			return slices.Contains(robot1, by) && slices.ContainsFunc(nonces, func(nonce []byte) bool { return bytes.Contains(b[60:][:8*int(b[56])], nonce) })
		})
	}
	lab.Eventually(t, 10*time.Second, "robot1 learns the listed node's key", func() error {
		if out := a.Hnet("--json", "whitelist", "ls"); strings.Contains(out, `"key": ""`) {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
	got := make([][]string, len(announcers))
	for i, c := range captures {
		c.Wait(2*lateAnnouncement, "robot1's late announcement", func(f lab.Frame) bool {
			_, by := announcement(f)
			return slices.Contains(robot1, by) && f.Time.Sub(born) >= lateAnnouncement
		})
		for _, f := range c.Stop() {
			p := f.Decode()
			kind := fmt.Sprintf("UDP to port %d, %d B", p.DstPort, p.PayloadLen)
			if p.Kind == lab.UDP && slices.Contains(robot1, p.Src) && !slices.Contains(got[i], kind) {
				got[i] = append(got[i], kind)
			}
		}
	}
	want := []string{fmt.Sprintf("UDP to port %d, %d B", lan.Port, lan.Size)}
	if !slices.Equal(got[0], want) || !slices.Equal(got[1], want) {
		t.Errorf("a stranger gets %q, a listed node %q, want %q", got[0], got[1], want)
	}
}
