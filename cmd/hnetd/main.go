// Command hnetd is the overlay daemon: it owns hnet0 and carries its traffic to the whitelisted peers.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	dds "github.com/hnet-robotics/hnet_bridge/dds/daemon"
	"github.com/hnet-robotics/hnet_bridge/overlay/api"
	"github.com/hnet-robotics/hnet_bridge/overlay/config"
	"github.com/hnet-robotics/hnet_bridge/overlay/host"
	"github.com/hnet-robotics/hnet_bridge/overlay/memory"
	"github.com/hnet-robotics/hnet_bridge/overlay/node"
	"github.com/hnet-robotics/hnet_bridge/overlay/systemd"
	"github.com/hnet-robotics/hnet_bridge/overlay/waiter"
)

// Exit codes: 0 done, 1 failed, 2 usage.
const (
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	waiter.Reserve()
	os.Exit(run())
}

func run() int {
	paths := config.FindPaths(os.Getenv)
	flags := flag.NewFlagSet("hnetd", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // errors are told in one line
	flags.StringVar(&paths.Config, "config", paths.Config, "configuration `file`; may be missing")
	flags.StringVar(&paths.State, "state", paths.State, "`folder` of the identity and the whitelist")
	flags.StringVar(&paths.Run, "run", paths.Run, "`folder` of the local API's socket")
	version := flags.Bool("version", false, "print the version and exit")
	err := flags.Parse(os.Args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Println("hnetd is the overlay daemon; 'hnet' talks to it.")
		flags.SetOutput(os.Stdout)
		flags.PrintDefaults()
		return 0
	case err == nil && flags.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "hnetd: %v: try 'hnetd -help'\n", err)
		return exitUsage
	}
	if *version {
		fmt.Println("hnetd", api.Version())
		return 0
	}
	if err := serve(paths); err != nil {
		fmt.Fprintln(os.Stderr, "hnetd:", err)
		return exitFailed
	}
	return 0
}

func serve(paths config.Paths) error {
	cfg, err := config.Load(paths.Config)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: cfg.LogLevel}))
	if err := host.SetNice(cfg.Nice); err != nil {
		log.Debug("packets wait for the processor like any program", "err", err)
	}
	ctx := untilSignal()
	return dds.Serve(ctx, node.Options{
		Config: cfg, Paths: paths, Host: host.New(log), Log: log,
		Ready: func() {
			systemd.Ready(log)
			time.AfterFunc(startLitter, func() {
				if err := memory.GiveBack(); err != nil {
					log.Debug("what the start needed stays in memory", "err", err)
				}
			})
		},
		Stopping: func() { systemd.Stopping(log) },
	}, func(ctx context.Context, n *node.Node) { go systemd.Watchdog(ctx, log, n.Alive) })
}

// onceMore is how long after the first signal another one means the same wish: a terminal's Ctrl-C reaches the daemon both by itself and from launch.
const onceMore = 2 * time.Second

// startLitter is when what the start left is given back to the system. A whitelist of 10,000 peers is 6 MB, and three times that while it is read; a node that
// then has little to do would keep it for hours (docs/performance/peers.md). So it would most of the program.
const startLitter = 5 * time.Second

// untilSignal returns a context that ends with the first SIGINT or SIGTERM. One after [onceMore] ends the process at once, whatever the first waits for.
func untilSignal() context.Context {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, func() { time.AfterFunc(onceMore, stop) })
	return ctx
}
