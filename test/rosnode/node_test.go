package rosnode

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/cdr"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/hnet_bridge"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/rmw_dds_common"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/rmw_dds_common_humble"
	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
	"github.com/hnet-robotics/hnet_bridge/test/rosdds"
)

// world is a robot with hnetd and the node /hnet, and another host beside it.
type world struct {
	robot *fleet.Robot
	other *lab.Host
	node  *lab.Process
}

// TestNode is about one node, from its start to hnetd's restart.
func TestNode(t *testing.T) {
	l := lab.New(t)
	robot, other := l.Host("robot"), l.Host("other")
	l.LAN(lab.Link{}, robot, other)
	w := &world{robot: fleet.Start(t, robot, ""), other: other}
	w.node = startNode(t, robot)
	t.Run("graph", w.graph)
	t.Run("late joiner", w.lateJoiner)
	t.Run("services", w.services)
	t.Run("restart", w.restart)
	t.Run("remote", w.remote)
}

func peersOf(t *testing.T, h *lab.Host, v rosdds.Vendor, more string) *lab.Process {
	t.Helper()
	return rosdds.StartRaw(t, h, v, fields("sub rt/hnet/peers hnet_bridge::msg::dds_::PeerArray_ --transient-local --depth 1 --count 0 --timeout 60 %s", more)...)
}

func call(t *testing.T, h *lab.Host, v rosdds.Vendor, service, typ, more string) *lab.Process {
	t.Helper()
	return rosdds.StartRaw(t, h, v, fields("call hnet/%s hnet_bridge::srv::dds_::%s --timeout 40 %s", service, typ, more)...)
}

// has returns a check that a list of peers names an address.
func has(address string) func(*hnet_bridge.PeerArray, time.Time) bool {
	return func(m *hnet_bridge.PeerArray, _ time.Time) bool { return find(m, address) != nil }
}

func find(m *hnet_bridge.PeerArray, address string) *hnet_bridge.Peer {
	for i := range m.Peers {
		if m.Peers[i].Address == address {
			return &m.Peers[i]
		}
	}
	return nil
}

// graph has readers of both vendors, in the manner of Humble and of what came later, hear of the node, each in its own layout and in no other.
func (w *world) graph(t *testing.T) {
	type reader struct {
		p      *lab.Process
		vendor rosdds.Vendor
		humble bool
	}
	var readers []reader
	for i, v := range vendors {
		for j, data := range []string{"", "--user-data typehash=" + new(rmw_dds_common.ParticipantEntitiesInfo).ROSTypeHash() + ";"} {
			h := w.other
			if i == j {
				h = w.robot.Host
			}
			readers = append(readers, reader{rosdds.StartRaw(t, h, v, fields("sub ros_discovery_info rmw_dds_common::msg::dds_::ParticipantEntitiesInfo_ "+
				"--transient-local --depth 1 --count 0 %s", data)...), v, data == ""})
		}
	}
	for _, r := range readers {
		// 7 services of the node's own and 7 that every node has, and 7 topics. A starting node tells of them in steps.
		const want, services, writers = "the node /hnet and its endpoints", 14, 21
		if r.humble {
			m, _ := until(t, r.p, want, func(m *rmw_dds_common_humble.ParticipantEntitiesInfo, _ time.Time) bool {
				return len(m.NodeEntitiesInfoSeq) == 1 && len(m.NodeEntitiesInfoSeq[0].WriterGIDSeq) >= writers && len(m.NodeEntitiesInfoSeq[0].ReaderGIDSeq) >= services
			})
			n := m.NodeEntitiesInfoSeq[0]
			if n.NodeNamespace != "/" || n.NodeName != "hnet" {
				t.Errorf("%s, Humble: %+v", r.vendor, m)
			}
			for _, g := range append(slices.Concat(n.ReaderGIDSeq, n.WriterGIDSeq), m.GID) {
				if [8]byte(g.Data[16:]) != [8]byte{} || [12]byte(g.Data[:12]) != [12]byte(m.GID.Data[:12]) {
					t.Errorf("%s, Humble: GID % x of participant % x", r.vendor, g.Data, m.GID.Data)
				}
			}
		} else {
			m, _ := until(t, r.p, want, func(m *rmw_dds_common.ParticipantEntitiesInfo, _ time.Time) bool {
				return len(m.NodeEntitiesInfoSeq) == 1 && len(m.NodeEntitiesInfoSeq[0].WriterGIDSeq) >= writers && len(m.NodeEntitiesInfoSeq[0].ReaderGIDSeq) >= services
			})
			n := m.NodeEntitiesInfoSeq[0]
			if n.NodeNamespace != "/" || n.NodeName != "hnet" {
				t.Errorf("%s: %+v", r.vendor, m)
			}
			for _, g := range slices.Concat(n.ReaderGIDSeq, n.WriterGIDSeq) {
				if [12]byte(g.Data[:12]) != [12]byte(m.GID.Data[:12]) {
					t.Errorf("%s: GID % x of participant % x", r.vendor, g.Data, m.GID.Data)
				}
			}
		}
	}
	for _, r := range readers {
		stop(t, r.p)
		// Whatever else came had the reader's layout too.
		for line := range strings.Lines(r.p.Output()) {
			if !strings.HasPrefix(line, "sample ") {
				continue
			}
			var m cdr.Message = new(rmw_dds_common.ParticipantEntitiesInfo)
			if r.humble {
				m = new(rmw_dds_common_humble.ParticipantEntitiesInfo)
			}
			exactly(t, parseArrived(t, strings.TrimSpace(line)).payload, m)
		}
	}
}

