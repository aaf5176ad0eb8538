package machine

import "time"

// Samples that need many datagrams are sent in bursts: as much as the reader's socket can hold while its host is busy with other things, then as much as it
// acknowledges, or at a rate that follows what it takes. A socket's buffer is 208 KiB unless somebody raised it, and counts more than the payload: twice as
// much for datagrams of 1,200 bytes.
const (
	pause     = time.Millisecond
	slowEvery = 20 * time.Millisecond
)

// pacing are the bounds of a pace: bytes, and bytes per second.
type pacing struct{ burst, first, least, most float64 }

var (
	farPacing   = pacing{burst: 96 << 10, first: 50 << 20, least: 4 << 20, most: 400 << 20}
	blindPacing = pacing{burst: 16 << 10, first: 256 << 10, least: 64 << 10, most: 256 << 10} // see remote.reached
	localPacing = pacing{burst: 160 << 10, first: 500 << 20, least: 16 << 20, most: 4 << 30}
)

// pace is a bucket of bytes.
type pace struct {
	*pacing
	rate   float64 // bytes per second
	tokens float64
	at     time.Time
	slowed time.Time
}

// use sets the bounds.
func (p *pace) use(b *pacing) {
	if p.pacing != b {
		*p = pace{pacing: b, rate: b.first, tokens: b.burst}
	}
}

// fill returns how many bytes may be sent now. A debt may remain of what was sent whole.
func (p *pace) fill(now time.Time, byTime bool) int {
	if d := now.Sub(p.at); d > 0 {
		if byTime && !p.at.IsZero() {
			p.tokens = min(p.burst, p.tokens+d.Seconds()*p.rate)
		}
		p.at = now
	}
	return int(p.tokens)
}

func (p *pace) spend(n int) { p.tokens -= float64(n) }

// wait is how long until a good part of a burst may go.
func (p *pace) wait() time.Duration {
	lack := min(p.burst/2, p.rate*pause.Seconds()) - p.tokens
	return max(pause, time.Duration(lack/p.rate*float64(time.Second)))
}

// lost says that fragments did not arrive.
func (p *pace) lost(now time.Time) {
	if now.Sub(p.slowed) >= slowEvery {
		p.rate = max(p.least, p.rate*0.7)
		p.slowed = now
	}
}

// arrived says that n bytes are no longer in the reader's socket; large, that they were a sample of many datagrams.
func (p *pace) arrived(n int, large bool) {
	p.tokens = min(p.burst, p.tokens+float64(n))
	if large {
		p.rate = min(p.most, p.rate*1.1)
	}
}
