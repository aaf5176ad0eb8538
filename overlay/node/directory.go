package node

import (
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/engine"
	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/netwatch"
	"github.com/hnet-robotics/hnet_bridge/overlay/whitelist"
	"github.com/hnet-robotics/hnet_bridge/overlay/wireguard"
)

// directory tells the engine who may talk: the whitelist, joined with what the contact book and LAN discovery know. The engine asks with locks
// held; so nothing here may wait, and nothing that is asked may call the engine.
type directory struct{ n *Node }

var _ engine.Directory = directory{}

func (d directory) ByAddress(a netip.Addr) (engine.Contact, bool) {
	if a == d.n.identity.Address() {
		return engine.Contact{}, false
	}
	if e, ok := d.n.whitelist.Get(a); ok {
		return d.contact(e), true
	}
	if d.n.whitelist.Enabled() || identity.CheckAddress(a) != nil {
		return engine.Contact{}, false
	}
	// The whitelist is off: whoever announces itself on the LAN can be reached.
	c := engine.Contact{Address: a}
	d.seen(&c)
	return c, true
}

func (d directory) ByKey(k identity.PublicKey) (engine.Contact, bool) {
	a := k.Address()
	if a == d.n.identity.Address() {
		return engine.Contact{}, false
	}
	if e, ok := d.n.whitelist.ByKey(k); ok {
		c := d.contact(e)
		c.Key = k
		return c, true
	}
	_, pinned := d.n.whitelist.Get(a) // to another key, which two keys of one address would be
	return engine.Contact{Address: a, Key: k}, !pinned && !d.n.whitelist.Enabled()
}

func (d directory) contact(e whitelist.Entry) engine.Contact {
	c := engine.Contact{
		Address: e.Address, Key: e.Key, Native: !e.SigningKey.IsZero(), Listed: true,
		Candidates: d.n.contacts.Candidates(time.Now(), e.Address),
	}
	if e.PSK != nil {
		c.PSK = wireguard.PSK(*e.PSK)
	}
	if c.Key.IsZero() {
		d.seen(&c)
	}
	c.Observed, c.Named = d.n.contacts.Observed(time.Now(), e.Address)
	c.Relays = d.n.relaysOf(e.Address)
	interfaces := d.n.watcher.Snapshot()
	c.Candidates = slices.DeleteFunc(c.Candidates, func(e netip.AddrPort) bool { return !onLink(interfaces, e.Addr()) })
	return c
}

// seen adds the key and the endpoints of a peer that announced itself on the LAN.
func (d directory) seen(c *engine.Contact) {
	if d.n.lan == nil {
		return
	}
	for _, s := range d.n.lan.Lookup(c.Address) {
		c.Key, c.Native = s.Record.PublicKey(), true
		if !slices.Contains(c.Candidates, s.Endpoint) {
			c.Candidates = append(c.Candidates, s.Endpoint)
		}
	}
}

// onLink reports whether a link-local address is on a link that this host has now; its zone may stem from before a restart of the host or
// from an interface that is gone. Other addresses may be anywhere.
func onLink(interfaces []netwatch.Interface, a netip.Addr) bool {
	if !a.Is6() || !a.IsLinkLocalUnicast() {
		return true
	}
	return slices.ContainsFunc(interfaces, func(i netwatch.Interface) bool { return i.Up && strconv.Itoa(i.Index) == a.Zone() })
}
