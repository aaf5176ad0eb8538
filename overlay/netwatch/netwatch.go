// Package netwatch follows this host's interfaces and addresses by netlink events, tells of changes of them and of the
// routes, and looks up the route to an address.
//
// It sees the network namespace of the process, which is expected to live in one.
package netwatch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const (
	// receiveBuffer holds about a thousand events, in bytes; more at once are made up for by looking at everything anew.
	receiveBuffer = 1 << 20

	// pause is how long changes are gathered after one was told; retry is how long to wait after a failure.
	pause = 20 * time.Millisecond
	retry = time.Second
)

// Interface is a network interface as it was at one moment.
type Interface struct {
	Index        int
	Name         string
	MTU          int  // bytes
	Up           bool // switched on, and with a carrier
	Loopback     bool
	Multicast    bool
	PointToPoint bool

	// Addrs are the usable addresses, in order, each with the length of its network: without those not yet or no longer
	// in use (tentative, duplicate, deprecated). Link-local addresses carry no zone.
	Addrs []netip.Prefix
}

// Watcher keeps an up-to-date list of the interfaces. Snapshot and Changes are safe for concurrent use.
type Watcher struct {
	log      *slog.Logger
	socket   *nl.NetlinkSocket
	snapshot atomic.Pointer[[]Interface]
	changes  chan struct{}

	// What the receiver saw since the last look, and the signal to look.
	interfacesStale atomic.Bool
	routesChanged   atomic.Bool
	look            chan struct{}
}

// New subscribes to the kernel's events and takes the first snapshot.
func New(log *slog.Logger) (*Watcher, error) {
	// One socket for all, so that one overflow tells of all losses. Subscribing comes before looking: nothing is missed.
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
		unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("cannot watch the network interfaces: %w", err)
	}
	if socket.SetReceiveBufferSize(receiveBuffer, true) != nil {
		// Without privilege the kernel's limit must do.
		_ = socket.SetReceiveBufferSize(receiveBuffer, false)
	}
	w := &Watcher{log: log, socket: socket, changes: make(chan struct{}, 1), look: make(chan struct{}, 1)}
	interfaces, err := list()
	if err != nil {
		socket.Close()
		return nil, err
	}
	w.snapshot.Store(&interfaces)
	return w, nil
}

// Snapshot returns the interfaces in order of their index. It costs nothing; the result is shared and must not be changed.
func (w *Watcher) Snapshot() []Interface {
	return *w.snapshot.Load()
}

// Changes receives a value after the snapshot or a route changed. Changes that come while one is untaken are not told again.
func (w *Watcher) Changes() <-chan struct{} {
	return w.changes
}

// Run follows the events until ctx ends, and returns nil then. It can be called once.
func (w *Watcher) Run(ctx context.Context) error {
	defer w.socket.Close()
	defer context.AfterFunc(ctx, w.socket.Close)()
	receiver := make(chan error, 1)
	go func() { receiver <- w.receive() }()
	for {
		select {
		case err := <-receiver:
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("cannot watch the network interfaces any longer: %w", err)
		case <-w.look:
		}
		wait := pause
		if err := w.refresh(); err != nil {
			w.log.Warn("the network interfaces cannot be listed: changes are noticed late", "err", err, "retry", retry)
			w.stale()
			wait = retry
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// receive notes what changes until the socket is closed.
func (w *Watcher) receive() error {
	for {
		messages, from, err := w.socket.Receive()
		switch {
		case errors.Is(err, unix.ENOBUFS):
			w.log.Debug("netlink events were lost, looking at everything anew")
			w.stale()
			w.rerouted()
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		case from.Pid == nl.PidKernel:
			for _, m := range messages {
				w.note(m)
			}
		}
	}
}

func (w *Watcher) note(m syscall.NetlinkMessage) {
	switch m.Header.Type {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK, unix.RTM_NEWADDR, unix.RTM_DELADDR:
		w.stale()
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		if matters(m.Data) {
			w.rerouted()
		}
	}
}

func (w *Watcher) stale() {
	w.interfacesStale.Store(true)
	signal(w.look)
}

func (w *Watcher) rerouted() {
	w.routesChanged.Store(true)
	signal(w.look)
}

// refresh brings the snapshot up to date and tells of changes.
func (w *Watcher) refresh() error {
	changed := false
	if w.interfacesStale.Swap(false) {
		interfaces, err := list()
		if err != nil {
			return err
		}
		if !slices.EqualFunc(interfaces, w.Snapshot(), Interface.equal) {
			w.snapshot.Store(&interfaces)
			changed = true
		}
	}
	if w.routesChanged.Swap(false) {
		changed = true
	}
	if changed {
		signal(w.changes)
	}
	return nil
}

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (i Interface) equal(j Interface) bool {
	return i.Index == j.Index && i.Name == j.Name && i.MTU == j.MTU && i.Up == j.Up && i.Loopback == j.Loopback &&
		i.Multicast == j.Multicast && i.PointToPoint == j.PointToPoint && slices.Equal(i.Addrs, j.Addrs)
}

// list asks the kernel for all interfaces and addresses.
func list() ([]Interface, error) {
	links, err := dump(netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("cannot list the network interfaces: %w", err)
	}
	addresses, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("cannot list the network addresses: %w", err)
	}
	byLink := make(map[int][]netip.Prefix)
	for _, a := range addresses {
		if p, ok := usable(a); ok {
			byLink[a.LinkIndex] = append(byLink[a.LinkIndex], p)
		}
	}
	interfaces := make([]Interface, 0, len(links))
	for _, link := range links {
		a := link.Attrs()
		addrs := byLink[a.Index]
		slices.SortFunc(addrs, netip.Prefix.Compare)
		interfaces = append(interfaces, Interface{
			Index: a.Index,
			Name:  a.Name,
			MTU:   a.MTU,
			// Not IFF_RUNNING: the kernel sets that up to a second after the carrier came.
			Up:           a.RawFlags&unix.IFF_UP != 0 && a.RawFlags&unix.IFF_LOWER_UP != 0,
			Loopback:     a.RawFlags&unix.IFF_LOOPBACK != 0,
			Multicast:    a.RawFlags&unix.IFF_MULTICAST != 0,
			PointToPoint: a.RawFlags&unix.IFF_POINTOPOINT != 0,
			Addrs:        addrs,
		})
	}
	slices.SortFunc(interfaces, func(i, j Interface) int { return i.Index - j.Index })
	return slices.Clip(interfaces), nil
}

func usable(a netlink.Addr) (netip.Prefix, bool) {
	if a.IPNet == nil || a.Flags&(unix.IFA_F_DADFAILED|unix.IFA_F_DEPRECATED) != 0 ||
		a.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_OPTIMISTIC) == unix.IFA_F_TENTATIVE {
		return netip.Prefix{}, false
	}
	ip, ok := netip.AddrFromSlice(a.IP)
	bits, _ := a.Mask.Size()
	return netip.PrefixFrom(ip, bits), ok
}

// dump repeats a netlink dump that a change interrupted. After a few times the answer is taken as it is: the change
// announces itself.
func dump[T any](f func() ([]T, error)) ([]T, error) {
	for try := 0; ; try++ {
		all, err := f()
		switch {
		case !errors.Is(err, netlink.ErrDumpInterrupted):
			return all, err
		case try == 5:
			return all, nil
		}
	}
}
