package pace

import "time"

// Loss alone is congestion only at a policer or where the buffer is tiny: more than lossMost of what is sent beyond what is usual on the path, while more
// is sent than before. A first limit takes lossFirst, lossRow windows in a row: radios lose much for a moment, and hosts that lack processor time do.
const (
	lossMost   = 0.05
	lossFirst  = 0.2
	lossRow    = 3
	lossUsual  = 1.5
	lossWindow = 250 * time.Millisecond
	lossBytes  = 64 << 10
	lossGrowth = 1.1
)

type loss struct {
	window struct {
		known    bool
		at       time.Duration // by the receiver's clock
		sent     uint64
		received uint64
	}
	usual float64 // loss that does not depend on the rate
	good  float64 // most that was delivered without much loss, bytes per second
	row   int     // windows of much loss in a row
	trial float64 // the loss for which the limit was set, while it is not known whether that helped; 0 = none
	undo  float64 // the limit before
}

// lost takes the loss up to a Report, bytes of which were sent up to its counter.
func (c *Controller) lost(t time.Duration, bytes uint64, r Report) {
	l := &c.loss
	w := &l.window
	if !w.known || bytes < w.sent {
		w.known, w.at, w.sent, w.received = true, r.At, bytes, r.Bytes
		return
	}
	span, sent, received := r.At-w.at, bytes-w.sent, r.Bytes-w.received
	if span < max(lossWindow, c.rtt.value) || sent < lossBytes {
		return
	}
	w.at, w.sent, w.received = r.At, bytes, r.Bytes
	share := max(1-float64(received)/float64(sent), 0)
	rate := float64(received) / span.Seconds()
	if c.noise > noiseForeign && c.limit != 0 {
		if share > l.usual+foreignLoss {
			c.limit = max(c.limit*foreignCut, slowest)
			c.grown = t
		}
		return
	}
	if l.trial > 0 {
		if share > l.trial/2 {
			// Sending less did not help: this path loses so much whatever is sent.
			l.usual = max(l.usual, share)
			if c.limit != 0 {
				c.limit = l.undo
			}
		}
		l.trial, l.row = 0, 0
		return
	}
	most := lossMost + lossUsual*l.usual
	if c.limit == 0 {
		most += lossFirst - lossMost
	}
	if share <= most {
		l.row = 0
		l.good = max(rate, l.good*0.95)
		if _, calm := c.standing(); c.queue < calm {
			l.learn(share)
		}
		return
	}
	if l.row++; l.row < lossRow && c.limit == 0 || rate >= fast || float64(sent)/span.Seconds() < lossGrowth*l.good && c.limit == 0 {
		return
	}
	l.row, l.trial, l.undo = 0, share, c.limit
	c.limit = max(rate*0.95, slowest)
	if l.undo == 0 {
		c.next, c.used = t, t
	} else {
		c.limit = max(min(c.limit, l.undo*0.95), slowest)
	}
	c.hold, c.grown, c.calm = t, t, t
	w.known = false
}

// learn takes the loss of a time without a queue: what comes of growing is rare, so less counts for more.
func (l *loss) learn(share float64) {
	if share < l.usual {
		l.usual = (l.usual + share) / 2
	} else {
		l.usual += (share - l.usual) / 10
	}
}
