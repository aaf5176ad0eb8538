// Package machine is an RTPS participant without sockets, clock and goroutines: datagrams, calls and the time go in;
// datagrams, callbacks and the time of the next tick come out. It is not safe for concurrent use.
package machine

import (
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// Vendor is the id in the headers of our messages. It is not registered; nobody has this one.
var Vendor = wire.VendorID{0x01, 0x68}

// Config describes a participant.
type Config struct {
	Domain      int
	Prefix      wire.GuidPrefix
	Name        string
	UserData    []byte
	Ports       Ports
	Index       int
	StaticPeers []netip.Addr
	PeerIndices int  // 0 means 10
	Multicast   bool // announce to the groups
	Localhost   bool // loopback only

	MaxMessage int           // longest UDP payload to other hosts, in bytes; 0 means 1,200: Fast DDS with our profile cuts off what is longer
	MaxSample  int           // longest sample, in bytes; 0 means 64 MiB
	Lease      time.Duration // how long others believe in us unheard; 0 means 20 s
	Limits     Limits
	Random     *rand.Rand
	Log        *slog.Logger // nil = none
}

// Limits bound what the network can make the participant remember. A zero means the default in brackets. What does not
// fit is refused, counted and logged once: what is known and alive is worth more than what claims to be new.
type Limits struct {
	Participants    int // [1,024]
	Endpoints       int // of others, all together [16,384]
	PerParticipant  int // endpoints of one participant [2,048]
	EndpointBytes   int // of the descriptions of endpoints, all together [64 MiB]
	Reassembly      int // bytes of samples not complete, all together [128 MiB]
	WriterAssembly  int // bytes of samples not complete of one writer to one reader [64 MiB]
	Held            int // bytes of samples of one writer to one reader that wait for an earlier one [16 MiB]
	HeldAll         int // the same, all together [128 MiB]
	PerSource       int // participants announced from one address [256]
	NewParticipants int // new participants from one address per second, with a burst of eight times that [32]
}

func (l *Limits) fill() {
	for _, d := range []struct {
		v    *int
		fill int
	}{
		{&l.Participants, 1024}, {&l.Endpoints, 16384}, {&l.PerParticipant, 2048}, {&l.EndpointBytes, 64 << 20},
		{&l.Reassembly, 128 << 20},
		{&l.WriterAssembly, 64 << 20}, {&l.Held, 16 << 20}, {&l.HeldAll, 128 << 20}, {&l.PerSource, 256},
		{&l.NewParticipants, 32},
	} {
		if *d.v <= 0 {
			*d.v = d.fill
		}
	}
}

// Counters count since the beginning.
type Counters struct {
	DatagramsIn, DatagramsOut uint64
	BytesIn, BytesOut         uint64
	Samples                   uint64 // delivered
	Resent                    uint64 // samples and fragments sent again
	Heartbeats, AckNacks      uint64 // sent
	Lost                      uint64 // samples of reliable writers that were gone before they came
	Duplicates                uint64
	Malformed                 uint64 // datagrams that are not RTPS, or not valid to the end
	Unknown                   uint64 // submessages of endpoints that are not known
	RefusedParticipants       uint64 // by a bound
	RefusedEndpoints          uint64 // by a bound
	RefusedFragments          uint64 // by a bound, or not fitting together
	RefusedHeld               uint64 // samples too far ahead of what is missing
	Forged                    uint64 // datagrams, farewells and changes of a participant from addresses that are not its own
	Expired                   uint64 // participants
	Stalled                   uint64 // readers given up by a full writer
	Unsent                    uint64 // messages that could not be written
}

// Machine is a participant.
type Machine struct {
	config   Config
	counters Counters
	timers   timers
	out      *Output
	in       wire.MessageReader
	b        wire.Builder
	data     wire.Data // being written
	dataFrag wire.DataFrag
	blank    int // length of the message under way that has nothing in it
	room     int // bytes it may have, where it is written in the output's memory; 0: in scratch
	scratch  []byte
	inline   []byte
	closed   bool

	own           *ParticipantInfo
	links         []Interface
	given         []Interface
	ownAddrs      map[netip.Addr]bool
	known         []netip.Prefix   // addresses announced last that others can reach, with their networks
	userTo        []netip.AddrPort // announced
	metaTo        []netip.AddrPort
	participants  map[wire.GuidPrefix]*remote
	sources       map[netip.Addr]*source
	endpoints     int // of all participants
	endpointBytes int
	nextEntity    uint32

	writers map[wire.EntityID]*Writer
	readers map[wire.EntityID]*Reader
	// Where a submessage belongs, by the writer and by the reader it names.
	writerProxies map[wire.GUID][]*writerProxy

	builtin builtin

	reassembly, held int // bytes
	recycled         recycled

	subscribers []func(GraphEvent)
	complained  map[string]bool

	announce spdp
}

// New makes a participant. It is silent until Start.
func New(config Config) *Machine {
	if config.MaxMessage <= 0 {
		config.MaxMessage = 1200
	}
	config.MaxMessage = max(config.MaxMessage, 512)
	if config.MaxSample <= 0 {
		config.MaxSample = 64 << 20
	}
	if config.Lease <= 0 {
		config.Lease = 20 * time.Second
	}
	if config.PeerIndices <= 0 {
		config.PeerIndices = 10
	}
	config.PeerIndices = min(config.PeerIndices, MaxIndex+1)
	config.Limits.fill()
	m := &Machine{
		config: config, out: outputs.Get().(*Output), ownAddrs: make(map[netip.Addr]bool),
		participants: make(map[wire.GuidPrefix]*remote), sources: make(map[netip.Addr]*source),
		writers: make(map[wire.EntityID]*Writer), readers: make(map[wire.EntityID]*Reader),
		writerProxies: make(map[wire.GUID][]*writerProxy), complained: make(map[string]bool),
	}
	m.scratch = make([]byte, 0, 2048)
	m.b.ResetTo(m.scratch, wire.Header{})
	m.own = &ParticipantInfo{
		Prefix: config.Prefix, Vendor: Vendor, Name: config.Name, UserData: clone(config.UserData),
		Lease: config.Lease, SameHost: true, Own: true,
	}
	m.makeBuiltin()
	return m
}

// Prefix is the participant's.
func (m *Machine) Prefix() wire.GuidPrefix { return m.config.Prefix }

// Counters returns the counts so far.
func (m *Machine) Counters() Counters { return m.counters }

// Subscribe calls f for each change of the graph.
func (m *Machine) Subscribe(f func(GraphEvent)) { m.subscribers = append(m.subscribers, f) }

// Graph returns what is known.
func (m *Machine) Graph() Graph {
	g := Graph{Participants: []*ParticipantInfo{m.own}}
	for _, w := range m.writers {
		if !w.builtin {
			g.Writers = append(g.Writers, w.endpoint)
		}
	}
	for _, r := range m.readers {
		if !r.builtin {
			g.Readers = append(g.Readers, r.endpoint)
		}
	}
	for _, p := range m.participants {
		g.Participants = append(g.Participants, p.info)
		for _, e := range p.endpoints {
			if e.endpoint.Writer {
				g.Writers = append(g.Writers, e.endpoint)
			} else {
				g.Readers = append(g.Readers, e.endpoint)
			}
		}
	}
	less := func(a, b *Endpoint) int { return compareGUID(a.GUID, b.GUID) }
	slices.SortFunc(g.Writers, less)
	slices.SortFunc(g.Readers, less)
	slices.SortFunc(g.Participants, func(a, b *ParticipantInfo) int { return slices.Compare(a.Prefix[:], b.Prefix[:]) })
	return g
}

func compareGUID(a, b wire.GUID) int {
	if c := slices.Compare(a.Prefix[:], b.Prefix[:]); c != 0 {
		return c
	}
	return int(int64(a.Entity) - int64(b.Entity))
}

// Close lets go of everything; Farewell comes before, if at all.
func (m *Machine) Close() {
	m.closed = true
	for _, w := range m.writers {
		w.closed = true
		w.progress()
	}
	m.timers = nil
}

// complain logs a trouble that the network can cause, once.
func (m *Machine) complain(key, text string, args ...any) {
	if m.config.Log != nil && !m.complained[key] {
		m.complained[key] = true
		m.config.Log.Warn(text+" (told once, then only counted)", args...)
	}
}

// entity makes the id of an endpoint.
func (m *Machine) entity(kind byte) wire.EntityID {
	m.nextEntity++
	return wire.MakeEntityID(m.nextEntity, kind)
}
