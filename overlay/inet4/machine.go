package inet4

import (
	"net/netip"
	"slices"
	"time"
)

// Bounds. What a peer can make this host do is in the three buckets: have it move, have it tell another to move, change its own address.
const (
	maxPeers    = 12000
	maxLeft     = 32   // addresses that were given up and are not taken again
	maxTries    = 4096 // candidates looked at in one range
	movesBurst  = 8    // moves for the sake of all peers
	movesEach   = 15 * time.Minute
	causedBurst = 3 // moves for the sake of one peer; others' that one peer is the reason of
	causedEach  = time.Hour
	changeBurst = 8 // changes of a peer's own address
	changeEach  = 15 * time.Minute
	replyBurst  = 4 // messages to one peer
	replyEach   = time.Second
	// networkHold is how long an own network must clash with the own address before that gives way: a lease that comes and goes is no reason.
	networkHold = 3 * time.Second
	// maxReordering is how much older than the last, in milliseconds, a message is taken to have been overtaken. Beyond that a clock was set.
	maxReordering = 10000
	chooseAgain   = time.Minute // while no address is free
	firstRetry    = time.Second
	maxRetries    = 6           // 1, 2, 4 .. 32 s; then silence until the next session, or news,
	rareRetry     = time.Minute // but with one that spoke in this session
)

// Config is what a Machine is made from.
type Config struct {
	Self   netip.Addr     // overlay address
	Ranges []netip.Prefix // in order of preference; nil = none: this node has no IPv4 and says so
	Saved  State          // of the last run
}

// State is what outlives the daemon.
type State struct {
	Address netip.Addr
	Settled bool
	Left    []netip.Addr
	Peers   []PeerAddress
}

// PeerAddress is a peer's IPv4 address that this host uses.
type PeerAddress struct {
	Peer netip.Addr
	IPv4 netip.Addr
}

// Outgoing is a message to a peer, to be sent if it has a session and is a daemon of ours.
type Outgoing struct {
	Peer    netip.Addr
	Message Message
}

// Machine decides for one node. It is not safe for concurrent use.
type Machine struct {
	self     netip.Addr
	ranges   []netip.Prefix
	networks networks

	own      netip.Addr // invalid = none
	retired  bool       // this node has no address any more, and peers may think otherwise
	settled  bool
	left     []netip.Addr
	blocker  Network   // what keeps this node from having an address, or its range from being routed
	clashing time.Time // since when a network of this host has the own address
	again    time.Time // when an address is looked for anew, as none was free
	moves    bucket
	peers    map[netip.Addr]*peer
	holders  map[netip.Addr]*peer // who is used, by IPv4 address
	due      []*peer              // who is to be told
	out      []Outgoing
	batch    uint64 // counts the calls of Outgoing
	version  uint64
}

// peer is what the machine knows of one.
type peer struct {
	address netip.Addr
	up      bool

	// What it said, and what follows.
	ipv4    netip.Addr // its own address, invalid = none
	settled bool
	verdict Verdict // ours on ipv4
	clash   Network // with NetworkClash
	heard   bool
	theirs  Verdict // its verdict on ours
	network netip.Prefix
	knows   netip.Addr // ours, as it knows it

	moment, spoke                   uint32 // of the last message, its and ours
	answers                         bool   // it spoke in this session
	confirmed                       bool   // it knows our address and verdict
	tries                           int
	retry                           time.Time // zero = none
	due                             bool      // it is to be told
	place                           int       // in out, of the batch
	batch                           uint64
	replies, changes, moves, causes bucket
}

// New makes a machine. Its first addresses are those of the last run, as far as they still fit the ranges.
func New(now time.Time, c Config) *Machine {
	m := &Machine{
		self: c.Self, ranges: slices.Clone(c.Ranges), peers: make(map[netip.Addr]*peer), holders: make(map[netip.Addr]*peer), version: 1,
	}
	if len(m.ranges) == 0 {
		m.retired = c.Saved.Address.IsValid()
		return m
	}
	m.left = slices.Clone(c.Saved.Left[:min(len(c.Saved.Left), maxLeft)])
	if _, ok := m.rangeOf(c.Saved.Address); ok {
		m.own, m.settled = c.Saved.Address, c.Saved.Settled
	}
	for _, x := range c.Saved.Peers {
		if _, ok := m.rangeOf(x.IPv4); !ok || x.Peer == m.self || x.IPv4 == m.own || len(m.peers) >= maxPeers || m.peers[x.Peer] != nil || m.holders[x.IPv4] != nil {
			continue
		}
		p := m.peer(x.Peer)
		p.ipv4, p.settled, p.verdict = x.IPv4, true, Used
		m.holders[p.ipv4] = p
	}
	return m
}

