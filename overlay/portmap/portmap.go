package portmap

import (
	"cmp"
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
)

// The protocols, as [Mapping], [Answer] and the log name them.
const (
	PCP    = "pcp"
	NATPMP = "nat-pmp"
	UPnP   = "upnp"
)

// maxGateways bounds the workers: pairs of a router and an address of ours.
const maxGateways = 8

// removal bounds what a mapping's removal may take, so that a daemon ends in time.
const removal = 900 * time.Millisecond

// Gateway is a router that a default route goes through, as one address of this host sees it. It is comparable.
type Gateway struct {
	Addr      netip.Addr // the router; a link-local address has the interface's name as zone
	Local     netip.Addr // our address that it maps to: for IPv6 a global one
	Interface string     // the device the route leaves through; without it nothing is searched by multicast
}

// Mapping is a port of a router that leads to ours.
type Mapping struct {
	Protocol string         // PCP, NATPMP or UPnP
	Internal uint16         // our port
	External netip.AddrPort // where the router takes datagrams for it
	Gateway  netip.Addr
	Local    netip.Addr    // our address that it leads to
	Lifetime time.Duration // granted at the last renewal; 0 = until it is removed

	// Double tells that External is no address of the Internet, so that another NAT is in front of the router.
	Double bool
}

// Result is what came of asking one router in one protocol.
type Result int

const (
	NotAsked Result = iota // another protocol did it, or the protocol does not exist for the address family
	NoAnswer               // nobody answered, or not sensibly
	Refused                // the router answered that it will not
	Found                  // the router maps by this protocol
)

func (r Result) String() string {
	switch r {
	case NoAnswer:
		return "no answer"
	case Refused:
		return "refused"
	case Found:
		return "found"
	}
	return "not asked"
}

// MarshalText makes a Result readable in JSON.
func (r Result) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// Answer is the last thing that is known of a router and a protocol.
type Answer struct {
	Gateway  Gateway
	Protocol string
	Result   Result
	Why      string // for Refused and NoAnswer: one line
}

// Report is the state of a [Mapper].
type Report struct {
	Mappings []Mapping
	Answers  []Answer // three per gateway, in the order PCP, NATPMP, UPnP
}

// Config is what a [Mapper] needs.
type Config struct {
	// Port returns our UDP port, 0 while there is none. It must be safe for concurrent use.
	Port func() uint16
	// Gateways lists the routers. nil stands for DefaultGateways(Excluded).
	Gateways func() ([]Gateway, error)
	// Notify gets the whole set of mappings whenever it changed, in order. Calls do not overlap; it must not block, nor call
	// the Mapper. May be nil.
	Notify func([]Mapping)
	Log    *slog.Logger // nil = none
	// Rare asks a router that does not answer, or refuses, once an hour in place of every quarter: for links that are paid by the byte.
	Rare bool
	// Excluded is the overlay's own device: gateways behind it do not count.
	Excluded string
}

// Mapper keeps the port mapped. Its methods are safe for concurrent use.
type Mapper struct {
	cfg     Config
	log     *slog.Logger
	changed chan struct{}

	// hands makes those of a worker. Tests put others here, and are quiet: without sockets.
	hands func(Gateway) hands
	quiet bool

	mu      sync.Mutex
	workers map[Gateway]*worker
	told    []Mapping // what Notify knows
}

// New returns a Mapper that does nothing before Run.
func New(cfg Config) *Mapper {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Gateways == nil {
		excluded := cfg.Excluded
		cfg.Gateways = func() ([]Gateway, error) { return DefaultGateways(excluded) }
	}
	return &Mapper{cfg: cfg, log: cfg.Log, changed: make(chan struct{}, 1), workers: make(map[Gateway]*worker), hands: newRouter}
}

