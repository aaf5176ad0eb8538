// Package daemon is what a node of the overlay does for DDS, in whatever process it runs: discovery across hosts, profiles for programs, an eye on the
// topics that pass, multicast for programs that insist.
package daemon

import (
	"context"

	"github.com/hnet-robotics/hnet_bridge/overlay/multicast"
	"github.com/hnet-robotics/hnet_bridge/overlay/node"
)

// Serve opens a node and runs it, with everything that its configuration wants for DDS, until ctx ends or the node is taken down. opened, which may be
// nil, is told of the node before it runs.
func Serve(ctx context.Context, o node.Options, opened func(context.Context, *node.Node)) error {
	cfg, paths, log := o.Config, o.Paths, o.Log
	found := newDiscovery()
	if cfg.DDS.Enabled {
		found.options(&o)
	}
	var groups *multicast.Forwarder
	if cfg.Multicast {
		groups = multicast.NewForwarder()
		o.Multicast = groups
	}
	var seen *traffic
	if cfg.DDS.Enabled && cfg.DDS.Watch {
		seen = watchTraffic(&o, cfg, paths, log)
	}
	n, err := node.Open(o)
	if err != nil {
		return err
	}
	running, end := context.WithCancel(ctx)
	defer end()
	if opened != nil {
		opened(running, n)
	}
	if cfg.DDS.Enabled {
		go found.relay(running, log, cfg, n)
		go keepProfiles(running, log, cfg, paths, n)
	}
	if groups != nil {
		go relayMulticast(running, log, cfg.Interface, n, groups)
	}
	if seen != nil {
		stored := seen.run(running)
		defer func() { end(); stored() }()
	}
	return n.Run(ctx)
}
