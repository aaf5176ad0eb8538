package api

import (
	"context"
	"net/http"
	"net/netip"
	"net/url"
	"time"
)

// Traffic is what hnet0 carried, by peer and topic, since the daemon began to watch.
type Traffic struct {
	Watching bool          `json:"watching"` // false: dds.watch is off, and there is nothing here
	Since    *time.Time    `json:"since"`    // null unless watching
	Peers    []PeerTraffic `json:"peers"`
}

// PeerTraffic is what was carried to and from one peer.
type PeerTraffic struct {
	Address  netip.Addr     `json:"address"`
	Hostname string         `json:"hostname"`
	Topics   []TopicTraffic `json:"topics"`
}

// TrafficKind says what a [TopicTraffic] counts. Readers take kinds they do not know for topics.
type TrafficKind string

// The kinds of traffic.
const (
	TrafficTopic     TrafficKind = "topic"
	TrafficService   TrafficKind = "service" // requests and replies
	TrafficAction    TrafficKind = "action"  // all that belongs to it
	TrafficUnknown   TrafficKind = "unknown" // topics that were announced before the daemon began to watch
	TrafficDiscovery TrafficKind = "discovery"
	TrafficOther     TrafficKind = "other" // what is not DDS, by protocol
)

// TopicTraffic is one topic with one peer.
type TopicTraffic struct {
	Name      string      `json:"name"`
	Kind      TrafficKind `json:"kind"`
	Type      string      `json:"type"`      // such as std_msgs/msg/String, "" if it is not known
	Lane      string      `json:"lane"`      // of what this node sends: urgent, normal, bulk, or dscp: as the packets are marked
	Redundant bool        `json:"redundant"` // sent on two paths
	Tx        Flow        `json:"tx"`
	Rx        Flow        `json:"rx"`
}

// Flow is what went one way. Bytes are those of IP packets inside the tunnel; rates are means of the last 3 whole seconds.
type Flow struct {
	Bytes       uint64 `json:"bytes"`
	Messages    uint64 `json:"messages"` // datagrams with samples; of what is not DDS, packets
	Samples     uint64 `json:"samples"`
	Resent      uint64 `json:"resent"` // samples and fragments that came again or filled a gap
	ResentBytes uint64 `json:"resent_bytes"`
	Lost        uint64 `json:"lost"`     // samples that were passed over and not seen within 3 s
	Requests    uint64 `json:"requests"` // for something to be sent again

	BytesPerSecond    float64 `json:"bytes_per_second"`
	MessagesPerSecond float64 `json:"messages_per_second"`
	SamplesPerSecond  float64 `json:"samples_per_second"`
	ResentPerSecond   float64 `json:"resent_per_second"`
	LostPerSecond     float64 `json:"lost_per_second"`
}

// TrafficSource is a [Controller] that watches traffic. Of one that is not, the server says that nothing is watched.
type TrafficSource interface {
	// Traffic returns what was seen until now, with the peers' hostnames.
	Traffic(ctx context.Context) (Traffic, error)
}

// Traffic asks what hnet0 carried. With a peer, by address or hostname, only that one is listed; "" = all.
func (c *Client) Traffic(ctx context.Context, peer string) (v Traffic, err error) {
	path := "/v1/traffic"
	if peer != "" {
		path += "/" + url.PathEscape(peer)
	}
	return v, c.call(ctx, "GET", path, nil, &v)
}

// traffic answers with all peers, or with the one that peer names.
func (s *Server) traffic(r *http.Request, peer string) (any, error) {
	var only netip.Addr
	if peer != "" {
		var err error
		if only, err = s.peer(r.Context(), peer); err != nil {
			return nil, err
		}
	}
	var v Traffic
	if source, ok := s.ctrl.(TrafficSource); ok {
		var err error
		if v, err = source.Traffic(r.Context()); err != nil {
			return nil, err
		}
	}
	peers := make([]PeerTraffic, 0, len(v.Peers))
	for _, p := range v.Peers {
		if p.Topics = list(p.Topics); !only.IsValid() || p.Address == only {
			peers = append(peers, p)
		}
	}
	v.Peers = peers
	return v, nil
}
