package api_test

import (
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/api/apitest"
)

func TestTraffic(t *testing.T) {
	one, two := netip.MustParseAddr("fc94::1"), netip.MustParseAddr("fc94::2")
	node := &apitest.Node{
		Names: []api.HostEntry{{Name: "robot2", Address: two}},
		Carried: api.Traffic{Watching: true, Peers: []api.PeerTraffic{
			{Address: one}, {Address: two, Topics: []api.TopicTraffic{{Name: "/scan", Tx: api.Flow{Bytes: 7}}}},
		}},
	}
	run, _ := apitest.Serve(t, node, api.Options{})
	c := api.NewClient(filepath.Join(run, "hnetd.sock"))
	defer c.Close()
	for peer, want := range map[string]int{"": 2, "robot2": 1, two.String(): 1, "fc94::9": 0} {
		v, err := c.Traffic(t.Context(), peer)
		if err != nil || len(v.Peers) != want || !v.Watching {
			t.Errorf("%q: %v, %+v", peer, err, v)
			continue
		}
		for _, p := range v.Peers {
			if p.Topics == nil || p.Address == two && (len(p.Topics) != 1 || p.Topics[0].Tx.Bytes != 7) {
				t.Errorf("%q: %+v", peer, p)
			}
		}
	}
	if _, err := c.Traffic(t.Context(), "nobody"); err == nil {
		t.Error("a peer that nobody knows has traffic")
	}
}
