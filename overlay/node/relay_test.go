package node

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/base/client"
	"github.com/hnet-robotics/hnet_bridge/overlay/config"
	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/lan"
	"github.com/hnet-robotics/hnet_bridge/overlay/record"
	"github.com/hnet-robotics/hnet_bridge/overlay/whitelist"
)

// usesAsBase reports whether a node takes a peer for a Base.
func usesAsBase(n *Node, peer netip.Addr) bool {
	return slices.ContainsFunc(n.bases.Status(), func(s client.Status) bool { return s.Address == peer })
}

func TestPeerThatRelaysIsUsedFromItsFirstSightingOn(t *testing.T) {
	n := openNode(t, nil)
	peer := identity.FromSeed([32]byte{7})
	if _, err := n.whitelist.Add(whitelist.Entry{Address: peer.Address()}); err != nil {
		t.Fatal(err)
	}
	heard := lan.Sighting{
		Record: record.Record{Key: peer.SigningKey(), Lifetime: time.Hour, Relay: true}, Endpoint: netip.MustParseAddrPort("192.0.2.7:5582"),
	}
	n.sighted(heard)
	if !usesAsBase(n, peer.Address()) {
		t.Error("it is not used")
	}
	heard.Record.Relay = false
	n.sighted(heard)
	if usesAsBase(n, peer.Address()) {
		t.Error("it is used though it relays no more")
	}
	heard.Record.Relay = true
	n.sighted(heard)
	if _, err := n.WhitelistRemove(t.Context(), peer.Address()); err != nil {
		t.Fatal(err)
	}
	if usesAsBase(n, peer.Address()) {
		t.Error("it is used though it left the whitelist")
	}
}

// Who stops says so: else its Base keeps it for minutes, and its peers send by the relay to nobody.
func TestNodeTakesLeaveOfItsBase(t *testing.T) {
	relay := start(t, func(c *config.Config) { c.Relay = true })
	registered := func() int { return relay.relay.server.Gauges().UDP }
	for range 3 {
		robot := start(t, func(c *config.Config) {
			c.Bases = []config.Base{{Host: "127.0.0.1", Address: relay.identity.Address(), UDP: relay.port}}
		})
		relay.mustAdd(api.WhitelistAdd{Address: robot.identity.Address()})
		within := time.Now().Add(patience)
		for registered() == 0 && time.Now().Before(within) {
			time.Sleep(10 * time.Millisecond)
		}
		if registered() != 1 {
			t.Fatalf("%d registrations\n%s", registered(), robot.log)
		}
		if err := robot.stop(); err != nil {
			t.Fatal(err)
		}
		for within = time.Now().Add(patience); registered() != 0 && time.Now().Before(within); {
			time.Sleep(10 * time.Millisecond)
		}
		if got := registered(); got != 0 {
			t.Fatalf("%d registrations of a node that has stopped", got)
		}
	}
}
