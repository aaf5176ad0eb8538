package daemon

import (
	"context"
	"log/slog"

	"github.com/hnet-robotics/hnet_bridge/overlay/multicast"
	"github.com/hnet-robotics/hnet_bridge/overlay/node"
)

// relayMulticast carries multicast between the whitelisted peers' hnet0, as long as the node runs.
func relayMulticast(ctx context.Context, log *slog.Logger, device string, n *node.Node, f *multicast.Forwarder) {
	id, err := n.ID(ctx)
	if err != nil {
		return
	}
	changed := make(chan struct{}, 1)
	go tellChanges(ctx, n, changed, peerChanges...)
	err = multicast.Run(ctx, multicast.Config{
		Address: id.Address, Interface: device, Changed: changed, Forwarder: f, Log: log,
		Peers: func() (list []multicast.Peer) {
			for _, p := range discoveryPeers(ctx, n) {
				list = append(list, multicast.Peer{Address: p.Address, IPv4: p.IPv4, Connected: p.Connected, Idle: p.Idle})
			}
			return list
		},
		IPv4: n.IPv4,
	})
	if err != nil && ctx.Err() == nil {
		log.Warn("multicast does not pass between peers", "err", err, "fix", "see what the error says, and start hnetd again")
	}
}
