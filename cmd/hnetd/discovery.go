package main

import (
	"context"
	"log/slog"
	"os"

	"github.com/hnet-robotics/hnet_bridge/dds/spdp"
	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/config"
	"github.com/hnet-robotics/hnet_bridge/overlay/node"
)

// relayDiscovery makes DDS participants of whitelisted hosts known to each other, as long as the node runs.
func relayDiscovery(ctx context.Context, log *slog.Logger, cfg config.Config, n *node.Node) {
	id, err := n.ID(ctx)
	if err != nil {
		return
	}
	changed := make(chan struct{}, 1)
	go tellChanges(ctx, n, changed)
	err = spdp.Run(ctx, spdp.Config{
		Address: id.Address, Interface: cfg.Interface, Peers: func() []spdp.Peer { return discoveryPeers(ctx, n) }, Changed: changed,
		Release: spdp.DetectRelease(os.DirFS("/opt/ros")), Log: log,
	})
	if err != nil && ctx.Err() == nil {
		log.Warn("DDS programs of other hosts are found by the peers in their profiles alone", "err", err, "fix", "see what the error says, and start hnetd again")
	}
}

// discoveryPeers are the peers whose participants are passed on.
func discoveryPeers(ctx context.Context, n *node.Node) (list []spdp.Peer) {
	peers, err := n.Peers(ctx)
	if err != nil {
		return nil
	}
	w, err := n.Whitelist(ctx)
	if err != nil {
		return nil
	}
	for _, p := range peers {
		up := p.State == api.Connected || p.State == api.Idle
		if p.Whitelisted || !w.Enabled && up {
			list = append(list, spdp.Peer{Address: p.Address, Connected: up, Idle: p.State == api.Idle})
		}
	}
	return list
}

// tellChanges says whenever the peers, or how they are reached, may be others than before.
func tellChanges(ctx context.Context, n *node.Node, changed chan<- struct{}) {
	for ctx.Err() == nil {
		events := n.Subscribe(ctx)
		tell(changed) // of what happened between two subscriptions
		for e := range events {
			switch e.Type {
			case api.EventPeerAdded, api.EventPeerRemoved, api.EventPeerState, api.EventWhitelist:
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
