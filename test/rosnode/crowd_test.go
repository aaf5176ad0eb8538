package rosnode

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/ros"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
	"github.com/hnet-robotics/hnet_bridge/test/rosdds"
)

// The crowd: nodes that publish and subscribe, and of each vendor publishers and subscriptions.
const (
	crowdHosts = 5
	crowdNodes = 38
	crowdPeers = 6 // that publish, and again that subscribe
	crowdSize  = crowdNodes + 2*crowdPeers
	fromNodes  = 10 // the first number of nodes' messages; others' are lower
)

var crowdVendors = []rosdds.Vendor{rosdds.Cyclone, rosdds.FastDDS, rosdds.Go, rosdds.Cyclone, rosdds.FastDDS, rosdds.Go}

// member is a node of the crowd.
type member struct {
	node *ros.Node
	pub  *ros.Publisher[message]
	sub  *ros.Subscription

	mu    sync.Mutex
	heard map[wire.GUID]uint64 // publishers, and the number of their last message
}

func (m *member) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.heard)
}

// peers counts the publishers heard that are not nodes.
func (m *member) peers() (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, number := range m.heard {
		if number < fromNodes {
			n++
		}
	}
	return n
}

func join(t *testing.T, h *lab.Host, i int) *member {
	t.Helper()
	m := &member{node: node(t, h, fmt.Sprintf("member%d", i)), heard: map[wire.GUID]uint64{}}
	var err error
	m.sub, err = ros.NewSubscription(m.node, "/chatter", ros.QoS{Depth: 2 * crowdSize}, func(msg *message, info ros.MessageInfo) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.heard[info.Publisher] = msg.number
	})
	if err == nil {
		m.pub, err = ros.NewPublisher[message](m.node, "/chatter", ros.QoS{})
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestCrowd has 50 participants on five hosts meet at once. Then some are killed and started again: all hear of the new ones.
func TestCrowd(t *testing.T) {
	l := lab.New(t)
	var hosts []*lab.Host
	var parts []lab.Part
	for i := range crowdHosts {
		h := l.Host(fmt.Sprintf("h%d", i))
		hosts, parts = append(hosts, h), append(parts, h)
	}
	l.LAN(lab.Link{}, parts...)
	everyone := fmt.Sprint(crowdNodes + crowdPeers)
	// A publisher waits for all subscriptions, sends, and waits until all have it.
	pub := func(i int) *lab.Process {
		return rosdds.Start(t, hosts[i%crowdHosts], crowdVendors[i], "pub", "--match", everyone, "--count", "1", "--stay", "--timeout", "0")
	}
	sub := func(i int) *lab.Process {
		return rosdds.Start(t, hosts[(i+2)%crowdHosts], crowdVendors[i], "sub", "--count", "0", "--timeout", "0")
	}
	met := func(pubs, subs []*lab.Process) {
		t.Helper()
		for _, p := range pubs {
			p.WaitLine(`^sent 1$`, patience)
		}
		for _, p := range subs {
			p.WaitLine(`^matched `+everyone+`$`, patience)
		}
	}
	start := time.Now()
	var members []*member
	var pubs, subs []*lab.Process
	for i := range crowdPeers {
		pubs, subs = append(pubs, pub(i)), append(subs, sub(i))
	}
	for i := range crowdNodes {
		members = append(members, join(t, hosts[i%crowdHosts], i))
	}
	met(pubs, subs)
	for i, m := range members {
		lab.Eventually(t, patience, "a node sees all", func() error {
			nodes, readers, writers := len(m.node.Context().Nodes()), m.pub.Subscriptions(), m.sub.Publishers()
			if nodes != crowdNodes || readers != crowdNodes+crowdPeers || writers != crowdNodes+crowdPeers {
				return fmt.Errorf("node %d sees %d of %d nodes, %d subscriptions and %d publishers of %s", i, nodes, crowdNodes, readers, writers, everyone)
			}
			return nil
		})
	}
	t.Logf("%d participants met after %v", crowdSize, time.Since(start))
	for _, m := range members {
		if err := m.pub.Publish(&message{sample{number: fromNodes}}); err != nil {
			t.Error(err)
		}
	}
	hear := func(publishers int) {
		t.Helper()
		for i, m := range members {
			lab.Eventually(t, patience, "all hear all", func() error {
				if n := m.count(); n != publishers {
					return fmt.Errorf("node %d has heard %d of %d publishers, %d of them no nodes", i, n, publishers, m.peers())
				}
				return nil
			})
		}
	}
	hear(crowdNodes + crowdPeers)

	start = time.Now()
	const killed = crowdPeers / 2 // one of each vendor
	for i := range killed {
		pubs[i].Kill9()
		subs[i].Kill9()
	}
	// A new one that met another before that one was killed would wait for it as long as its lease.
	for i := range killed {
		pubs[i], subs[i] = pub(i), sub(i)
	}
	met(pubs[:killed], subs[:killed])
	hear(crowdNodes + crowdPeers + killed)
	for _, m := range members {
		if err := m.pub.Publish(&message{sample{number: fromNodes + 1}}); err != nil {
			t.Error(err)
		}
	}
	for _, p := range subs[:killed] {
		p.WaitLine(fmt.Sprintf(`^received %d 0$`, fromNodes+1), patience)
	}
	t.Logf("those killed were back after %v", time.Since(start))
}