// lateJoiner has a subscription get what was published before it was there.
func (w *world) lateJoiner(t *testing.T) {
	early := peersOf(t, w.robot.Host, rosdds.Cyclone, "")
	next(t, early, "sample")
	for i, v := range vendors {
		// News starts the time anew after which the list is published without news.
		address := fmt.Sprintf("fc94::1:%d", i+1)
		w.robot.Hnet("whitelist", "add", address, "--hostname", fmt.Sprintf("late%d", i))
		until(t, early, address, has(address))
		start := time.Now()
		late := peersOf(t, w.other, v, "")
		m, at := until(t, late, address, has(address))
		stamp := m.Header.Stamp.AsTime()
		if peer := find(m, address); peer.Hostname != fmt.Sprintf("late%d", i) || !peer.Whitelisted || peer.Path != hnet_bridge.PeerPathNone {
			t.Errorf("%s: %+v", v, peer)
		}
		// Otherwise the machine was too slow for this to say anything.
		if at.Before(start.Add(5*time.Second)) && !stamp.Before(start) {
			t.Errorf("%s got a list of %v, %v after it was started", v, stamp, stamp.Sub(start))
		}
		stop(t, late)
	}
	stop(t, early)
}

func (w *world) whitelist(t *testing.T) (list []netip.Addr) {
	t.Helper()
	var entries api.Whitelist
	w.robot.JSON(&entries, "whitelist", "ls")
	for _, e := range entries.Entries {
		list = append(list, e.Address)
	}
	return list
}

