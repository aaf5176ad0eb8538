package node

import (
	"net/netip"
	"sync"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/netwatch"
)

// An answer of the kernel on where an address leads takes 0.1 ms; the client of the Bases asks for each endpoint of each Base at each turn, with
// its lock held, for which the data path may have to wait. So answers hold for a moment, or until links change.
const (
	insideFor = 5 * time.Second
	maxInside = 1024
)

// inside remembers which underlay addresses lead through hnet0. The zero inside is ready for use.
type inside struct {
	mu      sync.Mutex
	answers map[netip.Addr]answer
}

type answer struct {
	inside bool
	until  time.Time
}

// of returns the answer for an address, asked anew if none is remembered.
func (i *inside) of(now time.Time, a netip.Addr, ask func(netip.Addr) bool) bool {
	i.mu.Lock()
	known, ok := i.answers[a]
	i.mu.Unlock()
	if ok && now.Before(known.until) {
		return known.inside
	}
	known = answer{ask(a), now.Add(insideFor)}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.answers == nil || len(i.answers) >= maxInside {
		i.answers = make(map[netip.Addr]answer)
	}
	i.answers[a] = known
	return known.inside
}

// forget has all asked anew: links or routes changed.
func (i *inside) forget() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.answers = nil
}

// throughOverlay reports whether the kernel would send to an underlay address through hnet0, where it would go round in circles.
func (n *Node) throughOverlay(a netip.Addr) bool {
	return n.inside.of(time.Now(), a, func(a netip.Addr) bool {
		r, err := netwatch.RouteTo(a)
		return err == nil && r.Interface == n.device.Index
	})
}
