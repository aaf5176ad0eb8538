package watch

import (
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/engine"
)

var laneNames = map[engine.Lane]string{engine.ByDSCP: "dscp", engine.Urgent: "urgent", engine.Normal: "normal", engine.Bulk: "bulk"}

// Traffic is a Snapshot as the local API tells it, without the peers' hostnames.
func (w *Watch) Traffic(now time.Time) api.Traffic {
	s := w.Snapshot(now)
	out := api.Traffic{Watching: true, Since: &s.Since, Peers: make([]api.PeerTraffic, len(s.Peers))}
	for i, p := range s.Peers {
		topics := make([]api.TopicTraffic, len(p.Topics))
		for j, t := range p.Topics {
			topics[j] = api.TopicTraffic{
				Name: t.Name, Kind: api.TrafficKind(t.Kind.String()), Type: t.Type, Lane: laneNames[t.Treatment.Lane], Redundant: t.Treatment.Redundant,
				Tx: t.Tx.api(), Rx: t.Rx.api(),
			}
		}
		out.Peers[i] = api.PeerTraffic{Address: p.Address, Topics: topics}
	}
	return out
}

func (f *Flow) api() api.Flow {
	return api.Flow{
		Bytes: f.Bytes, Messages: f.Messages, Samples: f.Samples, Resent: f.Resent, ResentBytes: f.ResentBytes, Lost: f.Lost, Requests: f.Requests,
		BytesPerSecond: f.Rate.Bytes, MessagesPerSecond: f.Rate.Messages, SamplesPerSecond: f.Rate.Samples,
		ResentPerSecond: f.Rate.Resent, LostPerSecond: f.Rate.Lost,
	}
}
