package anywhere

import (
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/internet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// The fleet's own server relays for its robots, as a Base would: no Base is needed.
func TestPeerAsRelay(t *testing.T) {
	t.Parallel()
	w := &world{T: t, net: internet.New(t, lab.New(t))}
	server := w.net.Site("datacentre", internet.Public).Host("hub")
	hub := fleet.Start(t, server.Host, "relay: true\n")
	var id api.ID
	hub.JSON(&id, "id")
	config := "peers:\n  - {key: \"" + id.WireGuard + "\", endpoint: \"" + server.Addrs()[0].String() + ":5582\", relay: true}\n"
	// Two symmetric NATs: nothing but a relay brings them together.
	a := fleet.Start(t, w.net.Site("home", internet.Symmetric).Host("robot1").Host, config)
	b := fleet.Start(t, w.net.Site("plant", internet.Symmetric).Host("robot2").Host, config)
	for _, r := range []*fleet.Robot{a, b} {
		hub.Hnet("whitelist", "add", r.Address.String(), "--hostname", r.Name())
		r.Hnet("wait", "peer", hub.Address.String(), "--timeout", "10s")
		r.Hnet("wait", "base", "--timeout", "20s")
	}
	fleet.Trust(a, b)
	a.Hnet("ping", b.Address.String(), "-c", "1")
	pathWithin(t, a, b, 5*time.Second, api.PathRelayUDP)
	pathWithin(t, b, a, 5*time.Second, api.PathRelayUDP)
	// Whom the server does not know it does not serve.
	stranger := fleet.Start(t, w.net.Site("elsewhere", internet.Symmetric).Host("stranger").Host, config)
	if out, code := stranger.TryHnet("wait", "base", "--timeout", "3s"); code == 0 {
		t.Errorf("a stranger is registered with the relay:\n%s", out)
	}
	t.Log(a.Hnet("status"), a.Hnet("peers"))
}
