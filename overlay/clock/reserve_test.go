package clock

import (
	"math/rand/v2"
	"testing"
	"time"
)

var (
	today = time.Date(2026, 11, 21, 12, 0, 0, 123_456_789, time.UTC)
	years = func(n int) time.Duration { return time.Duration(n) * 365 * 24 * time.Hour }
)

// disk is a Reserve with a stored bound, and the checks that every use of one must pass.
type disk struct {
	t       *testing.T
	stored  uint64
	reserve *Reserve
	last    time.Time
	writes  int
}

func newDisk(t *testing.T) *disk {
	return &disk{t: t, reserve: New(0)}
}

func (d *disk) restart() { d.reserve = New(d.stored) }

// now takes a timestamp; as long as background is false, only what must be stored before use is stored.
func (d *disk) now(wall time.Time, background bool) time.Time {
	d.t.Helper()
	got := d.reserve.Now(wall)
	if bound, need := d.reserve.Persist(); need == BeforeUse || need == Soon && background {
		d.stored = bound
		d.writes++
		d.reserve.Persisted(bound)
	}
	if !d.last.IsZero() && got.Sub(d.last) < Step {
		d.t.Fatalf("after %v comes %v", d.last, got)
	}
	if uint64(got.UnixNano()) >= d.stored {
		d.t.Fatalf("%v is used, and stored is only %v", got, time.Unix(0, int64(d.stored)))
	}
	d.last = got
	return got
}

func TestFollowsAGoodClock(t *testing.T) {
	d := newDisk(t)
	for i := range 100 {
		wall := today.Add(time.Duration(i) * time.Second)
		if got := d.now(wall, true); !got.Equal(wall) {
			t.Fatalf("%v at %v", got, wall)
		}
	}
	if d.writes != 1 {
		t.Errorf("%d writes in 100 s, want 1", d.writes)
	}
}

func TestWritesTwiceAnHour(t *testing.T) {
	d := newDisk(t)
	for i := range 24 * 60 {
		d.now(today.Add(time.Duration(i)*time.Minute), true)
	}
	if d.writes < 24 || d.writes > 49 {
		t.Errorf("%d writes in a day", d.writes)
	}
}

func TestClockStandsStill(t *testing.T) {
	d := newDisk(t)
	for i := range 1000 {
		if got, want := d.now(today, true), today.Add(time.Duration(i)*Step); !got.Equal(want) {
			t.Fatalf("timestamp %d is %v, want %v", i, got, want)
		}
	}
}

// The differences must outlive WireGuard's whitening, which clears the lowest 24 bits of the nanoseconds.
func TestStepSurvivesWhitening(t *testing.T) {
	whiten := func(t time.Time) [2]int64 { return [2]int64{t.Unix(), int64(t.Nanosecond()) &^ (1<<24 - 1)} }
	r := New(0)
	last := whiten(r.Now(today))
	for range 10_000 {
		next := whiten(r.Now(today))
		if next[0] < last[0] || next[0] == last[0] && next[1] <= last[1] {
			t.Fatalf("after %v comes %v", last, next)
		}
		last = next
	}
}

func TestClockSetBackAndForward(t *testing.T) {
	for _, jump := range []time.Duration{
		-time.Nanosecond, -time.Second, -2 * time.Hour, -years(50), time.Second, 2 * time.Hour, years(50), years(250),
	} {
		for _, restart := range []bool{false, true} {
			d := newDisk(t)
			d.now(today, true)
			if restart {
				d.restart()
			}
			d.now(today.Add(jump), true)
			if restart {
				d.restart()
			}
			d.now(today, true)
			d.now(today.Add(-jump), true)
		}
	}
}

func TestClocksThatAreNone(t *testing.T) {
	d := newDisk(t)
	for _, wall := range []time.Time{
		{}, time.Unix(0, 0), time.Unix(-1, 0), time.Unix(-1<<62, 0), time.Unix(1<<40, 0), time.Unix(1<<62, 999_999_999),
		time.Date(2199, 12, 31, 0, 0, 0, 0, time.UTC), time.Date(2400, 1, 1, 0, 0, 0, 0, time.UTC), today, {},
	} {
		d.now(wall, false)
		d.now(wall, true)
	}
	if limit := time.Unix(0, int64(latest)).Add(time.Hour); d.last.After(limit) {
		t.Errorf("no clock is believed beyond 2200, but timestamps are at %v", d.last)
	}
}

// Any clock, killed at any moment (before, between and after writes).
func TestRandomClocksAndRestarts(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		d := newDisk(t)
		wall := today
		for range 200 {
			switch random.IntN(10) {
			case 0:
				d.restart()
			case 1:
				wall = wall.Add(time.Duration(random.Int64N(int64(years(100)))) - years(50))
			default:
				wall = wall.Add(time.Duration(random.Int64N(int64(time.Hour))))
			}
			d.now(wall, random.IntN(2) == 0)
		}
	}
}

func TestFailedWriteLosesNothingInMemory(t *testing.T) {
	r := New(0)
	last := r.Now(today)
	for i := range 1000 {
		if _, need := r.Persist(); need != BeforeUse {
			t.Fatalf("need %v although nothing was ever stored", need)
		}
		next := r.Now(today.Add(-time.Duration(i) * time.Hour))
		if next.Sub(last) < Step {
			t.Fatalf("after %v comes %v", last, next)
		}
		last = next
	}
}
