package node

import (
	"context"
	"slices"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/doctor"
	"github.com/hnet-robotics/hnet_bridge/overlay/engine"
	"github.com/hnet-robotics/hnet_bridge/overlay/health"
)

// The daemon examines itself every checkInterval; what a warning tells of must have held for checkHolds of them, since a Base that restarts or a
// cable that is moved is nothing to warn of.
const (
	checkInterval = 10 * time.Second
	checkHolds    = 3
)

// watchSelf raises what 'hnet doctor' would find as warnings, and ends them.
func (n *Node) watchSelf(ctx context.Context) {
	tick := time.NewTicker(checkInterval)
	defer tick.Stop()
	held := make(map[health.Warning]int)
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			held = n.checkSelf(now, held)
		}
	}
}

// maxCheckedPeers bounds the peers that are examined each time; there is a bound on warnings, too.
const maxCheckedPeers = 64

// peerWarnings is what is wrong on the ways to peers that are connected.
func (n *Node) peerWarnings() (list []health.Warning) {
	checked := 0
	for _, s := range n.engine.Peers() {
		searched := slices.ContainsFunc(s.Paths, func(x engine.PathStatus) bool { return x.Selected && x.Searched })
		if s.State != engine.Connected || !searched || s.Path.Kind.Relayed() {
			continue
		}
		if checked++; checked > maxCheckedPeers {
			break
		}
		seen := n.describe(s)
		list = append(list, doctor.PeerWarnings(doctor.Findings{Peer: &doctor.Peer{
			Address: s.Address, Hostname: seen.Hostname, State: seen.State, Path: seen.Path, MTU: s.Path.MTU,
		}})...)
	}
	return list
}

// checkSelf returns for how many checks in a row each finding has held. Findings are counted by code and subject.
func (n *Node) checkSelf(now time.Time, before map[health.Warning]int) map[health.Warning]int {
	held := make(map[health.Warning]int)
	for _, w := range append(doctor.Warnings(n.findings(now)), n.peerWarnings()...) {
		k := health.Warning{Code: w.Code, Subject: w.Subject}
		if held[k] = before[k] + 1; held[k] >= checkHolds {
			n.warnings.Raise(w)
		}
	}
	for k := range before {
		if held[k] == 0 {
			n.warnings.Clear(k.Code, k.Subject)
		}
	}
	return held
}
