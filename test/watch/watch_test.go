package watch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/cdr"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/geometry_msgs"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/hnet_bridge"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/sensor_msgs"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/std_msgs"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/ros"
	"github.com/hnet-robotics/hnet_bridge/test/dds"
	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// asNode as first argument makes this test binary a node; the second says whether it is to send, to receive, or to listen to ~/traffic.
const asNode = "as-node"

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == asNode {
		run := func() error { return node(os.Args[2] == "send") }
		if os.Args[2] == "traffic" {
			run = listen
		}
		if err := run(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	lab.Main(m)
}

// What the nodes send, samples per second.
const (
	commandRate = 20
	imageRate   = 5
	scanRate    = 100
	imageSize   = 100_000
	demoRate    = 50
)

// patience is how long anything may take on a loaded machine before a test gives up.
const patience = 40 * time.Second

func node(sends bool) error {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer stop()
	n, err := ros.NewNode("node", ros.WithNamespace(map[bool]string{true: "/sender", false: "/receiver"}[sends]))
	if err != nil {
		return err
	}
	defer n.Close()
	bestEffort := ros.QoS{BestEffort: true}
	if !sends {
		if err := errors.Join(
			hear[geometry_msgs.Twist](n, "/cmd_vel", ros.QoS{}), hear[sensor_msgs.CompressedImage](n, "/camera/compressed", ros.QoS{}),
			hear[std_msgs.String](n, "/scan", bestEffort)); err != nil {
			return err
		}
		fmt.Println("ready")
		<-ctx.Done()
		return nil
	}
	var all sync.WaitGroup
	defer all.Wait()
	image := &sensor_msgs.CompressedImage{Format: "jpeg", Data: make([]byte, imageSize)}
	if err := errors.Join(
		send(ctx, &all, n, "/cmd_vel", ros.QoS{}, commandRate, &geometry_msgs.Twist{}), send(ctx, &all, n, "/camera/compressed", ros.QoS{}, imageRate, image),
		send(ctx, &all, n, "/scan", bestEffort, scanRate, &std_msgs.String{Data: strings.Repeat("x", 500)})); err != nil {
		stop()
		return err
	}
	fmt.Println("ready")
	return nil
}

// listen prints what node /hnet tells of the traffic.
func listen() error {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer stop()
	n, err := ros.NewNode("listener")
	if err != nil {
		return err
	}
	defer n.Close()
	_, err = ros.NewSubscription(n, "/hnet/traffic", ros.QoS{}, func(m *hnet_bridge.Traffic, _ ros.MessageInfo) {
		for _, x := range m.Topics {
			fmt.Println("traffic", x.Hostname, x.Name, x.Type, x.Lane, math.Round(x.Tx.SampleRate))
		}
	})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	<-ctx.Done()
	return nil
}

func hear[T any, P interface {
	*T
	cdr.Message
}](n *ros.Node, topic string, qos ros.QoS) error {
	_, err := ros.NewSubscription[T, P](n, topic, qos, func(*T, ros.MessageInfo) {})
	return err
}

func send[T any, P interface {
	*T
	cdr.Message
}](ctx context.Context, all *sync.WaitGroup, n *ros.Node, topic string, qos ros.QoS, rate int, m P) error {
	pub, err := ros.NewPublisher[T, P](n, topic, qos)
	if err != nil {
		return err
	}
	all.Go(func() {
		for range ros.Every(ctx, time.Second/time.Duration(rate)) {
			if err := pub.Publish(m); err != nil {
				fmt.Fprintln(os.Stderr, topic, err)
			}
		}
	})
	return nil
}

var build = sync.OnceValues(func() (dds.Programs, error) { return dds.Build(context.Background()) })

// robot is a host with a daemon and the DDS profiles it writes.
type robot struct {
	*fleet.Robot
	t *testing.T
}

// Programs must not talk over the LAN that the robots share, past the daemon.
const (
	overlayOnly = "dds: {mode: overlay}\n"
	hnetAlone   = `table inet alone {
 chain input {
  type filter hook input priority 0; policy accept;
  iifname "lan0" udp dport { 5582, 5583 } accept
  iifname "lan0" meta l4proto udp drop
 }
}`
)

// robots are two that trust each other.
func robots(t *testing.T, link lab.Link, configuration string) (a, b *robot, lan *lab.LAN) {
	t.Helper()
	l := lab.New(t)
	one, two := l.Host("robot1"), l.Host("robot2")
	lan = l.LAN(link, one, two)
	for _, h := range []*lab.Host{one, two} {
		(&lab.Router{Host: h}).Rules(t, hnetAlone)
	}
	a, b = &robot{fleet.Start(t, one, configuration), t}, &robot{fleet.Start(t, two, configuration), t}
	fleet.Trust(a.Robot, b.Robot)
	a.Hnet("wait", "peer", b.Address.String(), "--timeout", "20s")
	return a, b, lan
}

// program starts a DDS program that runs until it is stopped.
func (r *robot) program(fast bool, mode string, args ...string) *lab.Process {
	r.t.Helper()
	p, err := build()
	if errors.Is(err, dds.ErrMissing) && os.Getenv("HNET_LAB") != "required" {
		r.t.Skip(err)
	} else if err != nil {
		r.t.Fatal(err)
	}
	path := p.Cyclone
	if fast {
		path = p.FastDDS
	}
	cmd := r.Command(context.Background(), path, append([]string{mode, "--name", r.Name(), "--count", "0"}, args...)...)
	cmd.Env = append(os.Environ(), "CYCLONEDDS_URI=file:///var/lib/hnet/dds/cyclonedds-0.10.xml",
		"FASTRTPS_DEFAULT_PROFILES_FILE=/var/lib/hnet/dds/fastdds-2.xml", "FASTDDS_DEFAULT_PROFILES_FILE=/var/lib/hnet/dds/fastdds-2.xml")
	q := r.StartCmd(r.t, cmd)
	q.WaitLine(`^ready$`, patience)
	return q
}

// node starts a node of our own.
func (r *robot) node(what string) *lab.Process {
	r.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		r.t.Fatal(err)
	}
	p := r.Start(r.t, exe, asNode, what)
	p.WaitLine(`^ready$`, patience)
	return p
}

