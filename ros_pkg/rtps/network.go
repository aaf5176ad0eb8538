package rtps

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/netwatch"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/machine"
)

// joinRetry is when to try again to join a group that could not be joined.
const joinRetry = 5 * time.Second

// network is the sockets: per family one for the groups and two for unicast, as the well-known ports want it.
type network struct {
	log       *slog.Logger
	ports     machine.Ports
	index     int
	multicast bool
	localhost bool
	watcher   *netwatch.Watcher

	sending sync.Mutex // keeps the order of datagrams
	outbox  *outbox
	sockets []*socket  // for discovery
	out     [2]*direct // by family, IPv6 second: for samples; all datagrams leave from here
	groups  [2]*socket

	joined map[membership]bool
	warned map[string]bool
	unsent uint64
}

type membership struct {
	index int
	six   bool
}

// openNetwork binds to the ports of the first participant index of which all are free.
func openNetwork(config Config) (*network, error) {
	n := &network{
		log: config.Log, multicast: config.Multicast, localhost: config.Interfaces == LocalhostOnly,
		joined: make(map[membership]bool), warned: make(map[string]bool), outbox: new(outbox),
	}
	var err error
	for index := 0; index <= machine.MaxIndex; index++ {
		ports := machine.WellKnown(config.Domain, index)
		if err = n.bind(ports); err == nil {
			n.index, n.ports = index, ports
			break
		}
		n.close()
		if !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	if err != nil {
		if errors.Is(err, syscall.EADDRINUSE) {
			err = fmt.Errorf("%w: all %d participant indices of domain %d are taken on this host: end some, or use another domain", err, machine.MaxIndex+1, config.Domain)
		}
		return nil, fmt.Errorf("cannot open the UDP ports of DDS: %w", err)
	}
	if n.watcher, err = netwatch.New(config.Log); err != nil {
		n.close()
		return nil, err
	}
	return n, nil
}

// bind opens the sockets of one participant index. A family that the host does not have is left out.
func (n *network) bind(ports machine.Ports) error {
	for _, six := range []bool{false, true} {
		if six && n.localhost {
			continue
		}
		user, err := openDirect(six, ports.User, n.localhost, runtime.GOMAXPROCS(0) == 1)
		if errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EADDRNOTAVAIL) {
			continue
		}
		if err != nil {
			return err
		}
		n.out[family(six)] = user
		meta, err := listen(six, ports.Meta, n.localhost, false)
		if err != nil {
			return err
		}
		n.sockets = append(n.sockets, meta)
		if n.multicast {
			group, err := listen(six, ports.Multicast, false, true)
			if err != nil {
				return err
			}
			n.sockets = append(n.sockets, group)
			n.groups[family(six)] = group
		}
	}
	if len(n.sockets) == 0 {
		return syscall.EAFNOSUPPORT
	}
	return nil
}

func family(six bool) int {
	if six {
		return 1
	}
	return 0
}

func (n *network) close() {
	for _, s := range n.sockets {
		s.conn.Close()
	}
	for _, d := range n.out {
		if d != nil {
			d.close()
		}
	}
	n.sockets, n.out, n.groups = nil, [2]*direct{}, [2]*socket{}
}

// run receives and keeps time until ctx ends.
func (n *network) run(ctx context.Context, p *Participant) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var all sync.WaitGroup
	failed := make(chan error, 1)
	all.Go(func() {
		if err := n.watcher.Run(ctx); err != nil {
			select {
			case failed <- err:
			default:
			}
		}
	})
	n.look(p)
	p.do(func(now time.Time) { p.machine.Start(now) })
	for _, s := range n.sockets {
		all.Go(func() { n.receive(ctx, p, s) })
	}
	for _, d := range n.out {
		if d != nil {
			all.Go(func() { n.receiveDirect(ctx, p, d) })
		}
	}
	err := n.keepTime(ctx, p, failed)
	p.do(func(now time.Time) { p.machine.Farewell(now) })
	cancel()
	p.calls.release()
	for _, s := range n.sockets {
		s.conn.Close()
	}
	for _, d := range n.out {
		if d != nil {
			d.stop()
		}
	}
	all.Wait()
	n.sending.Lock()
	n.close()
	n.sending.Unlock()
	return err
}

// keepTime ticks, and follows the interfaces.
func (n *network) keepTime(ctx context.Context, p *Participant, failed <-chan error) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	retry := time.NewTimer(joinRetry)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case <-n.watcher.Changes():
			n.look(p)
		case <-retry.C:
			n.join(n.watcher.Snapshot())
			retry.Reset(joinRetry)
		case <-p.wake:
		case <-timer.C:
		}
		p.mu.Lock()
		before := p.machine.Next()
		now := time.Now()
		if !before.IsZero() && !before.After(now) {
			p.machine.Tick(now)
			before = time.Time{}
		}
		next := p.machine.Next()
		p.finish(next, true)
		if next.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(next))
		}
	}
}

