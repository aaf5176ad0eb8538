package multicast

import (
	"net/netip"
	"slices"
	"time"
)

const (
	// MaxPeers bounds the peers.
	MaxPeers = 4096

	tellEvery = 10 * time.Second
	holdFor   = 3*tellEvery + 5*time.Second
	// answerLeast is between two answers to one peer.
	answerLeast = 200 * time.Millisecond
)

// again is when a list that changed is repeated, since a datagram may be lost.
var again = []time.Duration{300 * time.Millisecond, time.Second}

// Peer is a whitelisted host.
type Peer struct {
	Address   netip.Addr
	IPv4      netip.Addr // on hnet0; not valid if it has none
	Connected bool
	Idle      bool // no session at the moment: it is not woken to be told that nobody listens here
}

// datagram is one to send to a peer's daemon.
type datagram struct {
	to      netip.Addr
	payload []byte
}

// machine keeps up who has joined what. It has no sockets and no clock.
type machine struct {
	own     netip.Addr
	four    netip.Addr
	run     uint32
	counter uint32
	joined  []netip.Addr
	peers   map[netip.Addr]*peer
	changed bool // since the last table
	out     []datagram
}

type peer struct {
	address, four     netip.Addr
	connected, listed bool
	idle              bool

	run, counter uint32
	groups       []netip.Addr
	heard        time.Time

	due      time.Time // to be told; zero: when something changes
	done     int       // repetitions
	told     time.Time
	out, in  *limit
	messages *limit
}

func newMachine(own netip.Addr, run uint32) *machine {
	return &machine{own: own, run: run, peers: map[netip.Addr]*peer{}, changed: true}
}

// setGroups takes the whole list of groups joined on hnet0.
func (m *machine) setGroups(now time.Time, list []netip.Addr) {
	list = slices.Clone(list)
	slices.SortFunc(list, netip.Addr.Compare)
	if slices.Equal(list, m.joined) {
		return
	}
	m.joined, m.changed = list, true
	for _, p := range m.peers {
		p.due, p.done = now, 0
	}
}

// setIPv4 takes this host's IPv4 address on hnet0; the zero Addr is none.
func (m *machine) setIPv4(a netip.Addr) {
	if m.four != a {
		m.four, m.changed = a, true
	}
}

// setPeers takes the whole list of whitelisted peers.
func (m *machine) setPeers(now time.Time, list []Peer) {
	for _, p := range m.peers {
		p.listed = false
	}
	for _, l := range list {
		p := m.peers[l.Address]
		if p == nil {
			if l.Address == m.own || !l.Address.Is6() || len(m.peers) >= MaxPeers {
				continue
			}
			p = &peer{
				address: l.Address, out: newLimit(peerPackets, peerBytes), in: newLimit(peerPackets, peerBytes), messages: newLimit(5, 5*MaxMessage),
			}
			m.peers[l.Address], m.changed = p, true
		}
		if p.listed = true; p.four != l.IPv4 {
			p.four, m.changed = l.IPv4, true
		}
		told := m.tells(p)
		if p.connected != l.Connected {
			p.connected, m.changed = l.Connected, true
		}
		if p.idle = l.Idle; !told && m.tells(p) {
			p.due, p.done = now, 0
		}
	}
	for a, p := range m.peers {
		if !p.listed {
			delete(m.peers, a)
			m.changed = true
		}
	}
}

// tells says whether a peer is told of this host's groups. An idle one is not woken when there are none: what wakes it are handshakes, by which whoever
// listens would learn that it is on the whitelist.
func (m *machine) tells(p *peer) bool { return p.connected && (!p.idle || len(m.joined) > 0) }

// message takes a datagram that came to Port through the tunnel.
func (m *machine) message(now time.Time, from netip.AddrPort, b []byte) {
	p := m.peers[from.Addr()]
	if p == nil || from.Port() != Port {
		return
	}
	p.idle = false // it came by a session
	if !p.messages.take(now, len(b)) {
		return
	}
	msg, err := parseMessage(b)
	if err != nil || msg.run == p.run && msg.counter <= p.counter {
		return
	}
	p.run, p.counter, p.heard = msg.run, msg.counter, now
	slices.SortFunc(msg.groups, netip.Addr.Compare)
	if !slices.Equal(p.groups, msg.groups) {
		p.groups, m.changed = msg.groups, true
	}
	if answer := p.told.Add(answerLeast); msg.ask && p.connected && (p.due.IsZero() || p.due.After(answer)) {
		p.due, p.done = answer, len(again)
	}
}

// next is when tick wants to be called; zero: after the next event.
func (m *machine) next() (next time.Time) {
	earlier := func(t time.Time) {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	for _, p := range m.peers {
		if m.tells(p) {
			earlier(p.due)
		}
		if len(p.groups) > 0 {
			earlier(p.heard.Add(holdFor))
		}
	}
	return next
}

// tick does what is due.
func (m *machine) tick(now time.Time) {
	for _, p := range m.peers {
		if len(p.groups) > 0 && now.Sub(p.heard) >= holdFor {
			p.groups, m.changed = nil, true
		}
		if m.tells(p) && !p.due.IsZero() && !now.Before(p.due) {
			m.tell(now, p)
		}
	}
}

func (m *machine) tell(now time.Time, p *peer) {
	m.counter++
	msg := message{ask: p.run == 0 || p.done == 0, run: m.run, counter: m.counter, groups: m.joined}
	m.out = append(m.out, datagram{p.address, msg.append(nil)})
	p.told = now
	switch {
	case p.done < len(again):
		p.due = now.Add(again[p.done])
		p.done++
	case len(m.joined) > 0:
		p.due = now.Add(tellEvery)
	default:
		p.due = time.Time{}
	}
}

// table is what the forwarder is to know, nil if that has not changed.
func (m *machine) table() *table {
	if !m.changed {
		return nil
	}
	m.changed = false
	t := &table{six: m.own, four: m.four, joined: m.joined, peers: make(map[netip.Addr]*member, len(m.peers))}
	for _, p := range m.peers {
		x := &member{address: p.address, four: p.four, groups: p.groups, out: p.out, in: p.in}
		t.peers[p.address] = x
		if p.connected && len(p.groups) > 0 {
			t.members = append(t.members, x)
		}
	}
	slices.SortFunc(t.members, func(a, b *member) int { return a.address.Compare(b.address) })
	return t
}
