package hnet

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/builtin_interfaces"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/interfaces/hnet_bridge"
)

const (
	trafficPeriod = time.Second
	// maxTopics bounds a message of ~/traffic to some 300 kB.
	maxTopics = 1000
)

var trafficKinds = map[api.TrafficKind]uint8{
	api.TrafficUnknown:   hnet_bridge.TopicTrafficKindUnknown,
	api.TrafficTopic:     hnet_bridge.TopicTrafficKindTopic,
	api.TrafficService:   hnet_bridge.TopicTrafficKindService,
	api.TrafficAction:    hnet_bridge.TopicTrafficKindAction,
	api.TrafficDiscovery: hnet_bridge.TopicTrafficKindDiscovery,
	api.TrafficOther:     hnet_bridge.TopicTrafficKindOther,
}

var trafficLanes = map[string]uint8{
	"dscp":   hnet_bridge.TopicTrafficLaneDscp,
	"urgent": hnet_bridge.TopicTrafficLaneUrgent,
	"normal": hnet_bridge.TopicTrafficLaneNormal,
	"bulk":   hnet_bridge.TopicTrafficLaneBulk,
}

// tellTraffic publishes ~/traffic while someone subscribes.
func (b *bridge) tellTraffic(ctx context.Context) {
	tick := time.NewTicker(trafficPeriod)
	defer tick.Stop()
	for {
		if b.traffic.Subscriptions() > 0 && b.follower.View().Up {
			t, err := b.client.Traffic(ctx, "")
			if err == nil {
				err = b.traffic.Publish(TrafficMessage(b.node.Now(), &t))
			}
			b.check("~/traffic", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// TrafficMessage translates the traffic as it was at a time.
func TrafficMessage(at time.Time, t *api.Traffic) *hnet_bridge.Traffic {
	m := &hnet_bridge.Traffic{Header: header(at), Watching: t.Watching}
	if t.Since != nil {
		m.Since = builtin_interfaces.FromTime(*t.Since)
	}
	for i := range t.Peers {
		p := &t.Peers[i]
		for j := range p.Topics {
			x := &p.Topics[j]
			kind, known := trafficKinds[x.Kind]
			if !known { // of a later daemon
				kind = hnet_bridge.TopicTrafficKindTopic
			}
			m.Topics = append(m.Topics, hnet_bridge.TopicTraffic{
				Peer: text(p.Address), Hostname: p.Hostname, Name: x.Name, Kind: kind, Type: x.Type,
				Lane: trafficLanes[x.Lane], Redundant: x.Redundant, Tx: flowMessage(&x.Tx), Rx: flowMessage(&x.Rx),
			})
		}
	}
	if len(m.Topics) > maxTopics {
		slices.SortStableFunc(m.Topics, func(a, b hnet_bridge.TopicTraffic) int {
			return cmp.Compare(b.Tx.Bandwidth+b.Rx.Bandwidth, a.Tx.Bandwidth+a.Rx.Bandwidth)
		})
		m.Topics = m.Topics[:maxTopics]
	}
	return m
}

func flowMessage(f *api.Flow) hnet_bridge.TrafficFlow {
	return hnet_bridge.TrafficFlow{
		Bytes: f.Bytes, Messages: f.Messages, Samples: f.Samples, Resent: f.Resent, ResentBytes: f.ResentBytes, Lost: f.Lost, Requests: f.Requests,
		Bandwidth: f.BytesPerSecond, MessageRate: f.MessagesPerSecond, SampleRate: f.SamplesPerSecond, ResentRate: f.ResentPerSecond, LostRate: f.LostPerSecond,
	}
}
