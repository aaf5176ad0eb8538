package pace

import (
	"math"
	"time"
)

// Thresholds of congestion. A path without a limit gets one only when datagrams waited for longer than queueFirst throughout runFirst: scheduling on a
// loaded host and the jitter of a radio do not do that. From then on queueMost and runLeast, or a round trip, are enough.
const (
	queueFirst = 10 * time.Millisecond
	queueMost  = 5 * time.Millisecond
	queueShare = 12 // or this part of the path's own RTT, if that is more
	// A path on which the delay jumps from sample to sample gets that much more, twice the mean jump: a queue grows and shrinks smoothly.
	jitterShare = 16
	jitterMost  = 200 * time.Millisecond
	// With more than jitterWild nothing can be said: the hosts lack processor time. Limits then
	// double each wildDoubles.
	jitterWild  = 25 * time.Millisecond
	jitterFirst = 12 * time.Millisecond // for a first limit
	wildDoubles = 200 * time.Millisecond
	runFirst    = 250 * time.Millisecond
	runSudden   = 100 * time.Millisecond
	runLeast    = 40 * time.Millisecond
	runSamples  = 3
	idleMore    = 2 * time.Millisecond
	// fast is the rate in bytes per second (500 Mbit/s) from which on nothing is limited: a queue there is a matter of a few milliseconds, and what looks
	// like one is the host's own scheduling.
	fast = 62.5e6
	// slowest is the floor of all limits, 1 Mbit/s: a mistake must not strand a robot.
	slowest = 125e3
)

// What a limit does.
const (
	cut      = 0.93 // of what was delivered while the queue stood: the next limit
	suddenly = 0.7  // of the limit: a capacity below it needs a longer run
	drain    = 0.5  // of the limit is sent until the queue is gone
	// It is looked whether that helps after drainFirst where there was no limit, after drainMost in any case.
	drainFirst = time.Second
	drainMost  = 2 * time.Second
	// growth is how much a limit of 2.5 MB/s grows per second while no queue is seen, others by the square root: smaller ones grow relatively faster, so
	// that several paths at one bottleneck converge.
	growth     = 0.13
	growthRate = 2.5e6
	growthRTT  = 60 * time.Millisecond // and more slowly on a longer way, where it is seen later that it was too much
	// Where the capacity is another at each cut, as on a radio, growth is up to unsteadyMost + 1 times as fast.
	unsteadyShare  = 4
	unsteadyGrowth = 12
	unsteadyNoise  = 0.05
	unsteadyMost   = 4
	// After hastenAfter without a queue growth doubles each hastenEvery: the capacity is another now.
	hastenAfter = 800 * time.Millisecond
	hastenEvery = 500 * time.Millisecond
	hastenMost  = 12
	// A sample counts for stepMost at most, and after a pause without any the calm begins anew.
	stepMost = 100 * time.Millisecond
	pause    = 400 * time.Millisecond
	// The queue is let run empty once in emptyEvery, so that the RTT of the idle path stays known.
	emptyEvery = 10 * time.Second
	// A limit that nothing reaches is remembered: the next burst shall not fill the modem's buffer again. It doubles each forgetEvery, after forgetAfter.
	forgetAfter = 5 * time.Second
	forgetEvery = 3 * time.Minute
	// Without any Report for silence, though something waits, it doubles each silenceDoubles.
	silence        = time.Second
	silenceDoubles = 500 * time.Millisecond
)

// burst is how much of the time that went by unused may be made up for at once: burstIdle after a pause, burstLate when what waited was called late.
const (
	burstIdle = 3 * time.Millisecond
	burstLate = 8 * time.Millisecond
	// aheadMost bounds what is paid back of a burst that went out before it was counted.
	aheadMost = 250 * time.Millisecond
)

// Controller finds how much one path carries without a standing queue. It belongs to one goroutine or lock.
type Controller struct {
	epoch time.Time
	log   sentLog
	rtt   smallest // round trip times
	owd   smallest // one-way delays, by two clocks: only differences mean something

	limit   float64       // bytes per second, 0 = none
	next    time.Duration // when the limit lets the next datagram go
	refused time.Duration // when Allow last said no
	waits   time.Duration // since when it does so again and again
	waiting bool          // it said no since the last Sent
	used    time.Duration // when the limit was last reached or forgotten a little

	drainFrom, drainUntil time.Duration
	drainRate             float64 // what is sent meanwhile, bytes per second
	trial                 trial
	// hold is from when on datagrams must have been sent to tell something of the present limit.
	hold time.Duration
	run  run
	// ceiling is what was delivered at the last cut, unsteady the mean change of its logarithm from one to the next.
	ceiling, unsteady float64
	cuts              int           // since the queue was last seen gone
	grown             time.Duration // when growth was last added
	calm              time.Duration // since when no queue is seen
	empty             time.Duration // when the queue was last seen gone

	last         Report
	older        int // reports in a row that are older than last
	queue        time.Duration
	left         residue
	jitter       time.Duration // mean difference of a sample's queue from that of the one before
	delivery     meter
	loss         loss
	sampled      time.Duration // when the datagram of the last sample was sent
	sampledBytes uint64        // that had been sent then
	heard        time.Duration // of the last Report

	undo                   float64       // the limit before the first of the present cuts, 0 = none
	noise                  time.Duration // delay that no cut helps against
	failedAt               time.Duration // the queue that did not yield
	block, blocked         time.Duration // how long no cut is made after one that did not help, and until when that is
	noiseLeast, noiseSince time.Duration // of the current part
}

