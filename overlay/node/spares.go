package node

import (
	"context"
	crand "crypto/rand"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/engine"
	"github.com/hnet-robotics/hnet_bridge/overlay/stun"
	"github.com/hnet-robotics/hnet_bridge/overlay/underlay"
)

// Where this node may be found by the uplinks that its routing does not choose is asked of Bases by STUN, from the main sockets, and only while copies
// flow: peers behind a NAT must know it, to let in what comes from there.
const (
	spareTries   = 4
	spareTimeout = 300 * time.Millisecond
	// spareAgain is the least time between two rounds; engine.CopiesWanted comes every 20 s.
	spareAgain = 10 * time.Second
	// spareBases is how many Bases are asked by each uplink.
	spareBases = 2
)

// spares asks and remembers.
type spares struct {
	wake chan struct{}

	mu      sync.Mutex
	bases   map[netip.Addr]netip.AddrPort // where registered Bases answer STUN
	uplinks []engine.Uplink
	asked   map[[12]byte]bool
	found   []netip.AddrPort
	answers chan struct{}
}

func newSpares() *spares {
	return &spares{
		wake: make(chan struct{}, 1), bases: make(map[netip.Addr]netip.AddrPort), asked: make(map[[12]byte]bool), answers: make(chan struct{}, 1),
	}
}

func (s *spares) want() { poke(s.wake) }

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (s *spares) setBase(base netip.Addr, at netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at.IsValid() {
		s.bases[base] = at
	} else {
		delete(s.bases, base)
	}
}

func (s *spares) setUplinks(list []engine.Uplink) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.uplinks = list
}

// handle takes a datagram that answers a question of ours.
func (s *spares) handle(b []byte) bool {
	id, mapped, ok := stun.ParseSuccess(b)
	if !ok {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.asked[id] {
		return false
	}
	delete(s.asked, id)
	mapped = netip.AddrPortFrom(mapped.Addr().Unmap(), mapped.Port())
	if mapped.Port() != 0 && !slices.Contains(s.found, mapped) {
		s.found = append(s.found, mapped)
	}
	poke(s.answers)
	return true
}

// questions are those of one round: to the first Bases of each family, by each uplink that routing does not choose for them.
func (s *spares) questions(routed func(netip.Addr) uint32) (list []underlay.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.asked)
	s.found = nil
	bases := make([]netip.AddrPort, 0, len(s.bases))
	for _, at := range s.bases {
		bases = append(bases, at)
	}
	slices.SortFunc(bases, netip.AddrPort.Compare)
	for _, u := range s.uplinks {
		count := 0
		for _, at := range bases {
			local := u.IPv6
			if at.Addr().Is4() {
				local = u.IPv4
			}
			if !local.IsValid() || count == spareBases || routed(at.Addr()) == u.Interface {
				continue
			}
			count++
			var id [12]byte
			crand.Read(id[:])
			s.asked[id] = true
			list = append(list, underlay.Message{
				Buf: stun.AppendRequest(nil, id), Remote: at, Local: underlay.Source{Addr: local, Interface: u.Interface}, Bound: true,
			})
		}
	}
	return list
}

// open reports whether answers are waited for.
func (s *spares) open() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked) > 0
}

func (s *spares) result() []netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.found)
}

// watchSpares asks when copies are wanted, and has the engine tell the peers.
func (n *Node) watchSpares(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.spares.wake:
		}
		n.askSpares(ctx)
		n.engine.SetSpareEndpoints(n.spares.result())
		if !pause(ctx, spareAgain) {
			return
		}
	}
}

// askSpares is one round.
func (n *Node) askSpares(ctx context.Context) {
	questions := n.spares.questions(n.routing.to)
	for try := 0; try < spareTries && n.spares.open() && ctx.Err() == nil; try++ {
		for _, q := range questions {
			if s := n.sockets.of(q.Remote.Addr()); s != nil {
				_, _ = s.WriteBatch([]underlay.Message{q}) // lost is lost: it is asked again
			}
		}
		timeout := time.NewTimer(spareTimeout)
		for waiting := true; waiting && n.spares.open(); {
			select {
			case <-ctx.Done():
				waiting = false
			case <-timeout.C:
				waiting = false
			case <-n.spares.answers:
			}
		}
		timeout.Stop()
	}
}

// pause waits, and reports false if ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
