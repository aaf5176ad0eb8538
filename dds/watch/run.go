package watch

import (
	"encoding/binary"
	"math/bits"
	"sync/atomic"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/engine"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// A run is what most packets belong to: the next sample of a writer, or the next fragment of its sample, in order and within one second. Such a datagram
// takes no lock and no table, but one atomic addition to what is folded into the row when the run ends, or when somebody looks at the window or the row.
//
// One Inspector goes on with a run. The window that it advances knows it, under the lock of the row's counter, and whoever has that lock may fold it, or
// take the window away from it: of that the Inspector learns by the sum, and then counts the datagram at hand under the same lock before it does anything
// else with the run.
type run struct {
	// The Inspector's own.
	key       runKey
	w         *writer // nil: there is no run
	book      *book
	next      uint64 // sequence number, or fragment
	treatment engine.Treatment
	candidate uint64 // hash of the latest that was of no run here
	expected  uint64 // what would follow it

	sum atomic.Uint64 // units<<unitShift | bytes, not yet folded

	// Of the lock of the row's counter of w; changed by the Inspector alone, but for base.
	at     time.Duration // when it began
	sec    int64
	base   uint64              // next when the sum was last 0
	sample wire.SequenceNumber // whose fragments they are; 0: they are samples
	shape  uint64              // of each fragment: count, size, the sample's size
	total  uint32              // fragments of the sample
	size   uint32              // bytes of a submessage
}

// A sum has room for 4 million units and half a terabyte, and is folded at half of either.
const (
	unitShift = 40
	sumFull   = 1<<62 | 1<<(unitShift-1)
	sumTaken  = 1 << 63 // the window is no longer the run's
)

// runKey tells whose run it is.
type runKey struct {
	peer      *peer
	low, high uint64 // GUID
	port      uint16
	own       bool
}

// hash spreads keys over slots, by its upper bits.
func (k *runKey) hash() uint64 {
	h := (k.low ^ uint64(k.port)<<16) * 0x9e3779b97f4a7c15
	return (h ^ h>>32 ^ k.high) * 0x9e3779b97f4a7c15
}

// slotBits decide how many runs an Inspector may have at once.
const slotBits = 8

// runs are those of one Inspector.
type runs struct {
	of    [1 << slotBits]*run
	plain [2]*plainRun // in each direction
}

func (s *runs) slot(hash uint64) *run { return s.of[hash>>(64-slotBits)] }

// end ends all.
func (s *runs) end(t *table) {
	for _, r := range s.of {
		if r != nil && r.w != nil {
			r.end(t)
		}
	}
	for d, r := range s.plain {
		if r != nil {
			r.end(d)
		}
	}
}

// end is called by the Inspector.
func (r *run) end(t *table) {
	d := r.w.direction()
	held := r.w.lock(d)
	for i := range r.w.windows { // it may have been taken away
		if win := &r.w.windows[i]; win.run == r {
			win.detach(t, r.w, &held.flow[d])
		}
	}
	held.flow[d].mu.Unlock()
	r.w = nil
}

// fold counts what the window's run has added, if there is one. The lock is held, as in the next two.
func (win *window) fold(t *table, w *writer, c *counter) {
	if win.run != nil {
		win.count(t, w, c, win.run.sum.Swap(0))
	}
}

// detach ends the window's run.
func (win *window) detach(t *table, w *writer, c *counter) {
	if win.run != nil {
		win.count(t, w, c, win.run.sum.Swap(sumTaken))
		win.run = nil
	}
}

// detach ends all runs of a writer.
func (w *writer) detach(t *table, c *counter) {
	for i := range w.windows {
		w.windows[i].detach(t, w, c)
	}
}

// count counts a sum of the window's run.
func (win *window) count(t *table, w *writer, c *counter, sum uint64) {
	if sum == 0 {
		return
	}
	r := win.run
	n, at := sum>>unitShift, r.base
	r.base += n
	c.take(r.at, r.sec, int(sum&(1<<unitShift-1)))
	c.messages += n
	if r.sample == 0 { // whoever else moves the window detaches the run first
		c.samples += n
		c.lost += win.advance(n)
		return
	}
	// As if one by one: of those up to the highest, what is new fills a gap.
	first, count := uint32(at), uint32(n)
	if high := win.highest(r.sample); first <= high && high < first+count-1 {
		t.pieces(c, w, win, r.sample, first, high-first+1, r.total, r.size)
		count -= high - first + 1
		first = high + 1
	}
	t.pieces(c, w, win, r.sample, first, count, r.total, r.size)
}

// A sighting is what most datagrams are: one sample of a user's writer, or one fragment, with what says nothing of samples before it and at most
// HEARTBEATs of the same writer behind it.
type sighting struct {
	key    runKey
	hash   uint64
	number uint64
	first  uint32 // fragment; 0: a sample
	shape  uint64
	size   uint32
}

// scan reads a message of RTPS as far as that; false = it is another.
func (q *sighting) scan(b []byte) bool {
	writer := uint32(0) // as it stands there, in either byte order
	at := wire.HeaderLen
	for at+4 <= len(b) {
		head := binary.LittleEndian.Uint32(b[at:])
		length := int(head >> 16)
		end := at + 4 + length
		if head&(flagLittle<<8) == 0 || end > len(b) {
			return false
		}
		s := b[at+4 : end]
		switch wire.SubmessageID(head) {
		case wire.IDInfoTS:
		case wire.IDInfoDst:
			if length == 0 {
				return false // it goes to the end
			}
		case wire.IDData:
			if len(s) < dataLen || writer != 0 {
				return false
			}
			writer = binary.LittleEndian.Uint32(s[8:])
			q.number = uint64(binary.LittleEndian.Uint32(s[12:]))<<32 | uint64(binary.LittleEndian.Uint32(s[16:]))
			q.first, q.size = 0, uint32(4+length)
		case wire.IDDataFrag:
			if len(s) < dataFragLen || writer != 0 {
				return false
			}
			writer = binary.LittleEndian.Uint32(s[8:])
			q.number = uint64(binary.LittleEndian.Uint32(s[12:]))<<32 | uint64(binary.LittleEndian.Uint32(s[16:]))
			q.first, q.shape, q.size = binary.LittleEndian.Uint32(s[20:]), binary.LittleEndian.Uint64(s[24:]), uint32(4+length)
			if uint16(q.shape) != 1 || q.first == 0 {
				return false // fragments in one submessage
			}
		case wire.IDHeartbeat:
			if len(s) < heartbeatLen || writer == 0 || binary.LittleEndian.Uint32(s[4:]) != writer {
				return false
			}
		default:
			return false
		}
		at = end
	}
	if writer == 0 || at != len(b) || wire.EntityID(writer>>24).Builtin() {
		return false
	}
	q.key.low = binary.LittleEndian.Uint64(b[8:])
	q.key.high = uint64(bits.ReverseBytes32(writer))<<32 | uint64(binary.LittleEndian.Uint32(b[16:]))
	return true
}

// goOn adds a datagram to its run, if it is the next one of that.
func (i *Inspector) goOn(q *sighting, bytes int) (engine.Treatment, bool) {
	r := i.runs.slot(q.hash)
	if r == nil || r.w == nil || r.key != q.key || r.sec != i.sec || r.book.version.Load() != r.w.asked.Load() {
		return engine.Treatment{}, false
	}
	if q.first == 0 {
		if q.number != r.next || r.sample != 0 {
			return engine.Treatment{}, false
		}
	} else if uint64(q.first) != r.next || q.number != uint64(r.sample) || q.shape != r.shape || q.first >= r.total {
		return engine.Treatment{}, false
	}
	if sum := r.sum.Add(1<<unitShift | uint64(bytes)); sum&(sumTaken|sumFull) != 0 {
		if sum&sumTaken != 0 {
			r.w = nil
			return engine.Treatment{}, false
		}
		r.end(&i.w.table)
	} else if !r.w.used.Load() {
		r.w.used.Store(true)
	}
	r.next++
	return r.treatment, true
}

// begin begins a run behind a datagram that was counted in whole: the second in a row.
func (i *Inspector) begin(q *sighting, treatment engine.Treatment) {
	w := i.latest
	if w == nil || w.gone.Load() || i.keyOf(w) != q.key {
		return
	}
	r := i.runs.slot(q.hash)
	if r == nil {
		r = new(run)
		i.runs.of[q.hash>>(64-slotBits)] = r
	}
	unit := q.number
	if q.first != 0 {
		unit = uint64(q.first)
	}
	if (r.key != q.key || r.next != unit) && (r.candidate != q.hash || r.expected != unit) {
		r.candidate, r.expected = q.hash, unit+1
		return
	}
	t := &i.w.table
	if r.w != nil {
		r.end(t)
	}
	held := w.lock(i.direction)
	c := &held.flow[i.direction]
	defer c.mu.Unlock()
	if w.gone.Load() {
		return
	}
	n, win, sample, total := wire.SequenceNumber(q.number), w.window(t, c, i.port), wire.SequenceNumber(0), uint32(0)
	win.detach(t, w, c)
	if q.first == 0 {
		if !win.started || win.high != n || n > wire.MaxSequence-1<<32 {
			return // it came late
		}
	} else {
		var ok bool
		sample = n
		total, ok = fragmentsIn(uint32(q.shape>>32), uint32(uint16(q.shape>>16)))
		if !ok || q.first >= total || n < 1 || n > wire.MaxSequence || win.state(n) == again {
			return
		}
	}
	r.key, r.w, r.book, r.treatment, r.next = q.key, w, t.bookOf(q.key.peer, w.key), treatment, unit+1
	r.at, r.sec, r.base, r.sample, r.shape, r.total, r.size = i.at, i.sec, r.next, sample, q.shape, total, q.size
	r.sum.Store(0)
	win.run = r
}

func (i *Inspector) keyOf(w *writer) runKey {
	p := &w.key.guid.Prefix
	return runKey{
		peer: i.latestP, low: binary.LittleEndian.Uint64(p[:]), high: uint64(w.key.guid.Entity)<<32 | uint64(binary.LittleEndian.Uint32(p[8:])),
		port: i.port, own: w.key.own,
	}
}

// plainRun is the same for packets that are not RTPS, of one row.
type plainRun struct {
	row *row // nil: there is no run
	sum atomic.Uint64
	at  time.Duration
	sec int64
}

func (r *plainRun) end(direction int) {
	if r.row == nil {
		return
	}
	c := &r.row.flow[direction]
	c.mu.Lock()
	if c.run == r {
		c.detach()
	}
	c.mu.Unlock()
	r.row = nil
}

// goOn adds packets to the run if they are of its row.
func (r *plainRun) goOn(to *row, direction, bytes, packets int) bool {
	if r.row != to {
		return false
	}
	sum := r.sum.Add(uint64(packets)<<unitShift | uint64(bytes))
	if sum&(sumTaken|sumFull) != 0 {
		if sum&sumTaken != 0 {
			r.row = nil
			return false
		}
		r.end(direction)
	}
	return true
}

// fold counts what the run of plain packets has added. The lock is held, as in the next.
func (c *counter) fold() {
	if c.run != nil {
		c.plain(c.run.sum.Swap(0))
	}
}

func (c *counter) detach() {
	if c.run != nil {
		c.plain(c.run.sum.Swap(sumTaken))
		c.run = nil
	}
}

func (c *counter) plain(sum uint64) {
	if sum != 0 {
		c.take(c.run.at, c.run.sec, int(sum&(1<<unitShift-1)))
		c.messages += sum >> unitShift
	}
}
