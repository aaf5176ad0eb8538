package watch

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/config"
	"github.com/hnet-robotics/hnet_bridge/overlay/engine"
	"github.com/hnet-robotics/hnet_bridge/overlay/tun"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

var _ engine.Inspector = (*Inspector)(nil)

var (
	start  = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	self   = netip.MustParseAddr("fc94::1")
	robotA = netip.MustParseAddr("fc94::a")
	robotB = netip.MustParseAddr("fc94::b")
)

// sim is a watch with one inspector, and what it is told.
type sim struct {
	t    testing.TB
	w    *Watch
	i    *Inspector
	now  time.Time
	size int // of the last IP packet
}

func newSim(t testing.TB, lanes ...config.Lane) *sim {
	w := New(Config{Lanes: lanes, Now: start})
	return &sim{t: t, w: w, i: w.Inspector(), now: start.Add(time.Second)}
}

func (s *sim) after(d time.Duration) { s.now = s.now.Add(d) }

// ip6 is a UDP datagram in an IPv6 packet.
func ip6(source, destination netip.Addr, port uint16, payload []byte) []byte {
	b := make([]byte, ipv6Len+udpLen, ipv6Len+udpLen+len(payload))
	b[0], b[6], b[7] = 0x60, protocolUDP, 64
	binary.BigEndian.PutUint16(b[4:], uint16(udpLen+len(payload)))
	copy(b[8:], source.AsSlice())
	copy(b[24:], destination.AsSlice())
	binary.BigEndian.PutUint16(b[40:], 7411)
	binary.BigEndian.PutUint16(b[42:], port)
	binary.BigEndian.PutUint16(b[44:], uint16(udpLen+len(payload)))
	return append(b, payload...)
}

// ip4 is the same in an IPv4 packet.
func ip4(port uint16, payload []byte) []byte {
	b := make([]byte, ipv4Len+udpLen)
	b[0], b[8], b[9] = 0x45, 64, protocolUDP
	binary.BigEndian.PutUint16(b[2:], uint16(ipv4Len+udpLen+len(payload)))
	binary.BigEndian.PutUint16(b[22:], port)
	binary.BigEndian.PutUint16(b[24:], uint16(udpLen+len(payload)))
	return append(b, payload...)
}

const userPort = 7411

// out tells of a message that this host sends, in that it tells of one to a peer.
func (s *sim) out(to netip.Addr, message []byte) engine.Treatment {
	p := ip6(self, to, userPort, message)
	s.size = len(p)
	return s.i.Outbound(s.now, to, append(make([]byte, tun.HeaderLen), p...))
}

func (s *sim) in(from netip.Addr, message []byte) {
	p := ip6(from, self, userPort, message)
	s.size = len(p)
	s.i.Inbound(s.now, from, p)
}

// topic finds a row.
func (s *sim) topic(peer netip.Addr, name string) TopicTraffic {
	s.t.Helper()
	row, ok := s.find(peer, name)
	if !ok {
		s.t.Fatalf("there is no %q with %s: %+v", name, peer, s.w.Snapshot(s.now))
	}
	return row
}

func (s *sim) find(peer netip.Addr, name string) (TopicTraffic, bool) {
	for _, p := range s.w.Snapshot(s.now).Peers {
		for _, row := range p.Topics {
			if p.Address == peer && row.Name == name {
				return row, true
			}
		}
	}
	return TopicTraffic{}, false
}

// prefix makes a participant's.
func prefix(n byte) wire.GuidPrefix { return wire.GuidPrefix{1, 0x10, 11: n} }

const (
	writerID = 0x00000103
	readerID = 0x00000104
)

// message builds an RTPS message of a participant.
func message(from wire.GuidPrefix, submessages ...wire.Submessage) []byte {
	b := wire.NewBuilder(nil, wire.Header{Version: wire.Version, Vendor: wire.VendorCyclone, Prefix: from})
	for _, s := range submessages {
		b.Add(s)
	}
	if b.Err() != nil {
		panic(b.Err())
	}
	return b.Bytes()
}

func data(n int, payload int) *wire.Data { return dataOf(writerID, n, payload) }

func dataOf(writer wire.EntityID, n, payload int) *wire.Data {
	return &wire.Data{Writer: writer, SN: wire.SequenceNumber(n), Content: wire.DataContent, Payload: make([]byte, payload)}
}

// sedp announces a writer, or a reader.
func sedp(from wire.GuidPrefix, id wire.EntityID, topic, typ string) *wire.Data {
	d := wire.EndpointData{GUID: wire.GUID{Prefix: from, Entity: id}, Topic: topic, Type: typ, QoS: wire.DefaultQoS(id.IsWriter())}
	writer, reader := wire.EntitySEDPPublicationsWriter, wire.EntitySEDPPublicationsReader
	if id.IsReader() {
		writer, reader = wire.EntitySEDPSubscriptionsWriter, wire.EntitySEDPSubscriptionsReader
	}
	return &wire.Data{Writer: writer, Reader: reader, SN: 1, Content: wire.DataContent, Payload: d.Append(nil)}
}

// announce tells of a writer of this host.
func (s *sim) announce(id wire.EntityID, topic, typ string) {
	s.out(robotA, message(prefix(1), sedp(prefix(1), id, topic, typ)))
}

func heartbeat(writer wire.EntityID) *wire.Heartbeat {
	return &wire.Heartbeat{Writer: writer, First: 1, Last: 9, Count: 1}
}

func ackNack(writer wire.EntityID, base wire.SequenceNumber, missing ...wire.SequenceNumber) *wire.AckNack {
	a := &wire.AckNack{Reader: readerID, Writer: writer, Set: wire.NewSequenceNumberSet(base), Count: 1}
	for _, n := range missing {
		a.Set.Add(n)
	}
	return a
}

// fragment is one of a sample of total bytes in fragments of 1000.
func fragment(sample, number, total int) *wire.DataFrag {
	n := min(1000, total-1000*(number-1))
	return &wire.DataFrag{
		Writer: writerID, SN: wire.SequenceNumber(sample), FirstFragment: wire.FragmentNumber(number), Fragments: 1, FragmentSize: 1000,
		SampleSize: uint32(total), Payload: make([]byte, n),
	}
}
