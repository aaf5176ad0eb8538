package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/health"
	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/whitelist"
)

const (
	// maxLookups bounds the names that are looked up at the same time. What finds no room is asked for again when its peer is wanted.
	maxLookups = 16
	// lookupPause is the least time from one look-up for a peer to the next; lookupRetry is that after one that failed, once the links have changed.
	lookupPause = 30 * time.Second
	lookupRetry = time.Second
	// lookupTimeout bounds one look-up.
	lookupTimeout = 10 * time.Second
)

// lookups runs look-ups of names in the background, one at a time for each peer.
type lookups struct {
	dns func(ctx context.Context, network, host string) ([]netip.Addr, error)

	ctx  context.Context
	end  context.CancelFunc
	done sync.WaitGroup

	mu      sync.Mutex
	peers   map[netip.Addr]*lookup
	running int
	closed  bool
}

// lookup is the last one for a peer.
type lookup struct {
	ended     time.Time
	next      time.Time // no other before
	running   bool
	failed    bool
	forgotten bool // while it was running
}

func newLookups() *lookups {
	l := &lookups{dns: net.DefaultResolver.LookupNetIP, peers: make(map[netip.Addr]*lookup)}
	l.ctx, l.end = context.WithCancel(context.Background())
	return l
}

// start runs f in the background, unless there is one for the peer or was a moment ago, or too many are under way.
func (l *lookups) start(now time.Time, peer netip.Addr, f func(context.Context) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.peers[peer]
	if k == nil {
		k = &lookup{}
	}
	k.forgotten = false
	if l.closed || k.running || now.Before(k.next) || l.running == maxLookups {
		return
	}
	l.peers[peer] = k
	k.running = true
	l.running++
	l.done.Go(func() {
		err := f(l.ctx)
		l.mu.Lock()
		defer l.mu.Unlock()
		now := time.Now()
		*k = lookup{ended: now, next: now.Add(lookupPause), failed: err != nil, forgotten: k.forgotten}
		if k.forgotten {
			delete(l.peers, peer)
		}
		l.running--
	})
}

// retry lets those that failed be repeated soon.
func (l *lookups) retry() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range l.peers {
		if k.failed {
			k.next = k.ended.Add(lookupRetry)
		}
	}
}

// forget lets the next look-up for a peer begin at once. One that is under way stays, and follows a hint that changes by itself.
func (l *lookups) forget(peer netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if k := l.peers[peer]; k != nil && k.running {
		k.forgotten = true
	} else {
		delete(l.peers, peer)
	}
}

// close ends all look-ups and waits for them.
func (l *lookups) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.end()
	l.done.Wait()
}

// resolveAll looks up the hints of all whitelisted peers.
func (n *Node) resolveAll() {
	for e := range n.whitelist.All() {
		n.resolve(e, false)
	}
}

// resolve finds out what the hint of an entry means: an IP address at once, a name in the background. contact begins contact with the peer then.
func (n *Node) resolve(e whitelist.Entry, contact bool) {
	host, port := hint(e)
	if host == "" {
		return
	}
	if a, err := netip.ParseAddr(host); err == nil {
		a, err = n.indexed(a)
		n.resolved(e, []netip.AddrPort{netip.AddrPortFrom(a, port)}, err, contact)
		return
	}
	n.lookups.start(time.Now(), e.Address, func(ctx context.Context) error { return n.lookUp(ctx, e, contact) })
}

// lookUp looks up the name in the hint of an entry, and in the next one's if that was changed meanwhile.
func (n *Node) lookUp(ctx context.Context, e whitelist.Entry, contact bool) error {
	for {
		host, port := hint(e)
		if _, err := netip.ParseAddr(host); host == "" || err == nil {
			return nil // changed to what needs no look-up
		}
		once, cancel := context.WithTimeout(ctx, lookupTimeout)
		addresses, err := n.lookups.dns(once, "ip", host)
		cancel()
		now, listed := n.whitelist.Get(e.Address)
		if !listed || ctx.Err() != nil {
			return nil
		}
		if now.Endpoint == e.Endpoint {
			var list []netip.AddrPort
			for _, a := range addresses {
				list = append(list, netip.AddrPortFrom(a.Unmap(), port))
			}
			n.resolved(e, list, err, contact)
			return err
		}
		e = now
	}
}

// hint takes the endpoint of an entry apart; the whitelist has checked it. host is "" if there is none.
func hint(e whitelist.Entry) (host string, port uint16) {
	if e.Endpoint == "" {
		return "", 0
	}
	host, digits, err := net.SplitHostPort(e.Endpoint)
	if err != nil {
		return "", 0
	}
	number, _ := strconv.ParseUint(digits, 10, 16)
	return host, uint16(number)
}

// indexed gives a link-local address the index of its interface, which sockets want, in place of the name.
func (n *Node) indexed(a netip.Addr) (netip.Addr, error) {
	a = a.Unmap()
	if _, err := strconv.ParseUint(a.Zone(), 10, 31); a.Zone() == "" || err == nil {
		return a, nil
	}
	for _, i := range n.watcher.Snapshot() {
		if i.Name == a.Zone() {
			return a.WithZone(strconv.Itoa(i.Index)), nil
		}
	}
	return a, fmt.Errorf("there is no interface %s", a.Zone())
}

// resolved takes over what a hint means. A session that answers keeps its path, which is proven; the hint is tried when it does not, or when
// there is none.
func (n *Node) resolved(e whitelist.Entry, list []netip.AddrPort, err error, contact bool) {
	list = slices.DeleteFunc(list, func(ap netip.AddrPort) bool {
		return identity.Prefix.Contains(ap.Addr().WithZone("")) || n.throughOverlay(ap.Addr())
	})
	if err == nil && len(list) == 0 {
		err = errors.New("it leads into the overlay itself, or nowhere")
	}
	subject := e.Address.String()
	if err != nil {
		n.warnings.Raise(health.Warning{Code: health.Endpoint, Subject: subject,
			Text: fmt.Sprintf("the endpoint %s of peer %s cannot be used: %v", e.Endpoint, n.nameOf(e.Address), err),
			Fix:  "check the name and this host's DNS, or give an IP address outside the overlay"})
		if _, listed := n.whitelist.Get(e.Address); !listed { // it was removed meanwhile
			n.warnings.Clear(health.Endpoint, subject)
		}
		return
	}
	n.warnings.Clear(health.Endpoint, subject)
	fresh := n.contacts.Resolved(e.Address, list)
	if fresh && (e.Relay || n.relaying.has(e.Address)) {
		n.setServers()
	}
	switch {
	case contact:
		_ = n.engine.Connect(e.Address) // it can only have left the whitelist
	case fresh:
		n.engine.Refresh(e.Address)
	}
}
