package node

import (
	"net/netip"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/lan"
	"github.com/hnet-robotics/hnet_bridge/overlay/record"
	"github.com/hnet-robotics/hnet_bridge/overlay/whitelist"
)

// TestSightingStartsNothing: who is on the whitelist and announces itself is remembered and not contacted, whatever it announces next, as long as
// nobody here has something for it: it gets what a stranger gets.
func TestSightingStartsNothing(t *testing.T) {
	n := openNode(t, nil)
	id := identity.FromSeed([32]byte{9})
	if _, err := n.whitelist.Add(whitelist.Entry{Address: id.Address(), Source: whitelist.SourceLocal}); err != nil {
		t.Fatal(err)
	}
	heard := lan.Sighting{Record: record.Record{Key: id.SigningKey(), Lifetime: time.Hour}, Endpoint: netip.MustParseAddrPort("192.0.2.9:5582"), Interface: 1}
	moved, restarted := heard, heard
	moved.Endpoint = netip.MustParseAddrPort("192.0.2.10:5582")
	restarted.Instance, restarted.Restarted = [8]byte{1}, true
	for what, s := range map[string]lan.Sighting{"heard": heard, "elsewhere": moved, "restarted": restarted} {
		n.sighted(s)
		if peers := n.engine.Peers(); len(peers) > 0 {
			t.Errorf("%s: the data path deals with %+v", what, peers)
		}
	}
	if e, _ := n.whitelist.Get(id.Address()); e.Key.IsZero() {
		t.Error("its key was not learned")
	}
	if at := n.contacts.Candidates(time.Now(), id.Address()); len(at) != 2 {
		t.Errorf("where it was heard is not remembered: %v", at)
	}
}
