package lan

import (
	"net/netip"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/identity"
	"github.com/hnet-robotics/hnet_bridge/overlay/record"
)

const (
	maxPeers           = 256
	maxPeersOfSource   = 16
	maxRuns            = 4
	maxSightingsOfPeer = 4
	sightingRepeat     = 5 * time.Second // an unchanged sighting is handed up again after this at the earliest
	sightingLife       = voiceEchoed
	cloneRepeat        = time.Minute
)

// CloneMemory is how long after an alarm the clone is gone if no other alarm has come: they are repeated after 10 to 44 minutes
// (rarely later, when announcements are lost), as long as both daemons run.
const CloneMemory = time.Hour

// Sighting says that the holder of a key announced itself just now on a link. Its slices are shared and not to be changed.
type Sighting struct {
	Record    record.Record  // verified; the newest known from this key
	Endpoint  netip.AddrPort // named by Record, and the address the announcement came from; a link-local one has the interface index as zone
	Interface int            // index of the interface that heard it
	Instance  [8]byte        // random, new for each run of the peer's daemon
	Restarted bool           // the peer's daemon runs anew since its last sighting
}

// Clone says that two running daemons use one key.
type Clone struct {
	Address   netip.Addr     // overlay address of that key
	Own       bool           // it is this daemon's own key
	Source    netip.AddrPort // where the announcement that gave it away came from
	Interface int
}

// run is one run of a peer's daemon. Everything a run said, it signed before its successor was first seen; so of two runs
// each of which signed something after the other was first seen, neither ended before the other began.
type run struct {
	instance [8]byte
	order    int       // of first sight
	first    time.Time // first fresh announcement
	alive    time.Time // it certainly signed something later than this
}

// peer is what is remembered of one key after a fresh announcement.
type peer struct {
	address   netip.Addr
	sequence  uint64
	runs      []run
	seen      int // runs seen so far
	current   run // of the last sighting handed up
	sightings []seenAt
	source    netip.Addr
	heard     time.Time
	alarmed   time.Time
}

type seenAt struct {
	Sighting
	at    time.Time
	heard time.Time // the last announcement, fresh or not
}

// note records a fresh announcement by a run that was signed after a time, and returns that run.
func (p *peer) note(now time.Time, instance [8]byte, signedAfter time.Time) run {
	for i := range p.runs {
		if r := &p.runs[i]; r.instance == instance {
			if r.alive.Before(signedAfter) {
				r.alive = signedAfter
			}
			return *r
		}
	}
	if len(p.runs) == maxRuns {
		p.runs = append(p.runs[:0], p.runs[1:]...)
	}
	p.seen++
	r := run{instance: instance, order: p.seen, first: now, alive: signedAfter}
	p.runs = append(p.runs, r)
	return r
}

// cloned reports whether two runs of this key live side by side, and did so after the last alarm.
func (p *peer) cloned() bool {
	for i, a := range p.runs {
		for _, b := range p.runs[i+1:] {
			if a.alive.After(b.first) && b.alive.After(a.first) && a.alive.After(p.alarmed) && b.alive.After(p.alarmed) {
				return true
			}
		}
	}
	return false
}

// find returns the last sighting on a link from an address.
func (p *peer) find(link int, addr netip.Addr) *seenAt {
	for i := range p.sightings {
		if s := &p.sightings[i]; s.Interface == link && s.Endpoint.Addr().WithZone("") == addr {
			return s
		}
	}
	return nil
}

// sight remembers s and reports whether it is to be handed up: news at once, the rest now and then.
func (p *peer) sight(now time.Time, s Sighting) bool {
	last := p.find(s.Interface, s.Endpoint.Addr().WithZone(""))
	if last != nil && !s.Restarted && last.Endpoint == s.Endpoint && last.Instance == s.Instance &&
		last.Record.Sequence == s.Record.Sequence && now.Sub(last.at) < sightingRepeat {
		return false
	}
	if last == nil {
		if len(p.sightings) == maxSightingsOfPeer {
			oldest := 0
			for i, o := range p.sightings {
				if o.at.Before(p.sightings[oldest].at) {
					oldest = i
				}
			}
			last = &p.sightings[oldest]
		} else {
			p.sightings = append(p.sightings, seenAt{})
			last = &p.sightings[len(p.sightings)-1]
		}
	}
	*last = seenAt{s, now, now}
	return true
}

// present notes that a run that proved itself before is still there, as far as hearsay tells: in large LANs an announcement
// has no room to echo everybody.
func (m *Machine) present(now time.Time, link int, v *voice) {
	p := m.peers[v.id.key]
	if p == nil {
		return
	}
	for i := range p.sightings {
		s := &p.sightings[i]
		_, named := endpointOf(&v.record, s.Endpoint.Addr().WithZone(""))
		if s.Interface == link && s.Instance == v.id.instance && named {
			s.heard, p.heard = now, now
		}
	}
}

// peer returns what is remembered of the key of r, making room if it is new.
func (m *Machine) peer(now time.Time, r *record.Record, source netip.Addr) *peer {
	p := m.peers[r.Key]
	if p == nil {
		p = &peer{address: r.Address(), source: source, heard: now}
		m.peers[r.Key] = p
		m.evictPeer(maxPeersOfSource, func(o *peer) bool { return o.source == source })
		m.evictPeer(maxPeers, func(*peer) bool { return true })
	}
	p.source, p.heard = source, now
	return p
}

func (m *Machine) evictPeer(most int, among func(*peer) bool) {
	var oldest identity.SigningKey
	var at time.Time
	n := 0
	for k, p := range m.peers {
		if !among(p) {
			continue
		}
		if n++; n == 1 || p.heard.Before(at) {
			oldest, at = k, p.heard
		}
	}
	if n > most {
		delete(m.peers, oldest)
	}
}

// Lookup returns the last sightings of an overlay address, at most 4 and none that was not heard again for 45 minutes or the
// lifetime of its record, whether or not anybody cared for that address when it was seen.
func (m *Machine) Lookup(now time.Time, address netip.Addr) []Sighting {
	var found []Sighting
	for _, p := range m.peers {
		if p.address != address {
			continue
		}
		for _, s := range p.sightings {
			if now.Sub(s.heard) <= min(sightingLife, s.Record.Lifetime) {
				s.Restarted = false
				found = append(found, s.Sighting)
			}
		}
	}
	return found
}
