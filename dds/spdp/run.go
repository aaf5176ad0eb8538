package spdp

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/socket"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// Config is what Run needs.
type Config struct {
	// Address is this host's own overlay address, Interface the overlay's network interface.
	Address   netip.Addr
	Interface string
	// Peers returns all whitelisted peers. It is asked at the start, after every value of Changed, and now and then.
	Peers   func() []Peer
	Changed <-chan struct{} // may be nil
	// IPv4 returns this host's IPv4 address on the interface, not valid if there is none; nil: there never is. It is asked when Peers is.
	IPv4 func() netip.Addr
	// Leaving announces peers that are about to leave the whitelist; may be nil.
	Leaving <-chan Leaving
	// Release is of this host's participants (see [DetectRelease]) but those whose program tells another, which is looked
	// for only if Detect is true. Mixed lets those of different releases meet.
	Release Release
	Detect  bool
	Mixed   bool
	Log     *slog.Logger
	// Guard is kept up to date, if it is not nil.
	Guard *Guard
	// Stats gets the counters now and then, if it is not nil; it must not block.
	Stats func(Stats)
}

// Leaving is a peer that is about to leave the whitelist. Done is closed when that may happen, a fraction of a second later
// at most: its participants are gone here, and ours there.
type Leaving struct {
	Peer netip.Addr
	Done chan<- struct{}
}

const (
	scanBusy  = time.Second // how soon the end of a killed participant is noticed
	scanIdle  = 5 * time.Second
	scanSoon  = 100 * time.Millisecond // after a newcomer
	peersPoll = 10 * time.Second
	bindAgain = 2 * time.Second
	// readAhead bounds the datagrams that wait for the machine; the kernel holds more.
	readAhead     = 32
	maxLeaving    = 64
	leaveWithin   = 300 * time.Millisecond
	receiveBuffer = 1 << 20
	maxDatagram   = 9216
)

// arrival is a datagram on its way to the machine.
type arrival struct {
	local bool
	from  netip.AddrPort
	b     []byte
}

type runner struct {
	Config
	machine     *Machine
	local, peer *socket.UDP
	local4      *socket.UDP // nil without an IPv4 address
	four        netip.Addr
	four4       time.Time // when to try to listen there again
	leaving     []leaving
	barred      uint64 // told of
	arrivals    chan arrival
	free        chan []byte
	scanFailed  bool
}

type leaving struct {
	Leaving
	until time.Time
}

// Run relays until the context ends, and then returns nil. While a port is taken it tries again, and says so once. An
// error tells what keeps it from ever working.
func Run(ctx context.Context, c Config) error {
	r := &runner{Config: c, arrivals: make(chan arrival, readAhead), free: make(chan []byte, readAhead)}
	var random [4 + 10]byte
	if _, err := rand.Read(random[:]); err != nil {
		return fmt.Errorf("DDS discovery relay: no random numbers: %w", err)
	}
	// Not 01 0f, which Fast DDS takes for its own.
	probe := wire.GuidPrefix{ownVendor[0], ownVendor[1]}
	copy(probe[2:], random[4:])
	r.machine = New(time.Now(), Options{
		Address: c.Address, Run: binary.BigEndian.Uint32(random[:]) | 1, Probe: probe, Release: c.Release, Detect: r.detector(), Mixed: c.Mixed,
	})
	r.whereabouts()
	var err error
	if r.local, err = r.bind(ctx, LocalPort); err != nil || r.local == nil {
		return err
	}
	defer r.local.Close()
	if r.peer, err = r.bind(ctx, PeerPort); err != nil || r.peer == nil {
		return err
	}
	defer r.peer.Close()
	defer func() { r.listenFour(ctx, netip.Addr{}) }()
	for _, s := range r.listenLoopback(ctx) {
		defer s.Close()
		go r.read(ctx, s, true)
	}
	go r.read(ctx, r.local, true)
	go r.read(ctx, r.peer, false)
	r.Log.Info("DDS discovery relay runs", "local", netip.AddrPortFrom(c.Address, LocalPort), "peers", netip.AddrPortFrom(c.Address, PeerPort), "release", c.Release)
	r.loop(ctx)
	return nil
}

