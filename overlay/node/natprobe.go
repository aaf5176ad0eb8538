package node

import (
	"context"
	crand "crypto/rand"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/nat"
	"github.com/hnet-robotics/hnet_bridge/overlay/path"
)

// natProbe runs the machine that measures the NAT in front of this node.
type natProbe struct {
	wake chan struct{}

	mu      sync.Mutex
	machine *nat.Machine
}

func newNATProbe() *natProbe {
	var seed [32]byte
	crand.Read(seed[:])
	return &natProbe{wake: make(chan struct{}, 1), machine: nat.New(rand.NewChaCha8(seed))}
}

// do tells the machine something.
func (p *natProbe) do(f func(*nat.Machine)) {
	p.mu.Lock()
	f(p.machine)
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *natProbe) result() nat.Result {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.machine.Result()
}

// watchNAT does what the machine wants and follows its result.
func (n *Node) watchNAT(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	last := path.UnknownMapping
	for {
		now := time.Now()
		for {
			n.nat.mu.Lock()
			a, ok := n.nat.machine.Poll(now)
			n.nat.mu.Unlock()
			if !ok {
				break
			}
			if a.Data != nil {
				_ = n.sendMain(a.To, a.Data) // lost is lost: it asks again
			} else {
				_ = n.bases.FilterTest(a.Base, a.Nonce)
			}
		}
		if m := mappingOf(n.nat.result()); m != last {
			last = m
			n.announceSelf()
		}
		n.nat.mu.Lock()
		next := n.nat.machine.Next()
		n.nat.mu.Unlock()
		if next.IsZero() {
			timer.Reset(time.Hour)
		} else {
			timer.Reset(max(time.Until(next), time.Millisecond))
		}
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-n.nat.wake:
		}
	}
}

// mappingOf is what peers need to know of the NAT.
func mappingOf(r nat.Result) path.Mapping {
	switch r.Mapping {
	case nat.MappingNone, nat.MappingIndependent:
		return path.Independent
	case nat.MappingDependent:
		return path.Dependent
	}
	return path.UnknownMapping
}
