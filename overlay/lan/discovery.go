package lan

import (
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/netwatch"
)

// joinRetry is how long a socket that could not be opened and a group that could not be joined are left alone.
const joinRetry = 15 * time.Second

// maxFailures is the number of failed sends in a row that are tried again and not worth a warning: a new IPv6 address cannot
// be used for the first seconds, and an interface that goes down is still known for a moment.
const maxFailures = 20

// readRetry is the pause after a failed read, lest a lasting failure takes the processor.
const readRetry = 100 * time.Millisecond

// Config says what Discovery needs. Identity and Log are required. The callbacks may be nil; they may be called from two
// goroutines at once, delay reception while they run, and may call any method of Discovery.
type Config struct {
	Identity  *identity.Identity
	Excluded  string // name of the overlay device, which is never used
	LowData   bool   // announce only on changes, on demand and in answer
	Sightings func(Sighting)
	Clones    func(Clone)
	Log       *slog.Logger
}

// Discovery runs a Machine on multicast sockets. Its methods are safe for concurrent use, before and during Run.
type Discovery struct {
	config Config
	wake   chan struct{}

	mu      sync.Mutex
	machine *Machine
	names   map[int]string // of the interfaces last set

	// Of the goroutine in Run alone:
	sockets  map[bool]*socket // by "is IPv6"
	joined   map[membership]bool
	retryAt  map[membership]time.Time // failures and when to try again, not before; index 0 is the socket itself
	failures map[membership]int       // sends that failed in a row
	warned   map[warning]bool
}

// membership is the group of one family joined on one interface.
type membership struct {
	index int
	six   bool
}

// warning names what was warned of once already.
type warning struct {
	membership
	what string
}

// New returns a Discovery that is silent until it runs and has been given interfaces and a record.
func New(c Config) *Discovery {
	return &Discovery{
		config:   c,
		wake:     make(chan struct{}, 1),
		machine:  NewMachine(c.Identity, c.Excluded, c.LowData, systemRandom{}),
		sockets:  make(map[bool]*socket),
		joined:   make(map[membership]bool),
		retryAt:  make(map[membership]time.Time),
		failures: make(map[membership]int),
		warned:   make(map[warning]bool),
	}
}

// systemRandom is the operating system's source of randomness.
type systemRandom struct{}

func (systemRandom) Uint64() uint64 {
	var b [8]byte
	crand.Read(b[:])
	return binary.NativeEndian.Uint64(b[:])
}

// SetInterfaces tells which interfaces exist now, see Machine.SetInterfaces.
func (d *Discovery) SetInterfaces(interfaces []netwatch.Interface) {
	d.mu.Lock()
	d.machine.SetInterfaces(time.Now(), interfaces)
	d.names = make(map[int]string)
	for _, i := range interfaces {
		d.names[i.Index] = i.Name
	}
	d.mu.Unlock()
	d.poke()
}

// SetRecord sets the signed contact record to announce, see Machine.SetRecord.
func (d *Discovery) SetRecord(signed []byte) error {
	d.mu.Lock()
	err := d.machine.SetRecord(time.Now(), signed)
	d.mu.Unlock()
	d.poke()
	return err
}

// Announce asks for an announcement on every link now, or as soon as the rate limit allows.
func (d *Discovery) Announce() {
	d.mu.Lock()
	d.machine.Announce(time.Now())
	d.mu.Unlock()
	d.poke()
}

// Lookup returns the last sightings of an overlay address, see Machine.Lookup.
func (d *Discovery) Lookup(address netip.Addr) []Sighting {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.machine.Lookup(time.Now(), address)
}

func (d *Discovery) poke() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// Run announces and listens until ctx ends, and returns ctx's error. Whatever fails on the way is a warning and tried
// again. The sockets belong to the network namespace of the calling thread.
func (d *Discovery) Run(ctx context.Context) error {
	var readers sync.WaitGroup
	defer func() {
		for _, s := range d.sockets {
			s.conn.Close()
		}
		readers.Wait()
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-d.wake:
		case <-timer.C:
		}
		retry := d.joinGroups(ctx, time.Now(), &readers)
		next := d.tick(time.Now())
		if next.IsZero() || !retry.IsZero() && retry.Before(next) {
			next = retry
		}
		if next.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(next))
		}
	}
}

