package lab

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// schedule sends count frames of n bytes, one every gap, and returns when each arrives; zero if it does not.
func schedule(k Link, count, n int, gap time.Duration) (sent, arrived []time.Time, fates map[fate]int) {
	var s sender
	var g leg
	rng := rand.New(rand.NewPCG(1, 2))
	fates = map[fate]int{}
	now := time.Unix(1000, 0)
	for range count {
		left, f := s.send(k, now, n)
		at := time.Time{}
		if f == carried {
			at, f = g.carry(k, left, rng)
		}
		fates[f]++
		sent, arrived = append(sent, now), append(arrived, at)
		now = now.Add(gap)
	}
	return sent, arrived, fates
}

func TestScheduleDelayAndJitter(t *testing.T) {
	k := Link{Delay: 20 * time.Millisecond, Jitter: 10 * time.Millisecond}
	sent, arrived, _ := schedule(k, 10000, 100, 100*time.Microsecond)
	var lowest, highest time.Duration = time.Hour, 0
	for i := range sent {
		took := arrived[i].Sub(sent[i])
		lowest, highest = min(lowest, took), max(highest, took)
		if i > 0 && arrived[i].Before(arrived[i-1]) {
			t.Fatalf("frame %d arrives before frame %d", i, i-1)
		}
	}
	if lowest < k.Delay || lowest > k.Delay+k.Jitter/2 {
		t.Errorf("the shortest delay is %v", lowest)
	}
	if highest >= k.Delay+k.Jitter || highest < k.Delay+k.Jitter*9/10 {
		t.Errorf("the longest delay is %v", highest)
	}
}

func TestScheduleRateAndQueue(t *testing.T) {
	// 1,000 bytes at 8 Mbit/s take 1 ms; a frame every 0.5 ms is twice that rate.
	k := Link{RateMbit: 8, Queue: 10 * time.Millisecond, Delay: time.Millisecond}
	sent, arrived, fates := schedule(k, 2000, 1000, 500*time.Microsecond)
	var last time.Time
	for i, at := range arrived {
		if at.IsZero() {
			continue
		}
		if !last.IsZero() && at.Sub(last) != time.Millisecond {
			t.Fatalf("frame %d arrives %v after the one before it, want 1 ms", i, at.Sub(last))
		}
		if wait := at.Sub(sent[i]) - k.Delay; wait > k.Queue+time.Millisecond {
			t.Fatalf("frame %d waited %v", i, wait)
		}
		last = at
	}
	if c := fates[carried]; c < 1000 || c > 1015 || fates[queueFull] != 2000-c {
		t.Errorf("fates %v, want about 1,010 frames carried", fates)
	}
}

func TestScheduleLoss(t *testing.T) {
	for _, loss := range []float64{0, 0.05, 0.3, 1} {
		const n = 20000
		_, _, fates := schedule(Link{Loss: loss}, n, 100, 0)
		if mean, sd := loss*n, math.Sqrt(n*loss*(1-loss)); math.Abs(float64(fates[lost])-mean) > 5*sd {
			t.Errorf("loss %v: %d of %d lost", loss, fates[lost], n)
		}
	}
}

func TestScheduleReorder(t *testing.T) {
	const n = 10000
	sent, arrived, fates := schedule(Link{Reorder: 0.1}, n, 100, time.Millisecond)
	held := 0
	for i := range sent {
		switch arrived[i].Sub(sent[i]) {
		case 0:
		case holdBack:
			held++
		default:
			t.Fatalf("frame %d takes %v", i, arrived[i].Sub(sent[i]))
		}
	}
	if held < 850 || held > 1150 || fates[carried] != n {
		t.Errorf("%d of %d held back; fates %v", held, n, fates)
	}
}

func TestSchedulePathMTU(t *testing.T) {
	for _, test := range []struct {
		n    int
		want fate
	}{{1200 + etherHeader, carried}, {1201 + etherHeader, tooLong}} {
		if _, _, fates := schedule(Link{PathMTU: 1200}, 1, test.n, 0); fates[test.want] != 1 {
			t.Errorf("a frame of %d bytes: %v", test.n, fates)
		}
	}
}
