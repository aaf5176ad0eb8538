package hnet

import (
	"context"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/config"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/hnet/frames"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/builtin_interfaces"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/diagnostic_msgs"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/geometry_msgs"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/hnet_bridge"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/tf2_msgs"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/visualization_msgs"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/ros"
)

// Name is what the node is called unless it is remapped.
const Name = "hnet"

// eventsDepth is how many events are kept for a subscription that is slow.
const eventsDepth = 100

// Options are what [Run] takes beside the node.
type Options struct {
	Paths config.Paths // the defaults of the parameters
	Guard *Guard       // the one that judges the node's parameters, see [Main]
	// Serve opens the embedded overlay, with what else its process does for it, and runs it until ctx ends or it is taken down; nil is the overlay alone.
	Serve Serve
}

// Main runs the program: a node with the arguments of the command line, to its end.
func Main(paths config.Paths, serve Serve) {
	guard := new(Guard)
	ros.Main(Name, func(ctx context.Context, n *ros.Node) error {
		return Run(ctx, n, Options{Paths: paths, Guard: guard, Serve: serve})
	}, ros.WithParameterAuthorization(guard.Permit), ros.WithLoggerService())
}

// Run makes a node the overlay's, until ctx ends.
func Run(ctx context.Context, n *ros.Node, opt Options) error {
	b := &bridge{node: n, guard: opt.Guard, turned: make(chan struct{}, 1)}
	if err := b.open(opt); err != nil {
		return err
	}
	defer b.client.Close()
	var all sync.WaitGroup
	defer all.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if b.embedded != nil {
		all.Go(func() { b.embedded.Run(ctx) })
	}
	all.Go(func() { b.diagnose(ctx) })
	all.Go(func() { b.draw(ctx) })
	all.Go(func() { b.tellTraffic(ctx) })
	all.Go(func() { b.follower.Run(ctx) })
	<-ctx.Done()
	return nil
}

// bridge is the node /hnet at work.
type bridge struct {
	node     *ros.Node
	guard    *Guard
	params   *parameters
	client   *api.Client
	follower *Follower
	embedded *Embedded // nil unless the overlay is hosted here
	turned   chan struct{}

	peers       *ros.Publisher[hnet_bridge.PeerArray]
	status      *ros.Publisher[hnet_bridge.Status]
	events      *ros.Publisher[hnet_bridge.PeerEvent]
	diagnostics *ros.Publisher[diagnostic_msgs.DiagnosticArray]
	markers     *ros.Publisher[visualization_msgs.MarkerArray]
	traffic     *ros.Publisher[hnet_bridge.Traffic]
}

func (b *bridge) open(opt Options) (err error) {
	n := b.node
	if b.params, err = declareParameters(n, opt.Paths); err != nil {
		return err
	}
	allow := b.params.allowRemote.Get()
	b.guard.configure(allow, n.Log())
	if allow {
		n.Log().Warn("anyone in the ROS graph may change the whitelist, the names and this node's parameters (allow_remote_management)",
			"fix", "see that only trusted hosts reach this ROS domain")
	}
	paths := config.Paths{Config: b.params.configFile.Get(), State: b.params.stateFolder.Get(), Run: b.params.runFolder.Get()}
	if b.params.embedded.Get() {
		b.embedded = &Embedded{Paths: paths, Log: n.Log(), Serve: opt.Serve}
	}
	b.client = api.NewClient(paths.Socket())
	b.follower = &Follower{
		RunFolder: paths.Run, Client: b.client, Log: n.Log(), Embedded: b.embedded != nil, Changed: b.publish,
		Period: func() time.Duration { return period(b.params.publishRate.Get()) },
	}
	if b.peers, err = ros.NewPublisher[hnet_bridge.PeerArray](n, "~/peers", ros.QoSState, ros.QoSOverrides("")); err != nil {
		return err
	}
	if b.status, err = ros.NewPublisher[hnet_bridge.Status](n, "~/status", ros.QoSState, ros.QoSOverrides("")); err != nil {
		return err
	}
	if b.events, err = ros.NewPublisher[hnet_bridge.PeerEvent](n, "~/events", ros.QoS{Depth: eventsDepth}, ros.QoSOverrides("")); err != nil {
		return err
	}
	if b.diagnostics, err = ros.NewPublisher[diagnostic_msgs.DiagnosticArray](n, "/diagnostics", ros.QoS{}, ros.QoSOverrides("")); err != nil {
		return err
	}
	if b.markers, err = ros.NewPublisher[visualization_msgs.MarkerArray](n, "~/markers", ros.QoS{}, ros.QoSOverrides("")); err != nil {
		return err
	}
	if b.traffic, err = ros.NewPublisher[hnet_bridge.Traffic](n, "~/traffic", ros.QoS{}, ros.QoSOverrides("")); err != nil {
		return err
	}
	if unused := n.Parameters().Overrides(); len(unused) > 0 {
		n.Log().Warn("there are no parameters of these names", "names", strings.Join(unused, ", "), "fix", "see 'ros2 param list "+n.FullName()+"'")
	}
	return b.serve()
}

