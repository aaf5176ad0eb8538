package spdp

import (
	"bytes"
	"encoding/binary"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// list is a peer's digest, as it comes in one datagram or several.
type list struct {
	sum   uint64
	next  wire.GuidPrefix // where the next datagram has to begin
	begun bool
	whole bool // nothing is missing
	unmet bool // something in it was asked for
}

// add takes the next datagram.
func (l *list) add(d *message, unmet bool) {
	switch {
	case !d.complete:
		*l = list{}
		return
	case d.first == wire.GuidPrefix{}:
		*l = list{begun: true}
	case !l.begun || d.first != l.next:
		*l = list{}
		return
	}
	for i := 0; i < len(d.entries); i += entryLen {
		l.sum += sumOf(d.entries[i : i+entryLen])
	}
	l.unmet = l.unmet || unmet
	l.next = after(d.last)
	l.whole = l.next == wire.GuidPrefix{}
}

// hurry has all peers told soon what there is, and a few times again.
func (m *Machine) hurry(now time.Time) {
	for _, p := range m.peers {
		if soon := now.Add(digestSoon); p.leaving.IsZero() && (p.due.IsZero() || p.due.After(soon)) {
			p.due = soon
		}
		p.haste = 0
	}
}

// sendDigest sends a peer the list of this host's participants, in as many datagrams as it takes.
func (m *Machine) sendDigest(now time.Time, p *peer) {
	switch {
	case p.leaving.IsZero():
	case now.Before(p.leaving):
		m.farewell(now, p)
		return
	default:
		m.stay(now, p)
	}
	p.sent = now
	repeated := p.haste == len(digestHaste)
	switch {
	case p.haste < len(digestHaste):
		p.due = now.Add(digestHaste[p.haste])
		p.haste++
	case len(m.locals) > 0:
		p.due = now.Add(digestEvery)
	default:
		p.due = time.Time{}
	}
	sum := m.digestSum()
	if m.settled && p.reads && p.toldSum == sum && sum != 0 && repeated {
		m.stats.Sames++
		m.sendPeer(p, &message{kind: kindSame, sum: sum})
		return
	}
	p.toldSum = 0
	if m.settled {
		p.toldSum = sum
	}
	d := message{kind: kindDigest, complete: m.settled, same: true}
	first := wire.GuidPrefix{}
	for i, n := 0, 0; ; i++ {
		if i < len(m.order) && n < maxEntries {
			if l := m.order[i]; l.outside != nil {
				n++
				d.entries = append(d.entries, l.header.Prefix[:]...)
				d.entries = append(d.entries, byte(l.revision>>24), byte(l.revision>>16), byte(l.revision>>8), byte(l.revision))
			}
			continue
		}
		d.first = first
		if i >= len(m.order) {
			for k := range d.last {
				d.last[k] = 0xff
			}
		} else {
			d.last = m.order[i-1].header.Prefix
		}
		m.stats.Digests++
		m.sendPeer(p, &d)
		if i >= len(m.order) {
			return
		}
		first = after(d.last)
		d.entries, n = d.entries[:0], 0
		i-- // this one begins the next
	}
}

// digestSum is the sum of what a digest lists.
func (m *Machine) digestSum() uint64 {
	if !m.summed {
		m.sum, m.summed = 0, true
		var e [entryLen]byte
		for _, l := range m.order {
			if l.outside != nil {
				copy(e[:], l.header.Prefix[:])
				binary.BigEndian.PutUint32(e[prefixLen:], l.revision)
				m.sum += sumOf(e[:])
			}
		}
	}
	return m.sum
}

// after is the next prefix in order.
func after(p wire.GuidPrefix) wire.GuidPrefix {
	for i := len(p) - 1; i >= 0; i-- {
		if p[i]++; p[i] != 0 {
			break
		}
	}
	return p
}

func (m *Machine) digest(now time.Time, p *peer, d *message) {
	if d.counter <= p.counter {
		return
	}
	p.counter, p.reads = d.counter, d.same
	gap := p.resumes(now)
	var want message
	listed := make(map[wire.GuidPrefix]bool, len(d.entries)/entryLen)
	for i := range len(d.entries) / entryLen {
		prefix, revision := d.entry(i)
		listed[prefix] = true
		r := p.participants[prefix]
		if r != nil {
			r.heard = now
			if gap {
				m.spread(&r.source)
			}
		}
		if no, ok := p.refused[prefix]; ok && no == revision {
			continue
		}
		if (r == nil || r.revision != revision) && len(want.wanted) < maxWanted*prefixLen && m.acceptable(p, prefix) {
			want.wanted = append(want.wanted, prefix[:]...)
		}
	}
	if d.complete {
		for prefix := range p.participants {
			if !listed[prefix] && bytes.Compare(prefix[:], d.first[:]) >= 0 && bytes.Compare(prefix[:], d.last[:]) <= 0 {
				m.endRemote(p, prefix)
			}
		}
	}
	p.list.add(d, len(want.wanted) > 0)
	if len(want.wanted) > 0 && p.connected {
		want.kind = kindWant
		m.stats.Wants++
		m.sendPeer(p, &want)
	}
	m.wake(now)
}

// resumes notes that a digest came, and says whether none had for so long that local participants may have forgotten.
func (p *peer) resumes(now time.Time) bool {
	gap := !p.digested.IsZero() && now.Sub(p.digested) > resumed
	p.digested = now
	return gap
}

// same takes a digest in short. If it is not of what was listed last, or something of that is still missing, the whole is
// asked for.
func (m *Machine) same(now time.Time, p *peer, d *message) {
	if d.counter <= p.counter {
		return
	}
	p.counter = d.counter
	if !p.list.whole || p.list.sum != d.sum || p.list.unmet {
		if p.connected {
			m.stats.Wants++
			m.sendPeer(p, &message{kind: kindWant})
		}
		return
	}
	gap := p.resumes(now)
	for _, r := range p.participants {
		r.heard = now
		if gap {
			m.spread(&r.source)
		}
	}
	m.wake(now)
}

// acceptable says whether a prefix can be this peer's, and there is room.
func (m *Machine) acceptable(p *peer, prefix wire.GuidPrefix) bool {
	if owner := m.owners[prefix]; owner != nil {
		return owner == p
	}
	return m.locals[prefix] == nil && prefix != m.probe && len(p.participants) < MaxPerPeer && m.remotes < MaxParticipants
}
