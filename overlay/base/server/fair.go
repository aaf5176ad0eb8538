package server

// Bounds of the fair queue.
const (
	// quantum is what a sender may send more in each round, in bytes.
	quantum = 16 << 10
	// waitingBytes bounds what waits for all senders.
	waitingBytes = 8 << 20
	// firstBytes is the part of it that is kept for the first item of each sender. Of the rest one sender may take the waitingPart-th part of what is
	// left (dynamic thresholds, Choudhury and Hahne 1998): 256 KiB if it is alone, which is 2 ms at 1 Gbit/s, and the less the more senders there are.
	firstBytes  = waitingBytes / 4
	waitingPart = 24
)

// fair is a queue that serves its senders in turn, each with as many bytes as the others (deficit round robin, Shreedhar and Varghese 1996), so
// that who sends ten times as much gets no more than who sends as much as there is room for. What it has no room for is dropped, the newest first.
type fair[K comparable, T any] struct {
	flows  map[K]*flow[K, T]
	head   *flow[K, T] // of the ring of flows that have something; the one whose turn it is
	tail   *flow[K, T]
	spare  *flow[K, T] // of flows that had
	active int
	most   int // of active flows since there were none
	bytes  int
}

const (
	// spareItems bounds the slices of flows that are kept for use again, spareFlows the flows kept after a time of none.
	spareItems = 64
	spareFlows = 256
)

type flow[K comparable, T any] struct {
	key     K
	next    *flow[K, T]
	items   []sized[T]
	first   int // of items
	bytes   int
	deficit int
	visited bool // has had this round's quantum
}

type sized[T any] struct {
	item T
	size int
}

// room tells whether push would take an item of a sender.
func (f *fair[K, T]) room(key K, size int) bool {
	if f.bytes+size > waitingBytes {
		return false
	}
	q := f.flows[key]
	return q == nil || q.bytes+size <= (waitingBytes-firstBytes-f.bytes)/waitingPart
}

// push adds an item of a sender; false = no room.
func (f *fair[K, T]) push(key K, size int, item T) bool {
	if !f.room(key, size) {
		return false
	}
	q := f.flows[key]
	if q == nil {
		if f.flows == nil {
			f.flows = make(map[K]*flow[K, T])
		}
		if q = f.spare; q != nil {
			f.spare, q.next = q.next, nil
		} else {
			q = new(flow[K, T])
		}
		q.key = key
		f.flows[key] = q
		f.append(q)
		f.active++
		f.most = max(f.most, f.active)
	}
	q.items = append(q.items, sized[T]{item, size})
	q.bytes += size
	f.bytes += size
	return true
}

// pop takes the next item out; ok = false when there is none.
func (f *fair[K, T]) pop() (item T, size int, ok bool) {
	for f.head != nil {
		q := f.head
		if !q.visited {
			q.visited = true
			q.deficit += quantum
		}
		next := &q.items[q.first]
		if next.size > q.deficit {
			q.visited = false
			f.head = q.next
			if f.head == nil {
				f.tail = nil
			}
			f.append(q)
			continue
		}
		item, size = next.item, next.size
		*next = sized[T]{}
		q.first++
		q.deficit -= size
		q.bytes -= size
		f.bytes -= size
		if q.first == len(q.items) {
			f.remove(q)
		} else if q.first >= spareItems {
			n := copy(q.items, q.items[q.first:])
			clear(q.items[n:])
			q.items, q.first = q.items[:n], 0
		}
		return item, size, true
	}
	return item, 0, false
}

// empty tells whether nothing waits.
func (f *fair[K, T]) empty() bool { return f.head == nil }

func (f *fair[K, T]) append(q *flow[K, T]) {
	q.next = nil
	if f.tail == nil {
		f.head = q
	} else {
		f.tail.next = q
	}
	f.tail = q
}

// remove ends the flow at the head, which has nothing more.
func (f *fair[K, T]) remove(q *flow[K, T]) {
	f.head = q.next
	if f.head == nil {
		f.tail = nil
	}
	delete(f.flows, q.key)
	items := q.items[:0]
	if cap(items) > spareItems {
		items = nil
	}
	*q = flow[K, T]{next: f.spare, items: items}
	f.spare = q
	f.active--
	if f.active == 0 {
		if f.most > spareFlows {
			f.spare, f.flows = nil, nil // no memory of a flood stays
		}
		f.most = 0
	}
}
