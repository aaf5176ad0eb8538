package lan

import "time"

// limit is a token bucket: one event per interval on average, and up to burst at once after a pause.
type limit struct {
	interval time.Duration
	burst    int
	full     time.Time // when the bucket will be full again
}

func perSecond(rate, burst int) limit {
	return limit{interval: time.Second / time.Duration(rate), burst: burst}
}

// ready returns the earliest time at which take succeeds.
func (l *limit) ready() time.Time {
	return l.full.Add(-time.Duration(l.burst-1) * l.interval)
}

// take spends a token if there is one.
func (l *limit) take(now time.Time) bool {
	if now.Before(l.ready()) {
		return false
	}
	if l.full.Before(now) {
		l.full = now
	}
	l.full = l.full.Add(l.interval)
	return true
}