// look tells the machine of the interfaces as they are now.
func (n *network) look(p *Participant) {
	snapshot := n.watcher.Snapshot()
	var list []machine.Interface
	var own []netip.Addr
	for _, i := range snapshot {
		if !i.Up {
			continue
		}
		l := machine.Interface{Index: i.Index, Name: i.Name, Loopback: i.Loopback, Multicast: i.Multicast}
		for _, a := range i.Addrs {
			if n.localhost && !a.Addr().Is4() || n.out[family(a.Addr().Is6())] == nil {
				continue
			}
			l.Addrs = append(l.Addrs, a)
			own = append(own, a.Addr().WithZone(""))
		}
		list = append(list, l)
	}
	n.join(snapshot)
	p.mu.Lock()
	if p.machine.Changed(list) {
		n.guard(own)
		before := p.machine.Next()
		p.machine.SetInterfaces(time.Now(), list)
		p.finish(before, true)
	} else {
		p.mu.Unlock()
	}
}

// join joins the groups on the interfaces that are there, and forgets those that are gone. It is called by one goroutine.
func (n *network) join(snapshot []netwatch.Interface) {
	if !n.multicast {
		return
	}
	wanted := make(map[membership]bool)
	for _, i := range snapshot {
		if !i.Up || !i.Multicast && !i.Loopback || n.localhost && !i.Loopback {
			continue
		}
		for _, a := range i.Addrs {
			if six := a.Addr().Is6(); n.groups[family(six)] != nil && !(six && i.Loopback) {
				wanted[membership{i.Index, six}] = true
			}
		}
	}
	for m := range n.joined {
		if !wanted[m] {
			delete(n.joined, m)
			_ = n.groups[family(m.six)].leave(m.index) // fails if the interface is gone, and with it the membership
		}
	}
	for m := range wanted {
		if n.joined[m] {
			continue
		}
		if err := n.groups[family(m.six)].join(m.index); err != nil {
			n.warn("join", "participants are not heard by multicast on an interface", "interface", m.index, "ipv6", m.six, "error", err,
				"fix", "check with `ip maddr` that the interface can do multicast, or raise net.ipv4.igmp_max_memberships")
			continue
		}
		n.joined[m] = true
	}
}

// warn logs a kind of trouble once.
func (n *network) warn(kind, text string, args ...any) {
	if !n.warned[kind] {
		n.warned[kind] = true
		n.log.Warn(text, args...)
	}
}

// receive hands datagrams to the machine until the socket is closed.
func (n *network) receive(ctx context.Context, p *Participant, s *socket) {
	buf, oob := make([]byte, 1<<16), make([]byte, 256)
	for {
		p.calls.room()
		size, a, err := s.read(buf, oob)
		if err != nil {
			if errors.Is(err, net.ErrClosed) || ctx.Err() != nil {
				return
			}
			// An ICMP error of an earlier datagram, or no memory: the next call may succeed.
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Millisecond):
			}
			continue
		}
		p.mu.Lock()
		before := p.machine.Next()
		p.machine.HandleDatagram(time.Now(), buf[:size], a)
		p.finish(before, true)
	}
}

// receiveDirect hands datagrams for the port of samples to the machine until the socket is stopped.
func (n *network) receiveDirect(ctx context.Context, p *Participant, d *direct) {
	in := newInbox()
	for {
		p.calls.room()
		count, err := d.read(in)
		if err != nil {
			if errors.Is(err, os.ErrClosed) || ctx.Err() != nil {
				return
			}
			if !errors.Is(err, syscall.EINTR) {
				time.Sleep(time.Millisecond) // no memory, perhaps
			}
			continue
		}
		p.mu.Lock()
		before, now := p.machine.Next(), time.Now()
		for i := range count {
			b, a := d.at(in, i)
			p.machine.HandleDatagram(now, b, a)
		}
		p.finish(before, true)
	}
}

// send sends in order; n.sending is held. What cannot be sent is lost, like much else in a network.
func (n *network) send(ds []machine.Datagram) {
	for len(ds) > 0 {
		six := ds[0].To.Addr().Is6()
		count := 1
		for count < len(ds) && ds[count].To.Addr().Is6() == six {
			count++
		}
		if d := n.out[family(six)]; d != nil {
			failed, err := d.write(n.outbox, ds[:count])
			if failed > 0 {
				if n.unsent == 0 && !gone(err) {
					n.log.Debug("a datagram could not be sent (told once)", "to", ds[0].To, "error", err)
				}
				n.unsent += uint64(failed)
			}
		}
		ds = ds[count:]
	}
}