// services has clients of both vendors call at the same time, on the robot, and then from the other host.
func (w *world) services(t *testing.T) {
	watchers := map[rosdds.Vendor]*lab.Process{}
	for _, v := range vendors {
		watchers[v] = peersOf(t, w.other, v, "")
		next(t, watchers[v], "sample")
	}
	type client struct {
		*lab.Process
		vendor  rosdds.Vendor
		address string
	}
	var adds, lists []client
	for i, v := range vendors {
		for j := range 3 {
			address := fmt.Sprintf("fc94::%d:%d", i+2, j+1)
			adds = append(adds, client{call(t, w.robot.Host, v, "whitelist_add", "WhitelistAdd", fmt.Sprintf("%s r%d%d", address, i, j)), v, address})
		}
		lists = append(lists, client{call(t, w.robot.Host, v, "whitelist_list", "WhitelistList", "--count 5"), v, ""})
	}
	answered := map[string]time.Time{}
	for _, c := range adds {
		var r hnet_bridge.WhitelistAddResponse
		answered[c.address] = reply(t, c.Process, c.vendor, &r)
		if !r.Success || !strings.Contains(r.Message, c.address) {
			t.Errorf("%s adds %s: %+v", c.vendor, c.address, r)
		}
		ends(t, c.Process)
	}
	for _, c := range lists {
		for range 5 {
			var r hnet_bridge.WhitelistListResponse
			reply(t, c.Process, c.vendor, &r)
			if !r.Success || !r.Enabled || len(r.Entries) < 2 || r.Entries[0].Address != "fc94::1:1" || r.Entries[0].Source != "local" {
				t.Errorf("%s lists: %+v", c.vendor, r)
			}
		}
		ends(t, c.Process)
	}
	for _, v := range vendors {
		p := watchers[v]
		seen := map[string]time.Time{}
		until(t, p, "all that were added", func(m *hnet_bridge.PeerArray, at time.Time) bool {
			for _, c := range adds {
				if _, ok := seen[c.address]; !ok && find(m, c.address) != nil {
					seen[c.address] = at
				}
			}
			return len(seen) == len(adds)
		})
		var delays []time.Duration
		for _, c := range adds {
			delays = append(delays, max(0, seen[c.address].Sub(answered[c.address])))
		}
		slices.Sort(delays)
		t.Logf("from the answer of whitelist_add to the peer on ~/peers, %s: %v", v, delays)
		// A loaded machine may hold one of them up.
		if delays[len(delays)/2] > time.Second {
			t.Errorf("%s: peers came on ~/peers %v after they were added", v, delays)
		}
		stop(t, p)
	}
	list := w.whitelist(t)
	for _, c := range adds {
		if !slices.Contains(list, netip.MustParseAddr(c.address)) {
			t.Errorf("%s, added by %s, is not in 'hnet whitelist ls': %v", c.address, c.vendor, list)
		}
	}

	for _, v := range vendors {
		var r hnet_bridge.WhitelistAddResponse
		c := call(t, w.other, v, "whitelist_add", "WhitelistAdd", "fc94::9:9 stranger")
		reply(t, c, v, &r)
		ends(t, c)
		if r.Success || !strings.Contains(r.Message, w.other.Addr4("lan0").String()) || !strings.Contains(r.Message, "allow_remote_management") {
			t.Errorf("%s, from another host: %+v", v, r)
		}
	}
	if slices.Contains(w.whitelist(t), netip.MustParseAddr("fc94::9:9")) {
		t.Error("another host changed the whitelist")
	}
}

// restart ends hnetd under the node and starts it again.
func (w *world) restart(t *testing.T) {
	peers := peersOf(t, w.other, rosdds.FastDDS, "")
	until(t, peers, "a peer", has("fc94::1:1"))
	w.robot.Daemon.Stop()
	w.node.WaitLine(`hnetd is lost`, patience)
	add := func(address string) (r hnet_bridge.WhitelistAddResponse) {
		c := call(t, w.robot.Host, rosdds.Cyclone, "whitelist_add", "WhitelistAdd", address+" back")
		reply(t, c, rosdds.Cyclone, &r)
		ends(t, c)
		return r
	}
	if r := add("fc94::8:1"); r.Success || !strings.Contains(r.Message, "hnetd") {
		t.Errorf("while hnetd was down: %+v", r)
	}
	until(t, peers, "a peer of which nothing is known", func(m *hnet_bridge.PeerArray, _ time.Time) bool {
		p := find(m, "fc94::1:1")
		return p != nil && p.State == hnet_bridge.PeerStateUnknown
	})
	w.robot.Restart()
	w.node.WaitLine(`hnetd answers again`, patience)
	if r := add("fc94::8:2"); !r.Success {
		t.Errorf("after the restart: %+v", r)
	}
	until(t, peers, "a new peer", func(m *hnet_bridge.PeerArray, _ time.Time) bool {
		return find(m, "fc94::8:2") != nil && find(m, "fc94::1:1") != nil && find(m, "fc94::8:1") == nil
	})
	if strings.Contains(peers.Output(), "matched 0") {
		t.Error("the subscription lost the node")
	}
	stop(t, peers)
	select {
	case <-w.node.Done():
		t.Error("the node has ended")
	default:
	}
}

// remote starts the node anew, to obey anyone.
func (w *world) remote(t *testing.T) {
	stop(t, w.node)
	w.node = startNode(t, w.robot.Host, "allow_remote_management:=true")
	var calls []*lab.Process
	for i, v := range vendors {
		calls = append(calls, call(t, w.other, v, "whitelist_add", "WhitelistAdd", fmt.Sprintf("fc94::7:%d remote%d", i+1, i)))
	}
	for i, v := range vendors {
		var r hnet_bridge.WhitelistAddResponse
		reply(t, calls[i], v, &r)
		ends(t, calls[i])
		if !r.Success {
			t.Errorf("%s, from another host: %+v", v, r)
		}
		if list := w.whitelist(t); !slices.Contains(list, netip.MustParseAddr(fmt.Sprintf("fc94::7:%d", i+1))) {
			t.Errorf("%s: %v", v, list)
		}
	}
	stop(t, w.node)
}