// Save returns what is to outlive the daemon. keep says of which peers.
func (m *Machine) Save(keep func(peer netip.Addr) bool) State {
	s := State{Address: m.own, Settled: m.settled, Left: slices.Clone(m.left)}
	for ipv4, p := range m.holders {
		if keep(p.address) {
			s.Peers = append(s.Peers, PeerAddress{p.address, ipv4})
		}
	}
	slices.SortFunc(s.Peers, func(a, b PeerAddress) int { return a.Peer.Compare(b.Peer) })
	return s
}

// Version changes whenever Address, Peers, Blocker or Problems may have.
func (m *Machine) Version() uint64 { return m.version }

// Address returns this node's own IPv4 address and the range it was taken from; invalid = none.
func (m *Machine) Address() (netip.Addr, netip.Prefix) {
	r, _ := m.rangeOf(m.own)
	return m.own, r
}

// RangeFree reports whether nothing of this host lies in the range of the own address, so that all of it may be routed to the overlay.
func (m *Machine) RangeFree() bool {
	r, ok := m.rangeOf(m.own)
	if !ok {
		return false
	}
	_, taken := m.networks.overlapping(r)
	return !taken
}

// Peers returns the addresses of all peers that are used: whose packets are let in and to whom there is a way.
func (m *Machine) Peers() map[netip.Addr]netip.Addr {
	all := make(map[netip.Addr]netip.Addr, len(m.holders))
	for ipv4, p := range m.holders {
		all[p.address] = ipv4
	}
	return all
}

// Blocker is the network of this host that keeps this node from having an address at all.
func (m *Machine) Blocker() (Network, bool) { return m.blocker, m.blocker.Prefix.IsValid() }

// SetNetworks tells which parts of the IPv4 address space this host uses without the overlay. It is to be called before anything else is decided.
func (m *Machine) SetNetworks(now time.Time, list []Network) {
	if len(m.ranges) == 0 {
		return
	}
	m.networks = slices.Clone(list)
	m.version++
	m.settleOwn(now)
	for _, p := range m.peers {
		m.judge(now, p)
	}
	m.speak(now)
}

// settleOwn takes an address if there is none, and another if a network of this host has had it for a while.
func (m *Machine) settleOwn(now time.Time) {
	if !m.own.IsValid() {
		m.choose(now)
		return
	}
	if _, clash := m.networks.of(m.own); !clash {
		m.clashing = time.Time{}
	} else if m.clashing.IsZero() {
		m.clashing = now
	}
}

// Up tells that there is a session with a peer, Down that there is none any more, Forget that it may not talk any more.
func (m *Machine) Up(now time.Time, address netip.Addr) {
	p := m.peer(address)
	if p == nil {
		return
	}
	p.up, p.answers, p.knows, p.theirs = true, false, netip.Addr{}, Unjudged
	if len(m.ranges) > 0 || m.retired { // else it is told when it asks
		m.tell(p)
	}
	m.speak(now)
}

// Down is the opposite of Up; the peer's address stays its own.
func (m *Machine) Down(address netip.Addr) {
	if p := m.peers[address]; p != nil {
		p.up, p.retry, p.due = false, time.Time{}, false
	}
}

// Forget drops a peer and sets its address free.
func (m *Machine) Forget(now time.Time, address netip.Addr) {
	p := m.peers[address]
	if p == nil {
		return
	}
	delete(m.peers, address)
	p.up = false
	m.release(now, p)
	m.version++
	m.speak(now)
}

