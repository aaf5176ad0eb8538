package wire

import (
	"math"
	"time"
)

// Timestamp is a time on the wire (9.3.2): seconds since 1970 in the upper 32 bits, 2^-32 seconds in the lower.
type Timestamp uint64

// Times with a meaning of their own (8.3.2).
const (
	TimeZero     Timestamp = 0
	TimeInvalid  Timestamp = math.MaxUint64
	TimeInfinite Timestamp = 0x7fffffff_ffffffff
)

// TimestampFrom converts a time, which rounds up by less than 0.3 ns so that Time gives the same nanosecond again.
// A time before 1970 or after 2106 is TimeInvalid.
func TimestampFrom(t time.Time) Timestamp {
	s := t.Unix()
	if s < 0 || s > math.MaxUint32 {
		return TimeInvalid
	}
	return Timestamp(uint64(s)<<32 | uint64(fraction(t.Nanosecond())))
}

// Time is false for the three times that are none.
func (t Timestamp) Time() (time.Time, bool) {
	if t == TimeZero || t == TimeInvalid || t == TimeInfinite {
		return time.Time{}, false
	}
	return time.Unix(int64(t>>32), nanoseconds(uint32(t))), true
}

// Infinite is the duration without an end (8.3.2, DURATION_INFINITE). Any other fits 32 bits of seconds.
const Infinite time.Duration = math.MaxInt64

// fraction is ns in units of 2^-32 s, rounded up; 0 <= ns < 1e9.
func fraction(ns int) uint32 {
	return uint32((uint64(ns)<<32 + 1e9 - 1) / 1e9)
}

func nanoseconds(fraction uint32) int64 { return int64(uint64(fraction) * 1e9 >> 32) }

// duration appends a Duration_t (9.3.2). What is negative is zero, what is too long infinite.
func (w *out) duration(d time.Duration) {
	switch {
	case d < 0:
		d = 0
	case d/time.Second >= math.MaxInt32:
		w.u32(math.MaxInt32)
		w.u32(math.MaxUint32)
		return
	}
	w.u32(uint32(d / time.Second))
	w.u32(fraction(int(d % time.Second)))
}

// duration reads a Duration_t. A negative one sets bad.
func (r *in) duration() time.Duration {
	seconds, frac := int32(r.u32()), r.u32()
	switch {
	case seconds < 0:
		r.bad = true
		return 0
	case seconds == math.MaxInt32: // the fraction of an infinite one is ffffffff, 7fffffff with others
		return Infinite
	}
	return time.Duration(seconds)*time.Second + time.Duration(nanoseconds(frac))
}
