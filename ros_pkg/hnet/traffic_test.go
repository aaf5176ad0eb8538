package hnet

import (
	"fmt"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/builtin_interfaces"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/hnet_bridge"
)

func TestTrafficMessage(t *testing.T) {
	since := noon.Add(-time.Hour)
	got := TrafficMessage(noon, &api.Traffic{Watching: true, Since: &since, Peers: []api.PeerTraffic{{
		Address: robot1, Hostname: "robot-1", Topics: []api.TopicTraffic{{
			Name: "/scan", Kind: api.TrafficTopic, Type: "sensor_msgs/msg/LaserScan", Lane: "bulk", Redundant: true,
			Tx: api.Flow{
				Bytes: 1, Messages: 2, Samples: 3, Resent: 4, ResentBytes: 5, Lost: 6, Requests: 7,
				BytesPerSecond: 8, MessagesPerSecond: 9, SamplesPerSecond: 10, ResentPerSecond: 11, LostPerSecond: 12,
			},
			Rx: api.Flow{Bytes: 13},
		}},
	}}})
	want := hnet_bridge.TopicTraffic{
		Peer: "fc94::1", Hostname: "robot-1", Name: "/scan", Kind: hnet_bridge.TopicTrafficKindTopic, Type: "sensor_msgs/msg/LaserScan",
		Lane: hnet_bridge.TopicTrafficLaneBulk, Redundant: true,
		Tx: hnet_bridge.TrafficFlow{
			Bytes: 1, Messages: 2, Samples: 3, Resent: 4, ResentBytes: 5, Lost: 6, Requests: 7,
			Bandwidth: 8, MessageRate: 9, SampleRate: 10, ResentRate: 11, LostRate: 12,
		},
		Rx: hnet_bridge.TrafficFlow{Bytes: 13},
	}
	if !got.Watching || got.Since != builtin_interfaces.FromTime(since) || got.Header.Stamp != builtin_interfaces.FromTime(noon) || len(got.Topics) != 1 || got.Topics[0] != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if off := TrafficMessage(noon, &api.Traffic{}); off.Watching || len(off.Topics) != 0 || off.Since != (builtin_interfaces.Time{}) {
		t.Errorf("when nobody looks: %+v", off)
	}
}

// TestTrafficBound: of more topics than fit, the busiest are told.
func TestTrafficBound(t *testing.T) {
	p := api.PeerTraffic{Address: robot1}
	for n := range 2 * maxTopics {
		p.Topics = append(p.Topics, api.TopicTraffic{Name: fmt.Sprint("/t", n), Kind: "of a later version", Tx: api.Flow{BytesPerSecond: float64(n)}})
	}
	got := TrafficMessage(noon, &api.Traffic{Watching: true, Peers: []api.PeerTraffic{p}})
	if len(got.Topics) != maxTopics || got.Topics[0].Name != fmt.Sprint("/t", 2*maxTopics-1) || got.Topics[0].Kind != hnet_bridge.TopicTrafficKindTopic {
		t.Errorf("%d topics, the first %+v", len(got.Topics), got.Topics[0])
	}
}

// TestTrafficWords: every kind and lane of the API has a constant of its own.
func TestTrafficWords(t *testing.T) {
	kinds, lanes := map[uint8]bool{}, map[uint8]bool{}
	for _, k := range trafficKinds {
		kinds[k] = true
	}
	for _, l := range trafficLanes {
		lanes[l] = true
	}
	if len(kinds) != 6 || len(lanes) != 4 {
		t.Errorf("%d kinds and %d lanes", len(kinds), len(lanes))
	}
}
