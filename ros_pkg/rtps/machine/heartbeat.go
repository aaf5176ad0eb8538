package machine

import (
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// every is after how many samples the reader is asked what it has.
func (p *readerProxy) every() int {
	if p.w.builtin {
		return 1
	}
	if p.w.config.QoS.History == KeepLast {
		return min(max(p.w.config.QoS.depth()/2, 1), heartbeatEvery)
	}
	return heartbeatEvery
}

// patience is how long an answer may take.
func (p *readerProxy) patience() time.Duration { return max(heartbeatDelay, p.rtt+p.rtt/2) }

// beat asks the reader again for what it has.
func (p *readerProxy) beat(now time.Time) {
	if p.unmet {
		if now.Sub(p.matchedAt) >= meeting {
			p.push(now)
			return
		}
		p.tell(now, false)
		p.interval = min(2*p.interval, heartbeatMost)
		p.w.m.set(&p.heartbeat, now.Add(p.interval))
		return
	}
	if p.acked >= p.next && p.skip == 0 {
		p.owing = time.Time{}
		return
	}
	p.silent = min(p.silent+1, 1<<20)
	p.tell(now, false)
	most := max(heartbeatMost, p.patience())
	if p.silent > patientFor && !p.remote.proven {
		most = heartbeatRare
	}
	p.interval = min(2*p.interval, most)
	p.w.m.set(&p.heartbeat, now.Add(p.interval))
}

// tell sends a heartbeat on its own.
func (p *readerProxy) tell(now time.Time, final bool) {
	b := p.w.m.message(p.remote.info.Prefix)
	p.asking = true
	p.skipped(b)
	p.ask(now, b, final)
	p.w.m.post(p.to())
	p.asking = false
}

// ask adds a heartbeat: it names what was sent so far, not what still waits.
func (p *readerProxy) ask(now time.Time, b *wire.Builder, final bool) {
	p.skipped(b)
	p.fit(b, wire.HeartbeatLen)
	h := &p.w.history
	last := p.next - 1
	first := min(max(h.first, p.from), last+1)
	p.w.count++
	b.Heartbeat(wire.Heartbeat{
		Reader: p.guid().Entity, Writer: p.w.guid.Entity, First: max(first, 1), Last: last, Count: p.w.count, Final: final,
	})
	p.w.m.counters.Heartbeats++
	p.since = 0
	if !final {
		p.unasked = 0
		if p.asked.IsZero() {
			p.asked = now
		}
	}
}