// LinksChanged tells that addresses, routes or our port changed. New gateways are asked at once, mappings of gateways that are
// gone are given up, a new port is mapped in place of the old one. For gateways that stay as they are it leads to a question
// at most once a minute, so that unrelated devices may come and go.
func (m *Mapper) LinksChanged() {
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// Run maps until ctx ends; then it removes the mappings, for which it takes at most a second, and returns nil. It can be
// called once.
func (m *Mapper) Run(ctx context.Context) error {
	var listeners sync.WaitGroup
	if !m.quiet {
		listeners.Go(func() { m.listen(ctx, "udp4") })
		listeners.Go(func() { m.listen(ctx, "udp6") })
	}
	defer listeners.Wait()
	retry := time.NewTimer(0)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			m.reconcile(ctx, nil)
			return nil
		case <-m.changed:
		case <-retry.C:
		}
		gateways, err := m.cfg.Gateways()
		if err != nil {
			m.log.Warn("the default routes cannot be read: the port stays unmapped where they changed", "err", err, "retry", time.Minute)
			retry.Reset(time.Minute)
			continue
		}
		m.reconcile(ctx, m.usable(gateways))
	}
}

// usable returns the gateways to be asked, without doubles, as many as are allowed.
func (m *Mapper) usable(gateways []Gateway) []Gateway {
	var good []Gateway
	for _, g := range gateways {
		g.Addr, g.Local = g.Addr.Unmap(), g.Local.Unmap()
		switch {
		case !g.Addr.IsValid() || !g.Local.IsValid() || g.Addr.Is4() != g.Local.Is4():
		case g.Addr.IsUnspecified() || g.Addr.IsMulticast() || g.Addr == g.Local:
		case identity.Prefix.Contains(g.Addr) || identity.Prefix.Contains(g.Local):
		case m.cfg.Excluded != "" && g.Interface == m.cfg.Excluded:
		case slices.Contains(good, g):
		case len(good) == maxGateways:
			m.log.Debug("too many gateways to ask all for a port mapping", "left_out", g.Addr)
		default:
			good = append(good, g)
		}
	}
	return good
}

// reconcile makes the workers those of the gateways: new ones start first, then those that are gone end.
func (m *Mapper) reconcile(ctx context.Context, gateways []Gateway) {
	var gone []*worker
	m.mu.Lock()
	for g, w := range m.workers {
		if slices.Contains(gateways, g) {
			w.look()
			continue
		}
		delete(m.workers, g)
		gone = append(gone, w)
	}
	for _, g := range gateways {
		if m.workers[g] == nil {
			m.workers[g] = m.start(ctx, g)
		}
	}
	m.mu.Unlock()
	for _, w := range gone {
		w.cancel()
	}
	for _, w := range gone {
		<-w.done
	}
	m.tell()
}

func (m *Mapper) start(ctx context.Context, g Gateway) *worker {
	ctx, cancel := context.WithCancel(ctx)
	w := newWorker(g, m.hands(g), m.cfg.Port, m.log.With("gateway", g.Addr, "local", g.Local), m.tell)
	w.rare = m.cfg.Rare
	w.cancel = cancel
	go w.run(ctx)
	return w
}

// tell notifies of a changed set.
func (m *Mapper) tell() {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.mappings()
	// A lifetime that is a little shorter is no news.
	same := func(a, b Mapping) bool { a.Lifetime, b.Lifetime = 0, 0; return a == b }
	if slices.EqualFunc(now, m.told, same) {
		return
	}
	m.told = now
	if m.cfg.Notify != nil {
		m.cfg.Notify(slices.Clone(now))
	}
}

func (m *Mapper) mappings() []Mapping {
	var all []Mapping
	for _, w := range m.workers {
		if mapping, ok := w.mapping(); ok {
			all = append(all, mapping)
		}
	}
	slices.SortFunc(all, func(a, b Mapping) int {
		return cmp.Or(a.Gateway.Compare(b.Gateway), a.Local.Compare(b.Local))
	})
	return all
}

// Status tells what is mapped, and what the routers said.
func (m *Mapper) Status() Report {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := Report{Mappings: m.mappings()}
	for _, w := range m.workers {
		r.Answers = append(r.Answers, w.report()...)
	}
	slices.SortStableFunc(r.Answers, func(a, b Answer) int {
		return cmp.Or(a.Gateway.Addr.Compare(b.Gateway.Addr), a.Gateway.Local.Compare(b.Gateway.Local))
	})
	return r
}

// heard passes an announcement to the workers of its sender.
func (m *Mapper) heard(from netip.Addr, epoch uint32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for g, w := range m.workers {
		if g.Addr == from {
			w.hear(epoch)
		}
	}
}
