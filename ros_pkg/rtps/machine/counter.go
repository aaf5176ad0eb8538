package machine

import "time"

// recount is after how long without a valid count a lower one is taken: the other side has forgotten us meanwhile, and
// counts anew.
const recount = 500 * time.Millisecond

// counter tells repeated submessages from new ones.
type counter struct {
	last uint32
	at   time.Time // zero: none yet
}

// take reports whether a count, which may wrap, is a new one.
func (c *counter) take(now time.Time, count uint32) bool {
	if !c.at.IsZero() && int32(count-c.last) <= 0 && now.Sub(c.at) < recount {
		return false
	}
	c.last, c.at = count, now
	return true
}
