package lab

import (
	"errors"
	"os"
	"slices"
	"sync"
	"time"
)

const (
	captureLength = 1900    // bytes kept of a frame
	maxCaptured   = 500_000 // frames kept
)

// Frame is one Ethernet frame that a [Capture] saw.
type Frame struct {
	Time time.Time
	Out  bool   // sent by the host; otherwise received
	Len  int    // bytes on the device
	Data []byte // the first 1,900 bytes
}

// Capture records the frames of one device, in both directions.
type Capture struct {
	t    TB
	ring *ring
	wg   sync.WaitGroup

	mu     sync.Mutex
	frames []Frame
	missed int
	more   chan struct{} // closed and replaced when frames grow
	ended  bool
}

// Capture records what the host sends and receives on a device, from now to Stop or the end of the test. On a
// LAN that is not degraded the kernel hands superpackets over whole: a frame can be far longer than the MTU.
func (h *Host) Capture(t TB, dev string) *Capture {
	t.Helper()
	c := &Capture{t: t, more: make(chan struct{})}
	link, err := h.nl.LinkByName(dev)
	if err == nil {
		err = h.do(func() error {
			c.ring, err = openRing(link.Attrs().Index, captureLength, true)
			return err
		})
	}
	if err != nil {
		t.Fatalf("lab: capture on %s of %s: %v", dev, h.name, err)
	}
	c.wg.Go(c.read)
	t.Cleanup(func() { c.Stop() })
	return c
}

func (c *Capture) read() {
	for {
		err := c.ring.wait(c.take)
		c.wake()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			c.ring.drain(c.take)
		}
		if err != nil {
			return
		}
	}
}

func (c *Capture) take(f ringFrame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.frames) == maxCaptured {
		c.missed++
		return
	}
	c.frames = append(c.frames, Frame{Time: f.time, Out: f.out, Len: f.len, Data: slices.Clone(f.data)})
}

func (c *Capture) wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.more)
	c.more = make(chan struct{})
}

// Frames returns what has been seen so far.
func (c *Capture) Frames() []Frame {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.frames)
}

// Wait returns the first frame, of those seen and those to come, for which match is true. The test fails if
// there is none within the time.
func (c *Capture) Wait(timeout time.Duration, what string, match func(Frame) bool) Frame {
	c.t.Helper()
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for next := 0; ; {
		c.mu.Lock()
		fresh, more := c.frames[next:len(c.frames):len(c.frames)], c.more
		c.mu.Unlock()
		next += len(fresh)
		for _, f := range fresh {
			if match(f) {
				return f
			}
		}
		select {
		case <-more:
		case <-timer.C:
			c.t.Fatalf("capture: no frame within %v: %s", timeout, what)
		}
	}
}

// Stop ends the recording and returns it. All that the host had sent or received before is in it: the test
// fails if a frame got lost, because then the recording proves nothing.
func (c *Capture) Stop() []Frame {
	c.t.Helper()
	c.mu.Lock()
	ended := c.ended
	c.ended = true
	c.mu.Unlock()
	if !ended {
		c.ring.interrupt()
		c.wg.Wait()
		c.missed += c.ring.dropped()
		c.ring.close()
		if c.missed > 0 {
			c.t.Errorf("capture: %d frames were too many", c.missed)
		}
	}
	return c.Frames()
}
