package traffic

import (
	"testing"
	"time"
)

var start = time.Unix(1_000_000, 0)

func at(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }

// stream is one whose datagrams were sent every 10 ms for a second, and arrived 5 ms later but for those that late names: in ms, 0 = never.
func stream(late map[int]int) *Stream {
	s := &Stream{}
	for i := range s.ways {
		w := &way{got: map[uint32]bool{}}
		for n := range 100 {
			w.sent = append(w.sent, at(10*n))
		}
		for now := range 1200 {
			for n := range 100 {
				delay, other := late[n]
				if !other {
					delay = 5
				}
				if delay != 0 && 10*n+delay == now {
					w.got[uint32(n)] = true
					w.arrived = append(w.arrived, arrival{at(now), uint32(n)})
				}
			}
		}
		s.ways[i] = w
	}
	return s
}

func TestReport(t *testing.T) {
	gap := map[int]int{}
	for n := 30; n < 50; n++ {
		gap[n] = 0
	}
	for name, test := range map[string]struct {
		late            map[int]int
		from, to        int
		silence         int // ms
		lost, sent      int
		reordered, long int // long: pause in ms
	}{
		"steady":                      {nil, 100, 900, 10, 0, 80, 0, 10},
		"a gap":                       {gap, 100, 900, 210, 20, 80, 0, 10},
		"a gap that began before":     {gap, 400, 900, 105, 10, 50, 0, 10},
		"a gap that lasts":            {gap, 100, 450, 155, 15, 35, 0, 10},
		"a late one":                  {map[int]int{40: 50}, 100, 900, 20, 0, 80, 1, 10},
		"nothing is sent any more":    {nil, 900, 1200, 205, 0, 10, 0, 210},
		"before anything has arrived": {gap, 310, 320, 10, 1, 1, 0, 10},
	} {
		t.Run(name, func(t *testing.T) {
			r := stream(test.late).Report(at(test.from), at(test.to))
			for i := range r.Silence {
				if got := r.Silence[i].For(); got != time.Duration(test.silence)*time.Millisecond {
					t.Errorf("silent for %v, want %d ms", got, test.silence)
				}
				if r.Lost[i] != test.lost || r.Sent[i] != test.sent || r.Reordered[i] != test.reordered {
					t.Errorf("lost %d of %d, reordered %d; want %d of %d, %d", r.Lost[i], r.Sent[i], r.Reordered[i], test.lost, test.sent, test.reordered)
				}
				if got := r.Pause[i]; got != time.Duration(test.long)*time.Millisecond {
					t.Errorf("pause of %v, want %d ms", got, test.long)
				}
			}
			if r.Worst() != r.Silence[0].For() || r.AllLost() != 2*test.lost {
				t.Errorf("%v, %d", r.Worst(), r.AllLost())
			}
		})
	}
}
