package engine

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/underlay"
)

// sluggish is a pacer whose socket takes its time.
type sluggish struct {
	*pacer
	takes time.Duration
}

func (s *sluggish) Send(trains []underlay.Message) (int, error) {
	time.Sleep(s.takes)
	return s.pacer.Send(trains)
}

// TestTurnedAwayWhileItIsSent: the moment at which what waits is to be tried again comes while another goroutine still sends what passed before.
func TestTurnedAwayWhileItIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := pair(t)
		flowsWithin(t, a, b, time.Second)
		c := paced(n, a, b, func(now time.Time) time.Time { return now.Add(time.Hour) })
		p := a.peers.get(b.id.Address())
		b.received()
		for i := range uint32(4) {
			a.send(marked(a, b, i, 0))
		}
		if got := b.received(); len(got) != 0 {
			t.Fatalf("%d packets passed a carrier that refuses", len(got))
		}
		p.mu.Lock()
		p.path.Carrier = &sluggish{c, 10 * time.Millisecond}
		p.mu.Unlock()
		c.mu.Lock()
		c.budget, c.until = 700, func(now time.Time) time.Time { return now.Add(2 * time.Millisecond) }
		c.mu.Unlock()
		a.flushLanes(time.Now(), p, newOutbound(a.Engine)) // as the goroutine does that has read a report
		c.allow(1 << 20)
		time.Sleep(time.Second)
		if got := b.received(); len(got) != 4 {
			t.Errorf("%d packets of 4 arrived; the others wait for good", len(got))
		}
	})
}
