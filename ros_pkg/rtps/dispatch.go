package rtps

import (
	"sync"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/machine"
)

// maxCalls is how many callbacks may wait before the sockets are no longer read: a slow callback makes the kernel's
// buffers fill, and then the senders wait or repeat.
const maxCalls = 4096

// dispatcher makes callbacks, in order and one at a time: whoever drains makes all that wait, unless somebody is at it
// already.
type dispatcher struct {
	mu     sync.Mutex
	idle   sync.Cond
	queue  []machine.Call
	spare  []machine.Call
	busy   bool
	closed bool
}

func (d *dispatcher) add(calls []machine.Call) {
	if len(calls) == 0 {
		return
	}
	d.mu.Lock()
	d.queue = append(d.queue, calls...)
	d.mu.Unlock()
}

// start makes what waits, in a goroutine of its own.
func (d *dispatcher) start() {
	d.mu.Lock()
	idle := !d.busy && len(d.queue) > 0
	d.mu.Unlock()
	if idle {
		go d.drain()
	}
}

// drain makes what waits.
func (d *dispatcher) drain() {
	d.mu.Lock()
	if d.busy {
		d.mu.Unlock()
		return
	}
	d.busy = true
	for len(d.queue) > 0 {
		calls := d.queue
		d.queue, d.spare = d.spare[:0], nil
		if d.idle.L != nil {
			d.idle.Broadcast()
		}
		d.mu.Unlock()
		for i := range calls {
			calls[i].Do()
		}
		clear(calls)
		d.mu.Lock()
		if cap(calls) <= maxCalls {
			d.spare = calls[:0]
		}
	}
	d.busy = false
	d.mu.Unlock()
}

// room waits until few enough callbacks wait. It must not be called from one.
func (d *dispatcher) room() {
	d.mu.Lock()
	if d.idle.L == nil {
		d.idle.L = &d.mu
	}
	for len(d.queue) > maxCalls && d.busy && !d.closed {
		d.idle.Wait()
	}
	d.mu.Unlock()
}

// release lets go whoever waits for room, for good.
func (d *dispatcher) release() {
	d.mu.Lock()
	d.closed = true
	if d.idle.L != nil {
		d.idle.Broadcast()
	}
	d.mu.Unlock()
}
