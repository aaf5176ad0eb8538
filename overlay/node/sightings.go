package node

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/engine"
	"github.com/hnet-robotics/hnet_bridge/overlay/health"
	"github.com/hnet-robotics/hnet_bridge/overlay/lan"
)

// sighted takes what LAN discovery has heard: a peer that is here now. Only what concerns a peer that may talk is kept.
func (n *Node) sighted(s lan.Sighting) {
	address := s.Record.Address()
	anew := s.Restarted
	if _, listed := n.whitelist.Get(address); listed {
		anew = n.runs.changed(address, s.Instance) || anew
		n.learn(address, s)
	} else if n.whitelist.Enabled() {
		return
	} else {
		n.engine.Refresh(address)
	}
	if anew {
		// Its keys of the last run are gone; waiting for our own timers would take 15 s.
		if p, ok := n.engine.Peer(address); ok && p.State == engine.Connected {
			_ = n.engine.Renew(address)
		}
	}
}

// runs remembers which run of a whitelisted peer's daemon was last seen. A session that is older than the first sighting may be with a run that
// ended in between, so a first sighting counts as a change.
type runs struct {
	mu   sync.Mutex
	last map[netip.Addr][8]byte
}

func (r *runs) changed(peer netip.Addr, instance [8]byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if last, ok := r.last[peer]; ok && last == instance {
		return false
	}
	if r.last == nil {
		r.last = make(map[netip.Addr][8]byte)
	}
	r.last[peer] = instance
	return true
}

func (r *runs) forget(peer netip.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.last, peer)
}

// learn takes over a whitelisted peer's key and endpoint.
func (n *Node) learn(address netip.Addr, s lan.Sighting) {
	if e, ok := n.whitelist.Get(address); ok && e.SigningKey.IsZero() {
		n.pinned(address, n.whitelist.PinSigning(address, s.Record.Key))
	}
	fresh := n.contacts.Heard(time.Now(), address, s.Endpoint, s.Record.Lifetime)
	if n.relaying.set(address, s.Record.Relay) || (fresh && s.Record.Relay) {
		n.setServers() // with the endpoint just heard of
	}
	if p, ok := n.engine.Peer(address); fresh || (ok && p.State != engine.Connected) {
		n.engine.Refresh(address)
	}
}

// cloneMemory is how long a clone is believed to be there after the last alarm.
const cloneMemory = lan.CloneMemory

// clones ends the warnings of clones that are not seen any more.
type clones struct {
	mu   sync.Mutex
	last map[health.Warning]time.Time
}

// cloned takes LAN discovery's alarm that two hosts use one identity.
func (n *Node) cloned(c lan.Clone) {
	w := health.Warning{Code: health.PeerCopy, Subject: c.Address.String(),
		Text: fmt.Sprintf("two hosts run with the identity of peer %s (one at %s), probably a copied disk image", n.nameOf(c.Address), c.Source.Addr()),
		Fix:  "on the copy: move the file 'identity' in hnetd's state folder away and start hnetd again"}
	if c.Own {
		w = health.Warning{Code: health.IdentityCopy,
			Text: fmt.Sprintf("another host at %s uses this node's identity %s, probably a copied disk image; the two take each other's traffic", c.Source.Addr(), c.Address),
			Fix:  fmt.Sprintf("on the copy: 'hnet down', move %s/identity away, start hnetd again (it gets a new address to whitelist)", n.opt.Paths.State)}
	} else if _, listed := n.whitelist.Get(c.Address); !listed {
		return // a stranger's trouble, and a stranger's way to fill the list of warnings
	}
	n.warnings.Raise(w)
	n.clones.see(time.Now(), w)
}

func (c *clones) see(now time.Time, w health.Warning) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last == nil {
		c.last = make(map[health.Warning]time.Time)
	}
	c.last[health.Warning{Code: w.Code, Subject: w.Subject}] = now
}

// over returns the warnings that were not seen for cloneMemory, once.
func (c *clones) over(now time.Time) (over []health.Warning) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for w, at := range c.last {
		if now.Sub(at) >= cloneMemory {
			delete(c.last, w)
			over = append(over, w)
		}
	}
	return over
}

// watchClones ends warnings of clones.
func (n *Node) watchClones(ctx context.Context) {
	tick := time.NewTicker(cloneMemory / 5)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			for _, w := range n.clones.over(now) {
				n.warnings.Clear(w.Code, w.Subject)
			}
		}
	}
}
