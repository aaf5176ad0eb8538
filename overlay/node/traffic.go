package node

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/VictoriaMetrics/metrics"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
)

// Traffic implements api.TrafficSource.
func (n *Node) Traffic(context.Context) (api.Traffic, error) {
	if n.opt.Traffic == nil {
		return api.Traffic{}, nil
	}
	t := n.opt.Traffic()
	for i := range t.Peers {
		t.Peers[i].Hostname = n.hostnameOf(t.Peers[i].Address)
	}
	return t, nil
}

// maxTopicSeries bounds the topics that are measured: those with the most bytes of all peers. Each has ten series at the most.
const maxTopicSeries = 500

// writeTopicMetrics writes the metrics of topics.
func (n *Node) writeTopicMetrics(w io.Writer) {
	type series struct {
		peer string
		*api.TopicTraffic
	}
	t, _ := n.Traffic(context.Background())
	var all []series
	for i := range t.Peers {
		p := &t.Peers[i]
		for j := range p.Topics {
			all = append(all, series{fmt.Sprintf("peer=%q,hostname=%q", p.Address.String(), p.Hostname), &p.Topics[j]})
		}
	}
	slices.SortStableFunc(all, func(a, b series) int { return cmp.Compare(b.Tx.Bytes+b.Rx.Bytes, a.Tx.Bytes+a.Rx.Bytes) })
	for _, s := range all[:min(len(all), maxTopicSeries)] {
		for direction, f := range map[string]*api.Flow{"transmit": &s.Tx, "receive": &s.Rx} {
			labels := fmt.Sprintf("{%s,topic=%q,kind=%q,direction=%q}", s.peer, s.Name, s.Kind, direction)
			for _, m := range []struct {
				name  string
				value uint64
			}{
				{"bytes", f.Bytes}, {"samples", f.Samples}, {"resent", f.Resent}, {"lost", f.Lost}, {"requests", f.Requests},
			} {
				if m.value > 0 {
					metrics.WriteCounterUint64(w, "hnet_topic_"+m.name+"_total"+labels, m.value)
				}
			}
		}
	}
}