// Receive takes a message that came out of a peer's tunnel.
func (m *Machine) Receive(now time.Time, address netip.Addr, b []byte) error {
	msg, err := Parse(b)
	if err != nil {
		return err
	}
	p := m.peer(address)
	if p == nil {
		return nil
	}
	if late := p.moment - msg.Moment; p.heard && late != 0 && late <= maxReordering {
		return nil
	}
	p.moment, p.up, p.answers = msg.Moment, true, true
	if msg.Own != p.ipv4 && p.heard && !p.changes.take(now, changeBurst, changeEach) {
		return nil // it stays what it was; the peer repeats itself only at times
	}
	p.heard = true
	if msg.Own != p.ipv4 || msg.Settled != p.settled {
		if msg.Own != p.ipv4 {
			m.release(now, p)
		}
		p.ipv4, p.settled = msg.Own, msg.Settled
		m.version++
	}
	m.hear(now, p, msg)
	m.judge(now, p)
	if msg.Answer {
		m.mark(p)
	}
	m.speak(now)
	return nil
}

// hear takes a peer's word on the own address.
func (m *Machine) hear(now time.Time, p *peer, msg Message) {
	if p.theirs != msg.Verdict || p.network != msg.Clash {
		m.version++
	}
	p.knows, p.theirs, p.network = msg.Known, msg.Verdict, msg.Clash
	if msg.Known != m.own {
		m.tell(p) // an earlier one
		return
	}
	if p.confirmed = msg.Echo == p.verdict&0xf; p.confirmed {
		p.tries, p.retry = 0, time.Time{}
	} else if p.retry.IsZero() {
		m.mark(p)
	}
	if !m.own.IsValid() {
		return
	}
	switch msg.Verdict {
	case Used:
		if !m.settled {
			m.settled = true
			m.version++
		}
	case Move:
		m.moveFor(now, p)
	case NetworkClash:
		// An address that somebody uses does not change because of one host's network: that would break the programs of all the others.
		if !m.settled {
			m.moveFor(now, p)
		}
	}
}

// judge decides on a peer's address, and has the peer told if that is news.
func (m *Machine) judge(now time.Time, p *peer) {
	verdict, clash := m.opinion(now, p)
	if verdict == p.verdict && clash == p.clash {
		return
	}
	p.verdict, p.clash = verdict, clash
	switch {
	case verdict == Used:
		m.holders[p.ipv4] = p
	case m.holders[p.ipv4] == p && verdict != Move:
		delete(m.holders, p.ipv4)
		m.reconsider(now, p.ipv4, p)
	}
	m.version++
	m.tell(p)
}

// opinion is what this node makes of a peer's address.
func (m *Machine) opinion(now time.Time, p *peer) (Verdict, Network) {
	if len(m.ranges) == 0 {
		return Off, Network{}
	}
	if !p.ipv4.IsValid() {
		return Unjudged, Network{}
	}
	if r, ok := m.rangeOf(p.ipv4); !ok || !isHost(p.ipv4, r) {
		return OtherRange, Network{}
	}
	if p.ipv4 == m.own {
		if m.yields(m.self, m.settled, p) && m.moveFor(now, p) {
			return m.opinion(now, p) // it is free now, as far as this node is concerned
		}
		if m.yields(m.self, m.settled, p) {
			return Wait, Network{}
		}
		return Move, Network{}
	}
	if n, clash := m.networks.of(p.ipv4); clash {
		return NetworkClash, n
	}
	holder := m.holders[p.ipv4]
	switch {
	case holder == nil:
		return Used, Network{}
	case holder == p:
		if p.verdict == Move && m.contested(p) {
			return Move, Network{}
		}
		return Used, Network{}
	case p.verdict == Wait && holder.verdict == Move:
		return Wait, Network{}
	}
	// Who was there first is served until it moves, so that nobody can take another's address away.
	if m.yields(holder.address, holder.settled, p) && p.causes.take(now, causedBurst, causedEach) {
		if holder.verdict != Move {
			holder.verdict = Move
			m.tell(holder)
		}
		return Wait, Network{}
	}
	return Move, Network{}
}

// contested reports whether another peer wants p's address too.
func (m *Machine) contested(p *peer) bool {
	for _, other := range m.peers {
		if other != p && other.ipv4 == p.ipv4 {
			return true
		}
	}
	return false
}

