package hnet

import (
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/hnet/caller"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/ros"
)

// refusalPause is the time between two log lines about refused requests.
const refusalPause = 10 * time.Second

// Guard judges requests that change something by the datagrams that brought them, since the ROS graph authenticates nobody. Its zero value obeys this
// host's root, this process's user and the members of group hnet.
type Guard struct {
	System caller.System // nil = the kernel's answers

	mu      sync.Mutex
	allow   bool
	device  string
	log     *slog.Logger
	refused uint64
	untold  uint64
	told    time.Time
}

// configure says whether to obey anyone, and where to log.
func (g *Guard) configure(allow bool, log *slog.Logger) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.allow, g.log = allow, log
}

// setDevice names the overlay's interface.
func (g *Guard) setDevice(name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.device = name
}

// Refused is how many requests were refused.
func (g *Guard) Refused() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.refused
}

// Permit returns nil if a request may change something, or else the reason why not.
func (g *Guard) Permit(info ros.RequestInfo) error {
	g.mu.Lock()
	allow, device, system := g.allow, g.device, g.System
	g.mu.Unlock()
	if allow {
		return nil
	}
	if system == nil {
		system = caller.Linux{}
	}
	judge := caller.Judge{System: system, UID: uint32(os.Geteuid()), Group: api.Group, Device: device}
	err := judge.Permit(caller.Origin{From: info.From, Interface: info.Interface, Own: info.Own})
	if err != nil {
		g.count(info, err)
	}
	return err
}

// count counts a refusal, and logs it unless another one has just been.
func (g *Guard) count(info ros.RequestInfo, err error) {
	now := time.Now()
	g.mu.Lock()
	g.refused++
	log, untold := g.log, g.untold
	if log == nil || !g.told.IsZero() && now.Sub(g.told) < refusalPause {
		g.untold++
		g.mu.Unlock()
		return
	}
	g.told, g.untold = now, 0
	g.mu.Unlock()
	log.Warn("a request was refused", "service", info.Service, "from", info.From, "reason", err, "refused_before_untold", untold)
}
