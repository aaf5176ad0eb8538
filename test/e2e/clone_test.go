package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// TestClonedIdentity starts a copied disk image beside its original, and a peer of both.
func TestClonedIdentity(t *testing.T) {
	l := lab.New(t)
	ha, hb, hc := l.Host("robot1"), l.Host("robot2"), l.Host("robot3")
	n := l.LAN(lab.Link{}, ha, hb, hc)
	a, c := fleet.Start(t, ha, ""), fleet.Start(t, hc, "")
	fleet.Trust(a, c)
	mustPing(t, c, a.Address)
	b := &fleet.Robot{}
	*b = *fleet.Start(t, hb, "") // makes the folder; its own identity gives way to the copy
	b.Daemon.Stop()
	hb.Run(t, "ip", "link", "delete", "hnet0")
	for name, content := range snapshot(t, ha.Path(stateDir)) {
		put(t, hb.Path(stateDir+name), content, 0o600)
	}
	b.Restart()
	var id struct{ Address netip.Addr }
	b.JSON(&id, "id")
	if id.Address != a.Address {
		t.Fatalf("the copy is %s, not %s", id.Address, a.Address)
	}
	// A third host is sure when both have answered a challenge that is younger than either: it makes one each minute, or on a new link.
	lab.Eventually(t, 10*time.Second, "the warnings", func() (err error) {
		n.Detach(hc)
		n.Attach(hc)
		for range 20 {
			if err = missing(map[*fleet.Robot]string{a: "identity_cloned", b: "identity_cloned", c: "peer_cloned"}); err == nil {
				return nil
			}
		}
		return err
	})
	// What the warning says to do on the copy.
	b.Hnet("down")
	b.Daemon.Wait(5 * time.Second)
	b.Run(t, "mv", stateDir+"/identity", "/run/identity.old")
	b.Restart()
	b.JSON(&id, "id")
	if b.Address = id.Address; b.Address == a.Address {
		t.Fatal("the copy did not get a new address")
	}
	c.Hnet("whitelist", "add", b.Address.String(), "--hostname", "robot2")
	a.Hnet("whitelist", "add", b.Address.String(), "--hostname", "robot2")
	b.Hnet("whitelist", "add", a.Address.String(), "--hostname", "robot1")
	// Whatever session robot3 had with the copy, it would notice only after 15 s that nobody is there.
	c.Daemon.Stop()
	c.Restart()
	for _, pair := range [][2]*fleet.Robot{{a, c}, {c, a}, {b, c}, {c, b}, {a, b}, {b, a}} {
		lab.Eventually(t, 2*time.Second, pair[0].Name()+" to "+pair[1].Name(), func() error {
			if out, code := ping(pair[0], pair[1].Address, "-c1", "-W1"); code != 0 {
				return fmt.Errorf("%s", out)
			}
			return nil
		})
	}
	for _, r := range []*fleet.Robot{a, b, c} {
		if strings.Contains(r.Daemon.Output(), "panic") {
			t.Errorf("%s panicked", r.Name())
		}
	}
}

// missing says which robot does not warn of what it should.
func missing(codes map[*fleet.Robot]string) error {
	for r, code := range codes {
		if !warnings(r)[code] {
			return fmt.Errorf("%s does not warn %s:\n%s", r.Name(), code, r.Hnet("status"))
		}
	}
	return nil
}
