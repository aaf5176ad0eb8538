package anywhere

import (
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/internet"
)

// Networks that pass HTTPS alone, or nothing but a proxy's CONNECT, still bring the robot in.
func TestOverTCPOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "base1")
	office := w.net.Site("office", internet.HTTPSOnly)
	lab := w.net.Site("lab", internet.ProxyOnly)
	a, _ := w.robot(office, "robot1")
	b, _ := w.robot(lab, "robot2", "proxy: "+lab.Proxy.URL())
	fleet.Trust(a, b)
	a.Hnet("ping", b.Address.String(), "-c", "1")
	pathWithin(t, a, b, 5*time.Second, api.PathRelayTCP)
	pathWithin(t, b, a, 5*time.Second, api.PathRelayTCP)
	var s api.Status
	b.JSON(&s, "status")
	if len(s.Bases) != 1 || s.Bases[0].Transport != "tcp" || s.Bases[0].State != api.BaseRegistered {
		t.Errorf("bases: %+v", s.Bases)
	}
	t.Log(a.Hnet("status"), b.Hnet("peers"))
}
