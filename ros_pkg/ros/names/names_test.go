package names

import (
	"strings"
	"testing"
)

func TestValid(t *testing.T) {
	for _, c := range []struct {
		check func(string) error
		name  string
		ok    bool
	}{
		{Node, "talker", true},
		{Node, "_hidden_1", true},
		{Node, "", false},
		{Node, "1st", false},
		{Node, "a/b", false},
		{Node, "a-b", false},
		{Node, strings.Repeat("n", MaxNode), true},
		{Node, strings.Repeat("n", MaxNode+1), false},
		{Namespace, "/", true},
		{Namespace, "/a/b", true},
		{Namespace, "", false},
		{Namespace, "a", false},
		{Namespace, "/a/", false},
		{Namespace, "/a//b", false},
		{Namespace, "/1", false},
		{Topic, "/chatter", true},
		{Topic, "/a/_b2", true},
		{Topic, "/", false},
		{Topic, "chatter", false},
		{Topic, "/a b", false},
		{Topic, "/" + strings.Repeat("t", MaxTopic-1), true},
		{Topic, "/" + strings.Repeat("t", MaxTopic), false},
		{Input, "~", true},
		{Input, "~/x", true},
		{Input, "~x", false},
		{Input, "a/~", false},
		{Input, "{node}/x", true},
		{Input, "pre_{node}_post", true},
		{Input, "{node", false},
		{Input, "node}", false},
		{Input, "{1}", false},
		{Input, "{}", false},
		{Input, "{{node}}", false},
		{Input, "a/", false},
		{Input, "/", false},
		{Input, "", false},
		{Input, "a//b", false},
	} {
		if err := c.check(c.name); (err == nil) != c.ok {
			t.Errorf("%q: %v, want ok = %v", c.name, err, c.ok)
		}
	}
}

func TestExpand(t *testing.T) {
	for _, c := range []struct{ name, ns, node, want string }{
		{"chatter", "/", "n", "/chatter"},
		{"chatter", "/a", "n", "/a/chatter"},
		{"/chatter", "/a", "n", "/chatter"},
		{"~", "/a", "n", "/a/n"},
		{"~/x", "/", "n", "/n/x"},
		{"~/x", "/a/b", "n", "/a/b/n/x"},
		{"{node}/x", "/a", "n", "/a/n/x"},
		{"/{node}/x", "/a", "n", "/n/x"},
		{"{ns}/x", "/a", "n", "/a/x"},
		{"{namespace}/x", "/", "n", "/x"},
		{"/{ns}/x", "/a", "n", "/a/x"},
		{"/{ns}/x", "/", "n", "/x"},
		{"{nothing}/x", "/", "n", ""},
		{"x y", "/", "n", ""},
		{strings.Repeat("x", 240), "/a/b/c/d", "n", ""},
	} {
		got, err := Expand(c.name, c.ns, c.node)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%q in %s, node %s: %q %v, want %q", c.name, c.ns, c.node, got, err, c.want)
		}
	}
}

func TestParseRule(t *testing.T) {
	for _, c := range []struct {
		text string
		want Rule
		ok   bool
	}{
		{"a:=b", Rule{"", Names, "a", "b"}, true},
		{"/a/b:=~/c", Rule{"", Names, "/a/b", "~/c"}, true},
		{"talker:a:=b", Rule{"talker", Names, "a", "b"}, true},
		{"rostopic://a:=b", Rule{"", Topics, "a", "b"}, true},
		{"rostopic:///a:=b", Rule{"", Topics, "/a", "b"}, true},
		{"talker:rosservice://~/a:=b", Rule{"talker", Services, "~/a", "b"}, true},
		{"__node:=n", Rule{"", NodeName, "", "n"}, true},
		{"__name:=n", Rule{"", NodeName, "", "n"}, true},
		{"old:__node:=n", Rule{"old", NodeName, "", "n"}, true},
		{"__ns:=/a/b", Rule{"", NodeSpace, "", "/a/b"}, true},
		{"__ns:=a", Rule{}, false},
		{"__node:=a/b", Rule{}, false},
		{"a", Rule{}, false},
		{":=b", Rule{}, false},
		{"a:=", Rule{}, false},
		{"a:=b:=c", Rule{}, false},
		{"/**/a:=b", Rule{}, false},
		{`a:=\1`, Rule{}, false},
		{"a b:=c", Rule{}, false},
	} {
		got, err := ParseRule(c.text)
		if (err == nil) != c.ok || got != c.want {
			t.Errorf("%q: %+v %v, want %+v", c.text, got, err, c.want)
		}
	}
}

