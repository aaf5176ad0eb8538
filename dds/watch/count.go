package watch

import (
	"sync"
	"time"
)

// Flow is what went one way, since the beginning and per second. Bytes are those of IP packets inside the tunnel.
type Flow struct {
	Bytes       uint64
	Messages    uint64 // RTPS messages with samples of the topic; of what is not RTPS, packets
	Samples     uint64 // each once, when its last fragment is there
	Resent      uint64 // samples or fragments that came again or filled a gap
	ResentBytes uint64
	Lost        uint64 // sequence numbers that were passed over and not seen within 3 s
	Requests    uint64 // ACKNACK and NACK_FRAG that ask for something

	// Rate is the mean of the last 3 whole seconds.
	Rate Rate
}

// Rate is what goes per second.
type Rate struct{ Bytes, Messages, Samples, Resent, Lost float64 }

// rateSeconds is how many seconds a rate is the mean of.
const rateSeconds = 3

// mark is a state of what rates are made of.
type mark struct{ bytes, messages, samples, resent, lost uint64 }

func (m mark) minus(o mark) mark {
	return mark{m.bytes - o.bytes, m.messages - o.messages, m.samples - o.samples, m.resent - o.resent, m.lost - o.lost}
}

func (m mark) over(seconds float64) Rate {
	return Rate{float64(m.bytes) / seconds, float64(m.messages) / seconds, float64(m.samples) / seconds, float64(m.resent) / seconds, float64(m.lost) / seconds}
}

// counter counts one direction of a row.
type counter struct {
	mu sync.Mutex

	mark
	resentBytes uint64
	requests    uint64

	begun time.Duration // when the first byte was counted
	last  time.Duration // when the last one was
	sec   int64
	marks [rateSeconds + 1]mark // as it was when each of the last seconds began, by second%4

	run *plainRun // nil unless one counts here
}

// turn lets the seconds pass. The lock is held, as in all that follows.
func (c *counter) turn(at time.Duration) {
	sec := int64(at / time.Second)
	if sec <= c.sec {
		return
	}
	for s := max(c.sec+1, sec-rateSeconds); s <= sec; s++ {
		c.marks[s%int64(len(c.marks))] = c.mark
	}
	c.sec = sec
}

// take counts bytes at a time, which sec is in whole seconds.
func (c *counter) take(at time.Duration, sec int64, bytes int) {
	if sec != c.sec {
		c.turn(at)
	}
	if c.bytes == 0 {
		c.begun = at
	}
	c.bytes += uint64(bytes)
	c.last = max(c.last, at) // runs are counted when they are over
}

// lastUse is when the last byte was counted.
func (c *counter) lastUse() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

// flow is the state at a time.
func (c *counter) flow(at time.Duration) Flow {
	c.turn(at)
	f := Flow{
		Bytes: c.bytes, Messages: c.messages, Samples: c.samples, Resent: c.resent, ResentBytes: c.resentBytes, Lost: c.lost, Requests: c.requests,
	}
	// The second in which it began was not whole.
	if whole := min(rateSeconds, c.sec-int64(c.begun/time.Second)-1); whole > 0 {
		n := int64(len(c.marks))
		f.Rate = c.marks[c.sec%n].minus(c.marks[(c.sec-whole)%n]).over(float64(whole))
	} else if c.bytes > 0 {
		f.Rate = c.mark.over(max(1, (at - c.begun).Seconds()))
	}
	return f
}

// add takes over what another counted.
func (c *counter) add(o *counter, at time.Duration) {
	c.turn(at)
	o.turn(at)
	if c.bytes == 0 || o.bytes > 0 && o.begun < c.begun {
		c.begun = o.begun
	}
	sum := func(a *mark, b mark) {
		*a = mark{a.bytes + b.bytes, a.messages + b.messages, a.samples + b.samples, a.resent + b.resent, a.lost + b.lost}
	}
	if c.sec == o.sec {
		for i := range c.marks {
			sum(&c.marks[i], o.marks[i])
		}
	}
	sum(&c.mark, o.mark)
	c.last = max(c.last, o.last)
	c.resentBytes += o.resentBytes
	c.requests += o.requests
}
