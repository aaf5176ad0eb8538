package machine

import "time"

// Samples that need many datagrams are sent in bursts, at a rate that follows what the reader's host takes: its socket
// buffer is 208 KiB unless somebody raised it, and counts more than the payload.
const (
	burst     = 48 << 10 // bytes
	pause     = time.Millisecond
	firstRate = 50 << 20 // bytes per second
	leastRate = 4 << 20
	mostRate  = 400 << 20
	slowEvery = 20 * time.Millisecond
)

// pace is a bucket of bytes.
type pace struct {
	rate   float64 // bytes per second; 0 until first used
	tokens float64
	at     time.Time
	slowed time.Time
}

// fill returns how many bytes may be sent now. A debt may remain of what was sent whole.
func (p *pace) fill(now time.Time) int {
	if p.rate == 0 {
		p.rate, p.tokens, p.at = firstRate, burst, now
	}
	if d := now.Sub(p.at); d > 0 {
		p.tokens = min(burst, p.tokens+d.Seconds()*p.rate)
		p.at = now
	}
	return int(p.tokens)
}

func (p *pace) spend(n int) { p.tokens -= float64(n) }

// wait is how long until a good part of a burst may go.
func (p *pace) wait() time.Duration {
	lack := min(burst/2, p.rate*pause.Seconds()) - p.tokens
	return max(pause, time.Duration(lack/p.rate*float64(time.Second)))
}

// lost says that fragments did not arrive.
func (p *pace) lost(now time.Time) {
	if p.rate != 0 && now.Sub(p.slowed) >= slowEvery {
		p.rate = max(leastRate, p.rate*0.7)
		p.slowed = now
	}
}

// arrived says that a large sample arrived.
func (p *pace) arrived() {
	if p.rate != 0 {
		p.rate = min(mostRate, p.rate*1.1)
	}
}