func rules(t *testing.T, list ...string) (out Rules) {
	t.Helper()
	for _, s := range list {
		r, err := ParseRule(s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

func TestRemap(t *testing.T) {
	r := rules(t, "other:__node:=wrong", "__node:=robot", "__node:=late", "robot:__ns:=/fleet", "chatter:=/news", "/fleet/chatter:=/late",
		"rosservice://reset:=~/reset", "rostopic://reset:=again", "robot:speed:=velocity", "talker:heat:=cold", "~/in:=/in")
	node := r.NodeName("talker")
	ns := r.Namespace(node, "/")
	if node != "robot" || ns != "/fleet" {
		t.Fatalf("node %q in %q", node, ns)
	}
	for _, c := range []struct{ name, topic, service string }{
		{"chatter", "/news", "/news"},
		{"/chatter", "/chatter", "/chatter"},
		{"/fleet/chatter", "/news", "/news"}, // the first rule fits too
		{"reset", "/fleet/again", "/fleet/robot/reset"},
		{"speed", "/fleet/velocity", "/fleet/velocity"},
		{"heat", "/fleet/heat", "/fleet/heat"}, // that rule names the node as it was
		{"~/in", "/in", "/in"},
		{"~/out", "/fleet/robot/out", "/fleet/robot/out"},
		{"news", "/fleet/news", "/fleet/news"}, // once only
	} {
		topic, err := r.Topic(c.name, ns, node)
		if err != nil || topic != c.topic {
			t.Errorf("topic %s: %q %v, want %q", c.name, topic, err, c.topic)
		}
		service, err := r.Service(c.name, ns, node)
		if err != nil || service != c.service {
			t.Errorf("service %s: %q %v, want %q", c.name, service, err, c.service)
		}
	}
}

func TestDDS(t *testing.T) {
	for _, c := range []struct {
		topic, name string
		meaning     Meaning
	}{
		{DDSTopic("/a/b"), "/a/b", IsTopic},
		{DDSRequest("/a/s"), "/a/s", IsRequest},
		{DDSReply("/a/s"), "/a/s", IsReply},
		{"rt/Request", "/Request", IsTopic},
		{"rq/s", "", Foreign},
		{"rq/Request", "", Foreign},
		{DiscoveryTopic, "", Foreign},
		{"rt", "", Foreign},
		{"Square", "", Foreign},
	} {
		if name, meaning := FromDDSTopic(c.topic); name != c.name || meaning != c.meaning {
			t.Errorf("%q: %q %v", c.topic, name, meaning)
		}
	}
	for ros, dds := range map[string]string{
		"std_msgs/msg/String":            "std_msgs::msg::dds_::String_",
		"std_srvs/srv/SetBool_Request":   "std_srvs::srv::dds_::SetBool_Request_",
		"rmw_dds_common/msg/Participant": "rmw_dds_common::msg::dds_::Participant_",
	} {
		if got := DDSType(ros); got != dds {
			t.Errorf("%s: %s", ros, got)
		}
		if got := FromDDSType(dds); got != ros {
			t.Errorf("%s: %s", dds, got)
		}
	}
	for _, foreign := range []string{"ShapeType", "a::dds_::_", "a::dds_::B", ""} {
		if got := FromDDSType(foreign); got != foreign {
			t.Errorf("%q: %q", foreign, got)
		}
	}
	if s, ok := ServiceType("std_srvs/srv/SetBool_Response"); s != "std_srvs/srv/SetBool" || !ok {
		t.Error(s, ok)
	}
}

func FuzzNames(f *testing.F) {
	for _, s := range []string{"a:=b", "n:rostopic:///a/{node}:=~/b", "__ns:=/a", "/{ns}/x:={namespace}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRule(s)
		if err != nil {
			return
		}
		for _, name := range []string{r.From, r.To, "x", "~"} {
			for _, ns := range []string{"/", "/a"} {
				full, err := Rules{r}.Topic(name, ns, "n")
				if err == nil && Topic(full) != nil {
					t.Errorf("rule %q makes %q of %q", s, full, name)
				}
			}
		}
		if name, meaning := FromDDSTopic(s); meaning != Foreign && name == "" {
			t.Errorf("DDS topic %q has no name", s)
		}
		if name := FromDDSType(s); name != s && DDSType(name) != s {
			t.Errorf("DDS type %q is %q and that %q", s, name, DDSType(name))
		}
	})
}
