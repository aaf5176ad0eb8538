package lan

import (
	"fmt"
	"testing"
	"time"
)

func TestFirstContactOfTwo(t *testing.T) {
	s := newSimulation(t)
	s.startMany(1, 1)
	s.run(10 * time.Second)
	s.startMany(2, 1)
	if took := s.until(time.Second, s.complete(true)); took > 3*s.delay+2*answerJitter {
		t.Errorf("first contact took %v without loss, want an answer each way at most", took)
	}
	s.run(time.Second)
	for _, h := range s.hosts {
		if h.sent > 6 {
			t.Errorf("%s sent %d announcements, want a burst of 3 and few answers", h.name, h.sent)
		}
		if len(h.clones) != 0 {
			t.Errorf("%s raised %v", h.name, h.clones)
		}
	}
}

// Everybody starts at the same moment, the worst case. A host has to echo every other once, 16 in an announcement, at 4
// announcements a second after the first 4; what is sent beyond that is the burst of 3 and, with loss, repetition.
func TestManyHosts(t *testing.T) {
	for _, c := range []struct {
		hosts int
		loss  float64
		limit time.Duration // until everybody has seen everybody
		most  int           // announcements of one host in the first 25 s
	}{
		{2, 0, 50 * time.Millisecond, 5},
		{2, 0.3, time.Second, 7},
		{10, 0, 100 * time.Millisecond, 7},
		{10, 0.2, time.Second, 10},
		{100, 0, 2 * time.Second, 10},
		{100, 0.1, 35 * time.Second, 14},
	} {
		t.Run(fmt.Sprintf("%d hosts, loss %v", c.hosts, c.loss), func(t *testing.T) {
			if testing.Short() && c.hosts > 10 {
				t.Skip("so many hosts take long, and the machine runs in one goroutine: there is no race to find")
			}
			s := newSimulation(t)
			s.loss = c.loss
			s.startMany(1, c.hosts)
			start := s.now
			took := s.until(c.limit, s.complete(c.loss == 0))
			s.run(25*time.Second - s.now.Sub(start))
			most := 0
			for _, h := range s.hosts {
				most = max(most, h.sent)
			}
			if most > c.most {
				t.Errorf("a host sent %d announcements in %v, want at most %d", most, s.now.Sub(start), c.most)
			}
			s.check()
			t.Logf("everybody has seen everybody after %v, at most %d announcements of a host in %v", took, most, s.now.Sub(start))
		})
	}
}
