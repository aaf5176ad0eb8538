package node

import (
	"net/netip"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/engine"
)

// Meeting is how it stands with one peer, for those who pass something on to peers.
type Meeting struct {
	Peer        netip.Addr
	IPv4        netip.Addr // as in api.Peer
	State       api.PeerState
	Whitelisted bool
}

// Meetings returns the peers that contact was sought with in this run, and others of the whitelist, which are idle: so many as most of which it is known
// where they may be, and of the rest so many that those without a session are no more than most in all. What is sent to an idle one begins contact. It
// takes a small part of what Peers does.
func (n *Node) Meetings(most int) (list []Meeting) {
	met, left := make(map[netip.Addr]bool), most
	add := func(peer netip.Addr, s engine.State) {
		_, listed := n.whitelist.Get(peer)
		if s != engine.Connected {
			left--
		}
		met[peer] = true
		list = append(list, Meeting{Peer: peer, IPv4: n.ipv4Of(peer), State: apiStates[s], Whitelisted: listed})
	}
	n.engine.States(add)
	now, all := time.Now(), n.whitelist.Addresses()
	for _, peer := range all {
		if !met[peer] && n.findable(now, peer) {
			if add(peer, engine.Idle); most <= 1 {
				break
			}
			most--
		}
	}
	for _, peer := range all {
		if left <= 0 {
			break
		}
		if !met[peer] {
			add(peer, engine.Idle)
		}
	}
	return list
}

// findable reports whether there is anything to try for contact with a peer.
func (n *Node) findable(now time.Time, peer netip.Addr) bool {
	return len(n.contacts.Candidates(now, peer)) > 0 || len(n.bases.Relays(peer)) > 0
}

// Whitelisted returns the addresses on the whitelist, in order.
func (n *Node) Whitelisted() []netip.Addr { return n.whitelist.Addresses() }
