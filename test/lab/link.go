package lab

import (
	"fmt"
	"math/rand/v2"
	"time"
)

const (
	defaultQueue = 100 * time.Millisecond
	holdBack     = 5 * time.Millisecond // how much longer a reordered frame takes
	etherHeader  = 14
)

// Link says how well a LAN carries frames. The zero Link is perfect. Everything applies to each direction by
// itself: with a Delay of 10 ms, an answer comes after 20 ms.
type Link struct {
	Delay    time.Duration // every frame arrives this much later
	Jitter   time.Duration // and up to this much later still, changing as often; the order is kept
	Loss     float64       // share of frames that never arrive, 0 to 1, for each receiver by itself
	RateMbit float64       // what each member can send, in Mbit/s of Ethernet frames; 0 is no limit
	Queue    time.Duration // how long a frame may wait for the rate before it is dropped instead; 0 is 100 ms
	Reorder  float64       // share of frames, 0 to 1, that are held back by 5 ms, so that later ones overtake
	MTU      int           // of the members' devices; 0 is 1500
	PathMTU  int           // longer IP packets vanish without a word though the devices take them; 0 is no limit
}

// degraded reports whether the link needs more than the kernel's bridge.
func (k Link) degraded() bool {
	return k.Delay > 0 || k.Jitter > 0 || k.Loss > 0 || k.RateMbit > 0 || k.Reorder > 0 || k.PathMTU > 0
}

func (k Link) check() error {
	switch {
	case k.Delay < 0 || k.Jitter < 0 || k.Queue < 0 || k.RateMbit < 0:
		return fmt.Errorf("a link's delay, jitter, queue and rate must not be negative: %+v", k)
	case !(k.Loss >= 0 && k.Loss <= 1 && k.Reorder >= 0 && k.Reorder <= 1):
		return fmt.Errorf("a link's loss and reorder are shares from 0 to 1: %+v", k)
	case k.MTU != 0 && (k.MTU < 68 || k.MTU > 65521):
		return fmt.Errorf("a link's MTU is 68 to 65521 bytes, not %d", k.MTU)
	case k.PathMTU < 0:
		return fmt.Errorf("a link's path MTU must not be negative")
	}
	return nil
}

func (k Link) mtu() int {
	if k.MTU == 0 {
		return 1500
	}
	return k.MTU
}

// sender is the schedule of what one member sends: the rate and the path MTU.
type sender struct {
	free time.Time // when the last bit of the last frame has left
}

// send returns when a frame of n bytes that the member sends at now has left it, or why it does not.
func (s *sender) send(k Link, now time.Time, n int) (left time.Time, fate fate) {
	if k.PathMTU > 0 && n > k.PathMTU+etherHeader {
		return time.Time{}, tooLong
	}
	if k.RateMbit <= 0 {
		return now, carried
	}
	queue := k.Queue
	if queue == 0 {
		queue = defaultQueue
	}
	if s.free.Before(now) {
		s.free = now
	}
	if s.free.Sub(now) > queue {
		return time.Time{}, queueFull
	}
	s.free = s.free.Add(time.Duration(float64(n*8) * 1000 / k.RateMbit))
	return s.free, carried
}

// leg is the schedule from one member to another.
type leg struct {
	last    time.Time // when the last frame arrives that was not held back
	jitter  time.Duration
	redraw  time.Time // when the jitter changes
	pending int       // frames on their way
}

// carry returns when a frame that left at the given time arrives, or that it is lost.
func (g *leg) carry(k Link, left time.Time, rng *rand.Rand) (arrives time.Time, fate fate) {
	if k.Loss > 0 && rng.Float64() < k.Loss {
		return time.Time{}, lost
	}
	arrives = left.Add(k.Delay)
	if k.Jitter > 0 {
		// Drawn anew only now and then: with the order kept, a draw for every frame of a dense stream would
		// soon be the longest for all of them.
		if !left.Before(g.redraw) {
			g.jitter = time.Duration(rng.Int64N(int64(k.Jitter)))
			g.redraw = left.Add(k.Jitter)
		}
		arrives = arrives.Add(min(g.jitter, k.Jitter))
	}
	if k.Reorder > 0 && rng.Float64() < k.Reorder {
		return arrives.Add(holdBack), carried
	}
	if arrives.Before(g.last) {
		arrives = g.last
	}
	g.last = arrives
	return arrives, carried
}

type fate int

const (
	carried fate = iota
	lost
	queueFull
	tooLong
)
