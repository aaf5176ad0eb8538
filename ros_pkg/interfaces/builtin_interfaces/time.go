package builtin_interfaces

import (
	"math"
	"time"
)

// FromTime returns t as a message. The zero time.Time is the zero Time, which ROS takes for "not set"; times beyond what an int32 of seconds
// holds (1901 to 2038) become the nearest it does.
func FromTime(t time.Time) Time {
	if t.IsZero() {
		return Time{}
	}
	sec := t.Unix()
	switch {
	case sec > math.MaxInt32:
		return Time{Sec: math.MaxInt32, Nanosec: 999_999_999}
	case sec < math.MinInt32:
		return Time{Sec: math.MinInt32}
	}
	return Time{Sec: int32(sec), Nanosec: uint32(t.Nanosecond())}
}

// AsTime returns m as a time.Time in UTC, the zero Time as the zero time.Time. Under simulated time it counts from the simulation's start.
func (m Time) AsTime() time.Time {
	if m == (Time{}) {
		return time.Time{}
	}
	return time.Unix(int64(m.Sec), int64(m.Nanosec)).UTC()
}

// FromDuration returns d as a message; beyond the range of an int32 of seconds (68 years) it becomes the nearest in it.
func FromDuration(d time.Duration) Duration {
	sec := int64(d / time.Second)
	nanosec := int64(d % time.Second)
	if nanosec < 0 { // nanosec counts upward, also from a negative sec
		sec, nanosec = sec-1, nanosec+int64(time.Second)
	}
	switch {
	case sec > math.MaxInt32:
		return Duration{Sec: math.MaxInt32, Nanosec: 999_999_999}
	case sec < math.MinInt32:
		return Duration{Sec: math.MinInt32}
	}
	return Duration{Sec: int32(sec), Nanosec: uint32(nanosec)}
}

// AsDuration returns m as a time.Duration, which holds every Duration.
func (m Duration) AsDuration() time.Duration {
	return time.Duration(m.Sec)*time.Second + time.Duration(m.Nanosec)
}
