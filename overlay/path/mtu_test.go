package path

import (
	"testing"
	"time"
)

// carry answers probes that fit, after 20 ms.
func carry(size *int) func(Probe) time.Duration {
	return func(p Probe) time.Duration {
		if p.Size > *size {
			return 0
		}
		return 20 * time.Millisecond
	}
}

func mtuOf(l *lab) int { _, _, mtu, _ := l.m.Best(); return mtu }

func TestMTUSearch(t *testing.T) {
	for _, c := range []struct {
		kind       Kind
		bound, mtu int
		least      int // that must be found
		within     time.Duration
	}{
		{Direct, 0, 1500, 1500, time.Second},
		{Direct, 1500, 1500, 1500, time.Second},
		{Direct, 0, 9000, 1500, time.Second},
		{Direct, 1420, 1420, 1420, time.Second},
		{Direct, 1500, 1492, 1492, 2 * time.Second},
		{Direct, 1500, 1480, 1470, 8 * time.Second},
		{Direct, 1500, 1124, 1108, 8 * time.Second},
		{Direct, 1500, 1100, 1100, 8 * time.Second},
		{Direct, 1000, 1000, 1000, time.Second},
		{Direct, 9000, 9000, 9000, time.Second},
		{Direct, 9000, 1500, 1500, time.Second},
		{Direct, 9000, 4000, 3800, 12 * time.Second},
		{Direct, 100000, 9000, 9000, time.Second},
		{LAN, 1500, 1500, 1500, 300 * time.Millisecond},
		{LAN, 9000, 9000, 9000, 300 * time.Millisecond},
		{LAN, 9000, 1500, 1500, 5 * time.Second}, // a switch without jumbo frames
		{RelayUDP, 1500, 1400, 1400, time.Second},
		{RelayTCP, 1500, 1500, 1500, time.Second},
	} {
		candidate := direct("192.0.2.1:1")
		candidate.Kind, candidate.Bound = c.kind, c.bound
		l := newLab(t, candidate)
		l.pass(c.within, carry(&c.mtu))
		if got := mtuOf(l); got < c.least || got > c.mtu {
			t.Errorf("%+v: found %d", c, got)
		}
		l.pass(30*time.Second, carry(&c.mtu))
		if got := mtuOf(l); got < c.least || got > c.mtu {
			t.Errorf("%+v: later %d", c, got)
		}
		padded := 0
		n := len(l.out)
		l.pass(time.Minute, carry(&c.mtu))
		for _, p := range l.out[n:] {
			if p.Size > 0 {
				padded++
				if !p.DF {
					t.Errorf("%+v: a padded probe that may be fragmented", c)
				}
			}
		}
		if padded > 7 {
			t.Errorf("%+v: %d padded probes in a minute when all is found", c, padded)
		}
	}
}

// TestMTUBlackHole has a path carry less, then more again.
func TestMTUBlackHole(t *testing.T) {
	for _, suspect := range []bool{false, true} {
		l := newLab(t, direct("192.0.2.1:1"))
		mtu := 1500
		l.pass(13*time.Second, carry(&mtu))
		if got := mtuOf(l); got != 1500 {
			t.Fatalf("found %d", got)
		}
		mtu = 1300
		limit := 12 * time.Second
		if suspect {
			l.m.Suspect(l.now, 1500)
			limit = 1200 * time.Millisecond
		}
		l.pass(limit, carry(&mtu))
		if got := mtuOf(l); got > 1300 {
			t.Errorf("still %d", got)
		}
		l.pass(10*time.Second, carry(&mtu))
		if got := mtuOf(l); got < 1284 || got > 1300 {
			t.Errorf("found %d of 1300", got)
		}
		mtu = 1500
		l.pass(raiseInterval+time.Second, carry(&mtu))
		if got := mtuOf(l); got != 1500 {
			t.Errorf("%d when 1500 passes again", got)
		}
	}
}

// TestMTUSilence: a path that is silent altogether loses nothing of its MTU.
func TestMTUSilence(t *testing.T) {
	l := newLab(t, direct("192.0.2.1:1"))
	mtu := 1500
	l.pass(9*time.Second, carry(&mtu))
	l.pass(4*time.Second, nil)
	l.pass(4*time.Second, carry(&mtu))
	if got := mtuOf(l); got != 1500 {
		t.Errorf("%d after a silence", got)
	}
}

// TestMTUBound: the kernel's word on the MTU counts at once, in both directions.
func TestMTUBound(t *testing.T) {
	c := direct("192.0.2.1:1")
	c.Bound = 1500
	l := newLab(t, c)
	mtu := 1500
	l.pass(2*time.Second, carry(&mtu))
	c.Bound = 1300
	l.m.SetCandidates(l.now, []Candidate{c})
	if got := mtuOf(l); got != 1300 {
		t.Errorf("%d with a bound of 1300", got)
	}
	n := len(l.out)
	l.pass(15*time.Second, carry(&mtu))
	for _, p := range l.out[n:] {
		if p.Size > 1300 {
			t.Errorf("a probe of %d with a bound of 1300", p.Size)
		}
	}
	c.Bound = 1500
	l.m.SetCandidates(l.now, []Candidate{c})
	l.pass(2*time.Second, carry(&mtu))
	if got := mtuOf(l); got != 1500 {
		t.Errorf("%d with a bound of 1500", got)
	}
}
