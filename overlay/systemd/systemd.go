// Package systemd tells the service manager how a daemon fares, if one has started it and wants to know (sd_notify(3)).
package systemd

import (
	"context"
	"log/slog"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Ready tells that the daemon does its work.
func Ready(log *slog.Logger) { notify(log, daemon.SdNotifyReady) }

// Stopping tells that it ends.
func Stopping(log *slog.Logger) { notify(log, daemon.SdNotifyStopping) }

// Watchdog tells that the daemon lives, twice per WatchdogSec, until ctx ends. While alive fails or takes longer than a quarter of that, it tells
// nothing, and the daemon is started again.
func Watchdog(ctx context.Context, log *slog.Logger, alive func(context.Context) error) {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("systemd's watchdog is not served", "err", err, "fix", "check WatchdogSec= in the unit")
	}
	if interval <= 0 {
		return
	}
	tick := time.NewTicker(interval / 2)
	defer tick.Stop()
	for {
		check, cancel := context.WithTimeout(ctx, interval/4)
		err := alive(check)
		cancel()
		if err == nil {
			notify(log, daemon.SdNotifyWatchdog)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func notify(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("systemd could not be told", "state", state, "err", err, "fix", "check NOTIFY_SOCKET")
	}
}
