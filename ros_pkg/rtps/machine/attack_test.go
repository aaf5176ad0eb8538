package machine

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// stranger writes datagrams by hand.
type stranger struct {
	prefix wire.GuidPrefix
	addr   netip.AddrPort
}

func newStranger(n int) stranger {
	s := stranger{addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 66, byte(n >> 8), byte(n)}), 7410)}
	s.prefix[0] = 9
	binary.BigEndian.PutUint32(s.prefix[8:], uint32(n))
	return s
}

func (x stranger) message(subs ...wire.Submessage) []byte {
	b := wire.NewBuilder(nil, wire.Header{Version: wire.Version, Vendor: wire.VendorCyclone, Prefix: x.prefix})
	for _, s := range subs {
		b.Add(s)
	}
	return b.Bytes()
}

func (x stranger) announcement(lease time.Duration) *wire.Data {
	d := wire.ParticipantData{
		GUID: wire.GUID{Prefix: x.prefix, Entity: wire.EntityParticipant}, Version: wire.Version, Vendor: wire.VendorCyclone,
		Builtin: wire.HasAll, Lease: lease, MetatrafficUnicast: []wire.Locator{wire.LocatorFrom(x.addr)},
		DefaultUnicast: []wire.Locator{wire.LocatorFrom(x.addr)},
	}
	return &wire.Data{Writer: wire.EntitySPDPWriter, SN: 1, Content: wire.DataContent, Payload: d.Append(nil)}
}

func (x stranger) farewell(of wire.GuidPrefix) *wire.Data {
	guid := wire.GUID{Prefix: of, Entity: wire.EntityParticipant}
	return &wire.Data{
		Writer: wire.EntitySPDPWriter, SN: 2, Content: wire.KeyContent, Payload: wire.AppendKey(nil, wire.PIDParticipantGUID, guid),
		InlineQoS: wire.ParameterList{Bytes: wire.AppendInlineQoS(nil, wire.InlineQoS{Status: 3, HasKeyHash: true, KeyHash: guid.Bytes()})},
	}
}

// endpoint describes a writer or reader of the stranger's.
func (x stranger) endpoint(sn int, id wire.EntityID, topic string) *wire.Data {
	d := wire.EndpointData{
		GUID: wire.GUID{Prefix: x.prefix, Entity: id}, Topic: topic, Type: "T", QoS: wire.DefaultQoS(id.IsWriter()),
	}
	w := wire.EntitySEDPSubscriptionsWriter
	if id.IsWriter() {
		w = wire.EntitySEDPPublicationsWriter
	}
	return &wire.Data{Writer: w, SN: wire.SequenceNumber(sn), Content: wire.DataContent, Payload: d.Append(nil)}
}

func (x stranger) send(n *simNode, subs ...wire.Submessage) {
	n.do(func() {
		n.m.HandleDatagram(n.sim.now, x.message(subs...), Arrival{
			From: x.addr, Local: netip.AddrPortFrom(hostAddr(n.host), 7410), Interface: 2,
		})
	})
}

// A flood of participants fills no more than its share, and those that answer stay.
func TestParticipantFlood(t *testing.T) {
	s := newSimulation(t)
	small := func(c *Config) { c.Limits.Participants, c.Limits.PerSource = 100, 50 }
	a, b := s.start(small), s.start(small)
	w, r := a.writer("rt/x", reliableQoS()), b.reader("rt/x", reliableQoS())
	s.until(5*time.Second, "match", func() bool { return w.matches == 1 && r.matches == 1 })
	for i := range 5000 {
		x := newStranger(i)
		x.send(a, x.announcement(time.Hour*1000))
		s.run(time.Millisecond)
	}
	if len(a.m.participants) > 100 || len(a.m.sources) > 101 {
		t.Errorf("%d participants, %d sources", len(a.m.participants), len(a.m.sources))
	}
	if a.m.counters.RefusedParticipants == 0 {
		t.Error("nothing is counted")
	}
	// From one address: no more than its share.
	one := newStranger(9999)
	for i := range 1000 {
		x := newStranger(10_000 + i)
		x.addr = one.addr
		x.send(a, x.announcement(time.Hour))
		s.run(50 * time.Millisecond)
	}
	if n := a.m.sources[one.addr.Addr()].participants; n > 50 {
		t.Errorf("%d participants from one address", n)
	}
	w.write(0, 50)
	c := s.start()
	k := c.reader("rt/x", reliableQoS())
	s.until(10*time.Second, "a newcomer's match", func() bool { return k.matches == 1 && w.matches == 2 })
	w.write(1, 50)
	s.run(time.Second)
	r.expect(0, 1, 50)
	k.expect(1, 1, 50)
}

