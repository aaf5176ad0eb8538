// Package contact keeps what is known of where peers are: endpoints heard of on the LAN, named by their contact records, observed by Bases,
// resolved from the whitelist's hints, and proven by a session. What a session proved survives a restart, so that a restarted node finds its peers at once.
package contact

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/statefile"
)

// Bounds of the book.
const (
	maxPeers     = 10_000
	maxHeard     = 8 // endpoints of one peer by hearsay
	maxResolved  = 8
	maxObserved  = 4 // by as many Bases
	maxCandidate = 24
	// writePause is the least time from one write to the next; it grows up to maxWritePause while changes do not end, or cannot be written.
	writePause    = time.Second
	maxWritePause = time.Minute
)

// Book knows where peers are. It is safe for concurrent use.
type Book struct {
	path  string
	dirty chan struct{}

	mu    sync.Mutex
	peers map[netip.Addr]*page
}

// page is one peer's.
type page struct {
	heard    []heard
	named    []netip.AddrPort // by the newest record that a Base passed on
	observed []observed
	until    time.Time // of named and observed
	resolved []netip.AddrPort
	stored
}

// observed is where one Base sees the peer.
type observed struct {
	base     netip.Addr
	endpoint netip.AddrPort
}

type heard struct {
	endpoint netip.AddrPort
	until    time.Time
}

// stored is the part of a page that survives a restart.
type stored struct {
	Address   netip.Addr     `json:"address"`
	Endpoint  netip.AddrPort `json:"endpoint"`  // the last that a session ran over
	Connected bool           `json:"connected"` // there was a session when this was written
}

type file struct {
	Contacts []stored `json:"contacts"`
}

// Open reads the book of an earlier run. It is only a memory of endpoints: a damaged file is an error to be told, and the book is
// empty and usable all the same.
func Open(path string) (*Book, error) {
	b := &Book{path: path, dirty: make(chan struct{}, 1), peers: make(map[netip.Addr]*page)}
	var f file
	err := statefile.ReadJSON(path, &f)
	if errors.Is(err, fs.ErrNotExist) {
		return b, nil
	}
	if err != nil {
		return b, err
	}
	for _, s := range f.Contacts {
		if identity.CheckAddress(s.Address) == nil && len(b.peers) < maxPeers {
			b.peers[s.Address] = &page{stored: s}
		}
	}
	return b, nil
}

// Keep forgets all peers but those that wanted accepts: a peer may have left the whitelist while the book was not open.
func (b *Book) Keep(wanted func(netip.Addr) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for a := range b.peers {
		if !wanted(a) {
			delete(b.peers, a)
			b.touch()
		}
	}
}

// page returns a peer's page, nil when the book is full. The lock is held.
func (b *Book) page(address netip.Addr) *page {
	p := b.peers[address]
	if p == nil && len(b.peers) < maxPeers {
		p = &page{stored: stored{Address: address}}
		b.peers[address] = p
	}
	return p
}

// Heard notes an endpoint at which the peer said it is, good for lifetime; it reports whether the endpoint is new.
func (b *Book) Heard(now time.Time, address netip.Addr, endpoint netip.AddrPort, lifetime time.Duration) (fresh bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.page(address)
	if p == nil {
		return false
	}
	known := false
	p.heard = slices.DeleteFunc(p.heard, func(h heard) bool {
		live := now.Before(h.until)
		known = known || (live && h.endpoint == endpoint)
		return !live || h.endpoint == endpoint
	})
	if len(p.heard) >= maxHeard {
		p.heard = p.heard[1:]
	}
	p.heard = append(p.heard, heard{endpoint, now.Add(lifetime)})
	return !known
}

// Met notes what a Base says of a peer: the endpoints that the peer's own record names, good for lifetime, and the one at which the Base sees
// it, invalid if it sees none. It reports whether that is news.
func (b *Book) Met(now time.Time, address, base netip.Addr, named []netip.AddrPort, seen netip.AddrPort, lifetime time.Duration) (fresh bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.page(address)
	if p == nil {
		return false
	}
	fresh = !slices.Equal(p.named, named) || !now.Before(p.until)
	p.named, p.until = slices.Clone(named), now.Add(lifetime)
	known := slices.Contains(p.observed, observed{base, seen})
	p.observed = slices.DeleteFunc(p.observed, func(o observed) bool { return o.base == base })
	if seen.IsValid() {
		if len(p.observed) >= maxObserved {
			p.observed = p.observed[1:]
		}
		p.observed = append(p.observed, observed{base, seen})
	}
	return fresh || (seen.IsValid() && !known)
}

