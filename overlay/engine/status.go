package engine

import (
	"net/netip"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/path"
)

// State is how contact with a peer stands.
type State uint8

// The states.
const (
	Idle        State = iota // nobody wants to talk now
	Connecting               // a handshake is under way
	Connected                // a session carries data
	Unreachable              // the last attempt was given up, or goes unanswered for long
)

// unansweredAttempts is after how many retransmissions a peer is called unreachable while attempts go on: with a stock peer after 10 s.
const unansweredAttempts = 2

// PeerStatus is a peer as the data path sees it now.
type PeerStatus struct {
	Address       netip.Addr
	Key           identity.PublicKey
	State         State
	GivenUp       bool // Unreachable, and it stays so until it is heard of
	Path          Path
	Mapping       path.Mapping // of the NAT in front of the peer, in its own words
	Whole         int          // the largest IP packet, in bytes, that the path carries in one datagram; 0 if unknown
	Native        bool
	Cipher        string // of the session, "" without one
	RTT, Jitter   time.Duration
	Measured      bool // RTT holds a measurement
	Loss          float64
	LossKnown     bool
	Tx, Rx        uint64 // bytes of IP packets
	LastHandshake time.Time
	Paths         []PathStatus // all that were tried lately, of a peer that is one of our own
}

// PathStatus is one way to a peer.
type PathStatus struct {
	path.Status
	// Uplink is the interface that it is bound to, since routing would choose another; 0 of a path that goes where routing says.
	Uplink uint32
	// Rate is what it is held to, in bytes per second of sealed datagrams, 0 while it is not held back; Queueing how long datagrams wait on their way.
	Rate     float64
	Queueing time.Duration
}

// Peers returns the peers that the data path knows, in no order. Whitelisted peers that nobody talked to are not among them.
func (e *Engine) Peers() []PeerStatus {
	now := time.Now()
	peers := e.peers.all()
	all := make([]PeerStatus, 0, len(peers))
	for _, p := range peers {
		all = append(all, p.status(now))
	}
	return all
}

// Peer returns one peer's status; ok is false if the data path does not know it.
func (e *Engine) Peer(address netip.Addr) (s PeerStatus, ok bool) {
	if p := e.peers.get(address); p != nil {
		return p.status(time.Now()), true
	}
	return s, false
}

// States tells how contact stands with each peer that the data path knows, in no order. It is much cheaper than Peers.
func (e *Engine) States(tell func(peer netip.Addr, s State)) {
	now := time.Now()
	for _, p := range e.peers.all() {
		p.mu.Lock()
		s := p.state(now)
		p.mu.Unlock()
		tell(p.address, s)
	}
}

// state is how contact stands. The peer's lock is held.
func (p *peer) state(now time.Time) State {
	if p.machine == nil {
		if p.lanes.Empty() {
			return Idle
		}
		return Connecting
	}
	attempts, handshaking := p.machine.Handshaking()
	switch {
	case p.failed:
		return Unreachable
	case !p.routes.silent && p.machine.Session(now) != nil:
		return Connected
	case handshaking && attempts > p.patience():
		return Unreachable
	case handshaking:
		return Connecting
	}
	return Idle
}

func (p *peer) status(now time.Time) PeerStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := PeerStatus{
		Address: p.address, Key: p.key, State: p.state(now), Path: p.path, Whole: p.path.wholeLimit(), Mapping: p.routes.mapping, Tx: p.tx.Load(), Rx: p.rx.Load(),
	}
	if p.machine == nil {
		return s
	}
	s.GivenUp = p.failed
	if k := p.machine.Session(now); k != nil {
		s.Cipher = k.Cipher()
	}
	s.Native = p.machine.Native()
	s.LastHandshake = p.machine.LastHandshake()
	if rtt := p.machine.HandshakeRTT(); rtt > 0 {
		s.RTT, s.Measured = rtt, true
	}
	if p.chooses() {
		for _, x := range p.routes.machine.Status() {
			s.Paths = append(s.Paths, p.pathStatus(x))
			if p.path.valid() && x.Key == p.path.key() && x.RTT > 0 {
				s.RTT, s.Jitter, s.Measured, s.Loss, s.LossKnown = x.RTT, x.Jitter, true, x.Loss, x.LossKnown
			}
		}
	}
	return s
}

func (p *peer) pathStatus(x path.Status) PathStatus {
	s := PathStatus{Status: x}
	if d, ok := x.Key.Carrier.(direct); ok {
		s.Uplink = d.uplink
	}
	if r := p.routes.find(x.Key); r != nil && r.pacing != nil && r.pacing.controller != nil {
		c := r.pacing.controller
		s.Queueing = c.Queueing()
		if rate, limited := c.Rate(); limited {
			s.Rate = rate
		}
	}
	return s
}

// patience is the number of retransmissions that are no reason for concern: to our own daemons they begin sooner.
func (p *peer) patience() int {
	if p.machine.Native() {
		return unansweredAttempts + 4
	}
	return unansweredAttempts
}
