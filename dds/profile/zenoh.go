package profile

import "net/netip"

// ZenohRouter returns the configuration of rmw_zenoh's router (rmw_zenohd) of this host, for zenoh 1: it connects to the
// routers of all Peers over the overlay. One of two routers that knows the other is enough, so the routers of a host that
// joins connect to the running ones; those need not be started again.
func ZenohRouter(p Params) ([]byte, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	peers, err := p.peers(MaxRouters)
	if err != nil {
		return nil, err
	}
	var w page
	zenohRouter(&w, p, peers)
	return w.Bytes(), nil
}

// ZenohSession returns the configuration of the rmw_zenoh nodes of this host: they talk to each other directly, and to
// other hosts through this host's router.
func ZenohSession(p Params) ([]byte, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	var w page
	zenohSession(&w)
	return w.Bytes(), nil
}

func zenohRouter(w *page, p Params, peers []netip.Addr) {
	w.lines(`
// rmw_zenoh's router over the hnet overlay, for zenoh 1 (ROS 2 Humble to Lyrical).
//
// 'eval "$(hnet dds env)"' puts it in force. By hand:
//     export ZENOH_ROUTER_CONFIG_URI=/path/to/this/file.json5
//     ros2 run rmw_zenoh_cpp rmw_zenohd
//
// The router reads it once, when it starts. Of two routers one that names the other is enough: when a host is added to the
// whitelist, start the router there (or here) again, not both. Nodes need not be started again.
{
  mode: "router",

  // Routers of the whitelisted hosts: %d. Those that do not answer are tried again, for ever.
  connect: {
    timeout_ms: -1,
    exit_on_failure: false,
    retry: { period_init_ms: 1000, period_max_ms: 4000, period_increase_factor: 2 },
    endpoints: [`, len(peers))
	for _, a := range peers {
		w.lines(`      "tcp/%s",`, netip.AddrPortFrom(a, RouterPort))
	}
	w.lines(`
    ],
  },

  listen: {
    endpoints: [`)
	if p.Mode == Both {
		w.lines(`
      // The overlay, the LAN, and this host's own nodes.
      "tcp/[::]:%d",`, RouterPort)
	} else {
		w.lines(`
      // The overlay, and this host's own nodes. Not the LAN.
      "tcp/%s",
      "tcp/localhost:%d",`, netip.AddrPortFrom(p.Address, RouterPort), RouterPort)
	}
	w.lines(`
    ],
  },

  scouting: {
    // The overlay carries no multicast, and rmw_zenoh uses none.
    multicast: { enabled: false },
    // Nodes of this host learn of each other from the router.
    gossip: { enabled: true, multihop: false },
  },

  // Transient-local topics need it.
  timestamping: { enabled: true, drop_future_timestamp: false },

  // Services that take long: 10 minutes, as rmw_zenoh has it.
  queries_default_timeout: 600000,
}`)
}

func zenohSession(w *page) {
	w.lines(`
// Nodes of rmw_zenoh beside a router of the hnet overlay, for zenoh 1 (ROS 2 Humble to Lyrical).
//
// 'eval "$(hnet dds env)"' puts it in force. By hand, before starting a node:
//     export RMW_IMPLEMENTATION=rmw_zenoh_cpp
//     export ZENOH_SESSION_CONFIG_URI=/path/to/this/file.json5
// A node reads it once, when it starts; nothing in it depends on who the peers are.
{
  mode: "peer",

  // This host's router. It leads to all other hosts.
  connect: {
    timeout_ms: -1,
    exit_on_failure: false,
    retry: { period_init_ms: 1000, period_max_ms: 4000, period_increase_factor: 2 },
    endpoints: ["tcp/localhost:%d"],
  },

  // Nodes of this host connect to each other, those of other hosts do not.
  listen: { endpoints: ["tcp/localhost:0"] },

  scouting: {
    // Nodes of this host learn of each other from the router alone.
    multicast: { enabled: false },
    gossip: { enabled: true, multihop: false },
  },

  // Transient-local topics need it.
  timestamping: { enabled: true, drop_future_timestamp: false },

  // Services that take long: 10 minutes, as rmw_zenoh has it.
  queries_default_timeout: 600000,
}`, RouterPort)
}
