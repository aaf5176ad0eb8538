package node

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/portmap"
	"github.com/hnet-robotics/hnet_bridge/overlay/record"
)

// recordLifetime is how long others may use what this node says of itself. It says so anew when something changed, and after recordRenewal.
const (
	recordLifetime = record.MaxLifetime
	recordRenewal  = recordLifetime / 2
)

// where is what is known of where this node may be found.
type where struct {
	mu         sync.Mutex
	interfaces []netip.AddrPort              // of its own interfaces
	observed   map[netip.Addr]netip.AddrPort // by each Base
	hops       map[netip.Addr]distance       // to each Base
	mapped     []netip.AddrPort              // by routers, for this node's port
	bases      []netip.Addr                  // its home Bases, the best first

	said     []netip.AddrPort // what the last record named
	saidHome []netip.Addr
	signed   time.Time
}

// distance is how far a Base is.
type distance struct {
	hops int
	nat  bool // it sees this node elsewhere than at one of its interfaces
}

func (w *where) setInterfaces(list []netip.AddrPort) (moved bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	moved = !slices.Equal(w.interfaces, list)
	w.interfaces = list
	return moved
}

func (w *where) observe(base netip.Addr, endpoint netip.AddrPort) (moved bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.observed == nil {
		w.observed = make(map[netip.Addr]netip.AddrPort)
	}
	moved = w.observed[base] != endpoint
	w.observed[base] = endpoint
	return moved
}

// far notes how many routers are between this node and a Base, and returns how many an opener may pass: to the nearest Base with a NAT in between,
// else to the nearest that is no neighbour; 0 if there is none.
func (w *where) far(base netip.Addr, hops int, observed netip.AddrPort) (openers int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.hops == nil {
		w.hops = make(map[netip.Addr]distance)
	}
	w.hops[base] = distance{hops, !slices.Contains(w.interfaces, observed)}
	beyond := false
	for _, d := range w.hops {
		switch {
		case d.hops == 0 || beyond && !d.nat:
		case openers == 0 || d.hops < openers || d.nat && !beyond:
			openers, beyond = d.hops, d.nat
		}
	}
	return openers
}

func (w *where) unobserve(base netip.Addr) (moved bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.hops, base)
	_, moved = w.observed[base]
	delete(w.observed, base)
	return moved
}

func (w *where) setMapped(mappings []portmap.Mapping) (moved bool) {
	var list []netip.AddrPort
	for _, m := range mappings {
		if !m.Double && m.External.IsValid() {
			list = append(list, m.External)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	moved = !slices.Equal(w.mapped, list)
	w.mapped = list
	return moved
}

func (w *where) home(bases []netip.Addr) (moved bool) {
	bases = bases[:min(len(bases), record.MaxBases)]
	w.mu.Lock()
	defer w.mu.Unlock()
	moved = !slices.Equal(w.bases, bases)
	w.bases = slices.Clone(bases)
	return moved
}

// isOwn reports whether an endpoint is one of this host's interfaces: a peer that names it has the same private address in another network.
func (w *where) isOwn(e netip.AddrPort) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Contains(w.interfaces, e)
}

// endpoints lists where this node may be found: as others see it first, its own interfaces after that.
func (w *where) endpoints() []netip.AddrPort {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []netip.AddrPort
	add := func(e netip.AddrPort) {
		if record.CheckEndpoint(e) == nil && !slices.Contains(list, e) {
			list = append(list, e)
		}
	}
	for _, e := range w.mapped {
		add(e)
	}
	bases := make([]netip.Addr, 0, len(w.observed))
	for b := range w.observed {
		bases = append(bases, b)
	}
	slices.SortFunc(bases, netip.Addr.Compare)
	for _, b := range bases {
		add(w.observed[b])
	}
	// However many others see it, the interfaces keep most of the room: on a LAN they are what works.
	list = list[:min(len(list), record.MaxEndpoints/2)]
	for _, e := range w.interfaces {
		if len(list) < record.MaxEndpoints {
			add(e)
		}
	}
	return list
}

// announceSelf tells everyone who should know where this node may be found, if that is news.
func (n *Node) announceSelf() {
	n.announcing.Lock()
	defer n.announcing.Unlock()
	list := n.where.endpoints()
	n.engine.SetEndpoints(list, mappingOf(n.nat.result()))
	w := &n.where
	w.mu.Lock()
	home := w.bases
	news := !slices.Equal(w.said, list) || !slices.Equal(w.saidHome, home) || time.Since(w.signed) >= recordRenewal
	w.mu.Unlock()
	if !news {
		return
	}
	r := record.Record{
		Key: n.identity.SigningKey(), Sequence: n.clock.Sequence(), Lifetime: recordLifetime, Endpoints: list, Bases: home, Relay: n.cfg.Relay,
	}
	signed, err := r.Sign(n.identity)
	if err == nil && n.lan != nil {
		err = n.lan.SetRecord(signed)
	}
	if err == nil {
		err = n.bases.SetRecord(signed)
	}
	if err != nil {
		n.log.Error("the contact record could not be renewed: others may not find this node", "err", err)
		return
	}
	w.mu.Lock()
	w.said, w.saidHome, w.signed = list, slices.Clone(home), time.Now()
	w.mu.Unlock()
}