// A radio's delay is larger under load, though nothing queues: what is left right after a queue was let run empty is allowed for, up to residueMost.
const (
	residueWithin = 100 * time.Millisecond
	residueMost   = 10 * time.Millisecond
	residueShare  = 4
)

type residue struct {
	mean  time.Duration
	least time.Duration // since the queue was let run empty
	until time.Duration // 0 = that is long ago
}

func (r *residue) add(t, queue time.Duration) {
	switch {
	case r.until == 0:
	case t <= r.until:
		r.least = min(r.least, queue)
	default:
		r.mean += (r.least - r.mean) / residueShare
		r.until = 0
	}
}

// run is a row of samples that all saw a queue.
type run struct {
	samples int
	sum     time.Duration
	from    time.Duration // by the receiver's clock
	bytes   uint64
}

// New returns the Controller of a path of which nothing is known: it limits nothing.
func New() *Controller { return &Controller{} }

// at converts the time to that since the first call.
func (c *Controller) at(now time.Time) time.Duration {
	if c.epoch.IsZero() {
		c.epoch = now
	}
	return now.Sub(c.epoch)
}

// Sent notes a train that goes out now: bytes of its sealed datagrams and the counter of the last of them.
func (c *Controller) Sent(now time.Time, counter uint64, bytes int) {
	t := c.at(now)
	if c.log.add(t, counter, bytes) {
		c.loss.window.known = false
	}
	if c.limit == 0 {
		return
	}
	slack := burstIdle
	if c.waiting {
		slack, c.waiting = burstLate, false
	}
	c.next = min(max(c.next, t-slack)+seconds(float64(bytes)/c.rate(t)), t+aheadMost)
}

// rate is what is sent at t, in bytes per second.
func (c *Controller) rate(t time.Duration) float64 {
	if t < c.drainUntil {
		return c.drainRate
	}
	return c.limit
}

// Allow reports whether bytes may be sent now, and if not, when to ask again. While the path shows no congestion they always may.
func (c *Controller) Allow(now time.Time, bytes int) (until time.Time, ok bool) {
	if c.limit == 0 {
		return time.Time{}, true
	}
	t := c.at(now)
	if t >= c.next {
		c.forget(t)
		return time.Time{}, true
	}
	c.unheard(t)
	c.refused, c.used, c.waiting = t, t, true
	return c.epoch.Add(c.next), false
}

// unheard lets a limit grow while something waits and no Report comes, which may be the limit's own fault.
func (c *Controller) unheard(t time.Duration) {
	if t-c.refused > pause {
		c.waits = t
	}
	from := max(c.heard, c.waits) + silence + 2*c.rtt.value
	if t <= from {
		return
	}
	step := min(t-max(c.refused, from), time.Second)
	c.trial.on, c.drainUntil = false, min(c.drainUntil, t)
	c.limit *= math.Exp2(float64(step) / float64(silenceDoubles))
	c.lift()
}

// forget lets a limit grow that nothing reaches.
func (c *Controller) forget(t time.Duration) {
	idle := t - c.used
	if idle < forgetAfter {
		return
	}
	c.used = t
	c.limit *= math.Exp2(min(float64(idle)/float64(forgetEvery), 64))
	c.lift()
}

// lift removes a limit that has become too high to mean anything.
func (c *Controller) lift() {
	if c.limit >= fast {
		c.limit, c.drainUntil, c.cuts, c.trial.on, c.run = 0, 0, 0, false, run{}
	}
}

// Rate is what the path is held to, in bytes per second of sealed datagrams; limited is false, and the rate what was last delivered, while the path
// shows no congestion.
func (c *Controller) Rate() (bytesPerSecond float64, limited bool) {
	if c.limit == 0 {
		return c.delivery.rate, false
	}
	return c.limit, true
}

// Queueing is how long datagrams waited on their way, beyond what the idle path needs, by the last Report.
func (c *Controller) Queueing() time.Duration { return c.queue }

