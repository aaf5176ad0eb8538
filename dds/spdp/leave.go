package spdp

import (
	"net/netip"
	"time"
)

const (
	// leaveAgain is between two farewells to one peer.
	leaveAgain = 50 * time.Millisecond
	// leaveFor is how long nothing is exchanged with a peer that was bid farewell, if it is not taken off the list.
	leaveFor = time.Second
)

// Leave ends all acquaintance with a peer that is about to leave the whitelist, on both sides: what it had here ends, and
// it is told that nobody is here any more, as long as it can be told. [Machine.Left] says when it has heard.
func (m *Machine) Leave(now time.Time, addr netip.Addr) {
	p := m.peers[addr]
	if p == nil || !p.connected || p.theirs == 0 || len(p.participants) == 0 && len(m.locals) == 0 {
		return
	}
	for prefix := range p.participants {
		m.endRemote(p, prefix)
	}
	m.forgetWaiting(p)
	m.renew(p)
	p.leaving, p.left = now.Add(leaveFor), false
	m.farewell(now, p)
}

// Left says that a peer which was bid farewell has heard it, or that there is nobody to wait for.
func (m *Machine) Left(addr netip.Addr) bool {
	p := m.peers[addr]
	return p == nil || p.leaving.IsZero() || p.left
}

// farewell is the digest of a host without participants.
func (m *Machine) farewell(now time.Time, p *peer) {
	d := message{kind: kindDigest, complete: true}
	for i := range d.last {
		d.last[i] = 0xff
	}
	p.sent, p.due = now, now.Add(leaveAgain)
	m.stats.Digests++
	m.sendPeer(p, &d)
}

// takeLeave is what becomes of a datagram of a peer that was bid farewell: it is read for whether that was heard.
func (p *peer) takeLeave(msg *message) { p.left = p.left || msg.heard == p.mine }

// stay is for a peer that was bid farewell and is on the list all the same.
func (m *Machine) stay(now time.Time, p *peer) {
	p.leaving, p.left = time.Time{}, false
	p.due, p.haste = now, 0
}
