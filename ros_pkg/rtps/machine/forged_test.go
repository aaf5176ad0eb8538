package machine

import (
	"net/netip"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// as is somebody who sends from an address of his own, in another's name.
func (x stranger) as(n *simNode) stranger { return stranger{prefix: n.m.Prefix(), addr: x.addr} }

// Whatever somebody sends in the name of a participant, but from elsewhere, changes nothing.
func TestForgedSources(t *testing.T) {
	s := newSimulation(t)
	w, r := pair(t, s, reliableQoS(), reliableQoS())
	w.write(0, 50)
	s.run(100 * time.Millisecond)
	asWriter, asReader := newStranger(1).as(w.node), newStranger(1).as(r.node)
	before := r.node.m.counters.Forged + w.node.m.counters.Forged
	id, rid := w.GUID().Entity, r.GUID().Entity
	for i, sub := range []wire.Submessage{
		&wire.Heartbeat{Writer: id, First: 1 << 40, Last: 1 << 41, Count: 1 << 20},
		&wire.Gap{Writer: id, Start: 1, Set: wire.NewSequenceNumberSet(1 << 40)},
		&wire.Data{Writer: id, SN: 2, Content: wire.DataContent, Payload: numbered(99, 50)},
		&wire.DataFrag{Writer: id, SN: 2, FirstFragment: 1, Fragments: 1, FragmentSize: 100, SampleSize: 200, Payload: make([]byte, 100)},
		&wire.HeartbeatFrag{Writer: id, SN: 2, LastFragment: 7, Count: 1 << 20},
		&wire.Heartbeat{Writer: wire.EntitySEDPPublicationsWriter, First: 1 << 40, Last: 1 << 41, Count: 1 << 20},
		asWriter.endpoint(9, 0x9903, "rt/x"),
		&wire.Data{Writer: wire.EntitySEDPPublicationsWriter, SN: 3, Content: wire.KeyContent, Payload: wire.AppendKey(nil, wire.PIDEndpointGUID, w.GUID()),
			InlineQoS: wire.ParameterList{Bytes: wire.AppendInlineQoS(nil, wire.InlineQoS{Status: 3})}},
	} {
		asWriter.send(r.node, sub)
		if n := r.node.m.counters.Forged + w.node.m.counters.Forged; n != before+uint64(i)+1 {
			t.Errorf("submessage %d is not counted", i)
		}
	}
	asReader.send(w.node, &wire.AckNack{Reader: rid, Writer: id, Set: wire.NewSequenceNumberSet(1 << 40), Count: 1 << 20})
	asReader.send(w.node, &wire.NackFrag{Reader: rid, Writer: id, SN: 1, Set: wire.NewFragmentNumberSet(1), Count: 1 << 20})
	// By a source that is named inside of a message of his own.
	x := newStranger(2)
	x.send(r.node, x.announcement(time.Hour))
	x.send(r.node, &wire.InfoSrc{Version: wire.Version, Vendor: Vendor, Prefix: w.node.m.Prefix()}, &wire.Gap{Writer: id, Start: 1, Set: wire.NewSequenceNumberSet(1 << 40)})
	for i := range 20 {
		w.write(i+1, 50)
		s.run(10 * time.Millisecond)
	}
	r.expect(0, 20, 50)
	if r.matches != 1 || w.matches != 1 || r.node.m.counters.Lost != 0 {
		t.Errorf("%d and %d matches, %+v", r.matches, w.matches, r.node.m.counters)
	}
}

// Who forges announcements for a victim's address costs it little.
func TestReflection(t *testing.T) {
	s := newSimulation(t)
	a := s.start()
	w := a.writer("rt/x", reliableQoS())
	victim := netip.MustParseAddrPort("10.0.77.77:9")
	sent, bytes := 0, 0
	s.tap = func(_ *simNode, d Datagram) {
		if d.To == victim {
			sent++
			bytes += len(d.Payload)
		}
	}
	x := newStranger(1)
	d := wire.ParticipantData{
		GUID: wire.GUID{Prefix: x.prefix, Entity: wire.EntityParticipant}, Version: wire.Version, Vendor: wire.VendorCyclone, Builtin: wire.HasAll, Lease: time.Hour,
		MetatrafficUnicast: []wire.Locator{wire.LocatorFrom(victim)}, DefaultUnicast: []wire.Locator{wire.LocatorFrom(victim)},
	}
	x.send(a, &wire.Data{Writer: wire.EntitySPDPWriter, SN: 1, Content: wire.DataContent, Payload: d.Append(nil)})
	s.run(10 * time.Minute)
	if sent > 150 {
		t.Errorf("one announcement makes %d datagrams", sent)
	}
	// With an endpoint, and asking for everything again and again.
	sent, bytes = 0, 0
	x.send(a, &wire.Data{Writer: wire.EntitySPDPWriter, SN: 1, Content: wire.DataContent, Payload: d.Append(nil)})
	id := wire.EntityID(0x104)
	x.send(a, &wire.Heartbeat{Writer: wire.EntitySEDPSubscriptionsWriter, First: 1, Last: 1, Count: 1}, x.endpoint(1, id, "rt/x"))
	if w.matches != 1 {
		t.Fatal("no match")
	}
	for i := range 100 {
		w.write(i, 1000)
	}
	for i := range 5000 {
		n := wire.AckNack{Reader: id, Writer: w.GUID().Entity, Set: wire.NewSequenceNumberSet(1), Count: uint32(i + 1)}
		for k := range 100 {
			n.Set.Add(wire.SequenceNumber(k + 1))
		}
		x.send(a, &n)
		s.run(time.Millisecond)
	}
	if most := int(blindPacing.burst + 5*blindPacing.most*1.2); bytes > most {
		t.Errorf("%d bytes in 5 s", bytes)
	}
}
