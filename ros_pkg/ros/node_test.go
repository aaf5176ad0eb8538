package ros

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/cdr"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/builtin_interfaces"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/rcl_interfaces"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/rosgraph_msgs"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/std_msgs"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/std_srvs"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/type_description_interfaces"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/ros/graph"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/ros/names"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/ros/param"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

func TestPublish(t *testing.T) {
	net := new(fakeNet)
	a := net.node(t, "talker", "--ros-args", "-r", "__ns:=/fleet", "-r", "chatter:=/news")
	b := net.node(t, "listener")
	pub, err := NewPublisher[std_msgs.String](a, "chatter", QoS{})
	if err != nil {
		t.Fatal(err)
	}
	type heard struct {
		text string
		info MessageInfo
	}
	got := make(chan heard, 10)
	sub, err := NewSubscription(b, "news", QoS{}, func(m *std_msgs.String, info MessageInfo) { got <- heard{m.Data, info} })
	if err != nil {
		t.Fatal(err)
	}
	if pub.Topic() != "/news" || sub.Topic() != "/news" || a.FullName() != "/fleet/talker" {
		t.Errorf("%s %s %s", pub.Topic(), sub.Topic(), a.FullName())
	}
	if err := pub.WaitForSubscriptions(within(t), 1); err != nil {
		t.Fatal(err)
	}
	if err := sub.WaitForPublishers(within(t), 1); err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"one", "two"} {
		if err := pub.Publish(&std_msgs.String{Data: s}); err != nil {
			t.Fatal(err)
		}
		h := receive(t, got)
		if h.text != s || h.info.Own || !h.info.From.IsValid() || h.info.SourceTime.IsZero() {
			t.Errorf("%+v", h)
		}
	}
	if n := b.Context().CountPublishers("/news"); n != 1 {
		t.Errorf("%d publishers", n)
	}
	infos := b.Context().Publishers("/news")
	if len(infos) != 1 || infos[0].NodeName != "talker" || infos[0].NodeNamespace != "/fleet" || infos[0].Type != "std_msgs/msg/String" ||
		infos[0].TypeHash != new(std_msgs.String).ROSTypeHash() {
		t.Errorf("%+v", infos)
	}
	sub.Close()
	sub.Close()
	eventually(t, a.Context(), "the subscription is gone", func() bool { return pub.Subscriptions() == 0 && a.Context().CountSubscriptions("/news") == 0 })
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := NewPublisher[std_msgs.String](a, "late", QoS{}); !errors.Is(err, ErrClosed) {
		t.Errorf("on a closed node: %v", err)
	}
	eventually(t, b.Context(), "the node is gone", func() bool { return len(b.Context().Nodes()) == 1 })
}

func TestSlowSubscription(t *testing.T) {
	net := new(fakeNet)
	n := net.node(t, "n")
	pub, err := NewPublisher[std_msgs.String](n, "x", QoS{Depth: 100})
	if err != nil {
		t.Fatal(err)
	}
	entered, leave, got := make(chan bool, 10), make(chan bool), make(chan string, 10)
	sub, err := NewSubscription(n, "x", QoS{Depth: 2}, func(m *std_msgs.String, info MessageInfo) {
		if !info.Own {
			t.Error("not own?")
		}
		entered <- true
		<-leave
		got <- m.Data
	})
	if err != nil {
		t.Fatal(err)
	}
	pub.Publish(&std_msgs.String{Data: "0"})
	receive(t, entered)
	for _, s := range []string{"1", "2", "3", "4"} {
		pub.Publish(&std_msgs.String{Data: s})
	}
	close(leave)
	for _, want := range []string{"0", "3", "4"} {
		if s := receive(t, got); s != want {
			t.Errorf("%s, want %s", s, want)
		}
	}
	if sub.Dropped() != 2 {
		t.Errorf("%d dropped", sub.Dropped())
	}
}

