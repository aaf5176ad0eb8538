package measure

import "time"

// Flow is traffic that can be halted.
type Flow interface {
	Received() int64 // bytes that have arrived
	Pause()
	Resume()
}

// Sample is one measurement of a Flow.
type Sample struct {
	Rate float64 // that arrived, bytes per second
	CPU  float64 // of the programs looked at, seconds per byte that arrived
}

// WarmUp is how long a flow has to go before it is measured: what another left in the queues is gone by then.
const WarmUp = 40 * time.Millisecond

// Span measures a paused flow for a while, after a time to warm up; cpu is the processor time that the programs looked at have used.
func Span(f Flow, warmUp, span time.Duration, cpu func() time.Duration) Sample {
	f.Resume()
	defer f.Pause()
	time.Sleep(warmUp)
	start, bytes, used := time.Now(), f.Received(), cpu()
	time.Sleep(span)
	took, got, now := time.Since(start), float64(f.Received()-bytes), cpu()
	return Sample{Rate: got / took.Seconds(), CPU: (now - used).Seconds() / max(got, 1)}
}

// Alternate measures two things in the order a, b, b, a, a, b and so on, so that what changes slowly meets both alike, and that many pairs of neighbours
// may be compared. The first pair, with the beginnings of everything in it, does not count.
func Alternate(pairs int, a, b func() Sample) (of [2][]Sample) {
	for n := range pairs + 1 {
		for k := range 2 {
			side := (n + k) % 2
			s := [2]func() Sample{a, b}[side]()
			if n > 0 {
				of[side] = append(of[side], s)
			}
		}
	}
	return of
}

// Rates are those of samples.
func Rates(list []Sample) []float64 {
	return each(list, func(s Sample) float64 { return s.Rate })
}

// CPUs are what samples took of the processors, seconds per byte.
func CPUs(list []Sample) []float64 {
	return each(list, func(s Sample) float64 { return s.CPU })
}

func each(list []Sample, of func(Sample) float64) []float64 {
	values := make([]float64, len(list))
	for i, s := range list {
		values[i] = of(s)
	}
	return values
}
