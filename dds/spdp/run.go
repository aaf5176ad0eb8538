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
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

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
	// Release is of this host's participants (see [DetectRelease]); Mixed lets those of different releases meet.
	Release Release
	Mixed   bool
	Log     *slog.Logger
	// Stats gets the counters now and then, if it is not nil; it must not block.
	Stats func(Stats)
}

const (
	scanBusy  = time.Second // how soon the end of a killed participant is noticed
	scanIdle  = 5 * time.Second
	scanSoon  = 100 * time.Millisecond // after a newcomer
	peersPoll = 10 * time.Second
	bindAgain = 2 * time.Second
	// readAhead bounds the datagrams that wait for the machine; the kernel holds more.
	readAhead     = 32
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
	local, peer *socket
	arrivals    chan arrival
	free        chan []byte
	scanFailed  bool
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
		Address: c.Address, Run: binary.BigEndian.Uint32(random[:]) | 1, Probe: probe, Release: c.Release, Mixed: c.Mixed,
	})
	var err error
	if r.local, err = r.bind(ctx, LocalPort); err != nil || r.local == nil {
		return err
	}
	defer r.local.conn.Close()
	if r.peer, err = r.bind(ctx, PeerPort); err != nil || r.peer == nil {
		return err
	}
	defer r.peer.conn.Close()
	go r.read(ctx, r.local, true)
	go r.read(ctx, r.peer, false)
	r.Log.Info("DDS discovery relay runs", "local", netip.AddrPortFrom(c.Address, LocalPort), "peers", netip.AddrPortFrom(c.Address, PeerPort), "release", c.Release)
	r.loop(ctx)
	return nil
}

// loop is the only one to touch the machine.
func (r *runner) loop(ctx context.Context) {
	r.machine.SetPeers(time.Now(), r.Peers())
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
			r.machine.SetPeers(time.Now(), r.Peers())
		case <-timer.C:
			if now = time.Now(); !now.Before(nextPeers) {
				r.machine.SetPeers(now, r.Peers())
				nextPeers = now.Add(peersPoll)
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
	for _, d := range r.machine.Out() {
		s := r.peer
		if d.Local {
			s = r.local
		}
		if _, err := s.conn.WriteToUDPAddrPort(d.Payload, d.To); err != nil && !errors.Is(err, net.ErrClosed) {
			r.Log.Debug("DDS discovery relay: not sent", "to", d.To, "err", err)
		}
	}
}

// scan gives the machine the list of this host's sockets.
func (r *runner) scan() {
	list, err := listSockets(r.Address)
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

func listSockets(own netip.Addr) ([]Socket, error) {
	f, err := os.Open("/proc/net/udp6")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parseSockets(f, own)
}

// read passes on what comes to a socket in a way that it can be believed to come from where it says.
func (r *runner) read(ctx context.Context, s *socket, local bool) {
	oob := make([]byte, 64)
	for ctx.Err() == nil {
		var b []byte
		select {
		case b = <-r.free:
		default:
			b = make([]byte, maxDatagram)
		}
		n, on, flags, from, err := s.conn.ReadMsgUDPAddrPort(b, oob)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			select { // an error of an earlier send, at the most
			case <-ctx.Done():
			case <-time.After(10 * time.Millisecond):
			}
			continue
		}
		if flags&unix.MSG_TRUNC != 0 || !s.believed(oob[:on], r.Interface) {
			continue
		}
		select {
		case r.arrivals <- arrival{local, netip.AddrPortFrom(from.Addr().WithZone(""), from.Port()), b[:n]}:
		case <-ctx.Done():
			return
		}
	}
}

// socket is a UDP socket at the overlay address.
type socket struct {
	conn *net.UDPConn
	raw  syscall.RawConn
	// The interface's index, which changes when it is made anew; looked up again after a datagram came by another.
	index  int
	looked time.Time
}

// bind opens a socket; nil if the context has ended.
func (r *runner) bind(ctx context.Context, port uint16) (*socket, error) {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		e := c.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
			// The address may come and go with the interface.
			if err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_FREEBIND, 1); err == nil {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
			}
		})
		return errors.Join(e, err)
	}}
	told := false
	for {
		c, err := config.ListenPacket(ctx, "udp6", netip.AddrPortFrom(r.Address, port).String())
		switch {
		case err == nil:
			conn := c.(*net.UDPConn)
			raw, err := conn.SyscallConn()
			if err != nil {
				conn.Close()
				return nil, fmt.Errorf("DDS discovery relay: %w", err)
			}
			return &socket{conn: conn, raw: raw}, nil
		case ctx.Err() != nil:
			return nil, nil
		case !errors.Is(err, unix.EADDRINUSE):
			return nil, fmt.Errorf("DDS discovery relay: %w", err)
		case !told:
			told = true
			r.Log.Warn("DDS discovery relay: its port is taken, trying again", "err", err, "fix", fmt.Sprintf("end the program that uses it: ss -ulpn 'sport = %d'", port))
		}
		select {
		case <-ctx.Done():
			return nil, nil
		case <-time.After(bindAgain):
		}
	}
}

// believed says whether a datagram came by the overlay's interface, which the kernel also names for what this host sends
// to its own address there. Any other would let a neighbour on a LAN send in the name of a peer.
func (s *socket) believed(oob []byte, name string) bool {
	index := arrivedBy(oob)
	if index == 0 {
		return false
	}
	if index == s.index {
		return true
	}
	if now := time.Now(); now.Sub(s.looked) > time.Second || s.index == 0 {
		s.looked = now
		_ = s.raw.Control(func(fd uintptr) {
			request, err := unix.NewIfreq(name)
			if err == nil && unix.IoctlIfreq(int(fd), unix.SIOCGIFINDEX, request) == nil {
				s.index = int(request.Uint32())
			}
		})
	}
	return index == s.index
}

// arrivedBy is the index of the interface in a datagram's control messages, 0 without.
func arrivedBy(oob []byte) int {
	list, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return 0
	}
	for _, m := range list {
		if m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= unix.SizeofInet6Pktinfo {
			return int((*unix.Inet6Pktinfo)(unsafe.Pointer(&m.Data[0])).Ifindex)
		}
	}
	return 0
}
