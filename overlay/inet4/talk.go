package inet4

import (
	"net/netip"
	"time"
)

// tell has a peer told what is new, and told again until it shows that it knows.
func (m *Machine) tell(p *peer) {
	p.confirmed, p.tries = false, 0
	m.mark(p)
}

// mark has a peer told how things stand.
func (m *Machine) mark(p *peer) {
	if p.up && !p.due {
		p.due = true
		m.due = append(m.due, p)
	}
}

// speak tells all that are due, each within its ration; what is beyond waits for a tick.
func (m *Machine) speak(now time.Time) {
	for _, p := range m.due {
		p.due = false
		if !p.up {
			continue
		}
		if !p.replies.take(now, replyBurst, replyEach) {
			p.retry = now.Add(replyEach)
			continue
		}
		m.send(now, p)
	}
	clear(m.due)
	m.due = m.due[:0]
}

func (m *Machine) send(now time.Time, p *peer) {
	p.retry = time.Time{}
	switch {
	case p.confirmed:
	case p.tries < maxRetries:
		p.retry = now.Add(firstRetry << p.tries)
		p.tries++
	case p.answers: // it is no older daemon that does not know this message
		p.retry = now.Add(rareRetry)
	}
	moment := uint32(now.UnixMilli())
	if ahead := p.spoke - moment; ahead < maxReordering {
		moment = p.spoke + 1
	}
	p.spoke = moment
	msg := Message{Moment: moment, Own: m.own, Known: p.ipv4, Verdict: p.verdict, Echo: p.theirs & 0xf, Answer: !p.confirmed, Settled: m.settled}
	if p.verdict == NetworkClash {
		msg.Clash = p.clash.Prefix.Masked()
	}
	if p.batch == m.batch && p.place < len(m.out) && m.out[p.place].Peer == p.address { // only the last word counts
		m.out[p.place].Message = msg
		return
	}
	p.batch, p.place = m.batch, len(m.out)
	m.out = append(m.out, Outgoing{p.address, msg})
}

// Outgoing returns what is to be sent since the last call.
func (m *Machine) Outgoing() []Outgoing {
	out := m.out
	m.out = nil
	m.batch++
	return out
}

// Next returns when Tick has something to do, zero if never.
func (m *Machine) Next() (at time.Time) {
	earlier := func(t time.Time) {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	if !m.clashing.IsZero() {
		earlier(m.clashing.Add(networkHold))
	}
	earlier(m.again)
	for _, p := range m.peers {
		if p.up {
			earlier(p.retry)
		}
	}
	return at
}

// Tick does what time brings.
func (m *Machine) Tick(now time.Time) {
	if !m.clashing.IsZero() && now.Sub(m.clashing) >= networkHold {
		if m.moves.take(now, movesBurst, movesEach) {
			m.leave(now)
		} else {
			m.clashing = now // again, when the ration allows
		}
	}
	if !m.again.IsZero() && !now.Before(m.again) {
		m.choose(now)
	}
	for _, p := range m.peers {
		if p.up && !p.retry.IsZero() && !now.Before(p.retry) {
			p.retry = time.Time{}
			m.mark(p)
		}
	}
	m.speak(now)
}

// Problem is a peer with which there is no IPv4, and why.
type Problem struct {
	Peer    netip.Addr
	IPv4    netip.Addr // the address that is not used
	Verdict Verdict
	// Ours says that this node refuses the peer's address; else the peer refuses this node's.
	Ours  bool
	Clash Network // with NetworkClash; What is "" if it is the peer's
}

// Problems lists the peers with which there is no IPv4 although both sides want it. A clash under way to be settled is none.
func (m *Machine) Problems() (list []Problem) {
	for _, p := range m.peers {
		switch {
		case p.verdict == NetworkClash || p.verdict == OtherRange || p.verdict == Move && m.holders[p.ipv4] != p:
			list = append(list, Problem{Peer: p.address, IPv4: p.ipv4, Verdict: p.verdict, Ours: true, Clash: p.clash})
		case p.up && m.own.IsValid() && p.knows == m.own && (p.theirs == NetworkClash || p.theirs == OtherRange || p.theirs == Move || p.theirs == Wait):
			list = append(list, Problem{Peer: p.address, IPv4: m.own, Verdict: p.theirs, Clash: Network{Prefix: p.network}})
		}
	}
	return list
}

// Ready reports whether IPv4 works with a peer as far as both said: its address is used here, ours there. ipv4 is its address if it is used here.
func (m *Machine) Ready(peer netip.Addr) (ipv4 netip.Addr, ready bool) {
	p := m.peers[peer]
	if p == nil || m.holders[p.ipv4] != p {
		return netip.Addr{}, false
	}
	return p.ipv4, p.theirs == Used && p.knows == m.own
}