func TestBrokenMessages(t *testing.T) {
	net := new(fakeNet)
	n := net.node(t, "n")
	got := make(chan string, 10)
	sub, err := NewSubscription(n, "x", QoS{}, func(m *std_msgs.String, _ MessageInfo) { got <- m.Data })
	if err != nil {
		t.Fatal(err)
	}
	stranger := net.join(wire.VendorFastDDS, "")
	w, _ := stranger.NewWriter(rtps.WriterConfig{Topic: "rt/x", Type: "std_msgs::msg::dds_::String_", QoS: QoS{}.rtps()})
	for _, payload := range [][]byte{nil, {0}, {0, 1, 0, 0}, {0, 1, 0, 0, 255, 255, 255, 255}, {0, 7, 0, 0, 1, 0, 0, 0, 0}} {
		w.Write(payload, rtps.WriteOptions{})
	}
	w.Write(cdr.Marshal(&std_msgs.String{Data: "good"}), rtps.WriteOptions{})
	if s := receive(t, got); s != "good" || sub.Broken() != 5 {
		t.Errorf("%q, %d broken", s, sub.Broken())
	}
}

// A reader of each layout gets its own, and nothing else.
func TestDiscoveryLayouts(t *testing.T) {
	net := new(fakeNet)
	hash := "typehash=RIHS01_91a0593bacdcc50ea9bdcf849a938b128412cc1ea821245c663bcd26f83c295e;"
	heard := map[graph.Layout]chan []byte{graph.Humble: make(chan []byte, 100), graph.Iron: make(chan []byte, 100)}
	listen := func(layout graph.Layout, data string) {
		p := net.join(wire.VendorFastDDS, "enclave=/;")
		p.NewReader(rtps.ReaderConfig{Topic: names.DiscoveryTopic, Type: "rmw_dds_common::msg::dds_::ParticipantEntitiesInfo_", QoS: QoSState.rtps(),
			UserData: []byte(data), Deliver: func(s rtps.Sample) { heard[layout] <- s.Payload }})
	}
	listen(graph.Humble, "")
	n := net.node(t, "n")
	listen(graph.Iron, hash) // comes late and gets the last one
	last := map[graph.Layout]graph.Info{}
	for layout, c := range heard {
		for len(c) > 0 {
			info, found, err := graph.Parse(<-c, n.c.dom.GUID().Prefix, layout)
			if err != nil || found != layout {
				t.Fatalf("layout %d: found %d, %v", layout, found, err)
			}
			last[layout] = info
		}
	}
	for layout, info := range last {
		if len(info.Nodes) != 1 || info.Nodes[0].Full() != "/n" {
			t.Fatalf("layout %d: %+v", layout, info)
		}
		// Every endpoint but those of ros_discovery_info itself.
		g := n.c.dom.Graph()
		want := 0
		for _, e := range append(g.Readers, g.Writers...) {
			if e.GUID.Prefix == n.c.dom.GUID().Prefix && e.Topic != names.DiscoveryTopic {
				want++
				if !slices.Contains(append(info.Nodes[0].Readers, info.Nodes[0].Writers...), e.GUID) {
					t.Errorf("layout %d lacks %s", layout, e.Topic)
				}
			}
		}
		if got := len(info.Nodes[0].Readers) + len(info.Nodes[0].Writers); got != want {
			t.Errorf("layout %d: %d endpoints, want %d", layout, got, want)
		}
	}
	if len(last) != 2 {
		t.Error("a layout was not sent")
	}
}

