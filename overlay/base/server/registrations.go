package server

import (
	"container/heap"
	"encoding/binary"
	"slices"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/base/session"
	"github.com/hnet-robotics/hnet_bridge/overlay/base/wire"
)

const (
	// provisionalTime is how long a registration waits for its client's first control datagram, which proves that the register was no replay.
	provisionalTime = 10 * time.Second
	// maxProvisional bounds those that wait; the oldest goes.
	maxProvisional = 4096
	// reunion is how long the peers of a client that registered anew are not told that it is gone: it is about to name them again.
	reunion = 2 * time.Second
	// slotBits is the part of a session number that is the place in the table; the rest counts the uses of that place.
	slotBits = 20
	// maxRegistrations is the most that a table can hold.
	maxRegistrations = 1 << slotBits
)

// The rates that a client is held to.
var (
	controlRate  = perSecond(100, 400) // control datagrams
	announceRate = perSecond(1, 8)     // changes of endpoint or record, as told to peers
	filterRate   = perSecond(1, 4)     // filter probes
	recordRate   = perSecond(2, 20)    // contact records, each of which costs a signature check
)

// nodeAddress is the overlay address of a node.
type nodeAddress = [16]byte

// client is one registration.
type client struct {
	// Never changed.
	address nodeAddress
	session uint32
	index   uint32 // the client's number of the session
	token   uint32
	number  uint64 // of the registration: the greater is the newer
	silence time.Duration
	prefix  uint64 // that it registered from
	key     uint64 // of the registry's ephemerals

	// Guarded by the registry's lock; relayed trains read them under its read lock.
	route     *route
	interests []interest

	// Changed under the registry's lock.
	secured   *session.Session
	signed    []byte // contact record
	sequence  uint64
	lifetime  time.Time              // end of the record's
	channels  map[nodeAddress]uint32 // of interests, if there are many
	dirty     []uint32               // channels whose peer message is out of date
	orphans   []orphan
	reunited  time.Time // when the orphans are judged
	announce  time.Time // when peers are told of a change that came too soon; zero = none is waiting
	due       time.Time // when the client is looked at next
	position  int32     // in the heap, -1 = not there
	confirmed bool
	touched   bool
	gone      bool

	moving    *move // the client may be elsewhere by now; nil = no sign of it
	announced limit
	filtered  limit
	renewed   limit
	control   limit // may be used without the lock
	allowance limit // of relayed bytes; may be used without the lock
}

// orphan is an interest of a peer in a client that registered anew.
type orphan struct{ session, channel uint32 }

// slot is a place in the table.
type slot struct {
	client     *client
	generation uint32
}

// registry is who is registered and who wants to meet whom: a machine, without sockets, clock and goroutines. Relayed trains look clients up under
// the read lock of its owner, everything else happens under the write lock.
type registry struct {
	limits  Limits
	stats   *Stats
	post    func(to *route, b []byte) // must not block
	random  func() uint32
	started time.Time

	slots       []slot
	free        []uint32
	known       map[nodeAddress]*client
	ephemerals  map[uint64]uint32 // session by the beginning of the ephemeral key of its register
	prefixes    map[uint64]int32
	provisional []*client // the oldest first; those that were confirmed or went are passed over
	waiting     int       // of provisional, those that wait
	timers      timers
	touched     []*client
	registered  uint64 // registrations ever
	interests   int
	links       int
	overUDP     int
	overTCP     int

	receiving receiving
}

func (r *registry) init(l Limits, stats *Stats, started time.Time, random func() uint32, post func(*route, []byte)) {
	r.limits, r.stats, r.post, r.random, r.started = l, stats, post, random, started
	r.known = make(map[nodeAddress]*client)
	r.prefixes = make(map[uint64]int32)
	r.ephemerals = make(map[uint64]uint32)
	r.receiving.registry = r
}

// nano is a time on the registry's clock.
func (r *registry) nano(now time.Time) int64 { return int64(now.Sub(r.started)) }

// find returns the client of a session, nil if there is none.
func (r *registry) find(session uint32) *client {
	i := session & (maxRegistrations - 1)
	if int(i) >= len(r.slots) {
		return nil
	}
	if c := r.slots[i].client; c != nil && c.session == session {
		return c
	}
	return nil
}

// mayRegister tells whether a registration from a prefix would be let in.
func (r *registry) mayRegister(prefix uint64) bool {
	return int(r.prefixes[prefix]) < r.limits.RegistrationsPerPrefix
}