// topic is what hnet top tells of a topic with the other robot.
func (r *robot) topic(other *robot, name string) (api.TopicTraffic, error) {
	r.t.Helper()
	var v api.Traffic
	r.JSON(&v, "top", other.Name())
	for _, p := range v.Peers {
		for _, topic := range p.Topics {
			if topic.Name == name {
				return topic, nil
			}
		}
	}
	var names []string
	for _, p := range v.Peers {
		for _, topic := range p.Topics {
			names = append(names, topic.Name)
		}
	}
	return api.TopicTraffic{}, fmt.Errorf("there is no %s among %v", name, names)
}

// metrics is what Prometheus would get.
func (r *robot) metrics() string {
	r.t.Helper()
	var c net.Conn
	if err := r.Do(func() (err error) {
		c, err = net.Dial("tcp", "127.0.0.1:9586")
		return err
	}); err != nil {
		r.t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "GET /metrics HTTP/1.0\r\n\r\n")
	b, err := io.ReadAll(c)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(b)
}

// near says whether a number is within 5 % of what it should be.
func near(got, want float64) bool { return math.Abs(got-want) <= 0.05*want }

// TestTopics: the table of both robots has the topics, with their types, lanes and rates.
func TestTopics(t *testing.T) {
	a, b, _ := robots(t, lab.Link{}, overlayOnly+"metrics: 127.0.0.1:9586\n")
	b.program(false, "sub")
	b.program(true, "sub")
	b.node("receive")
	a.node("send")
	a.program(false, "pub", "--rate", fmt.Sprint(demoRate), "--size", "1000", "--match", "2")
	for _, want := range []struct {
		name, typ, lane string
		rate            float64 // samples per second
		bytes           float64 // at least, per second
	}{
		// It goes to two programs.
		{"/hnet_demo", "std_msgs/msg/String", "dscp", 2 * demoRate, 2 * demoRate * 1000},
		{"/cmd_vel", "geometry_msgs/msg/Twist", "urgent", commandRate, commandRate * 48},
		{"/camera/compressed", "sensor_msgs/msg/CompressedImage", "bulk", imageRate, imageRate * imageSize},
		{"/scan", "std_msgs/msg/String", "dscp", scanRate, scanRate * 500},
	} {
		lab.Eventually(t, patience, want.name+" in the tables", func() error {
			sent, err := a.topic(b, want.name)
			if err != nil {
				return err
			}
			received, err := b.topic(a, want.name)
			if err != nil {
				return err
			}
			tx, rx := sent.Tx, received.Rx
			switch {
			case sent.Type != want.typ || received.Type != want.typ || sent.Kind != api.TrafficTopic || received.Kind != api.TrafficTopic:
				return fmt.Errorf("it is %s of type %s, %s of type %s", sent.Kind, sent.Type, received.Kind, received.Type)
			case sent.Lane != want.lane:
				return fmt.Errorf("its lane is %s", sent.Lane)
			case !near(tx.SamplesPerSecond, want.rate) || !near(rx.SamplesPerSecond, want.rate):
				return fmt.Errorf("%.2f samples/s are sent and %.2f received, want %.0f", tx.SamplesPerSecond, rx.SamplesPerSecond, want.rate)
			case tx.BytesPerSecond < want.bytes || tx.BytesPerSecond > 2*want.bytes+300*want.rate || !near(rx.BytesPerSecond, tx.BytesPerSecond):
				return fmt.Errorf("%.0f bytes/s are sent and %.0f received, want %.0f", tx.BytesPerSecond, rx.BytesPerSecond, want.bytes)
			case received.Rx.Lost > 0:
				return fmt.Errorf("%d are lost on a perfect link", received.Rx.Lost)
			}
			return nil
		})
	}
	for _, name := range []string{"discovery", "ros_discovery_info"} {
		if row, err := a.topic(b, name); err != nil || row.Tx.Bytes == 0 || row.Lane != "urgent" {
			t.Errorf("%s: %+v %v", name, row, err)
		}
	}
	a.Start(t, fleet.Binary(t, "hnet_bridge"))
	a.node("traffic").WaitLine(fmt.Sprintf(`^traffic robot2 /cmd_vel geometry_msgs/msg/Twist %d %d$`, hnet_bridge.TopicTrafficLaneUrgent, commandRate), patience)
	metrics := a.metrics()
	if want := fmt.Sprintf(`hnet_topic_samples_total{peer=%q,hostname="robot2",topic="/cmd_vel",kind="topic",direction="transmit"}`, b.Address); !strings.Contains(metrics, want) {
		t.Errorf("the metrics have no %s", want)
	}
}

