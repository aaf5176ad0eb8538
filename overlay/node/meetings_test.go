package node

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/config"
	"github.com/hnet-robotics/hnet_bridge/overlay/engine"
	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/whitelist"
)

// manyKnown are peers that are known by key and name alone, in the order of their addresses.
func manyKnown(t *testing.T, n *Node, count int) (peers []netip.Addr) {
	t.Helper()
	var entries []whitelist.Entry
	for i := range count {
		seed := [32]byte{77}
		binary.BigEndian.PutUint32(seed[1:], uint32(i))
		id := identity.FromSeed(seed)
		entries = append(entries, whitelist.Entry{Address: id.Address(), Key: id.PublicKey()})
		peers = append(peers, id.Address())
	}
	if err := n.whitelist.SetStatic(entries); err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(peers, netip.Addr.Compare)
	return peers
}

// TestMeetings: who was contacted is always among them, then those of whom it is known where they may be, then others up to the bound.
func TestMeetings(t *testing.T) {
	n := openNode(t, nil)
	peers := manyKnown(t, n, 100)
	list := func(most int) (idle []netip.Addr, others int) {
		for _, m := range n.Meetings(most) {
			if !m.Whitelisted {
				t.Errorf("%v is not on the whitelist", m.Peer)
			}
			if m.State == api.Idle {
				idle = append(idle, m.Peer)
			} else {
				others++
			}
		}
		return idle, others
	}
	if idle, others := list(10); !slices.Equal(idle, peers[:10]) || others != 0 {
		t.Errorf("at the start: %v and %d others", idle, others)
	}
	if idle, _ := list(1000); !slices.Equal(idle, peers) {
		t.Errorf("%d of a short list", len(idle))
	}
	if idle, _ := list(0); len(idle) > 0 {
		t.Errorf("none wanted, got %v", idle)
	}
	// Some are sought, in vain: they take the place of others.
	for _, p := range peers[:4] {
		if err := n.engine.Connect(p); err != nil {
			t.Fatal(err)
		}
	}
	if idle, others := list(10); !slices.Equal(idle, peers[4:10]) || others != 4 {
		t.Errorf("with four that are sought: %v and %d others", idle, others)
	}
	// Of some it is known where they may be: they come first, and are not held up by those that are nowhere.
	for _, p := range peers[50:60] {
		n.contacts.Heard(time.Now(), p, netip.MustParseAddrPort("192.0.2.1:5582"), time.Hour)
	}
	if idle, others := list(6); !slices.Equal(idle, peers[50:56]) || others != 4 {
		t.Errorf("with ten that may be found: %v and %d others", idle, others)
	}
	if idle, others := list(20); !slices.Equal(idle, slices.Concat(peers[50:60], peers[4:10])) || others != 4 {
		t.Errorf("with ten that may be found, and room: %v and %d others", idle, others)
	}
}

// TestPeersOfTheStart: of those that the whitelist named when the node started nothing is kept or told before there is news of them, and their end is told.
func TestPeersOfTheStart(t *testing.T) {
	n := openNode(t, func(c *config.Config) { c.WhitelistEnabled = true })
	old, fresh := identity.FromSeed([32]byte{1}).Address(), identity.FromSeed([32]byte{2}).Address()
	if _, err := n.whitelist.Add(whitelist.Entry{Address: old}); err != nil {
		t.Fatal(err)
	}
	events := n.Subscribe(t.Context())
	happened := func() (got []api.EventType) {
		n.lookAt(t.Context(), n.inbox.take())
		for len(events) > 0 {
			if e := <-events; e.Type == api.EventPeerAdded || e.Type == api.EventPeerRemoved {
				got = append(got, e.Type)
			}
		}
		return got
	}
	check := func(what string, want ...api.EventType) {
		t.Helper()
		if got := happened(); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	add := func(a netip.Addr, name string) {
		t.Helper()
		if _, err := n.WhitelistAdd(t.Context(), api.WhitelistAdd{Address: a, Hostname: name}); err != nil {
			t.Fatal(err)
		}
	}
	remove := func(a netip.Addr) {
		t.Helper()
		if _, err := n.WhitelistRemove(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	check("nothing happened")
	if len(n.roster.peers) != 0 {
		t.Errorf("%d on the roster", len(n.roster.peers))
	}
	add(fresh, "")
	check("one is added", api.EventPeerAdded)
	add(fresh, "robot")
	add(old, "other")
	check("both get names")
	n.inbox.put(old, contactWanted, netip.AddrPort{})
	check("one is wanted")
	remove(fresh)
	check("one is removed", api.EventPeerRemoved)
	remove(old)
	check("the one of the start is removed", api.EventPeerRemoved)
	if len(n.roster.peers) != 0 {
		t.Errorf("%d on the roster in the end", len(n.roster.peers))
	}
	if _, err := n.whitelist.Add(whitelist.Entry{Address: old}); err != nil {
		t.Fatal(err)
	}
	remove(old)
	check("one of the start is removed that there was no news of", api.EventPeerRemoved)
	n.inbox.put(fresh, refused, netip.AddrPort{})
	check("a stranger asks")
}

// TestGivenUpPeersAreLeftAlone: who does not answer and is not tried any more is not looked at every second.
func TestGivenUpPeersAreLeftAlone(t *testing.T) {
	n := openNode(t, nil)
	k := n.enrol(noon, robot, true)
	n.tell(noon, robot, k, api.Peer{Address: robot, State: api.Unreachable}, engine.PeerStatus{})
	if !n.roster.unsettled[robot] {
		t.Error("one that is tried is taken for settled")
	}
	n.tell(noon, robot, k, api.Peer{Address: robot, State: api.Unreachable}, engine.PeerStatus{GivenUp: true})
	if n.roster.unsettled[robot] {
		t.Error("one that was given up is looked at on and on")
	}
}