// RoundTrip takes the round-trip time of a probe on the path: what flows may never have seen it without a queue.
func (c *Controller) RoundTrip(now time.Time, rtt time.Duration) {
	if rtt <= 0 {
		return
	}
	if less := c.rtt.value - rtt; less > 0 && c.rtt.known && c.owd.known {
		c.owd.add(c.at(now), c.owd.value-less) // what was taken for the idle path had a queue
	}
	c.rtt.add(c.at(now), rtt)
}

// Inherit begins with the limit of another path, which the traffic used until now: most likely both lead through the same bottleneck, and if not,
// the limit soon grows. It does nothing to a Controller that has a limit.
func (c *Controller) Inherit(now time.Time, from *Controller) {
	if from == nil || from.limit == 0 || c.limit != 0 {
		return
	}
	t := c.at(now)
	c.limit, c.next, c.used, c.grown, c.calm, c.empty = from.limit, t, t, t, t, t
}

// Report takes what the receiver of the path told.
func (c *Controller) Report(now time.Time, r Report) {
	t := c.at(now)
	if !c.fresh(r) {
		return
	}
	c.heard = t
	c.delivery.add(r)
	sent, bytes, ok := c.log.find(r.Counter)
	if !ok {
		c.run = run{}
		c.loss.window.known = false
		return
	}
	rtt := t - sent - r.Held
	if rtt <= 0 {
		return
	}
	if c.rtt.known && t-c.log.began < 5*time.Second && rtt < c.rtt.value/3 && c.log.began > 0 {
		return // perhaps the same counter of the session before
	}
	c.rtt.add(t, rtt)
	if !c.owd.known {
		// If a probe knows that the way is shorter, what is more counts as a queue on the way there.
		c.owd.set(t, r.At-sent-(rtt-c.rtt.value))
	}
	c.owd.add(t, r.At-sent)
	// Clocks that drift apart, and a queue on the way back, each deceive one of the two.
	before, idle := c.queue, c.log.gap(c.sampled, sent)
	c.queue = max(min(rtt-c.rtt.value, r.At-sent-c.owd.value), 0)
	jump := c.jump(before, sent-c.sampled, bytes-c.sampledBytes)
	c.sampled, c.sampledBytes = sent, bytes
	if sent < c.hold {
		if sent >= c.drainFrom {
			c.draining(t, r)
		}
		return
	}
	c.jitter += (jump - c.jitter) / jitterShare
	if idle > max(before, c.queue)+idleMore {
		c.run = run{} // whatever there was has drained meanwhile: bursts are no standing queue
	}
	c.lost(t, bytes, r)
	c.judge(t, r)
}

// fresh reports whether a Report tells something new, and begins anew with a receiver that did.
func (c *Controller) fresh(r Report) bool {
	newer := r.Bytes > c.last.Bytes && r.At >= c.last.At
	if !newer {
		if c.older++; r.Bytes == c.last.Bytes || c.older < 3 {
			return false
		}
		c.owd, c.run, c.delivery = smallest{}, run{}, meter{}
		c.loss.window.known = false
	}
	c.older, c.last = 0, r
	return true
}

// jump is how much the queue of two samples differs beyond what was sent between them explains: within a burst that left at once it grows.
func (c *Controller) jump(before, span time.Duration, bytes uint64) time.Duration {
	jump := (c.queue - before).Abs()
	if c.delivery.most > 0 && span >= 0 && bytes < 1<<30 {
		expected := max(seconds(float64(bytes)/c.delivery.most)-span, -before)
		jump = min(jump, (c.queue - before - expected).Abs())
	}
	return min(jump, jitterMost)
}

// standing is the queueing from which on it is congestion; below calm, none is seen.
func (c *Controller) standing() (standing, calm time.Duration) {
	least := queueMost
	if c.limit == 0 {
		least = queueFirst
	}
	least = max(least, c.rtt.value/queueShare)
	more := 2*c.jitter + c.left.mean + c.noise
	return least + more + c.noise/2, least/2 + more
}

// judge draws the conclusion from a sample.
func (c *Controller) judge(t time.Duration, r Report) {
	c.left.add(t, c.queue)
	c.quieten(t)
	if c.jitter > jitterWild || c.limit == 0 && c.jitter > jitterFirst {
		c.wild(t)
		return
	}
	if c.tried(t) {
		return
	}
	standing, calm := c.standing()
	if c.queue < calm {
		c.cuts = 0
	}
	if c.queue < calm/2 {
		c.empty = t
	}
	if c.queue <= standing {
		c.run = run{}
		c.steady(t, calm)
		return
	}
	if c.grows(t) {
		c.steady(t, calm)
	} else {
		c.calm, c.grown = t, t
	}
	if c.run.samples == 0 {
		c.run = run{samples: 1, sum: c.queue, from: r.At, bytes: r.Bytes}
		return
	}
	c.run.samples++
	c.run.sum += c.queue
	least := max(runLeast, min(c.rtt.value/2, time.Second))
	if c.limit == 0 {
		least = max(runFirst, min(c.rtt.value, time.Second))
	}
	span := r.At - c.run.from
	capacity := float64(r.Bytes-c.run.bytes) / span.Seconds()
	if capacity < suddenly*c.limit {
		least = max(least, runSudden) // the host at either end may only have been busy
	}
	if c.run.samples < runSamples || span < least {
		return
	}
	mean := c.run.sum / time.Duration(c.run.samples)
	c.run = run{}
	if c.limit == 0 && capacity >= fast {
		return
	}
	c.congested(t, capacity, mean)
}

