// Package server is the Base: it tells its clients how they are seen, brings those together who ask for each other, and relays their datagrams,
// which it can neither read nor make (docs/protocol.md, Base). The registry and its look-ups are machines; thin loops do the I/O.
package server

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/base/session"
	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/underlay"
)

// Unlimited is a relay rate without limit.
const Unlimited = -1

// Limits bounds a Server. A zero field takes its default.
type Limits struct {
	// Registrations that are kept, 200,000 by default and 1,048,576 at most. When there are as many, nobody more is let in; registrations whose client
	// has not shown itself yet make room, the oldest first.
	Registrations int
	// RegistrationsPerPrefix bounds those that came from one IPv4 /24 or IPv6 /48; an eighth of Registrations by default, but 4096 at least.
	RegistrationsPerPrefix int
	// Interests of one client, 10,000 by default and 65,535 at most; AllInterests of all of them, 4,000,000 by default. More are ignored.
	Interests    int
	AllInterests int
	// RelayRate is what one client may have relayed, in bits per second with the relay headers; 200,000,000 by default, Unlimited = no limit.
	// RelayBurst is what it may have at once, in bytes; 1 MiB by default.
	RelayRate  int64
	RelayBurst int
	// TotalRate is what is relayed for all clients, in bits per second; 0 = as much as goes. What is scarce is shared fairly among the senders.
	TotalRate int64
	// Silence is how long the registration of a silent client is kept; 150 s by default, 18 hours at most.
	Silence time.Duration
	// Connections over TCP, 10,000 by default; ConnectionsPerHost from one IPv4 address or IPv6 /64, 256 by default. When there are too many in all,
	// those that have not registered yet make room, the oldest first.
	Connections        int
	ConnectionsPerHost int
}

// shortestSilence is the least that a client can wish for.
const shortestSilence = 20 * time.Second

func (l *Limits) setDefaults() {
	l.Registrations = min(cmp.Or(l.Registrations, 200_000), maxRegistrations)
	l.RegistrationsPerPrefix = cmp.Or(l.RegistrationsPerPrefix, max(4096, l.Registrations/8))
	l.Interests = min(cmp.Or(l.Interests, 10_000), 65_535)
	l.AllInterests = cmp.Or(l.AllInterests, 4_000_000)
	l.RelayRate = cmp.Or(l.RelayRate, 200_000_000)
	l.RelayBurst = cmp.Or(l.RelayBurst, 1<<20)
	l.Silence = min(cmp.Or(l.Silence, 150*time.Second), 65_535*time.Second).Truncate(time.Second)
	l.Connections = cmp.Or(l.Connections, 10_000)
	l.ConnectionsPerHost = cmp.Or(l.ConnectionsPerHost, 256)
}

// Rates by source prefix, and how many buckets each has.
var (
	helloRate    = perSecond(200, 1000)
	registerRate = perSecond(100, 500)
	bindingRate  = perSecond(50, 200)
	unknownRate  = perSecond(50, 200)
	moveRate     = perSecond(200, 1000) // control datagrams from other endpoints than the client's
	acceptRate   = perSecond(100, 500)  // connections, each of which costs a TLS handshake
)

const (
	buckets = 8192
	// applicationsWaiting bounds the registers that wait for a worker; more are dropped, and come again.
	applicationsWaiting = 512
	maxWorkers          = 4
	// timersAtOnce is how many clients are looked at under one lock.
	timersAtOnce = 256
)

// Config says what a Server needs. Identity is required.
type Config struct {
	Identity *identity.Identity
	Log      *slog.Logger // nil = silent
	// Admit says whether a node may register; nil = every node may. It is called from several goroutines at once. When its answers change, call
	// Server.Review.
	Admit  func(netip.Addr) bool
	Limits Limits
	// Random must be safe for concurrent use; nil = crypto/rand.
	Random io.Reader
}

// Server is a Base. Its methods may be called from several goroutines at once.
type Server struct {
	cfg           Config
	log           *slog.Logger
	started       time.Time
	acceptor      *session.Acceptor
	stats         Stats
	egress        egress
	relayInterval int64 // nanoseconds per 64 KiB of one client's rate, 0 = unlimited
	relayDepth    int64 // nanoseconds of a client's burst

	hellos, registers, bindings, unknowns, moves, accepts *prefixLimits

	applications chan application
	inline       bool // no workers: whoever brings a register does the work
	draining     atomic.Bool

	mu        sync.RWMutex
	registry  registry
	sleeping  time.Time // when the timer loop wakes up; zero = it is awake
	wake      chan struct{}
	emptied   chan struct{} // closed when a draining server has nobody left; nil = it is not draining
	alternate atomic.Pointer[Sockets]
	prober    atomic.Pointer[Sockets]

	conns   connections
	serving sync.WaitGroup // goroutines of connections
}

// New makes a Server; Run or Serve starts it.
func New(c Config) (*Server, error) { return newServer(c, time.Now()) }