// tick sends what is due and returns when to tick again.
func (d *Discovery) tick(now time.Time) time.Time {
	d.mu.Lock()
	out := d.machine.Tick(now)
	d.mu.Unlock()
	for _, g := range out {
		d.send(g)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.machine.Next()
}

func (d *Discovery) send(g Datagram) {
	m := membership{g.Interface, g.Source.Is6()}
	s := d.sockets[m.six]
	if s == nil || !d.joined[m] {
		return
	}
	err := s.send(g)
	if err == nil {
		delete(d.failures, m)
		delete(d.warned, warning{m, "send"})
		return
	}
	if d.failures[m]++; d.failures[m] > maxFailures {
		d.warn(m, "send", "cannot announce this host on the LAN", err, sendFix(err))
		return
	}
	d.mu.Lock()
	d.machine.Retry(time.Now(), g.Interface)
	d.mu.Unlock()
}

// joinGroups opens the sockets that are needed, joins and leaves groups as interfaces and addresses came and went, and
// returns when to try again what failed; zero if nothing did.
func (d *Discovery) joinGroups(ctx context.Context, now time.Time, readers *sync.WaitGroup) time.Time {
	wanted := d.memberships()
	for m := range d.joined {
		if !wanted[m] {
			delete(d.joined, m)
			delete(d.failures, m)
			// It fails when the interface is gone, and with it the membership.
			_ = d.sockets[m.six].leave(m.index)
		}
	}
	for m, at := range d.retryAt {
		if !at.After(now) || m.index != 0 && !wanted[m] {
			delete(d.retryAt, m)
		}
	}
	for w := range d.warned {
		if w.index != 0 && !wanted[w.membership] {
			delete(d.warned, w)
		}
	}
	for m := range wanted {
		if s := d.open(ctx, now, m.six, readers); s != nil && !d.joined[m] {
			d.join(now, s, m)
		}
	}
	var retry time.Time
	for _, at := range d.retryAt {
		if retry.IsZero() || at.Before(retry) {
			retry = at
		}
	}
	return retry
}

// memberships returns the groups that ought to be joined.
func (d *Discovery) memberships() map[membership]bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	wanted := make(map[membership]bool)
	for index, l := range d.machine.links {
		for _, p := range l.prefixes {
			wanted[membership{index, p.Addr().Is6()}] = true
		}
	}
	return wanted
}

// open returns the socket of one family, opening it and starting its reader if it is time to.
func (d *Discovery) open(ctx context.Context, now time.Time, six bool, readers *sync.WaitGroup) *socket {
	m := membership{0, six}
	if _, later := d.retryAt[m]; later || d.sockets[six] != nil {
		return d.sockets[six]
	}
	s, err := listen(ctx, six)
	if err != nil {
		d.retryAt[m] = now.Add(joinRetry)
		d.warn(m, "open", "LAN discovery has no socket for this address family", err, openFix(err))
		return nil
	}
	d.sockets[six] = s
	readers.Go(func() { d.receive(ctx, s) })
	return s
}

func (d *Discovery) join(now time.Time, s *socket, m membership) {
	if _, later := d.retryAt[m]; later {
		return
	}
	if err := s.join(m.index); err != nil {
		d.retryAt[m] = now.Add(joinRetry)
		d.warn(m, "join", "peers on this interface are not heard", err, joinFix(err))
		return
	}
	delete(d.warned, warning{m, "join"})
	d.joined[m] = true
}

// receive hands datagrams to the machine and its findings to the callbacks until the socket is closed.
func (d *Discovery) receive(ctx context.Context, s *socket) {
	warned := false
	for {
		in, err := s.read()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			if !warned {
				warned = true
				d.config.Log.Warn("LAN discovery cannot read from its socket", "ipv6", s.six, "error", err,
					"fix", "restart the daemon if peers on the LAN are not found")
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(readRetry):
			}
			continue
		}
		d.handle(in)
	}
}

func (d *Discovery) handle(in arrival) {
	d.mu.Lock()
	before := d.machine.Next()
	sighting, clone := d.machine.HandleDatagram(time.Now(), in.index, in.src, in.payload)
	next := d.machine.Next()
	sooner := !next.Equal(before) && earlier(before, next).Equal(next)
	d.mu.Unlock()
	if sooner {
		d.poke()
	}
	if sighting != nil && d.config.Sightings != nil {
		d.config.Sightings(*sighting)
	}
	if clone != nil && d.config.Clones != nil {
		d.config.Clones(*clone)
	}
}

// warn logs a trouble once until it is over.
func (d *Discovery) warn(m membership, what, text string, err error, fix string) {
	if w := (warning{m, what}); !d.warned[w] {
		d.warned[w] = true
		d.mu.Lock()
		name := d.names[m.index]
		d.mu.Unlock()
		d.config.Log.Warn(text, "interface", name, "ipv6", m.six, "error", err, "fix", fix)
	}
}

func openFix(err error) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "end the program that uses UDP port 5583 (ss -ulpn 'sport = 5583' names it), or set lan_discovery: false"
	case errors.Is(err, syscall.EAFNOSUPPORT):
		return "none needed if this host is meant to do without this address family; else enable it in the kernel"
	default:
		return "check the limits on open files and sockets, or set lan_discovery: false"
	}
}

func joinFix(err error) string {
	switch {
	case errors.Is(err, syscall.ENOBUFS):
		return "raise net.ipv4.igmp_max_memberships, there are more interfaces than it allows"
	case errors.Is(err, syscall.ENOMEM):
		return "raise net.core.optmem_max, there are more interfaces than it allows"
	default:
		return "check with `ip maddr` that the interface can do multicast"
	}
}

func sendFix(err error) string {
	if errors.Is(err, syscall.EPERM) {
		return "let UDP port 5583 out in the firewall's output rules"
	}
	return "check that the interface is up and has a route for its own subnet"
}