// Observed returns where Bases see a peer, and what its own record names.
func (b *Book) Observed(now time.Time, address netip.Addr) (seen, named []netip.AddrPort) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.peers[address]
	if p == nil || !now.Before(p.until) {
		return nil, nil
	}
	for _, o := range p.observed {
		seen = append(seen, o.endpoint)
	}
	return seen, slices.Clone(p.named)
}

// Resolved notes what the whitelist's hint for a peer means now, 8 endpoints at the most; it reports whether that is news.
func (b *Book) Resolved(address netip.Addr, endpoints []netip.AddrPort) (fresh bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.page(address)
	if p == nil {
		return false
	}
	if len(endpoints) > maxResolved {
		endpoints = endpoints[:maxResolved]
	}
	fresh = !slices.Equal(p.resolved, endpoints)
	p.resolved = slices.Clone(endpoints)
	return fresh
}

// Connected notes that there is a session with the peer, so that the next run begins one at once. endpoint is where it runs to; invalid if that
// is a relay, and the last one stays known.
func (b *Book) Connected(address netip.Addr, endpoint netip.AddrPort) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.page(address)
	if p == nil {
		return
	}
	now := stored{Address: address, Endpoint: endpoint, Connected: true}
	if !endpoint.IsValid() {
		now.Endpoint = p.Endpoint
	}
	if p.stored != now {
		p.stored = now
		b.touch()
	}
}

// Disconnected notes that the session with the peer has ended. Where it was last stays known.
func (b *Book) Disconnected(address netip.Addr) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p := b.peers[address]; p != nil && p.Connected {
		p.Connected = false
		b.touch()
	}
}

// Forget removes a peer.
func (b *Book) Forget(address netip.Addr) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.peers[address]; ok {
		delete(b.peers, address)
		b.touch()
	}
}

func (b *Book) touch() {
	select {
	case b.dirty <- struct{}{}:
	default:
	}
}

// LastConnected returns the peers with a session: right after Open, those that had one when the last run ended, in order of address.
func (b *Book) LastConnected() (peers []netip.Addr) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for a, p := range b.peers {
		if p.Connected {
			peers = append(peers, a)
		}
	}
	slices.SortFunc(peers, netip.Addr.Compare)
	return peers
}

// Candidates returns where to try a peer, the likeliest first, 24 at the most.
func (b *Book) Candidates(now time.Time, address netip.Addr) (candidates []netip.AddrPort) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.peers[address]
	if p == nil {
		return nil
	}
	add := func(e netip.AddrPort) {
		if e.IsValid() && len(candidates) < maxCandidate && !slices.Contains(candidates, e) {
			candidates = append(candidates, e)
		}
	}
	for _, h := range slices.Backward(p.heard) {
		if now.Before(h.until) {
			add(h.endpoint)
		}
	}
	add(p.Endpoint)
	if now.Before(p.until) {
		for _, o := range p.observed {
			add(o.endpoint)
		}
		for _, e := range p.named {
			add(e)
		}
	}
	for _, e := range p.resolved {
		add(e)
	}
	return candidates
}

// Run writes changes until ctx ends; stored is told the outcome of each write. What comes after is written by Flush.
func (b *Book) Run(ctx context.Context, stored func(error)) {
	pause := writePause
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.dirty:
		}
		stored(b.write())
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		if len(b.dirty) > 0 {
			pause = min(2*pause, maxWritePause)
		} else {
			pause = writePause
		}
	}
}

// Flush writes what Run has not written yet.
func (b *Book) Flush() error {
	select {
	case <-b.dirty:
		return b.write()
	default:
		return nil
	}
}

func (b *Book) write() error {
	b.mu.Lock()
	var f file
	for _, p := range b.peers {
		if p.Endpoint.IsValid() || p.Connected {
			f.Contacts = append(f.Contacts, p.stored)
		}
	}
	b.mu.Unlock()
	slices.SortFunc(f.Contacts, func(x, y stored) int { return x.Address.Compare(y.Address) })
	if err := statefile.WriteJSON(b.path, f, 0o600); err != nil {
		b.touch() // the next pause over, it is tried again
		return fmt.Errorf("the endpoints in use could not be stored: %w", err)
	}
	return nil
}
