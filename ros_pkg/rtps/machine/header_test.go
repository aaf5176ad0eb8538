package machine

import (
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// What Cyclone DDS says of a sample with its first fragment only counts for the sample, in whatever order its fragments come.
func TestHeaderOfFragments(t *testing.T) {
	const id = wire.EntityID(0x103)
	at := time.Unix(1_600_000_000, 0)
	related := wire.SampleIdentity{Writer: wire.GUID{Prefix: prefixOf(9), Entity: 0x1204}, SN: 7}
	inline := wire.ParameterList{Bytes: wire.AppendInlineQoS(nil, wire.InlineQoS{Related: related, HasRelated: true})}
	for _, order := range [][]int{{0, 1, 2}, {2, 1, 0}, {1, 0, 2}, {0, 0, 2, 1}} {
		s := newSimulation(t)
		a := s.start()
		k := a.reader("rt/x", QoS{})
		x := newStranger(1)
		x.send(a, x.announcement(time.Hour))
		x.send(a, &wire.Heartbeat{Writer: wire.EntitySEDPPublicationsWriter, First: 1, Last: 1, Count: 1}, x.endpoint(1, id, "rt/x"))
		for _, n := range order {
			d := &wire.DataFrag{Writer: id, SN: 1, FirstFragment: wire.FragmentNumber(n + 1), Fragments: 1, FragmentSize: 100, SampleSize: 300, Payload: make([]byte, 100)}
			if n == 0 {
				d.InlineQoS = inline
				x.send(a, &wire.InfoTS{Time: wire.TimestampFrom(at)}, d)
			} else {
				x.send(a, d)
			}
		}
		if len(k.samples) != 1 {
			t.Fatalf("%v: %d samples", order, len(k.samples))
		}
		if g := k.samples[0]; !g.SourceTime.Equal(at) || g.Related == nil || g.Related.Sequence != 7 {
			t.Errorf("%v: time %v, related %v", order, g.SourceTime, g.Related)
		}
	}
}
