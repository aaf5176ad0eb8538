package pace

import "time"

// A queue that does not go away though this path sent less three times is not its own: somebody else fills the buffer, or the route became longer.
const (
	foreignAfter = 3
	foreignCuts  = 8 // cuts after which it is foreign even though less arrived each time
	fallen       = 0.9
	foreignMost  = 10 * time.Second
	// The smallest queue in each of so many parts tells a longer route, where they are the same, from a buffer that somebody fills.
	foreignPart  = 500 * time.Millisecond
	foreignParts = 4
	// foreignCut is what loss beyond the usual leaves of the limit, as it would of a TCP's.
	foreignCut  = 0.85
	foreignLoss = 0.01
)

// foreign is the time in which the queue on the path is not taken for its own: after the parts the limit grows until datagrams are lost, as what
// others send does.
type foreign struct {
	on    bool
	began time.Duration
	first time.Duration // the queue then
	since time.Duration // of the current part
	least [foreignParts]time.Duration
	parts int
}

func (f *foreign) begin(t, queue time.Duration) {
	*f = foreign{on: true, began: t, first: queue, since: t}
	f.least[0] = queue
}

// contest takes a sample while the queue is not the path's own.
func (c *Controller) contest(t time.Duration, standing time.Duration) {
	f := &c.foreign
	if t-f.began > foreignMost || c.queue > 2*f.first+2*standing {
		// Try again; or it grows with us, so some of it is ours.
		c.own()
		return
	}
	if f.parts < foreignParts && t-f.since >= foreignPart {
		f.since = t
		if f.parts++; f.parts == foreignParts {
			low, high := f.least[0], f.least[0]
			for _, v := range f.least[1:] {
				low, high = min(low, v), max(high, v)
			}
			if high-low <= standing/2 {
				// It stands still whatever we send: this is how long the way is now.
				c.rtt.set(t, c.rtt.value+low)
				c.owd.set(t, c.owd.value+low)
				c.own()
				return
			}
		} else {
			f.least[f.parts] = c.queue
		}
	}
	if f.parts < foreignParts {
		f.least[f.parts] = min(f.least[f.parts], c.queue)
		c.grown = t
		return
	}
	if step := min(t-c.grown, stepMost); step > 0 && t-c.refused < 200*time.Millisecond {
		c.limit *= 1 + growth*step.Seconds()
		c.lift()
	}
	c.grown = t
}

// own takes the queue for the path's own again.
func (c *Controller) own() {
	c.cuts, c.events, c.run, c.foreign.on = 0, 0, run{}, false
}

// meter measures what is delivered.
type meter struct {
	from  Report
	known bool
	rate  float64 // bytes per second
}

func (m *meter) add(r Report) {
	if !m.known {
		m.from, m.known = r, true
		return
	}
	if span := r.At - m.from.At; span >= 100*time.Millisecond {
		m.rate = float64(r.Bytes-m.from.Bytes) / span.Seconds()
		m.from = r
	}
}
