package hnet

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/config"
	"github.com/hnet-robotics/hnet_bridge/overlay/host"
	"github.com/hnet-robotics/hnet_bridge/overlay/node"
)

// embedRetry is how long to wait before the embedded overlay is opened again after it failed.
const embedRetry = 10 * time.Second

// Serve opens a node of the overlay and runs it until ctx ends or it is taken down.
type Serve func(ctx context.Context, o node.Options) error

// serveAlone runs the overlay and nothing beside it.
func serveAlone(ctx context.Context, o node.Options) error {
	n, err := node.Open(o)
	if err != nil {
		return err
	}
	return n.Run(ctx)
}

// Embedded is the overlay in this process, instead of hnetd.
type Embedded struct {
	Paths config.Paths
	Log   *slog.Logger
	Serve Serve // see [Options]

	open func(ctx context.Context, ready func()) error // in tests

	mu  sync.Mutex
	err error
}

// Err is why the overlay does not run, nil if it does or is about to.
func (e *Embedded) Err() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.err
}

func (e *Embedded) set(err error) (changed bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	changed = err != nil && (e.err == nil || e.err.Error() != err.Error())
	e.err = err
	return changed
}

// Run keeps the overlay running until ctx ends or someone takes it down with 'hnet down'. Where it may not or cannot, it says why and tries again.
func (e *Embedded) Run(ctx context.Context) {
	open := e.open
	if open == nil {
		open = e.serve
	}
	for ctx.Err() == nil {
		err := open(ctx, func() { e.set(nil) })
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			e.Log.Warn("the embedded overlay was taken down; start this node again to have it back")
			e.set(errDown)
			return
		}
		if e.set(err) {
			e.Log.Error("the embedded overlay does not run", "error", err, "retry", embedRetry)
		}
		select {
		case <-ctx.Done():
		case <-time.After(embedRetry):
		}
	}
}

type constError string

func (e constError) Error() string { return string(e) }

const errDown constError = "it was taken down with 'hnet down'"

func (e *Embedded) serve(ctx context.Context, ready func()) error {
	cfg, err := config.Load(e.Paths.Config)
	if err != nil {
		return err
	}
	serve := e.Serve
	if serve == nil {
		serve = serveAlone
	}
	return serve(ctx, node.Options{
		Config: cfg, Paths: e.Paths, Host: host.New(e.Log), Log: e.Log,
		Ready: ready, Stopping: func() {},
	})
}
