package anywhere

import (
	"strings"
	"testing"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/test/fleet"
	"github.com/hnet-robotics/hnet_bridge/test/internet"
	"github.com/hnet-robotics/hnet_bridge/test/lab"
)

// world is the simulated Internet of one test.
type world struct {
	*testing.T
	net   *internet.Net
	bases []*fleet.Base
}

func newWorld(t *testing.T, bases ...string) *world {
	w := &world{T: t, net: internet.New(t, lab.New(t))}
	for _, name := range bases {
		w.bases = append(w.bases, fleet.StartBase(t, w.net.Base(name).Host))
	}
	return w
}

// config is a robot's configuration with all Bases.
func (w *world) config(more ...string) string {
	var b strings.Builder
	b.WriteString("bases:\n")
	for _, base := range w.bases {
		b.WriteString(base.Entry(base.Name()))
	}
	return b.String() + strings.Join(more, "\n") + "\n"
}

// robot starts a robot behind a site and waits until it is registered.
func (w *world) robot(site *internet.Site, name string, more ...string) (*fleet.Robot, *internet.Host) {
	w.Helper()
	h := site.Host(name)
	r := fleet.Start(w, h.Host, w.config(more...))
	r.Hnet("wait", "base", "--timeout", "20s")
	return r, h
}

// pathWithin waits until the path from one robot to another is of a kind.
func pathWithin(t *testing.T, from, to *fleet.Robot, within time.Duration, want ...api.Path) time.Duration {
	t.Helper()
	start := time.Now()
	var last api.Path
	for time.Since(start) < within {
		if p, ok := from.Peer(to.Address); ok {
			last = p.Path
			for _, w := range want {
				if p.Path == w {
					return time.Since(start)
				}
			}
		}
		from.TryHnet("ping", to.Address.String(), "-c", "1", "-W", "1s")
	}
	t.Errorf("the path from %s to %s is %s after %v, want %v", from.Name(), to.Name(), last, within, want)
	return within
}

func TestRobotsBehindNATsMeet(t *testing.T) {
	w := newWorld(t, "base1")
	a, _ := w.robot(w.net.Site("home", internet.PortRestricted), "robot1")
	b, _ := w.robot(w.net.Site("plant", internet.LinuxNATFiltered), "robot2")
	fleet.Trust(a, b)
	t.Log(a.Hnet("ping", b.Address.String(), "-c", "3", "-i", "0.2"))
	t.Log(a.Hnet("status"), a.Hnet("peers"))
	t.Logf("direct after %v", pathWithin(t, a, b, 5*time.Second, api.PathDirect))
	pathWithin(t, b, a, 2*time.Second, api.PathDirect)
	t.Log(a.Hnet("peers"), b.Hnet("peers"))
}
