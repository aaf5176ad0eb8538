package engine

import (
	"sync"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/underlay"
)

// deliveries opens what relays brought by TCP, which no socket loop of ours reads.
type deliveries struct {
	mu sync.Mutex
	in *inbound
}

// Deliver takes a datagram that a relay brought by other means than our sockets. b is opened in place.
func (e *Engine) Deliver(via Relay, b []byte) {
	d := &e.deliveries
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.in == nil {
		d.in = newInbound(e, nil)
	}
	now := time.Now()
	m := &underlay.Message{Buf: b, N: len(b), Remote: via.Endpoint()}
	d.in.by(now, via, m)
	d.in.wireguard(now, kindOf(b), b, m)
	d.in.endRun(now, m)
	d.in.flush()
	d.in.out.flush()
}
