package engine

import (
	"math/rand/v2"
	"net/netip"
	"sync"

	"github.com/hnet-robotics/hnet_bridge/overlay/wireguard"
)

// Bounds of the table. Peers on the whitelist (10,000 at the most) are never evicted; of the strangers, who are let in while the whitelist is
// off, the least recently used goes when there are more than maxStrangers. Each peer has six indices at the most.
const (
	maxStrangers = 1024
	maxIndices   = 1 << 17
)

// table finds peers by overlay address and by the indices of their handshakes and sessions.
type table struct {
	mu        sync.RWMutex
	addresses map[netip.Addr]*peer
	indices   map[uint32]indexEntry
	strangers map[*peer]struct{} // those in addresses that are not listed: who has to go is found without going through a long whitelist
}

type indexEntry struct {
	peer    *peer
	keypair *wireguard.Keypair // nil while the index names a handshake
}

func (t *table) init() {
	t.addresses = make(map[netip.Addr]*peer)
	t.indices = make(map[uint32]indexEntry)
	t.strangers = make(map[*peer]struct{})
}

func (t *table) get(a netip.Addr) *peer {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.addresses[a]
}

func (t *table) index(i uint32) indexEntry {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.indices[i]
}

func (t *table) all() []*peer {
	t.mu.RLock()
	defer t.mu.RUnlock()
	peers := make([]*peer, 0, len(t.addresses))
	for _, p := range t.addresses {
		peers = append(peers, p)
	}
	return peers
}

// add puts p in unless its address is taken; it returns the peer that is in the table then, and whether a stranger must go to keep the bound.
func (t *table) add(p *peer) (in *peer, crowded bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if other := t.addresses[p.address]; other != nil {
		return other, false
	}
	t.addresses[p.address] = p
	if !p.listed {
		t.strangers[p] = struct{}{}
	}
	return p, len(t.strangers) > maxStrangers
}

func (t *table) remove(p *peer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.addresses[p.address] == p {
		delete(t.addresses, p.address)
		delete(t.strangers, p)
	}
}

// relist moves p between the listed and the strangers.
func (t *table) relist(p *peer, listed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.addresses[p.address] != p || p.listed == listed {
		p.listed = listed
		return
	}
	p.listed = listed
	if listed {
		delete(t.strangers, p)
	} else {
		t.strangers[p] = struct{}{}
	}
}

// oldestStranger returns the stranger that was used longest ago.
func (t *table) oldestStranger() (oldest *peer) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for p := range t.strangers {
		if oldest == nil || p.used.Load() < oldest.used.Load() {
			oldest = p
		}
	}
	return oldest
}

// peerIndices is a peer's door to the index table: it implements wireguard.Indices.
type peerIndices struct {
	table *table
	peer  *peer
}

func (i peerIndices) New() (uint32, bool) {
	i.table.mu.Lock()
	defer i.table.mu.Unlock()
	if len(i.table.indices) >= maxIndices {
		return 0, false
	}
	for {
		index := rand.Uint32()
		if _, taken := i.table.indices[index]; !taken {
			i.table.indices[index] = indexEntry{peer: i.peer}
			return index, true
		}
	}
}

func (i peerIndices) Bind(index uint32, k *wireguard.Keypair) {
	i.table.mu.Lock()
	defer i.table.mu.Unlock()
	i.table.indices[index] = indexEntry{peer: i.peer, keypair: k}
}

func (i peerIndices) Free(index uint32) {
	i.table.mu.Lock()
	defer i.table.mu.Unlock()
	delete(i.table.indices, index)
}
