package watch

import (
	"encoding/binary"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/config"
	"github.com/hnet-robotics/hnet_bridge/overlay/engine"
	"github.com/hnet-robotics/hnet_bridge/overlay/tun"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

func TestCounts(t *testing.T) {
	s := newSim(t)
	s.announce(writerID, "rt/chatter", "std_msgs::msg::dds_::String_")
	bytes := 0
	for n := 1; n <= 10; n++ {
		s.out(robotA, message(prefix(1), data(n, 100), heartbeat(writerID)))
		bytes += s.size
	}
	s.in(robotA, message(prefix(2), &wire.InfoDst{Prefix: prefix(1)}, ackNack(writerID, 4, 4, 6)))
	back := s.size
	s.in(robotA, message(prefix(2), &wire.InfoDst{Prefix: prefix(1)}, ackNack(writerID, 11)))
	back += s.size
	s.out(robotA, message(prefix(1), data(4, 100), data(6, 100)))
	bytes += s.size

	got := s.topic(robotA, "/chatter")
	if got.Kind != Topic || got.Type != "std_msgs/msg/String" {
		t.Errorf("it is %v of type %s", got.Kind, got.Type)
	}
	want := Flow{Bytes: uint64(bytes), Messages: 11, Samples: 10, Resent: 2, ResentBytes: 2 * 124}
	got.Tx.Rate = Rate{}
	if got.Tx != want {
		t.Errorf("sent %+v, want %+v", got.Tx, want)
	}
	if got.Rx.Bytes != uint64(back) || got.Rx.Requests != 1 || got.Rx.Samples != 0 {
		t.Errorf("received %+v, want %d bytes and one request", got.Rx, back)
	}
}

func TestRates(t *testing.T) {
	s := newSim(t)
	s.announce(writerID, "rt/odom", "nav_msgs::msg::dds_::Odometry_")
	// 50 Hz for ten seconds, then nothing.
	for n := 1; n <= 500; n++ {
		s.after(20 * time.Millisecond)
		s.out(robotA, message(prefix(1), data(n, 700)))
		if n > 100 && n%7 == 0 {
			if r := s.topic(robotA, "/odom").Tx.Rate; r.Samples < 49 || r.Samples > 51 || r.Bytes != r.Samples*float64(s.size) {
				t.Fatalf("after %v: %+v", s.now.Sub(start), r)
			}
		}
	}
	s.after(4 * time.Second)
	if r := s.topic(robotA, "/odom").Tx.Rate; r != (Rate{}) {
		t.Errorf("when nothing flows: %+v", r)
	}
}

func TestRateOfTheFirstMoments(t *testing.T) {
	s := newSim(t)
	s.after(900 * time.Millisecond)
	for n := 1; n <= 300; n++ {
		s.in(robotA, message(prefix(2), data(n, 100)))
		s.after(10 * time.Millisecond)
		if n > 150 {
			row := s.w.Snapshot(s.now).Peers[0].Topics[0]
			if r := row.Rx.Rate.Samples; r < 90 || r > 110 {
				t.Fatalf("after %d samples at 100 Hz: %.1f", n, r)
			}
		}
	}
}

func TestLosses(t *testing.T) {
	s := newSim(t)
	s.in(robotA, message(prefix(2), sedp(prefix(2), writerID, "rt/scan", "sensor_msgs::msg::dds_::LaserScan_")))
	for n := 100; n < 300; n++ {
		s.after(20 * time.Millisecond)
		switch {
		case n == 150: // lost for good
			continue
		case n == 160: // lost, and sent again later
			continue
		case n == 165:
			s.in(robotA, message(prefix(2), data(160, 100)))
		}
		s.in(robotA, message(prefix(2), data(n, 100)))
	}
	s.after(5 * time.Second)
	got := s.topic(robotA, "/scan").Rx
	if got.Samples != 199 || got.Lost != 1 || got.Resent != 1 {
		t.Errorf("%+v, want 199 samples, 1 lost, 1 resent", got)
	}
	// What came before the first is not missing, and what a GAP says will never come neither.
	g := &wire.Gap{Writer: writerID, Start: 300, Set: wire.NewSequenceNumberSet(400)}
	g.Set.Add(401)
	s.in(robotA, message(prefix(2), g, data(400, 100), data(402, 100)))
	s.after(5 * time.Second)
	if got := s.topic(robotA, "/scan").Rx; got.Lost != 1 || got.Samples != 201 {
		t.Errorf("after a GAP: %+v", got)
	}
}

func TestFragments(t *testing.T) {
	s := newSim(t)
	s.announce(writerID, "rt/image", "sensor_msgs::msg::dds_::Image_")
	const total = 99_500
	for sample := 1; sample <= 5; sample++ {
		for n := 1; n <= 100; n++ {
			if sample == 3 && n == 50 {
				continue
			}
			s.out(robotA, message(prefix(1), fragment(sample, n, total)))
		}
		s.after(100 * time.Millisecond)
	}
	if got := s.topic(robotA, "/image").Tx; got.Samples != 4 || got.Resent != 0 {
		t.Errorf("with a fragment missing: %+v", got)
	}
	s.out(robotA, message(prefix(1), fragment(3, 50, total))) // fills the gap
	s.out(robotA, message(prefix(1), fragment(3, 51, total))) // again, of a sample that is whole
	s.after(5 * time.Second)
	got := s.topic(robotA, "/image").Tx
	if got.Samples != 5 || got.Resent != 2 || got.Lost != 0 || got.ResentBytes != 2*1036 {
		t.Errorf("%+v, want 5 samples, 2 resent", got)
	}
}

// TestServicesAndActions: what belongs together is one row.
func TestServicesAndActions(t *testing.T) {
	s := newSim(t)
	for n, topic := range [][2]string{
		{"rq/add/two_intsRequest", "example_interfaces::srv::dds_::AddTwoInts_Request_"},
		{"rr/add/two_intsReply", "example_interfaces::srv::dds_::AddTwoInts_Response_"},
		{"rt/fib/_action/status", "action_msgs::msg::dds_::GoalStatusArray_"},
		{"rt/fib/_action/feedback", "example_interfaces::action::dds_::Fibonacci_FeedbackMessage_"},
		{"rq/fib/_action/send_goalRequest", "example_interfaces::action::dds_::Fibonacci_SendGoal_Request_"},
		{"rr/fib/_action/cancel_goalReply", "action_msgs::srv::dds_::CancelGoal_Response_"},
		{"ros_discovery_info", "rmw_dds_common::msg::dds_::ParticipantEntitiesInfo_"},
		{"Square", "ShapeType"},
		{"rt/cmd_vel", "geometry_msgs::msg::dds_::Twist_"},
	} {
		id := wire.MakeEntityID(uint32(n+1), wire.KindWriterNoKey)
		s.announce(id, topic[0], topic[1])
		s.out(robotA, message(prefix(1), dataOf(id, 1, 40)))
	}
	for name, want := range map[string]TopicTraffic{
		"/add/two_ints":      {Kind: Service, Type: "example_interfaces/srv/AddTwoInts", Tx: Flow{Samples: 2}, Treatment: engine.Treatment{Lane: engine.Urgent}},
		"/fib":               {Kind: Action, Type: "example_interfaces/action/Fibonacci", Tx: Flow{Samples: 4}, Treatment: engine.Treatment{Lane: engine.Urgent}},
		"ros_discovery_info": {Kind: Topic, Type: "rmw_dds_common/msg/ParticipantEntitiesInfo", Tx: Flow{Samples: 1}, Treatment: engine.Treatment{Lane: engine.Urgent}},
		"Square":             {Kind: Topic, Type: "ShapeType", Tx: Flow{Samples: 1}},
		"/cmd_vel":           {Kind: Topic, Type: "geometry_msgs/msg/Twist", Tx: Flow{Samples: 1}, Treatment: engine.Treatment{Lane: engine.Urgent}},
		"discovery":          {Kind: Discovery, Tx: Flow{Samples: 9}, Treatment: engine.Treatment{Lane: engine.Urgent}},
	} {
		got := s.topic(robotA, name)
		if got.Kind != want.Kind || got.Type != want.Type || got.Tx.Samples != want.Tx.Samples || got.Treatment != want.Treatment {
			t.Errorf("%s is %+v, want %+v", name, got, want)
		}
	}
}

// TestUnknownThenAnnounced: what was counted before the name was known is counted under the name.
func TestUnknownThenAnnounced(t *testing.T) {
	s := newSim(t)
	for n := 1; n <= 5; n++ {
		s.in(robotA, message(prefix(2), data(n, 100)))
	}
	unknown := "unknown topic of " + prefix(2).String() + ".00000103"
	if got := s.topic(robotA, unknown); got.Kind != Unknown || got.Rx.Samples != 5 {
		t.Errorf("%+v", got)
	}
	s.in(robotA, message(prefix(2), sedp(prefix(2), writerID, "rt/scan", "sensor_msgs::msg::dds_::LaserScan_")))
	s.in(robotA, message(prefix(2), data(6, 100)))
	if got := s.topic(robotA, "/scan"); got.Rx.Samples != 6 {
		t.Errorf("%+v", got)
	}
	if row, ok := s.find(robotA, unknown); ok {
		t.Errorf("still there: %+v", row)
	}
	// A reader of this host names the writer that it asks.
	s.out(robotA, message(prefix(1), sedp(prefix(1), readerID, "rt/map", "nav_msgs::msg::dds_::OccupancyGrid_")))
	s.in(robotA, message(prefix(3), data(1, 100)))
	s.out(robotA, message(prefix(1), &wire.InfoDst{Prefix: prefix(3)}, ackNack(writerID, 2)))
	if got := s.topic(robotA, "/map"); got.Rx.Samples != 1 || got.Tx.Bytes == 0 {
		t.Errorf("%+v", got)
	}
}

// TestDisposal: a writer that says that it has ended, in the way of either vendor, has no name any more; one can only speak for itself.
func TestDisposal(t *testing.T) {
	for _, vendor := range []string{"cyclone", "fastdds"} {
		t.Run(vendor, func(t *testing.T) {
			s := newSim(t)
			read := func(name string) []byte {
				b, err := os.ReadFile(filepath.Join("..", "..", "ros_pkg", "rtps", "wire", "testdata", "captured", vendor+"_"+name+".bin"))
				if err != nil {
					t.Fatal(err)
				}
				return b
			}
			s.in(robotA, read("sedp_writer"))
			p := s.w.table.peers[robotA]
			if len(p.book.names) != 1 {
				t.Fatalf("names: %v", p.book.names)
			}
			gone := read("sedp_writer_gone")
			for g := range p.book.names { // the two were captured of different writers
				n := p.book.names[g]
				var r wire.MessageReader
				if err := r.Reset(gone); err != nil {
					t.Fatal(err)
				}
				for sub, ok := r.Next(); ok; sub, ok = r.Next() {
					if d, is := sub.(*wire.Data); is {
						q, _ := wire.ParseInlineQoS(d.InlineQoS)
						ended, ok := wire.EndedGUID(d, &q, wire.PIDEndpointGUID)
						if !ok {
							t.Fatal("the capture ends nothing")
						}
						p.book.add(ended, n)
					}
				}
			}
			before := len(p.book.names)
			s.in(robotB, gone)
			if len(p.book.names) != before {
				t.Error("another peer ended it")
			}
			s.in(robotA, gone)
			if len(p.book.names) >= before {
				t.Errorf("still there: %v", p.book.names)
			}
		})
	}
}

// TestForgedGUIDs: what a peer says is about its own writers, whatever it calls them.
func TestForgedGUIDs(t *testing.T) {
	s := newSim(t)
	s.announce(writerID, "rt/cmd_vel", "geometry_msgs::msg::dds_::Twist_")
	s.in(robotB, message(prefix(2), sedp(prefix(2), writerID, "rt/scan", "sensor_msgs::msg::dds_::LaserScan_")))
	// A speaks in the name of this host's participant, and of B's.
	for _, p := range []wire.GuidPrefix{prefix(1), prefix(2)} {
		s.in(robotA, message(p, sedp(p, writerID, "rt/stolen", "sensor_msgs::msg::dds_::Image_")))
		s.in(robotA, message(p, data(1, 100)))
	}
	// A announces a writer of another participant than the message's.
	s.in(robotA, message(prefix(9), sedp(prefix(8), writerID, "rt/foreign", "x")))
	s.in(robotA, message(prefix(8), data(1, 100)))
	if _, ok := s.find(robotA, "/foreign"); ok {
		t.Error("a participant announced another's writer")
	}

	if got := s.out(robotA, message(prefix(1), data(1, 100))); got.Lane != engine.Urgent {
		t.Errorf("/cmd_vel is treated as %+v", got)
	}
	if got := s.topic(robotA, "/cmd_vel"); got.Tx.Samples != 1 || got.Rx.Samples != 0 {
		t.Errorf("/cmd_vel with A: %+v", got)
	}
	s.in(robotB, message(prefix(2), data(1, 100)))
	if got := s.topic(robotB, "/scan"); got.Rx.Samples != 1 {
		t.Errorf("/scan of B: %+v", got)
	}
	if got := s.topic(robotA, "/stolen"); got.Rx.Samples != 2 {
		t.Errorf("what A did is counted as %+v", got)
	}
	// A claims a type that makes a topic bulk; this host's writer of that topic is judged by its own announcement.
	s.in(robotA, message(prefix(7), sedp(prefix(7), writerID, "rt/odd", "sensor_msgs::msg::dds_::Image_")))
	s.in(robotA, message(prefix(7), data(1, 100)))
	s.announce(0x203, "rt/odd", "std_msgs::msg::dds_::String_")
	if got := s.out(robotA, message(prefix(1), dataOf(0x203, 1, 100))); got.Lane == engine.Bulk {
		t.Error("a peer's announcement decided how this host's writer is treated")
	}
	if got := s.topic(robotA, "/odd").Type; got != "std_msgs/msg/String" {
		t.Errorf("its type is %s", got)
	}
}

func TestTreatment(t *testing.T) {
	s := newSim(t,
		config.Lane{Match: "/cmd_vel", Lane: "urgent", Redundant: true}, config.Lane{Match: "/camera/*", Lane: "normal"}, config.Lane{Match: "/slow?", Lane: "bulk"})
	ids := map[string]wire.EntityID{}
	for n, x := range [][2]string{
		{"rt/cmd_vel", "geometry_msgs::msg::dds_::Twist_"}, {"rt/camera/image", "sensor_msgs::msg::dds_::Image_"},
		{"rt/depth", "sensor_msgs::msg::dds_::Image_"}, {"rt/slow1", "std_msgs::msg::dds_::String_"}, {"rt/robot1/tf", "tf2_msgs::msg::dds_::TFMessage_"},
		{"rq/getRequest", "a::srv::dds_::B_Request_"}, {"rt/chatter", "std_msgs::msg::dds_::String_"}, {"rt/blob", "a::msg::dds_::Blob_"},
	} {
		ids[x[0]] = wire.MakeEntityID(uint32(n+1), wire.KindWriterNoKey)
		s.announce(ids[x[0]], x[0], x[1])
	}
	d := func(topic string) wire.Submessage { return dataOf(ids[topic], 1, 100) }
	big := &wire.DataFrag{
		Writer: ids["rt/blob"], SN: 1, FirstFragment: 1, Fragments: 1, FragmentSize: 1000, SampleSize: 70_000, Payload: make([]byte, 1000),
	}
	unknown := wire.EntityID(0x99903)
	for _, test := range []struct {
		name string
		subs []wire.Submessage
		want engine.Treatment
	}{
		{"a rule of the configuration", []wire.Submessage{d("rt/cmd_vel")}, engine.Treatment{Lane: engine.Urgent, Redundant: true}},
		{"it goes before the defaults", []wire.Submessage{d("rt/camera/image")}, engine.Treatment{Lane: engine.Normal}},
		{"its question mark", []wire.Submessage{d("rt/slow1")}, engine.Treatment{Lane: engine.Bulk}},
		{"images", []wire.Submessage{d("rt/depth")}, engine.Treatment{Lane: engine.Bulk}},
		{"transforms with a namespace", []wire.Submessage{d("rt/robot1/tf")}, engine.Treatment{Lane: engine.Urgent}},
		{"services", []wire.Submessage{d("rq/getRequest")}, engine.Treatment{Lane: engine.Urgent}},
		{"the rest", []wire.Submessage{d("rt/chatter")}, engine.Treatment{}},
		{"the rest with large samples", []wire.Submessage{big}, engine.Treatment{Lane: engine.Bulk}},
		{"its small samples do not overtake", []wire.Submessage{d("rt/blob")}, engine.Treatment{Lane: engine.Bulk}},
		{"nobody knows", []wire.Submessage{dataOf(unknown, 1, 10)}, engine.Treatment{}},
		{"the most urgent of several", []wire.Submessage{d("rt/depth"), d("rt/cmd_vel"), d("rt/chatter")}, engine.Treatment{Lane: engine.Urgent, Redundant: true}},
		{"a heartbeat behind samples", []wire.Submessage{d("rt/depth"), heartbeat(ids["rt/cmd_vel"])}, engine.Treatment{Lane: engine.Bulk}},
		{"a heartbeat before samples", []wire.Submessage{heartbeat(ids["rt/cmd_vel"]), d("rt/depth")}, engine.Treatment{Lane: engine.Bulk}},
		{"a heartbeat stays with its samples", []wire.Submessage{heartbeat(ids["rt/depth"])}, engine.Treatment{Lane: engine.Bulk}},
		{"a heartbeat alone", []wire.Submessage{heartbeat(ids["rt/cmd_vel"])}, engine.Treatment{Lane: engine.Urgent, Redundant: true}},
		{"requests", []wire.Submessage{&wire.InfoDst{Prefix: prefix(2)}, ackNack(writerID, 3, 3)}, engine.Treatment{Lane: engine.Urgent}},
		{"discovery", []wire.Submessage{heartbeat(wire.EntitySEDPPublicationsWriter)}, engine.Treatment{Lane: engine.Urgent}},
		{"nothing", nil, engine.Treatment{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := s.out(robotA, message(prefix(1), test.subs...)); got != test.want {
				t.Errorf("%+v, want %+v", got, test.want)
			}
		})
	}
	s.after(2 * largeFor * time.Second)
	if got := s.out(robotA, message(prefix(1), d("rt/blob"))); got != (engine.Treatment{}) {
		t.Errorf("a minute after the last large sample: %+v", got)
	}
}

// TestLargeThenNamed: what was bulk for its size, while nobody knew its name, is what the rules say of the name.
func TestLargeThenNamed(t *testing.T) {
	s := newSim(t)
	if got := s.out(robotA, message(prefix(1), fragment(1, 1, 70_000))); got.Lane != engine.Bulk {
		t.Errorf("without a name it is treated as %+v", got)
	}
	s.announce(writerID, "rt/tf", "tf2_msgs::msg::dds_::TFMessage_")
	for _, sub := range []wire.Submessage{fragment(1, 2, 70_000), heartbeat(writerID)} {
		if got := s.out(robotA, message(prefix(1), sub)); got.Lane != engine.Urgent {
			t.Errorf("%T of /tf is treated as %+v", sub, got)
		}
	}
	if got := s.topic(robotA, "/tf").Treatment; got.Lane != engine.Urgent {
		t.Errorf("the table says %+v", got)
	}
}

// TestTwoReaders: the same sample to two programs of a peer is not sent again, it is sent twice.
func TestTwoReaders(t *testing.T) {
	s := newSim(t)
	s.announce(writerID, "rt/chatter", "std_msgs::msg::dds_::String_")
	for n := 1; n <= 10; n++ {
		for _, port := range []uint16{7411, 7413} {
			p := ip6(self, robotA, port, message(prefix(1), data(n, 100)))
			s.i.Outbound(s.now, robotA, append(make([]byte, tun.HeaderLen), p...))
		}
	}
	if got := s.topic(robotA, "/chatter").Tx; got.Samples != 20 || got.Resent != 0 {
		t.Errorf("%+v", got)
	}
}

// TestTwoInspectors: a peer's packets may come by two sockets in turns.
func TestTwoInspectors(t *testing.T) {
	s := newSim(t)
	other := s.w.Inspector()
	for n := 1; n <= 100; n++ {
		s.after(20 * time.Millisecond)
		s.i, other = other, s.i
		s.in(robotA, message(prefix(2), data(n, 100)))
	}
	s.after(5 * time.Second)
	row := s.w.Snapshot(s.now).Peers[0].Topics[0]
	if row.Rx.Samples != 100 || row.Rx.Lost != 0 || row.Rx.Resent != 0 {
		t.Errorf("%+v", row.Rx)
	}
}

func TestOtherTraffic(t *testing.T) {
	s := newSim(t)
	// A TCP superpacket of 3 segments, 2 of 1000 bytes.
	tcp := make([]byte, ipv6Len+20+2500)
	tcp[0], tcp[6], tcp[ipv6Len+12] = 0x60, protocolTCP, 0x50
	header := make([]byte, tun.HeaderLen)
	h := tun.Header{Flags: tun.FlagNeedsChecksum, GSO: tun.GSOTCPv6, GSOSize: 1000, HeaderLen: 60, ChecksumStart: 40, ChecksumOffset: 16}
	h.Encode(header)
	if got := s.i.Outbound(s.now, robotA, append(header, tcp...)); got != (engine.Treatment{}) {
		t.Errorf("TCP is treated as %+v", got)
	}
	icmp := make([]byte, ipv6Len+64)
	icmp[0], icmp[6] = 0x60, protocolICMPv6
	s.i.Inbound(s.now, robotA, icmp)
	s.i.Inbound(s.now, robotA, ip6(robotA, self, 53, []byte("not RTPS at all, but long enough")))
	s.i.Inbound(s.now, robotA, ip4(7411, message(prefix(2), data(1, 100))))
	esp := make([]byte, ipv6Len+64)
	esp[0], esp[6] = 0x60, 50
	s.i.Inbound(s.now, robotA, esp)
	for name, want := range map[string][2]Flow{
		"TCP":      {{Bytes: 2500 + 3*60, Messages: 3}, {}},
		"ICMP":     {{}, {Bytes: 104, Messages: 1}},
		"UDP":      {{}, {Bytes: 80, Messages: 1}},
		"other IP": {{}, {Bytes: 104, Messages: 1}},
	} {
		got := s.topic(robotA, name)
		for d, f := range []Flow{got.Tx, got.Rx} {
			f.Rate = Rate{}
			if f != want[d] {
				t.Errorf("%s: %+v, want %+v", name, f, want[d])
			}
		}
	}
	if got := s.w.Snapshot(s.now).Peers[0].Topics[0]; got.Kind != Unknown || got.Rx.Samples != 1 {
		t.Errorf("RTPS over IPv4: %+v", got)
	}
}

// TestTrain: each datagram of a superpacket counts, and the most urgent decides.
func TestTrain(t *testing.T) {
	s := newSim(t)
	s.announce(writerID, "rt/depth", "sensor_msgs::msg::dds_::Image_")
	s.announce(0x203, "rt/tf", "tf2_msgs::msg::dds_::TFMessage_")
	var payload []byte
	for n := 1; n <= 10; n++ {
		payload = append(payload, message(prefix(1), data(n, 100))...)
	}
	size := len(payload) / 10
	send := func() engine.Treatment {
		header := make([]byte, tun.HeaderLen)
		h := tun.Header{Flags: tun.FlagNeedsChecksum, GSO: tun.GSOUDP, GSOSize: uint16(size), HeaderLen: 48, ChecksumStart: 40, ChecksumOffset: 6}
		h.Encode(header)
		return s.i.Outbound(s.now, robotA, append(header, ip6(self, robotA, userPort, payload)...))
	}
	if got := send(); got.Lane != engine.Bulk {
		t.Errorf("%+v", got)
	}
	got := s.topic(robotA, "/depth").Tx
	if got.Samples != 10 || got.Bytes != uint64(10*(48+size)) || got.Messages != 10 {
		t.Errorf("%+v", got)
	}
	copy(payload[5*size:], message(prefix(1), dataOf(0x203, 1, 100)))
	if got := send(); got.Lane != engine.Urgent {
		t.Errorf("with /tf in it: %+v", got)
	}
}

// TestFragmentedDatagram: the first fragment says what a datagram is, and the rest are counted with it.
func TestFragmentedDatagram(t *testing.T) {
	s := newSim(t)
	s.announce(writerID, "rt/depth", "sensor_msgs::msg::dds_::Image_")
	whole := ip6(self, robotA, userPort, message(prefix(1), data(1, 5000)))[ipv6Len:]
	bytes := 0
	for at := 0; at < len(whole); at += 1232 {
		part := whole[at:min(at+1232, len(whole))]
		b := make([]byte, tun.HeaderLen+ipv6Len+8)
		ip := b[tun.HeaderLen:]
		ip[0], ip[6], ip[ipv6Len] = 0x60, protocolFragment, protocolUDP
		binary.BigEndian.PutUint16(ip[4:], uint16(8+len(part)))
		more := uint16(1)
		if at+len(part) == len(whole) {
			more = 0
		}
		binary.BigEndian.PutUint16(ip[ipv6Len+2:], uint16(at)|more)
		binary.BigEndian.PutUint32(ip[ipv6Len+4:], 77)
		b = append(b, part...)
		bytes += len(b) - tun.HeaderLen
		if got := s.i.Outbound(s.now, robotA, b); got.Lane != engine.Bulk {
			t.Errorf("the fragment at %d is treated as %+v", at, got)
		}
	}
	if got := s.topic(robotA, "/depth").Tx; got.Samples != 1 || got.Bytes != uint64(bytes) || got.Messages != 1 {
		t.Errorf("%+v, want %d bytes", got, bytes)
	}
}

// TestAnnouncementInFragments: the first fragment of a long DATA(w) has the names.
func TestAnnouncementInFragments(t *testing.T) {
	s := newSim(t)
	d := wire.EndpointData{
		GUID: wire.GUID{Prefix: prefix(2), Entity: writerID}, Topic: "rt/scan", Type: "sensor_msgs::msg::dds_::LaserScan_", QoS: wire.DefaultQoS(true),
		UserData: make([]byte, 3000),
	}
	payload := d.Append(nil)
	s.in(robotA, message(prefix(2), &wire.DataFrag{
		Writer: wire.EntitySEDPPublicationsWriter, SN: 1, FirstFragment: 1, Fragments: 1, FragmentSize: 1000, SampleSize: uint32(len(payload)), Payload: payload[:1000],
	}))
	s.in(robotA, message(prefix(2), data(1, 100)))
	if got := s.topic(robotA, "/scan"); got.Rx.Samples != 1 {
		t.Errorf("%+v", got)
	}
}

// TestCaptured: discovery as Cyclone DDS and Fast DDS send it.
func TestCaptured(t *testing.T) {
	for _, vendor := range []string{"cyclone", "fastdds"} {
		s := newSim(t)
		for _, name := range []string{"sedp_writer", "sedp_reader"} {
			b, err := os.ReadFile(filepath.Join("..", "..", "ros_pkg", "rtps", "wire", "testdata", "captured", vendor+"_"+name+".bin"))
			if err != nil {
				t.Fatal(err)
			}
			s.out(robotA, b)
		}
		names := s.w.table.own.names
		if len(names) != 2 {
			t.Errorf("%s: %v", vendor, names)
		}
		for _, n := range names {
			if !strings.HasPrefix(n.text, "/") || !strings.Contains(n.typ, "/msg/") {
				t.Errorf("%s: %+v", vendor, n)
			}
		}
	}
}

func TestNames(t *testing.T) {
	for in, want := range map[[2]string]name{
		{"rt/a/b", "p::msg::dds_::T_"}:                                             {Topic, "/a/b", "p/msg/T"},
		{"rq/a/bRequest", "p::srv::dds_::S_Request_"}:                              {Service, "/a/b", "p/srv/S"},
		{"rr/a/bReply", "p::srv::dds_::S_Response_"}:                               {Service, "/a/b", "p/srv/S"},
		{"rr/x/_action/get_resultReply", "p::action::dds_::A_GetResult_Response_"}: {Action, "/x", "p/action/A"},
		{"rt/_action/x", "p::msg::dds_::T_"}:                                       {Topic, "/_action/x", "p/msg/T"},
		{"other/x", "T"}:                                                           {Topic, "other/x", "T"},
		{"plain", "a::b"}:                                                          {Topic, "plain", "a::b"},
	} {
		if got := rosName(in[0], in[1]); got != want {
			t.Errorf("%v is %+v, want %+v", in, got, want)
		}
	}
}

func TestMatch(t *testing.T) {
	for _, test := range []struct {
		pattern, text string
		want          bool
	}{
		{"/cmd_vel", "/cmd_vel", true}, {"/cmd_vel", "/cmd_vel2", false}, {"/cmd_vel*", "/cmd_vel2", true}, {"*/cmd_vel*", "/cmd_vel", true},
		{"*/cmd_vel*", "/robot/cmd_vel_nav", true}, {"*/tf", "/tf_static", false}, {"/a?c", "/abc", true}, {"/a?c", "/ac", false}, {"*", "", true},
		{"", "", true}, {"", "x", false}, {"/*/image*", "/a/b/image_raw", true}, {"/**b", "/xb", true}, {"/a*b*c", "/a1b2", false},
	} {
		if got := match(test.pattern, test.text); got != test.want {
			t.Errorf("%q with %q: %v", test.pattern, test.text, got)
		}
	}
}

func addresses(n int) (list []netip.Addr) {
	for i := range n {
		list = append(list, netip.AddrFrom16([16]byte{0: 0xfc, 1: 0x94, 12: 1, 14: byte(i >> 8), 15: byte(i)}))
	}
	return list
}
