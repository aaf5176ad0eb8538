package server

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/underlay"
)

const (
	// lettersWaiting bounds the control datagrams and answers that wait to be sent; more are dropped, and sent again by who needs them.
	lettersWaiting = 4096
	// batchMessages and batchBytes bound what is sent by one call: a control datagram waits for no more than that.
	batchMessages = 64
	batchBytes    = 256 << 10
	// congestion is how long relayed trains go through the fair queue after the socket was full, or the reader could not keep up.
	congestion = 500 * time.Millisecond
	// totalBurst is how far relaying may exceed the configured total rate for a moment.
	totalBurst = 50 * time.Millisecond
)

// A letter is a control datagram or an answer, ready to be sent.
type letter struct {
	to route
	b  []byte
}

// A train is one or more relayed datagrams of equal size (the last may be shorter) for one client, each with its relay header.
type train struct {
	to      *route
	b       buffer
	segment int // 0 = one datagram
	tos     byte
}

// egress is everything on its way out that does not leave at once: control datagrams first, then relayed trains, fairly by sending client.
// Relayed trains pass it by as long as nothing is scarce.
type egress struct {
	interval  int64 // nanoseconds per 64 KiB of the total rate, 0 = none
	total     limit
	stats     *Stats
	backlog   atomic.Int64 // relayed trains here, with those that are being sent
	congested atomic.Int64 // until then, on the server's clock
	wake      chan struct{}

	mu      sync.Mutex
	letters []letter
	first   int // of letters
	trains  fair[*client, train]
	held    train // taken out of the fair queue, and waits for the total rate
	heldLen int
}

func (e *egress) init(totalRate uint64, stats *Stats) {
	e.wake = make(chan struct{}, 1)
	e.stats = stats
	e.interval = nanosPer64K(totalRate)
}

// nanosPer64K is what 64 KiB cost at a rate in bits per second; 0 = unlimited.
func nanosPer64K(bits uint64) int64 {
	if bits == 0 {
		return 0
	}
	return max(1, int64((8<<16)*float64(time.Second)/float64(bits)))
}

// post takes a letter; it copies nothing. It never blocks.
func (e *egress) post(to *route, b []byte) {
	e.mu.Lock()
	if len(e.letters)-e.first >= lettersWaiting {
		e.mu.Unlock()
		e.stats.DroppedControl.Add(1)
		return
	}
	e.letters = append(e.letters, letter{*to, b})
	e.mu.Unlock()
	e.signal()
}

func (e *egress) signal() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// direct tells whether relayed bytes may be sent at once, and counts them if so.
func (e *egress) direct(now int64, size int) bool {
	return e.backlog.Load() == 0 && now >= e.congested.Load() && e.afford(now, size)
}

// afford spends bytes of the total rate.
func (e *egress) afford(now int64, size int) bool {
	return e.interval == 0 || e.total.spend(now, int64(size)*e.interval>>16, int64(totalBurst))
}

// congest sends relayed trains through the fair queue for a while.
func (e *egress) congest(now int64) { e.congested.Store(now + int64(congestion)) }

// queue takes a copy of a train that a client sent; false = no room for it.
func (e *egress) queue(sender *client, to *route, b []byte, segment int, tos byte) bool {
	e.mu.Lock()
	ok := e.push(&forward{sender, to, b, segment, tos})
	e.mu.Unlock()
	if ok {
		e.signal()
	}
	return ok
}

// queueAll is queue for several trains; it returns how many had no room.
func (e *egress) queueAll(runs []forward) (dropped int) {
	e.mu.Lock()
	for i := range runs {
		if !e.push(&runs[i]) {
			dropped++
		}
	}
	e.mu.Unlock()
	if dropped < len(runs) {
		e.signal()
	}
	return dropped
}

// push is queue with the lock held. What has no room is not copied.
func (e *egress) push(r *forward) bool {
	if !e.trains.room(r.sender, len(r.b)) {
		return false
	}
	e.trains.push(r.sender, len(r.b), train{r.to, copied(r.b), r.segment, r.tos})
	e.backlog.Add(1)
	return true
}