// TestLoss: on a lossy link a reliable topic is sent again and nothing of it is lost; of a best-effort one as much is lost as the link loses.
func TestLoss(t *testing.T) {
	const loss = 0.05
	a, b, lan := robots(t, lab.Link{}, overlayOnly)
	b.program(true, "sub")
	b.node("receive")
	a.node("send")
	a.program(false, "pub", "--rate", fmt.Sprint(demoRate), "--size", "1000")
	lab.Eventually(t, patience, "the topics", func() error {
		for _, name := range []string{"/hnet_demo", "/scan"} {
			if row, err := b.topic(a, name); err != nil || row.Rx.Samples < 50 {
				return fmt.Errorf("%s: %+v %v", name, row.Rx, err)
			}
		}
		return nil
	})
	lan.Set(lab.Link{Loss: loss, Delay: 5 * time.Millisecond})
	lab.Eventually(t, 3*patience, "what is lost and sent again", func() error {
		sent, err := a.topic(b, "/hnet_demo")
		if err != nil {
			return err
		}
		received, err := b.topic(a, "/hnet_demo")
		if err != nil {
			return err
		}
		if sent.Tx.Resent < 10 || sent.Rx.Requests < 10 || sent.Tx.ResentBytes < 10*1000 || received.Rx.Resent < 10 || received.Tx.Requests < 10 {
			return fmt.Errorf("reliable: sent %+v, received %+v", sent, received)
		}
		if received.Rx.Lost > received.Rx.Samples/100 {
			return fmt.Errorf("reliable: %+v", received.Rx)
		}
		scan, err := b.topic(a, "/scan")
		if err != nil {
			return err
		}
		if share := float64(scan.Rx.Lost) / float64(scan.Rx.Lost+scan.Rx.Samples); scan.Rx.Lost < 30 || share > 2*loss || scan.Rx.Resent > scan.Rx.Lost/3 {
			return fmt.Errorf("best effort: %+v, %.3f", scan.Rx, share)
		}
		return nil
	})
	sent, _ := a.topic(b, "/hnet_demo")
	scan, _ := b.topic(a, "/scan")
	t.Logf("/hnet_demo sent: %+v\n/scan received: %+v", sent.Tx, scan.Rx)
}

// TestRestart: a daemon that restarts under running programs knows their topics, unless its memory is lost: then they are unknown until they are announced
// again, as they are when someone new comes.
func TestRestart(t *testing.T) {
	a, b, _ := robots(t, lab.Link{}, overlayOnly)
	b.program(true, "sub")
	a.program(false, "pub", "--rate", fmt.Sprint(demoRate))
	flows := func() error {
		row, err := a.topic(b, "/hnet_demo")
		if err == nil && row.Tx.Samples < 10 {
			err = fmt.Errorf("%+v", row)
		}
		return err
	}
	lab.Eventually(t, patience, "/hnet_demo", flows)
	a.Daemon.Stop()
	a.Restart()
	lab.Eventually(t, patience, "/hnet_demo after a restart", flows)
	a.Daemon.Stop()
	if err := os.Remove(a.Path("/var/lib/hnet/topics.json")); err != nil {
		t.Fatal(err)
	}
	a.Restart()
	lab.Eventually(t, patience, "an unknown topic", func() error {
		var v api.Traffic
		a.JSON(&v, "top")
		for _, p := range v.Peers {
			for _, topic := range p.Topics {
				if topic.Kind == api.TrafficUnknown && topic.Tx.Samples > 10 {
					return nil
				}
			}
		}
		return fmt.Errorf("%+v", v)
	})
	b.program(false, "sub")
	lab.Eventually(t, patience, "its name", flows)
}

// TestOff: with the switch off nothing is looked at.
func TestOff(t *testing.T) {
	a, _, _ := robots(t, lab.Link{}, "dds: {watch: false}\n")
	if out, code := a.TryHnet("top"); code != 1 || !strings.Contains(out, "watch") {
		t.Errorf("exit code %d: %s", code, out)
	}
}
