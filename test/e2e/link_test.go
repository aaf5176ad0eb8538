package e2e

import (
	"fmt"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// eventuallyPing waits until a ping gets through, and returns how long that took.
func eventuallyPing(t *testing.T, r *fleet.Robot, to netip.Addr) time.Duration {
	t.Helper()
	start := time.Now()
	lab.Eventually(t, 10*time.Second, fmt.Sprintf("ping from %s to %s", r.Name(), to), func() error {
		if out, code := ping(r, to, "-c1", "-W0.3"); code != 0 {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
	return time.Since(start)
}

// TestFlappingLink switches a link off and on ten times, in two ways.
func TestFlappingLink(t *testing.T) {
	for name, addressing := range map[string]lab.Addressing{"dual": lab.Dual, "IPv4 only": lab.IPv4Only, "link-local only": lab.LinkLocalOnly} {
		t.Run(name, func(t *testing.T) {
			n, a, b := twoRobots(t, lab.Link{}, addressing)
			fleet.Trust(a, b)
			mustPing(t, a, b.Address)
			for range 5 {
				timely(t, "both directions after the device was switched on", 2*time.Second, func() time.Duration {
					b.LinkDown("lan0")
					b.LinkUp("lan0")
					return eventuallyPing(t, a, b.Address) + eventuallyPing(t, b, a.Address)
				})
				timely(t, "both directions after the cable was plugged in", 2*time.Second, func() time.Duration {
					n.Unplug(b)
					n.Plug(b)
					return eventuallyPing(t, b, a.Address) + eventuallyPing(t, a, b.Address)
				})
			}
		})
	}
}

// TestSmallMTU is for underlays that carry less than the tunnel's 1280 and its headers, and whose kernels know it.
func TestSmallMTU(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		mtu        int
		addressing lab.Addressing
	}{
		"1280":       {1280, lab.Dual},
		"1280, IPv4": {1280, lab.IPv4Only},
		"1280, IPv6": {1280, lab.IPv6Only},
		"1100, IPv4": {1100, lab.IPv4Only},
		"576, IPv4":  {576, lab.IPv4Only},
		"9000 jumbo": {9000, lab.Dual},
		"1340, IPv6": {1340, lab.IPv6Only},
		"1339, IPv4": {1339, lab.IPv4Only},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// A device below IPv6's smallest MTU has no IPv6 to give addresses to: it shrinks afterwards.
			_, a, b := twoRobots(t, lab.Link{MTU: max(test.mtu, 1280)}, test.addressing)
			for _, r := range []*fleet.Robot{a, b} {
				r.Run(t, "ip", "link", "set", "lan0", "mtu", strconv.Itoa(test.mtu))
			}
			fleet.Trust(a, b)
			mustPing(t, a, b.Address)
			// What does not fit must be told of or split by us: the underlay fragments nothing.
			capture := a.Capture(t, "lan0")
			echoSizes(t, a, b, 1232)
			for _, f := range capture.Stop() {
				if p := f.Decode(); p.Fragment && !p.Dst.IsMulticast() {
					t.Fatalf("the underlay had to fragment: %s", p)
				}
			}
			if out, code := ping(a, b.Address, "-c1", "-W2", "-s", "8000"); code != 0 {
				t.Errorf("a ping of 8000 B, in fragments:\n%s", out)
			}
			transfer(t, a, b, 20<<20, 4*time.Second)
		})
	}
}

// TestBlackHole is a path that drops long packets without a word: contact by a known endpoint and small packets must pass.
func TestBlackHole(t *testing.T) {
	t.Parallel()
	for _, mtu := range []int{1100, 1300} {
		t.Run(strconv.Itoa(mtu), func(t *testing.T) {
			_, a, b := twoRobots(t, lab.Link{PathMTU: mtu}, lab.Dual)
			// Announcements are longer than what passes: only a key and an endpoint bring the two together.
			for _, pair := range [][2]*fleet.Robot{{a, b}, {b, a}} {
				var id api.ID
				pair[1].JSON(&id, "id")
				pair[0].Hnet("whitelist", "add", id.WireGuard, "--endpoint", netip.AddrPortFrom(pair[1].Addr4("lan0"), 5582).String())
			}
			eventuallyPing(t, a, b.Address)
			if out, code := ping(a, b.Address, "-c1", "-W1", "-s", "900"); code != 0 {
				t.Errorf("a ping of 900 B:\n%s", out)
			}
			_, code := ping(a, b.Address, "-c1", "-W0.5", "-s", "1232")
			t.Logf("a ping of 1232 B gets through: %v", code == 0)
			// The loss of a long packet harms nobody else.
			mustPing(t, a, b.Address)
		})
	}
}

// TestMTUChangesWhileInUse shrinks and widens the underlay below a session.
func TestMTUChangesWhileInUse(t *testing.T) {
	_, a, b := twoRobots(t, lab.Link{}, lab.IPv4Only)
	fleet.Trust(a, b)
	mustPing(t, a, b.Address)
	for _, mtu := range []string{"1000", "1500", "700"} {
		for _, r := range []*fleet.Robot{a, b} {
			r.Run(t, "ip", "link", "set", "lan0", "mtu", mtu)
		}
		lab.Eventually(t, 3*time.Second, "long packets at MTU "+mtu, func() error {
			if out, code := ping(a, b.Address, "-c1", "-W0.3", "-s", "1232"); code != 0 {
				return fmt.Errorf("%s", out)
			}
			return nil
		})
	}
	transfer(t, a, b, 5<<20, 4*time.Second)
}
