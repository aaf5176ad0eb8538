package pace

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/pace/pacetest"
)

const packet = 1400

// flow is one path with a Controller: a source that has bytes to send, the bottleneck, a Receiver, the Reports' way back.
type flow struct {
	w         *pacetest.World
	link      *pacetest.Link
	control   *Controller
	receive   Receiver
	back      time.Duration
	lostBack  float64 // share of Reports lost
	queueBack func() time.Duration

	offered float64 // bytes per second at most (what the host can send)
	backlog int     // bytes to be sent
	counter uint64
	noise   time.Duration // scheduling noise added to the time between arrival and Report, not seen by Held

	delivered int
	arrivals  []time.Duration // of the last packet of each burst, since it was pushed
	marks     []mark          // bursts under way
	pushed    int
	deaf      bool // gets no Reports
	busy      bool
	// here, way and there are the processors of the sender, of the link and of the receiver, if they are short of time.
	here, way, there *processor
	skew             float64
	began            time.Time
}

func newFlow(link *pacetest.Link, back time.Duration) *flow {
	return &flow{w: link.World, link: link, control: New(), back: back, offered: 40e6, began: link.World.Now}
}

// mark is the last byte of a burst.
type mark struct {
	counter uint64
	at      time.Time
}

// processor runs things in slices of time, between which others have it.
type processor struct {
	w    *pacetest.World
	free time.Time
}

func newProcessor(w *pacetest.World, on, off time.Duration) *processor {
	p := &processor{w: w}
	var turn func()
	turn = func() {
		away := time.Duration(w.Rand.Int64N(int64(off)))
		p.free = w.Now.Add(away)
		w.After(away+time.Duration(w.Rand.Int64N(int64(on))), turn)
	}
	turn()
	return p
}

func (p *processor) run(f func()) {
	if p == nil || !p.w.Now.Before(p.free) {
		f()
		return
	}
	p.w.At(p.free, func() { p.run(f) })
}

func (f *flow) push(bytes int) {
	f.pushed += bytes
	f.marks = append(f.marks, mark{uint64((f.pushed + packet - 1) / packet), f.w.Now})
	f.backlog += bytes
	if !f.busy {
		f.busy = true
		f.pump()
	}
}

func (f *flow) endless() {
	f.backlog = math.MaxInt
	if !f.busy {
		f.busy = true
		f.pump()
	}
}

func (f *flow) pump() {
	if f.backlog <= 0 {
		f.busy = false
		return
	}
	if until, ok := f.control.Allow(f.w.Now, packet); !ok {
		f.w.At(until, func() { f.here.run(f.pump) })
		return
	}
	n := 1
	if _, limited := f.control.Rate(); !limited {
		n = 8
	}
	if f.backlog < n*packet {
		n = (f.backlog + packet - 1) / packet
	}
	for range n {
		f.counter++
		counter := f.counter
		f.backlog -= packet
		f.link.Send(packet, func(time.Duration) { f.way.run(func() { f.there.run(func() { f.arrived(counter) }) }) })
	}
	f.control.Sent(f.w.Now, f.counter, n*packet)
	f.w.After(time.Duration(float64(n*packet)/f.offered*1e9), func() { f.here.run(f.pump) })
}

func (f *flow) arrived(counter uint64) {
	f.delivered += packet
	now := f.w.Now
	for len(f.marks) > 0 && counter >= f.marks[0].counter {
		f.arrivals = append(f.arrivals, now.Sub(f.marks[0].at))
		f.marks = f.marks[1:]
	}
	if f.skew != 0 {
		now = f.began.Add(time.Duration(float64(now.Sub(f.began)) * (1 + f.skew)))
	}
	f.receive.Arrived(now, counter, packet, 1)
	r, ok := f.receive.Due(now)
	if !ok || f.deaf || f.w.Rand.Float64() < f.lostBack {
		return
	}
	r, err := ParseReport(AppendReport(nil, r))
	if err != nil {
		panic(err)
	}
	back := f.back
	if f.queueBack != nil {
		back += f.queueBack()
	}
	if f.noise > 0 {
		back += time.Duration(f.w.Rand.Int64N(int64(f.noise)))
	}
	f.w.After(back, func() { f.way.run(func() { f.here.run(func() { f.control.Report(f.w.Now, r) }) }) })
}

// watch samples the queue each millisecond.
func watch(w *pacetest.World, link *pacetest.Link) *[]time.Duration {
	list := new([]time.Duration)
	w.Every(time.Millisecond, func() { *list = append(*list, link.Queueing()) })
	return list
}

func quantile[T cmp.Ordered](list []T, q float64) T {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

const mbit = 1e6 / 8

// tcp is a loss-based sender (AIMD with slow start) at the same bottleneck.
type tcp struct {
	link        *pacetest.Link
	back        time.Duration
	window      float64 // packets
	slow        bool
	inFlight    int
	recover     int // packets that must be acknowledged before the next reduction
	stop        bool
	next, acked int
	delivered   int
}

func newTCP(link *pacetest.Link, back time.Duration) *tcp {
	t := &tcp{link: link, back: back, window: 10, slow: true}
	t.fill()
	return t
}

func (t *tcp) fill() {
	for !t.stop && t.inFlight < int(t.window) {
		t.inFlight++
		number := t.next
		t.next++
		dropped := t.link.Dropped
		t.link.Send(packet, func(time.Duration) {
			t.delivered += packet
			t.link.World.After(t.back, func() {
				t.inFlight--
				t.acked = max(t.acked, number)
				if t.slow {
					t.window++
				} else {
					t.window += 1 / t.window
				}
				t.fill()
			})
		})
		if t.link.Dropped > dropped {
			// Noticed a round trip later.
			t.link.World.After(t.back+t.link.Delay+t.link.Queueing(), func() {
				t.inFlight--
				if number >= t.recover {
					t.slow, t.window, t.recover = false, max(t.window*.7, 2), t.next
				}
				t.fill()
			})
		}
	}
}
