package lane

import (
	"math"
	"time"
)

// RFC 8289, section 4.2 to 4.4.
const (
	codelTarget   = 5 * time.Millisecond
	codelInterval = 100 * time.Millisecond
	// A slow path holds one packet for longer than the target: two of them are no queue.
	codelPackets = 2 * 1500
)

// Codel is RFC 8289's state of a queue. The zero Codel is that of an empty one.
type Codel struct {
	above    time.Time // when the queue will have been too long for an interval; zero while it is not
	next     time.Time // of the next drop
	count    int       // of drops since dropping began
	last     int       // count when dropping last ended
	dropping bool
}

// judge reports whether the packet at the head, which has waited so long, is to be dropped or marked; left are the queue's bytes.
func (c *Codel) judge(now time.Time, waited time.Duration, left int, target time.Duration) (signal bool) {
	return c.Judge(now, waited >= target && left > 1500)
}

// Judge is told of each packet, or of each train of them, whether the queue was too long when it left, and reports whether its sender is to be
// signalled, by a loss or a mark: when the queue was never short for 100 ms, and from then on ever more often.
func (c *Codel) Judge(now time.Time, long bool) (signal bool) {
	tooLong := false
	switch {
	case !long:
		c.above = time.Time{}
	case c.above.IsZero():
		c.above = now.Add(codelInterval)
	default:
		tooLong = !now.Before(c.above)
	}
	if !tooLong {
		c.dropping = false
		return false
	}
	if c.dropping {
		if now.Before(c.next) {
			return false
		}
		c.count++
		c.next = c.law(c.next)
		return true
	}
	c.dropping = true
	// Dropping that ended not long ago goes on at the rate that was right then.
	fresh := c.count - c.last
	if c.count = 1; fresh > 1 && now.Sub(c.next) < 16*codelInterval {
		c.count = fresh
	}
	c.last = c.count
	c.next = c.law(now)
	return true
}

func (c *Codel) law(t time.Time) time.Time {
	return t.Add(time.Duration(float64(codelInterval) / math.Sqrt(float64(c.count))))
}
