package multicast

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/socket"
)

// Config is what Run needs. All but Changed must be set.
type Config struct {
	// Address is this host's own overlay address, Interface the overlay's network interface.
	Address   netip.Addr
	Interface string
	// Peers returns all whitelisted peers, IPv4 this host's IPv4 address on the interface, not valid if there is none. They
	// are asked at the start, after every value of Changed, and now and then.
	Peers   func() []Peer
	IPv4    func() netip.Addr
	Changed <-chan struct{}
	// Forwarder is kept up to date, and forwards nothing any more when Run returns.
	Forwarder *Forwarder
	Log       *slog.Logger
}

const (
	// pollEvery is for what no report told of: those of an interface without link-local address may not be sent.
	pollEvery = 2 * time.Second
	// settle is how long after a report the kernel's list is read.
	settle    = 5 * time.Millisecond
	readAhead = 16
)

type arrival struct {
	from netip.AddrPort
	b    []byte
}

type runner struct {
	Config
	machine *machine
	socket  *socket.UDP
	failed  bool
}

// Run keeps up who has joined which group, until the context ends; then it returns nil. An error tells what keeps it from working.
func Run(ctx context.Context, c Config) error {
	var random [4]byte
	if _, err := rand.Read(random[:]); err != nil {
		return fmt.Errorf("multicast: no random numbers: %w", err)
	}
	s, err := socket.Listen(ctx, netip.AddrPortFrom(c.Address, Port), c.Interface, 0)
	if err != nil {
		return fmt.Errorf("multicast: %w", err)
	}
	r := &runner{Config: c, machine: newMachine(c.Address, binary.BigEndian.Uint32(random[:])|1), socket: s}
	arrivals := make(chan arrival, readAhead)
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.read(ctx, arrivals)
	}()
	c.Log.Info("multicast passes between peers", "interface", c.Interface, "port", Port)
	r.loop(ctx, arrivals)
	c.Forwarder.table.Store(nil)
	s.Close()
	<-done
	return nil
}

// loop is the only one to touch the machine.
func (r *runner) loop(ctx context.Context, arrivals <-chan arrival) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var nextPoll time.Time
	for {
		now := time.Now()
		if !now.Before(nextPoll) {
			r.poll(now)
			nextPoll = now.Add(pollEvery)
		}
		r.machine.tick(now)
		r.flush()
		wake := nextPoll
		if next := r.machine.next(); !next.IsZero() && next.Before(wake) {
			wake = next
		}
		timer.Reset(max(0, wake.Sub(now)))
		select {
		case <-ctx.Done():
			return
		case a := <-arrivals:
			r.machine.message(time.Now(), a.from, a.b)
		case <-r.Forwarder.changed:
			if soon := time.Now().Add(settle); nextPoll.After(soon) {
				nextPoll = soon
			}
		case <-r.Changed:
			nextPoll = time.Time{}
		case <-timer.C:
		}
	}
}

// poll asks for all that may have changed.
func (r *runner) poll(now time.Time) {
	r.machine.setIPv4(r.IPv4())
	r.machine.setPeers(now, r.Peers())
	list, err := readGroups(r.Interface)
	if err != nil && !r.failed {
		r.Log.Warn("multicast: nobody learns which groups are joined here", "err", err, "fix", "mount /proc where hnetd runs")
	}
	if r.failed = err != nil; err == nil {
		r.machine.setGroups(now, list)
	}
}

// flush hands over what the machine has decided.
func (r *runner) flush() {
	if t := r.machine.table(); t != nil {
		r.Forwarder.table.Store(t)
	}
	for _, d := range r.machine.out {
		if err := r.socket.Write(d.payload, netip.AddrPortFrom(d.to, Port)); err != nil {
			r.Log.Debug("multicast: not sent", "to", d.to, "err", err)
		}
	}
	r.machine.out = nil
}

// readGroups reads what is joined on an interface. A kernel without one of the families lists none of its groups.
func readGroups(name string) (list []netip.Addr, err error) {
	for _, source := range []struct {
		file  string
		parse func([]netip.Addr, io.Reader, string) ([]netip.Addr, error)
	}{{"/proc/net/igmp6", parseIGMP6}, {"/proc/net/igmp", parseIGMP}} {
		f, err := os.Open(source.file)
		if errors.Is(err, os.ErrNotExist) && source.file != "/proc/net/igmp6" {
			continue
		} else if err != nil {
			return nil, err
		}
		list, err = source.parse(list, f, name)
		f.Close()
		if err != nil {
			return nil, err
		}
	}
	return list, nil
}

// read passes on what comes to the socket.
func (r *runner) read(ctx context.Context, arrivals chan<- arrival) {
	b := make([]byte, MaxMessage)
	for {
		n, from, err := r.socket.Read(b)
		if err != nil {
			return
		}
		select {
		case arrivals <- arrival{from, append([]byte(nil), b[:n]...)}:
		case <-ctx.Done():
			return
		}
	}
}