// reserve takes a place for a registration under way; ok = false when the table is full. Provisional registrations make room.
func (r *registry) reserve(now time.Time) (session uint32, ok bool) {
	if len(r.slots)-len(r.free) >= r.limits.Registrations && !r.evict(now) {
		return 0, false
	}
	var i uint32
	if n := len(r.free); n > 0 {
		i, r.free = r.free[n-1], r.free[:n-1]
	} else {
		i = uint32(len(r.slots))
		r.slots = append(r.slots, slot{generation: r.random()})
	}
	s := &r.slots[i]
	s.generation++
	return s.generation<<slotBits | i, true
}

// release gives a place back.
func (r *registry) release(session uint32) {
	i := session & (maxRegistrations - 1)
	r.slots[i].client = nil
	r.free = append(r.free, i)
}

// evict drops the oldest provisional registration, false if there is none.
func (r *registry) evict(now time.Time) bool {
	for len(r.provisional) > 0 {
		c := r.provisional[0]
		r.provisional = r.provisional[1:]
		if !c.gone && !c.confirmed {
			r.remove(now, c)
			return true
		}
	}
	return false
}

// repeated tells whether a register began a session already. If that is a provisional one, the welcome was lost, and it is sent again; else the
// register is late or a replay.
func (r *registry) repeated(at *route, ephemeral [wire.KeyLen]byte) bool {
	c := r.find(r.ephemerals[keyOf(ephemeral)])
	if c == nil || !c.secured.RegisteredBy(ephemeral) {
		return false
	}
	if welcome := c.secured.Welcome(); welcome != nil && c.route.same(at) {
		r.post(c.route, welcome)
	}
	return true
}

// keyOf is the beginning of an ephemeral key.
func keyOf(ephemeral [wire.KeyLen]byte) uint64 { return binary.BigEndian.Uint64(ephemeral[:]) }

// install adds a registration whose place was reserved. It is provisional: it changes nothing for others before the client has proved, by a control
// datagram, that it has the keys. So a register that somebody repeats ends nobody's registration.
func (r *registry) install(now time.Time, c *client) {
	r.registered++
	c.number, c.position = r.registered, -1
	r.slots[c.session&(maxRegistrations-1)].client = c
	r.prefixes[c.prefix]++
	r.ephemerals[c.key] = c.session
	if conn := c.route.conn; conn != nil {
		old := r.find(conn.session)
		conn.session = c.session
		if old != nil && old.route.conn == conn {
			r.remove(now, old)
		}
	}
	r.waiting++
	if r.waiting > maxProvisional {
		r.evict(now)
	}
	if len(r.provisional) >= 2*maxProvisional {
		r.provisional = slices.DeleteFunc(r.provisional, func(c *client) bool { return c.gone || c.confirmed })
	}
	r.provisional = append(r.provisional, c)
	c.due = now.Add(provisionalTime)
	heap.Push(&r.timers, c)
}

// confirm makes a provisional registration the one of its identity; false if a newer one is.
func (r *registry) confirm(now time.Time, c *client) bool {
	old := r.known[c.address]
	if old != nil && old.number > c.number {
		r.remove(now, c)
		return false
	}
	c.confirmed = true
	r.waiting--
	r.count(c, 1)
	if old != nil {
		for i := range old.interests {
			if in := &old.interests[i]; in.peer != nil {
				c.orphans = append(c.orphans, orphan{in.peer.session, in.peerChannel})
			}
		}
		c.orphans = append(c.orphans, old.orphans...)
		old.orphans = nil
		r.withdraw(old, false)
		r.remove(now, old)
	}
	r.known[c.address] = c
	if len(c.orphans) > 0 {
		c.reunited = now.Add(reunion)
	}
	return true
}

// count keeps the numbers of registrations by transport.
func (r *registry) count(c *client, n int) {
	if c.route.conn != nil {
		r.overTCP += n
	} else {
		r.overUDP += n
	}
}

// remove ends a registration.
func (r *registry) remove(now time.Time, c *client) {
	if c.gone {
		return
	}
	c.gone = true
	r.withdraw(c, true)
	r.judge(c)
	r.interests -= len(c.interests)
	c.interests, c.channels, c.dirty = nil, nil, nil
	if !c.confirmed {
		r.waiting--
	} else {
		r.count(c, -1)
		if r.known[c.address] == c {
			delete(r.known, c.address)
		}
	}
	if r.prefixes[c.prefix]--; r.prefixes[c.prefix] <= 0 {
		delete(r.prefixes, c.prefix)
	}
	if r.ephemerals[c.key] == c.session {
		delete(r.ephemerals, c.key)
	}
	if c.position >= 0 {
		heap.Remove(&r.timers, int(c.position))
	}
	r.release(c.session)
	if conn := c.route.conn; conn != nil && conn.session == c.session {
		conn.kill()
	}
}

