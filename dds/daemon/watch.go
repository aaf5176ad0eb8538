package daemon

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hnet-robotics/hnet_bridge/dds/watch"
	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/config"
	"github.com/hnet-robotics/hnet_bridge/overlay/engine"
	"github.com/hnet-robotics/hnet_bridge/overlay/node"
)

// traffic is what the daemon sees of the DDS topics it carries.
type traffic struct {
	watch *watch.Watch
	file  string // of the names of topics
	boot  string
	log   *slog.Logger
}

// watchTraffic has the node look at the topics it carries, and treat them as the configuration says.
func watchTraffic(o *node.Options, cfg config.Config, paths config.Paths, log *slog.Logger) *traffic {
	t := &traffic{watch: watch.New(watch.Config{Lanes: cfg.DDS.Lanes}), file: filepath.Join(paths.State, "topics.json"), log: log}
	if b, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
		t.boot = strings.TrimSpace(string(b))
	}
	o.Inspect = func() engine.Inspector { return t.watch.Inspector() }
	o.Traffic = func() api.Traffic { return t.watch.Traffic(time.Now()) }
	return t
}

// run keeps the names of topics across restarts of the daemon, from when the node has opened its state until ctx ends; end then waits for the last of it.
func (t *traffic) run(ctx context.Context) (end func()) {
	if err := t.watch.Restore(t.file, t.boot); err != nil {
		t.log.Warn("the topics of programs that run are not known until they are announced again", "err", err, "fix", "nothing to do: the file is written anew")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		t.watch.Keep(ctx, t.file, t.boot, t.log)
	}()
	return func() { <-done }
}
