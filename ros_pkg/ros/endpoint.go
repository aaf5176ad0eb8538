package ros

import (
	"context"
	"log/slog"
	"sync"

	"github.com/hnet-robotics/hnet_bridge/ros_pkg/cdr"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps"
	"github.com/hnet-robotics/hnet_bridge/ros_pkg/rtps/wire"
)

// message is a generated type T by its pointer.
type message[T any] interface {
	*T
	cdr.Message
}

// mismatches warns about endpoints that do not fit, once for each policy.
type mismatches struct {
	log    *slog.Logger
	topic  string
	what   string // we cannot do with those
	mu     sync.Mutex
	warned map[string]bool // by policy, of which there are few
	count  uint64
}

func (m *mismatches) add(e rtps.Endpoint, policy string) {
	m.mu.Lock()
	m.count++
	first := !m.warned[policy]
	if first {
		if m.warned == nil {
			m.warned = map[string]bool{}
		}
		m.warned[policy] = true
	}
	m.mu.Unlock()
	if first {
		m.log.Warn("incompatible endpoint on the topic: "+m.what, "topic", m.topic, "policy", policy, "endpoint", e.GUID, "type", e.Type)
	}
}

// peers is the set of endpoints that one of ours is matched with.
type peers struct {
	mu      sync.Mutex
	of      map[wire.GUID]rtps.Endpoint
	changed chan struct{} // closed at the next change, nil while nobody waits
}

func (p *peers) set(e rtps.Endpoint, matched bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if matched {
		if p.of == nil {
			p.of = map[wire.GUID]rtps.Endpoint{}
		}
		p.of[e.GUID] = e
	} else {
		delete(p.of, e.GUID)
	}
	if p.changed != nil {
		close(p.changed)
		p.changed = nil
	}
}

func (p *peers) get(g wire.GUID) (rtps.Endpoint, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e, ok := p.of[g]
	return e, ok
}

func (p *peers) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.of)
}

// each calls f, which must not call p, until it is false.
func (p *peers) each(f func(*rtps.Endpoint) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.of {
		if !f(&e) {
			return
		}
	}
}

// wait waits for n endpoints.
func (p *peers) wait(ctx context.Context, closing <-chan struct{}, n int) error {
	for {
		p.mu.Lock()
		if len(p.of) >= n {
			p.mu.Unlock()
			return nil
		}
		if p.changed == nil {
			p.changed = make(chan struct{})
		}
		changed := p.changed
		p.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-closing:
			return ErrClosed
		}
	}
}
