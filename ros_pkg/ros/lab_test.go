package ros

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/rcl_interfaces"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/std_msgs"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/std_srvs"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/ros/param"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }

// on makes a node on a host.
func on(t *testing.T, h *lab.Host, env, name string, args ...string) *Node {
	t.Helper()
	var n *Node
	err := h.Do(func() (err error) {
		n, err = NewNode(name, WithArgs(args), WithEnvironment(getenv(env)), WithLogHandler(testHandler{t}))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

func fullNames(c *Context) (out []string) {
	for _, n := range c.Nodes() {
		out = append(out, n.FullName())
	}
	return out
}

// TestNodes lets nodes of two hosts work together, over a good link and a bad one.
func TestNodes(t *testing.T) {
	for _, link := range []lab.Link{{}, {Loss: 0.05, Delay: 3 * time.Millisecond}} {
		t.Run(fmt.Sprintf("loss_%v", link.Loss), func(t *testing.T) {
			l := lab.New(t)
			a, b := l.Host("a"), l.Host("b")
			l.LAN(link, a, b)
			talker := on(t, a, "", "talker", "--ros-args", "-r", "__ns:=/fleet", "-p", "rate:=2")
			listener := on(t, b, "", "listener")
			local := on(t, a, "", "local")
			for _, n := range []*Node{talker, listener, local} {
				eventually(t, n.Context(), "all nodes are seen", func() bool {
					return slices.Equal(fullNames(n.Context()), []string{"/fleet/talker", "/listener", "/local"})
				})
			}
			pub, err := NewPublisher[std_msgs.String](talker, "/chatter", QoS{Depth: 1000})
			if err != nil {
				t.Fatal(err)
			}
			const count = 200
			got := make(chan string, count)
			if _, err := NewSubscription(listener, "chatter", QoS{Depth: 1000}, func(m *std_msgs.String, info MessageInfo) {
				if info.Loopback || info.Own || info.From.Addr() != a.Addr4("lan0") {
					t.Errorf("%+v", info)
				}
				got <- m.Data
			}); err != nil {
				t.Fatal(err)
			}
			if err := pub.WaitForSubscriptions(within(t), 1); err != nil {
				t.Fatal(err)
			}
			for i := range count {
				if err := pub.Publish(&std_msgs.String{Data: fmt.Sprint(i)}); err != nil {
					t.Fatal(err)
				}
			}
			for i := range count {
				if s := receive(t, got); s != fmt.Sprint(i) {
					t.Fatalf("%s, want %d", s, i)
				}
			}

			infos := make(chan RequestInfo, 100)
			if _, err := NewService(talker, "~/set", func(_ context.Context, req *std_srvs.SetBoolRequest, info RequestInfo) (*std_srvs.SetBoolResponse, error) {
				infos <- info
				return &std_srvs.SetBoolResponse{Success: req.Data, Message: strings.Repeat("long ", 1000)}, nil
			}); err != nil {
				t.Fatal(err)
			}
			for _, n := range []*Node{listener, local, talker} {
				c, err := NewClient[std_srvs.SetBoolRequest, std_srvs.SetBoolResponse](n, "/fleet/talker/set")
				if err != nil {
					t.Fatal(err)
				}
				for range 10 {
					resp, err := c.Call(within(t), &std_srvs.SetBoolRequest{Data: true})
					if err != nil || !resp.Success || len(resp.Message) != 5000 {
						t.Fatalf("%s: %v %v", n.Name(), resp, err)
					}
					info := receive(t, infos)
					if info.Loopback != (n != listener) || info.Own != (n == talker) || n == listener && info.From.Addr() != b.Addr4("lan0") ||
						n == local && !info.From.IsValid() {
						t.Errorf("%s: %+v", n.Name(), info)
					}
				}
			}
			rate, err := DeclareParameter(talker, "rate", 1.0)
			if err != nil {
				t.Fatal(err)
			}
			set, err := NewClient[rcl_interfaces.SetParametersRequest, rcl_interfaces.SetParametersResponse](listener, "/fleet/talker/set_parameters")
			if err != nil {
				t.Fatal(err)
			}
			resp, err := set.Call(within(t), &rcl_interfaces.SetParametersRequest{Parameters: []rcl_interfaces.Parameter{{Name: "rate", Value: param.Of(8.5).Message()}}})
			if err != nil || !resp.Results[0].Successful || rate.Get() != 8.5 {
				t.Errorf("%+v %v, rate %v", resp, err, rate.Get())
			}
			start := time.Now()
			talker.Close()
			eventually(t, listener.Context(), "the talker is gone", func() bool {
				return slices.Equal(fullNames(listener.Context()), []string{"/listener", "/local"})
			})
			t.Logf("the farewell took %v", time.Since(start))
		})
	}
}

// TestReach checks what the environment variables say about who meets whom.
func TestReach(t *testing.T) {
	l := lab.New(t)
	a, b := l.Host("a"), l.Host("b")
	l.LAN(lab.Link{}, a, b)
	local := on(t, a, "ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST", "local1")
	local2 := on(t, a, "ROS_LOCALHOST_ONLY=1", "local2")
	far := on(t, b, "", "far")
	peer := on(t, b, "ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST ROS_STATIC_PEERS="+a.Addr4("lan0").String()+" ROS_DOMAIN_ID=5", "peer")
	other := on(t, a, "ROS_DOMAIN_ID=5", "other")
	off := on(t, a, "ROS_AUTOMATIC_DISCOVERY_RANGE=OFF", "off")
	for _, pair := range [][2]*Node{{local, local2}, {peer, other}} {
		for i, n := range pair {
			eventually(t, n.Context(), "a pair meets", func() bool { return slices.Contains(fullNames(n.Context()), pair[1-i].FullName()) })
		}
	}
	for _, c := range []struct {
		n    *Node
		want string
	}{{local, "/local1 /local2"}, {local2, "/local1 /local2"}, {far, "/far"}, {peer, "/other /peer"}, {other, "/other /peer"}, {off, "/off"}} {
		if got := strings.Join(fullNames(c.n.Context()), " "); got != c.want {
			t.Errorf("%s sees %s, want %s", c.n.Name(), got, c.want)
		}
	}
}
