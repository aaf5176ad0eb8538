package pace

import "time"

// Not every delay is a queue that this path's own datagrams made: a host that is short of processor time, a longer route, somebody else's traffic in the
// same buffer. So a cut is a trial. If the queue does not yield to it, the cut is undone at once, and that much delay is no sign of congestion any more
// until it has gone.
const (
	// A trial is judged by the mean of the samples in trialFor, and in a round trip, after the queue should be gone: half of what was to go must have gone.
	// Where there was no limit before, it must have gone from all of them.
	trialFor     = 200 * time.Millisecond
	trialFirst   = 300 * time.Millisecond
	trialSamples = 5
	trialCalm    = 2 // samples without a queue are enough where there was a limit: single ones are late on any host
	// fallen is the part of what is sent that arrives at least where the capacity did not fall meanwhile; after fallenCuts it counts as noise even so.
	fallen     = 0.85
	fallenCuts = 3
	// No cut is made for blockFirst after one that did not help (blockFree where there was no limit before), twice as long after the next, up to blockMost, unless
	// the queue is blockOver times what it was then, and blockMore. One that helped takes it to a quarter.
	blockFree  = 4 * time.Second
	blockFirst = time.Second
	// blockGrows is from which block on the limit grows meanwhile, whatever is seen.
	blockGrows = 4 * time.Second
	blockMost  = 160 * time.Second
	blockOver  = 2
	blockMore  = 20 * time.Millisecond
	// Of noise, half as much again is allowed for. It is forgotten when all of noisePart has less.
	noisePart = 500 * time.Millisecond
	// With more noise than this, somebody else may fill the buffer, who heeds nothing but loss: foreignLoss beyond the usual leaves foreignCut of the limit, as
	// it would of a TCP's.
	noiseForeign = 15 * time.Millisecond
	foreignLoss  = 0.01
	foreignCut   = 0.85
	// A level whose samples differ by no more than still is that of a longer route.
	still = 8 * time.Millisecond
)

// trial is a cut of which it is not known yet whether it helped.
type trial struct {
	on     bool
	queue  time.Duration // the largest that was seen, or the mean when it was made
	goes   time.Duration // what of that was to go
	sum    time.Duration // of the samples of what was sent after that
	count  int
	least  time.Duration
	most   time.Duration
	calm   int           // of the samples, those without a queue
	from   time.Duration // when the first of them came
	at     time.Duration // by the receiver's clock, when the trial began
	bytes  uint64
	rate   float64 // at which was sent until the queue should have gone, bytes per second
	fallen float64 // what arrived of that, bytes per second
}

// draining takes a sample of what was sent while the queue is let run empty.
func (c *Controller) draining(t time.Duration, r Report) {
	x := &c.trial
	if x.bytes == 0 {
		x.bytes, x.at = r.Bytes, r.At
	} else if span := r.At - x.at; span >= runSudden {
		x.fallen = float64(r.Bytes-x.bytes) / span.Seconds()
	}
	x.queue = max(x.queue, c.queue)
	if _, calm := c.standing(); t < c.drainUntil && c.queue < calm/2 {
		c.drainUntil, c.hold = t, t
	}
}

// tried takes a sample of what was sent after the queue should be gone; it reports whether the trial goes on.
func (c *Controller) tried(t time.Duration) bool {
	x := &c.trial
	if !x.on {
		return false
	}
	if x.count == 0 {
		x.from, x.least = t, c.queue
	}
	x.count++
	x.sum += c.queue
	x.least, x.most = min(x.least, c.queue), max(x.most, c.queue)
	standing, calm := c.standing()
	if c.queue <= calm {
		x.calm++
	}
	span := trialFor
	if c.undo == 0 {
		span = trialFirst
	}
	if t-x.from < max(span, min(c.rtt.value, time.Second)) || x.count < trialSamples {
		return true
	}
	x.on = false
	mean := x.sum / time.Duration(x.count)
	typical := mean
	if c.undo == 0 {
		typical, calm = x.most, standing
	}
	switch {
	case typical <= max(calm, x.queue-min(x.goes, x.queue)/2), c.undo != 0 && x.calm >= trialCalm:
		c.cuts, c.undo, c.block = 0, c.limit, c.block/4
	case x.fallen > 0 && x.fallen < fallen*x.rate && c.cuts <= fallenCuts:
		// Less arrived than was sent even so: there is less capacity than the cut was made for.
		c.cut(t, x.fallen, mean)
	case x.most-x.least <= still:
		c.rebase(t, x.least)
	default:
		c.failed(t, mean, x.least)
	}
	return false
}

// failed undoes cuts that did not help.
func (c *Controller) failed(t, mean, least time.Duration) {
	c.limit, c.cuts, c.run = c.undo, 0, run{}
	c.drainUntil, c.hold, c.grown, c.calm = t, t, t, t
	c.noise = max(c.noise, least)
	c.noiseLeast, c.noiseSince = never, t
	c.failedAt = mean
	first := blockFirst
	if c.limit == 0 {
		first = blockFree
	}
	c.block = min(max(2*c.block, first), blockMost)
	c.blocked = t + c.block
}

const never = 1<<63 - 1

// rebase takes the least that stood still, whatever was sent, for how much longer the way is now.
func (c *Controller) rebase(t, longer time.Duration) {
	c.rtt.set(t, c.rtt.value+longer)
	c.owd.set(t, c.owd.value+longer)
	c.limit, c.cuts, c.run = c.undo, 0, run{}
	c.left, c.queue, c.noise = residue{}, 0, 0
	c.drainUntil, c.hold, c.grown, c.calm = t, t, t, t
}

// quieten forgets noise that has gone.
func (c *Controller) quieten(t time.Duration) {
	if c.noise == 0 {
		return
	}
	c.noiseLeast = min(c.noiseLeast, c.queue)
	if t-c.noiseSince >= noisePart {
		if c.noise = min(c.noise, c.noiseLeast); c.noise < time.Millisecond {
			c.noise = 0
		}
		c.noiseLeast, c.noiseSince = never, t
	}
}
