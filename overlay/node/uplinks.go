package node

import (
	"net/netip"
	"slices"
	"sync"

	"github.com/hnet-robotics/hnet_bridge/overlay/engine"
	"github.com/hnet-robotics/hnet_bridge/overlay/netwatch"
)

// maxRoutesKept bounds what is remembered of the kernel's routing; who has more peers asks it again.
const maxRoutesKept = 4096

// routing remembers by which interface the kernel sends to whom, until a route changes: the engine asks in its loops.
type routing struct {
	mu    sync.Mutex
	known map[netip.Addr]uint32
}

// to returns the index of the interface by which the kernel sends to an address, 0 if it has no way.
func (r *routing) to(remote netip.Addr) uint32 {
	r.mu.Lock()
	defer r.mu.Unlock()
	index, ok := r.known[remote]
	if ok {
		return index
	}
	if route, err := netwatch.RouteTo(remote); err == nil {
		index = uint32(route.Interface)
	}
	if r.known == nil || len(r.known) >= maxRoutesKept {
		r.known = make(map[netip.Addr]uint32)
	}
	r.known[remote] = index
	return index
}

func (r *routing) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known = nil
}

// renewUplinks tells the engine by which interfaces this host reaches the Internet.
func (n *Node) renewUplinks() {
	n.routing.forget()
	found, err := netwatch.Uplinks(n.cfg.Interface)
	if err != nil {
		n.log.Debug("the uplinks are not known: one path to a peer is all there is", "err", err)
	}
	uplinks := make([]engine.Uplink, 0, len(found))
	for _, u := range found {
		uplinks = append(uplinks, engine.Uplink{Interface: uint32(u.Interface), IPv4: u.IPv4, IPv6: u.IPv6})
	}
	slices.SortFunc(uplinks, func(a, b engine.Uplink) int { return int(a.Interface) - int(b.Interface) })
	n.spares.setUplinks(uplinks)
	n.engine.SetUplinks(uplinks)
}