// judge tells the peers of a client that registered anew which of them it did not name again.
func (r *registry) judge(c *client) {
	for _, o := range c.orphans {
		if p := r.find(o.session); p != nil {
			if in := p.find(o.channel); in != nil && in.peer == nil {
				r.soil(p, in)
			}
		}
	}
	c.orphans, c.reunited = nil, time.Time{}
}

// touch puts a client on the list of those that have something to send.
func (r *registry) touch(c *client) {
	if !c.touched {
		c.touched = true
		r.touched = append(r.touched, c)
	}
}

// work sends what at most n touched clients are to be told, and tells whether there are more.
func (r *registry) work(now time.Time, n int) (more bool) {
	for ; len(r.touched) > 0 && n > 0; n-- {
		c := r.touched[0]
		r.touched[0] = nil
		r.touched = r.touched[1:]
		c.touched = false
		if !c.gone {
			r.speak(now, c)
		}
	}
	if len(r.touched) == 0 {
		r.touched = nil
	}
	return len(r.touched) > 0
}

// speak sends a client what it is to be told, and sets its timer.
func (r *registry) speak(now time.Time, c *client) {
	r.fill(now, c)
	for b := c.secured.Poll(now); b != nil; b = c.secured.Poll(now) {
		r.post(c.route, b)
	}
	r.schedule(now, c)
}

// schedule sets the timer of a client, unless it is early enough.
func (r *registry) schedule(now time.Time, c *client) {
	due := c.secured.LastHeard().Add(c.silence)
	if !c.confirmed {
		due = c.due // from its installation on
	}
	for _, at := range [...]time.Time{c.secured.Next(), c.reunited, c.announce} {
		if !at.IsZero() && at.Before(due) {
			due = at
		}
	}
	if due.Before(now) {
		due = now
	}
	if c.position >= 0 && !due.Before(c.due) {
		return // looked at too early rather than sorted at every datagram
	}
	c.due = due
	if c.position < 0 {
		heap.Push(&r.timers, c)
	} else {
		heap.Fix(&r.timers, int(c.position))
	}
}

// next is when tick is to be called; the zero time if there is nothing to wait for.
func (r *registry) next() time.Time {
	if len(r.timers) == 0 {
		return time.Time{}
	}
	return r.timers[0].due
}

// tick looks at no more than n clients whose time has come, and tells whether there are more of them.
func (r *registry) tick(now time.Time, n int) (more bool) {
	for ; n > 0; n-- {
		if len(r.timers) == 0 || r.timers[0].due.After(now) {
			return false
		}
		c := heap.Pop(&r.timers).(*client)
		switch {
		case !c.confirmed:
			r.remove(now, c)
			continue
		case c.secured.Dead(now), now.Sub(c.secured.LastHeard()) >= c.silence:
			r.stats.Expired.Add(1)
			r.remove(now, c)
			continue
		}
		if !c.reunited.IsZero() && !now.Before(c.reunited) {
			r.judge(c)
		}
		if !c.announce.IsZero() && !now.Before(c.announce) {
			r.tell(now, c)
		}
		r.speak(now, c)
	}
	return len(r.timers) > 0 && !r.timers[0].due.After(now)
}

// leave ends what a closed connection carried.
func (r *registry) leave(now time.Time, closed *conn) {
	if c := r.find(closed.session); c != nil && c.route.conn == closed {
		r.remove(now, c)
	}
}

// say sends a client an unsequenced message.
func (r *registry) say(now time.Time, c *client, kind wire.Kind, body []byte) {
	if b := c.secured.Unsequenced(now, kind, body); b != nil {
		r.post(c.route, b)
	}
}

// timers is a heap of clients by when they are due.
type timers []*client

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].due.Before(t[j].due) }
func (t timers) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].position, t[j].position = int32(i), int32(j)
}
func (t *timers) Push(x any) {
	c := x.(*client)
	c.position = int32(len(*t))
	*t = append(*t, c)
}
func (t *timers) Pop() any {
	old := *t
	n := len(old) - 1
	c := old[n]
	old[n] = nil
	*t = old[:n]
	c.position = -1
	return c
}
