package server

import (
	"container/list"
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// urgentBytes and bulkBytes bound what waits to be written to one connection: control messages, which go first, and relayed datagrams. What has no
	// room is dropped: control is repeated, relayed datagrams are like any other that a slow link loses.
	urgentBytes = 64 << 10
	bulkBytes   = 256 << 10
	// writeBytes is what is written at once; control waits for no more than that.
	writeBytes = 32 << 10
	// writeTimeout is how long the other side may take none of it before the connection is given up.
	writeTimeout = 15 * time.Second
	// frameLen is the length that stands in front of each message.
	frameLen = 2
)

// conn is the writing half of a connection over TCP. Nothing but its own writer ever waits for it.
type conn struct {
	raw     net.Conn // closing it ends both halves, without waiting
	writer  net.Conn
	remote  netip.AddrPort
	waiting *atomic.Int64 // bytes in all queues, for the metrics
	session uint32        // guarded by the registry's lock
	closed  atomic.Bool

	mu      sync.Mutex
	urgent  []byte // frames
	bulk    []byte // frames from bulk[first:] on
	first   int
	writing bool // the writer runs; it ends when there is nothing to write
}

// control queues a message, false = no room.
func (c *conn) control(b []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed.Load() || len(c.urgent)+frameLen+len(b) > urgentBytes {
		return false
	}
	c.urgent = appendFrame(c.urgent, b)
	c.waiting.Add(int64(frameLen + len(b)))
	c.start()
	return true
}

// relay queues the datagrams of a train and returns how many had no room.
func (c *conn) relay(b []byte, segment int) (dropped int) {
	if segment <= 0 {
		segment = len(b)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	before := len(c.bulk)
	for len(b) > 0 {
		n := min(segment, len(b))
		if c.closed.Load() || len(c.bulk)-c.first+frameLen+n > bulkBytes {
			return dropped + (len(b)+segment-1)/segment
		}
		if c.first > 0 && len(c.bulk)+frameLen+n > cap(c.bulk) {
			kept := copy(c.bulk, c.bulk[c.first:])
			before -= c.first
			c.bulk, c.first = c.bulk[:kept], 0
		}
		c.bulk = appendFrame(c.bulk, b[:n])
		b = b[n:]
		c.waiting.Add(int64(frameLen + n))
	}
	if len(c.bulk) > before {
		c.start()
	}
	return dropped
}

func appendFrame(dst, b []byte) []byte {
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(b))), b...)
}

// start runs the writer if it does not run. The lock is held.
func (c *conn) start() {
	if !c.writing {
		c.writing = true
		go c.write()
	}
}

// write writes what is queued, and ends when nothing is, so that an idle connection has no writer.
func (c *conn) write() {
	chunk := writeBuffers.Get().(*[]byte)
	defer writeBuffers.Put(chunk)
	for {
		b := c.next((*chunk)[:0])
		if len(b) == 0 {
			return
		}
		*chunk = b
		err := c.writer.SetWriteDeadline(time.Now().Add(writeTimeout))
		if err == nil {
			_, err = c.writer.Write(b)
		}
		if err != nil {
			c.kill()
		}
	}
}

var writeBuffers = sync.Pool{New: func() any { b := make([]byte, 0, writeBytes+urgentBytes); return &b }}

// next takes what is to be written next: all control messages, then relayed datagrams up to writeBytes. With nothing left, or when the connection is
// closed, the writer is to end.
func (c *conn) next(b []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed.Load() {
		c.waiting.Add(-int64(len(c.urgent) + len(c.bulk) - c.first))
		c.urgent, c.bulk, c.first, c.writing = nil, nil, 0, false
		return nil
	}
	b = append(b, c.urgent...)
	c.urgent = c.urgent[:0]
	for c.first < len(c.bulk) {
		n := frameLen + int(binary.BigEndian.Uint16(c.bulk[c.first:]))
		if len(b) > 0 && len(b)+n > writeBytes {
			break
		}
		b = append(b, c.bulk[c.first:c.first+n]...)
		c.first += n
	}
	if c.first == len(c.bulk) {
		c.bulk, c.first = c.bulk[:0], 0
	}
	if len(b) == 0 {
		c.urgent, c.bulk, c.writing = nil, nil, false
	}
	c.waiting.Add(-int64(len(b)))
	return b
}

// kill ends the connection at once; it does not wait for anything.
func (c *conn) kill() {
	if !c.closed.Swap(true) {
		_ = c.raw.Close()
	}
}

// connections bounds the connections, in all and by host. When there are too many in all, the oldest of those that have not registered yet makes
// room; registered ones stay.
type connections struct {
	most, mostPerHost int
	waiting           atomic.Int64

	mu        sync.Mutex
	all       map[*conn]*list.Element // of strangers, nil = registered
	byHost    map[netip.Addr]int
	strangers list.List // of *conn, the oldest first
}

func (l *connections) init(limits Limits) {
	l.most, l.mostPerHost = limits.Connections, limits.ConnectionsPerHost
	l.all = make(map[*conn]*list.Element)
	l.byHost = make(map[netip.Addr]int)
}

// add makes room for a connection; false = there is none.
func (l *connections) add(c *conn) bool {
	host := hostOf(c.remote.Addr())
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byHost[host] >= l.mostPerHost {
		return false
	}
	if len(l.all) >= l.most {
		oldest := l.strangers.Front()
		if oldest == nil {
			return false
		}
		stranger := oldest.Value.(*conn)
		stranger.kill()
		l.drop(stranger)
	}
	l.all[c] = l.strangers.PushBack(c)
	l.byHost[host]++
	return true
}

// registered tells that a connection carries a registration.
func (l *connections) registered(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if stranger := l.all[c]; stranger != nil {
		l.strangers.Remove(stranger)
		l.all[c] = nil
	}
}

func (l *connections) remove(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.drop(c)
}

// drop is remove with the lock held.
func (l *connections) drop(c *conn) {
	stranger, there := l.all[c]
	if !there {
		return
	}
	if stranger != nil {
		l.strangers.Remove(stranger)
	}
	delete(l.all, c)
	host := hostOf(c.remote.Addr())
	if l.byHost[host]--; l.byHost[host] <= 0 {
		delete(l.byHost, host)
	}
}

// kill ends all connections.
func (l *connections) kill() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.all {
		c.kill()
	}
}

func (l *connections) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.all)
}