// yields reports whether a node with an address of p's is the one to move: the younger, else that with the higher overlay address.
func (m *Machine) yields(a netip.Addr, settled bool, p *peer) bool {
	if settled != p.settled {
		return !settled
	}
	return p.address.Less(a)
}

// release takes a peer's address from it, and looks who waited for it.
func (m *Machine) release(now time.Time, p *peer) {
	ipv4 := p.ipv4
	p.ipv4, p.verdict, p.clash = netip.Addr{}, Unjudged, Network{}
	if m.holders[ipv4] == p {
		delete(m.holders, ipv4)
		m.reconsider(now, ipv4, p)
	}
}

// reconsider judges those anew whose address is free now; who yields last comes first.
func (m *Machine) reconsider(now time.Time, ipv4 netip.Addr, but *peer) {
	var best *peer
	for _, p := range m.peers {
		if p != but && p.ipv4 == ipv4 && (best == nil || m.yields(best.address, best.settled, p)) {
			best = p
		}
	}
	if best != nil {
		m.judge(now, best)
	}
}

// moveFor takes another address for the sake of a peer, if the rations allow it.
func (m *Machine) moveFor(now time.Time, p *peer) bool {
	if !p.moves.full(now, causedBurst, causedEach) || !m.moves.take(now, movesBurst, movesEach) {
		return false
	}
	p.moves.take(now, causedBurst, causedEach)
	m.leave(now)
	return true
}

// leave gives the own address up for the next candidate.
func (m *Machine) leave(now time.Time) {
	old := m.own
	m.left = append(m.left, old)
	if len(m.left) > maxLeft {
		m.left = slices.Delete(m.left, 0, 1)
	}
	m.own = netip.Addr{}
	m.choose(now)
	m.reconsider(now, old, nil)
}

// choose takes the first candidate that is free as far as this node knows: in a range that is all free, else anywhere; if it can be where no
// peer has a network; and rather one given up before than none. All peers are told.
func (m *Machine) choose(now time.Time) {
	m.own, m.settled, m.clashing, m.blocker, m.again = netip.Addr{}, false, time.Time{}, Network{}, time.Time{}
	claimed := make(map[netip.Addr]bool, len(m.peers))
	for _, p := range m.peers {
		claimed[p.ipv4] = true
	}
	refused := m.refused()
	defer m.announce()
	for _, shun := range []struct{ left, refused, shared bool }{
		{true, true, true}, {true, true, false}, {true, false, true}, {true, false, false}, {false, false, false},
	} {
		for _, r := range m.ranges {
			if n, taken := m.networks.overlapping(r); taken {
				if !m.blocker.Prefix.IsValid() {
					m.blocker = n
				}
				if shun.shared {
					continue
				}
			}
			for i := range min(maxTries, 32<<(32-r.Bits())) {
				a, ok := Candidate(m.self, r, i)
				_, taken := m.networks.of(a)
				switch {
				case !ok, taken, claimed[a], shun.left && slices.Contains(m.left, a):
				case shun.refused && slices.ContainsFunc(refused, func(p netip.Prefix) bool { return p.Contains(a) }):
				default:
					m.own, m.blocker = a, Network{}
					return
				}
			}
		}
	}
	m.again = now.Add(chooseAgain)
}

// refused are the networks that peers refused an address of ours for.
func (m *Machine) refused() (list []netip.Prefix) {
	for _, p := range m.peers {
		if p.network.IsValid() && len(list) < maxLeft {
			list = append(list, p.network)
		}
	}
	return list
}

// announce has all connected peers told of a new own address.
func (m *Machine) announce() {
	m.version++
	for _, p := range m.peers {
		m.tell(p)
	}
}

func (m *Machine) peer(address netip.Addr) *peer {
	p := m.peers[address]
	if p == nil && len(m.peers) < maxPeers && address != m.self {
		p = &peer{address: address}
		if len(m.ranges) == 0 {
			p.verdict = Off
		}
		m.peers[address] = p
	}
	return p
}

func (m *Machine) rangeOf(a netip.Addr) (netip.Prefix, bool) {
	for _, r := range m.ranges {
		if r.Contains(a) {
			return r, true
		}
	}
	return netip.Prefix{}, false
}
