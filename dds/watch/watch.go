package watch

import (
	"net/netip"
	"time"

	"github.com/hnet-robotics/hnet_bridge/overlay/config"
)

// Config is what a Watch is made from.
type Config struct {
	// Lanes are the rules of the configuration, which go before the defaults.
	Lanes []config.Lane
	// Now is when the watch begins; zero is now.
	Now time.Time
}

// Watch is what was seen by all its Inspectors. Its methods may be called by any goroutine.
type Watch struct {
	begun time.Time
	table table
}

// New makes a Watch that has seen nothing.
func New(c Config) *Watch {
	w := &Watch{begun: c.Now}
	if w.begun.IsZero() {
		w.begun = time.Now()
	}
	w.table.init(newPolicy(c.Lanes))
	return w
}

// Inspector makes one for the packets of one goroutine. It implements engine.Inspector.
func (w *Watch) Inspector() *Inspector {
	return &Inspector{w: w, peers: make(map[netip.Addr]*peer), writers: make(map[cacheKey]*writer)}
}

// Begun is when the watch began.
func (w *Watch) Begun() time.Time { return w.begun }
