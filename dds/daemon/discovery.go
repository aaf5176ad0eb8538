package daemon

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/hnet-robotics/hnet_bridge/dds/spdp"
	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/config"
	"github.com/hnet-robotics/hnet_bridge/overlay/node"
)

// discovery is the DDS discovery relay of the daemon.
type discovery struct {
	guard   spdp.Guard
	leaving chan spdp.Leaving
}

func newDiscovery() *discovery { return &discovery{leaving: make(chan spdp.Leaving)} }

// options has the node ask the relay.
func (d *discovery) options(o *node.Options) {
	o.Admit, o.Depart, o.Leaving = d.guard.Admit, d.guard.Depart, d.leave
}

// leaveWithin bounds the wait for the relay where it does not run.
const leaveWithin = 500 * time.Millisecond

// leave has the participants of a peer and ours part, before the peer leaves the whitelist.
func (d *discovery) leave(ctx context.Context, peer netip.Addr) {
	ctx, cancel := context.WithTimeout(ctx, leaveWithin)
	defer cancel()
	done := make(chan struct{})
	select {
	case d.leaving <- spdp.Leaving{Peer: peer, Done: done}:
	case <-ctx.Done():
		return
	}
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// relay makes DDS participants of whitelisted hosts known to each other, as long as the node runs.
func (d *discovery) relay(ctx context.Context, log *slog.Logger, cfg config.Config, n *node.Node) {
	id, err := n.ID(ctx)
	if err != nil {
		return
	}
	changed := make(chan struct{}, 1)
	go tellChanges(ctx, n, changed, peerChanges...)
	release, detect := releaseOf(cfg.DDS.Release)
	err = spdp.Run(ctx, spdp.Config{
		Address: id.Address, Interface: cfg.Interface, Peers: func() []spdp.Peer { return discoveryPeers(ctx, n) }, Changed: changed,
		IPv4: n.IPv4, Release: release, Detect: detect, Mixed: cfg.DDS.Mixed, Leaving: d.leaving, Guard: &d.guard, Log: log,
	})
	if err != nil && ctx.Err() == nil {
		log.Warn("DDS programs of other hosts are found by the peers in their profiles alone", "err", err, "fix", "see what the error says, and start hnetd again")
	}
	for { // without a relay nobody takes leave
		select {
		case <-ctx.Done():
			return
		case l := <-d.leaving:
			close(l.Done)
		}
	}
}

// releaseOf reads dds.release: the release of programs that do not tell, and whether they are to be asked.
func releaseOf(word string) (release spdp.Release, detect bool) {
	switch word {
	case config.ReleaseAuto:
		return spdp.DetectRelease(os.DirFS("/opt/ros")), true
	case config.ReleaseAny:
		return spdp.Unknown, false
	}
	release, _ = spdp.ParseRelease(word) // checked with the configuration
	return release, false
}

// maxWoken bounds the peers without a session that discovery wakes, see [node.Node.Meetings]. Beyond them, programs meet once something else has brought the
// hosts together.
const maxWoken = 256

// discoveryPeers are the peers whose participants are passed on.
func discoveryPeers(ctx context.Context, n *node.Node) (list []spdp.Peer) {
	s, err := n.Status(ctx)
	if err != nil {
		return nil
	}
	for _, p := range n.Meetings(maxWoken) {
		idle := p.State == api.Idle
		up := idle || p.State == api.Connected
		if p.Whitelisted || !s.WhitelistEnabled && up {
			list = append(list, spdp.Peer{Address: p.Peer, IPv4: p.IPv4, Connected: up, Idle: idle})
		}
	}
	return list
}

// changesAtLeast is between two looks at what changed: each goes through all peers, and 10,000 of them may change within a second.
const changesAtLeast = 200 * time.Millisecond

// peerChanges are the events after which the peers, or how they are reached, may be others than before.
var peerChanges = []api.EventType{api.EventPeerAdded, api.EventPeerRemoved, api.EventPeerState, api.EventWhitelist}

// tellChanges says whenever there was an event of these types, or of IPv4 addresses.
func tellChanges(ctx context.Context, n *node.Node, changed chan<- struct{}, types ...api.EventType) {
	for ctx.Err() == nil {
		events := n.Subscribe(ctx)
		tell(changed) // of what happened between two subscriptions
		var due <-chan time.Time
		last := time.Now()
		for events != nil {
			select {
			case e, ok := <-events:
				if !ok {
					events = nil
					continue
				}
				switch {
				case e.Type == api.EventIPv4: // rare, and programs that are started next read a profile made of it
					tell(changed)
				case due == nil && slices.Contains(types, e.Type):
					due = time.After(time.Until(last.Add(changesAtLeast)))
				}
			case <-due:
				due, last = nil, time.Now()
				tell(changed)
			}
		}
	}
}

func tell(changed chan<- struct{}) {
	select {
	case changed <- struct{}{}:
	default:
	}
}
