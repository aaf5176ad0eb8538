package node

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/engine"
	"github.com/hnet-robotics/hnet_bridge/overlay/nat"
	"github.com/hnet-robotics/hnet_bridge/overlay/netwatch"
	"github.com/hnet-robotics/hnet_bridge/overlay/record"
)

// watchLinks follows the interfaces and routes: the contact record names their addresses, LAN discovery uses them, paths that ran over one that
// changed are tried anew, and so is whatever failed for want of a link.
func (n *Node) watchLinks(ctx context.Context) {
	before := n.watcher.Snapshot()
	n.renewUplinks()
	n.announce(before)
	renewal := time.NewTicker(recordRenewal)
	defer renewal.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-renewal.C:
			n.announceSelf()
			continue
		case <-n.watcher.Changes():
		}
		now := n.watcher.Snapshot()
		n.inside.forget()
		n.ipv4.linksChanged()
		n.renewUplinks()
		n.announce(now)
		n.bases.LinksChanged()
		if n.mapper != nil {
			n.mapper.LinksChanged()
		}
		n.renewPaths(before, now)
		n.lookups.retry()
		n.resolveAll()
		before = now
	}
}

// announce tells of the interfaces whoever must know, with a new contact record if this node's endpoints changed.
func (n *Node) announce(interfaces []netwatch.Interface) {
	own := n.endpoints(interfaces)
	if n.where.setInterfaces(own) {
		now := time.Now()
		n.nat.do(func(m *nat.Machine) { m.LinksChanged(now, own) })
	}
	n.announceSelf()
	if n.lan != nil {
		n.lan.SetInterfaces(interfaces) // after the record: what leaves an address must be named by it
	}
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

// renewPaths sees to the peers whose path left by an interface that went or lost the address the path was on, and to those that could not be
// reached: there may be a way now.
func (n *Node) renewPaths(before, now []netwatch.Interface) {
	moved := !slices.EqualFunc(before, now, same)
	lost := func(p engine.Path) bool {
		return moved && !(stands(now, p) && sameRoute(before, now, p))
	}
	n.engine.LinksChanged(func(p engine.Path) engine.Fate {
		switch {
		case lost(p):
			return engine.Lost
		case rerouted(p):
			return engine.Rerouted
		}
		return engine.Stands
	})
	for _, s := range n.engine.Peers() {
		switch {
		case s.State == engine.Connecting || s.State == engine.Unreachable:
			n.engine.Refresh(s.Address)
		case s.State != engine.Connected || !s.Path.Remote.IsValid():
		case lost(s.Path) && !s.Path.Kind.Relayed():
			_ = n.engine.Renew(s.Address) // it can only have left the whitelist
		default:
			n.inbox.put(s.Address, newPath, netip.AddrPort{}) // another route, another MTU
		}
	}
}

// rerouted reports whether the kernel would send by another interface than the path leaves by now: a better uplink is back.
func rerouted(p engine.Path) bool {
	if p.Local.Interface == 0 || !p.Remote.IsValid() || p.Remote.Addr().IsLinkLocalUnicast() {
		return false
	}
	r, err := netwatch.RouteTo(p.Remote.Addr())
	return err == nil && r.Interface != 0 && uint32(r.Interface) != p.Local.Interface
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
