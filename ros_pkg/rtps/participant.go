package rtps

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/machine"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// Config describes a participant. The zero value is one of domain 0 on all interfaces without multicast.
type Config struct {
	Domain   int    // 0 to 232
	Name     string // shown by tools; may be empty
	Enclave  string // of ROS: makes the user data "enclave=NAME;" where UserData is nil
	UserData []byte
	Prefix   *wire.GuidPrefix // nil = random; must not begin 01 0f

	Interfaces  Policy
	StaticPeers []netip.Addr // hosts to look for participants on by unicast
	PeerIndices int          // participant indices tried on each of them; 0 means 10
	Multicast   bool         // announce to the groups

	Log        *slog.Logger // nil = slog.Default
	MaxMessage int          // longest UDP payload to other hosts, in bytes; 0 means 1,200: Fast DDS with our profile cuts off what is longer
	MaxSample  int          // longest sample read or written, in bytes; 0 means 64 MiB
	Lease      time.Duration
	Limits     Limits
}

// Participant is a member of a domain. Its methods may be called from several goroutines at once, callbacks included.
type Participant struct {
	config Config
	log    *slog.Logger
	net    *network // nil with Off

	mu      sync.Mutex
	machine *machine.Machine
	closed  bool
	wake    chan struct{} // the timer loop has to look anew

	calls dispatcher
}

// New opens the sockets, on ports of the first participant index that is free, in the network namespace of the calling
// thread. Run brings the participant to life; endpoints can be made before.
func New(config Config) (*Participant, error) {
	if config.Domain < 0 || config.Domain > machine.MaxDomain {
		return nil, fmt.Errorf("domain %d is not in 0..%d: set ROS_DOMAIN_ID accordingly", config.Domain, machine.MaxDomain)
	}
	if config.Log == nil {
		config.Log = slog.Default()
	}
	if config.UserData == nil && config.Enclave != "" {
		config.UserData = []byte("enclave=" + config.Enclave + ";")
	}
	p := &Participant{config: config, log: config.Log, wake: make(chan struct{}, 1)}
	var prefix wire.GuidPrefix
	if config.Prefix != nil {
		prefix = *config.Prefix
	} else {
		rand.Read(prefix[:])
		prefix[0], prefix[1] = 0x01, 0x68 // any but 01 0f, which is Fast DDS's
	}
	if prefix[0] == 1 && prefix[1] == 0x0f {
		return nil, errors.New("the GUID prefix begins 01 0f, by which Fast DDS knows its own: choose another")
	}
	var seed [32]byte
	rand.Read(seed[:])
	c := machine.Config{
		Domain: config.Domain, Prefix: prefix, Name: config.Name, UserData: config.UserData,
		StaticPeers: config.StaticPeers, PeerIndices: config.PeerIndices, Multicast: config.Multicast,
		MaxMessage: config.MaxMessage, MaxSample: config.MaxSample, Lease: config.Lease, Limits: config.Limits,
		Localhost: config.Interfaces == LocalhostOnly, Random: mathrand.New(mathrand.NewChaCha8(seed)), Log: config.Log,
	}
	if config.Interfaces != Off {
		n, err := openNetwork(config)
		if err != nil {
			return nil, err
		}
		p.net = n
		c.Ports, c.Index = n.ports, n.index
	}
	p.machine = machine.New(c)
	return p, nil
}

// GUID is the participant's.
func (p *Participant) GUID() wire.GUID {
	return wire.GUID{Prefix: p.machine.Prefix(), Entity: wire.EntityParticipant}
}

// Index is the participant index, which is unique among the participants of a domain on a host.
func (p *Participant) Index() int {
	if p.net == nil {
		return 0
	}
	return p.net.index
}

// Run announces, receives and answers until ctx ends; it then says goodbye, closes the sockets and returns nil. It can
// be called once.
func (p *Participant) Run(ctx context.Context) error {
	if p.net == nil {
		<-ctx.Done()
	} else if err := p.net.run(ctx, p); err != nil && ctx.Err() == nil {
		p.shut()
		return err
	}
	p.shut()
	return nil
}

// shut refuses what comes after.
func (p *Participant) shut() {
	p.do(func(time.Time) {
		p.closed = true
		p.machine.Close()
	})
}

// do runs f with the machine to itself, and then sends, calls and wakes as it follows from it.
func (p *Participant) do(f func(now time.Time)) {
	p.mu.Lock()
	before := p.machine.Next()
	f(time.Now())
	p.finish(before, false)
}

// finish ends what began with locking mu: it unlocks. The loops make callbacks themselves; other callers may hold locks
// that a callback wants, so a goroutine does it for them.
func (p *Participant) finish(before time.Time, loop bool) {
	next := p.machine.Next()
	out := p.machine.Take()
	p.calls.add(out.Calls)
	if p.net != nil && len(out.Datagrams) > 0 {
		// The order of sending is that of deciding.
		p.net.sending.Lock()
		p.mu.Unlock()
		p.net.send(out.Datagrams)
		p.net.sending.Unlock()
	} else {
		p.mu.Unlock()
	}
	out.Release()
	if !next.IsZero() && (before.IsZero() || next.Before(before)) {
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}
	if loop {
		p.calls.drain()
	} else {
		p.calls.start()
	}
}

// Graph returns what is known of the domain.
func (p *Participant) Graph() Graph {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.machine.Graph()
}

// Subscribe calls f for every change of the graph from now on, in order, like an endpoint's callbacks.
func (p *Participant) Subscribe(f func(GraphEvent)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.machine.Subscribe(f)
}

// Counters returns what has been counted so far.
func (p *Participant) Counters() Counters {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.machine.Counters()
}
