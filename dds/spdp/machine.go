package spdp

import (
	"net/netip"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

const (
	// LocalPort is where local participants announce themselves: the static peer of their profiles.
	LocalPort = 7402
	// PeerPort is where daemons talk to each other.
	PeerPort = 5584
)

// Bounds of the tables. What comes beyond them is refused and counted.
const (
	MaxLocal        = 128  // participants of this host
	MaxPerPeer      = 128  // participants of one peer
	MaxParticipants = 2048 // of all peers
	MaxPeers        = 4096
	maxSockets      = 1024 // discovery ports asked at
	maxQueue        = 2 * (MaxLocal + MaxParticipants)
)

const (
	tick        = 10 * time.Millisecond
	perTick     = 16 // announcements that a local participant hears per tick
	perTickOut  = 64 // announcements to all peers together per tick
	maintenance = 500 * time.Millisecond

	// settle is how long after its start a daemon does not claim to know all its participants.
	settle = 3 * time.Second

	digestEvery = 5 * time.Second
	digestLeast = 100 * time.Millisecond // between two to one peer
	digestSoon  = 20 * time.Millisecond  // after a change, so that changes come together
	// peerSilence is how long a peer's participants live without a digest; longer if their own leases are.
	peerSilence = 3*digestEvery + time.Second
	maxLease    = 100 * time.Second
	// resumed: after a gap this long the local participants may have forgotten the peer's.
	resumed = digestEvery + 2*time.Second

	// refreshEvery is how often local participants hear again of those that they should know: those that know each
	// other need no relay, but one may have lost another while a path was away.
	refreshEvery = 30 * time.Second
	// refreshLeast is between two of them to one local participant, on average: where there are many, each is repeated less often.
	refreshLeast = 120 * time.Millisecond

	// localSilence is how long a local participant may be silent while its socket is open, probeSilent when it is asked.
	localSilence = 60 * time.Second
	probeSilent  = 20 * time.Second
)

// digestHaste is when digests follow the one after a change, and again the announcements to local participants
// (refreshHaste): they repair what was lost.
var (
	digestHaste  = []time.Duration{300 * time.Millisecond, 700 * time.Millisecond, time.Second, 2 * time.Second}
	refreshHaste = []time.Duration{time.Second, 3 * time.Second}
	probeHaste   = []time.Duration{0, time.Second, 3 * time.Second}
)

// Peer is a whitelisted host.
type Peer struct {
	Address netip.Addr
	// IPv4 is its IPv4 address on hnet0, as this host sees it; not valid if it has none.
	IPv4 netip.Addr
	// Connected says that there is a path. To others nothing is sent, but what is known of them stays until its lease
	// ends, as the participants themselves take it.
	Connected bool
	// Idle says that there is no session with it at the moment; it may be connected all the same, since what is sent to it begins one.
	Idle bool
}

// Socket is a UDP socket of this host that is bound at an overlay address or at all.
type Socket struct {
	Port  uint16
	Inode uint64
	IPv4  bool // reached by IPv4, else by IPv6
}

// Datagram is one to send, from [LocalPort] to a local participant or from [PeerPort] to a daemon.
type Datagram struct {
	To      netip.AddrPort
	Local   bool
	Payload []byte
}

// Stats counts since the start.
type Stats struct {
	Announces, Digests, Wants uint64 // sent to peers
	Sames                     uint64 // digests in short
	PeerBytes                 uint64 // sent to peers, UDP payload
	Injected, InjectedBytes   uint64 // sent to local participants
	Probes                    uint64
	Refused                   uint64 // from peers: malformed, beyond a bound, somebody else's prefix or address
	Limited                   uint64 // from peers, beyond the rate
	Unreachable               uint64 // local announcements without an overlay address
}

// Options make a Machine.
type Options struct {
	Address netip.Addr // own overlay address
	Run     uint32     // random, not 0
	Probe   wire.GuidPrefix
	// Release is of this host's participants of which Detect does not know better. Detect, if not nil, is asked once for
	// each participant that comes, with the port at which it is reached.
	Release Release
	Detect  func(port uint16) Release
	// Mixed lets participants of different releases meet.
	Mixed bool
}

// Machine decides; it has no sockets and no clock. Its methods are called from one goroutine at a time, with times that do not go back.
type Machine struct {
	own     place
	session session // the last one begun
	probe   wire.GuidPrefix
	release Release
	detect  func(port uint16) Release
	mixed   bool

	started, nextCare time.Time
	counter           uint32
	settled           bool

	locals  map[wire.GuidPrefix]*local
	order   []*local // by prefix
	peers   map[netip.Addr]*peer
	owners  map[wire.GuidPrefix]*peer // of remote participants
	others  bool                      // whose the prefixes are has changed
	remotes int
	sockets map[Socket]*asked
	asking  bool // some of them will be asked
	unseen  bool // a participant's is not known yet

	sum    uint64 // of the digest
	summed bool   // it is up to date

	outgoing int // announcements waiting, to all peers
	turn     []*peer
	reader   wire.MessageReader
	out      []Datagram
	stats    Stats
}

// New returns a machine at a time.
func New(now time.Time, o Options) *Machine {
	return &Machine{
		own: place{six: o.Address}, session: session(o.Run) << 32, probe: o.Probe, release: o.Release, detect: o.Detect, mixed: o.Mixed,
		started: now, nextCare: now.Add(settle),
		locals: map[wire.GuidPrefix]*local{}, peers: map[netip.Addr]*peer{}, owners: map[wire.GuidPrefix]*peer{}, sockets: map[Socket]*asked{},
	}
}

// Stats returns the counters.
func (m *Machine) Stats() Stats { return m.stats }

// Locals and Remotes count the participants known.
func (m *Machine) Locals() int  { return len(m.locals) }
func (m *Machine) Remotes() int { return m.remotes }

// Owners returns whose the known prefixes are, as overlay addresses, if that has changed since the last call.
func (m *Machine) Owners() (map[wire.GuidPrefix]netip.Addr, bool) {
	if !m.others {
		return nil, false
	}
	m.others = false
	all := make(map[wire.GuidPrefix]netip.Addr, len(m.locals)+len(m.owners))
	for prefix, p := range m.owners {
		all[prefix] = p.addr
	}
	for prefix := range m.locals {
		all[prefix] = m.own.six
	}
	return all, true
}

// Out returns the datagrams to send, in order. The payloads are not to be changed.
func (m *Machine) Out() []Datagram {
	out := m.out
	m.out = nil
	return out
}

// Next is when Tick wants to be called; zero: only after the next event.
func (m *Machine) Next(now time.Time) time.Time {
	var next time.Time
	earlier := func(t time.Time) {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	if !m.settled || len(m.locals) > 0 || m.remotes > 0 || m.asking {
		earlier(m.nextCare)
	}
	if m.outgoing > 0 {
		earlier(now.Add(tick))
	}
	for _, l := range m.order {
		if len(l.queue) > 0 {
			earlier(now.Add(tick))
			break
		}
	}
	for _, p := range m.peers {
		if m.tells(p) {
			earlier(p.due)
		}
	}
	return next
}

// Tick does what is due. Announcements leave by it alone, at the pace of one call per 10 ms.
func (m *Machine) Tick(now time.Time) {
	if !m.settled && !now.Before(m.started.Add(settle)) {
		m.settled = true
		m.hurry(now)
	}
	m.announceSome()
	for _, l := range m.order {
		m.injectSome(l)
	}
	for _, p := range m.peers {
		if m.tells(p) && !p.due.IsZero() && !now.Before(p.due) {
			m.sendDigest(now, p)
		}
	}
	if !now.Before(m.nextCare) {
		m.nextCare = now.Add(maintenance)
		m.care(now)
	}
}

// care looks after everything that has time.
func (m *Machine) care(now time.Time) {
	m.careLocals(now)
	m.carePeers(now)
	m.ask(now)
}

func (m *Machine) sendLocal(port netip.AddrPort, b []byte) {
	m.out = append(m.out, Datagram{To: port, Local: true, Payload: b})
}

func (m *Machine) sendPeer(p *peer, msg *message) {
	m.counter++
	msg.session, msg.heard, msg.counter = p.mine, p.theirs, m.counter
	b := msg.append(make([]byte, 0, 256))
	m.stats.PeerBytes += uint64(len(b))
	m.out = append(m.out, Datagram{To: netip.AddrPortFrom(p.addr, PeerPort), Payload: b})
}

// again is how long after one announcement of a participant to local ones the next follows.
func (m *Machine) again(p wire.GuidPrefix) time.Duration {
	return max(refreshEvery, time.Duration(len(m.locals)+m.remotes)*refreshLeast) + jitter(p)
}

// begin begins a session.
func (m *Machine) begin() session {
	m.session++
	return m.session
}

// timetable is when something is repeated: soon a few times, then regularly.
type timetable struct {
	at   time.Time
	done int
}

func (t *timetable) start(now time.Time, haste []time.Duration) {
	t.at, t.done = now.Add(haste[0]), 1
}

func (t *timetable) next(now time.Time, haste []time.Duration, every time.Duration) {
	if t.done < len(haste) {
		t.at = now.Add(haste[t.done])
		t.done++
		return
	}
	t.at = now.Add(every)
}