func TestForgedFarewell(t *testing.T) {
	s := newSimulation(t)
	w, r := pair(t, s, reliableQoS(), reliableQoS())
	x := newStranger(1)
	// In its own name, in the victim's name, and from an address of its own each time.
	x.send(w.node, x.announcement(time.Minute))
	x.send(w.node, x.farewell(r.node.m.Prefix()))
	y := x
	y.prefix = r.node.m.Prefix()
	y.send(w.node, y.farewell(y.prefix))
	if w.matches != 1 || w.node.m.counters.Forged != 2 {
		t.Errorf("%d matches, %d forgeries counted", w.matches, w.node.m.counters.Forged)
	}
	// A changed announcement in the victim's name moves nothing as long as the victim answers.
	for range 20 {
		y.send(w.node, y.announcement(time.Minute))
		s.run(300 * time.Millisecond)
	}
	if info := w.node.m.participants[y.prefix].info; info.Unicast[0].Addr() != hostAddr(2) {
		t.Errorf("moved to %v", info.Unicast)
	}
	// Nor does it describe another's endpoints.
	d := wire.EndpointData{GUID: r.GUID(), Topic: "rt/x", Type: "T", QoS: wire.DefaultQoS(false)}
	x.send(w.node, &wire.Heartbeat{Writer: wire.EntitySEDPSubscriptionsWriter, First: 1, Last: 1, Count: 1},
		&wire.Data{Writer: wire.EntitySEDPSubscriptionsWriter, SN: 1, Content: wire.DataContent, Payload: d.Append(nil)})
	w.write(0, 50)
	s.run(time.Second)
	r.expect(0, 0, 50)
	if w.node.m.counters.Forged < 4 {
		t.Errorf("%d forgeries counted", w.node.m.counters.Forged)
	}
}

func TestEndpointFlood(t *testing.T) {
	s := newSimulation(t)
	a := s.start(func(c *Config) { c.Limits.Endpoints, c.Limits.PerParticipant = 1000, 300 })
	w := a.writer("rt/x", QoS{Reliability: Reliable, Depth: 10})
	for k := range 10 {
		x := newStranger(k)
		x.send(a, x.announcement(time.Hour))
		x.send(a, &wire.Heartbeat{Writer: wire.EntitySEDPSubscriptionsWriter, First: 1, Last: 500, Count: 1})
		for i := range 500 {
			x.send(a, x.endpoint(i+1, wire.MakeEntityID(uint32(i+1), wire.KindReaderNoKey), "rt/x"))
		}
	}
	if a.m.endpoints != 1000 || w.matches != 1000 {
		t.Errorf("%d endpoints, %d matched", a.m.endpoints, w.matches)
	}
	if a.m.counters.RefusedEndpoints != 4000 {
		t.Errorf("%d refused", a.m.counters.RefusedEndpoints)
	}
	// None of them ever acknowledges.
	for i := range 100 {
		w.write(i, 1000)
		s.run(50 * time.Millisecond)
	}
	if w.history.count > 10 {
		t.Errorf("%d samples are kept", w.history.count)
	}
}

// Samples that are never complete, or wait for one that never comes, cost no more than their bounds.
func TestHoarding(t *testing.T) {
	s := newSimulation(t)
	a := s.start(func(c *Config) {
		c.Limits.WriterAssembly, c.Limits.Reassembly, c.Limits.Held, c.Limits.HeldAll = 1<<20, 3<<20, 1<<20, 3<<20
	})
	k := a.reader("rt/x", reliableQoS())
	const id = wire.EntityID(0x103)
	for n := range 20 {
		x := newStranger(n)
		x.send(a, x.announcement(time.Hour))
		x.send(a, &wire.Heartbeat{Writer: wire.EntitySEDPPublicationsWriter, First: 1, Last: 1, Count: 1}, x.endpoint(1, id, "rt/x"))
		x.send(a, &wire.Heartbeat{Writer: id, First: 1, Last: 1 << 40, Count: 1})
		for i := range 200 {
			x.send(a, &wire.DataFrag{
				Writer: id, SN: wire.SequenceNumber(2 + i), FirstFragment: wire.FragmentNumber(60000 - i), Fragments: 1, FragmentSize: 1000,
				SampleSize: 60_000_000, Payload: make([]byte, 1000),
			}, &wire.DataFrag{
				Writer: id, SN: 3, FirstFragment: wire.FragmentNumber(1 + i), Fragments: 1, FragmentSize: 8000,
				SampleSize: 40_000_000, Payload: make([]byte, 8000),
			}, &wire.Data{
				Writer: id, SN: wire.SequenceNumber(300 + i), Content: wire.DataContent, Payload: make([]byte, 10_000),
			})
			if a.m.reassembly > 3<<20 || a.m.held > 3<<20 {
				t.Fatalf("%d bytes of fragments, %d bytes held", a.m.reassembly, a.m.held)
			}
		}
		x.send(a, &wire.Gap{Writer: id, Start: 1 << 50, Set: wire.NewSequenceNumberSet(1 << 51)})
	}
	if k.matches != 20 || len(k.samples) != 0 || a.m.counters.RefusedFragments == 0 || a.m.counters.RefusedHeld == 0 {
		t.Errorf("%d matches, %d samples, %+v", k.matches, len(k.samples), a.m.counters)
	}
	s.run(20 * time.Second)
	if a.m.reassembly != 0 {
		t.Errorf("%d bytes of fragments are kept for nothing", a.m.reassembly)
	}
	a.do(func() { k.Close(s.now) })
	if a.m.held != 0 {
		t.Errorf("%d bytes are held for nobody", a.m.held)
	}
}
