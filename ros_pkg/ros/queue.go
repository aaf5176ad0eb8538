package ros

import "sync"

// queue hands items to a function, one at a time and in order, in a goroutine that lives while there are items.
type queue[T any] struct {
	run   func(T)
	depth int // items
	bytes int // bound of the sum of the items' sizes; one item may be larger

	mu      sync.Mutex
	items   []queued[T] // from head on
	head    int
	held    int // sum of sizes
	running bool
	closed  bool
	dropped uint64
}

type queued[T any] struct {
	item T
	size int
}

// push adds an item, in place of the oldest ones if there are too many.
func (q *queue[T]) push(item T, size int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return
	}
	for q.full(size) {
		q.pop()
		q.dropped++
	}
	q.add(item, size)
}

// offer adds an item unless there are too many.
func (q *queue[T]) offer(item T, size int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || q.full(size) {
		q.dropped++
		return false
	}
	q.add(item, size)
	return true
}

func (q *queue[T]) full(size int) bool {
	n := len(q.items) - q.head
	return n > 0 && (n >= q.depth || q.held+size > q.bytes)
}

func (q *queue[T]) pop() T {
	next := q.items[q.head]
	q.items[q.head] = queued[T]{}
	q.head++
	q.held -= next.size
	return next.item
}

func (q *queue[T]) add(item T, size int) {
	if q.head > 0 && len(q.items) == cap(q.items) {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	q.items = append(q.items, queued[T]{item, size})
	q.held += size
	if !q.running {
		q.running = true
		go q.drain()
	}
}

func (q *queue[T]) drain() {
	for {
		q.mu.Lock()
		if q.head == len(q.items) {
			q.items, q.head, q.running = q.items[:0], 0, false
			q.mu.Unlock()
			return
		}
		item := q.pop()
		q.mu.Unlock()
		q.run(item)
	}
}

// close drops what waits and refuses what comes.
func (q *queue[T]) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed, q.items, q.head, q.held = true, nil, 0, 0
}

func (q *queue[T]) drops() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.dropped
}
