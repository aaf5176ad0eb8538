package watch

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/engine"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// Bounds of the table.
const (
	maxPeers        = 1024
	maxRows         = 1024 // of a peer
	maxUnknown      = 256  // of these, of writers without a name
	maxRowsTotal    = 8192
	maxWriters      = 2048 // of a peer
	maxWritersTotal = 16384
	maxWindows      = 8 // of a writer
	maxFragments    = 256
	idleRow         = time.Minute      // after which a row may go if there is need
	forgottenRow    = 30 * time.Minute // after which it goes
)

// The directions.
const (
	tx = iota // from this host to the peer
	rx
)

// Classes of what is not RTPS, and of what of RTPS has no topic.
const (
	classTCP = iota
	classUDP
	classICMP
	classIP
	classDiscovery
	classRTPS
	classMore
	classCount
)

var classNames = [classCount]name{
	{Other, "TCP", ""}, {Other, "UDP", ""}, {Other, "ICMP", ""}, {Other, "other IP", ""},
	{Discovery, "discovery", ""}, {Other, "RTPS without a topic", ""}, {Unknown, "more topics", ""},
}

// row is one line of the table: a topic and a peer, in both directions.
type row struct {
	name
	flow [2]counter
}

type rowKey struct {
	kind Kind
	text string
}

// peer is what is counted with one peer.
type peer struct {
	address netip.Addr
	book    book // of its endpoints
	class   [classCount]*row
	used    atomic.Int64 // nanoseconds since the watch began, seldom renewed
	gone    atomic.Bool  // no longer in the table

	// What follows belongs to the table's lock.
	rows    map[rowKey]*row
	writers map[writerKey]*writer
	unknown int // rows of that kind
	swept   time.Duration
	ring    []*writer
	hand    int
}

// writerKey names a writer of this host as one peer hears it (own), or one of the peer's.
type writerKey struct {
	guid wire.GUID
	own  bool
}

// writer is a writer and the row it counts in.
type writer struct {
	key   writerKey
	row   atomic.Pointer[row] // replaced with the lock of its counters held
	gone  atomic.Bool         // no longer in the table
	used  atomic.Bool         // since the clock's hand passed
	asked atomic.Uint32       // version of the book in which its name was looked up

	// What follows belongs to the lock of the row's counter of the writer's direction.
	windows   []window
	treatment engine.Treatment
	ruled     bool  // a rule matches, so that size does not matter
	large     int64 // second until which its samples are bulk
}

// direction is the one that the writer's samples go.
func (w *writer) direction() int {
	if w.key.own {
		return tx
	}
	return rx
}

// lock takes the lock of the row's counter in a direction, and returns the row.
func (w *writer) lock(direction int) *row {
	for {
		r := w.row.Load()
		r.flow[direction].mu.Lock()
		if w.row.Load() == r {
			return r
		}
		r.flow[direction].mu.Unlock()
	}
}

// table is all peers. Its lock is taken where something is new, and before the locks of counters.
type table struct {
	policy policy
	own    book // of this host's endpoints

	mu        sync.Mutex
	peers     map[netip.Addr]*peer
	rows      int
	writers   int
	fragments atomic.Int32
}

func (t *table) init(p policy) {
	t.policy = p
	t.own.init(maxOwnNames)
	t.peers = make(map[netip.Addr]*peer)
}

// peer finds or makes a peer.
func (t *table) peer(at time.Duration, address netip.Addr) *peer {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.peers[address]
	if p != nil {
		return p
	}
	if len(t.peers) >= maxPeers {
		var oldest *peer
		for _, other := range t.peers {
			if oldest == nil || other.used.Load() < oldest.used.Load() {
				oldest = other
			}
		}
		t.drop(oldest)
	}
	p = &peer{address: address, rows: make(map[rowKey]*row), writers: make(map[writerKey]*writer)}
	p.book.init(maxNames)
	p.used.Store(int64(at))
	for i, n := range classNames {
		p.class[i] = &row{name: n}
	}
	t.peers[address] = p
	return p
}

// drop forgets a peer. The lock is held.
func (t *table) drop(p *peer) {
	for _, w := range p.ring {
		t.forget(w)
	}
	t.writers -= len(p.writers)
	t.rows -= len(p.rows)
	delete(t.peers, p.address)
	p.gone.Store(true)
}

// writer finds or makes a writer.
func (t *table) writer(at time.Duration, p *peer, key writerKey) *writer {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := p.writers[key]
	if w != nil || p.gone.Load() {
		return w
	}
	b := t.bookOf(p, key)
	version := b.version.Load()
	n, known := b.find(key.guid)
	if !known {
		n = unknownName(key.guid)
	}
	w = &writer{key: key}
	w.asked.Store(version)
	w.row.Store(t.row(at, p, n, key.own))
	w.treatment, w.ruled = t.policy.treat(n)
	switch {
	case len(p.writers) >= maxWriters:
		t.evict(p)
	case t.writers >= maxWritersTotal:
		most := p
		for _, other := range t.peers {
			if len(other.writers) > len(most.writers) {
				most = other
			}
		}
		t.evict(most)
	}
	p.writers[key] = w
	p.ring = append(p.ring, w)
	t.writers++
	return w
}

