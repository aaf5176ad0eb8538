package path

import (
	"math/rand/v2"
	"net/netip"
	"time"
)

// Mapping is what a NAT does with the ports of one socket (RFC 4787, section 4.1). The numbers travel.
type Mapping uint8

// The mappings.
const (
	UnknownMapping Mapping = iota
	Independent            // one port for all remotes, or no NAT
	Dependent              // another port for every remote: "symmetric"
)

// Role is a side's part in port prediction.
type Role uint8

// The roles.
const (
	NoRole Role = iota
	Easy        // has one endpoint for all, and guesses the other's
	Hard        // has endpoints nobody knows, and opens many to be guessed
)

// RoleOf decides who does what from both sides' knowledge; both sides decide the same. An unknown mapping is taken for an independent one beside a
// dependent one. Two dependent ones have no hope worth its probes: 256 sockets against guesses in two dimensions.
func RoleOf(own, peer Mapping) Role {
	switch {
	case own == Dependent && peer != Dependent:
		return Hard
	case peer == Dependent && own != Dependent:
		return Easy
	}
	return NoRole
}

// Numbers of port prediction. One probe of the easy side meets one of the hard side's sockets with probability 256/64512, so that n probes fail with
// (1-1/252)^n: at 200 a second 91 % are met after 3 s, 98 % after 5 s, 99.96 % after 10 s.
const (
	// SpraySockets is how many sockets the hard side opens.
	SpraySockets = 256
	// SprayRate bounds the probes of either side, in probes a second.
	SprayRate = 200

	sprayInterval = time.Second / SprayRate
	sprayFor      = 10 * time.Second // one round
	sprayPause    = 10 * time.Second // between rounds
	sprayRounds   = 3
	sprayRefresh  = 5 * time.Second // between two openers of a socket
	// sprayHead is how much earlier the hard side begins, so that there is something to guess.
	sprayHead = 300 * time.Millisecond
	// sprayCatchUp is how late Poll may come and still send all it owes.
	sprayCatchUp = 20 * time.Millisecond
	firstPort    = 1024
)

// SprayProbe is a probe to be sent for port prediction.
type SprayProbe struct {
	Remote   netip.AddrPort
	Socket   int // hard side: 0 to SpraySockets-1; easy side: -1, the main socket
	Sequence uint32
	TTL      byte // 0 = the system's
}

// Spray is the machine of port prediction, for the case that one NAT gives every remote another port. It is given one address of the peer, which
// its owner must have found both observed by a Base and named by the peer's record: nobody may be made to spray a third party. The easy side sends
// at most 200 probes a second to it for 10 s, three times with 10 s between, 6000 in all, each to another port from 1024 upward. The hard side sends
// openers from 256 sockets to the easy side's endpoint, every 5 s in a round.
//
// Who receives a probe of the other's answers it, and the path machine takes it from there: the answer, or the probe, comes by an unknown key,
// which is probed at once. Stop the Spray when Best is no relay any more.
type Spray struct {
	random rand.Source
	role   Role
	target netip.AddrPort
	ttl    byte
	round  int       // 0 to sprayRounds
	end    time.Time // of the round
	next   time.Time // zero when done
	pass   time.Time // begin of the hard side's pass over its sockets
	socket int
	count  uint32 // of ports tried
	keys   [4]uint32
}

// NewSpray begins. For the easy side target is the endpoint that a Base observed and the peer's record names, of which only the address is used;
// for the hard side it is the easy side's endpoint. The hop limit ttl of the hard side's openers is as in Machine.SetTTL: they must not reach the
// easy side's NAT, which might take them for something of its own. Random is as for New.
func NewSpray(now time.Time, random rand.Source, role Role, target netip.AddrPort, ttl byte) *Spray {
	random = unguessable(random)
	s := &Spray{random: random, role: role, target: target, ttl: ttl}
	if role == NoRole || !target.IsValid() {
		return s
	}
	for i := range s.keys {
		s.keys[i] = uint32(random.Uint64())
	}
	s.next = now
	if role == Easy {
		s.next = now.Add(sprayHead)
	}
	s.end = s.next.Add(sprayFor)
	s.pass = s.next
	return s
}

// Poll returns the next probe to be sent now; it is called until it returns false.
func (s *Spray) Poll(now time.Time) (SprayProbe, bool) {
	for !s.next.IsZero() && !now.Before(s.next) {
		if !now.Before(s.end) {
			s.nextRound(now)
			continue
		}
		if late := now.Add(-sprayCatchUp); s.next.Before(late) {
			s.next = late
		}
		p := SprayProbe{Remote: s.target, Socket: -1, Sequence: uint32(s.random.Uint64() >> 16)}
		if s.role == Easy {
			s.next = s.next.Add(sprayInterval)
			p.Remote = netip.AddrPortFrom(s.target.Addr(), s.port())
			return p, true
		}
		p.Socket, p.TTL = s.socket, s.ttl
		// A limit that is too low does not pass a second NAT of ours: in time some, then all go without.
		if s.round == 1 && s.socket%2 == 1 || s.round > 1 {
			p.TTL = 0
		}
		s.next = s.next.Add(sprayInterval)
		if s.socket++; s.socket == SpraySockets {
			s.socket = 0
			s.pass = s.pass.Add(sprayRefresh)
			if s.next.Before(s.pass) {
				s.next = s.pass
			}
			s.pass = s.next
		}
		return p, true
	}
	return SprayProbe{}, false
}

func (s *Spray) nextRound(now time.Time) {
	s.round++
	if s.round >= sprayRounds {
		s.next = time.Time{}
		return
	}
	s.next = s.end.Add(sprayPause)
	if s.next.Before(now) {
		s.next = now
	}
	s.end = s.next.Add(sprayFor)
	s.pass, s.socket = s.next, 0
}

// port returns the next port, none twice.
func (s *Spray) port() uint16 {
	for {
		p := s.permute(uint16(s.count))
		s.count++
		if p >= firstPort {
			return p
		}
	}
}

// permute is a random permutation of the 16-bit numbers: a Feistel network of four rounds, which needs no memory of what was tried.
func (s *Spray) permute(x uint16) uint16 {
	l, r := byte(x>>8), byte(x)
	for _, k := range s.keys {
		h := (uint32(r) ^ k) * 0x9e3779b1
		h = (h ^ h>>15 ^ k>>7) * 0x85ebca6b
		l, r = r, l^byte(h>>24)
	}
	return uint16(l)<<8 | uint16(r)
}

// Next returns when Poll is due, zero when all is done.
func (s *Spray) Next() time.Time { return s.next }

// Stop ends it.
func (s *Spray) Stop() { s.next = time.Time{} }

// Done reports whether nothing will be sent any more.
func (s *Spray) Done() bool { return s.next.IsZero() }