func TestGraph(t *testing.T) {
	net := new(fakeNet)
	n := net.node(t, "n")
	c := n.Context()
	// A Humble node and a hostile one.
	humble := net.join(wire.VendorCyclone, "enclave=/h;")
	data := func(p *fakeParticipant, about wire.GUID, layout graph.Layout, name string) []byte {
		i := graph.Info{Participant: about, Nodes: []graph.Node{{Namespace: "/", Name: name}}}
		return i.Append(nil, layout)
	}
	config := rtps.WriterConfig{Topic: names.DiscoveryTopic, Type: "rmw_dds_common::msg::dds_::ParticipantEntitiesInfo_", QoS: QoSState.rtps()}
	w, _ := humble.NewWriter(config)
	w.Write(data(humble, humble.GUID(), graph.Humble, "old"), rtps.WriteOptions{})
	evil := net.join(wire.VendorUnknown, "")
	e, _ := evil.NewWriter(config)
	e.Write(data(evil, humble.GUID(), graph.Iron, "forged"), rtps.WriteOptions{})
	e.Write([]byte{0, 1, 0, 0, 1}, rtps.WriteOptions{})
	nodes := c.Nodes()
	if len(nodes) != 2 || nodes[0].FullName() != "/n" || !nodes[0].Own || nodes[1].FullName() != "/old" || nodes[1].Enclave != "/h" || nodes[1].Vendor != "Cyclone DDS" {
		t.Errorf("%+v", nodes)
	}
	humble.leave()
	if nodes := c.Nodes(); len(nodes) != 1 {
		t.Errorf("%+v", nodes)
	}
	var topics, services []string
	for _, x := range c.Topics() {
		topics = append(topics, x.Name+" "+x.Types[0])
	}
	for _, x := range c.Services() {
		services = append(services, x.Name+" "+x.Types[0])
	}
	if want := []string{"/parameter_events rcl_interfaces/msg/ParameterEvent", "/rosout rcl_interfaces/msg/Log"}; !slices.Equal(topics, want) {
		t.Errorf("topics %v", topics)
	}
	if want := []string{"/n/describe_parameters rcl_interfaces/srv/DescribeParameters", "/n/get_parameter_types rcl_interfaces/srv/GetParameterTypes",
		"/n/get_parameters rcl_interfaces/srv/GetParameters", "/n/get_type_description type_description_interfaces/srv/GetTypeDescription",
		"/n/list_parameters rcl_interfaces/srv/ListParameters", "/n/set_parameters rcl_interfaces/srv/SetParameters",
		"/n/set_parameters_atomically rcl_interfaces/srv/SetParametersAtomically"}; !slices.Equal(services, want) {
		t.Errorf("services %v", services)
	}
}