func unknownName(g wire.GUID) name { return name{Unknown, "unknown topic of " + g.String(), ""} }

func (t *table) bookOf(p *peer, key writerKey) *book {
	if key.own {
		return &t.own
	}
	return &p.book
}

// evict makes a writer of a peer go that was not used since the hand passed. The lock is held and there is one.
func (t *table) evict(p *peer) {
	for {
		p.hand %= len(p.ring)
		w := p.ring[p.hand]
		if w.used.Swap(false) {
			p.hand++
			continue
		}
		t.removeWriter(p, p.hand)
		return
	}
}

// removeWriter takes the writer at a place of the ring out.
func (t *table) removeWriter(p *peer, i int) {
	w := p.ring[i]
	last := len(p.ring) - 1
	p.ring[i] = p.ring[last]
	p.ring[last] = nil
	p.ring = p.ring[:last]
	delete(p.writers, w.key)
	t.writers--
	t.forget(w)
}

// removeRow takes a row out that no writer has any more.
func (t *table) removeRow(p *peer, r *row) {
	key := rowKey{r.kind, r.text}
	if p.rows[key] != r {
		return
	}
	delete(p.rows, key)
	t.rows--
	if r.kind == Unknown {
		p.unknown--
	}
}

// sweep takes out the rows of a peer that were idle for so long, and their writers. The lock is held.
func (t *table) sweep(at time.Duration, p *peer, idle time.Duration) {
	old := make(map[*row]bool)
	judge := func(r *row) {
		if at-max(r.flow[tx].lastUse(), r.flow[rx].lastUse()) >= idle {
			old[r] = true
		}
	}
	for _, r := range p.rows {
		judge(r)
	}
	judge(p.class[classMore])
	for i := len(p.ring) - 1; i >= 0 && len(old) > 0; i-- {
		if old[p.ring[i].row.Load()] {
			t.removeWriter(p, i)
		}
	}
	for r := range old {
		t.removeRow(p, r)
	}
}

// forget gives back what a writer holds. The table's lock is held.
func (t *table) forget(w *writer) {
	w.gone.Store(true)
	d := w.direction()
	r := w.lock(d)
	defer r.flow[d].mu.Unlock()
	w.detach(t, &r.flow[d])
	for i := range w.windows {
		if w.windows[i].frags != nil {
			t.fragments.Add(-1)
		}
	}
	w.windows = nil
}

// row finds or makes a row. The lock is held.
func (t *table) row(at time.Duration, p *peer, n name, own bool) *row {
	key := rowKey{n.kind, n.text}
	r := p.rows[key]
	if r != nil {
		// This host's word counts more than the peer's, and an action's own type more than those that all actions share.
		if r.typ == "" || own && n.kind != Action || n.kind == Action && !isAction(r.typ) {
			r.typ = n.typ
		}
		return r
	}
	if len(p.rows) >= maxRows || t.rows >= maxRowsTotal || n.kind == Unknown && p.unknown >= maxUnknown {
		if at-p.swept < time.Second {
			return p.class[classMore]
		}
		p.swept = at
		t.sweep(at, p, idleRow)
		if len(p.rows) >= maxRows || t.rows >= maxRowsTotal || n.kind == Unknown && p.unknown >= maxUnknown {
			return p.class[classMore]
		}
	}
	r = &row{name: n}
	p.rows[key] = r
	t.rows++
	if n.kind == Unknown {
		p.unknown++
	}
	// Until something is counted, it was used now.
	r.flow[tx].last = at
	return r
}

// learn looks what the book calls a writer by now. If that is new, the writer goes to the topic's row, with what it counted where that was its own.
func (t *table) learn(at time.Duration, p *peer, w *writer) {
	b := t.bookOf(p, w.key)
	version := b.version.Load()
	n, known := b.find(w.key.guid)
	w.asked.Store(version)
	if r := w.row.Load(); !known || r.kind == n.kind && r.text == n.text {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if w.gone.Load() {
		return
	}
	old, to := w.row.Load(), t.row(at, p, n, w.key.own)
	if w.gone.Load() || old == to { // it went when room was made for the row
		return
	}
	alone := old.kind == Unknown && old != p.class[classMore]
	for d := range old.flow {
		old.flow[d].mu.Lock()
	}
	w.detach(t, &old.flow[w.direction()])
	for d := range to.flow {
		to.flow[d].mu.Lock()
		if alone {
			to.flow[d].add(&old.flow[d], at)
		}
	}
	if w.treatment, w.ruled = t.policy.treat(n); w.ruled {
		w.large = 0
	}
	w.row.Store(to)
	for d := range old.flow {
		old.flow[d].mu.Unlock()
		to.flow[d].mu.Unlock()
	}
	if alone {
		t.removeRow(p, old)
	}
}
