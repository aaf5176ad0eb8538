package lab

import (
	"container/heap"
	"math/rand/v2"
	"sync"
	"time"
)

// maxInFlight bounds the memory of frames on their way on one LAN, in bytes.
const maxInFlight = 64 << 20

// maxLearned bounds the table of where a MAC address is.
const maxLearned = 4096

type mac [6]byte

// wire is a switch in this process: it takes the frames that members send and hands them on as the link says.
// One goroutine per member reads; one delivers what had to wait.
type wire struct {
	mtu     int // that the rings were made for
	wg      sync.WaitGroup
	wake    chan struct{} // capacity 1: the first delivery has changed
	closing chan struct{}

	mu       sync.Mutex
	link     Link
	rng      *rand.Rand
	plugs    map[*port]*plug
	where    map[mac]*plug
	flights  flights
	inFlight int
	order    uint64
	stats    Stats
}

// plug is a member's end of the wire.
type plug struct {
	ring   *ring
	sender sender
	legs   map[*plug]*leg // to each other member
	cut    bool
	gone   bool
	read   sync.WaitGroup
}

type flight struct {
	at    time.Time
	order uint64
	to    *plug
	leg   *leg
	frame []byte
}

type flights []flight

func (f flights) Len() int { return len(f) }
func (f flights) Less(i, j int) bool {
	if f[i].at.Equal(f[j].at) {
		return f[i].order < f[j].order
	}
	return f[i].at.Before(f[j].at)
}
func (f flights) Swap(i, j int) { f[i], f[j] = f[j], f[i] }
func (f *flights) Push(x any)   { *f = append(*f, x.(flight)) }
func (f *flights) Pop() any {
	last := len(*f) - 1
	x := (*f)[last]
	(*f)[last] = flight{}
	*f = (*f)[:last]
	return x
}

// newWire starts a switch without members. The same seed loses the same frames of the same traffic.
func newWire(link Link, seed uint64) *wire {
	w := &wire{
		mtu: max(link.mtu(), 1500), wake: make(chan struct{}, 1), closing: make(chan struct{}), link: link,
		rng: rand.New(rand.NewPCG(seed, 0)), plugs: map[*port]*plug{}, where: map[mac]*plug{},
	}
	w.wg.Go(w.deliver)
	return w
}

// add plugs a member in. It runs in the network namespace of the wires.
func (w *wire) add(p *port) error {
	r, err := openRing(p.far.Attrs().Index, w.mtu+etherHeader, false)
	if err != nil {
		return err
	}
	g := &plug{ring: r, legs: map[*plug]*leg{}, cut: p.cut}
	w.mu.Lock()
	w.plugs[p] = g
	w.mu.Unlock()
	g.read.Go(func() {
		for {
			if err := r.wait(func(f ringFrame) { w.carry(g, f, time.Now()) }); err != nil {
				return
			}
		}
	})
	return nil
}

func (w *wire) remove(p *port) {
	w.mu.Lock()
	g := w.plugs[p]
	delete(w.plugs, p)
	g.gone = true
	for m, at := range w.where {
		if at == g {
			delete(w.where, m)
		}
	}
	for _, other := range w.plugs {
		delete(other.legs, g)
	}
	w.mu.Unlock()
	g.ring.interrupt()
	g.read.Wait()
	w.mu.Lock()
	w.stats.Missed += g.ring.dropped()
	g.ring.close()
	w.mu.Unlock()
}

func (w *wire) set(link Link) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.link = link
}

func (w *wire) cut(p *port, cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.plugs[p].cut = cut
}

func (w *wire) counts() Stats {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, g := range w.plugs {
		w.stats.Missed += g.ring.dropped()
	}
	return w.stats
}

// carry takes a frame that a member has sent.
func (w *wire) carry(from *plug, f ringFrame, now time.Time) {
	if len(f.data) < etherHeader || len(f.data) != f.len {
		return
	}
	dst, src := mac(f.data[0:6]), mac(f.data[6:12])
	w.mu.Lock()
	defer w.mu.Unlock()
	if from.gone {
		return
	}
	if _, known := w.where[src]; known || len(w.where) < maxLearned {
		w.where[src] = from
	}
	if from.cut {
		w.stats.Cut++
		return
	}
	left, fate := from.sender.send(w.link, now, len(f.data))
	if fate != carried {
		w.count(fate)
		return
	}
	if to := w.where[dst]; to != nil {
		if to != from {
			w.pass(from, to, f.data, left, now)
		}
		return
	}
	for _, to := range w.plugs {
		if to != from {
			w.pass(from, to, f.data, left, now)
		}
	}
}

// pass carries a frame to one member: at once, or later.
func (w *wire) pass(from, to *plug, data []byte, left, now time.Time) {
	g := from.legs[to]
	if g == nil {
		g = &leg{}
		from.legs[to] = g
	}
	at, fate := g.carry(w.link, left, w.rng)
	switch {
	case fate != carried:
		w.count(fate)
	case !at.After(now) && g.pending == 0:
		w.hand(to, data)
	case w.inFlight+len(data) > maxInFlight:
		w.stats.Missed++
	default:
		w.inFlight += len(data)
		g.pending++
		w.order++
		heap.Push(&w.flights, flight{at: at, order: w.order, to: to, leg: g, frame: append([]byte(nil), data...)})
		if w.flights[0].order == w.order {
			select {
			case w.wake <- struct{}{}:
			default:
			}
		}
	}
}

// hand gives a frame to its receiver.
func (w *wire) hand(to *plug, frame []byte) {
	switch {
	case to.gone || to.cut:
		w.stats.Cut++
	case to.ring.send(frame) != nil:
		w.stats.Missed++
	default:
		w.stats.Carried++
	}
}

func (w *wire) count(f fate) {
	switch f {
	case lost:
		w.stats.Lost++
	case queueFull:
		w.stats.QueueFull++
	case tooLong:
		w.stats.TooLong++
	}
}

// deliver hands over the frames whose time has come.
func (w *wire) deliver() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		w.mu.Lock()
		now := time.Now()
		for len(w.flights) > 0 && !w.flights[0].at.After(now) {
			f := heap.Pop(&w.flights).(flight)
			w.inFlight -= len(f.frame)
			f.leg.pending--
			w.hand(f.to, f.frame)
		}
		next := time.Hour
		if len(w.flights) > 0 {
			next = w.flights[0].at.Sub(now)
		}
		w.mu.Unlock()
		timer.Reset(next)
		select {
		case <-timer.C:
		case <-w.wake:
		case <-w.closing:
			return
		}
	}
}

// close ends the switch; what was on its way is gone.
func (w *wire) close() {
	close(w.closing)
	w.wg.Wait()
	w.mu.Lock()
	ports := make([]*port, 0, len(w.plugs))
	for p := range w.plugs {
		ports = append(ports, p)
	}
	w.mu.Unlock()
	for _, p := range ports {
		w.remove(p)
	}
}