func newServer(c Config, started time.Time) (*Server, error) {
	if c.Identity == nil {
		return nil, errors.New("a Base needs an identity")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Random == nil {
		c.Random = rand.Reader
	}
	c.Limits.setDefaults()
	s := &Server{
		cfg: c, log: c.Log, started: started, acceptor: session.NewAcceptor(c.Identity, c.Random),
		applications: make(chan application, applicationsWaiting), wake: make(chan struct{}, 1),
		hellos: newPrefixLimits(buckets, helloRate), registers: newPrefixLimits(buckets, registerRate),
		bindings: newPrefixLimits(buckets, bindingRate), unknowns: newPrefixLimits(buckets, unknownRate), moves: newPrefixLimits(buckets, moveRate),
		accepts: newPrefixLimits(buckets, acceptRate),
	}
	if rate := c.Limits.RelayRate; rate > 0 {
		s.relayInterval = nanosPer64K(uint64(rate))
		s.relayDepth = int64(c.Limits.RelayBurst) * s.relayInterval >> 16
	}
	s.egress.init(uint64(max(0, c.Limits.TotalRate)), &s.stats)
	s.registry.init(c.Limits, &s.stats, started, s.random, s.egress.post)
	s.conns.init(c.Limits)
	return s, nil
}

// nano is a time on the server's clock.
func (s *Server) nano(now time.Time) int64 { return int64(now.Sub(s.started)) }

func (s *Server) random() uint32 {
	var b [4]byte
	_, _ = io.ReadFull(s.cfg.Random, b[:])
	return binary.BigEndian.Uint32(b[:])
}

// relayKbit is the relay rate as the welcome tells it.
func (s *Server) relayKbit() uint32 {
	return uint32(min(max(s.cfg.Limits.RelayRate, 0)/1000, 1<<32-1))
}

// Handle takes what arrived on a socket that the caller reads: one datagram of m, or the whole train (m.Buf[:m.N] with m.Segment). It takes hellos,
// registers, control and relay datagrams of clients and STUN Binding requests; everything else is counted and dropped. It does not block and keeps
// nothing of the datagram, but it may write into it. Run must be running.
func (s *Server) Handle(now time.Time, m *underlay.Message, datagram []byte, via underlay.Socket) {
	segment := m.Segment
	if segment >= len(datagram) {
		segment = 0
	}
	at := from(m, via)
	s.take(now, &at, m, datagram, segment, nil)
}

// take takes a datagram or train apart.
func (s *Server) take(now time.Time, at *route, m *underlay.Message, b []byte, segment int, out *forwarder) {
	for len(b) > 0 {
		if n := run(b, segment); n > 0 {
			s.relay(s.nano(now), at, b[:n], segment, m.TOS, out)
			b = b[n:]
			continue
		}
		n := len(b)
		if segment > 0 {
			n = min(n, segment)
		}
		if out != nil {
			out.latest.known = false // it may change what is registered
		}
		s.arrived(now, at, hopsOf(m.TTL), b[:n])
		b = b[n:]
	}
}

// unlock ends a change of the registry: the timer loop is woken if it has something to do sooner than it believes.
func (s *Server) unlock() {
	next, more := s.registry.next(), len(s.registry.touched) > 0
	kick := !s.sleeping.IsZero() && (more || !next.IsZero() && next.Before(s.sleeping))
	if s.emptied != nil && len(s.registry.known) == 0 {
		select {
		case <-s.emptied:
		default:
			close(s.emptied)
		}
	}
	s.mu.Unlock()
	if kick {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

// Tick does what is due: repetitions, expiry, news for clients. It returns when it is to be called next, the zero time = after the next change. Run
// calls it; it is there for whoever has a clock of his own.
func (s *Server) Tick(now time.Time) (next time.Time) {
	for {
		s.mu.Lock()
		more := s.registry.work(now, timersAtOnce)
		more = s.registry.tick(now, timersAtOnce) || more || len(s.registry.touched) > 0
		next = s.registry.next()
		s.unlock()
		if !more {
			return next
		}
	}
}

// Run does the work that is not done in Handle, until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	var all sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), maxWorkers) {
		all.Go(func() { s.work(ctx) })
	}
	all.Go(func() { s.egress.run(ctx, func() int64 { return s.nano(time.Now()) }) })
	all.Go(func() { s.timers(ctx) })
	all.Wait()
	return nil
}

// work does the Diffie-Hellman of registers.
func (s *Server) work(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case a := <-s.applications:
			s.register(time.Now(), &a)
		}
	}
}

// timers calls Tick when something is due.
func (s *Server) timers(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		s.Tick(time.Now())
		s.mu.Lock()
		next := s.registry.next()
		if next.IsZero() {
			next = time.Now().Add(time.Hour)
		}
		busy := len(s.registry.touched) > 0
		s.sleeping = next
		s.mu.Unlock()
		if wait := time.Until(next); wait > 0 && !busy {
			timer.Reset(wait)
			select {
			case <-ctx.Done():
			case <-s.wake:
			case <-timer.C:
			}
		}
		s.mu.Lock()
		s.sleeping = time.Time{}
		s.mu.Unlock()
	}
}

// Review asks Config.Admit again about every client, and ends the registrations of those that it no longer lets in.
func (s *Server) Review() {
	if s.cfg.Admit == nil {
		return
	}
	s.mu.RLock()
	asked := make(map[uint32]nodeAddress)
	for _, slot := range s.registry.slots {
		if c := slot.client; c != nil {
			asked[c.session] = c.address
		}
	}
	s.mu.RUnlock()
	for session, address := range asked {
		if s.cfg.Admit(netip.AddrFrom16(address)) {
			continue
		}
		s.mu.Lock()
		if c := s.registry.find(session); c != nil {
			s.registry.remove(time.Now(), c)
		}
		s.unlock()
	}
}

// Alive returns nil when the Server still gets to its work before ctx ends.
func (s *Server) Alive(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		s.Gauges() // needs every lock
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
