// Package clock gives timestamps that never go back, whatever the clock of the machine does and however the process
// ends: robots boot without a clock, and a peer that has seen a later timestamp refuses all earlier ones.
package clock

import "time"

const (
	// Step is the least distance of two timestamps. WireGuard's TAI64N stamps lose their lowest 24 bits of nanoseconds
	// (so as not to reveal the load of the machine) and must still differ.
	Step = 1 << 24 * time.Nanosecond

	// Ahead is how far beyond the last timestamp the stored bound is set, half of it how near it may come.
	Ahead = time.Hour
)

// latest bounds what the machine's clock is believed, so that nanoseconds since 1970 stay far from the end of an int64
// (the year 2262) for as many timestamps as there will ever be.
var latest = nanoseconds(time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC))

// maxBound is far beyond any bound that can come to be, and leaves room for all timestamps after it.
var maxBound = nanoseconds(time.Date(2250, 1, 1, 0, 0, 0, 0, time.UTC))

// Reserve makes the timestamps. It has no clock and no file: whoever uses it tells it the time and keeps its bound on disk.
// Timestamps are nanoseconds since 1970 within.
type Reserve struct {
	last   uint64 // the last timestamp given
	bound  uint64 // stored: no timestamp from here on was given out by an earlier run
	issued bool
}

// New continues after a run that had stored the bound stored, in nanoseconds since 1970; 0 for none.
func New(stored uint64) *Reserve {
	return &Reserve{last: stored, bound: stored}
}

// Now returns wall, or if that is not at least Step after the last timestamp and not before what was stored, the
// first time that is. Before a timestamp is used, Persist must have been heeded.
func (r *Reserve) Now(wall time.Time) time.Time {
	least := r.last
	if r.issued {
		least += uint64(Step)
	}
	r.last = max(least, min(nanoseconds(wall), latest))
	r.issued = true
	return time.Unix(int64(r.last/1e9), int64(r.last%1e9))
}

// Need is how urgent it is to store a new bound.
type Need int

const (
	// Nothing is to be stored.
	Nothing Need = iota
	// Soon it must be stored, without the last timestamp having to wait for it.
	Soon
	// BeforeUse of the last timestamp it must be stored, for the timestamp is beyond the stored bound.
	BeforeUse
)

// Persist returns a new bound and how urgent it is to store it.
func (r *Reserve) Persist() (bound uint64, need Need) {
	bound = r.last + uint64(Ahead)
	switch {
	case r.last >= r.bound:
		return bound, BeforeUse
	case r.bound-r.last < uint64(Ahead/2):
		return bound, Soon
	}
	return bound, Nothing
}

// Persisted tells that bound is on the disk.
func (r *Reserve) Persisted(bound uint64) {
	r.bound = max(r.bound, bound)
}

// Release gives back what is left of the reserve at an orderly end, so that restarts do not run ahead of the machine's clock, and returns the
// bound to store. A timestamp taken afterwards needs a new bound before use.
func (r *Reserve) Release() (bound uint64) {
	r.bound = min(r.bound, r.last+uint64(Step))
	return r.bound
}

// nanoseconds since 1970 of a time from then on, 0 for an earlier one.
func nanoseconds(t time.Time) uint64 {
	if t.Unix() < 0 {
		return 0
	}
	// UnixNano of a time after 2262 is undefined.
	return uint64(min(t.Unix(), 1<<33))*1e9 + uint64(t.Nanosecond())
}