// loop is the only one to touch the machine.
func (r *runner) loop(ctx context.Context) {
	defer func() {
		for _, l := range r.leaving {
			close(l.Done)
		}
	}()
	r.askPeers(ctx)
	r.scan()
	timer := time.NewTimer(0)
	defer timer.Stop()
	nextScan, nextPeers := time.Now().Add(scanBusy), time.Now().Add(peersPoll)
	for {
		r.flush()
		now := time.Now()
		if soon := now.Add(scanSoon); r.machine.Unseen() && nextScan.After(soon) {
			nextScan = soon
		}
		wake := nextScan
		if left := r.bidFarewell(now); !left.IsZero() && left.Before(wake) {
			wake = left
		}
		for _, t := range []time.Time{nextPeers, r.machine.Next(now)} {
			if !t.IsZero() && t.Before(wake) {
				wake = t
			}
		}
		timer.Reset(max(0, wake.Sub(now)))
		select {
		case <-ctx.Done():
			return
		case a := <-r.arrivals:
			r.take(a)
			for range len(r.arrivals) {
				r.take(<-r.arrivals)
			}
		case <-r.Changed:
			r.askPeers(ctx)
		case l := <-r.Leaving:
			if len(r.leaving) >= maxLeaving {
				close(l.Done)
				continue
			}
			now = time.Now()
			r.machine.Leave(now, l.Peer)
			r.leaving = append(r.leaving, leaving{l, now.Add(leaveWithin)})
		case <-timer.C:
			if now = time.Now(); !now.Before(nextPeers) {
				r.askPeers(ctx)
				nextPeers = now.Add(peersPoll)
				r.tellBarred()
				if r.Stats != nil {
					r.Stats(r.machine.Stats())
				}
			}
			if !now.Before(nextScan) {
				r.scan()
				nextScan = now.Add(scanIdle)
				if r.machine.Locals() > 0 {
					nextScan = now.Add(scanBusy)
				}
			}
			r.machine.Tick(now)
		}
	}
}

// tellBarred warns of a peer that speaks for others' participants, once in a while.
func (r *runner) tellBarred() {
	if r.Guard == nil {
		return
	}
	n := r.Guard.Barred()
	if last := r.Guard.last.Load(); n > r.barred && last != nil {
		r.Log.Warn("a peer sends DDS messages in the name of participants that are not its own; they are dropped", "peer", *last, "packets", n-r.barred,
			"fix", "find out what runs there, or take it off the whitelist: hnet whitelist rm "+last.String())
	}
	r.barred = n
}

// askPeers asks for all that may have changed.
func (r *runner) askPeers(ctx context.Context) {
	four, peers := r.whereabouts()
	if r.IPv4 != nil {
		r.listenFour(ctx, four)
	}
	r.machine.SetPeers(time.Now(), peers)
}

// whereabouts asks for this host's IPv4 address and for the peers, which the guard is told of.
func (r *runner) whereabouts() (four netip.Addr, peers []Peer) {
	if r.IPv4 != nil {
		four = r.IPv4()
	}
	peers = r.Peers()
	if r.Guard != nil {
		r.Guard.settle(place{six: r.Address, four: four}, peers)
	}
	return four, peers
}

// bidFarewell lets go the peers that have heard that they leave, or do not answer. It returns when to look again.
func (r *runner) bidFarewell(now time.Time) (next time.Time) {
	r.leaving = slices.DeleteFunc(r.leaving, func(l leaving) bool {
		if r.machine.Left(l.Peer) || !now.Before(l.until) {
			close(l.Done)
			return true
		}
		if next.IsZero() || l.until.Before(next) {
			next = l.until
		}
		return false
	})
	return next
}

func (r *runner) take(a arrival) {
	if a.local {
		r.machine.Local(time.Now(), a.from, a.b)
	} else {
		r.machine.Remote(time.Now(), a.from, a.b)
	}
	select {
	case r.free <- a.b[:cap(a.b)]:
	default:
	}
}

// flush sends what the machine wants sent. What cannot be sent is as lost on the way.
func (r *runner) flush() {
	if r.Guard != nil {
		if owners, changed := r.machine.Owners(); changed {
			r.Guard.set(owners)
		}
	}
	for _, d := range r.machine.Out() {
		s := r.peer
		if d.Local {
			s = r.local
		}
		if d.To.Addr().Is4() {
			if s = r.local4; s == nil {
				continue
			}
		}
		if err := s.Write(d.Payload, d.To); err != nil && !errors.Is(err, net.ErrClosed) {
			r.Log.Debug("DDS discovery relay: not sent", "to", d.To, "err", err)
		}
	}
}

// scan gives the machine the list of this host's sockets.
func (r *runner) scan() {
	list, err := r.sockets()
	if err != nil {
		if !r.scanFailed {
			r.Log.Warn("DDS discovery relay: programs that were killed are noticed late, and those without the relay's profile not at all", "err", err,
				"fix", "mount /proc where hnetd runs")
		}
		r.scanFailed = true
		return
	}
	r.scanFailed = false
	r.machine.Sockets(time.Now(), list)
}

// sockets lists those that receive at the overlay addresses.
func (r *runner) sockets() ([]Socket, error) {
	list, err := listSockets("/proc/net/udp6", r.Address)
	if err != nil || !r.four.IsValid() {
		return list, err
	}
	four, err := listSockets("/proc/net/udp", r.four)
	return append(list, four...), err
}

func listSockets(name string, own netip.Addr) ([]Socket, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parseSockets(f, own)
}

// detector finds out the release of the program at a port; nil if that is not wanted.
func (r *runner) detector() func(uint16) Release {
	if !r.Detect {
		return nil
	}
	proc := os.DirFS("/proc")
	return func(port uint16) Release {
		list, err := r.sockets()
		if err != nil {
			return Unknown
		}
		var inodes []uint64
		for _, s := range list {
			if s.Port == port {
				inodes = append(inodes, s.Inode)
			}
		}
		found := originOf(proc, inodes)
		r.Log.Debug("DDS discovery relay: a program came", "port", port, "release", found)
		return found
	}
}
