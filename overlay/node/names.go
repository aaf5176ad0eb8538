package node

import (
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/hnet-robotics/hnet_bridge/overlay/health"
	"github.com/hnet-robotics/hnet_bridge/overlay/hostnames"
)

// allNames are the names given by themselves and those of whitelisted peers; of two equal ones the first kind wins.
func (n *Node) allNames() []hostnames.Name {
	names := slices.Grow(n.names.List(), n.whitelist.Len())
	taken := make(map[string]bool, len(names)+n.whitelist.Len())
	for _, x := range names {
		taken[x.Name] = true
	}
	for e := range n.whitelist.All() {
		if e.Hostname != "" && !taken[e.Hostname] {
			taken[e.Hostname] = true
			names = append(names, hostnames.Name{Name: e.Hostname, Address: e.Address, Source: string(e.Source)})
		}
	}
	return names
}

// nameOf is how people know a peer: its name, or its address.
func (n *Node) nameOf(a netip.Addr) string {
	if name := n.hostnameOf(a); name != "" {
		return name
	}
	return a.String()
}

func (n *Node) hostnameOf(a netip.Addr) string {
	if e, ok := n.whitelist.Get(a); ok && e.Hostname != "" {
		return e.Hostname
	}
	if name, ok := n.names.Reverse(a); ok {
		return name.Name
	}
	return ""
}

// writeHosts brings the hosts file up to date. That it cannot be is a warning: the overlay works by addresses all the same. editing is held,
// so that the last one to write knows all names.
func (n *Node) writeHosts() {
	if n.cfg.HostsFile == "" {
		return
	}
	var names []hostnames.Name
	if !n.goingDown.Load() {
		// A name given before this host took it for itself must not lead elsewhere.
		names = slices.DeleteFunc(n.allNames(), func(x hostnames.Name) bool { return strings.EqualFold(x.Name, ownName()) })
	}
	n.warnings.Set(n.opt.Host.WriteHosts(n.cfg.HostsFile, names), health.Warning{Code: health.HostsFile,
		Fix: "make " + n.cfg.HostsFile + " writable for hnetd, or set 'hosts_file: \"\"' to leave names alone"})
}

// ownName is this host's name, "" if the system has none.
func ownName() string {
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	return name
}