// wild draws no conclusion from samples that contradict each other, but lets a limit go that may come of such.
func (c *Controller) wild(t time.Duration) {
	c.run, c.trial.on, c.drainUntil = run{}, false, t
	if step := min(t-c.grown, stepMost); c.limit != 0 && step > 0 {
		c.limit *= math.Exp2(float64(step) / float64(wildDoubles))
		c.lift()
	}
	c.grown, c.calm = t, t
}

// congested limits the path to what it delivered while a queue stood, unless that did not help lately.
func (c *Controller) congested(t time.Duration, capacity float64, mean time.Duration) {
	if t < c.blocked && mean < blockOver*c.failedAt+blockMore {
		return
	}
	if c.cuts == 0 {
		c.undo = c.limit
	}
	c.cut(t, capacity, mean)
}

// cut limits the path to what it delivered, and lets the queue run empty. mean is the queue's.
func (c *Controller) cut(t time.Duration, capacity float64, mean time.Duration) {
	c.cuts++
	c.trial = trial{on: true, queue: mean}
	capacity = max(capacity, slowest/2)
	limit := capacity * cut
	if c.limit > 0 {
		limit = min(limit, c.limit)
	} else {
		c.next, c.used = t, t
	}
	if c.ceiling > 0 {
		c.unsteady += (math.Abs(math.Log(capacity/c.ceiling)) - c.unsteady) / unsteadyShare
	}
	c.limit, c.ceiling = max(limit, slowest), capacity
	c.empties(t, capacity)
}

// empties sends less until what is on its way beyond the idle path's content is gone.
func (c *Controller) empties(t time.Duration, capacity float64) {
	_, upTo, ok := c.log.find(c.last.Counter)
	if !ok || capacity <= 0 {
		return
	}
	excess := seconds(float64(c.log.bytes-upTo)/capacity) - c.rtt.value - c.last.Held
	excess = max(excess, c.queue)
	c.drainRate = max(min(c.limit, capacity)*drain, slowest/2)
	if part := 1 - c.drainRate/capacity; part > 0.05 {
		most := drainMost
		if c.undo == 0 {
			most = drainFirst
		}
		span := min(time.Duration(float64(excess)/part), most)
		c.drainFrom, c.drainUntil = t, t+span
		c.trial.goes, c.trial.rate = time.Duration(float64(span)*part), c.drainRate
	}
	c.hold, c.empty, c.grown, c.calm = max(c.drainUntil, t), t, max(c.drainUntil, t), t
	c.left.until, c.left.least = c.hold+c.rtt.value+residueWithin, residueMost
}

// grows reports whether cuts did not help so often that the limit grows whatever is seen.
func (c *Controller) grows(t time.Duration) bool { return t < c.blocked && c.block >= blockGrows }

// steady probes for more while what is sent is held back and no queue is seen.
func (c *Controller) steady(t, calm time.Duration) {
	if c.limit == 0 {
		return
	}
	held := c.refused > 0 && t-c.refused < max(c.rtt.value, 100*time.Millisecond)
	if c.queue > calm && !c.grows(t) || !held {
		c.grown, c.calm = t, t
		if held && t-c.empty > emptyEvery && c.noise == 0 {
			c.undo, c.trial = c.limit, trial{on: true, queue: c.queue}
			c.empties(t, c.limit)
		}
		return
	}
	step := t - c.grown
	c.grown = t
	if step > pause {
		c.calm = t // a time in which nothing was sent says nothing
	}
	if step = min(step, stepMost); step <= 0 {
		return
	}
	rate := growth * math.Sqrt(growthRate/c.limit)
	rate *= 1 + min(unsteadyGrowth*max(c.unsteady-unsteadyNoise, 0), unsteadyMost)
	slow := max(float64(c.rtt.value)/float64(growthRTT), 1)
	rate /= slow
	if since := float64(t-c.calm) / slow; c.noise < noiseForeign && since > float64(hastenAfter) {
		rate *= min(math.Exp2((since-float64(hastenAfter))/float64(hastenEvery)), hastenMost)
	}
	c.limit *= 1 + min(rate, 3)*step.Seconds()
	c.lift()
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