// publish tells the graph what the follower tells.
func (b *bridge) publish(u Update) {
	now := b.node.Now()
	stamp := builtin_interfaces.FromTime(now)
	v := u.View
	b.guard.setDevice(v.Status.Interface)
	for _, e := range u.Events {
		e.Header.Stamp = stamp // on the node's clock, which may be a simulation's
		b.check("~/events", b.events.Publish(e))
	}
	if !v.Answered.IsZero() || !v.Up {
		b.check("~/peers", b.peers.Publish(peersNow(now, v)))
		b.check("~/status", b.status.Publish(statusNow(now, v)))
	}
	if u.Turned {
		select {
		case b.turned <- struct{}{}:
		default:
		}
	}
}

// peersNow is the list of peers. While the daemon is down nothing is known of them but that they exist.
func peersNow(now time.Time, v *View) *hnet_bridge.PeerArray {
	m := PeersMessage(now, v.Peers)
	if !v.Up {
		for i := range m.Peers {
			p := &m.Peers[i]
			p.State, p.Path, p.Endpoint = hnet_bridge.PeerStateUnknown, hnet_bridge.PeerPathNone, ""
			p.RTT, p.Jitter, p.Loss = math.NaN(), math.NaN(), math.NaN()
		}
	}
	return m
}

// statusNow is the daemon's status. While it is down, that is the only warning.
func statusNow(now time.Time, v *View) *hnet_bridge.Status {
	m := StatusMessage(now, &v.Status)
	if !v.Up {
		cause, fix := words(v.Err)
		m.Warnings = []hnet_bridge.Warning{{Code: "daemon_down", Text: cause, Fix: fix}}
		for i := range m.Bases {
			m.Bases[i].State, m.Bases[i].Transport, m.Bases[i].RTT = hnet_bridge.BaseStateUnknown, "none", math.NaN()
		}
	}
	return m
}

// view is the follower's with what the node knows itself.
func (b *bridge) view() *View {
	v := *b.follower.View()
	v.Refused = b.guard.Refused()
	if b.embedded != nil {
		v.Embedded, v.EmbedErr = true, b.embedded.Err()
	}
	return &v
}

// diagnose publishes /diagnostics, at its rate and when the daemon comes or goes.
func (b *bridge) diagnose(ctx context.Context) {
	prefix := strings.TrimPrefix(b.node.FullName(), "/")
	for {
		m := &diagnostic_msgs.DiagnosticArray{Status: Diagnostics(time.Now(), prefix, b.view(), b.params.settings())}
		m.Header.Stamp = builtin_interfaces.FromTime(b.node.Now())
		b.check("/diagnostics", b.diagnostics.Publish(m))
		select {
		case <-ctx.Done():
			return
		case <-b.turned:
		case <-time.After(period(b.params.diagnosticsRate.Get())):
		}
	}
}

// draw publishes ~/markers while someone looks.
func (b *bridge) draw(ctx context.Context) {
	var (
		links Links
		tf    listener
	)
	defer tf.close()
	for ctx.Err() == nil {
		s := b.params.settings()
		if b.params.markersRate.Get() > 0 && b.markers.Subscriptions() > 0 {
			b.check("/tf", tf.open(b.node))
			now := time.Now()
			if m := links.Markers(now, b.view(), s, tf.locator(now)); len(m.Markers) > 0 {
				b.check("~/markers", b.markers.Publish(m))
			}
		} else {
			tf.close()
		}
		select {
		case <-ctx.Done():
		case <-time.After(s.Markers.Period):
		}
	}
}

// check logs a failure. There is little that can fail, and nothing to do about it but to try again.
func (b *bridge) check(topic string, err error) {
	if err != nil {
		b.node.Log().Debug("a topic does not work", "topic", topic, "error", err)
	}
}

// listener listens to tf while it is open.
type listener struct {
	buffer *frames.Buffer
	subs   []*ros.Subscription
}

// tfDepth is how many messages of tf may wait.
const tfDepth = 100

func (l *listener) open(n *ros.Node) error {
	if l.buffer != nil {
		return nil
	}
	buffer := new(frames.Buffer)
	for _, topic := range []struct {
		name   string
		qos    ros.QoS
		static bool
	}{
		{"/tf", ros.QoS{BestEffort: true, Depth: tfDepth}, false},
		{"/tf_static", ros.QoS{TransientLocal: true, Depth: tfDepth}, true},
	} {
		sub, err := ros.NewSubscription(n, topic.name, topic.qos, func(m *tf2_msgs.TFMessage, _ ros.MessageInfo) {
			buffer.Put(time.Now(), topic.static, m.Transforms)
		})
		if err != nil {
			l.close()
			return fmt.Errorf("cannot listen to %s: %w", topic.name, err)
		}
		l.subs = append(l.subs, sub)
	}
	l.buffer = buffer
	return nil
}

func (l *listener) locator(now time.Time) Locator {
	return func(frame, in string) (geometry_msgs.Point, bool) {
		if l.buffer == nil {
			return geometry_msgs.Point{}, false
		}
		return l.buffer.Locate(now, frame, in)
	}
}

func (l *listener) close() {
	for _, s := range l.subs {
		s.Close()
	}
	l.subs, l.buffer = nil, nil
}