// batch is what the pump sends next.
type batch struct {
	letters [batchMessages]letter
	posted  int
	trains  [batchMessages]train
	relayed int
}

// next takes out what may be sent now, at most a batch. With nothing in it, wait is how long until there may be something; 0 = nothing is
// there.
func (e *egress) next(now int64, b *batch) (wait time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	b.posted = copy(b.letters[:], e.letters[e.first:])
	clear(e.letters[e.first : e.first+b.posted])
	e.first += b.posted
	if e.first == len(e.letters) {
		e.first, e.letters = 0, e.letters[:0]
		if cap(e.letters) > lettersWaiting/4 {
			e.letters = nil
		}
	} else if e.first > lettersWaiting {
		n := copy(e.letters, e.letters[e.first:])
		clear(e.letters[n:])
		e.letters, e.first = e.letters[:n], 0
	}
	b.relayed = 0
	for bytes := 0; b.relayed < batchMessages && bytes < batchBytes; {
		if e.heldLen == 0 {
			t, size, ok := e.trains.pop()
			if !ok {
				break
			}
			e.held, e.heldLen = t, size
		}
		if !e.afford(now, e.heldLen) {
			if b.posted+b.relayed == 0 {
				wait = time.Duration(max(1, e.total.full.Load()+int64(e.heldLen)*e.interval>>16-int64(totalBurst)-now))
			}
			break
		}
		b.trains[b.relayed] = e.held
		bytes += e.heldLen
		b.relayed++
		e.held, e.heldLen = train{}, 0
	}
	return wait
}

// sizes returns how much waits, for the metrics.
func (e *egress) sizes() (letters, trains, bytes int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.letters) - e.first, int(e.backlog.Load()), e.trains.bytes + e.heldLen
}

// run sends until ctx ends. now is the server's clock.
func (e *egress) run(ctx context.Context, now func() int64) {
	p := &pump{e: e}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		wait := e.next(now(), &p.batch)
		if p.posted+p.relayed > 0 {
			p.send(now)
			continue
		}
		if wait == 0 {
			wait = time.Hour
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
		case <-e.wake:
		case <-timer.C:
		}
	}
}

// pump sends batches.
type pump struct {
	e *egress
	batch
	messages [batchMessages]underlay.Message
}

// send sends the batch: what leaves by one socket together, in the order in which it came.
func (p *pump) send(now func() int64) {
	e := p.e
	for i := 0; i < p.posted; {
		l := &p.letters[i]
		if l.to.conn != nil {
			if !l.to.conn.control(l.b) {
				e.stats.DroppedControl.Add(1)
			}
			i++
			continue
		}
		n, sock := 0, l.to.sock
		for ; i < p.posted && p.letters[i].to.sock == sock; i++ {
			p.messages[n] = underlay.Message{Buf: p.letters[i].b, Remote: p.letters[i].to.remote, Local: p.letters[i].to.local}
			n++
		}
		p.flush(sock, n, now, &e.stats.DroppedControl)
	}
	for i := 0; i < p.relayed; {
		t := &p.trains[i]
		if t.to.conn != nil {
			e.stats.DroppedSlow.Add(uint64(t.to.conn.relay(t.b.b, t.segment)))
			i++
			continue
		}
		n, sock := 0, t.to.sock
		for ; i < p.relayed && p.trains[i].to.sock == sock; i++ {
			t := &p.trains[i]
			p.messages[n] = underlay.Message{Buf: t.b.b, Segment: t.segment, Remote: t.to.remote, Local: t.to.local, TOS: t.tos}
			n++
		}
		p.flush(sock, n, now, &e.stats.DroppedSend)
	}
	for i := range p.relayed {
		p.trains[i].b.free()
		p.trains[i] = train{}
	}
	clear(p.letters[:p.posted])
	e.backlog.Add(-int64(p.relayed))
}

// flush sends the first n messages.
func (p *pump) flush(sock underlay.Socket, n int, now func() int64, dropped *counter) {
	ms := p.messages[:n]
	failed, full := write(sock, ms)
	if failed > 0 {
		dropped.Add(uint64(failed))
	}
	if full {
		p.e.congest(now())
	}
	clear(ms)
}