func TestSharedContext(t *testing.T) {
	net := new(fakeNet)
	c, err := Init(WithArgs([]string{"x", "--ros-args", "-r", "one:__node:=uno"}), WithEnvironment(func(string) string { return "" }), WithLogHandler(testHandler{t}),
		func(o *options) { o.dom = net.join(wire.VendorUnknown, "") })
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"one", "two"} {
		if _, err := NewNode(name, WithContext(c), WithNamespace("ns")); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	for _, n := range c.Nodes() {
		names = append(names, n.FullName())
	}
	if want := []string{"/ns/two", "/ns/uno"}; !slices.Equal(names, want) || !slices.Equal(c.Args(), []string{"x"}) {
		t.Errorf("%v %v", names, c.Args())
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	<-c.Done()
	if _, err := NewNode("late", WithContext(c)); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if _, err := NewNode("not a name", WithContext(c)); err == nil {
		t.Error("a bad name passes")
	}
}

func TestRosout(t *testing.T) {
	net := new(fakeNet)
	n := net.node(t, "n", "--ros-args", "-r", "__ns:=/a", "--log-level", "warn", "--log-level", "a.n:=info")
	n.Log().Debug("not this")
	n.Log().With("k", 1).WithGroup("g").Info("hello", "s", "two words")
	n.Log().Log(within(t), LevelFatal, "the end")
	got := make(chan rcl_interfaces.Log, 10)
	listener := net.node(t, "listener")
	_, err := NewSubscription(listener, "/rosout", QoSRosout, func(m *rcl_interfaces.Log, info MessageInfo) {
		if !info.Own {
			got <- *m
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	m := receive(t, got)
	if m.Name != "a.n" || m.Msg != `hello k=1 g.s="two words"` || m.Level != rcl_interfaces.LogInfo || m.Line == 0 || !strings.HasSuffix(m.File, "node_test.go") ||
		!strings.Contains(m.Function, "TestRosout") || m.Stamp == (builtin_interfaces.Time{}) {
		t.Errorf("%+v", m)
	}
	if m := receive(t, got); m.Level != rcl_interfaces.LogFatal {
		t.Errorf("%+v", m)
	}
	quiet := net.node(t, "quiet", "--ros-args", "--disable-rosout-logs")
	quiet.Log().Error("nobody hears")
	none(t, got)
}

func TestParameters(t *testing.T) {
	net := new(fakeNet)
	n := net.node(t, "n", "--ros-args", "-p", "rate:=5", "-p", "other:strange:=1")
	events := make(chan rcl_interfaces.ParameterEvent, 20)
	c := net.node(t, "c")
	if _, err := NewSubscription(c, "/parameter_events", QoSParameterEvents, func(m *rcl_interfaces.ParameterEvent, _ MessageInfo) {
		if m.Node == "/n" {
			events <- *m
		}
	}); err != nil {
		t.Fatal(err)
	}
	rate, err := DeclareParameter(n, "rate", 1.0, Description("Hz"), RangeFloat(0, 10, 0))
	if err != nil {
		t.Fatal(err)
	}
	count, err := DeclareParameter(n, "count", 3, Range(0, 5, 1))
	if err != nil {
		t.Fatal(err)
	}
	if rate.Get() != 5 || count.Get() != 3 {
		t.Errorf("%v %v", rate.Get(), count.Get())
	}
	if e := receive(t, events); len(e.NewParameters) != 1 || e.NewParameters[0].Name != "rate" || e.NewParameters[0].Value.DoubleValue != 5 {
		t.Errorf("%+v", e)
	}
	receive(t, events)
	changes := make(chan param.Change, 10)
	n.OnParameters(func(c param.Change) { changes <- c })
	n.CheckParameters(func(list []param.Parameter) error {
		if len(list) == 1 && list[0].Name == "rate" && list[0].Value.Equal(param.Of(7.0)) {
			return errors.New("seven is right out")
		}
		return nil
	})
	set, err := NewClient[rcl_interfaces.SetParametersRequest, rcl_interfaces.SetParametersResponse](c, "/n/set_parameters")
	if err != nil {
		t.Fatal(err)
	}
	resp, err := set.Call(within(t), &rcl_interfaces.SetParametersRequest{Parameters: []rcl_interfaces.Parameter{
		{Name: "rate", Value: param.Of(2.5).Message()},
		{Name: "rate", Value: param.Of(7.0).Message()},
		{Name: "rate", Value: param.Of(11.0).Message()},
		{Name: "count", Value: param.Of("x").Message()},
		{Name: "nothing", Value: param.Of("x").Message()},
		{Name: "count", Value: rcl_interfaces.ParameterValue{Type: 77}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	var reasons []string
	for _, r := range resp.Results {
		reasons = append(reasons, r.Reason)
	}
	if len(resp.Results) != 6 || !resp.Results[0].Successful || reasons[1] != "seven is right out" || !strings.Contains(reasons[2], "range") ||
		!strings.Contains(reasons[3], "Wrong parameter type") || !strings.Contains(reasons[4], "not declared") || reasons[5] == "" {
		t.Errorf("%q", reasons)
	}
	if ch := receive(t, changes); len(ch.Changed) != 1 || rate.Get() != 2.5 {
		t.Errorf("%+v %v", ch, rate.Get())
	}
	if e := receive(t, events); len(e.ChangedParameters) != 1 || e.ChangedParameters[0].Value.DoubleValue != 2.5 {
		t.Errorf("%+v", e)
	}
	get, err := NewClient[rcl_interfaces.GetParametersRequest, rcl_interfaces.GetParametersResponse](c, "/n/get_parameters")
	if err != nil {
		t.Fatal(err)
	}
	for names, want := range map[string]int{"rate": 1, "rate use_sim_time start_type_description_service": 3, "rate nothing": 0} {
		resp, err := get.Call(within(t), &rcl_interfaces.GetParametersRequest{Names: strings.Fields(names)})
		if err != nil || len(resp.Values) != want {
			t.Errorf("%s: %+v %v", names, resp, err)
		}
	}
	list, err := NewClient[rcl_interfaces.ListParametersRequest, rcl_interfaces.ListParametersResponse](c, "/n/list_parameters")
	if err != nil {
		t.Fatal(err)
	}
	l, err := list.Call(within(t), &rcl_interfaces.ListParametersRequest{})
	l.Result.Names = slices.DeleteFunc(l.Result.Names, func(name string) bool { return strings.HasPrefix(name, "qos_overrides.") })
	if want := []string{"count", "rate", "start_type_description_service", "use_sim_time"}; err != nil || !slices.Equal(l.Result.Names, want) {
		t.Errorf("%+v %v", l, err)
	}
	describe, err := NewClient[rcl_interfaces.DescribeParametersRequest, rcl_interfaces.DescribeParametersResponse](c, "/n/describe_parameters")
	if err != nil {
		t.Fatal(err)
	}
	d, err := describe.Call(within(t), &rcl_interfaces.DescribeParametersRequest{Names: []string{"rate"}})
	if err != nil || len(d.Descriptors) != 1 || d.Descriptors[0].Description != "Hz" || len(d.Descriptors[0].FloatingPointRange) != 1 ||
		d.Descriptors[0].Type != rcl_interfaces.ParameterTypeParameterDouble {
		t.Errorf("%+v %v", d, err)
	}
	atomically, err := NewClient[rcl_interfaces.SetParametersAtomicallyRequest, rcl_interfaces.SetParametersAtomicallyResponse](c, "/n/set_parameters_atomically")
	if err != nil {
		t.Fatal(err)
	}
	a, err := atomically.Call(within(t), &rcl_interfaces.SetParametersAtomicallyRequest{Parameters: []rcl_interfaces.Parameter{
		{Name: "rate", Value: param.Of(1.0).Message()}, {Name: "count", Value: param.Of(int64(99)).Message()}}})
	if err != nil || a.Result.Successful || rate.Get() != 2.5 {
		t.Errorf("%+v %v %v", a, err, rate.Get())
	}
	if err := count.Set(4); err != nil || count.Get() != 4 {
		t.Error(err)
	}
}

func TestParameterAuthorization(t *testing.T) {
	net := new(fakeNet)
	n, err := NewNode("n", WithArgs(nil), WithEnvironment(func(string) string { return "" }), WithLogHandler(testHandler{t}),
		func(o *options) { o.dom = net.join(wire.VendorUnknown, "") },
		WithParameterAuthorization(func(info RequestInfo) error {
			if !info.Own && !info.Loopback {
				return errors.New("from this host only")
			}
			return nil
		}))
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	p, err := DeclareParameter(n, "p", 1)
	if err != nil {
		t.Fatal(err)
	}
	other := net.node(t, "other")
	for _, c := range []struct {
		from *Node
		ok   bool
	}{{other, false}, {n, true}} {
		client, err := NewClient[rcl_interfaces.SetParametersRequest, rcl_interfaces.SetParametersResponse](c.from, "/n/set_parameters")
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Call(within(t), &rcl_interfaces.SetParametersRequest{Parameters: []rcl_interfaces.Parameter{{Name: "p", Value: param.Of(int64(2)).Message()}}})
		if err != nil || resp.Results[0].Successful != c.ok || (p.Get() == 2) != c.ok {
			t.Errorf("%s: %+v %v, p is %v", c.from.Name(), resp, err, p.Get())
		}
	}
}

func TestSimTime(t *testing.T) {
	net := new(fakeNet)
	n := net.node(t, "n", "--ros-args", "-p", "use_sim_time:=true")
	pub, err := NewPublisher[rosgraph_msgs.Clock](net.node(t, "sim"), "/clock", QoSClock)
	if err != nil {
		t.Fatal(err)
	}
	if !n.Now().IsZero() {
		t.Errorf("before the first message it is %v", n.Now())
	}
	if err := pub.WaitForSubscriptions(within(t), 1); err != nil {
		t.Fatal(err)
	}
	// A second subscription of the same depth tells nothing of the first: ask until the time is there.
	at := time.Unix(1000, 5).UTC()
	pub.Publish(&rosgraph_msgs.Clock{Clock: builtin_interfaces.FromTime(at)})
	deadline := time.Now().Add(patience)
	for !n.Now().Equal(at) {
		if time.Now().After(deadline) {
			t.Fatalf("it is %v", n.Now())
		}
		time.Sleep(time.Millisecond)
	}
	if err := n.SetParameters(param.Parameter{Name: "use_sim_time", Value: param.Of(false)}); err != nil {
		t.Fatal(err)
	}
	if since := time.Since(n.Now()); since > time.Minute || since < 0 {
		t.Errorf("the system's time is %v off", since)
	}
	eventually(t, n.Context(), "/clock is left", func() bool { return n.Context().CountSubscriptions("/clock") == 0 })
}

func TestTypeDescription(t *testing.T) {
	net := new(fakeNet)
	n := net.node(t, "n")
	if _, err := NewPublisher[std_msgs.Header](n, "h", QoS{}); err != nil {
		t.Fatal(err)
	}
	client, err := NewClient[type_description_interfaces.GetTypeDescriptionRequest, type_description_interfaces.GetTypeDescriptionResponse](net.node(t, "c"), "/n/get_type_description")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, hash string
		ok         bool
	}{
		{"std_msgs/msg/Header", new(std_msgs.Header).ROSTypeHash(), true},
		{"std_msgs/msg/Header", "", true},
		{"std_msgs/msg/Header", "RIHS01_00", false},
		{"rcl_interfaces/srv/GetParameters", "", true},
		{"rcl_interfaces/srv/GetParameters_Request", new(rcl_interfaces.GetParametersRequest).ROSTypeHash(), true},
		{"std_msgs/msg/String", "", false},
	} {
		resp, err := client.Call(within(t), &type_description_interfaces.GetTypeDescriptionRequest{TypeName: c.name, TypeHash: c.hash, IncludeTypeSources: true})
		if err != nil || resp.Successful != c.ok || c.ok && (resp.TypeDescription.TypeDescription.TypeName != c.name || len(resp.TypeSources) == 0) || !c.ok && resp.FailureReason == "" {
			t.Errorf("%s: %+v %v", c.name, resp, err)
		}
	}
	off := net.node(t, "off", "--ros-args", "-p", "start_type_description_service:=false")
	for _, s := range off.Context().Services() {
		if s.Name == "/off/get_type_description" {
			t.Error("the service is there though it should not")
		}
	}
}

func TestIncompatibleTypes(t *testing.T) {
	net := new(fakeNet)
	n := net.node(t, "n")
	if _, err := NewClient[std_srvs.SetBoolRequest, std_srvs.TriggerResponse](n, "x"); err == nil {
		t.Error("request and response of different services pass")
	}
	if _, err := NewClient[std_msgs.String, std_srvs.TriggerResponse](n, "x"); err == nil {
		t.Error("a message passes as request")
	}
	for _, name := range []string{"", "a b", "~x", "/a/"} {
		if _, err := NewPublisher[std_msgs.String](n, name, QoS{}); err == nil {
			t.Errorf("topic %q passes", name)
		}
	}
}
