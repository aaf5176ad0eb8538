package inet4

import "time"

// bucket lets burst events pass at once and one more each interval. The zero bucket is full.
type bucket struct {
	used float64
	at   time.Time
}

func (b *bucket) level(now time.Time, interval time.Duration) float64 {
	if !b.at.IsZero() && now.After(b.at) {
		return max(0, b.used-float64(now.Sub(b.at))/float64(interval))
	}
	return b.used
}

func (b *bucket) full(now time.Time, burst int, interval time.Duration) bool {
	return b.level(now, interval)+1 <= float64(burst)
}

func (b *bucket) take(now time.Time, burst int, interval time.Duration) bool {
	if !b.full(now, burst, interval) {
		return false
	}
	b.used, b.at = b.level(now, interval)+1, now
	return true
}
