package node

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/engine"
	"github.com/hnet-robotics/hnet_bridge/overlay/netwatch"
	"github.com/hnet-robotics/hnet_bridge/overlay/record"
)

// recordLifetime is how long others may use what this node says of itself; on a LAN it is said again every 30 s.
const recordLifetime = time.Hour

// watchLinks follows the interfaces and routes: the contact record names their addresses, LAN discovery uses them, paths that ran over one that
// changed are tried anew, and so is whatever failed for want of a link.
func (n *Node) watchLinks(ctx context.Context) {
	before := n.watcher.Snapshot()
	n.announce(before, true)
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.watcher.Changes():
		}
		now := n.watcher.Snapshot()
		n.announce(now, !slices.Equal(n.endpoints(before), n.endpoints(now)))
		n.renewPaths(before, now)
		n.lookups.retry()
		n.resolveAll()
		before = now
	}
}

// announce tells LAN discovery of the interfaces, with a new contact record if this node's endpoints changed.
func (n *Node) announce(interfaces []netwatch.Interface, moved bool) {
	if n.lan == nil {
		return
	}
	if moved {
		r := record.Record{
			Key: n.identity.SigningKey(), Sequence: n.clock.Sequence(), Lifetime: recordLifetime,
			Endpoints: n.endpoints(interfaces), Relay: n.cfg.Relay,
		}
		signed, err := r.Sign(n.identity)
		if err == nil {
			err = n.lan.SetRecord(signed)
		}
		if err != nil {
			n.log.Error("the contact record could not be renewed: others on the LAN may not find this node", "err", err)
		}
	}
	n.lan.SetInterfaces(interfaces) // after the record: what leaves an address must be named by it
}

func (n *Node) endpoints(interfaces []netwatch.Interface) []netip.AddrPort {
	return endpoints(interfaces, n.cfg.Interface, n.port)
}

// endpoints lists where this node can be reached by its own interfaces: global addresses first, link-local ones last.
func endpoints(interfaces []netwatch.Interface, excluded string, port uint16) (list []netip.AddrPort) {
	var linkLocal []netip.AddrPort
	for _, i := range interfaces {
		if !i.Up || i.Loopback || i.Name == excluded {
			continue
		}
		for _, prefix := range i.Addrs {
			e := netip.AddrPortFrom(prefix.Addr().WithZone(""), port)
			switch {
			case record.CheckEndpoint(e) != nil || slices.Contains(list, e) || slices.Contains(linkLocal, e):
			case e.Addr().IsLinkLocalUnicast():
				linkLocal = append(linkLocal, e)
			default:
				list = append(list, e)
			}
		}
	}
	// A host with very many addresses keeps room for the link-local ones, which always work on a LAN.
	keep := record.MaxEndpoints - min(len(linkLocal), record.MaxEndpoints/2)
	list = append(list[:min(len(list), keep)], linkLocal...)
	return list[:min(len(list), record.MaxEndpoints)]
}

// renewPaths begins handshakes with the peers whose path left by an interface that went or lost the address the path was on, and with those
// that could not be reached: there may be a way now.
func (n *Node) renewPaths(before, now []netwatch.Interface) {
	moved := !slices.EqualFunc(before, now, same)
	for _, s := range n.engine.Peers() {
		switch {
		case s.State == engine.Connecting || s.State == engine.Unreachable:
			n.engine.Refresh(s.Address)
		case s.State != engine.Connected || !s.Path.Remote.IsValid():
		case moved && !(stands(now, s.Path) && sameRoute(before, now, s.Path)):
			_ = n.engine.Renew(s.Address) // it can only have left the whitelist
		default:
			n.inbox.put(s.Address, newPath, netip.AddrPort{}) // another route, another MTU
		}
	}
}

func same(a, b netwatch.Interface) bool {
	return a.Index == b.Index && a.Up == b.Up && slices.Equal(a.Addrs, b.Addrs)
}

// stands reports whether the path's local end is still there.
func stands(now []netwatch.Interface, p engine.Path) bool {
	if !p.Local.Addr.IsValid() {
		return true
	}
	for _, i := range now {
		if i.Up && (p.Local.Interface == 0 || uint32(i.Index) == p.Local.Interface) {
			for _, a := range i.Addrs {
				if a.Addr().WithZone("") == p.Local.Addr.WithZone("") {
					return true
				}
			}
		}
	}
	return false
}

// sameRoute reports whether the interface the path leaves by is as it was.
func sameRoute(before, now []netwatch.Interface, p engine.Path) bool {
	find := func(list []netwatch.Interface) (netwatch.Interface, bool) {
		i := slices.IndexFunc(list, func(i netwatch.Interface) bool { return uint32(i.Index) == p.Local.Interface })
		if i < 0 {
			return netwatch.Interface{}, false
		}
		return list[i], true
	}
	a, hadA := find(before)
	b, hadB := find(now)
	return hadA == hadB && a.Up == b.Up
}
